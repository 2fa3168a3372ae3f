//! The convincing test: a prefecture is lost, and comes back from the backup's disk and the shares alone.
//!
//! Under a mixed load of writes, reads, revocations and erasures, over a slow link to the backup, a
//! [witness](notes) outside of the cluster writes down everything that it is told. At a random moment all voters are
//! killed and their disks deleted; in half of the runs the backup's power is cut at the same moment. What the
//! [runbook](runbook) brings back is [held](judge) against what the witness was told.
//!
//! Invariants
//! - The schedule of a run (link, moment of the loss, power cut, every client's sequence) follows from its seed.
//! - Nothing here looks into a node: findings come from clients, the command line, and exit statuses.

pub mod commands;
pub mod findings;
pub mod judge;
pub mod link;
pub mod load;
pub mod notes;
pub mod runbook;
pub mod stage;
pub mod table;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{ClusterError, LOOK, Role};
use crate::load::LoadError;
use crate::seed::generator;
use crate::site::tool::ToolError;
use judge::Verdict;
use link::Quality;
use load::{Load, Session, TIMEOUTS};
use notes::{Kind, Witness};
use runbook::Times;
use stage::Stage;
use watch::Watch;

/// From when the load is under way to the loss, in milliseconds.
const LIVE_MS: std::ops::RangeInclusive<u64> = 6_000..=14_000;
/// The link: how long a byte is under way, in milliseconds, and how many KiB pass in a second.
const DELAY_MS: std::ops::RangeInclusive<u64> = 15..=250;
const KIB: std::ops::RangeInclusive<u64> = 80..=900;
/// In half of the runs nothing passes any more for so long before the loss, in milliseconds.
const STALL_MS: std::ops::RangeInclusive<u64> = 400..=6_500;
/// How long the load may take to be under way.
const WARM: Duration = Duration::from_secs(60);

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program of the system.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The participants.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file, or an address.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something that everything rests on could not be set up.
    #[error("{0}")]
    Setup(String),
    /// A command did not do what it should.
    #[error("kura {command}: {message}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        message: String,
    },
    /// `kura recover verify` found faults.
    #[error("what was taken over is not sound: {0}")]
    Unsound(String),
    /// Something did not come about.
    #[error("{what} did not come about")]
    Late {
        /// What.
        what: &'static str,
    },
}

/// What a seed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The link's delay, in milliseconds, one way.
    pub delay_ms: u64,
    /// What passes it in a second, in KiB.
    pub kib: u64,
    /// From when nothing passes any more to the loss, in milliseconds; 0: it goes on to the last.
    pub stall_ms: u64,
    /// From when the load is under way to the loss, in milliseconds.
    pub live_ms: u64,
    /// Whether the backup's power is cut at the same moment.
    pub power_cut: bool,
}

impl Plan {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = generator(seed, "recovery");
        let (delay_ms, kib) = (random.random_range(DELAY_MS), random.random_range(KIB));
        let (live_ms, stall_ms) = (random.random_range(LIVE_MS), random.random_range(STALL_MS));
        let [stalls, power_cut] = [random.random_ratio(1, 2), random.random_ratio(1, 2)];
        let stall_ms = if stalls { stall_ms.min(live_ms / 2) } else { 0 };
        Self { seed, delay_ms, kib, stall_ms, live_ms, power_cut }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// What was to be done.
    pub plan: Plan,
    /// Bytes that passed the link.
    pub link_bytes: u64,
    /// When what was served again.
    pub times: Times,
    /// The judgement.
    pub verdict: Verdict,
}

/// Runs a plan in a directory, in this process's namespaces. `clock` is the file by which every process of the run
/// tells its time; `say` is told each step.
///
/// # Errors
/// [`RecoveryError`] if it did not come to its end: no pass either.
pub async fn run(plan: &Plan, directory: &Path, clock: &Path, say: &dyn Fn(&str)) -> Result<Outcome, RecoveryError> {
    let witness = Arc::new(Witness::default());
    say("a site, a cluster behind a link, shares, participants");
    let mut stage = Stage::set(directory, clock, plan.seed, &witness).await?;
    let written = |error| RecoveryError::File { path: directory.join("witness.jsonl"), source: error };
    let ran = lose_and_recover(plan, &mut stage, &witness, say).await;
    witness.write(&directory.join("witness.jsonl")).map_err(written)?;
    let outcome = ran?;
    stage.cluster.stop().await?;
    Ok(outcome)
}

async fn lose_and_recover(
    plan: &Plan,
    stage: &mut Stage,
    witness: &Arc<Witness>,
    say: &dyn Fn(&str),
) -> Result<Outcome, RecoveryError> {
    let session = Session {
        witness: Arc::clone(witness),
        cast: Arc::clone(&stage.cast),
        client: stage.cluster.client(Role::Application, None, TIMEOUTS).await?,
        day: stage.day,
    };
    say(&format!("load; {} ms and {} KiB/s to the backup", plan.delay_ms, plan.kib));
    let quality =
        Quality { delay: Duration::from_millis(plan.delay_ms), bytes_each_second: plan.kib << 10, open: true };
    stage.link.set(quality);
    let watch = Watch::start(&stage.cluster, witness, stage.asked.clone()).await?;
    let load = Load::start(&stage.cluster, plan.seed, witness, &stage.cast, stage.day, &stage.base).await?;
    let warm = Instant::now() + WARM;
    while !is_under_way(witness) && Instant::now() < warm {
        stage.cluster.check()?;
        sleep(LOOK).await;
    }
    let end = Instant::now() + Duration::from_millis(plan.live_ms);
    sleep_until(end - Duration::from_millis(plan.stall_ms)).await;
    if plan.stall_ms > 0 {
        stage.link.stall();
    }
    sleep_until(end).await;
    say(if plan.power_cut { "all voters are lost, the backup's power is cut" } else { "all voters are lost" });
    let (lost, lost_us) = (Instant::now(), witness.now_us());
    witness.notes().lost_us = lost_us;
    stage.lose_the_prefecture(plan.power_cut).await?;
    // Whatever was on its way has arrived, or never does.
    drop((load, watch));
    let link_bytes = stage.link.passed();
    let notes = witness.notes().clone();
    let told: Vec<usize> = notes.erased.iter().map(|erased| erased.place).collect();
    say("recovery by the runbook");
    let recovered = stage.recover(&session, notes.last_point(), &told, lost).await?;
    let times = recovered.1;
    say("everything is asked for");
    let found = findings::gather(&stage.cluster, &session, &notes, &stage.asked, &stage.base, recovered).await?;
    Ok(Outcome { plan: *plan, link_bytes, times, verdict: judge::judge(&notes, &found) })
}

/// Whether everything happens that a loss is to interrupt.
fn is_under_way(witness: &Witness) -> bool {
    let notes = witness.notes();
    let plain = notes.deeds.iter().any(|deed| {
        deed.act.kind.restricts()
            && deed.act.place >= load::ERASED
            && deed.acknowledged().is_some_and(notes::Acknowledged::is_plain)
    });
    plain && notes.acknowledged(Kind::Put) > load::PARTICIPANTS + 20 && judge::is_worth_something(&notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_plan_and_twenty_meet_both_kinds_of_end() {
        let plans: Vec<Plan> = (1..=20).map(Plan::of).collect();
        assert_eq!(Plan::of(7), plans[6]);
        for power_cut in [true, false] {
            for stalls in [true, false] {
                let met = plans.iter().filter(|plan| plan.power_cut == power_cut && (plan.stall_ms > 0) == stalls);
                assert!(met.count() >= 2, "{plans:?}");
            }
        }
    }
}
