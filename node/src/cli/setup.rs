//! `kura init` and `kura join`: from an empty data directory to one that `kura serve` starts on.

use std::path::PathBuf;

use clap::Args;

use super::exit::{Failure, chain, not_made};
use super::output::Output;
use crate::config::NodeConfig;
use crate::identity::IdentityFileError;
use crate::init::{InitError, InitOptions};
use crate::join::JoinError;

/// Options of `kura init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The first voter's configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The new cluster's name.
    #[arg(long)]
    cluster: String,
}

/// Options of `kura join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The new member's configuration (TOML); its `peers` are asked.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs `kura init`.
pub async fn init(arguments: InitArguments, output: Output) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    let options = InitOptions { cluster_name: arguments.cluster };
    let serve = format!("kura serve --config {}", arguments.config.display());
    let report = crate::init::init(&config, &options).await.map_err(|error| match error {
        InitError::Identity(error) => not_made(&error).next(format!("this member is there already: {serve}")),
        error => not_made(&error),
    })?;
    let recovery_ca = report.recovery_ca.display().to_string();
    let told = serde_json::json!({
        "cluster": options.cluster_name, "node": config.name, "recovery_ca": recovery_ca,
    });
    output.thing(
        &told,
        &[
            ("cluster", options.cluster_name.clone()),
            ("recovery CA", format!("{recovery_ca} (add it to the bundle of every client)")),
            ("next", serve),
        ],
    )
}

/// Runs `kura join`.
pub async fn join(arguments: JoinArguments, output: Output) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    let serve = format!("kura serve --config {}", arguments.config.display());
    let report = crate::join::join(&config).await.map_err(|error| match error {
        JoinError::Identity(error @ IdentityFileError::Exists { .. }) => not_made(&error).next(format!(
            "it has joined: {serve}. A member whose log or disk was lost joins anew under another name (docs/operations.md, \
             \"Dead disk, dead machine\")"
        )),
        JoinError::Refused(_) => {
            Failure::failed(chain(&error)).next("a member must be approved before it joins: kura member approve")
        }
        error => not_made(&error),
    })?;
    let told = serde_json::json!({ "node": config.name, "raft_id": report.raft_id });
    output.thing(&told, &[("node", config.name.clone()), ("raft id", report.raft_id.to_string()), ("next", serve)])
}

fn load(path: &std::path::Path) -> Result<NodeConfig, Failure> {
    NodeConfig::load(path).map_err(|error| Failure::usage(chain(&error)))
}
