//! New epoch keys on a real cluster: data keys pass to them while everything goes on, and leaders change.

use std::process::Command;

use kura_client::keys::Rotation;
use kura_client::{ErasureState, GetError, RecordId, wire};
use kura_node::dev::{ClientFile, Signal};

use super::clock::Clock;
use super::custody::Load;
use super::world::{HOSPITAL, KURA, SOON, World, until};

/// One day more than the grace period's default.
const GRACE_OVER_MS: i64 = 31 * 86_400_000;

impl World {
    /// Waits until nothing is wrapped under an older epoch and those of `ended` have ended, at every voter.
    pub(super) async fn swept(&self, newest: u32, ended: &[u32]) -> wire::KeyStatusReply {
        let mut told = None;
        for voter in self.voters() {
            let config = self.cluster.client_config_at(ClientFile::Operator, &voter).unwrap();
            let client = kura_client::Client::connect_lazily(config).await.unwrap();
            let swept = until("every data key under the newest epoch", SOON, async || {
                let status = client.keys().status().await.map_err(|error| error.to_string())?;
                let found: Vec<u32> = status.epochs.iter().filter(|one| one.ended).map(|one| one.epoch).collect();
                let is = (status.epoch, status.data_keys_under_older_epochs, &found[..]) == (newest, 0, ended);
                if is { Ok(status) } else { Err(format!("{voter}: {status:?}")) }
            });
            told = Some(swept.await);
        }
        told.unwrap()
    }

    async fn reads(&self, number: &kura_client::ParticipantNumber, record: RecordId) -> Result<Vec<u8>, GetError> {
        let found = self.doctor(HOSPITAL).get(number, record).await?;
        Ok(found.bytes().await?.to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_pass_to_new_epochs_under_load_and_what_is_erased_stays_erased() {
    let clock = Clock::new();
    let mut world = World::run_by(clock.kura("*"), 3, 1).await;
    let (gone, stays) = (world.enrol(1).await, world.enrol(2).await);
    let (lost, kept) = (world.put(&gone, "gone").await, world.put(&stays, "stays").await);
    world.person(gone).withdraw().await.unwrap();
    world.person(gone).ask_erasure().await.unwrap();
    let registrar = world.cluster.client(ClientFile::Registrar1).await.unwrap().erasures();
    registrar.approve(&gone).await.unwrap();

    // Under load, and the leader goes as soon as the keys are new.
    let load = Load::start(&world, 3).await;
    load.more(20).await;
    assert_eq!(world.rotate(Rotation::Epoch).await.epoch, 2);
    let leader = world.leader().await;
    world.cluster.kill(&leader, Signal::KILL).await.unwrap();
    load.more(20).await;
    world.cluster.restart(&leader).await.unwrap();
    let status = world.swept(2, &[1]).await;
    assert_eq!(status.data_keys, 5);
    assert_eq!(status.epochs[0].needed_by, ["registry rows", "journal entries"]);
    load.more(20).await;
    assert!(load.end().await >= 60);
    assert_eq!(world.reads(&stays, kept).await.unwrap(), b"stays");

    // The grace period is over just when keys are new again: both go on at once.
    world.settled().await;
    clock.set(GRACE_OVER_MS);
    let asked = world.rotate(Rotation::Epoch).await;
    assert_eq!(asked.epoch, 3);
    until("the erasure", SOON, async || match registrar.show(&gone).await {
        Ok(shown) if shown.erasure.state == ErasureState::Pending && shown.erasure.swept_ms != 0 => Ok(()),
        Ok(shown) => Err(format!("{shown:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let status = world.swept(3, &[1, 2]).await;
    assert_eq!(status.data_keys, 4, "all but the erased one's");
    let refused = world.reads(&gone, lost).await.unwrap_err();
    assert!(matches!(refused, GetError::Denied(_)), "{refused}");
    world.settled().await;

    // Everybody starts anew with what is left of the keyring.
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    for member in world.cluster.plan().members.clone() {
        world.cluster.restart(&member.name).await.unwrap();
    }
    world.leader().await;
    let read = until("a read", SOON, async || world.reads(&stays, kept).await.map_err(|error| error.to_string()));
    assert_eq!(read.await, b"stays");
    assert!(world.reads(&gone, lost).await.is_err());
    let told = Command::new(KURA)
        .args(["--json", "key", "status", "--client"])
        .arg(world.cluster.layout().client(ClientFile::Operator))
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["data_keys"], &told["data_keys_under_older_epochs"]), (&4.into(), &0.into()), "{told}");
    assert_eq!(told["epochs"].as_array().unwrap().len(), 3, "{told}");
}
