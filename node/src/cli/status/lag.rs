//! How far backup and archive are behind: in words, for programs, and as an exit code.

use std::time::Duration;

use kura_client::wire;
use kura_proto::point::{KNOWN, NONE};
use serde::Serialize;

use super::UNKNOWN;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::bytes;

/// A replication or archive point. Whatever is not known is `None`, and `why` says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    state: &'static str,
    member: Option<String>,
    index: Option<u64>,
    entries_behind: Option<u64>,
    bytes_behind: Option<u64>,
    milliseconds_behind: Option<u64>,
    seconds_behind: Option<u64>,
    why: Option<String>,
}

impl Point {
    /// How far the best backup is.
    pub fn replication(reply: &wire::StatusReply) -> Self {
        let point = reply.replication_point.clone().unwrap_or_default();
        let behind = [point.entries_behind, point.bytes_behind, point.milliseconds_behind, point.seconds_behind];
        Self::new(point.state, "no-backup", point.member, point.index, behind, point.why)
    }

    /// How far the best archive is.
    pub fn archive(reply: &wire::StatusReply) -> Self {
        let point = reply.archive_point.clone().unwrap_or_default();
        let behind = [point.entries_behind, point.bytes_behind, point.milliseconds_behind, point.seconds_behind];
        Self::new(point.state, "no-archive", point.member, point.index, behind, point.why)
    }

    fn new(state: u32, none: &'static str, member: String, index: u64, behind: [u64; 4], why: String) -> Self {
        let known = |value: u64| (state == KNOWN).then_some(value);
        Self {
            state: match state {
                KNOWN => "known",
                NONE => none,
                _ => "unknown",
            },
            // Where it is may be known while nobody knows where the log ends.
            index: (!member.is_empty()).then_some(index),
            member: Some(member).filter(|member| !member.is_empty()),
            entries_behind: known(behind[0]),
            bytes_behind: known(behind[1]),
            milliseconds_behind: known(behind[2]),
            seconds_behind: known(behind[3]),
            why: match state {
                KNOWN => None,
                NONE => Some(format!("there is {}", none.replace('-', " "))),
                _ if why.is_empty() => Some("the member that was asked does not say".into()),
                _ => Some(why),
            },
        }
    }

    /// As people read it.
    pub fn in_words(&self, what: &str) -> String {
        match (self.index, self.entries_behind, self.bytes_behind, self.seconds_behind) {
            (Some(index), Some(entries), Some(size), Some(seconds)) => {
                let member = self.member.as_deref().unwrap_or(what);
                format!("index {index}, {entries} entries, {}, {seconds} s behind; {member}", bytes(size))
            }
            _ if self.state == "unknown" => {
                let at = match (&self.member, self.index) {
                    (Some(member), Some(index)) => format!("; {member} is at index {index}"),
                    _ => String::new(),
                };
                format!("{UNKNOWN}: {}{at}", self.why.as_deref().unwrap_or_default())
            }
            _ => format!("no {what}"),
        }
    }

    /// Why this is not within the limit.
    fn beyond(&self, what: &str, limit: Duration) -> Option<String> {
        let Some(milliseconds) = self.milliseconds_behind else {
            let word = if self.state == "unknown" { format!("{UNKNOWN}: ") } else { String::new() };
            return Some(format!("{what}: {word}{}", self.why.as_deref().unwrap_or_default()));
        };
        let behind = Duration::from_millis(milliseconds);
        (behind > limit).then(|| format!("{what}: {behind:?} behind, more than {limit:?}"))
    }
}

/// Ends with [`Exit::Behind`] if one of them is beyond its limit.
pub fn judge(reply: &wire::StatusReply, lag: Option<Duration>, archive: Option<Duration>) -> Result<(), Failure> {
    let found = [
        lag.and_then(|limit| Point::replication(reply).beyond("replication point", limit)),
        archive.and_then(|limit| Point::archive(reply).beyond("archive point", limit)),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Behind, found.join("; "))
        .next("see TROUBLE and ALARM of `kura status`, then the log of the backup"))
}

/// A time as people write it: 500ms, 30s, 5m, 2h.
///
/// # Errors
/// Anything else.
pub fn time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(format!("{text:?} is not a time as 500ms, 30s, 5m or 2h")),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    milliseconds.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is not a time as 500ms, 30s, 5m or 2h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(state: u32, milliseconds_behind: u64, why: &str) -> wire::StatusReply {
        wire::StatusReply {
            replication_point: Some(wire::ReplicationPoint {
                state,
                index: 7,
                milliseconds_behind,
                seconds_behind: milliseconds_behind.div_ceil(1000),
                why: why.into(),
                member: if state == NONE { String::new() } else { "backup-1".into() },
                ..wire::ReplicationPoint::default()
            }),
            ..wire::StatusReply::default()
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!((time("5m"), time("2h")), (Ok(Duration::from_secs(300)), Ok(Duration::from_secs(7200))));
        for wrong in ["", "30", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_behind_unknown_or_not_there_fails() {
        let limit = Some(Duration::from_secs(30));
        let judged = |reply: &wire::StatusReply| judge(reply, limit, None).map_err(|failure| failure.exit);
        assert_eq!(judged(&reply(KNOWN, 30_000, "")), Ok(()));
        assert_eq!(judged(&reply(KNOWN, 30_001, "")), Err(Exit::Behind));
        assert_eq!(judged(&reply(2, 0, "no backup answers")), Err(Exit::Behind));
        assert_eq!(judged(&reply(NONE, 0, "")), Err(Exit::Behind));
        assert_eq!(judge(&reply(2, 0, ""), None, None).map_err(|failure| failure.exit), Ok(()));
        assert!(judge(&reply(KNOWN, 0, ""), None, limit).is_err(), "the archive is asked for apart");
    }

    #[test]
    fn an_unknown_is_null_with_a_reason() {
        let told = serde_json::to_value(Point::replication(&reply(2, 5000, "no leader"))).unwrap();
        assert_eq!((&told["state"], &told["why"]), (&"unknown".into(), &"no leader".into()));
        assert!(told["seconds_behind"].is_null() && told["bytes_behind"].is_null() && told["entries_behind"].is_null());
        let told = Point::replication(&reply(2, 5000, "no leader")).in_words("backup");
        assert_eq!(told, "UNKNOWN: no leader; backup-1 is at index 7");
        let known = Point::replication(&reply(KNOWN, 1001, ""));
        assert_eq!(known.in_words("backup"), "index 7, 0 entries, 0 B, 2 s behind; backup-1");
        assert!(serde_json::to_value(known).unwrap()["why"].is_null());
        assert_eq!(Point::replication(&reply(NONE, 0, "")).in_words("backup"), "no backup");
    }
}
