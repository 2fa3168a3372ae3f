//! `kura status`: how the cluster is.
//!
//! Invariant: what is not known at this moment is UNKNOWN, and null with a reason in `--json`; never a number of
//! before.

mod json;
mod lag;
pub(super) mod scrub;
mod well;

use std::time::Duration;

use clap::Args;
use kura_client::operations::Operations;
use kura_client::{Client, Config, Endpoint, now_ms, wire};
use kura_cluster::hexadecimal;
use kura_proto::agreement::{DIFFERENT, EQUAL};
use kura_proto::point::{KNOWN, NONE};
use tokio::time::Instant;

use super::acting::ClientOption;
use super::exit::{Exit, Failure};
use super::given::address as address_of;
use super::output::{Output, Progress, bytes, moment, note, short, table};
use crate::clock::in_japan;

use json::{Member, Told};

/// Time between two looks while waiting.
const LOOK: Duration = Duration::from_millis(300);

/// Longest look at a cluster that does not answer.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A look with less time than this would not be answered.
const LOOK_LEAST: Duration = Duration::from_millis(50);

/// Stands for what nobody knows at this moment.
const UNKNOWN: &str = "UNKNOWN";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Options of `kura status`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Wait until there is a leader, every member answers, and all have applied the same.
    #[arg(long)]
    wait: bool,
    /// Longest wait, in seconds, 1 or more.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Also the rows and digests of each table.
    #[arg(long)]
    tables: bool,
    /// Ask this member alone: one of the client configuration, or NAME=HOST:PORT.
    #[arg(long, value_name = "MEMBER", conflicts_with = "wait")]
    at: Option<String>,
    /// End with code 12 if there is no leader, a member does not answer, differs or is in TROUBLE, or there is an ALARM.
    #[arg(long)]
    fail: bool,
    /// End with code 11 if the backup is further behind than this (as 30s, 5m, 1h), if nobody knows how far, or
    /// if there is none.
    #[arg(long, value_name = "TIME", value_parser = lag::time)]
    fail_if_lag: Option<Duration>,
    /// The same, of the archive.
    #[arg(long, value_name = "TIME", value_parser = lag::time)]
    fail_if_archive_lag: Option<Duration>,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let reply = ask(&arguments).await?;
    print(&reply, arguments.tables, output)?;
    lag::judge(&reply, arguments.fail_if_lag, arguments.fail_if_archive_lag)?;
    if arguments.fail { well::judge(&reply) } else { Ok(()) }
}

async fn ask(arguments: &Arguments) -> Result<wire::StatusReply, Failure> {
    let mut config = arguments.client.config()?;
    if let Some(at) = &arguments.at {
        let endpoint = endpoint(&config, at).map_err(|failure| failure.of("--at"))?.ok_or_else(|| {
            Failure::usage(format!("{at} is not in the client configuration")).next("write --at NAME=HOST:PORT")
        })?;
        let name = endpoint.name.clone();
        config.endpoints = vec![endpoint];
        return Ok(Client::connect(config).await?.operations().status_of(&name).await?);
    }
    // Who waits also waits for the first node to listen.
    if arguments.wait {
        let client = Client::connect_lazily(config).await?;
        return settled(&client.operations(), Duration::from_secs(arguments.timeout)).await;
    }
    Ok(Client::connect(config).await?.operations().status().await?)
}

/// A member as people name it: one of the configuration, or `NAME=HOST:PORT`. Its certificate proves the name,
/// wherever it is said to be.
///
/// # Errors
/// What follows `=` is no address.
pub(super) fn endpoint(config: &Config, at: &str) -> Result<Option<Endpoint>, Failure> {
    let Some((name, address)) = at.split_once('=') else {
        return Ok(config.endpoints.iter().find(|endpoint| endpoint.name == at).cloned());
    };
    let address = address_of(address).map_err(|why| Failure::usage(format!("the address in {at} {why}")))?;
    Ok(Some(Endpoint { name: name.to_owned(), address }))
}

fn print(reply: &wire::StatusReply, with_tables: bool, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(&Told::from(reply));
    }
    print_head(reply, output)?;
    print_members(reply, output)?;
    if with_tables {
        let mut rows = table(&["table", "rows", "digest"]);
        for one in &reply.tables {
            rows.add_row([one.name.clone(), one.rows.to_string(), short(&one.digest)]);
        }
        output.table(rows)?;
    }
    Ok(())
}

/// Waits until the cluster is settled. Whatever a node does, it is over at the limit.
async fn settled(operations: &Operations, limit: Duration) -> Result<wire::StatusReply, Failure> {
    let progress = Progress::spinner();
    let end = Instant::now() + limit;
    let mut missing = "no node answers".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left < LOOK_LEAST {
            return Err(Failure::new(
                Exit::Unavailable,
                format!("not settled within {} s: {missing}", limit.as_secs()),
            )
            .next("`kura status` shows each member and its trouble; start what is down, or wait longer (--timeout)"));
        }
        // The client's own limit knows why an attempt failed; the one around it is kept in any case.
        let look = operations.status_within(left.min(LOOK_MAX));
        match tokio::time::timeout_at(end, look).await {
            Ok(Ok(reply)) => match unsettled(&reply) {
                None => return Ok(reply),
                Some(found) => missing = found,
            },
            Ok(Err(error)) if error.may_retry() => missing = error.to_string(),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => continue,
        }
        progress.wait_for(&missing);
        tokio::time::sleep(LOOK.min(end.saturating_duration_since(Instant::now()))).await;
    }
}

/// What keeps a cluster from being settled; nothing if there is a leader, every member answers, and
/// all have the same digests at the same index.
pub(crate) fn unsettled(reply: &wire::StatusReply) -> Option<String> {
    if reply.removed_ms != 0 {
        return Some(format!("{} is not a member any more, and no member answers", reply.node));
    }
    if reply.leader_id == 0 {
        return Some("there is no leader".into());
    }
    let Some(first) = reply.members.first() else { return Some("there are no members".into()) };
    for member in &reply.members {
        let name = &member.name;
        if !member.reachable {
            return Some(format!("{name} does not answer"));
        }
        if member.being_added {
            return Some(format!("{name} is being added, and does not vote yet"));
        }
        if member.lag_entries != 0 {
            return Some(format!("{name} is behind"));
        }
        if member.digest_index != first.digest_index || member.state_digest.is_empty() {
            return Some(format!("{name} and {} have not told digests of the same index", first.name));
        }
        if member.agreement == DIFFERENT {
            return Some(format!("{name} differs at index {}", member.agreement_index));
        }
        if member.state_digest != first.state_digest {
            return Some(format!("{name} and {} differ at index {}", first.name, first.digest_index));
        }
    }
    None
}

fn print_head(reply: &wire::StatusReply, output: Output) -> Result<(), Failure> {
    let leader = reply.members.iter().find(|member| member.raft_id == reply.leader_id && reply.leader_id != 0);
    let (leader, committed) = match leader {
        Some(member) => (format!("{}, term {}", member.name, reply.term), format!("index {}", reply.committed_index)),
        None => ("NONE that has a majority".into(), format!("index {} at least", reply.committed_index)),
    };
    let mut fields = Vec::new();
    if reply.removed_ms != 0 {
        let since = in_japan(reply.removed_ms);
        fields.push(("REMOVED", format!("{} is not a member any more, as it knows since {since}", reply.node)));
    }
    fields.extend([
        ("cluster", format!("{} ({})", reply.cluster_name, hexadecimal(&reply.cluster_id))),
        ("timeline", reply.timeline.to_string()),
        ("leader", leader),
        ("committed", committed),
        ("journal", format!("{} entries, root {}", reply.journal_size, short(&reply.journal_root))),
        ("replication point", lag::Point::replication(reply).in_words("backup")),
        ("archive point", lag::Point::archive(reply).in_words("archive")),
        ("archive checked", archive_checked(reply.archive_point.as_ref())),
        ("last drill", drilled(reply.drill.as_ref())),
        ("told by", own(reply)),
        ("shares", if reply.shares.is_empty() { UNKNOWN.into() } else { reply.shares.clone() }),
    ]);
    output.thing(&(), &fields)?;
    if let Some(drill) = reply.drill.as_ref().filter(|drill| !drill.failed.is_empty()) {
        note(&format!("ALARM: the last drill at {} failed: {}", drill.member, drill.failed));
    }
    reply.alarms.iter().for_each(|alarm| note(&format!("ALARM: {alarm}")));
    print_warnings(reply);
    Ok(())
}

/// In what the cluster is weaker than it should be.
pub fn print_warnings(reply: &wire::StatusReply) {
    reply.warnings.iter().for_each(|warning| note(&format!("WARNING: {warning}")));
}

/// The answering member: how far it is itself, and its clock.
fn own(reply: &wire::StatusReply) -> String {
    let offset = match reply.clock_offset_ms {
        Some(offset_ms) => format!("{offset_ms:+} ms from the voters' median"),
        None => format!("{UNKNOWN} against the voters' median"),
    };
    let applied = match reply.applied_index {
        0 => "nothing applied yet".to_owned(),
        index => format!("applied up to index {index} of {}", in_japan(reply.applied_at_ms)),
    };
    format!("{}, {applied}; its clock {}, {offset}", reply.node, in_japan(reply.clock_ms))
}

/// What was heard of a member that does not answer now.
fn last_contact(member: &wire::MemberStatus, started_ms: u64) -> String {
    match member.last_heard_ms {
        0 => format!("{UNKNOWN}: none since {}, and of before nothing is kept", in_japan(started_ms)),
        at_ms => {
            let before = match member.last_heard_before_start {
                true => format!(", before the start of who tells this at {}", in_japan(started_ms)),
                false => String::new(),
            };
            format!(
                "{}, at index {} of {}{before}",
                in_japan(at_ms),
                member.last_applied_index,
                in_japan(member.last_applied_at_ms)
            )
        }
    }
}

fn archive_checked(point: Option<&wire::ArchivePoint>) -> String {
    match point {
        Some(point) if point.state == NONE => "no archive".into(),
        point => scrub::in_words(point.and_then(|point| point.check.as_ref())),
    }
}

fn drilled(drill: Option<&wire::DrillPoint>) -> String {
    match drill {
        Some(drill) if drill.state == KNOWN => {
            let outcome = if drill.failed.is_empty() { format!("to index {}", drill.index) } else { "FAILED".into() };
            let seconds = drill.milliseconds.div_ceil(1000);
            format!("{}, {outcome}, in {seconds} s; by {}", moment(drill.at_ms), drill.member)
        }
        Some(drill) if drill.state == NONE => "none".into(),
        _ => UNKNOWN.into(),
    }
}

/// Prints the members: how they follow, what they are, and what troubles them.
pub fn print_members(reply: &wire::StatusReply, output: Output) -> Result<(), Failure> {
    if output.json {
        return reply.members.iter().try_for_each(|one| output.line(&Member::of(one, reply.started_ms)));
    }
    let known = |member: &wire::MemberStatus, text: String| {
        if member.reachable && !member.withheld { text } else { UNKNOWN.into() }
    };
    let mut following = table(&["member", "id", "role", "state", "applied", "lag", "digest", "agrees"]);
    let mut machines = table(&["member", "address", "disk", "free", "certificate", "clock", "version", "files"]);
    for member in &reply.members {
        following.add_row([
            member.name.clone(),
            member.raft_id.to_string(),
            format!("{}{}", role(member.role), if member.being_added { ", being added" } else { "" }),
            state(member).to_owned(),
            known(member, member.applied_index.to_string()),
            if member.lag_entries < 0 { UNKNOWN.into() } else { member.lag_entries.to_string() },
            known(member, format!("{} at {}", short(&member.state_digest), member.digest_index)),
            agreement(member),
        ]);
        machines.add_row([
            member.name.clone(),
            member.address.clone(),
            known(member, bytes(member.disk_bytes)),
            known(member, bytes(member.disk_free_bytes)),
            known(member, format!("{} days", member.certificate_not_after_ms.saturating_sub(now_ms()) / DAY_MS)),
            known(member, format!("{:+} ms", member.clock_offset_ms)),
            known(member, member.version.clone()),
            known(member, scrub::in_words(member.scrub.as_ref())),
        ]);
    }
    output.table(following)?;
    output.table(machines)?;
    let mut silent = reply.members.iter().filter(|member| !member.reachable);
    silent.try_for_each(|member| {
        let mut told = last_contact(member, reply.started_ms);
        if let Some(scrub) = member.scrub.as_ref().filter(|scrub| scrub.result == scrub::DAMAGED) {
            told = format!("{told}; its files are DAMAGED: {}", scrub.words);
        }
        output.text(&format!("NO ANSWER from {}: last contact {told}", member.name))
    })?;
    let mut troubled = reply.members.iter().filter(|member| !member.trouble.is_empty());
    troubled.try_for_each(|member| output.text(&format!("TROUBLE at {}: {}", member.name, member.trouble)))
}

/// How a member's signed head compares with the answering node's.
fn agreement(member: &wire::MemberStatus) -> String {
    match (member.agreement, member.agreement_index) {
        (0, _) => "(asked)".into(),
        (EQUAL, index) => format!("equal at {index}"),
        (DIFFERENT, index) => format!("DIFFERENT at {index}: {}", member.different_tables.join(" ")),
        (_, 0) => "UNKNOWN".into(),
        (_, index) => format!("UNKNOWN since {index}"),
    }
}

fn role(number: u32) -> &'static str {
    match number {
        1 => "voter",
        2 => "backup",
        _ => "?",
    }
}

fn state(member: &wire::MemberStatus) -> &'static str {
    match (member.reachable, member.leader, member.unsealed) {
        (true, false, _) if member.withheld => "answers",
        (false, ..) => "no answer",
        (true, true, _) => "leads",
        (true, false, true) => "follows",
        (true, false, false) => "follows, sealed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, digest: u8, index: u64) -> wire::MemberStatus {
        wire::MemberStatus {
            name: name.into(),
            reachable: true,
            digest_index: index,
            state_digest: vec![digest; 32].into(),
            ..Default::default()
        }
    }

    #[test]
    fn settled_means_a_leader_and_the_same_digests_everywhere() {
        let settled = |leader_id, members| unsettled(&wire::StatusReply { leader_id, members, ..Default::default() });
        assert_eq!(settled(1, vec![member("a", 1, 7), member("b", 1, 7)]), None);
        assert!(settled(0, vec![member("a", 1, 7)]).is_some());
        assert!(settled(1, vec![]).is_some());
        assert!(settled(1, vec![member("a", 1, 7), member("b", 2, 7)]).unwrap().contains("differ"));
        assert!(settled(1, vec![member("a", 1, 7), member("b", 1, 6)]).is_some());
        let empty = wire::MemberStatus { state_digest: Default::default(), ..member("a", 1, 7) };
        assert!(settled(1, vec![empty]).is_some());
        let silent = wire::MemberStatus { reachable: false, ..member("b", 1, 7) };
        assert!(settled(1, vec![member("a", 1, 7), silent]).unwrap().contains("answer"));
        let behind = wire::MemberStatus { lag_entries: -1, ..member("b", 1, 7) };
        assert!(settled(1, vec![member("a", 1, 7), behind]).is_some());
    }
}
