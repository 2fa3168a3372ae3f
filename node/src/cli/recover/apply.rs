//! `kura recover apply`: the take-over. Asks for the cluster's name, then for shares, one after the other, unless a
//! file holds the root key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use kura_cluster::seal::Key;
use time::OffsetDateTime;

use super::super::exit::{Exit, Failure, check_clock};
use super::super::fencing::{Fencing, fits};
use super::super::files::fits_folder;
use super::super::given::{configuration, root_key as root_key_in, text, valid_days};
use super::super::key::ask;
use super::super::output::{Output, note};
use super::{look, plan_failure, take_failure};
use crate::certificates::AuthorityFiles;
use crate::config::NodeConfig;
use crate::recovery::plan::Plan;
use crate::recovery::take::{Prepared, Said, unfinished};
use crate::recovery::taken::TakenOver;

/// Options of `kura recover apply`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The plan.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The configuration of the node that begins the new timeline: a voter's, with a data directory that does not
    /// exist yet, best on the disk of the survivor. A certificate that is not there is made.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The cluster's name, instead of typing it.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    #[command(flatten)]
    fencing: Fencing,
    /// Why the cluster is taken over. Journalled.
    #[arg(long, default_value = "the voters are lost", value_parser = text)]
    reason: String,
    /// A file with the root key, instead of shares.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Write the recovery CA into this folder: it signs the certificates of the voters that join. Whoever has it can
    /// make certificates of every role.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// Validity of the certificate that is made, in days.
    #[arg(long, default_value_t = 397, value_parser = valid_days())]
    days: u32,
    /// This machine's clock is right, although it is behind the last entry, or more than 14 days after it.
    #[arg(long)]
    time_is_right: bool,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let plan = Plan::read(&arguments.plan).map_err(|error| plan_failure(&error).of("--plan"))?;
    let config = configuration(&arguments.config)?;
    if let Some(folder) = &arguments.ca {
        fits_folder("--ca", folder)?;
        // Found out before people type their shares.
        let files = AuthorityFiles::in_folder(folder);
        if let Some(there) = [files.certificate, files.private_key].into_iter().find(|file| file.exists()) {
            let words = format!("--ca: {} is there already", there.display());
            return Err(Failure::new(Exit::Conflict, words).next(what_was_cut(&config, folder)));
        }
    }
    check_clock(plan.best().last_at_ms, arguments.time_is_right)?;
    look::warn_if_taken_over(plan.best());
    let name = match &arguments.cluster_name {
        Some(name) => name.clone(),
        None => ask::plain("type the cluster's name to take it over").await?,
    };
    if name != plan.cluster_name {
        return Err(Failure::usage(format!(
            "the plan is for {}, not for {name:?}: nothing was done",
            plan.cluster_name
        )));
    }
    let fenced = arguments.fencing.words()?;
    fits("--reason", &arguments.reason)?;
    note("looking at the survivor and replaying its log; nothing of it is changed");
    let prepared = Prepared::make(&plan, &config).await.map_err(|error| take_failure(&error))?;
    let root = match root_key(&arguments, &prepared).await {
        Ok(root) => Arc::new(root),
        Err(failure) => {
            prepared.discard();
            return Err(failure);
        }
    };
    let said = Said { fenced, reason: arguments.reason.clone(), authority: arguments.ca.clone(), days: arguments.days };
    let made = prepared.finish(&config, root, &said, OffsetDateTime::now_utc()).await;
    let report = made.map_err(|error| take_failure(&error))?;
    if let Err(error) = TakenOver::new(&report, config.advertised()).write(&plan.best().path) {
        note(&format!(
            "WARNING: that it was taken over could not be noted in {} ({error}): nobody is warned who takes it over a second \
             time. Put it away, labelled",
            plan.best().path.display()
        ));
    }
    if output.json {
        return output.line(&report);
    }
    look::show(&report, output)?;
    note(&format!(
        "next: kura recover verify --config {path}, then kura serve --config {path}",
        path = arguments.config.display()
    ));
    Ok(())
}

/// What to do about a CA that is in the way: an attempt that was killed may have left it.
fn what_was_cut(config: &NodeConfig, folder: &Path) -> String {
    let data = config.data.canonicalize().unwrap_or_else(|_| config.data.clone());
    let cut = unfinished(&data);
    match cut.exists() {
        false => "name another folder with --ca: a CA is not overwritten; nothing was changed".into(),
        true => format!(
            "an attempt that was cut has left {}, and perhaps this: if nobody else made it, remove {} and {}, then run the same \
             again. Keys lie in both",
            cut.display(),
            cut.display(),
            folder.display()
        ),
    }
}

async fn root_key(arguments: &Arguments, prepared: &Prepared) -> Result<Key, Failure> {
    if let Some(path) = &arguments.root_key {
        return root_key_in(path);
    }
    let known = prepared.known().map_err(|error| take_failure(&error))?;
    let cluster = prepared.cluster_id();
    let confirmed = known.sets.iter().filter(|one| Some(one.set.root_check_value) == known.root_check_value);
    let set = confirmed.max_by_key(|one| (one.is_confirmed(), one.row.split_ms)).ok_or_else(|| {
        Failure::new(Exit::NotFound, "no shares restore this cluster's root key: none were ever made of it")
            .next("if a copy of the root key is kept elsewhere: --root-key FILE")
    })?;
    ask::gather_set(&cluster, set.set.clone()).await
}
