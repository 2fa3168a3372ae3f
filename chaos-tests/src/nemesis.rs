//! Faults: which kinds there are, what each needs of the system, and when which comes.
//!
//! Invariants
//! - What happens when follows from the seed alone; to whom, from the seed and from who leads.
//! - A fault is recorded as installed, skipped or indeterminate, and never just left out.
//! - Nothing stored is damaged on more than one voter at a time, and the next is damaged only after the
//!   member was replaced.

pub mod act;
pub mod damage;
mod members;
mod moments;
pub mod plan;
mod restored;
mod setting;
mod short;
mod undo;

use crate::history::NotRun;
use crate::site::tool;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL of the leader.
    KillLeader,
    /// SIGKILL of a voter that does not lead.
    KillFollower,
    /// SIGKILL of a backup.
    KillBackup,
    /// SIGKILL of all members at once.
    KillAll,
    /// SIGSTOP of the leader past the election timeout, then SIGCONT.
    PauseLeader,
    /// The same to a voter that does not lead.
    PauseFollower,
    /// The leader's cable is pulled.
    IsolateLeader,
    /// The leader reaches clients, but no member.
    CutLeader,
    /// The leader is heard, but hears no member.
    DeafLeader,
    /// The leader hears everybody, but no member hears it.
    MuteLeader,
    /// A voter that only one peer reaches.
    OnePeer,
    /// The leader's cable goes in and out.
    Flapping,
    /// Members are cut off one after the other, and come back in another order.
    Swizzle,
    /// Every member loses three of ten packets.
    Lossy,
    /// The leader sends at 1 Mbit/s.
    Slow,
    /// The backup is cut off until the others have purged what it needs.
    BackupFar,
    /// A voter's wall clock is an hour ahead.
    Clock,
    /// The leader's disk is full.
    FullLeader,
    /// That of another voter.
    FullFollower,
    /// That of a backup.
    FullBackup,
    /// A voter's syncs fail.
    SyncError,
    /// A voter's syncs take 300 ms each.
    SlowSync,
    /// The leader's file system stands still: every write to it waits.
    FreezeLeader,
    /// A power cut at the leader.
    PowerCutLeader,
    /// A power cut at all voters at once.
    PowerCutVoters,
    /// A bit of a stopped voter's log is flipped.
    FlipLog,
    /// A stopped voter's log loses its end.
    CutLog,
    /// A bit of a stopped voter's state is flipped.
    FlipState,
    /// A voter comes back with an old copy of its data, while another is down.
    OldCopy,
    /// Leadership is handed over.
    HandOver,
    /// A certificate is renewed.
    Renew,
    /// Every member is stopped in order and started again, one after the other, the leader last.
    Rolling,
    /// The leader, which is well, is replaced by a new voter.
    ReplaceLeader,
    /// A voter's writes beyond a length of a file are short, and then fail.
    ShortWrite,
    /// A backup that takes a full transfer is cut in the middle of it, or whoever sends it is.
    InstallCut,
    /// A power cut at a voter while the files of its log change: a purge, or a new file.
    PurgeCut,
    /// A power cut at a voter that takes a snapshot.
    SnapshotCut,
    /// A fourth voter comes, and one of the four goes.
    AddVoter,
    /// A voter goes, and another comes.
    RemoveVoter,
    /// A second backup comes, and one of the two goes.
    AddBackup,
    /// The backup goes, and another comes.
    RemoveBackup,
    /// A restore from the archive, which grows meanwhile, is cut again and again, and then comes to its end.
    RestoreCut,
    /// Members go over from the previous release's binary to this one, one after the other, the leader last.
    Upgrade,
}

/// What a kind does, and with what.
struct Row {
    kind: Kind,
    word: &'static str,
    /// Whether another fault may overlap with it.
    overlaps: bool,
    tools: &'static [&'static str],
}

const fn row(kind: Kind, word: &'static str, overlaps: bool, tools: &'static [&'static str]) -> Row {
    Row { kind, word, overlaps, tools }
}

const TABLE: [Row; 43] = [
    row(Kind::KillLeader, "kill-leader", true, &[]),
    row(Kind::KillFollower, "kill-follower", true, &[]),
    row(Kind::KillBackup, "kill-backup", true, &[]),
    row(Kind::KillAll, "kill-all", false, &[]),
    row(Kind::PauseLeader, "pause-leader", true, &[]),
    row(Kind::PauseFollower, "pause-follower", true, &[]),
    row(Kind::IsolateLeader, "isolate-leader", true, &[]),
    row(Kind::CutLeader, "cut-leader", true, &["nft"]),
    row(Kind::DeafLeader, "deaf-leader", true, &["nft"]),
    row(Kind::MuteLeader, "mute-leader", true, &["nft"]),
    row(Kind::OnePeer, "one-peer", true, &["nft"]),
    row(Kind::Flapping, "flapping", true, &[]),
    row(Kind::Swizzle, "swizzle", false, &[]),
    row(Kind::Lossy, "lossy", true, &["nft"]),
    row(Kind::Slow, "slow", true, &["tc"]),
    row(Kind::BackupFar, "backup-far", false, &[]),
    row(Kind::Clock, "clock", true, &[]),
    row(Kind::FullLeader, "full-leader", true, &[]),
    row(Kind::FullFollower, "full-follower", true, &[]),
    row(Kind::FullBackup, "full-backup", true, &[]),
    row(Kind::SyncError, "sync-error", true, &["strace"]),
    row(Kind::SlowSync, "slow-sync", true, &["strace"]),
    row(Kind::FreezeLeader, "freeze-leader", true, &["fsfreeze"]),
    row(Kind::PowerCutLeader, "power-cut-leader", true, &[]),
    row(Kind::PowerCutVoters, "power-cut-voters", false, &[]),
    row(Kind::FlipLog, "flip-log", false, &[]),
    row(Kind::CutLog, "cut-log", false, &[]),
    row(Kind::FlipState, "flip-state", false, &[]),
    row(Kind::OldCopy, "old-copy", false, &[]),
    row(Kind::HandOver, "hand-over", true, &[]),
    row(Kind::Renew, "renew", true, &[]),
    row(Kind::Rolling, "rolling", false, &[]),
    row(Kind::ReplaceLeader, "replace-leader", false, &[]),
    row(Kind::ShortWrite, "short-write", true, &["env"]),
    row(Kind::InstallCut, "install-cut", false, &["tc"]),
    row(Kind::PurgeCut, "purge-cut", false, &[]),
    row(Kind::SnapshotCut, "snapshot-cut", false, &[]),
    row(Kind::AddVoter, "add-voter", false, &[]),
    row(Kind::RemoveVoter, "remove-voter", false, &[]),
    row(Kind::AddBackup, "add-backup", false, &[]),
    row(Kind::RemoveBackup, "remove-backup", false, &[]),
    row(Kind::RestoreCut, "restore-cut", false, &[]),
    row(Kind::Upgrade, "upgrade", false, &[]),
];

/// What every cluster apart needs.
const GROUND: [&str; 8] = ["ip", "mount", "umount", "mkfs.ext4", "losetup", "nsenter", "unshare", "cp"];

impl Kind {
    fn row(self) -> &'static Row {
        // Every kind has its row: a test goes through them.
        TABLE.iter().find(|row| row.kind == self).unwrap_or(&TABLE[0])
    }

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.kind)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The kind of a word.
    pub fn of(word: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.word == word).map(|row| row.kind)
    }

    /// Whether another fault may overlap with it.
    pub fn overlaps(self) -> bool {
        self.row().overlaps
    }

    /// Whether every voter's process outlasts it, with all that it has in mind.
    pub fn spares_voters(self) -> bool {
        matches!(
            self,
            Self::KillBackup
                | Self::PauseLeader
                | Self::PauseFollower
                | Self::IsolateLeader
                | Self::CutLeader
                | Self::DeafLeader
                | Self::MuteLeader
                | Self::OnePeer
                | Self::Flapping
                | Self::Swizzle
                | Self::Lossy
                | Self::Slow
                | Self::BackupFar
                | Self::FullBackup
                | Self::SlowSync
                | Self::HandOver
                | Self::AddBackup
                | Self::RemoveBackup
                | Self::RestoreCut
        )
    }

    /// Whether it damages what a voter has stored, or ends the voter.
    pub fn damages(self) -> bool {
        matches!(
            self,
            Self::FlipLog | Self::CutLog | Self::FlipState | Self::OldCopy | Self::SyncError | Self::ShortWrite
        )
    }
}

/// Of these kinds, which cannot be set up here, and why. If nothing can, all of them. An upgrade takes a binary to
/// upgrade from.
pub fn not_run(kinds: &[Kind], previous: bool) -> Vec<NotRun> {
    let mut told = lacking(kinds, rustix::process::geteuid().is_root(), tool::is_there);
    let upgrade = Kind::Upgrade.word();
    if !previous && kinds.contains(&Kind::Upgrade) && told.iter().all(|not_run| not_run.kind != upgrade) {
        told.push(NotRun { kind: upgrade.into(), why: "--previous names no binary of an earlier release".into() });
    }
    told
}

fn lacking(kinds: &[Kind], root: bool, is_there: impl Fn(&str) -> bool) -> Vec<NotRun> {
    let mut ground: Vec<String> =
        GROUND.iter().filter(|tool| !is_there(tool)).map(|tool| format!("{tool} is missing")).collect();
    if !root {
        ground.push("namespaces and file systems need root".into());
    }
    let why = |kind: &Kind| {
        let tools = kind.row().tools.iter().filter(|tool| !is_there(tool)).map(|tool| format!("{tool} is missing"));
        ground.iter().cloned().chain(tools).collect::<Vec<_>>().join(", ")
    };
    let told = kinds.iter().map(|kind| NotRun { kind: kind.word().into(), why: why(kind) });
    told.filter(|not_run| !not_run.why.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_and_a_word_of_its_own() {
        let kinds: Vec<Kind> = Kind::all().collect();
        for kind in &kinds {
            assert_eq!(kind.row().kind, *kind);
            assert_eq!(Kind::of(kind.word()), Some(*kind));
        }
        assert_eq!(Kind::Upgrade as usize + 1, TABLE.len(), "a kind has no row");
        assert_eq!(Kind::of("rain"), None);
    }

    #[test]
    fn what_is_missing_is_told_and_nothing_else() {
        let kinds: Vec<Kind> = Kind::all().collect();
        assert_eq!(lacking(&kinds, true, |_| true), []);
        assert_eq!(lacking(&kinds, false, |_| true).len(), kinds.len());
        let told = lacking(&kinds, true, |tool| tool != "strace");
        let words: Vec<&str> = told.iter().map(|one| one.kind.as_str()).collect();
        assert_eq!(words, ["sync-error", "slow-sync"]);
        assert_eq!(told[0].why, "strace is missing");
    }
}
