//! Namespaces of the run's own: network, mounts, processes.
//!
//! A run calls itself again through `unshare`. What it makes inside (addresses, filters, mounts, loop
//! devices, every node) ends with its first process, however that ends: there is nothing to clean up,
//! and two runs on one machine do not meet.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::DIRECTORY_VARIABLE;

/// Says inside that this is inside.
const INSIDE: &str = "KURA_CHAOS_APART";

/// Whether this process is the first of its namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some() && std::process::id() == 1
}

/// Calls this executable again, with the same arguments, in namespaces of its own, and waits for it.
///
/// # Errors
/// What the system says, if `unshare` is missing.
pub fn again(environment: &[(&str, &OsStr)]) -> io::Result<ExitStatus> {
    let own = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child", "--mount-proc", "--mount", "--propagation", "private", "--net"]);
    command.arg("--").arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    command.envs(environment.iter().copied());
    command.status()
}

/// Makes a directory for a run of this name, below the folder that [`DIRECTORY_VARIABLE`] names. It stays until it is removed.
///
/// # Errors
/// What the system says, with the path.
pub fn make_directory(run: &str) -> Result<PathBuf, String> {
    let parent = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let made = tempfile::TempDir::with_prefix_in(format!("kura-{run}-"), &parent);
    made.map(tempfile::TempDir::keep).map_err(|error| format!("{}: {error}", parent.display()))
}

/// Comes when the run is told to end: the first process of its namespaces gets no signal that it does not ask for.
pub async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
