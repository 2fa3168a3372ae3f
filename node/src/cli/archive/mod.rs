//! `kura archive …`: looking at an archive, checking it, copying it. Offline: they read the archive itself and
//! ask no cluster.

mod export;
mod list;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

pub(super) use verify::{behind, is_fresh, not_vouched, signers, witness};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::archive::catalog::CatalogError;
use crate::archive::export::ExportError;
use crate::archive::replay::ReplayError;
use crate::archive::verify::VerifyError;
use crate::archive::{ArchiveStore, StoreError};

/// `kura archive …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where an archive ends: index, time, key ledger, generations.
    Status(list::StatusArguments),
    /// The generations, and why each is kept.
    List(list::Arguments),
    /// Check an archive: files, contents, a replay, and whether what is sealed opens.
    Verify(verify::Arguments),
    /// Copy the newest generations to another medium, or bring such a copy up to date.
    Export(export::Arguments),
    /// Keep a generation whatever the rules say.
    Hold(list::HoldArguments),
    /// End a hold.
    Release(list::HoldArguments),
}

/// Which archive.
#[derive(Debug, Args)]
struct Place {
    /// The archive: a directory, a file:// URL, or s3://BUCKET/PREFIX.
    place: String,
    #[command(flatten)]
    storage: StorageOption,
}

/// How S3-compatible storage is reached.
#[derive(Debug, Args)]
pub(super) struct StorageOption {
    /// The file that says how s3:// is reached: endpoint, authorities, where the access key is.
    #[arg(long = "storage", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl StorageOption {
    /// Opens an archive, which `option` names, that may need it.
    pub fn open(&self, option: &str, place: &str) -> Result<ArchiveStore, Failure> {
        open(option, place, ("--storage", self.file.as_deref()))
    }
}

/// Opens an archive; what is wrong is told by the option that names it.
pub(super) fn open(option: &str, place: &str, storage: (&str, Option<&Path>)) -> Result<ArchiveStore, Failure> {
    ArchiveStore::open_at(place, storage.1).map_err(|error| {
        let option = if matches!(error, StoreError::Storage(_)) { storage.0 } else { option };
        Failure::from(error).of(option)
    })
}

impl Place {
    fn open(&self) -> Result<ArchiveStore, Failure> {
        self.storage.open("PLACE", &self.place)
    }
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Status(arguments) => list::status(arguments, output).await,
        Command::List(arguments) => list::run(arguments, output).await,
        Command::Verify(arguments) => verify::run(arguments, output).await,
        Command::Export(arguments) => export::run(arguments, output).await,
        Command::Hold(arguments) => list::hold(arguments, output).await,
        Command::Release(arguments) => list::release(arguments, output).await,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Place { .. } => Exit::Usage,
            StoreError::Missing { .. } => Exit::Damaged,
            StoreError::Exists { .. } => Exit::Conflict,
            StoreError::Long { .. } => Exit::Damaged,
            StoreError::File { .. } => Exit::Failed,
            StoreError::Failed { .. } => Exit::Unavailable,
            StoreError::Storage(_) | StoreError::Unconditional { .. } => Exit::Usage,
        };
        let failure = Failure::new(exit, &error);
        match &error {
            StoreError::Place { place, .. } if place.starts_with("s3://") => {
                failure.next("docs/operations.md, \"Archive on S3\", has such a file")
            }
            StoreError::Place { .. } => failure.next("name a directory that is there, or a file:// URL of one"),
            StoreError::Missing { .. } | StoreError::Long { .. } => failure.next(VERIFY),
            StoreError::Failed { .. } => failure.next("see that the storage is there, then try again"),
            _ => failure,
        }
    }
}

const VERIFY: &str = "`kura archive verify` names everything that is wrong";

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            error => Failure::new(Exit::Damaged, error).next(VERIFY),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) | VerifyError::Replay(ReplayError::Store(error)) => error.into(),
            VerifyError::Empty | VerifyError::NoGeneration(_) => {
                Failure::new(Exit::NotFound, error).next("`kura archive list` shows what there is")
            }
            VerifyError::Vault(error) => Failure::new(Exit::Denied, error),
            error => Failure::failed(error),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Catalog(error) => error.into(),
            ExportError::Fault(_) => Failure::new(Exit::Damaged, error).next(VERIFY),
            ExportError::Empty => Failure::new(Exit::NotFound, error),
            ExportError::Target(_) | ExportError::OtherArchive(_) => Failure::new(Exit::Conflict, error).of("--to"),
        }
    }
}
