//! `kura serve`: one node, until SIGTERM or SIGINT.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

use super::exit::{Exit, Failure, chain};
use super::given::{configuration, misconfigured};
use crate::identity::IdentityFileError;
use crate::raft::open::OpenError;
use crate::serve::{Said, ServeError};
use crate::state::DatabaseError;

/// How often a child looks whether its parent still lives.
const PARENT_LOOK: Duration = Duration::from_millis(200);

/// How long a child that lost its parent may drain before it just ends.
const ORPHAN_DRAIN: Duration = Duration::from_secs(10);

/// Options of `kura serve`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The node's configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// At the first start after `kura restore apply` or `kura recover apply`: end the former cluster, although a majority
    /// of its voters may be alive. Without this the node does not start where they answer.
    #[arg(long)]
    end_former_cluster: bool,
    /// After a fork (two clusters of one id on one timeline): people have ended the other one and keep it from starting. This
    /// node serves again, unless the other still answers.
    #[arg(long)]
    other_cluster_is_ended: bool,
    /// Stop when the process with this id is no longer the parent of this one (`kura dev` does so).
    #[arg(long, value_name = "PID", hide = true)]
    exit_with_parent: Option<i32>,
}

/// Runs it.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = configuration(&arguments.config)?;
    let told = config.clone();
    if let Some(parent) = arguments.exit_with_parent {
        watch_parent(parent);
    }
    let said = Said { end_former: arguments.end_former_cluster, other_is_ended: arguments.other_cluster_is_ended };
    crate::serve::serve(config, said).await.map_err(|error| match &error {
        ServeError::FormerLives { .. } => Failure::new(Exit::Conflict, chain(&error)).next(
            "a rehearsal: only on a machine that has no way to the cluster. A cluster that is to be given up: stop and \
             fence its members, then run the same again, or end it knowingly with --end-former-cluster",
        ),
        ServeError::OtherLives { .. } => Failure::new(Exit::Conflict, chain(&error)).next(
            "if that one is to go on: do not start this one, keep its directory apart. If this one is: stop the other's nodes, \
             move their data directories away, then run the same again (docs/recovery.md, \"Two clusters on one timeline\")",
        ),
        ServeError::Forked(_) => Failure::new(Exit::Conflict, chain(&error)).next(
            "decide which of the two goes on; move the data directories of the other's nodes away, so that none is started \
             again; then start each node of the one that goes on with --other-cluster-is-ended (docs/recovery.md, \"Two \
             clusters on one timeline\")",
        ),
        // A restart changes nothing about it: a supervisor is to leave it.
        ServeError::Fenced(_) => Failure::new(Exit::Conflict, chain(&error)),
        // Starting again mends nothing.
        ServeError::Damaged(_)
        | ServeError::LogFailed(_)
        | ServeError::Earlier(_)
        | ServeError::Seed(_)
        | ServeError::State(DatabaseError::Damaged { .. } | DatabaseError::Form { .. })
        | ServeError::Log(
            OpenError::Damaged { .. }
            | OpenError::BelowMark { .. }
            | OpenError::Hole { .. }
            | OpenError::MarksMissing { .. }
            | OpenError::DatabaseMissing { .. },
        ) => Failure::new(Exit::Damaged, chain(&error)),
        ServeError::OtherNode { .. } => Failure::usage(chain(&error)).of("--config"),
        ServeError::Tls(_) | ServeError::ClientTls(_) | ServeError::Signatures(_) => {
            misconfigured(&arguments.config, &told, None, &chain(&error))
        }
        ServeError::Listen { source, .. } => {
            let failure = misconfigured(&arguments.config, &told, Some("listen"), &chain(&error));
            match source.kind() {
                ErrorKind::AddrInUse => Failure { exit: Exit::Conflict, ..failure }
                    .next("end the process that listens there, or name another address; then run the same again"),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput => failure,
                // At the start of a machine its network, or who tells addresses, may come later.
                _ => Failure { exit: Exit::Unavailable, ..failure }
                    .next("name an address of this machine, or run the same again once it has it"),
            }
        }
        ServeError::Log(OpenError::InUse { .. }) | ServeError::State(DatabaseError::InUse { .. }) => {
            Failure::new(Exit::Conflict, chain(&error))
                .of("--config: data")
                .next("end the process that uses it, then run the same again")
        }
        ServeError::Identity(IdentityFileError::Missing { .. }) => Failure::new(Exit::NotFound, chain(&error)),
        _ => Failure::failed(chain(&error)),
    })
}

/// A thread, not a task: it must also end a process whose runtime is stuck. The parent names itself,
/// so that one that died before this began is noticed, too.
fn watch_parent(parent: i32) {
    let parent = Pid::from_raw(parent);
    std::thread::spawn(move || {
        while getppid() == parent {
            std::thread::sleep(PARENT_LOOK);
        }
        tracing::warn!("the parent process is gone: stopping");
        let _ = kill_process(getpid(), Signal::TERM);
        std::thread::sleep(ORPHAN_DRAIN);
        std::process::exit(super::Exit::Failed as i32);
    });
}
