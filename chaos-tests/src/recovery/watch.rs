//! What the witness asks the cluster for, all the time: the published replication point, heads of the journal,
//! and how far erasures are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kura_client::{Action, ErasureState, JournalError, ParticipantNumber};
use kura_proto::point::KNOWN;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::notes::{Erased, Head, Published, Witness};
use crate::cluster::{Cluster, ClusterError, QUICK, Role};

/// Between two questions of one kind.
const EACH: Duration = Duration::from_millis(200);

/// Erasures that were asked for, by their ids.
pub type Asked = BTreeMap<[u8; 16], (usize, ParticipantNumber)>;

/// Asks until it is dropped.
pub struct Watch {
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// [`ClusterError::Client`].
    pub async fn start(cluster: &Cluster, witness: &Arc<Witness>, asked: Asked) -> Result<Self, ClusterError> {
        let mut tasks = JoinSet::new();
        let operations = cluster.client(Role::Operator, None, QUICK).await?.operations();
        let book = Arc::clone(witness);
        tasks.spawn(async move {
            loop {
                let asked_us = book.now_us();
                if let Ok(reply) = operations.status().await {
                    let point = reply.replication_point.filter(|point| point.state == KNOWN);
                    let point = point.map(|point| (point.index, point.milliseconds_behind));
                    let arrived_us = book.now_us();
                    book.notes().published.push(Published { asked_us, arrived_us, point });
                }
                sleep(EACH).await;
            }
        });
        let journal = cluster.client(Role::Auditor, None, QUICK).await?.journal();
        let book = Arc::clone(witness);
        tasks.spawn(async move {
            loop {
                match journal.head().await {
                    Ok(head) => {
                        let at_us = book.now_us();
                        book.notes().heads.push(Head { at_us, head });
                    }
                    Err(error @ JournalError::Rewritten { .. }) => book.notes().alarms.push(error.to_string()),
                    Err(_) => {}
                }
                sleep(EACH).await;
            }
        });
        let registrar = cluster.client(Role::Registrar, None, QUICK).await?.erasures();
        let book = Arc::clone(witness);
        tasks.spawn(async move {
            let mut waiting = asked;
            loop {
                for erasure in registrar.list().stream().take(waiting.len() + 100).await.unwrap_or_default() {
                    let gone = matches!(erasure.state, ErasureState::Pending | ErasureState::Certified);
                    let Some((place, number)) = waiting.get(&erasure.id).filter(|_| gone) else { continue };
                    let Ok(shown) = registrar.show(number).await else { continue };
                    if let Some(event) = shown.events.iter().find(|event| event.action == Action::Erase) {
                        let (at_us, place, journal) = (book.now_us(), *place, event.journal_position);
                        book.notes().erased.push(Erased { at_us, place, journal });
                        waiting.remove(&erasure.id);
                    }
                }
                sleep(EACH).await;
            }
        });
        Ok(Self { _tasks: tasks })
    }
}
