//! `kura recover salvage`: what a former member's disk has beyond the take-over, offered to the cluster.

use std::path::PathBuf;

use clap::Args;
use kura_client::wire;

use super::super::acting::ClientOption;
use super::super::exit::{Exit, Failure, chain};
use super::super::files::{Scratch, readable_folder};
use super::super::key::ask;
use super::super::output::{Output, Progress, moment, note};
use super::look::MIRRORS;
use crate::recovery::found::FoundError;
use crate::recovery::salvage::{Became, OldDisk, Report, SalvageError, run as offer};

/// Options of `kura recover salvage`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The data directory of a former member. No node may run on it. It is not changed.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Where a mirror of it is made, and removed again. [default: beside it]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Apply what the present rules permit. Otherwise everything is decided and nothing is written.
    #[arg(long)]
    apply: bool,
    /// The cluster's name, instead of typing it.
    #[arg(long, value_name = "NAME", requires = "apply")]
    cluster_name: Option<String>,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    readable_folder("--from", &arguments.from)?;
    let scratch = match &arguments.scratch {
        Some(directory) => Scratch::beside("--scratch", &directory.join("salvage"), MIRRORS)?,
        None => Scratch::beside("--from", &arguments.from, MIRRORS)?,
    };
    let client = arguments.client.connect().await?;
    note("looking at the old disk, and replaying its log on a mirror; nothing of it is changed");
    let disk = OldDisk::open(&arguments.from, &scratch.0).await.map_err(failure)?;
    let name = match (&arguments.cluster_name, arguments.apply) {
        (Some(name), _) => name.clone(),
        (None, true) => ask::plain("type the cluster's name to apply what is on the disk").await?,
        (None, false) => String::new(),
    };
    if arguments.apply && name != disk.cluster_name() {
        return Err(Failure::usage(format!(
            "the disk is of {}, not of {name:?}: nothing was done",
            disk.cluster_name()
        )));
    }
    let begin = wire::SalvageBegin {
        cluster_id: disk.cluster_id().0.to_vec().into(),
        timeline: disk.timeline(),
        apply: arguments.apply,
        cluster_name: name,
    };
    let mut line = client.operations().salvage(begin).await?;
    let progress = Progress::spinner();
    let report = offer(&disk, &mut line, arguments.apply, |step| {
        progress.say(format!("round {} of 3: {} of {} entries", step.round, step.done, step.entries));
    })
    .await;
    drop(progress);
    let report = report.map_err(|error| match arguments.apply {
        true => failure(error).next("run the same again: what was applied is found, and it goes on"),
        false => failure(error),
    })?;
    show(&report, output)?;
    end(&report)
}

fn failure(error: SalvageError) -> Failure {
    match error {
        SalvageError::Found(FoundError::InUse { .. }) => Failure::new(Exit::Conflict, chain(&error)),
        SalvageError::Found(FoundError::Neither { .. }) | SalvageError::Other { .. } => Failure::usage(chain(&error)),
        SalvageError::File { .. } => Failure::failed(chain(&error)),
        SalvageError::Cluster(error) => Failure::from(error),
        _ => Failure::new(Exit::Damaged, chain(&error)),
    }
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(report);
    }
    for fault in &report.faults {
        note(&format!("WARNING: {fault}"));
    }
    let counts = report.counts.iter().map(|(word, count)| format!("{count} {word}"));
    let counts: Vec<String> = counts.collect();
    let restricts = report.listed.iter().filter(|one| one.restricts).count();
    output.thing(
        &(),
        &[
            ("from", format!("{} {}", report.member, report.from.display())),
            ("timelines", format!("{} onto {}", report.former_timeline, report.timeline)),
            ("beyond the cluster", format!("{} entries, {restricts} restrict", report.entries)),
            (if report.applied { "they became" } else { "they would become" }, counts.join(", ")),
        ],
    )?;
    output.list(&report.listed, &["entry", "at", "what", "became", "why", "request"], |one| {
        vec![
            one.index.to_string(),
            if one.at_ms == 0 { String::new() } else { moment(one.at_ms) },
            one.action.clone(),
            one.became.word().to_owned(),
            one.why.clone(),
            one.request.clone(),
        ]
    })?;
    if !report.applied && report.count(Became::Applied) > 0 {
        note("this was a rehearsal, nothing was written: --apply does it");
    }
    Ok(())
}

fn end(report: &Report) -> Result<(), Failure> {
    let (unreadable, refused) = (report.count(Became::Unreadable), report.count(Became::Refused));
    let by_hand = report.count(Became::ByHand);
    if unreadable > 0 || !report.faults.is_empty() {
        let what = format!("{unreadable} entries cannot be read; {}", report.faults.join("; "));
        return Err(Failure::new(Exit::Damaged, what.trim_end_matches("; "))
            .next("look for another disk of the prefecture: it may have them"));
    }
    if report.applied && refused + by_hand > 0 {
        return Err(Failure::new(
            Exit::Partly,
            format!("{refused} were refused, {by_hand} are for people to do again"),
        )
        .next("hold the list against what people know; applications find their writes by the request id"));
    }
    Ok(())
}
