//! The mark that a take-over leaves in the survivor's directory, in the file `taken-over` (JSON): whoever plans a second one
//! from the same disk is told that there is a cluster already that began there. It is the only thing that a take-over
//! writes there.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::raft::marks::sync_directory;
use crate::vault::aside;

/// Its name.
const FILE: &str = "taken-over";

/// Who has begun from a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The timeline that began.
    pub timeline: u64,
    /// The node that began it.
    pub member: String,
    /// Host and port at which it was to be reached.
    pub address: String,
}

impl TakenOver {
    /// What a take-over's statement says of it.
    pub fn new(report: &Report, address: &str) -> TakenOver {
        TakenOver {
            at_ms: report.at_ms,
            timeline: report.timeline,
            member: report.member.clone(),
            address: address.to_owned(),
        }
    }

    /// The mark in a directory, if there is one.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn read(survivor: &Path) -> io::Result<Option<TakenOver>> {
        match std::fs::read(survivor.join(FILE)) {
            // One that says nothing was still written by somebody who took over.
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| TakenOver::unknown()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unknown() -> TakenOver {
        TakenOver { at_ms: 0, timeline: 0, member: "an unknown node".into(), address: "unknown".into() }
    }

    /// Writes it durably, in the place of one of before.
    ///
    /// # Errors
    /// What the system says: the disk may be one that cannot be written.
    pub fn write(&self, survivor: &Path) -> io::Result<()> {
        let path = survivor.join(FILE);
        let new = aside(&path);
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_directory(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TakenOver::read(folder.path()).unwrap(), None);
        let mark = TakenOver { at_ms: 5, timeline: 1, member: "backup-1".into(), address: "kita.example:7400".into() };
        mark.write(folder.path()).unwrap();
        assert_eq!(TakenOver::read(folder.path()).unwrap(), Some(mark));
        std::fs::write(folder.path().join(FILE), b"{").unwrap();
        assert_eq!(TakenOver::read(folder.path()).unwrap(), Some(TakenOver::unknown()), "a damaged one warns, too");
    }
}
