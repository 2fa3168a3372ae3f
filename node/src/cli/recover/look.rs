//! Looking: `kura recover plan`, `verify` and `report`. Nothing that survives is changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::super::archive::StorageOption;
use super::super::exit::{Exit, Failure, chain};
use super::super::files::Scratch;
use super::super::given::configuration;
use super::super::output::{Output, moment, note};
use super::plan_failure;
use crate::clock::now_ms;
use crate::custody::Provider;
use crate::openings;
use crate::recovery::found::Found;
use crate::recovery::plan::{Plan, words};
use crate::recovery::report::{Report, ReportError, TailEntry};
use crate::recovery::verify::verify as check;
use crate::serve::contacts::Before;

/// Ending of the directory for mirrors, beside what is looked at.
pub(super) const MIRRORS: &str = ".look";

/// Options of `kura recover plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Data directories of stopped members, and archives (directories, or s3://BUCKET/PREFIX).
    #[arg(required = true, value_name = "PATH")]
    found: Vec<PathBuf>,
    /// Where the plan goes: a new file. Mirrors are made beside it, and removed again.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The log index that monitoring had as the last replication point. Without it what is lost is UNKNOWN.
    #[arg(long, value_name = "INDEX")]
    published: Option<u64>,
    #[command(flatten)]
    storage: StorageOption,
}

/// Options of `kura recover verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The configuration of the node that was taken over.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Rows of each table to open, too, if the configuration's provider has the root key.
    #[arg(long, default_value_t = 200, value_name = "ROWS")]
    sample: u64,
}

/// Options of `kura recover report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The configuration of the node that was taken over.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `kura recover plan`.
pub async fn plan(arguments: PlanArguments, output: Output) -> Result<(), Failure> {
    if arguments.out.exists() {
        return Err(Failure::new(Exit::Conflict, format!("--out: {} is there already", arguments.out.display()))
            .next("name another file with --out: a plan is not overwritten"));
    }
    let scratch = Scratch::beside("--out", &arguments.out, MIRRORS)?;
    let storage = arguments.storage.file.as_deref();
    let made = Plan::make(&arguments.found, storage, arguments.published, &scratch.0, now_ms()).await;
    let plan = made.map_err(|error| plan_failure(&error))?;
    if plan.best().usable {
        plan.write(&arguments.out).map_err(|error| plan_failure(&error))?;
    }
    if output.json {
        output.line(&plan)?;
        return usable(&plan);
    }
    let rows: Vec<Vec<String>> = plan
        .found
        .iter()
        .enumerate()
        .map(|(at, one)| {
            vec![
                (at + 1).to_string(),
                shown(&one.path),
                format!("{} {}", one.kind, one.name),
                one.timeline.to_string(),
                words(one.last),
                words(one.committed),
                words(one.applied),
                moment(one.last_at_ms),
            ]
        })
        .collect();
    let heading = ["rank", "directory", "of", "timeline", "last entry", "committed", "applied", "last heard"];
    output.list(&rows, &heading, Clone::clone)?;
    for one in &plan.found {
        one.faults.iter().for_each(|fault| note(&format!("WARNING: {}: {fault}", shown(&one.path))));
    }
    plan.found.iter().for_each(warn_if_taken_over);
    if let Some(archive) = plan.archive_ahead() {
        note(&format!("WARNING: the archive {} holds more than every directory", shown(&archive.path)));
    }
    usable(&plan)?;
    let best = plan.best();
    let lost = match (plan.published, plan.missing_below_published()) {
        (Some(published), Some(0)) => {
            format!("nothing up to the replication point {}; beyond it UNKNOWN", published.index)
        }
        (Some(published), Some(missing)) => {
            format!("{missing} entries up to the replication point {}; beyond it UNKNOWN", published.index)
        }
        _ => "UNKNOWN (--published tells the last replication point that monitoring saw)".to_owned(),
    };
    let contacts = Before::read(&best.path);
    let heard: Vec<String> = contacts
        .all()
        .iter()
        .map(|one| format!("{} at {}, at index {}", one.name, moment(one.at_ms), one.applied_index))
        .collect();
    // Others were further when they were heard last: so much is missing at least.
    if let Some(furthest) = contacts.all().last().filter(|one| one.applied_index > best.last.index) {
        note(&format!(
            "WARNING: {} had applied index {}, {} entries beyond the best, when {} heard it last",
            furthest.name,
            furthest.applied_index,
            furthest.applied_index - best.last.index,
            best.name
        ));
    }
    let fence: Vec<String> =
        plan.fence.iter().map(|known| format!("{} {} ({})", known.role, known.name, known.address)).collect();
    output.thing(
        &(),
        &[
            ("cluster", plan.cluster_name.clone()),
            ("best", shown(&best.path)),
            ("lost", lost),
            ("later than", format!("{}: what was acknowledged after it is lost", moment(best.last_at_ms))),
            ("it heard", if heard.is_empty() { "UNKNOWN: nothing is kept".into() } else { heard.join("; ") }),
            ("unconfirmed", format!("{} entries at its end: there, but perhaps never acknowledged", plan.unconfirmed)),
            ("to be fenced", if fence.is_empty() { "nobody".into() } else { fence.join(", ") }),
            ("plan", arguments.out.display().to_string()),
            ("next", format!("kura recover apply --plan {} --config NEW.toml --fenced HOW", arguments.out.display())),
        ],
    )
}

/// A path as it is short enough for a table: from here, where it lies below. The plan has it from the root.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) if !here.as_os_str().is_empty() && !below.as_os_str().is_empty() => below.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// Somebody has begun from it before: another take-over makes another cluster of the same id.
pub(super) fn warn_if_taken_over(one: &Found) {
    if let Some(taken) = &one.taken_over {
        note(&format!(
            "WARNING: {} was taken over already, {}, by {} ({}), as timeline {}: a second take-over makes a second cluster, and \
             neither knows of the other. Go on only if that one never served, or has ended for good and its directory is put \
             away",
            shown(&one.path),
            moment(taken.at_ms),
            taken.member,
            taken.address,
            taken.timeline
        ));
    }
}

/// Nothing begins from what is unusable: there is no plan then.
fn usable(plan: &Plan) -> Result<(), Failure> {
    let best = plan.best();
    if best.usable {
        return Ok(());
    }
    let words = format!("no directory here can be taken over: {}: {}", shown(&best.path), best.faults.join("; "));
    Err(Failure::new(Exit::Damaged, words).next(
        "no plan was written; look for another member's directory, or for an archive (kura restore plan). What was \
         fenced off belongs to a cluster that has gone on: kura recover salvage offers that what it lacks",
    ))
}

/// `kura recover verify`.
pub fn verify(arguments: VerifyArguments, output: Output) -> Result<(), Failure> {
    let config = configuration(&arguments.config)?;
    let provider = config.root_key.as_ref().map(Provider::new);
    let root = provider.map_or(Ok(None), |provider| provider.read());
    let root = root.map_err(|error| Failure::failed(chain(&error)))?.map(Arc::new);
    let report = Report::read(&config.data).map_err(|error| no_report(&error))?;
    drop(report);
    if root.is_some() {
        let what = format!("kura recover verify, about {} rows of each table", arguments.sample);
        openings::note(&config.data, &what, now_ms()).map_err(|error| Failure::failed(chain(&error)))?;
    }
    let scratch = Scratch::beside("--config", &config.data, MIRRORS)?;
    let verified = check(&config.data, &scratch.0, root, arguments.sample)
        .map_err(|error| Failure::new(Exit::Damaged, chain(&error)))?;
    let opened =
        verified.opened.map_or("none: no root key is at hand".into(), |rows| format!("{rows} rows of samples"));
    output.thing(
        &verified,
        &[
            ("timeline", verified.timeline.to_string()),
            ("applied", format!("index {}", verified.applied)),
            ("rows read", verified.rows.to_string()),
            ("opened", opened),
            ("journal", format!("{} entries, root {}", verified.journal_size, verified.journal_root)),
            ("state digest", verified.state_digest.clone()),
            (
                "compared with",
                if verified.has_run { "its own sums: the node has run since" } else { "the report" }.into(),
            ),
        ],
    )?;
    if verified.sound {
        return Ok(());
    }
    Err(Failure::new(Exit::Damaged, verified.faults.join("; "))
        .next("do not start it; take over from another survivor"))
}

/// There is no statement of a take-over.
fn no_report(error: &ReportError) -> Failure {
    Failure::new(Exit::NotFound, chain(error))
        .next("name the configuration with which `kura recover apply` took the cluster over: its data directory has it")
}

/// `kura recover report`.
pub fn report(arguments: ReportArguments, output: Output) -> Result<(), Failure> {
    let config = configuration(&arguments.config)?;
    let report = Report::read(&config.data).map_err(|error| no_report(&error))?;
    if output.json {
        return output.line(&report);
    }
    show(&report, output)
}

/// Shows a statement.
pub fn show(report: &Report, output: Output) -> Result<(), Failure> {
    let unknown = || "UNKNOWN".to_owned();
    let former: Vec<&str> = report.former.iter().map(|known| &known.name[..]).collect();
    output.thing(
        &(),
        &[
            ("cluster", report.cluster_name.clone()),
            ("taken over", moment(report.at_ms)),
            ("from", format!("{} {}", report.from_kind, report.from.display())),
            ("timeline", format!("{}, from index {}", report.timeline, report.began_index)),
            ("only member", format!("{}, raft id {}", report.member, report.raft_id)),
            ("known committed", format!("up to {}: everything of it is there", words(report.committed))),
            ("last entry", format!("{}, {}", words(report.last), moment(report.last_at_ms))),
            ("unconfirmed", format!("{} entries, listed below", report.unconfirmed)),
            ("lost", format!("what was acknowledged after {}", moment(report.last_at_ms))),
            ("replication point", report.published_index.map_or_else(unknown, |index| format!("index {index}"))),
            ("missing below it", report.missing_below_published.map_or_else(unknown, |count| count.to_string())),
            ("fenced", report.fenced.clone()),
            ("former members", former.join(", ")),
            ("journal", format!("{} entries, root {}", report.journal_size, report.journal_root)),
            ("state digest", report.state_digest.clone()),
        ],
    )?;
    show_entries("no entry is unconfirmed", &report.tail, output)
}

fn show_entries(none: &str, entries: &[TailEntry], output: Output) -> Result<(), Failure> {
    output.list_or(none, entries, &["entry", "at", "outcome", "what", "request", "rows"], |entry| {
        vec![
            words(entry.place),
            moment(entry.at_ms),
            entry.outcome.clone(),
            entry.actions.join(", "),
            entry.requests.join(", "),
            entry.writes.to_string(),
        ]
    })
}
