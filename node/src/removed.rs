//! That a node is no member any more: what it knows of it, and the note of it in its data directory.
//!
//! Invariants
//! - Only a later membership that has the node again ends it.
//! - A node that joined and was not added yet is none that was removed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::raft::marks::sync_directory;
use crate::raft::types::{NodeId, StoredMembership};
use crate::vault::remove_if_there;

/// Name of the note.
const FILE: &str = "removed";

/// That this node is no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Since when it knows, in milliseconds since 1970.
    pub since_ms: u64,
    /// Log index of the membership that lacks it.
    pub index: u64,
}

impl Removed {
    /// What was noted under a data directory.
    ///
    /// # Errors
    /// What the system says, and a note in another form than two decimal numbers.
    pub fn read(data: &Path) -> io::Result<Option<Removed>> {
        let text = match std::fs::read_to_string(data.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(since_ms)), Some(Ok(index)), None) => Ok(Some(Removed { since_ms, index })),
            _ => Err(io::Error::other("it is not in a known form")),
        }
    }

    /// Notes it durably.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(self, data: &Path) -> io::Result<()> {
        let path = data.join(FILE);
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        writeln!(file, "{} {}", self.since_ms, self.index)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        sync_directory(&path)
    }

    /// Removes the note.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(data: &Path) -> io::Result<()> {
        remove_if_there(&data.join(FILE))
    }
}

/// What the newest membership that a node knows says of it, if it `was_member` since it started, and knew so much `before`.
pub fn judge(
    me: NodeId,
    newest: &StoredMembership,
    was_member: bool,
    before: Option<Removed>,
    now_ms: u64,
) -> Option<Removed> {
    let index = newest.log_id().as_ref().map_or(0, |id| id.index);
    match newest.membership().get_node(&me) {
        // An older one than that which lacks it.
        Some(_) => before.filter(|removed| removed.index >= index),
        None => before.or(was_member.then_some(Removed { since_ms: now_ms, index })),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::types::{Member, Membership, log_id};

    fn membership(index: u64, ids: &[NodeId]) -> StoredMembership {
        let members: BTreeMap<NodeId, Member> = ids.iter().map(|id| (*id, Member::default())).collect();
        let voters = BTreeSet::from_iter(ids.iter().copied());
        StoredMembership::new(Some(log_id(1, index)), Membership::new(vec![voters], members).unwrap())
    }

    #[test]
    fn who_was_a_member_and_is_none_was_removed_until_a_later_membership_has_it_again() {
        let judged = |index, ids: &[NodeId], was, before| judge(3, &membership(index, ids), was, before, 99);
        let removed = Removed { since_ms: 99, index: 20 };
        assert_eq!(judged(20, &[1, 2, 3], true, None), None);
        assert_eq!(judged(20, &[1, 2], true, None), Some(removed));
        assert_eq!(judged(20, &[1, 2], false, None), None, "it joined, and was not added yet");
        assert_eq!(judged(25, &[1, 2], false, Some(removed)), Some(removed), "since when stays");
        assert_eq!(judged(10, &[1, 2, 3], true, Some(removed)), Some(removed), "its own log's, which is older");
        assert_eq!(judged(21, &[1, 2, 3], true, Some(removed)), None, "it was added again");
    }

    #[test]
    fn the_note_outlives_a_restart_and_a_damaged_one_is_told() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Removed::read(data.path()).unwrap(), None);
        let removed = Removed { since_ms: 5, index: 7 };
        removed.write(data.path()).unwrap();
        assert_eq!(Removed::read(data.path()).unwrap(), Some(removed));
        for damaged in ["", "5", "5 x", "5 7 9"] {
            std::fs::write(data.path().join(FILE), damaged).unwrap();
            Removed::read(data.path()).unwrap_err();
        }
    }
}
