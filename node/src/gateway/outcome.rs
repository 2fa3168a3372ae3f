//! What became of a write.

use std::time::Instant;

use bytes::Bytes;
use kura_cluster::command::Request;
use kura_cluster::{Command, Outcome};
use kura_proto::v1;
use prost::Message;

use super::limits::PROPOSE_TIMEOUT;
use super::propose::Proposed;
use super::transact::{Asked, open_receipt};
use super::{Gateway, GatewayError};
use crate::reach::Reached;

/// The kinds of [`v1::OutcomeReply`].
const COMMITTED: u32 = 1;
const ABSENT: u32 = 2;
const FORGOTTEN: u32 = 3;

impl Gateway {
    /// Tells what became of a request of the caller's application. Where nothing is found a tombstone is
    /// left, so that "absent" is final.
    pub async fn outcome(
        &self,
        application: &str,
        request: v1::OutcomeRequest,
    ) -> Result<v1::OutcomeReply, GatewayError> {
        self.recall(application, request, true).await
    }

    /// The same; `waits` says whether it waits for the backup.
    pub(super) async fn recall(
        &self,
        application: &str,
        request: v1::OutcomeRequest,
        waits: bool,
    ) -> Result<v1::OutcomeReply, GatewayError> {
        let _in_flight = self.begin_call()?;
        let asked = Asked::parse(request.request.as_ref(), &v1::OutcomeRequest::default())?;
        let vault = self.unsealed()?;
        let row = asked.row(&vault, application);
        let mut command = Command::new(self.now_ms()?);
        command.probe = true;
        command.request = Some(Request {
            row: row.as_bytes().clone(),
            sha256: Bytes::copy_from_slice(&asked.sha256),
            receipt: Bytes::new(),
        });
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let Proposed { outcome, term, index } = self.proposer.propose(command.encode_to_vec().into(), deadline).await?;
        if !self.store.applied(index, deadline).await {
            return Err(GatewayError::Unavailable { why: "this node does not hear from the leader".into() });
        }
        match outcome {
            Outcome::Committed(committed) => {
                let receipt = open_receipt(&vault, &row, &committed.receipt)?;
                let reach = match waits {
                    true => self.reach.wait(&self.backups(), term, committed.revision.index).await,
                    false => Reached::NotWaited,
                };
                let receipt = v1::Receipt {
                    timeline: committed.revision.timeline,
                    leader_term: term,
                    index: committed.revision.index,
                    request_id: Bytes::copy_from_slice(&asked.id.0),
                    record_id: receipt.record_id,
                    version: receipt.version,
                    journal_position: committed.journal_first,
                    repeated: true,
                    reach: reach as u32,
                    nothing_to_end: receipt.nothing_to_end,
                    granted_before: receipt.granted_before,
                    journal_leaf: self.journal_leaf(committed.journal_first),
                };
                Ok(v1::OutcomeReply { kind: COMMITTED, receipt: Some(receipt) })
            }
            Outcome::Absent => Ok(v1::OutcomeReply { kind: ABSENT, receipt: None }),
            Outcome::Expired => Ok(v1::OutcomeReply { kind: FORGOTTEN, receipt: None }),
            Outcome::Conflict { .. } | Outcome::Refused(_) => Err(GatewayError::Contended),
        }
    }
}
