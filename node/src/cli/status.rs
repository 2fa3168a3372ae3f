//! `kura status`: how the cluster is.

use std::time::Duration;

use clap::Args;
use kura_client::operations::Operations;
use kura_client::{Client, now_ms, wire};
use serde::Serialize;
use tokio::time::Instant;

use super::acting::ClientOption;
use super::exit::{Exit, Failure};
use super::output::{Output, Progress, bytes, hexadecimal, moment, note, short, table};

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
    /// Longest wait, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    /// Also the rows and digests of each table.
    #[arg(long)]
    tables: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    // Who waits also waits for the first node to listen.
    let client = match arguments.wait {
        true => Client::connect_lazily(arguments.client.config()?).await?,
        false => arguments.client.connect().await?,
    };
    let operations = client.operations();
    let reply = if arguments.wait {
        settled(&operations, Duration::from_secs(arguments.timeout)).await?
    } else {
        operations.status().await?
    };
    if output.json {
        return output.line(&Told::from(&reply));
    }
    print_head(&reply, output)?;
    print_members(&reply, output)?;
    if arguments.tables {
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
    if reply.leader_id == 0 {
        return Some("there is no leader".into());
    }
    let Some(first) = reply.members.first() else { return Some("there are no members".into()) };
    for member in &reply.members {
        let name = &member.name;
        if !member.reachable {
            return Some(format!("{name} does not answer"));
        }
        if member.lag_entries != 0 {
            return Some(format!("{name} is behind"));
        }
        if member.digest_index != first.digest_index || member.state_digest.is_empty() {
            return Some(format!("{name} and {} have not told digests of the same index", first.name));
        }
        if member.agreement == 2 {
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
    let fields = [
        ("cluster", format!("{} ({})", reply.cluster_name, hexadecimal(&reply.cluster_id))),
        ("timeline", reply.timeline.to_string()),
        ("leader", leader),
        ("committed", committed),
        ("journal", format!("{} entries, root {}", reply.journal_size, short(&reply.journal_root))),
        ("replication point", replication(reply.replication_point.as_ref())),
        ("archive point", archived(reply.archive_point.as_ref())),
        ("last drill", drilled(reply.drill.as_ref())),
        ("told by", reply.node.clone()),
    ];
    output.thing(&(), &fields)?;
    if let Some(drill) = reply.drill.as_ref().filter(|drill| !drill.failed.is_empty()) {
        note(&format!("ALARM: the last drill at {} failed: {}", drill.member, drill.failed));
    }
    reply.alarms.iter().for_each(|alarm| note(&format!("ALARM: {alarm}")));
    Ok(())
}

fn replication(point: Option<&wire::ReplicationPoint>) -> String {
    match point {
        Some(point) if point.state == 1 => format!(
            "index {}, {} entries, {}, {} s behind",
            point.index,
            point.entries_behind,
            bytes(point.bytes_behind),
            point.seconds_behind
        ),
        Some(point) if point.state == 3 => "no backup".into(),
        _ => UNKNOWN.into(),
    }
}

fn archived(point: Option<&wire::ArchivePoint>) -> String {
    match point {
        Some(point) if point.state == 1 => format!(
            "index {}, {} entries, {}, {} s behind; by {}",
            point.index,
            point.entries_behind,
            bytes(point.bytes_behind),
            point.seconds_behind,
            point.member
        ),
        Some(point) if point.state == 3 => "no archive".into(),
        Some(point) if point.index > 0 => format!("UNKNOWN; index {} by {}", point.index, point.member),
        _ => "UNKNOWN".into(),
    }
}

fn drilled(drill: Option<&wire::DrillPoint>) -> String {
    match drill {
        Some(drill) if drill.state == 1 => {
            let outcome = if drill.failed.is_empty() { format!("to index {}", drill.index) } else { "FAILED".into() };
            let seconds = drill.milliseconds.div_ceil(1000);
            format!("{}, {outcome}, in {seconds} s; by {}", moment(drill.at_ms), drill.member)
        }
        Some(drill) if drill.state == 3 => "none".into(),
        _ => UNKNOWN.into(),
    }
}

/// Prints the members: how they follow, what they are, and what troubles them.
pub fn print_members(reply: &wire::StatusReply, output: Output) -> Result<(), Failure> {
    if output.json {
        return reply.members.iter().try_for_each(|member| output.line(&Member::from(member)));
    }
    let known = |member: &wire::MemberStatus, text: String| if member.reachable { text } else { UNKNOWN.into() };
    let mut following = table(&["member", "id", "role", "state", "applied", "lag", "digest", "agrees"]);
    let mut machines = table(&["member", "address", "disk", "free", "certificate", "clock", "version"]);
    for member in &reply.members {
        following.add_row([
            member.name.clone(),
            member.raft_id.to_string(),
            role(member.role).to_owned(),
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
        ]);
    }
    output.table(following)?;
    output.table(machines)?;
    let mut troubled = reply.members.iter().filter(|member| !member.trouble.is_empty());
    troubled.try_for_each(|member| output.text(&format!("TROUBLE at {}: {}", member.name, member.trouble)))
}

/// How a member's signed head compares with the answering node's.
fn agreement(member: &wire::MemberStatus) -> String {
    match (member.agreement, member.agreement_index) {
        (0, _) => "(asked)".into(),
        (1, index) => format!("equal at {index}"),
        (2, index) => format!("DIFFERENT at {index}: {}", member.different_tables.join(" ")),
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
        (false, ..) => "no answer",
        (true, true, _) => "leads",
        (true, false, true) => "follows",
        (true, false, false) => "follows, sealed",
    }
}

/// The status for programs. Names are those of the protocol; digests in hexadecimal.
#[derive(Debug, Serialize)]
struct Told {
    cluster_name: String,
    cluster_id: String,
    timeline: u64,
    node: String,
    leader_id: u64,
    term: u64,
    committed_index: u64,
    journal_size: u64,
    journal_root: String,
    replication_point: Option<Point>,
    archive_point: Option<Point>,
    last_drill: Option<Drill>,
    alarms: Vec<String>,
    members: Vec<Member>,
    tables: Vec<TableTold>,
}

#[derive(Debug, Serialize)]
struct Point {
    state: &'static str,
    index: u64,
    entries_behind: u64,
    bytes_behind: u64,
    seconds_behind: u64,
}

#[derive(Debug, Serialize)]
struct Drill {
    state: &'static str,
    at_ms: u64,
    milliseconds: u64,
    index: u64,
    failed: String,
    member: String,
}

#[derive(Debug, Serialize)]
struct TableTold {
    name: String,
    rows: u64,
    digest: String,
}

#[derive(Debug, Serialize)]
struct Member {
    raft_id: u64,
    name: String,
    address: String,
    role: &'static str,
    reachable: bool,
    leader: bool,
    unsealed: bool,
    applied_index: u64,
    synced_index: u64,
    lag_entries: i64,
    state_digest: String,
    digest_index: u64,
    agreement: &'static str,
    agreement_index: u64,
    different_tables: Vec<String>,
    disk_bytes: u64,
    disk_free_bytes: u64,
    certificate_not_after_ms: u64,
    version: String,
    clock_offset_ms: i64,
    trouble: String,
    key_sha256: String,
}

impl From<&wire::MemberStatus> for Member {
    fn from(member: &wire::MemberStatus) -> Self {
        Self {
            raft_id: member.raft_id,
            name: member.name.clone(),
            address: member.address.clone(),
            role: role(member.role),
            reachable: member.reachable,
            leader: member.leader,
            unsealed: member.unsealed,
            applied_index: member.applied_index,
            synced_index: member.synced_index,
            lag_entries: member.lag_entries,
            state_digest: hexadecimal(&member.state_digest),
            digest_index: member.digest_index,
            agreement: match member.agreement {
                0 => "asked",
                1 => "equal",
                2 => "different",
                _ => "unknown",
            },
            agreement_index: member.agreement_index,
            different_tables: member.different_tables.clone(),
            disk_bytes: member.disk_bytes,
            disk_free_bytes: member.disk_free_bytes,
            certificate_not_after_ms: member.certificate_not_after_ms,
            version: member.version.clone(),
            clock_offset_ms: member.clock_offset_ms,
            trouble: member.trouble.clone(),
            key_sha256: hexadecimal(&member.key_sha256),
        }
    }
}

impl From<&wire::StatusReply> for Told {
    fn from(reply: &wire::StatusReply) -> Self {
        let point = |point: &wire::ReplicationPoint| Point {
            state: match point.state {
                1 => "known",
                3 => "no-backup",
                _ => "unknown",
            },
            index: point.index,
            entries_behind: point.entries_behind,
            bytes_behind: point.bytes_behind,
            seconds_behind: point.seconds_behind,
        };
        let archive_point = |point: &wire::ArchivePoint| Point {
            state: match point.state {
                1 => "known",
                3 => "no-archive",
                _ => "unknown",
            },
            index: point.index,
            entries_behind: point.entries_behind,
            bytes_behind: point.bytes_behind,
            seconds_behind: point.seconds_behind,
        };
        let table = |one: &wire::TableStatus| TableTold {
            name: one.name.clone(),
            rows: one.rows,
            digest: hexadecimal(&one.digest),
        };
        Self {
            cluster_name: reply.cluster_name.clone(),
            cluster_id: hexadecimal(&reply.cluster_id),
            timeline: reply.timeline,
            node: reply.node.clone(),
            leader_id: reply.leader_id,
            term: reply.term,
            committed_index: reply.committed_index,
            journal_size: reply.journal_size,
            journal_root: hexadecimal(&reply.journal_root),
            replication_point: reply.replication_point.as_ref().map(point),
            archive_point: reply.archive_point.as_ref().map(archive_point),
            last_drill: reply.drill.as_ref().map(|drill| Drill {
                state: match drill.state {
                    1 => "known",
                    3 => "none",
                    _ => "unknown",
                },
                at_ms: drill.at_ms,
                milliseconds: drill.milliseconds,
                index: drill.index,
                failed: drill.failed.clone(),
                member: drill.member.clone(),
            }),
            alarms: reply.alarms.clone(),
            members: reply.members.iter().map(Member::from).collect(),
            tables: reply.tables.iter().map(table).collect(),
        }
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
