//! `kura init` and `kura join`: from an empty data directory to one that `kura serve` starts on.

use std::path::PathBuf;

use clap::Args;
use kura_cluster::hexadecimal;

use super::archive::StorageOption;
use super::exit::{Exit, Failure, chain, not_made};
use super::given::{configuration, misconfigured, sha256};
use super::output::{Output, Progress};
use crate::archive::replay::{Event, ReplayError};
use crate::identity::IdentityFileError;
use crate::init::{InitError, InitOptions};
use crate::join::{Approved, JoinError, SeedFrom, There};
use crate::seed::SeedError;

/// Options of `kura init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The first voter's configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The new cluster's name.
    #[arg(long, value_parser = super::given::cluster)]
    cluster: String,
    /// How long the outcome of a request can be asked for, in minutes: 10 to 1,440. It stays as it is: each request is a row
    /// on every member until then.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=1440))]
    request_window: u64,
}

/// Options of `kura join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The new member's configuration (TOML); its `peers` are asked.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A backup only: take the first state from this archive (a directory, or s3://BUCKET/PREFIX), the rest from the
    /// leader's log. It counts for nothing until a voter's signed head bears it out.
    #[arg(long, value_name = "ARCHIVE")]
    seed_from: Option<String>,
    /// With --seed-from: this key (SHA-256, hexadecimal), too, may have signed the archive: a former backup's, as it was
    /// approved. Otherwise only members' keys may. Can be given more than once.
    #[arg(long, value_name = "SHA256", value_parser = sha256, requires = "seed_from")]
    signed_by: Vec<[u8; 32]>,
    #[command(flatten)]
    storage: StorageOption,
}

/// Runs `kura init`.
pub async fn init(arguments: InitArguments, output: Output) -> Result<(), Failure> {
    let config = configuration(&arguments.config)?;
    let options = InitOptions { cluster_name: arguments.cluster, request_window_ms: arguments.request_window * 60_000 };
    let serve = format!("kura serve --config {}", arguments.config.display());
    let report = crate::init::init(&config, &options).await.map_err(|error| match error {
        InitError::Identity(error @ IdentityFileError::Exists { .. }) => {
            not_made(&error).next(format!("this member is there already: {serve}"))
        }
        InitError::RootKeyThere { .. } => Failure::new(Exit::Conflict, chain(&error)).next(
            "if a `kura init` that was cut has left it, and no cluster uses it, delete it and run the same again; else name \
             another file",
        ),
        InitError::Cut { .. } => Failure::new(Exit::Conflict, chain(&error)).next(
            "delete these, and the file that root_key names if it was made by the same run; then run the same again",
        ),
        InitError::NoRootKey | InitError::Certificate { .. } | InitError::Tls(_) => {
            misconfigured(&arguments.config, &config, None, &chain(&error))
                .next("nothing was made: mend it, then run the same again")
        }
        // The folder for the root key is not there, or cannot be written.
        InitError::Vault(_) => Failure::usage(chain(&error)).of("--config: root_key").next("nothing was made"),
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
    let config = configuration(&arguments.config)?;
    let serve = format!("kura serve --config {}", arguments.config.display());
    let store = arguments.seed_from.as_deref().map(|place| arguments.storage.open("--seed-from", place)).transpose()?;
    let progress = store.is_some().then(Progress::bytes);
    let tell = |event: Event| match (&progress, event) {
        (Some(progress), Event::Doing(words)) => progress.say(words),
        (Some(progress), Event::Bytes(count)) => progress.add(count),
        (None, _) => {}
    };
    let seed_from = store.as_ref().map(|store| SeedFrom { store, signers: arguments.signed_by.clone(), tell: &tell });
    let joined = crate::join::join(&config, seed_from).await;
    drop(progress);
    let report = joined.map_err(|error| match error {
        JoinError::There(there) => Failure::new(Exit::Conflict, &there).next(already_there(&there, &serve)),
        JoinError::Refused(_) => Failure::new(Exit::Denied, chain(&error)).next(format!(
            "whoever's approval is missing: kura member approve {} --address {}; then run the same again",
            config.tls.certificate.display(),
            config.advertised(),
        )),
        JoinError::Seed(error) => not_seeded(error),
        JoinError::OtherRootKey { .. } => Failure::new(Exit::Conflict, chain(&error)).next(
            "find out whose key it is: it may be another cluster's only copy. Name another file for the root key in the \
             configuration, or move this one away; then run the same again",
        ),
        JoinError::SeededVoter => Failure::usage(error).of("--seed-from"),
        JoinError::NoPeers
        | JoinError::Peer(_)
        | JoinError::RootKey(_)
        | JoinError::Tls(_)
        | JoinError::Certificate(InitError::Certificate { .. }) => {
            misconfigured(&arguments.config, &config, None, &chain(&error))
        }
        // The folder for the root key is not there, or cannot be written.
        JoinError::Vault(_) => misconfigured(&arguments.config, &config, Some("root_key"), &chain(&error)),
        JoinError::Unreached(_) => Failure::new(Exit::Unavailable, chain(&error)).next(
            "start a member that `peers` of the configuration names, or name another there; then run the same again",
        ),
        error => not_made(&error),
    })?;
    let signers: Vec<String> = report.seed_signed_by.iter().map(hexadecimal).collect();
    let told = serde_json::json!({
        "node": config.name, "raft_id": report.raft_id, "seeded_index": report.seeded_index, "seed_signed_by": signers,
    });
    let mut fields = vec![("node", config.name.clone()), ("raft id", report.raft_id.to_string())];
    if let Some(index) = report.seeded_index {
        fields.push(("seeded", format!("up to entry {index}; a voter's signed head has to bear it out")));
        fields.extend(signers.iter().map(|key| {
            let named = arguments.signed_by.iter().any(|given| hexadecimal(given) == *key);
            ("signed by", format!("{key}, {}", if named { "as --signed-by says" } else { "a member's key" }))
        }));
    }
    fields.push(("next", serve));
    output.thing(&told, &fields)
}

/// What to do about a data directory that belongs to a member already.
fn already_there(there: &There, serve: &str) -> String {
    let anew = format!("stop what runs there, move {} away, and run the same again", there.data.display());
    match &there.approved {
        _ if there.is_current() => format!(
            "{serve}. A member whose log or disk was lost joins anew under another name (docs/operations.md, \"Dead disk, dead \
             machine\")"
        ),
        Approved::As { .. } => format!("this directory is of no use any more: {anew}"),
        Approved::Not(_) if there.removed.is_some() => {
            format!("to have the machine in the cluster again: `kura member approve`, then {anew}")
        }
        Approved::Not(_) | Approved::Unknown(_) => format!(
            "`kura member list` shows whether it is a member. If it is: {serve}. If it was removed, or approved anew: {anew}"
        ),
    }
}

fn not_seeded(error: SeedError) -> Failure {
    let next = "take another archive with --seed-from, or join without it";
    match error {
        SeedError::Store(error) => error.into(),
        SeedError::Catalog(error) => error.into(),
        SeedError::Replay(ReplayError::Store(error)) => error.into(),
        SeedError::Replay(ReplayError::Fault(_)) | SeedError::Fault(_) | SeedError::Unsound(_) => {
            Failure::new(Exit::Damaged, chain(&error)).next(next)
        }
        SeedError::Signer(ref key) => Failure::new(Exit::Damaged, chain(&error)).next(format!(
            "if it is a former backup's, and was approved as its key: --signed-by {key}. Otherwise {next}"
        )),
        SeedError::Empty => Failure::new(Exit::NotFound, chain(&error)).next(next),
        SeedError::Timeline { .. } | SeedError::NotEmpty(_) => Failure::new(Exit::Conflict, chain(&error)),
        error => Failure::failed(chain(&error)).next(next),
    }
}
