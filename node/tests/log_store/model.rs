//! The log against a list: any mixture of changes, closings and openings gives the same.

use kura_node::raft::types::{Vote, log_id};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use proptest::prelude::*;
use tempfile::tempdir;

use super::{all, append, entries, open, vote};

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    /// A new leader's vote, then its truncation to this part of the log.
    Truncate(f64),
    Purge(f64),
    Commit,
    /// Written down to RocksDB's last level, where a purge deletes whole tables.
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..20_u64).prop_map(Step::Append),
        2 => (0.0..1.0).prop_map(Step::Truncate),
        1 => (0.0..1.2).prop_map(Step::Purge),
        1 => Just(Step::Commit),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

async fn follows_the_model(steps: Vec<Step>) {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let mut model = Vec::new();
    let (mut term, mut purged, mut next) = (1, None, 0);
    for step in steps {
        match step {
            Step::Append(count) => {
                let new = entries(term, next..next + count, 300);
                append(&mut store, new.clone()).await;
                model.extend(new);
                next += count;
            }
            Step::Truncate(part) => {
                term += 1;
                store.save_vote(&Vote::new_committed(term, term % 3)).await.unwrap();
                model.truncate((model.len() as f64 * part) as usize);
                let last = model.last().map(|entry| entry.log_id).or(purged);
                next = last.map_or(0, |id| id.index + 1);
                store.truncate_after(last).await.unwrap();
            }
            Step::Purge(part) => {
                let count = (model.len() as f64 * part) as usize;
                let first = next - model.len() as u64;
                let Some(index) = (first + count as u64).checked_sub(1) else { continue };
                if purged.is_some_and(|purged: kura_node::raft::types::LogId| index <= purged.index) {
                    continue;
                }
                let id = model.get(count.wrapping_sub(1)).map_or(log_id(term, index), |e| e.log_id);
                model.drain(..count.min(model.len()));
                store.purge(id).await.unwrap();
                purged = Some(id);
                next = next.max(index + 1);
            }
            Step::Commit => {
                let last = store.get_log_state().await.unwrap().last_log_id;
                store.save_committed(last).await.unwrap();
            }
            Step::Compact => {
                store.watch().clear_purged().unwrap();
            }
            Step::Reopen => {
                drop(store);
                store = open(directory.path()).unwrap();
            }
        }
        assert_eq!(all(&mut store).await, model);
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, purged);
        assert_eq!(state.last_log_id, model.last().map(|entry| entry.log_id).or(purged));
        if let Some(middle) = model.get(model.len() / 2) {
            let index = middle.log_id.index;
            let found = store.get_log_reader().await.try_get_log_entries(index..=index).await.unwrap();
            assert_eq!(found, std::slice::from_ref(middle));
        }
        if term > 1 {
            assert_eq!(vote(&mut store).await, Some(Vote::new_committed(term, term % 3)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follows_the_model(steps));
    }
}
