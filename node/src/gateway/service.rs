//! What a recovered cluster serves, step by step: nothing, emergencies, reads, everything.
//!
//! Invariants
//! - It only widens, one step at a time, by recovery staff, journalled. So a gateway that has not yet applied the
//!   last step serves less than another, never more.
//! - Offices (members, keys, the registry, the journal) are served always: they are what a recovery needs. What an
//!   office does about one participant waits like anybody's, unless it keeps what is there from being destroyed.
//! - Whether something is served is told by what is asked alone, before anything of a participant is loaded: the
//!   refusal is the same for everybody, enrolled or not. So it is not journalled: nothing was decided.

use std::sync::{Mutex, PoisonError};

use kura_cluster::Revision;
use kura_cluster::consent::{Basis, Denial};
use kura_cluster::row::{ReceiptRow, RowKey, ServiceRow, Table};
use kura_cluster::word::{Action, ServiceLevel};
use prost::Message;

use super::attempt::broken;
use super::caller::StatedActor;
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

/// What a call does, as far as it decides at which level it is served.
#[derive(Debug, Clone, Copy)]
pub struct Doing {
    /// As the journal will have it.
    pub action: Action,
    /// Whether it states an emergency; whether there is such a one is decided later.
    pub in_emergency: bool,
    /// Whether what it registers can only take something away: it is not active.
    pub registers_inactive: bool,
}

impl From<Action> for Doing {
    fn from(action: Action) -> Doing {
        Doing { action, in_emergency: false, registers_inactive: false }
    }
}

impl Doing {
    /// A look at records, perhaps under an emergency.
    pub fn look<T>(action: Action, episode: Option<&T>) -> Doing {
        Doing { in_emergency: episode.is_some(), ..action.into() }
    }

    /// Whether it is done below the low-water mark of free space, though it writes more than a journal entry: what people
    /// take away or stop must not wait for a disk, nor an emergency. Each is small.
    pub fn passes_low_space(self) -> bool {
        use Action::*;
        let takes_away = matches!(self.action, Revoke | Withdraw | Hide | Narrow | Reject | EndDisaster);
        takes_away || matches!(self.action, Hold | StopErasure | Emergency) || self.registers_inactive
    }

    /// The level from which it is served, by an office or for an application's actor.
    fn needs(self, office: bool) -> ServiceLevel {
        use Action::*;
        match self.action {
            // What a recovery needs, and what looks after it.
            Init | Facility | User | Application | Setting | Member | Key | Recover | Open | Propose | Confirm
            | Reject | ListActs | Disaster | EndDisaster | Review | ListReviews | ListRegistry | ListJournal
            | Authenticate | Sweep | Erase | CertifyErasure | ShowErasure | ListErasures => ServiceLevel::Closed,
            // It keeps records from being destroyed, and only a registrar can.
            Hold => ServiceLevel::Closed,
            // So does this; a registrar may know what of it was lost with the prefecture.
            StopErasure if office => ServiceLevel::Closed,
            Emergency => ServiceLevel::Emergency,
            Get | GetSeveral | List | History if self.in_emergency => ServiceLevel::Emergency,
            Get | GetSeveral | List | History | ShowConsent | ListAccesses | FacilityAccesses | Inbox | ListGranted
            | Resolve | ResolveCard | ReverseResolve => ServiceLevel::Reads,
            // What restricts, or keeps from being destroyed, must not wait for writes.
            Revoke | Withdraw | Hide | Narrow | AskErasure | StopErasure => ServiceLevel::Reads,
            Enrol | Link | Relink | Grant | Put | Stage | Unhide | Card | Alias | Release | ApproveErasure => {
                ServiceLevel::Writes
            }
        }
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
    pub(super) fn check_service(&self, caller: &Caller, doing: Doing) -> Result<(), GatewayError> {
        let (level, needed) = (self.service_level()?, doing.needs(matches!(caller.actor, StatedActor::Office(_))));
        if needed.number() <= level.number() {
            return Ok(());
        }
        let served = match level {
            ServiceLevel::Closed => "nothing is",
            ServiceLevel::Emergency => "only emergencies are",
            _ => "only reads and what restricts are",
        };
        let why = format!("after a recovery this cluster is opened step by step; {served} served yet");
        Err(GatewayError::NotOpened { why })
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

    fn served(level: ServiceLevel, office: bool, doing: impl Into<Doing>) -> bool {
        doing.into().needs(office).number() <= level.number()
    }

    #[test]
    fn each_step_serves_what_it_says_and_restrictions_come_before_writes() {
        let at = |level, action: Action| served(level, false, action);
        for action in [Action::Get, Action::List, Action::Revoke, Action::Withdraw, Action::Hide, Action::Narrow] {
            assert!(!at(ServiceLevel::Emergency, action), "{action:?}");
            assert!(at(ServiceLevel::Reads, action), "{action:?}");
        }
        // What shows or adds waits for writes, though it is about a hiding or an erasure.
        for action in [Action::Put, Action::Grant, Action::Enrol, Action::Stage, Action::Link, Action::Unhide] {
            assert!(!at(ServiceLevel::Reads, action), "{action:?}");
            assert!(at(ServiceLevel::Writes, action), "{action:?}");
        }
        for action in [Action::Get, Action::List, Action::GetSeveral, Action::History] {
            let under = Doing::look(action, Some(&()));
            assert!(!served(ServiceLevel::Closed, false, under), "{action:?}");
            assert!(served(ServiceLevel::Emergency, false, under), "{action:?}");
        }
        assert!(!at(ServiceLevel::Closed, Action::Emergency) && at(ServiceLevel::Emergency, Action::Emergency));
        // An emergency is stated for looking at records, and opens nothing else.
        assert!(!served(ServiceLevel::Reads, false, Doing::look(Action::Put, Some(&()))));
    }

    #[test]
    fn offices_are_served_always_but_what_they_do_for_one_participant_waits() {
        let closed = |action: Action| served(ServiceLevel::Closed, true, action);
        for action in [Action::Member, Action::Key, Action::Confirm, Action::ListJournal, Action::Open] {
            assert!(closed(action), "{action:?}");
        }
        // They keep from being destroyed.
        assert!(closed(Action::Hold) && closed(Action::StopErasure));
        assert!(served(ServiceLevel::Reads, false, Action::StopErasure));
        assert!(!served(ServiceLevel::Emergency, false, Action::StopErasure));
        assert!(!closed(Action::AskErasure) && served(ServiceLevel::Reads, true, Action::AskErasure));
        for action in [Action::Release, Action::Card, Action::Alias, Action::ApproveErasure] {
            assert!(!served(ServiceLevel::Reads, true, action), "{action:?}");
        }
    }
}
