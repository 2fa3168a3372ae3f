//! The registry: what one registrar may change alone, and what takes two.

use super::emergency::{is_open, names_facility};
use super::{Basis, Confirmation, Denial, Facts, Ground, Ruling, Settings};
use crate::row::{ActRow, ActorRow, Application, Approval, Facility, ReviewRow};
use crate::word::{AccessLine, ActState, ReviewState, Status};

/// A change of the registry or the settings.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Of a facility.
    Facility {
        /// As it is registered, if it is.
        before: Option<&'a Facility>,
        /// As it shall be.
        after: &'a Facility,
    },
    /// Of a facility's user.
    User,
    /// Of an application.
    Application {
        /// As it is registered, if it is.
        before: Option<&'a Application>,
        /// As it shall be.
        after: &'a Application,
    },
    /// Of the settings.
    Settings {
        /// As they are.
        before: &'a Settings,
        /// As they shall be.
        after: &'a Settings,
    },
    /// A disaster is declared, or a declared one replaced.
    Disaster,
    /// A duplicate enrolment becomes an alias.
    Alias,
}

impl Change<'_> {
    /// Whether it widens access for many, and so takes two registrars. Suspending and narrowing take one,
    /// and so does what concerns a single facility or user without emergencies. Whatever newly lets a facility open
    /// emergencies takes two, also if it is let in by a disaster that has been declared and is not over.
    fn needs_two(&self, facts: &Facts<'_>) -> bool {
        match self {
            Change::Facility { before, after } => {
                let disaster = facts.disaster.filter(|disaster| is_open(disaster, facts.now_ms));
                let named = |f: &Facility| disaster.is_some_and(|disaster| names_facility(disaster, f));
                let may = |f: &Facility| is_active(f.status) && (f.emergency || named(f));
                let flagged = after.emergency && !before.is_some_and(|b| b.emergency);
                flagged || (may(after) && !before.is_some_and(may))
            }
            Change::User => false,
            Change::Application { before: None, .. } => true,
            Change::Application { before: Some(before), after } => {
                let added = after.facilities.iter().any(|facility| !before.facilities.contains(facility));
                let line = after.access_line != before.access_line && after.access_line != AccessLine::SslVpn.number();
                let participants = after.participants && !before.participants;
                let back = is_active(after.status) && !is_active(before.status);
                added || line || participants || back
            }
            Change::Settings { before, after } => !before.covers(after),
            Change::Disaster | Change::Alias => true,
        }
    }
}

fn is_active(status: u32) -> bool {
    status == Status::Active.number()
}

/// Whether two actors are one person: the same name at the same place, the same credential, or the same
/// key. Nobody becomes a second person by a second certificate of the same name, or under another name with the same
/// key.
pub fn is_same_person(one: &ActorRow, other: &ActorRow) -> bool {
    let name = (one.kind, &one.facility, &one.name) == (other.kind, &other.facility, &other.name);
    let credential = !one.credential_sha256.is_empty() && one.credential_sha256 == other.credential_sha256;
    let key = !one.key_sha256.is_empty() && one.key_sha256 == other.key_sha256;
    name || credential || key
}

/// Whether an approval of one of two people still counts: on the timeline on which it was given, for as long as an act
/// waits, and only if it says whose key it came with. Without that nobody is known to be another person.
pub fn approval_counts(approval: Option<&Approval>, timeline: u64, now_ms: u64, act_ms: u64) -> bool {
    approval.is_some_and(|approval| {
        let has_key = approval.by.as_ref().is_some_and(|by| !by.key_sha256.is_empty());
        has_key && approval.timeline == timeline && now_ms < approval.at_ms.saturating_add(act_ms)
    })
}

/// A change by one registrar.
pub fn register(facts: &Facts<'_>, change: &Change<'_>) -> Result<(), Denial> {
    if change.needs_two(facts) { Err(Denial::SecondRegistrar) } else { Ok(()) }
}

/// The second registrar: another person, in time, on what was proposed and on what it was proposed for.
pub fn confirm(facts: &Facts<'_>, Confirmation { act, base, payload_sha256 }: Confirmation<'_>) -> Ruling {
    let act = proposed(act)?;
    if facts.now_ms >= act.expires_ms {
        return Err(Denial::ActExpired);
    }
    // An act without its proposer is damaged: nobody is then known to be another person.
    if act.proposed_by.as_ref().is_none_or(|by| is_same_person(by, facts.person)) {
        return Err(Denial::SamePerson);
    }
    if (base.timeline, base.index) != (act.base_timeline, act.base_index) || act.payload_sha256 != payload_sha256 {
        return Err(Denial::ActStale);
    }
    Ok(Ground { basis: Basis::Registrar, valid_until_ms: act.expires_ms })
}

/// Rejects an act, or takes it back: any registrar, at any time before it is closed.
pub fn reject(act: Option<&ActRow>) -> Result<(), Denial> {
    proposed(act).map(|_| ())
}

fn proposed(act: Option<&ActRow>) -> Result<&ActRow, Denial> {
    let act = act.ok_or(Denial::ActUnknown)?;
    if act.state == ActState::Proposed.number() { Ok(act) } else { Err(Denial::ActClosed) }
}

/// A verdict is given once.
pub fn review(review: Option<&ReviewRow>) -> Result<(), Denial> {
    match review.is_some_and(|review| review.state == ReviewState::Open.number()) {
        true => Ok(()),
        false => Err(Denial::ReviewState),
    }
}
