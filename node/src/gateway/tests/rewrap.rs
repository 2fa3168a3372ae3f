//! Data keys pass to the newest epoch: in steps, beside everything else, and never back.

use kura_cluster::Pseudonym;
use kura_cluster::row::KeyringRow;

use super::erasure::{approve, withdraw};
use super::*;
use crate::custody::{Known, data_keys_by_epoch};
use crate::gateway::erase;
use crate::gateway::group::Pending;
use crate::gateway::rewrap::Step;
use crate::gateway::rotation::{EPOCH, Stands};

/// More than two steps look at.
const MANY: usize = 1_100;

impl Storehouse {
    /// New epoch keys, which this voter has opened.
    pub(super) async fn new_epoch(&self) -> u32 {
        let epoch = self.new_epoch_unseen().await;
        let vault = Vault::unseal(self.root(), self.vault.load_full().unwrap().cluster_id(), &self.store).unwrap();
        self.vault.store(Some(Arc::new(vault)));
        epoch
    }

    /// New epoch keys, which this voter has yet to open.
    async fn new_epoch_unseen(&self) -> u32 {
        let gateway = self.gateway();
        for who in [identity(Role::Operator, "op-1"), another_identity(Role::Registrar, "reg-1")] {
            let caller = Caller::parse(who, None).unwrap();
            if let Stands::Done(epoch) = gateway.ask_rotation(&caller, EPOCH, false).await.unwrap() {
                return epoch;
            }
        }
        panic!("both have asked for it");
    }

    /// Data keys of so many pseudonyms.
    async fn many_keys(&self) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        for _ in 0..MANY {
            attempt.put_data_key(&Pseudonym(random::id()), 1, &random::key()).unwrap();
        }
        self.commit(attempt).await;
    }

    pub(super) fn left(&self) -> Vec<(u32, u64)> {
        data_keys_by_epoch(&self.store.database()).unwrap().into_iter().collect()
    }

    fn epochs(&self) -> Vec<(u32, bool)> {
        let known = Known::read(&self.store.database()).unwrap();
        known.epochs.iter().map(|one| (one.epoch, one.has_ended)).collect()
    }

    fn keyring_row(&self, epoch: u32) -> KeyringRow {
        let row = self.store.database().row(&RowKey::keyring(epoch)).unwrap().unwrap();
        KeyringRow::decode(row.value).unwrap()
    }
}

/// Steps until all rows were looked at. How many were re-wrapped.
pub(super) async fn sweep(gateway: &Gateway) -> usize {
    let (mut after, mut rewrapped) = (None, 0);
    loop {
        let step = gateway.rewrap_step(after).await.unwrap();
        assert!(step.closed == 0 && !step.overtaken, "{step:?}");
        rewrapped += step.rewrapped;
        after = step.after;
        if after.is_none() {
            return rewrapped;
        }
    }
}

fn whole(number: &str, bytes: &Bytes) -> v1::PutWholeRequest {
    let part = v1::WholePart {
        name: "body".into(),
        media_type: "text/plain".into(),
        data: bytes.clone(),
        ..Default::default()
    };
    v1::PutWholeRequest {
        request: request(),
        participant: number.into(),
        record: Some(record()),
        parts: vec![part],
        ..Default::default()
    }
}

async fn enrol(gateway: &Gateway, number: &str) -> Result<(), GatewayError> {
    let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 2".into(), ..Default::default() };
    let enrol =
        v1::EnrolRequest { actor: None, request: request(), participant: number.into(), consent: Some(consent) };
    gateway.enrol(&doctor(), enrol).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_pass_in_steps_and_old_epochs_end() {
    let storehouse = Storehouse::new().await;
    storehouse.many_keys().await;
    let gateway = storehouse.gateway();
    let record_id = gateway.put_whole(&doctor(), whole(NUMBER, &body(5_000))).await.unwrap().record_id;
    assert_eq!(storehouse.left(), [(1, MANY as u64 + 1)]);
    assert_eq!(sweep(&gateway).await, 0, "there is one epoch");
    assert_eq!(gateway.end_epochs(1).await.unwrap(), Vec::<u32>::new());
    assert_eq!(storehouse.new_epoch().await, 2);

    // A step, then another voter that goes on from the beginning; then again, which changes nothing.
    let step = gateway.rewrap_step(None).await.unwrap();
    assert_eq!((step.rewrapped, step.after.is_some()), (512, true));
    assert_eq!(storehouse.left(), [(1, MANY as u64 + 1 - 512), (2, 512)]);
    assert_eq!(sweep(&storehouse.gateway()).await, MANY + 1 - 512);
    assert_eq!(storehouse.left(), [(2, MANY as u64 + 1)]);
    let index = storehouse.store.published().index();
    assert_eq!(sweep(&gateway).await, 0);
    assert_eq!(storehouse.store.published().index(), index, "what is done proposes nothing");

    // The epoch ends, with an entry in the journal, once.
    let before = storehouse.keyring_row(1);
    assert_eq!(gateway.end_epochs(2).await.unwrap(), [1]);
    assert_eq!(storehouse.epochs(), [(1, true), (2, false)]);
    let ended = storehouse.keyring_row(1);
    assert!(ended.wrapping.is_empty() && ended.command_mac.is_empty());
    let (wrapping, command_mac) = (before.wrapping.clone(), before.command_mac.clone());
    assert_eq!(KeyringRow { wrapping, command_mac, ..ended }, before, "the rest stays");
    assert_eq!(gateway.end_epochs(2).await.unwrap(), Vec::<u32>::new());
    let told = storehouse.journalled().await;
    let ends: Vec<_> = told.iter().filter(|entry| entry.object.contains("end of epoch")).collect();
    assert_eq!(ends.len(), 1);
    assert_eq!((ends[0].action, &ends[0].object[..]), (Action::Key.number(), "end of epoch 1"));

    // A voter that starts now opens everything: rows and entries under the ended epoch, too. The root key can change.
    let vault = Vault::unseal(storehouse.root(), gateway.unsealed().unwrap().cluster_id(), &storehouse.store).unwrap();
    assert!(vault.epoch(1).unwrap().wrapping.is_none() && vault.keyring().epoch == 2);
    storehouse.vault.store(Some(Arc::new(vault)));
    assert!(read(&storehouse.gateway(), &record_id, 0).await.1 == body(5_000));
    assert_eq!(storehouse.new_epoch().await, 3);
    assert_eq!(sweep(&storehouse.gateway()).await, MANY + 1);
    assert_eq!(storehouse.gateway().end_epochs(2).await.unwrap(), Vec::<u32>::new(), "2 is not the newest any more");
    assert_eq!(storehouse.gateway().end_epochs(3).await.unwrap(), [2]);
    assert!(read(&storehouse.gateway(), &record_id, 0).await.1 == body(5_000));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_seen_the_new_epoch_wraps_nothing_under_the_old_one() {
    let storehouse = Storehouse::new().await;
    let stale = storehouse.vault.load_full().unwrap();
    assert_eq!(storehouse.new_epoch_unseen().await, 2);
    // Its registry key is the old one's still; a data key never is.
    enrol(&storehouse.gateway(), "0043001234567891").await.unwrap();
    assert_eq!((stale.keyring().epoch, storehouse.left()), (1, vec![(1, 1), (2, 1)]));

    // What was drafted before the rotation arrives after the end of the epoch under which it wraps.
    let gateway = storehouse.gateway();
    let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
    attempt.put_data_key(&Pseudonym([9; 16]), 1, &random::key()).unwrap();
    let late: Bytes = attempt.command.encode_to_vec().into();
    drop(attempt);
    assert_eq!(storehouse.new_epoch().await, 3);
    sweep(&gateway).await;
    assert_eq!(gateway.end_epochs(3).await.unwrap(), [1, 2]);
    let proposed = storehouse.proposer.propose(late, Instant::now() + PATIENCE).await.unwrap();
    assert!(matches!(proposed.outcome, Outcome::Conflict { .. }), "{proposed:?}");
    assert_eq!(storehouse.left(), [(3, 2)]);
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_destroyed_meanwhile_does_not_come_back() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    enrol(&gateway, "0043001234567891").await.unwrap();
    withdraw(&gateway).await;
    let pseudonym = approve(&storehouse, &gateway).await;
    storehouse.new_epoch().await;

    // A step is on its way to the leader while the keys are destroyed.
    let (proposer, mut waiting) = Proposer::held();
    let slow = storehouse.gateway_through(proposer);
    let step = tokio::spawn(async move { slow.rewrap_step(None).await });
    let Pending { command, answer } = waiting.recv().await.unwrap();
    assert_eq!(gateway.erase(&pseudonym).await.unwrap(), erase::Step::Done);
    let proposed = storehouse.proposer.propose(command, Instant::now() + PATIENCE).await.unwrap();
    assert!(matches!(proposed.outcome, Outcome::Conflict { .. }), "{proposed:?}");
    answer.send(Ok(proposed)).unwrap();
    let overtaken = Step { after: None, rewrapped: 0, closed: 0, overtaken: true };
    assert_eq!(step.await.unwrap().unwrap(), overtaken);

    assert_eq!(sweep(&gateway).await, 1);
    assert_eq!(gateway.end_epochs(2).await.unwrap(), [1]);
    let database = storehouse.store.database();
    assert!(database.snapshot().keys(&RowKey::participant_keys(&pseudonym), 9).unwrap().is_empty());
    assert!(gateway.unsealed().unwrap().data_key(&pseudonym, 1, &database).unwrap().is_none());
    storehouse.close().await;
}
