//! What a check found last, as a file beside the data; when the next one is due, and when one is overdue. For checks of
//! this member's files ([`super::scrub`]) and of the archive that it writes ([`super::archive_check`]).
//!
//! Invariants
//! - Whatever the wall clock did, a check is never put off for longer than the interval: what ended in the future
//!   did not end then.
//! - How long nothing was found whole counts beyond restarts, and while a check hangs.

use std::fs;
use std::io;
use std::path::Path;

use kura_proto::v1;
use prost::Message;

use crate::clock;

/// `result` of a check that found everything whole.
pub(super) const WHOLE: u32 = 1;
/// `result` of one that found something else.
pub(super) const FOUND_DAMAGE: u32 = 2;
/// `result` of one that was not carried through.
pub(super) const NOT_ENDED: u32 = 3;

const FORMAT: u32 = 1;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// After a check that could not be carried through.
const PAUSE_MS: u64 = 10 * 60 * 1000;
/// So many intervals without a check that found everything whole are an alarm: one may fall into a time when a
/// member is down, and a second one be cut.
const OVERDUE_INTERVALS: u64 = 3;

/// The last result as it is kept.
#[derive(Clone, PartialEq, Message)]
struct ResultFile {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    ended_ms: u64,
    #[prost(uint32, tag = "3")]
    result: u32,
    #[prost(string, tag = "4")]
    words: String,
    #[prost(uint64, tag = "5")]
    index: u64,
    #[prost(uint64, tag = "6")]
    bytes: u64,
    #[prost(uint64, tag = "7")]
    unchecked_since_ms: u64,
}

/// Reads a result; none if it is in another form.
pub(crate) fn decode(bytes: &[u8]) -> Option<v1::Scrub> {
    let kept = ResultFile::decode(bytes).ok().filter(|kept| kept.format == FORMAT)?;
    let ResultFile { ended_ms, result, words, index, bytes, unchecked_since_ms, .. } = kept;
    Some(v1::Scrub { ended_ms, result, words, index, bytes, unchecked_since_ms, ..v1::Scrub::default() })
}

/// As the last check left it; a file in another form counts as none. What there was no word of before begins now.
pub(super) fn read(path: &Path) -> v1::Scrub {
    let mut told = fs::read(path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
    if told.unchecked_since_ms == 0 {
        // Builds before this field told of the last check alone.
        told.unchecked_since_ms = if told.result == WHOLE { told.ended_ms } else { clock::now_ms() };
        // Restarts must not put off that a check is overdue.
        keep(path, &told);
    }
    told
}

/// A result in the form in which it is kept.
pub(super) fn encode(told: &v1::Scrub) -> Vec<u8> {
    let v1::Scrub { ended_ms, result, index, bytes, unchecked_since_ms, .. } = *told;
    let words = told.words.clone();
    ResultFile { format: FORMAT, ended_ms, result, words, index, bytes, unchecked_since_ms }.encode_to_vec()
}

/// Keeps a result beyond restarts.
pub(super) fn keep(path: &Path, told: &v1::Scrub) {
    if let Err(error) = write(path, &encode(told)) {
        tracing::warn!(%error, "the result of a check could not be kept");
    }
}

/// Written aside, synced, renamed, the directory synced.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = fs::File::create(&aside)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// The result after a check ended now.
pub(super) fn ended(before: &v1::Scrub, result: u32, words: String, index: u64, bytes: u64) -> v1::Scrub {
    let ended_ms = clock::now_ms();
    let unchecked_since_ms = if result == WHOLE { ended_ms } else { before.unchecked_since_ms };
    v1::Scrub { ended_ms, result, words, index, bytes, unchecked_since_ms, ..v1::Scrub::default() }
}

/// Whether the next check is due.
pub(super) fn is_due(last: &v1::Scrub, every_hours: u64, now_ms: u64) -> bool {
    let wait_ms = match last.result {
        WHOLE | FOUND_DAMAGE => every_hours.saturating_mul(HOUR_MS),
        _ => PAUSE_MS,
    };
    // In the future: the clock was ahead when it ended, and was set right since.
    last.ended_ms > now_ms || now_ms - last.ended_ms >= wait_ms
}

/// What is checked, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// As words begin with.
    pub what: &'static str,
    /// The setting.
    pub setting: &'static str,
    /// Its value.
    pub every_hours: u64,
    /// What people may do.
    pub next: &'static str,
}

impl Rule {
    /// Why a check is overdue, in words; none if it is not. Damage that was found is told anyway.
    fn overdue(&self, told: &v1::Scrub, now_ms: u64) -> Option<String> {
        let limit_hours = self.every_hours.saturating_mul(OVERDUE_INTERVALS);
        let since_ms = told.unchecked_since_ms;
        if told.result == FOUND_DAMAGE || now_ms.saturating_sub(since_ms) <= limit_hours.saturating_mul(HOUR_MS) {
            return None;
        }
        let why = match told {
            v1::Scrub { running: true, waiting: true, .. } => "it waits until no other member is being checked".into(),
            v1::Scrub { running: true, bytes_done, .. } => {
                format!("a check is under way, at {bytes_done} bytes; if that stands still, restart the member")
            }
            v1::Scrub { result: NOT_ENDED, words, .. } => format!("the last check was not carried through: {words}"),
            _ => self.next.into(),
        };
        Some(format!(
            "{} not found whole since {}, more than {limit_hours} h ago ({OVERDUE_INTERVALS} times `{}`): {why}",
            self.what,
            clock::in_japan(since_ms),
            self.setting
        ))
    }

    /// Says whether a check is overdue.
    pub(super) fn judge(&self, path: &Path, told: &mut v1::Scrub, now_ms: u64) {
        if told.unchecked_since_ms > now_ms {
            told.unchecked_since_ms = now_ms;
            keep(path, told);
        }
        let words = self.overdue(told, now_ms).unwrap_or_default();
        if told.overdue.is_empty() && !words.is_empty() {
            tracing::error!("a check is overdue: {words}");
        }
        told.overdue = words;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK_HOURS: u64 = 168;
    const WEEK_MS: u64 = WEEK_HOURS * HOUR_MS;
    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn a_check_is_due_after_its_interval_and_at_once_if_it_ended_in_the_future() {
        for (result, wait_ms) in [(WHOLE, WEEK_MS), (FOUND_DAMAGE, WEEK_MS), (NOT_ENDED, PAUSE_MS), (0, PAUSE_MS)] {
            let last = |ended_ms| v1::Scrub { result, ended_ms, ..v1::Scrub::default() };
            let due = |ended_ms| is_due(&last(ended_ms), WEEK_HOURS, NOW_MS);
            assert!(due(NOW_MS - wait_ms) && !due(NOW_MS - wait_ms + 1) && !due(NOW_MS), "{result}");
            assert!(due(NOW_MS + 1) && due(NOW_MS + 10 * WEEK_MS) && due(0), "{result}");
        }
    }

    #[test]
    fn three_weeks_without_a_whole_check_are_an_alarm_beyond_restarts_leaps_and_hanging_checks() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("scrub");
        let rule = Rule { what: "its files were", setting: "scrub.every_hours", every_hours: WEEK_HOURS, next: "" };
        let judge = |told: &mut v1::Scrub, now_ms| {
            rule.judge(&path, told, now_ms);
            told.overdue.clone()
        };
        let mut told = read(&path);
        let begun_ms = told.unchecked_since_ms;
        assert_eq!(judge(&mut told, begun_ms + 3 * WEEK_MS), "");
        let late_ms = begun_ms + 3 * WEEK_MS + 1;
        let mut told = ended(&told, NOT_ENDED, "too little space is free".into(), 0, 0);
        keep(&path, &told);
        for told in [&mut told, &mut read(&path)] {
            let words = judge(told, late_ms);
            assert!(words.contains("504 h") && words.contains("too little space"), "{words}");
        }
        // One that hangs is no check.
        let mut hangs = v1::Scrub { running: true, bytes_done: 7, ..told.clone() };
        assert!(judge(&mut hangs, late_ms).contains("at 7 bytes"));
        let mut whole = ended(&told, WHOLE, String::new(), 9, 9);
        keep(&path, &whole);
        assert_eq!(judge(&mut whole, late_ms), "");
        // The clock was ahead then: it counts from now, and no longer.
        let past_ms = begun_ms - 9 * WEEK_MS;
        assert_eq!(judge(&mut whole, past_ms), "");
        let mut again = read(&path);
        assert_eq!(again.unchecked_since_ms, past_ms);
        assert!(!judge(&mut again, past_ms + 3 * WEEK_MS + 1).is_empty());
        // Damage has an alarm of its own.
        let mut damaged = ended(&again, FOUND_DAMAGE, "000012.blob".into(), 0, 0);
        assert_eq!(judge(&mut damaged, past_ms + 9 * WEEK_MS), "");
    }
}
