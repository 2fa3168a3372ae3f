//! Deciding a running download again.
//!
//! Invariants
//! - Nothing of a download leaves later than [`RECHECK_INTERVAL`] after a moment up to which everything that was
//!   acknowledged anywhere was applied here before the last decision on it. A node that is cut off from the others
//!   has no such moment any more: its downloads end.
//! - What proves it is any proposal from here that a leader committed. Where nothing else is proposed, one check
//!   proposes an empty command for all: never one for each download. An idle leader writes the same by itself.
//! - A leader that goes and is followed by another within [`RECHECK_TIMEOUT`] ends no download.

use std::time::Instant;

use bytes::Bytes;
use kura_cluster::Command;
use kura_cluster::row::{JournalEntry, ReceiptRow};
use kura_cluster::word::Action;
use prost::Message;

use super::attempt::Attempt;
use super::limits::{DOWNLOAD_TIMEOUT, PROOF_AGE_MAX, RECHECK_INTERVAL, RECHECK_TIMEOUT};
use super::propose::Proof;
use super::read::{Question, decide_read};
use super::service::Doing;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};

/// When a read began, and how new the state was on which it was decided last.
#[derive(Clone, Copy)]
pub(super) struct ReadingClock {
    begun: Instant,
    checked: Instant,
}

impl ReadingClock {
    /// To be taken before the read is decided on: what is acknowledged meanwhile is not all in its decision.
    pub fn start() -> ReadingClock {
        let now = Instant::now();
        ReadingClock { begun: now, checked: now }
    }

    /// Ends a read beyond its deadline. Decides again from time to time; a denial is journalled, a
    /// permission is not: it is the same read.
    pub async fn keep(&mut self, gateway: &Gateway, caller: &Caller, asked: &Question) -> Result<(), GatewayError> {
        if self.begun.elapsed() > DOWNLOAD_TIMEOUT {
            return Err(GatewayError::Unavailable {
                why: "the download took longer than its deadline; resume it".into(),
            });
        }
        if self.checked.elapsed() <= RECHECK_INTERVAL {
            return Ok(());
        }
        self.check_again(gateway, caller, asked, Instant::now() + RECHECK_TIMEOUT).await
    }

    /// The check itself; looks for a proof until the deadline.
    pub async fn check_again(
        &mut self,
        gateway: &Gateway,
        caller: &Caller,
        asked: &Question,
        deadline: Instant,
    ) -> Result<(), GatewayError> {
        let as_of = gateway.current(deadline).await?;
        let mut attempt = Attempt::begin(gateway, &JournalEntry::default())?;
        if let Verdict::Denied(_) = decide_read(&mut attempt, caller, asked)? {
            drop(attempt);
            gateway
                .transact(caller, Doing::look(Action::Get, asked.episode.as_ref()), None, |attempt| {
                    Ok((decide_read(attempt, caller, asked)?, ReceiptRow::default()))
                })
                .await?;
        }
        self.checked = as_of;
        Ok(())
    }

    /// Puts the last decision back by so much.
    #[cfg(test)]
    pub fn age(&mut self, by: std::time::Duration) {
        self.checked -= by;
    }
}

impl Gateway {
    /// A moment, at most [`PROOF_AGE_MAX`] ago when asked, up to which everything that was acknowledged on any node
    /// is applied here.
    async fn current(&self, deadline: Instant) -> Result<Instant, GatewayError> {
        let cut_off = || GatewayError::Unavailable {
            why: "this node could not make sure that the consent still stands: it hears from no majority; resume the \
                  download at another node"
                .into(),
        };
        let fresh = || self.proposer.proof().filter(|proof| proof.begun.elapsed() <= PROOF_AGE_MAX);
        let proof = match fresh() {
            Some(proof) => proof,
            None => {
                let turn = tokio::time::timeout_at(deadline.into(), self.proving.lock()).await;
                let _turn = turn.map_err(|_| cut_off())?;
                match fresh() {
                    Some(proof) => proof,
                    None => self.prove(deadline).await.ok_or_else(cut_off)?,
                }
            }
        };
        match self.store.applied(proof.index, deadline).await {
            true => Ok(proof.begun),
            false => Err(cut_off()),
        }
    }

    /// Has a leader commit an empty command.
    async fn prove(&self, deadline: Instant) -> Option<Proof> {
        while Instant::now() < deadline {
            let command: Bytes = Command::new(self.now_ms().ok()?).encode_to_vec().into();
            match self.proposer.propose(command, deadline).await {
                Ok(_) => return self.proposer.proof(),
                // An election may take longer than a call looks for a leader.
                Err(GatewayError::NoLeader { .. }) => {}
                Err(_) => return None,
            }
        }
        None
    }
}
