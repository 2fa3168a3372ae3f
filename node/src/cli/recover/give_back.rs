//! `kura recover give-back`: the way back from the member that took over to a prefecture that stands again, step by step,
//! as the cluster's own state tells it.
//!
//! Invariants
//! - A step is done only if the cluster says so now; what is not known is not done.
//! - Nothing is changed: each step names the command by which people do it.

use std::time::Duration;

use clap::Args;
use kura_client::wire;
use kura_proto::agreement::DIFFERENT;
use kura_proto::point::KNOWN;
use serde::Serialize;

use super::super::acting::ClientOption;
use super::super::exit::Failure;
use super::super::output::Output;

const VOTER: u32 = 1;
const BACKUP: u32 = 2;
/// A backup that is further behind has not caught up.
const BEHIND_SECONDS_MAX: u64 = 60;
/// How long the status may take, all attempts together.
const STATUS_LIMIT: Duration = Duration::from_secs(30);

/// Options of `kura recover give-back`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How many voters the prefecture is to have.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    voters: u64,
    #[command(flatten)]
    client: ClientOption,
}

/// A step.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    done: bool,
    /// What there is now.
    now: String,
    /// How it is done; empty: it is.
    how: String,
}

#[derive(Debug, Serialize)]
struct Told {
    timeline: u64,
    complete: bool,
    steps: Vec<Step>,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let client = arguments.client.connect().await?;
    let status = client.operations().status_within(STATUS_LIMIT).await?;
    let keys = client.keys().status().await?;
    if status.timeline == 0 {
        return Err(Failure::usage("this cluster was never taken over or restored: there is nothing to give back"));
    }
    let steps = steps(&status, &keys, arguments.voters as usize);
    let told = Told { timeline: status.timeline, complete: steps.iter().all(|step| step.done), steps };
    if output.json {
        return output.line(&told);
    }
    let next = told.steps.iter().position(|step| !step.done);
    let rows: Vec<(&str, String)> =
        told.steps.iter().enumerate().map(|(at, step)| (step.step, line(step, Some(at) == next))).collect();
    output.thing(&(), &rows)
}

fn line(step: &Step, is_next: bool) -> String {
    match (step.done, is_next) {
        (true, _) => format!("done: {}", step.now),
        (false, true) => format!("NEXT: {}; {}", step.now, step.how),
        (false, false) => format!("to do: {}; {}", step.now, step.how),
    }
}

fn steps(status: &wire::StatusReply, keys: &wire::KeyStatusReply, wanted: usize) -> Vec<Step> {
    let began = |member: &wire::MemberStatus| {
        !member.key_sha256.is_empty() && status.timeline_keys_sha256.contains(&member.key_sha256)
    };
    let is_well = |member: &wire::MemberStatus| member.reachable && member.agreement != DIFFERENT;
    let names = |members: &[&wire::MemberStatus]| {
        let names: Vec<&str> = members.iter().map(|member| &member.name[..]).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let taken: Vec<_> = status.members.iter().filter(|member| began(member)).collect();
    let voters: Vec<_> = status
        .members
        .iter()
        .filter(|member| member.role == VOTER && !began(member) && member.unsealed && is_well(member))
        .collect();
    let leader = status.members.iter().find(|member| status.leader_id != 0 && member.raft_id == status.leader_id);
    let backups: Vec<_> =
        status.members.iter().filter(|member| member.role == BACKUP && !began(member) && is_well(member)).collect();
    let point = status.replication_point.clone().unwrap_or_default();
    let follows = point.state == KNOWN && point.seconds_behind <= BEHIND_SECONDS_MAX;
    let archive = status.archive_point.clone().unwrap_or_default();
    let set = keys
        .sets
        .iter()
        .find(|set| set.present && !set.registrar.is_empty() && set.confirmed_ms > status.timeline_began_ms);
    let step = |step, done, now: String, how: &str| Step {
        step,
        done,
        now,
        how: if done { String::new() } else { how.to_owned() },
    };
    vec![
        step(
            "voters",
            voters.len() >= wanted,
            format!("{} of {wanted} new ones: {}", voters.len(), names(&voters)),
            "kura member approve (operator, registrar), kura join, kura member add-voter NAME",
        ),
        step(
            "leadership",
            leader.is_some_and(|leader| !began(leader)),
            leader.map_or_else(|| "no leader".into(), |leader| leader.name.clone()),
            "kura member hand-over NAME",
        ),
        step(
            "take-over left",
            taken.is_empty(),
            match taken.is_empty() {
                true => "the one that took over is no member".into(),
                false => format!("{} is still a member", names(&taken)),
            },
            "kura member remove NAME, then stop its node",
        ),
        step(
            "backup",
            !backups.is_empty() && follows,
            match follows {
                true => format!("{}, {} s behind", names(&backups), point.seconds_behind),
                false => format!("{}, its replication point is not near", names(&backups)),
            },
            "kura member approve (operator), kura join, kura member add-backup NAME",
        ),
        step(
            "archive",
            archive.state == KNOWN,
            match archive.state {
                KNOWN => format!("by {}, {} s behind", archive.member, archive.seconds_behind),
                _ => "none that is known".into(),
            },
            "an [archive] in a new place in the backup's configuration",
        ),
        step(
            "epoch keys",
            keys.epoch_is_of_timeline,
            format!("epoch {}", keys.epoch),
            "kura key rotate --epoch (operator, registrar)",
        ),
        step(
            "root key",
            keys.root_key_is_of_timeline,
            match keys.root_key_is_of_timeline {
                true => "drawn on this timeline".into(),
                false => "as old as the former timeline".into(),
            },
            "kura key rotate --root (operator, registrar), with the holders",
        ),
        step(
            "shares",
            set.is_some(),
            match set {
                Some(set) => format!("{} of {} holders", set.threshold, set.share_check_values.len()),
                None => "none of this timeline restore the present root key".into(),
            },
            "kura key split, kura key confirm, with the holders",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, raft_id: u64, role: u32) -> wire::MemberStatus {
        wire::MemberStatus {
            name: name.into(),
            raft_id,
            role,
            reachable: true,
            unsealed: role == VOTER,
            key_sha256: name.as_bytes().to_vec().into(),
            ..Default::default()
        }
    }

    fn done(status: &wire::StatusReply, keys: &wire::KeyStatusReply) -> Vec<bool> {
        steps(status, keys, 3).iter().map(|step| step.done).collect()
    }

    #[test]
    fn each_step_is_done_only_when_the_cluster_says_so() {
        let mut status = wire::StatusReply {
            timeline: 1,
            timeline_began_ms: 100,
            timeline_keys_sha256: vec!["taken".as_bytes().to_vec().into()],
            leader_id: 1,
            members: vec![member("taken", 1, VOTER)],
            ..Default::default()
        };
        let mut keys = wire::KeyStatusReply::default();
        assert_eq!(done(&status, &keys), [false; 8]);
        for at in 2..=4 {
            status.members.push(member(&format!("voter-{at}"), at, VOTER));
        }
        assert_eq!(done(&status, &keys)[..3], [true, false, false]);
        status.leader_id = 2;
        assert_eq!(done(&status, &keys)[..3], [true, true, false]);
        status.members.remove(0);
        assert_eq!(done(&status, &keys)[..4], [true, true, true, false]);
        // A backup of which nobody knows how far it is, is none.
        status.members.push(member("backup-2", 5, BACKUP));
        assert!(!done(&status, &keys)[3]);
        status.replication_point = Some(wire::ReplicationPoint { state: KNOWN, ..Default::default() });
        status.archive_point = Some(wire::ArchivePoint { state: KNOWN, ..Default::default() });
        assert_eq!(done(&status, &keys)[3..], [true, true, false, false, false]);
        (keys.epoch_is_of_timeline, keys.root_key_is_of_timeline) = (true, true);
        let set = wire::ShareSet { present: true, registrar: "reg-1".into(), confirmed_ms: 99, ..Default::default() };
        keys.sets = vec![set.clone()];
        assert!(!done(&status, &keys)[7], "shares of before are with people of before");
        keys.sets = vec![wire::ShareSet { confirmed_ms: 101, ..set }];
        assert_eq!(done(&status, &keys), [true; 8]);
        // What does not answer, is sealed or differs does not count.
        for spoil in [
            |one: &mut wire::MemberStatus| one.reachable = false,
            |one: &mut wire::MemberStatus| one.unsealed = false,
            |one: &mut wire::MemberStatus| one.agreement = DIFFERENT,
        ] {
            let mut spoiled = status.clone();
            spoil(&mut spoiled.members[1]);
            assert!(!done(&spoiled, &keys)[0]);
        }
    }
}
