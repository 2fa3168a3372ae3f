//! A member's last check of its own files, and of the archive that it writes, in words and for programs.

use kura_client::{now_ms, wire};
use serde::Serialize;

use super::UNKNOWN;
use crate::cli::output::bytes;
use crate::serve::archive_check::OFF;

/// `result` of a check that found damage.
pub(in crate::cli) const DAMAGED: u32 = 2;

const HOUR_MS: u64 = 60 * 60 * 1000;

/// The check for programs.
#[derive(Debug, Serialize)]
pub struct Scrub {
    running: bool,
    /// It has not begun: another member is being checked.
    waiting: bool,
    bytes_done: u64,
    bytes_total: u64,
    /// `whole`, `damaged`, `not-ended`; null before the first. Of an archive also `off`.
    result: Option<&'static str>,
    ended_ms: Option<u64>,
    index: Option<u64>,
    words: Option<String>,
    /// Why the member goes on in spite of damage.
    goes_on_because: Option<String>,
    /// When everything was last found whole, or, before the first such check, when the member first started.
    unchecked_since_ms: Option<u64>,
    /// Why that is too long ago.
    overdue: Option<String>,
}

impl From<&wire::Scrub> for Scrub {
    fn from(scrub: &wire::Scrub) -> Self {
        let ended = scrub.ended_ms > 0;
        Self {
            running: scrub.running,
            waiting: scrub.waiting,
            bytes_done: scrub.bytes_done,
            bytes_total: scrub.bytes_total,
            result: word(scrub.result),
            ended_ms: ended.then_some(scrub.ended_ms),
            index: ended.then_some(scrub.index),
            words: Some(scrub.words.clone()).filter(|words| !words.is_empty()),
            goes_on_because: Some(scrub.goes_on_because.clone()).filter(|why| !why.is_empty()),
            unchecked_since_ms: Some(scrub.unchecked_since_ms).filter(|since_ms| *since_ms > 0),
            overdue: Some(scrub.overdue.clone()).filter(|why| !why.is_empty()),
        }
    }
}

fn word(result: u32) -> Option<&'static str> {
    match result {
        1 => Some("whole"),
        DAMAGED => Some("damaged"),
        3 => Some("not-ended"),
        OFF => Some("off"),
        _ => None,
    }
}

/// As people read it: what the last check found and when, and how far one is that is under way.
pub fn in_words(scrub: Option<&wire::Scrub>) -> String {
    let Some(scrub) = scrub else { return UNKNOWN.into() };
    let last = match scrub.result {
        1 => match &scrub.words[..] {
            "" => format!("whole {}", ago(now_ms().saturating_sub(scrub.ended_ms))),
            words => format!("whole {}; {words}", ago(now_ms().saturating_sub(scrub.ended_ms))),
        },
        DAMAGED => format!("DAMAGED: {}", scrub.words),
        3 => format!("not checked: {}", scrub.words),
        OFF => "checks are off".into(),
        _ => "not checked yet".into(),
    };
    let last = if scrub.overdue.is_empty() { last } else { format!("OVERDUE, {last}") };
    match scrub.running {
        true if scrub.waiting => format!("{last}; waits until no other member is being checked"),
        true if scrub.bytes_total == 0 => format!("{last}; checking, {} read", bytes(scrub.bytes_done)),
        true => format!("{last}; checking, {} %", scrub.bytes_done * 100 / scrub.bytes_total.max(1)),
        false => last,
    }
}

fn ago(ms: u64) -> String {
    match ms / HOUR_MS {
        0 => format!("{} min ago", ms / 60_000),
        hours if hours < 48 => format!("{hours} h ago"),
        hours => format!("{} days ago", hours / 24),
    }
}
