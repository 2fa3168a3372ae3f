//! How much the cluster bears: three voters, and a backup.
//!
//! Fewer may be meant, as on a machine for trying it out; so it is said, and no error.

use crate::gateway::GatewayError;
use crate::raft::types::{MemberRole, Membership, NodeId};

/// With fewer voters nothing is served as soon as one is down.
const VOTERS_LEAST: usize = 3;

/// Members that count: voters that vote, and backups.
fn count(membership: &Membership) -> (usize, usize) {
    let backups = membership.nodes().filter(|(_, member)| member.role == MemberRole::Backup);
    (membership.voter_ids().count(), backups.count())
}

fn few_voters(voters: usize) -> Option<String> {
    match voters {
        0 | VOTERS_LEAST.. => None,
        1 => Some("one voter only: nothing is served while it is down".into()),
        few => Some(format!("{few} voters only: nothing is served while one of them is down")),
    }
}

fn no_backup(backups: usize) -> Option<String> {
    (backups == 0).then(|| "no backup: no copy is kept outside of the prefecture".into())
}

/// Whether a member is a voter to be, that does not vote yet.
pub(super) fn is_being_added(membership: &Membership, id: NodeId) -> bool {
    let is_voter = membership.get_node(&id).is_some_and(|member| member.role == MemberRole::Voter);
    is_voter && !membership.voter_ids().any(|voter| voter == id)
}

/// In what a membership is weaker than it should be, and what to do; empty: in nothing.
pub(super) fn warnings(membership: &Membership) -> Vec<String> {
    let (voters, backups) = count(membership);
    if voters == 0 {
        // A node that was not added yet knows of nobody.
        return Vec::new();
    }
    let with = |words: Option<String>, role: &str| {
        words.map(|words| {
            format!("{words}. If that is not meant, add one: `kura member approve`, `kura member add-{role}`")
        })
    };
    [with(few_voters(voters), "voter"), with(no_backup(backups), "backup")].into_iter().flatten().collect()
}

/// Whether a member may be removed: what gets weaker by it has to be accepted.
///
/// # Errors
/// [`GatewayError::Invalid`] of `accept_fewer`.
pub(super) fn check_removal(membership: &Membership, id: NodeId, is_accepted: bool) -> Result<(), GatewayError> {
    let (voters, backups) = count(membership);
    let is_voter = membership.voter_ids().any(|voter| voter == id);
    let is_backup = membership.get_node(&id).is_some_and(|member| member.role == MemberRole::Backup);
    let left = match (is_voter, is_backup) {
        (true, _) => few_voters(voters.saturating_sub(1)),
        (false, true) => no_backup(backups.saturating_sub(1)),
        (false, false) => None,
    };
    match left {
        Some(words) if !is_accepted => Err(GatewayError::invalid(
            "accept_fewer",
            format!(
                "it would leave {words}. Nothing was changed; `kura member replace` brings another one in its place"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::types::Member;

    /// Voters 1 and up, a voter to be 8 that does not vote yet, backups 11 and up.
    fn membership(voters: u64, backups: u64) -> Membership {
        let of = |id, role| (id, Member { name: format!("m-{id}"), role, ..Member::default() });
        let ids = BTreeSet::from_iter(1..=voters);
        let all = ids.iter().map(|id| of(*id, MemberRole::Voter)).chain([of(8, MemberRole::Voter)]);
        let members: BTreeMap<NodeId, Member> =
            all.chain((0..backups).map(|nth| of(11 + nth, MemberRole::Backup))).collect();
        Membership::new(vec![ids], members).unwrap()
    }

    #[test]
    fn fewer_than_three_voters_and_no_backup_are_told() {
        assert!(warnings(&membership(3, 1)).is_empty());
        for (voters, backups, told) in
            [(2, 1, &["2 voters"][..]), (1, 0, &["one voter", "no backup"]), (3, 0, &["no backup"])]
        {
            let warned = warnings(&membership(voters, backups));
            assert_eq!(warned.len(), told.len(), "{warned:?}");
            told.iter().zip(&warned).for_each(|(part, warned)| assert!(warned.contains(part), "{warned}"));
        }
    }

    #[test]
    fn what_gets_weaker_by_a_removal_has_to_be_accepted() {
        let refused = |voters, backups, id| check_removal(&membership(voters, backups), id, false).is_err();
        assert!(refused(3, 1, 1) && refused(2, 1, 1) && refused(3, 1, 11));
        assert!(!refused(4, 0, 1), "it has no backup before, either");
        assert!(!refused(2, 2, 11), "one backup is left");
        assert!(!refused(2, 0, 8), "it does not vote yet");
        for id in [1, 11] {
            check_removal(&membership(3, 1), id, true).unwrap();
        }
    }
}
