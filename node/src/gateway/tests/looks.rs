//! Looks that share a command: each has its own entry, and none is permitted by what another's was decided on.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::aliases::put;
use super::*;
use crate::gateway::group::Pending;

const READERS: usize = 20;

fn getting(record_id: &Bytes) -> v1::GetRequest {
    v1::GetRequest { participant: NUMBER.into(), record_id: record_id.clone(), ..Default::default() }
}

/// A proposer that runs `meanwhile` before it hands the first command on, and how many commands came.
fn overtaken<F: Future<Output = ()> + Send + 'static>(
    storehouse: &Storehouse,
    meanwhile: F,
) -> (Proposer, Arc<AtomicUsize>) {
    let (proposer, mut waiting) = Proposer::held();
    let leader = storehouse.proposer.clone();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut meanwhile = Some(meanwhile);
        while let Some(Pending { command, answer }) = waiting.recv().await {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile.await;
            }
            let proposed = leader.propose(command, Instant::now() + PATIENCE).await.unwrap();
            let _ = answer.send(Ok(proposed));
        }
    });
    (proposer, count)
}

/// Reads at one moment: in one task of the only thread, so that all of them wait before any is proposed.
async fn read_at_once(gateway: Arc<Gateway>, records: Vec<Bytes>) -> Vec<Result<v1::RecordHeader, GatewayError>> {
    let reads = async move {
        let doctor = doctor();
        let reads = records.iter().map(|record| gateway.read(&doctor, getting(record)));
        join_all(reads).await.into_iter().map(|read| read.map(|(header, _)| header)).collect()
    };
    tokio::spawn(reads).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reads_of_one_moment_are_one_command_with_an_entry_each() {
    let storehouse = Storehouse::new().await;
    let record_id = put(&storehouse.gateway(), NUMBER, record()).await.unwrap();
    let before = storehouse.journalled().await.len();
    let (proposer, commands) = overtaken(&storehouse, async {});
    let gateway = storehouse.gateway_through(proposer);
    let headers = read_at_once(gateway, vec![record_id.clone(); READERS]).await.into_iter().map(Result::unwrap);
    let (mut positions, indexes): (Vec<_>, Vec<_>) =
        headers.map(|header| (header.journal_position, header.index)).unzip();
    assert_eq!(commands.load(Ordering::SeqCst), 1);
    assert!(indexes.iter().all(|index| *index == indexes[0]));
    positions.sort_unstable();
    assert!(positions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{positions:?}");
    let journalled = storehouse.journalled().await;
    let entries: Vec<_> = journalled[before..].iter().filter(|entry| entry.action == Action::Get.number()).collect();
    assert_eq!(entries.iter().map(|entry| entry.journal_position).collect::<Vec<_>>(), positions);
    assert!(entries.iter().all(|entry| entry.record_id == record_id));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hiding_overtakes_all_that_share_a_command_and_the_others_read_alone() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = put(&gateway, NUMBER, record()).await.unwrap();
    let hidden = put(&gateway, NUMBER, record()).await.unwrap();
    let hide = v1::HideRequest {
        actor: None,
        request: request(),
        participant: NUMBER.into(),
        record_id: hidden.clone(),
        hidden: true,
        reason: "wrong person".into(),
    };
    let meanwhile = async move {
        drop(gateway.hide(&doctor(), hide).await.unwrap());
    };
    let (proposer, commands) = overtaken(&storehouse, meanwhile);
    let gateway = storehouse.gateway_through(proposer);
    let records = (0..READERS).map(|n| if n % 2 == 0 { hidden.clone() } else { record_id.clone() });
    for (n, read) in read_at_once(gateway, records.collect()).await.into_iter().enumerate() {
        match n % 2 {
            0 => assert!(matches!(read, Err(GatewayError::Denied { .. })), "{n}"),
            _ => assert!(read.is_ok(), "{n}"),
        }
    }
    // Together, and once more each alone.
    assert_eq!(commands.load(Ordering::SeqCst), 1 + READERS);
    storehouse.close().await;
}
