//! What a recovered cluster serves, step by step: nothing, emergencies, reads, everything.
//!
//! Invariants
//! - It only widens, one step at a time, by recovery staff, journalled. So a gateway that has not yet applied the
//!   last step serves less than another, never more.
//! - Offices (members, keys, the registry, the journal) are served always: they are what a recovery needs.
//! - What is refused here was decided and is not journalled: nothing was shown or changed.

use std::sync::{Mutex, PoisonError};

use kura_cluster::Revision;
use kura_cluster::consent::{Basis, Denial};
use kura_cluster::row::{ReceiptRow, RowKey, ServiceRow, Table};
use kura_cluster::word::{Action, ServiceLevel};
use prost::Message;

use super::attempt::broken;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::Role;
use crate::state::{Database, DatabaseError};

/// The level, with the revision of the settings at which it was read.
#[derive(Debug, Default)]
pub struct Served(Mutex<Option<(Revision, ServiceLevel)>>);

/// The level that a state tells. Without the row, everything is served; in a form that is not known, nothing.
///
/// # Errors
/// [`DatabaseError`].
pub fn level(database: &Database) -> Result<ServiceLevel, DatabaseError> {
    let Some(row) = database.row(&RowKey::service())? else { return Ok(ServiceLevel::Writes) };
    let row = ServiceRow::decode(row.value).ok();
    Ok(row.and_then(|row| ServiceLevel::from_number(row.level).ok()).unwrap_or(ServiceLevel::Closed))
}

/// What people have to do about a level.
pub fn alarm(level: ServiceLevel) -> Option<String> {
    let words = match level {
        ServiceLevel::Closed => "nothing is served to applications since the recovery: kura recover open emergency",
        ServiceLevel::Emergency => "only emergencies are served since the recovery: kura recover open reads",
        ServiceLevel::Reads => "only reads are served since the recovery: kura recover open writes",
        ServiceLevel::Writes => return None,
    };
    Some(words.to_owned())
}

/// The level that something permitted needs.
fn needed(basis: Basis, action: Action) -> ServiceLevel {
    use Action::*;
    match (basis, action) {
        (Basis::Cluster | Basis::Operator | Basis::Registrar | Basis::Auditor | Basis::Recovery, _) => {
            ServiceLevel::Closed
        }
        (Basis::Emergency, _) => ServiceLevel::Emergency,
        (
            _,
            Get | GetSeveral | List | History | ShowConsent | ListAccesses | FacilityAccesses | Inbox | ListGranted
            | Resolve | ResolveCard | ReverseResolve,
        ) => ServiceLevel::Reads,
        // What restricts must not wait for writes.
        (_, Revoke | Withdraw | Hide | Narrow | AskErasure) => ServiceLevel::Reads,
        _ => ServiceLevel::Writes,
    }
}

impl Gateway {
    fn service_level(&self) -> Result<ServiceLevel, GatewayError> {
        let revision = self.store.published().summary.table(Table::Setting).revision;
        let mut served = self.served.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *served {
            Some((read, level)) if read == revision => Ok(level),
            _ => {
                let level = level(&self.store.database()).map_err(broken)?;
                *served = Some((revision, level));
                Ok(level)
            }
        }
    }

    /// Whether everything is served.
    ///
    /// # Errors
    /// The database's.
    pub fn serves_writes(&self) -> Result<bool, GatewayError> {
        Ok(self.service_level()?.number() >= ServiceLevel::Writes.number())
    }

    /// Refuses what is not served yet.
    pub(super) fn check_service(&self, basis: Basis, action: Action) -> Result<(), GatewayError> {
        let (level, needed) = (self.service_level()?, needed(basis, action));
        if needed.number() <= level.number() {
            return Ok(());
        }
        let served = match level {
            ServiceLevel::Closed => "nothing",
            ServiceLevel::Emergency => "only emergencies",
            _ => "only reads and what restricts",
        };
        let why = format!("after a recovery this cluster is opened step by step; {served} is served yet");
        Err(GatewayError::Unavailable { why })
    }

    /// Opens the next step. Answers the level from which it was taken.
    pub async fn open_service(&self, caller: &Caller, level: u32) -> Result<ServiceLevel, GatewayError> {
        let wanted = ServiceLevel::from_number(level)
            .map_err(|_| GatewayError::invalid("level", "is 2 (emergency), 3 (reads) or 4 (writes)"))?;
        let done = self
            .transact(caller, Action::Open, None, |attempt| {
                attempt.entry.object = wanted.word().to_owned();
                if caller.identity.role != Role::Recovery {
                    return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default()));
                }
                let (_, row) = attempt.load_open::<ServiceRow>(&RowKey::service())?;
                let now = row.map_or(ServiceLevel::Writes, |row| {
                    ServiceLevel::from_number(row.level).unwrap_or(ServiceLevel::Closed)
                });
                let next = now.number() + 1;
                if wanted.number() > next {
                    let first = ServiceLevel::from_number(next).map_or("", ServiceLevel::word);
                    return Err(GatewayError::invalid("level", format!("is not the next step: open {first} first")));
                }
                if wanted.number() == next {
                    let row =
                        ServiceRow { level: wanted.number(), by: caller.identity.name.clone(), at_ms: attempt.now_ms };
                    attempt.command.put(&RowKey::service(), row.encode_to_vec());
                }
                Ok((Verdict::by_office(Basis::Recovery, now), ReceiptRow::default()))
            })
            .await?;
        done.value.ok_or(GatewayError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_serves_what_it_says_and_restrictions_come_before_writes() {
        let at = |level: ServiceLevel, basis, action| needed(basis, action).number() <= level.number();
        for action in [Action::Get, Action::List, Action::Revoke, Action::Withdraw, Action::AskErasure] {
            assert!(!at(ServiceLevel::Emergency, Basis::Grant, action), "{action:?}");
            assert!(at(ServiceLevel::Reads, Basis::Grant, action), "{action:?}");
        }
        for action in [Action::Put, Action::Grant, Action::Enrol, Action::Stage, Action::StopErasure, Action::Link] {
            assert!(!at(ServiceLevel::Reads, Basis::Own, action), "{action:?}");
            assert!(at(ServiceLevel::Writes, Basis::Own, action), "{action:?}");
        }
        for action in [Action::Emergency, Action::Get, Action::List] {
            assert!(!at(ServiceLevel::Closed, Basis::Emergency, action), "{action:?}");
            assert!(at(ServiceLevel::Emergency, Basis::Emergency, action), "{action:?}");
        }
        assert!(at(ServiceLevel::Closed, Basis::Registrar, Action::Member));
    }
}
