//! What is salvaged, held against what was said since: by the log, not by clocks.

use kura_cluster::Command;
use kura_cluster::command::JournalAppend;
use kura_cluster::id::RecordId;
use kura_cluster::row::{Participant, StoredRow};
use kura_cluster::word::ActorKind;

use super::*;
use crate::gateway::attempt::open_journal_entry;
use crate::gateway::participant::number;
use crate::gateway::salvage::{Disk, Outcome, Salvage};

/// It has no blocks: none is asked for.
struct NoDisk;

impl Disk for NoDisk {
    async fn block(&mut self, _: &RowKey) -> Result<Option<Bytes>, GatewayError> {
        Ok(None)
    }
}

fn staff() -> Caller {
    Caller::parse(identity(Role::Recovery, "kato"), None).unwrap()
}

/// A journal entry, as it is sealed.
fn entry(house: &Storehouse, position: u64) -> Bytes {
    house.store.database().row(&RowKey::journal(position)).unwrap().unwrap().value
}

/// The same by another request, as another log has it.
fn elsewhere(gateway: &Gateway, entry: &Bytes) -> Bytes {
    let mut entry = open_journal_entry(&gateway.unsealed().unwrap(), entry).unwrap();
    entry.request_id = request().unwrap().id;
    let mut attempt = Attempt::begin(gateway, &entry).unwrap();
    attempt.journal_as_drafted();
    attempt.command.journal.pop().unwrap().entry
}

fn command(entry: Bytes) -> Bytes {
    let mut command = Command::new(0);
    command.journal.push(JournalAppend { entry, index: Vec::new() });
    command.put(&RowKey::setting("other"), vec![1]);
    command.encode_to_vec().into()
}

async fn grant(gateway: &Gateway) -> v1::Receipt {
    let ask = v1::GrantRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: "paper".into(),
    };
    gateway.grant(&doctor(), ask).await.unwrap()
}

async fn revoke(gateway: &Gateway) -> v1::Receipt {
    let ask = v1::RevokeRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        evidence: "paper".into(),
    };
    gateway.revoke(&doctor(), ask).await.unwrap()
}

/// Offers what restricts to a cluster whose journal parted from the other one at `common`, and whose next timeline began
/// at `parted`.
async fn offer(gateway: &Arc<Gateway>, entry: Bytes, common: u64, parted: u64) -> (u32, String) {
    let mut run = Salvage::begin(gateway.clone(), &staff(), (0, parted), true).await.unwrap();
    let offered = v1::SalvageEntry { index: 1, command: entry, round: 1, common };
    let told = run.offer(offered, &mut NoDisk).await.unwrap();
    (told.outcome, told.why)
}

fn is_granted(gateway: &Gateway) -> bool {
    let mut attempt = Attempt::begin(gateway, &JournalEntry::default()).unwrap();
    let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
    known.row.grants.iter().any(|grant| grant.facility == HOSPITAL)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newer_is_told_by_the_log_and_not_by_clocks() {
    let house = Storehouse::new().await;
    let gateway = house.gateway();
    // Revoked there, at a position that the journals do not share; granted here.
    let revoked = revoke(&gateway).await.journal_position;
    let there = command(elsewhere(&gateway, &entry(&house, revoked)));
    next_millisecond();
    let granted = grant(&gateway).await.journal_position;

    // On the new timeline: a newer will, also where this gateway's clock was behind that one.
    let told = offer(&gateway, there.clone(), revoked + 1, granted).await;
    assert_eq!(told, (Outcome::Refused as u32, "granted anew on the new timeline".to_owned()));
    let pseudonym = {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap().pseudonym
    };
    let mut told_ms = 0;
    let early = |row: &mut Participant| told_ms = std::mem::replace(&mut row.grants[0].granted_ms, 1);
    house.edit(&RowKey::participant(&pseudonym), early).await;
    let told = offer(&gateway, there.clone(), revoked + 1, granted).await;
    assert_eq!(told.0, Outcome::Refused as u32, "{}", told.1);
    let back = |row: &mut Participant| row.grants[0].granted_ms = told_ms;
    house.edit(&RowKey::participant(&pseudonym), back).await;
    assert!(is_granted(&gateway));

    // Before the new timeline, in the end of a log that nobody else had: the older will, whatever its clock says.
    let told = offer(&gateway, there, revoked + 1, granted + 1).await;
    assert_eq!(told, (Outcome::Applied as u32, String::new()));
    assert!(!is_granted(&gateway));
    let last = house.journalled().await.pop().unwrap();
    let (actor, salvaged) = (last.actor.unwrap(), last.salvaged.unwrap());
    assert_eq!((actor.kind, &actor.name[..], &last.basis[..]), (ActorKind::Recovery.number(), "kato", "recovery"));
    let then = salvaged.actor.unwrap();
    assert_eq!((&then.facility[..], &then.name[..]), (HOSPITAL, DOCTOR));
    house.close().await;
}

/// Staff could take from the cluster's own journal what somebody undid long ago, and say that it is of another disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_this_journal_is_no_news_wherever_the_journals_are_said_to_part() {
    let house = Storehouse::new().await;
    let gateway = house.gateway();
    let revoked = revoke(&gateway).await.journal_position;
    next_millisecond();
    let parted = grant(&gateway).await.journal_position + 1;
    let own = command(entry(&house, revoked));
    for common in [0, revoked + 1, parted, u64::MAX] {
        let told = offer(&gateway, own.clone(), common, parted).await;
        assert_eq!(told.0, Outcome::Refused as u32, "{common}: {}", told.1);
    }
    assert!(is_granted(&gateway));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_staff_restrict_nothing_but_what_they_salvage() {
    let house = Storehouse::new().await;
    let gateway = house.gateway();
    let ask = v1::WithdrawRequest { request: request(), participant: NUMBER.into(), ..Default::default() };
    let refused = gateway.withdraw(&staff(), ask).await;
    assert!(matches!(refused, Err(GatewayError::Role { .. })), "{refused:?}");
    // Two runs at once would not see what the other does; the second may begin when the first has ended.
    let first = Salvage::begin(gateway.clone(), &staff(), (0, 0), true).await.unwrap();
    let second = Salvage::begin(gateway.clone(), &staff(), (0, 0), true).await;
    assert!(matches!(second.err(), Some(GatewayError::Unavailable { .. })));
    drop(first);
    assert!(Salvage::begin(gateway.clone(), &staff(), (0, 0), true).await.is_ok());
    house.close().await;
}

/// The journal entry and the manifest of a version that was for fewer, with the control row of the version before: each
/// of them genuine.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_does_not_come_back_with_the_control_row_of_another() {
    let house = Storehouse::new().await;
    let gateway = house.gateway();
    let put = async |record| {
        let part = v1::WholePart { name: "body".into(), media_type: "a/b".into(), data: body(9), ..Default::default() };
        let ask = v1::PutWholeRequest {
            request: request(),
            participant: NUMBER.into(),
            record: Some(record),
            parts: vec![part],
            ..Default::default()
        };
        gateway.put_whole(&doctor(), ask).await.unwrap()
    };
    let pseudonym = {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap().pseudonym
    };
    let first = put(record()).await;
    let id = RecordId::from_slice(&first.record_id).unwrap();
    let key = RowKey::record_control(&pseudonym, &id);
    let wider = house.store.database().row(&key).unwrap().unwrap();
    let addressees = vec![HOSPITAL.to_owned()];
    let second = put(v1::NewRecord { record_id: first.record_id.clone(), addressees, ..record() }).await;
    let own = house.store.database().row(&key).unwrap().unwrap();
    let manifest_key = RowKey::record(&pseudonym, &id, 2);
    let manifest = house.store.database().row(&manifest_key).unwrap().unwrap();
    let journalled = entry(&house, second.journal_position);
    let offered = async |control: &StoredRow| {
        let mut command = Command::new(0);
        let entry = elsewhere(&gateway, &journalled);
        command.journal.push(JournalAppend { entry, index: Vec::new() });
        command.put(&manifest_key, manifest.value.clone());
        command.expect(&key, control.header.replaced);
        command.put(&key, control.value.clone());
        let command = command.encode_to_vec().into();
        let mut run = Salvage::begin(gateway.clone(), &staff(), (0, 0), true).await.unwrap();
        let offered = v1::SalvageEntry { index: 1, command, round: 2, common: u64::MAX };
        let told = run.offer(offered, &mut NoDisk).await.unwrap();
        (told.outcome, told.why)
    };
    assert_eq!(offered(&own).await, (Outcome::There as u32, String::new()));
    assert_eq!(offered(&wider).await, (Outcome::Unreadable as u32, "its control row is another version's".to_owned()));
    house.close().await;
}
