//! Shares of the root key, and rotation of keys, on one voter.

use kura_cluster::keyring::RecoveryKeys;
use kura_cluster::row::{KeyringRow, RowKey, Table};
use kura_cluster::seal::{Key, row as sealed_row};
use kura_cluster::share::{Share, ShareSet, split};
use kura_cluster::{Pseudonym, Revision};

use super::*;
use crate::config::RootKeyConfig;
use crate::custody::{Custody, Known, Next, SubmitError};
use crate::gateway::rotation::{EPOCH, ROOT, Stands};
use crate::vault::{VaultError, read_root_key, write_root_key};

fn operator() -> Caller {
    Caller::parse(identity(Role::Operator, "op-1"), None).unwrap()
}

fn registrar() -> Caller {
    Caller::parse(another_identity(Role::Registrar, "reg-1"), None).unwrap()
}

impl Storehouse {
    fn known(&self) -> Known {
        Known::read(&self.store.database()).unwrap()
    }

    fn keyring(&self) -> Vec<KeyringRow> {
        let database = self.store.database();
        let rows = database.snapshot().scan(&RowKey::whole_table(Table::Keyring), None, 99).unwrap();
        rows.into_iter().map(|(_, row)| KeyringRow::decode(row.value).unwrap()).collect()
    }

    fn unseal(&self, root: &Arc<Key>) -> Result<Vault, VaultError> {
        Vault::unseal(root.clone(), self.cluster_id(), &self.store)
    }

    fn cluster_id(&self) -> ClusterId {
        self.vault.load_full().unwrap().cluster_id()
    }

    fn split(&self, root: &Key, threshold: u8, holders: u8) -> (ShareSet, Vec<Share>) {
        split(root, &self.cluster_id(), threshold, holders, random::fill).unwrap()
    }

    fn record(&self, set: &ShareSet, root: &Key) -> v1::RecordSharesRequest {
        v1::RecordSharesRequest {
            threshold: set.threshold.into(),
            root_check_value: set.root_check_value.to_vec().into(),
            share_check_values: set.share_check_values.iter().map(|value| value.to_vec().into()).collect(),
            proof: set.proof(&self.cluster_id(), root).to_vec().into(),
        }
    }

    /// The version of the registry key that sealed the newest participant's row.
    fn epoch_of_participants(&self) -> u32 {
        let database = self.store.database();
        let rows = database.snapshot().scan(&RowKey::whole_table(Table::Number), None, 99).unwrap();
        rows.iter().map(|(_, row)| sealed_row::peek_header(&row.value).unwrap().key_version).max().unwrap()
    }
}

async fn enrol(gateway: &Gateway, number: &str) {
    let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 2".into(), ..Default::default() };
    let enrol =
        v1::EnrolRequest { actor: None, request: request(), participant: number.into(), consent: Some(consent) };
    gateway.enrol(&doctor(), enrol).await.unwrap();
    let grant = v1::GrantRequest {
        actor: None,
        request: request(),
        participant: number.into(),
        facility: HOSPITAL.into(),
        evidence: "paper 2".into(),
    };
    gateway.grant(&doctor(), grant).await.unwrap();
}

fn whole(bytes: &Bytes) -> v1::PutWholeRequest {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "text/plain".into(),
        data: bytes.clone(),
        ..Default::default()
    };
    v1::PutWholeRequest {
        request: request(),
        participant: NUMBER.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_epoch_keys_take_two_people_and_leave_everything_readable() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = gateway.put_whole(&doctor(), whole(&body(5_000))).await.unwrap().record_id;
    // The same person again is not the second one, and another kind of rotation waits.
    for _ in 0..2 {
        let stands = gateway.ask_rotation(&operator(), EPOCH, false).await.unwrap();
        assert!(matches!(stands, Stands::WaitsForRegistrar), "{stands:?}");
    }
    assert!(matches!(gateway.ask_rotation(&registrar(), ROOT, false).await, Err(GatewayError::InUse { .. })));
    assert_eq!((storehouse.keyring().len(), storehouse.known().alarms().len()), (1, 2));
    let stands = gateway.ask_rotation(&registrar(), EPOCH, false).await.unwrap();
    assert!(matches!(stands, Stands::Done(2)), "{stands:?}");
    assert!(storehouse.known().rotation.is_none());
    let before = storehouse.vault.load_full().unwrap();
    assert_eq!(before.keyring().epoch, 1, "this vault has not looked yet");

    // Another voter looked at once: what it writes opens here, too, and goes on being written beside.
    let fresh = storehouse.unseal(&storehouse.root()).unwrap();
    assert_eq!(fresh.keyring().epoch, 2);
    assert!(fresh.keyring().index == before.keyring().index && fresh.keyring().wrapping != before.keyring().wrapping);
    storehouse.vault.store(Some(Arc::new(fresh)));
    enrol(&storehouse.gateway(), "0043001234567891").await;
    assert_eq!(storehouse.epoch_of_participants(), 2);
    storehouse.vault.store(Some(before));
    let stale = storehouse.gateway();
    let show = |number: &str| v1::ShowRequest { participant: number.into(), ..Default::default() };
    stale.show_consent(&doctor(), show(NUMBER)).await.unwrap();
    stale.show_consent(&doctor(), show("0043001234567891")).await.unwrap();
    assert!(read(&stale, &record_id, 0).await.1 == body(5_000));

    // The next one, by the other order; and rows of both epochs open after a start.
    gateway.ask_rotation(&registrar(), EPOCH, false).await.unwrap();
    assert!(matches!(gateway.ask_rotation(&operator(), EPOCH, false).await.unwrap(), Stands::Done(3)));
    storehouse.vault.store(Some(Arc::new(storehouse.unseal(&storehouse.root()).unwrap())));
    let gateway = storehouse.gateway();
    assert!(read(&gateway, &record_id, 0).await.1 == body(5_000));
    storehouse.close().await;
}

/// Approves a rotation of the root key.
async fn approve(gateway: &Gateway) {
    let stands = gateway.ask_rotation(&operator(), ROOT, false).await.unwrap();
    assert!(matches!(stands, Stands::WaitsForRegistrar), "{stands:?}");
    let stands = gateway.ask_rotation(&registrar(), ROOT, false).await.unwrap();
    assert!(matches!(stands, Stands::Approved(..)), "{stands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_key_wraps_everything_and_one_given_up_never_does() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = gateway.put_whole(&doctor(), whole(&body(5_000))).await.unwrap().record_id;
    for caller in [operator(), registrar()] {
        gateway.ask_rotation(&caller, EPOCH, false).await.unwrap();
    }
    let (old, given_up, new) = (storehouse.root(), Arc::new(random::key()), Arc::new(random::key()));
    let (opened, cluster_id) = (storehouse.keyring(), storehouse.cluster_id());
    let recovery = RecoveryKeys::unwrap(&old, &cluster_id, &opened[1]).unwrap();
    // Nothing is drawn before both have asked for it.
    let unasked = gateway.begin_root_rotation(&operator(), &new).await;
    assert!(matches!(unasked, Err(GatewayError::NotFound { .. })), "{unasked:?}");
    approve(&gateway).await;
    gateway.begin_root_rotation(&operator(), &given_up).await.unwrap();
    gateway.begin_root_rotation(&registrar(), &new).await.unwrap();
    let late = gateway.finish_root_rotation(&operator(), &given_up).await;
    assert!(matches!(late, Err(GatewayError::NotFound { .. })), "{late:?}");
    assert!(storehouse.unseal(&old).is_ok());
    assert_eq!(gateway.finish_root_rotation(&operator(), &new).await.unwrap(), 2);
    for no_more in [&old, &given_up] {
        assert!(matches!(storehouse.unseal(no_more), Err(VaultError::WrongRootKey)));
    }
    let again = gateway.finish_root_rotation(&operator(), &new).await;
    assert!(again.is_err(), "{again:?}");
    let rows = storehouse.keyring();
    assert!(rows.iter().all(|row| row.root_check_value[..] == new.check_value()) && rows.len() == 2);
    let kept = RecoveryKeys::unwrap(&new, &cluster_id, &rows[1]).unwrap();
    assert!(kept.timelines == recovery.timelines && kept.authority == recovery.authority);
    // A gateway with the former vault goes on, but wraps no key under an epoch that it cannot open; one with the new does.
    assert!(read(&storehouse.gateway(), &record_id, 0).await.1 == body(5_000));
    let (former, begun) = (storehouse.gateway(), JournalEntry::default());
    let mut attempt = Attempt::begin(&former, &begun).unwrap();
    let waits = attempt.put_data_key(&Pseudonym([9; 16]), 1, &random::key());
    assert!(matches!(waits, Err(GatewayError::Unavailable { .. })), "{waits:?}");
    storehouse.vault.store(Some(Arc::new(storehouse.unseal(&new).unwrap())));
    enrol(&storehouse.gateway(), "0043001234567891").await;
    assert!(read(&storehouse.gateway(), &record_id, 0).await.1 == body(5_000));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_count_once_two_people_stand_behind_what_the_root_key_itself_described() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let root = storehouse.root();
    assert!(storehouse.known().alarms()[0].contains("kura key split"));
    let (set, _) = storehouse.split(&root, 2, 3);
    // Made up, by somebody without the root key; or for another one.
    let forged = v1::RecordSharesRequest { proof: vec![7; 32].into(), ..storehouse.record(&set, &root) };
    let other = random::key();
    let (foreign, _) = storehouse.split(&other, 2, 3);
    let lowered = v1::RecordSharesRequest { threshold: 3, ..storehouse.record(&set, &root) };
    for wrong in [forged, storehouse.record(&foreign, &other), lowered] {
        let refused = gateway.record_shares(&operator(), wrong, None).await;
        assert!(matches!(refused, Err(GatewayError::Invalid { field: "proof", .. })), "{refused:?}");
    }
    let refused = gateway.record_shares(&registrar(), storehouse.record(&set, &root), None).await;
    assert!(matches!(refused, Err(GatewayError::Denied { .. })), "{refused:?}");
    let recorded = gateway.record_shares(&operator(), storehouse.record(&set, &root), None).await.unwrap();
    assert!(storehouse.known().alarms()[0].contains("kura key confirm"));
    let ask = v1::ConfirmSharesRequest { fingerprint: recorded.fingerprint.clone() };
    let unknown = v1::ConfirmSharesRequest { fingerprint: vec![1; 5].into() };
    assert!(matches!(gateway.confirm_shares(&registrar(), unknown).await, Err(GatewayError::NotFound { .. })));
    assert!(matches!(gateway.confirm_shares(&operator(), ask.clone()).await, Err(GatewayError::Denied { .. })));
    assert!(gateway.confirm_shares(&registrar(), ask).await.unwrap().present);
    assert_eq!(storehouse.known().alarms(), Vec::<String>::new());

    // A later split counts beside it until it is confirmed, then in its place.
    let (second, _) = storehouse.split(&root, 3, 5);
    let recorded = gateway.record_shares(&operator(), storehouse.record(&second, &root), None).await.unwrap();
    assert_eq!(storehouse.known().sets.len(), 2);
    assert!(storehouse.known().alarms().is_empty());
    let ask = v1::ConfirmSharesRequest { fingerprint: recorded.fingerprint };
    gateway.confirm_shares(&registrar(), ask).await.unwrap();
    assert_eq!(storehouse.known().sets.iter().map(|known| known.set.threshold).collect::<Vec<_>>(), [3]);

    // After a rotation the shares restore nothing any more, and the status says so; shares of a next root key
    // can be made before.
    approve(&gateway).await;
    let next = random::key();
    let (third, _) = storehouse.split(&next, 2, 2);
    let early = gateway.record_shares(&operator(), storehouse.record(&third, &next), Some(&next)).await;
    assert!(matches!(early, Err(GatewayError::Invalid { field: "proof", .. })), "{early:?}");
    gateway.begin_root_rotation(&operator(), &next).await.unwrap();
    let recorded = gateway.record_shares(&operator(), storehouse.record(&third, &next), Some(&next)).await.unwrap();
    let ask = v1::ConfirmSharesRequest { fingerprint: recorded.fingerprint };
    assert!(!gateway.confirm_shares(&registrar(), ask).await.unwrap().present);
    assert_eq!(storehouse.known().sets.len(), 2);
    gateway.finish_root_rotation(&operator(), &next).await.unwrap();
    assert_eq!(storehouse.known().alarms(), Vec::<String>::new());
    let known = storehouse.known();
    assert!(known.is_covered(next.check_value()) && known.root_check_value == Some(next.check_value()));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submitted_shares_come_to_the_key_and_foreign_ones_are_named() {
    let storehouse = Storehouse::new().await;
    let (root, gateway) = (storehouse.root(), storehouse.gateway());
    let (set, shares) = storehouse.split(&root, 2, 3);
    let folder = tempfile::tempdir().unwrap();
    let database = storehouse.store.database();
    let custody = Custody::new(storehouse.cluster_id(), Some(&RootKeyConfig::Shares), folder.path());
    let early = custody.submit(&shares[0].to_bytes()[..], "rec-1", &database);
    assert!(matches!(&early, Err(SubmitError::OtherSet { wanted, .. }) if wanted.contains("no set")), "{early:?}");
    gateway.record_shares(&operator(), storehouse.record(&set, &root), None).await.unwrap();
    let (_, others) = storehouse.split(&root, 2, 3);
    let foreign = custody.submit(&others[0].to_bytes()[..], "rec-1", &database).unwrap_err().to_string();
    let names = [&others[0], &shares[0]].map(|share| kura_cluster::hexadecimal(share.set));
    assert!(names.iter().all(|name| foreign.contains(name)), "{foreign}");
    let mut altered = shares[0].to_bytes();
    altered[20] ^= 1;
    assert!(matches!(custody.submit(&altered[..], "rec-1", &database), Err(SubmitError::Share(_))));
    for _ in 0..2 {
        let taken = custody.submit(&shares[0].to_bytes()[..], "rec-1", &database).unwrap();
        assert_eq!((taken.held, taken.threshold, taken.complete), (1, 2, false));
    }
    assert_eq!(custody.gathered(), Some((1, 2)));
    assert!(custody.candidates().unwrap().is_empty());
    let taken = custody.submit(&shares[2].to_bytes()[..], "rec-2", &database).unwrap();
    assert!(taken.complete && custody.gathered().is_none());
    let keys = custody.candidates().unwrap();
    assert!(keys.len() == 1 && keys[0] == root);
    custody.note_opened(Revision::ABSENT, &root);
    assert_eq!(custody.take_submitters(), Some(vec!["rec-1".to_owned(), "rec-2".to_owned()]));
    let late = custody.submit(&shares[1].to_bytes()[..], "rec-3", &database);
    assert!(matches!(late, Err(SubmitError::NotNeeded(_))), "{late:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing of it lies on the disk");
    let backup = Custody::new(storehouse.cluster_id(), None, folder.path());
    assert!(backup.submit(&shares[1].to_bytes()[..], "rec-3", &database).is_err());
    drop(database);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_replaced_once_the_keyring_is_the_new_keys_and_whatever_a_restart_finds_opens_it() {
    let storehouse = Storehouse::new().await;
    let (old, new, gateway) = (storehouse.root(), Arc::new(random::key()), storehouse.gateway());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    write_root_key(&path, &old).unwrap();
    let database = storehouse.store.database();
    let config = RootKeyConfig::File(path.clone());
    let custody = || Custody::new(storehouse.cluster_id(), Some(&config), folder.path());
    let opens = |custody: &Custody| custody.candidates().unwrap().iter().any(|key| storehouse.unseal(key).is_ok());
    let in_file = || read_root_key(&path).unwrap().unwrap();
    let running = custody();
    running.settle(&old, &database).unwrap();
    approve(&gateway).await;
    let revision = gateway.begin_root_rotation(&operator(), &new).await.unwrap();
    running.take_next(&old, Next { revision, key: new.clone() }).unwrap();
    running.settle(&old, &database).unwrap();
    assert!(running.has_next() && opens(&running) && opens(&custody()) && in_file() == *old);
    gateway.finish_root_rotation(&operator(), &new).await.unwrap();
    // Before this node has opened the new keyring, nothing is thrown away.
    running.settle(&old, &database).unwrap();
    assert!(running.has_next() && opens(&running) && opens(&custody()) && in_file() == *old);
    running.settle(&new, &database).unwrap();
    assert!(in_file() == *new && !running.has_next() && opens(&running) && opens(&custody()));

    // A credential is not the node's to replace: the next key stays until people did it.
    write_root_key(&folder.path().join("credential"), &old).unwrap();
    let shares = Custody::new(storehouse.cluster_id(), Some(&RootKeyConfig::Shares), folder.path());
    shares.take_next(&old, Next { revision, key: new.clone() }).unwrap();
    shares.settle(&new, &database).unwrap();
    assert!(shares.has_next(), "no confirmed shares restore it");
    let (set, _) = storehouse.split(&new, 2, 2);
    storehouse.vault.store(Some(Arc::new(storehouse.unseal(&new).unwrap())));
    let recorded = gateway.record_shares(&operator(), storehouse.record(&set, &new), None).await.unwrap();
    let ask = v1::ConfirmSharesRequest { fingerprint: recorded.fingerprint };
    gateway.confirm_shares(&registrar(), ask).await.unwrap();
    shares.settle(&new, &database).unwrap();
    assert!(!shares.has_next());
    drop(database);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_never_opened_anything_here_is_kept_when_its_file_is_replaced() {
    let storehouse = Storehouse::new().await;
    let (root, foreign) = (storehouse.root(), random::key());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    let custody = || Custody::new(storehouse.cluster_id(), Some(&RootKeyConfig::File(path.clone())), folder.path());
    let database = storehouse.store.database();
    let kept = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| *file != path).map(|file| read_root_key(&file).unwrap().unwrap()).collect::<Vec<_>>()
    };
    write_root_key(&path, &foreign).unwrap();
    for _ in 0..2 {
        custody().settle(&root, &database).unwrap();
        assert!(read_root_key(&path).unwrap().unwrap() == *root);
        assert!(matches!(&kept()[..], [one] if *one == foreign));
    }
    // One that did open the keyring here is this cluster's former one: it goes.
    let former = random::key();
    std::fs::remove_file(&path).unwrap();
    write_root_key(&path, &former).unwrap();
    let running = custody();
    running.note_opened(Revision::ABSENT, &former);
    running.settle(&root, &database).unwrap();
    assert!(read_root_key(&path).unwrap().unwrap() == *root && kept().len() == 1);
    drop(database);
    storehouse.close().await;
}
