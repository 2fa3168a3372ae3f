//! Approvals by an operator and a registrar outside acts: of members, of rotations, of shares. They are two people,
//! and what one of them has approved counts as long as an act waits.
//!
//! Invariant: two certificates for one key are one person, whatever names and offices they bear; an approval that does
//! not say whose key it came with is nobody's.

use kura_cluster::consent::{Denial, approval_counts, is_same_person};
use kura_cluster::row::Approval;

use super::attempt::Attempt;
use super::{Caller, GatewayError};

/// Which approvals count at one moment.
pub(super) struct Approvals {
    timeline: u64,
    now_ms: u64,
    act_ms: u64,
}

impl Approvals {
    /// As of an attempt; the table of settings is expected whole.
    pub fn of(attempt: &mut Attempt<'_>) -> Result<Approvals, GatewayError> {
        let act_ms = attempt.settings()?.act_ms;
        Ok(Approvals { timeline: attempt.timeline(), now_ms: attempt.now_ms, act_ms })
    }

    /// The caller's, given now.
    pub fn given(&self, caller: &Caller) -> Approval {
        Approval { by: Some(caller.journalled()), at_ms: self.now_ms, timeline: self.timeline }
    }

    /// Whether it counts.
    pub fn count(&self, approval: Option<&Approval>) -> bool {
        approval_counts(approval, self.timeline, self.now_ms, self.act_ms)
    }

    /// Takes the name and the approval away unless it counts.
    pub fn keep(&self, name: &mut String, approval: &mut Option<Approval>) {
        if !self.count(approval.as_ref()) {
            name.clear();
            *approval = None;
        }
    }
}

/// Refuses whoever has given the other approval.
pub(super) fn check_other(caller: &Caller, other: Option<&Approval>) -> Result<(), Denial> {
    let other = other.and_then(|approval| approval.by.as_ref());
    match other.is_some_and(|by| is_same_person(by, &caller.journalled())) {
        true => Err(Denial::SamePerson),
        false => Ok(()),
    }
}
