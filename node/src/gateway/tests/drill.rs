//! Synthetic participants for drills: nobody's, and whole or not.

use kura_cluster::Pseudonym;
use kura_cluster::id::ContentId;
use kura_cluster::row::DrillRow;
use kura_cluster::seal::Key;

use super::erasure::registrar;
use super::rewrap::sweep;
use super::*;
use crate::archive::open::{check, faults};
use crate::custody::Known;
use crate::drill::open_synthetic;

fn operator() -> Caller {
    Caller::parse(identity(Role::Operator, "op-1"), None).unwrap()
}

impl Storehouse {
    async fn prepare(&self, key: &Key) -> v1::PrepareDrillReply {
        self.gateway().prepare_drill(&operator(), request_with(key)).await.unwrap()
    }

    fn opens(&self, key: &Key) -> Result<String, String> {
        open_synthetic(&self.store.database(), self.vault.load_full().unwrap().cluster_id(), key)
    }

    fn rows(&self, table: Table) -> u64 {
        self.store.published().summary.table(table).rows
    }

    fn canaries(&self) -> Vec<(Pseudonym, ContentId)> {
        let row = self.store.database().row(&RowKey::drill()).unwrap().unwrap();
        let row = DrillRow::decode(row.value).unwrap();
        let ids = |one: &kura_cluster::row::CanaryRow| {
            (Pseudonym::from_slice(&one.pseudonym).unwrap(), ContentId::from_slice(&one.content_id).unwrap())
        };
        row.canaries.iter().map(ids).collect()
    }

    /// Does something to stored rows, as damage would.
    async fn spoil(&self, spoil: impl FnOnce(&mut Attempt<'_>)) {
        let gateway = self.gateway();
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        spoil(&mut attempt);
        self.commit(attempt).await;
    }
}

fn request_with(key: &Key) -> v1::PrepareDrillRequest {
    v1::PrepareDrillRequest { drill_key: Bytes::copy_from_slice(key.expose_bytes()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn synthetic_participants_are_nobody_and_only_the_drill_key_opens_them() {
    let storehouse = Storehouse::new().await;
    let (key, other) = (random::key(), random::key());
    assert!(storehouse.opens(&key).unwrap_err().contains("kura drill prepare"));
    let refused = storehouse.gateway().prepare_drill(&registrar(), request_with(&key)).await;
    assert!(matches!(refused, Err(GatewayError::Denied { .. })), "{refused:?}");
    let refused = storehouse.gateway().prepare_drill(&operator(), request_with(&storehouse.root())).await;
    assert!(matches!(refused, Err(GatewayError::Invalid { field: "drill_key", .. })), "{refused:?}");

    let before: Vec<u64> = Table::ALL.iter().map(|table| storehouse.rows(*table)).collect();
    let reply = storehouse.prepare(&key).await;
    assert_eq!((reply.participants, reply.blocks, reply.bytes), (4, 6, 2_803_000));
    assert!(storehouse.opens(&key).unwrap().contains("4 synthetic participants, 6 blocks"));
    assert!(storehouse.opens(&other).unwrap_err().contains("not the drill key"));
    // In no table in which anybody looks for a participant or a record.
    for (table, before) in Table::ALL.into_iter().zip(before) {
        let more = storehouse.rows(table) - before;
        let expected = match table {
            Table::Setting => 1,
            Table::ParticipantKey => 4,
            Table::Block => 6,
            Table::Journal | Table::JournalIndex | Table::JournalTree => continue,
            _ => 0,
        };
        assert_eq!(more, expected, "{}", table.word());
    }
    let known = Known::read(&storehouse.store.database()).unwrap();
    assert_eq!((known.synthetic, storehouse.left()), (4, vec![(1, 1)]));
    let vault = storehouse.vault.load_full().unwrap();
    for (pseudonym, _) in storehouse.canaries() {
        assert!(vault.data_key(&pseudonym, 1, &storehouse.store.database()).is_err(), "no gateway opens it");
    }
    let tables = check(&storehouse.store.database(), &vault, u64::MAX, &|_| {}).unwrap();
    assert!(faults(&tables).is_empty(), "{:?}", faults(&tables));

    // New epoch keys leave them as they are.
    storehouse.new_epoch().await;
    assert_eq!(sweep(&storehouse.gateway()).await, 1);
    assert_eq!(storehouse.gateway().end_epochs(2).await.unwrap(), [1]);
    storehouse.opens(&key).unwrap();

    // Made anew under another key, in the same places: the former key opens nothing.
    let (places, rows) = (storehouse.canaries(), storehouse.rows(Table::Block));
    storehouse.prepare(&other).await;
    assert_eq!((storehouse.canaries(), storehouse.rows(Table::Block)), (places, rows));
    assert!(storehouse.opens(&other).is_ok() && storehouse.opens(&key).is_err());
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_moved_or_altered_fails_a_drill() {
    let storehouse = Storehouse::new().await;
    let key = random::key();
    storehouse.prepare(&key).await;
    let [_, (short, short_content), _, (long, long_content)] = storehouse.canaries()[..] else { panic!("four") };
    let block = |index| RowKey::block(&long, &long_content, 0, index);

    let value = |key: &RowKey| storehouse.store.database().row(key).unwrap().unwrap().value;
    let (first, second) = (value(&block(0)), value(&block(1)));
    storehouse.spoil(|attempt| attempt.command.put(&block(1), first)).await;
    assert!(storehouse.opens(&key).unwrap_err().contains("4 of 4: block 1 does not open"));
    storehouse.spoil(|attempt| attempt.command.put(&block(1), second)).await;
    storehouse.opens(&key).unwrap();
    storehouse.spoil(|attempt| attempt.command.delete(&block(2))).await;
    assert!(storehouse.opens(&key).unwrap_err().contains("block 2 is not there"));
    storehouse.prepare(&key).await;
    storehouse.opens(&key).unwrap();

    // A body that opens and is another: made before, under the same key and in the same place.
    let place = RowKey::block(&short, &short_content, 0, 0);
    let wrapped = RowKey::participant_key(&short, 1);
    let (body, data_key) = (value(&place), value(&wrapped));
    storehouse.prepare(&key).await;
    let put_back = |attempt: &mut Attempt<'_>| {
        attempt.command.put(&place, body);
        attempt.command.put(&wrapped, data_key);
    };
    storehouse.spoil(put_back).await;
    assert!(storehouse.opens(&key).unwrap_err().contains("2 of 4: what opened is not what was sealed"));
    storehouse.spoil(|attempt| attempt.command.delete(&wrapped)).await;
    assert!(storehouse.opens(&key).unwrap_err().contains("wrapped data key is not there"));
    // What is gone is made anew, elsewhere.
    storehouse.prepare(&key).await;
    storehouse.opens(&key).unwrap();
    storehouse.close().await;
}
