//! A data key that does not open is told, by count, and keeps its epoch.

use std::collections::HashMap;

use kura_client::keys::Rotation;
use kura_cluster::row::{ParticipantKeyRow, RowKey, StoredRow, Table};
use kura_node::dev::Signal;
use kura_node::state::database::Progress;
use kura_node::state::{Database, current_database};
use prost::Message;

use super::agreement::gauge;
use super::world::{HOSPITAL, SOON, World, until};

impl World {
    /// Stops the only voter, has its state changed, and starts it.
    async fn changed<T>(&mut self, change: impl FnOnce(&Database) -> T) -> T {
        self.cluster.kill("voter-1", Signal::TERM).await.unwrap();
        let directory = current_database(&self.cluster.layout().node_data("voter-1")).unwrap();
        let database =
            until("a closed database", SOON, async || Database::open(&directory).map_err(|error| error.to_string()))
                .await;
        let changed = change(&database);
        database.flush().unwrap();
        drop(database);
        self.cluster.restart("voter-1").await.unwrap();
        self.leader().await;
        changed
    }

    async fn closed_alarms(&self) -> Result<Vec<String>, String> {
        let status = self.operator.operations().status().await.map_err(|error| error.to_string())?;
        Ok(status.alarms.into_iter().filter(|alarm| alarm.contains("open")).collect())
    }
}

fn put(database: &Database, key: &RowKey, row: &StoredRow) {
    let (applied, _, summary) = database.progress().unwrap();
    let rows = HashMap::from([(key.as_bytes().clone(), Some(row.clone()))]);
    database.write(rows.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
}

/// A key's row with one bit of the wrapped key changed; and as it was.
fn damage_one(database: &Database) -> (RowKey, StoredRow) {
    let rows = database.snapshot().scan(&RowKey::whole_table(Table::ParticipantKey), None, 9).unwrap();
    assert_eq!(rows.len(), 2);
    let (key, stored) = rows[0].clone();
    let mut row = ParticipantKeyRow::decode(stored.value.clone()).unwrap();
    let mut wrapped = row.wrapped.to_vec();
    *wrapped.last_mut().unwrap() ^= 1;
    row.wrapped = wrapped.into();
    put(database, &key, &StoredRow { value: row.encode_to_vec().into(), ..stored.clone() });
    (key, stored)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_does_not_open_is_an_alarm_by_count_and_keeps_its_epoch() {
    let mut world = World::start(1, 0).await;
    let people = [world.enrol(1).await, world.enrol(2).await];
    let records = [world.put(&people[0], "one").await, world.put(&people[1], "two").await];
    let (key, stored) = world.changed(damage_one).await;
    assert_eq!(world.closed_alarms().await, Ok(Vec::new()), "nothing was to be re-wrapped yet");

    assert_eq!(world.rotate(Rotation::Epoch).await.epoch, 2);
    let told = until("the alarm", SOON, async || match &world.closed_alarms().await?[..] {
        [alarm] => Ok(alarm.clone()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(told.starts_with("1 data key of participants does not open, as voter-1 found"), "{told}");
    assert!(told.contains("kura member hand-over") && !told.contains("4300"), "{told}");
    assert_eq!(gauge(&world, "voter-1", "kura_data_keys_closed").await, Ok(1.0));
    let status = world.operator.keys().status().await.unwrap();
    assert_eq!((status.epoch, status.data_keys_under_older_epochs), (2, 1));
    assert!(!status.epochs[0].ended, "{status:?}");
    let mut read = 0;
    for (number, record) in people.iter().zip(records) {
        read += u32::from(world.doctor(HOSPITAL).get(number, record).await.is_ok());
    }
    assert_eq!(read, 1, "the other one's key opens");

    // As it was: it passes to the newest epoch, the old one ends, and so does the alarm.
    world.changed(|database| put(database, &key, &stored)).await;
    world.swept(2, &[1]).await;
    until("no alarm", SOON, async || match &world.closed_alarms().await?[..] {
        [] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(gauge(&world, "voter-1", "kura_data_keys_closed").await, Ok(0.0));
}
