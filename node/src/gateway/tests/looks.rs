//! Looks that share a command: each has its own entry, and none is permitted by what another's was decided on.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::aliases::put;
use super::recheck::{clinic, getting, hide};
use super::*;
use crate::gateway::group::Pending;

const READERS: usize = 12;

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

/// Reads at one moment: in one task of the only thread, so that all of them wait before any is proposed. A first one is
/// asked for and given up.
async fn read_at_once(
    gateway: Arc<Gateway>,
    reader: Caller,
    records: Vec<Bytes>,
) -> Vec<Result<v1::RecordHeader, GatewayError>> {
    let reads = async move {
        tokio::select! {
            biased;
            _ = gateway.read(&reader, getting(&records[0])) => panic!("answered at once"),
            () = std::future::ready(()) => {}
        }
        let reads = records.iter().map(|record| gateway.read(&reader, getting(record)));
        join_all(reads).await.into_iter().map(|read| read.map(|(header, _)| header)).collect()
    };
    tokio::spawn(reads).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reads_of_one_moment_are_one_command_with_an_entry_each() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let mut records = Vec::new();
    for _ in 0..3 {
        records.push(put(&gateway, NUMBER, record()).await.unwrap());
    }
    hide(&gateway, &records[2]).await;
    let reader = clinic(&storehouse, &gateway).await;
    let before = storehouse.journalled().await.len();
    let (proposer, commands) = overtaken(&storehouse, async {});
    let asked: Vec<Bytes> = (0..READERS).map(|n| records[n % 3].clone()).collect();
    let told = read_at_once(storehouse.gateway_through(proposer), reader, asked.clone()).await;
    assert_eq!(commands.load(Ordering::SeqCst), 1);
    let journalled = storehouse.journalled().await.split_off(before);
    // The one that was given up has its entry, too.
    assert_eq!(journalled.len(), 1 + READERS);
    let mut positions = Vec::new();
    let mut indexes = Vec::new();
    for (n, (record_id, told)) in asked.iter().zip(told).enumerate() {
        let (position, denied) = match told {
            Ok(header) => {
                assert_eq!(header.summary.unwrap().record_id, record_id);
                indexes.push(header.index);
                (header.journal_position, false)
            }
            Err(GatewayError::Denied { journal_position, .. }) => (journal_position, true),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(denied, n % 3 == 2);
        let entry = journalled.iter().find(|entry| entry.journal_position == position).unwrap();
        assert_eq!((&entry.record_id, !entry.denial.is_empty()), (record_id, denied), "{n}");
        positions.push(position);
    }
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), READERS);
    assert!(indexes.iter().all(|index| *index == indexes[0]));
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hiding_overtakes_all_that_share_a_command_and_the_others_read_alone() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let record_id = put(&gateway, NUMBER, record()).await.unwrap();
    let hidden = put(&gateway, NUMBER, record()).await.unwrap();
    let reader = clinic(&storehouse, &gateway).await;
    let overtaking = hidden.clone();
    let meanwhile = async move { hide(&gateway, &overtaking).await };
    let (proposer, commands) = overtaken(&storehouse, meanwhile);
    let gateway = storehouse.gateway_through(proposer);
    let records = (0..READERS).map(|n| if n % 2 == 0 { record_id.clone() } else { hidden.clone() });
    for (n, read) in read_at_once(gateway, reader, records.collect()).await.into_iter().enumerate() {
        match n % 2 {
            0 => assert!(read.is_ok(), "{n}"),
            _ => assert!(matches!(read, Err(GatewayError::Denied { .. })), "{n}"),
        }
    }
    // Together, and once more each alone.
    assert_eq!(commands.load(Ordering::SeqCst), 1 + READERS);
    storehouse.close().await;
}
