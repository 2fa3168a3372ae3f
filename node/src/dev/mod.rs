//! A whole cluster on one machine: real processes of this executable, each with a data directory of
//! its own, on loopback, with mutual TLS from a CA of its own. For developers, the demo and tests.
//!
//! Invariants
//! - The first start walks the documented path from bare hosts to a cluster with the commands of
//!   docs/operations.md; nothing is made here that an operator could not make.
//! - Everything lies under one directory, and a start on the same directory goes on with it. A first
//!   start that was cut off is begun anew: such a cluster was never handed to anybody.
//! - No child outlives this process: they are stopped in order, and watch their parent in case it is killed.
//! - One process at a time uses a directory.
//!
//! ```text
//! DIR/dev.toml              names, roles, ports
//! DIR/ca/                   ca.pem, ca.key
//! DIR/nodes/NAME/           config.toml, node.pem, node.key, node.csr, root.key (voters), data/, log.txt
//! DIR/archive/NAME/        the archive that a backup writes
//! DIR/clients/              application.toml, application-ssl.toml, registrar-1.toml, registrar-2.toml,
//!                           operator.toml, auditor.toml, recovery.toml; certificates and keys
//! DIR/shares/               holder-1.txt …: shares of the root key, if they were asked for
//! ```

mod certificates;
mod cluster;
mod first_start;
mod layout;
mod plan;
mod ports;
mod process;
mod shares;

pub use cluster::{Cluster, Options};
pub use layout::{ClientFile, Layout};
pub use plan::{Member, Plan};
pub use ports::free as free_ports;
pub use rustix::process::Signal;

use std::io;
use std::path::PathBuf;

/// Most members of a cluster on one machine.
pub const MEMBERS_MAX: u32 = 16;

/// Why a cluster on this machine could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// A file or folder could not be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another kura process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was made for something else.
    #[error("{path} holds other files: choose an empty or a new directory")]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// The directory's dev.toml is not to be understood.
    #[error("{path}: {message}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// More or fewer members than possible.
    #[error("{voters} voters and {backups} backups are not possible: 1 voter at least, {MEMBERS_MAX} members at most")]
    Members {
        /// Voters asked for.
        voters: u32,
        /// Backups asked for.
        backups: u32,
    },
    /// The directory holds a cluster of another size.
    #[error(
        "{path} holds a cluster of {voters} voters and {backups} backups: start it as that, or choose another directory"
    )]
    OtherSize {
        /// The directory.
        path: PathBuf,
        /// Its voters.
        voters: u32,
        /// Its backups.
        backups: u32,
    },
    /// No ports are free.
    #[error("no {wanted} free ports on 127.0.0.1{}", .from.map_or_else(String::new, |port| format!(" from {port} on")))]
    Ports {
        /// How many are needed.
        wanted: usize,
        /// From where on, if that was asked for.
        from: Option<u16>,
    },
    /// A certificate or request could not be made.
    #[error("certificates: {0}")]
    Certificates(String),
    /// A command failed.
    #[error("kura {command} for {node} failed; {log} says why: {message}")]
    Command {
        /// The command.
        command: &'static str,
        /// The node.
        node: String,
        /// Its log.
        log: PathBuf,
        /// What it said last.
        message: String,
    },
    /// A node ended by itself.
    #[error("{node} ended ({status}); {log} says why: {message}")]
    Ended {
        /// The node.
        node: String,
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
        /// What it said last.
        message: String,
    },
    /// A node of that name is not here, or does not run.
    #[error("no node {0} runs here")]
    NoSuchNode(String),
    /// Something took too long.
    #[error("{what} did not come about within {seconds} s: {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
    },
    /// The cluster refused something.
    #[error("{what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the cluster said.
        message: String,
    },
}

impl DevError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn refused(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Refused { what: what.into(), message: crate::cli::chain(error) }
    }
}
