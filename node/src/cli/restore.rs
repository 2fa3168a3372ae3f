//! `kura restore …`: a cluster from its archive, offline, on the machine of the first voter.
//!
//! Invariant: shares come from the terminal or a pipe, as for `kura key …`.

mod show;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use kura_cluster::ClusterId;
use kura_cluster::archive::Fault;
use kura_cluster::word::ServiceLevel;

use super::archive::{StorageOption, behind, signers, witness};
use super::exit::{Exit, Failure, chain, check_clock, not_made};
use super::fencing::{Fencing, fits};
use super::files::readable_folder;
use super::given::{configuration, root_key, sha256, text};
use super::key::ask::gather;
use super::output::{Output, Progress, counted, note};
use crate::archive::ArchiveStore;
use crate::archive::replay::{Event, ReplayError};
use crate::certificates::Role;
use crate::clock::now_ms;
use crate::config::RootKeyConfig;
use crate::custody::Provider;
use crate::identity::IdentityFileError;
use crate::init::own_identity;
use crate::openings;
use crate::restore::apply::{ApplyError, Restorer, Vouched, follow};
use crate::restore::plan::{Plan, PlanError, Target, Wanted, plan};
use crate::restore::verify::{VerifyError, verify};
use crate::restore::work::WorkError;
use crate::vault::write_root_key;

/// `kura restore …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What would be restored, what would be left out, and whether the archive's chain is whole: every object there, in its
    /// length. What is in them is not read: `kura archive verify` does. Writes nothing.
    Plan(PlanArguments),
    /// Restore into an empty directory: a voter of a new timeline, which others join. Goes on where it was cut.
    Apply(ApplyArguments),
    /// Check a restored directory, which no node runs on.
    Verify(VerifyArguments),
}

/// What to restore.
#[derive(Debug, Args)]
struct What {
    /// The archive, or a copy of it: a directory, or a URL as in a backup's configuration.
    #[arg(long, value_name = "ARCHIVE")]
    from: String,
    #[command(flatten)]
    storage: StorageOption,
    /// Records as of this log index. Everything that restricts is restored as it is newest, whatever is asked for.
    #[arg(long, value_name = "N", conflicts_with = "to_time")]
    to_index: Option<u64>,
    /// Records as of this moment: 2026-04-01T09:30:00+09:00.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to_time: Option<u64>,
    /// A head of the journal that somebody kept (`kura audit head`): the archive must reach it. Without one nobody
    /// can tell that the newest part was cut off, and with it revocations.
    #[arg(long, value_name = "HEAD_FILE")]
    head: Option<PathBuf>,
    /// Only this key (SHA-256, hexadecimal) may have signed: the backup's, as it was approved. Can be given more
    /// than once.
    #[arg(long, value_name = "SHA256", value_parser = sha256)]
    signed_by: Vec<[u8; 32]>,
    /// The cluster that it must be (hexadecimal).
    #[arg(long, value_name = "ID", value_parser = cluster)]
    cluster: Option<ClusterId>,
}

/// Options of `kura restore plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    what: What,
    /// The directory into which it would be restored: whether it can be.
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
}

/// Options of `kura restore apply`.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    #[command(flatten)]
    what: What,
    /// The directory to restore into: empty, or not there yet. The configuration's `data` unless given.
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    /// The configuration of the voter of this machine: its name, address, certificate and root key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Why no head that somebody kept is held against the archive. It is journalled.
    #[arg(long, value_name = "REASON", conflicts_with = "head", value_parser = text)]
    without_head: Option<String>,
    #[command(flatten)]
    fencing: Fencing,
    /// Why it is restored. It is journalled.
    #[arg(long, value_parser = text)]
    reason: Option<String>,
    /// This machine's clock is right, although it is behind the last entry, or more than 14 days after it.
    #[arg(long)]
    time_is_right: bool,
    /// What the restored cluster serves at first.
    #[arg(long, value_enum, default_value_t = Open::Closed)]
    open: Open,
}

/// What a restored cluster serves at first.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Open {
    /// Offices alone.
    Closed,
    /// Emergencies, too.
    Emergency,
    /// All reads, too, and what restricts.
    Reads,
    /// Everything.
    Writes,
}

/// Options of `kura restore verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The restored directory.
    #[arg(long, value_name = "DIRECTORY")]
    into: PathBuf,
    /// The root key: then sealed rows are opened, too.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// About so many rows of each table are opened, evenly spread.
    #[arg(long, default_value_t = 10_000)]
    sample: u64,
}

fn moment(text: &str) -> Result<u64, &'static str> {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    const FORM: &str = "a time reads 2026-04-01T09:30:00+09:00";
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| FORM)?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| FORM)
}

fn cluster(text: &str) -> Result<ClusterId, &'static str> {
    ClusterId::from_hex(text).map_err(|_| "a cluster's id has 32 hexadecimal digits")
}

impl What {
    fn target(&self) -> Target {
        match (self.to_index, self.to_time) {
            (Some(index), _) => Target::Index(index),
            (_, Some(clock_ms)) => Target::Time(clock_ms),
            _ => Target::Newest,
        }
    }

    async fn plan(&self, store: &ArchiveStore) -> Result<(Plan, Wanted), Failure> {
        let wanted = Wanted {
            target: self.target(),
            trusted: self.signed_by.clone(),
            cluster_id: self.cluster,
            witness: self.head.as_deref().map(witness).transpose()?,
        };
        let progress = Progress::spinner();
        let tell = |event: Event| {
            if let Event::Doing(words) = event {
                progress.say(words);
            }
        };
        let plan = plan(store, &wanted, &tell).await?;
        Ok((plan, wanted))
    }
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    crate::serve::forbid_core_dumps();
    match command {
        Command::Plan(arguments) => plan_only(arguments, output).await,
        Command::Apply(arguments) => apply(arguments, output).await,
        Command::Verify(arguments) => verify_only(arguments, output),
    }
}

async fn plan_only(arguments: PlanArguments, output: Output) -> Result<(), Failure> {
    let store = arguments.what.storage.open("--from", &arguments.what.from)?;
    let (plan, _) = arguments.what.plan(&store).await?;
    let usable = arguments.into.as_deref().map(|into| (into, crate::restore::work::usable(into)));
    let (is_held, has_head) = (!arguments.what.signed_by.is_empty(), arguments.what.head.is_some());
    show::plan(&plan, is_held, has_head, usable.as_ref(), output)?;
    match plan.faults.len() {
        0 => Ok(()),
        _ if plan.faults.iter().all(Fault::is_lag) => Err(behind(&plan.faults)),
        count => Err(Failure::new(
            Exit::Damaged,
            format!("the archive has {}: nothing can be restored", counted(count as u64, "fault")),
        )
        .next("another copy of the archive, or an older generation of it (`kura archive verify` tells more)")),
    }
}

async fn apply(arguments: ApplyArguments, output: Output) -> Result<(), Failure> {
    let config = configuration(&arguments.config)?;
    let own = own_identity(&config.tls.certificate, &config.name)
        .map_err(|error| Failure::usage(chain(&error)).of("--config"))?;
    if own.role != Role::Voter {
        return Err(
            Failure::usage(format!("the certificate's role is {}: it takes a voter's", own.role)).of("--config")
        );
    }
    let provider = config.root_key.as_ref().map(Provider::new);
    let provider = provider
        .ok_or_else(|| Failure::usage("root_key: a voter's configuration must name where it is").of("--config"))?;
    let into = arguments.into.clone().unwrap_or_else(|| config.data.clone());
    if arguments.what.head.is_none() && arguments.without_head.is_none() {
        return Err(Failure::usage(
            "without a head that somebody kept nobody can tell whether the archive's newest part was cut off, \
             and with it revocations",
        )
        .next("give one with --head FILE, or say why there is none with --without-head REASON, which is journalled"));
    }
    let fenced = arguments.fencing.words()?;
    if let Some(reason) = &arguments.reason {
        fits("--reason", reason)?;
    }
    let store = arguments.what.storage.open("--from", &arguments.what.from)?;
    let (plan, wanted) = arguments.what.plan(&store).await?;
    check_clock(plan.newest.clock_ms, arguments.time_is_right)?;
    if wanted.trusted.is_empty() {
        signers(&plan.signed_by, false).iter().for_each(|words| note(&format!("WARNING: signed by {words}")));
    }
    let vouched = match (wanted.witness, arguments.without_head) {
        (Some(witness), _) => Vouched::By(witness),
        (None, why) => Vouched::Waived(why.unwrap_or_default()),
    };

    let progress = Progress::transfer(plan.bytes);
    let tell = |event: Event| match event {
        Event::Doing(words) => progress.say(words),
        Event::Bytes(count) => progress.add(count),
    };
    let given = provider.read().map_err(|error| Failure::usage(chain(&error)).of("--config: root_key"))?.map(Arc::new);
    let replays = follow(&store, (plan, &wanted), given.as_deref(), &into, &vouched, &tell).await?;
    let root = match &given {
        Some(root) => root.clone(),
        None => {
            progress.keep("the root key is not on this machine: it takes shares");
            let root = gather(&replays.known().map_err(Failure::failed)?, &replays.cluster_id()).await?;
            tokio::task::block_in_place(|| replays.check_root(&root))?;
            Arc::new(root)
        }
    };
    let restorer = Restorer {
        name: config.name.clone(),
        address: config.advertised().to_owned(),
        key_sha256: own.key_sha256,
        level: match arguments.open {
            Open::Closed => ServiceLevel::Closed,
            Open::Emergency => ServiceLevel::Emergency,
            Open::Reads => ServiceLevel::Reads,
            Open::Writes => ServiceLevel::Writes,
        },
        fenced,
        reason: arguments.reason.unwrap_or_default(),
    };
    let report = replays.finish(root.clone(), &restorer, &tell).await?;
    drop(progress);
    show::report(&report, &into, output)?;
    // As for a voter that joins: what the configuration names is where the node looks.
    if let (None, Some(RootKeyConfig::File(path))) = (&given, &config.root_key) {
        write_root_key(path, &root).map_err(|error| {
            Failure::failed(format!("the restore is done, but its root key was not kept: {}", chain(&error))).next(
                "do not restore again: start it without the key, and have the holders submit their shares \
                 (kura key submit)",
            )
        })?;
    }
    if !output.json {
        let shown = into.display();
        note(&format!("next: kura restore verify --into {shown}"));
        note(&format!("then, with that directory as `data`: kura serve --config {}", arguments.config.display()));
        note(
            "WARNING: that start ends the former cluster for good, wherever it reaches it; a rehearsal: only on a machine \
             that has no way to the cluster",
        );
    }
    Ok(())
}

fn verify_only(arguments: VerifyArguments, output: Output) -> Result<(), Failure> {
    readable_folder("--into", &arguments.into)?;
    let root = arguments.root_key.as_deref().map(root_key).transpose()?;
    if root.is_some() {
        let what = format!("kura restore verify, about {} rows of each table", arguments.sample);
        openings::note(&arguments.into, &what, now_ms()).map_err(|error| Failure::failed(chain(&error)))?;
    }
    let progress = Progress::spinner();
    let tell = |event: Event| {
        if let Event::Doing(words) = event {
            progress.say(words);
        }
    };
    let found = tokio::task::block_in_place(|| verify(&arguments.into, root, arguments.sample, &tell))?;
    drop(progress);
    show::verified(&found, output)?;
    match found.faults.len() {
        0 => Ok(()),
        count => {
            Err(Failure::new(Exit::Damaged, format!("the restored directory has {}", counted(count as u64, "fault")))
                .next("do not serve it: restore again into another directory"))
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Store(error) => error.into(),
            PlanError::Catalog(error) => error.into(),
            PlanError::Replay(error) => replay_failure(error),
            PlanError::Unreadable(_) => Failure::new(Exit::Damaged, error),
            error => Failure::new(Exit::NotFound, error),
        }
    }
}

fn replay_failure(error: ReplayError) -> Failure {
    match error {
        ReplayError::Store(error) => error.into(),
        ReplayError::Fault(_) => Failure::new(Exit::Damaged, error)
            .next("nothing was installed; `kura archive verify` names everything that is wrong"),
        error => Failure::failed(chain(&error)),
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Faults(faults) if faults.iter().all(Fault::is_lag) => behind(&faults),
            ApplyError::Faults(_) => Failure::new(Exit::Damaged, error)
                .next("nothing was written; `kura restore plan` names all of them, another copy may be whole"),
            ApplyError::Replay(error) => replay_failure(error),
            ApplyError::Catalog(error) => error.into(),
            ApplyError::Work(WorkError::File { .. }) => not_made(&error),
            ApplyError::Work(_) => Failure::new(Exit::Conflict, error),
            ApplyError::WrongRootKey => Failure::new(Exit::Denied, error),
            ApplyError::Unsound(_) => Failure::new(Exit::Damaged, error),
            error => Failure::failed(chain(&error)),
        }
    }
}

fn unrestored(error: &VerifyError) -> String {
    match error {
        VerifyError::Identity(_) => "nothing says whose it is".into(),
        error => chain(error),
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Identity(IdentityFileError::Missing { .. }) | VerifyError::Report { .. } => Failure::new(
                Exit::NotFound,
                format!("--into holds no cluster that was restored ({})", unrestored(&error)),
            )
            .next("name the directory into which `kura restore apply` restored, after it has ended"),
            VerifyError::Identity(_) => Failure::new(Exit::Damaged, chain(&error)),
            VerifyError::Vault(_) => Failure::new(Exit::Denied, chain(&error)),
            VerifyError::Database(_) => Failure::new(Exit::Damaged, chain(&error)),
        }
    }
}
