//! Short writes, as the kernel makes them: a limit on the length of files, set on a node that runs.
//!
//! A write that crosses the limit writes what fits and tells how much that is; the next one fails (EFBIG). So what is told
//! is true, other than what a tracer would make of it: bytes that a tracer calls unwritten may have been written, or the
//! other way round. Nodes of a site ignore SIGXFSZ, which would end them before they saw the error.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::setting::{Setting, Trouble, skip};
use super::undo::{Told, Undo};
use crate::cluster::Cluster;

/// What a node says of a write that failed so.
const SAID: &str = "File too large";

/// How far beyond the longest file of the log the limit lies, at most: within the next writes.
const BEYOND: u64 = 20_000;

/// A limit that was set on a node.
#[derive(Debug)]
pub(super) struct Limit {
    data: PathBuf,
    log: PathBuf,
    logged: u64,
    bytes: u64,
}

impl Setting {
    /// Lets every file of a voter end at a length that its log is about to come to.
    pub(super) fn short_write(&mut self, cluster: &mut Cluster) -> Result<(), Trouble> {
        let node = self.target(cluster)?;
        let Some((_, id)) = cluster.ids().into_iter().find(|(name, _)| *name == node) else {
            return skip("it does not run");
        };
        let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return skip("it has no process id") };
        let (data, log) = (cluster.folder(&node).join("disk/data"), cluster.folder(&node).join("log.txt"));
        let longest = lengths(&data.join("log")).into_iter().max().unwrap_or(0);
        // Odd, as no whole block or record of RocksDB's is.
        let bytes = (longest + self.draw as u64 * 37 % BEYOND) | 1;
        let logged = fs::metadata(&log)?.len();
        cluster.excuse(&node, true);
        self.undo.push(Undo::Short { node, limit: Limit { data, log, logged, bytes } });
        prlimit(Some(id), Resource::Fsize, Rlimit { current: Some(bytes), maximum: None })?;
        self.detail = format!("files end at {bytes} bytes");
        Ok(())
    }
}

impl Limit {
    /// Whether a write was short: a file that ends at the limit, or an error that the node told since.
    pub(super) fn told(&self, ended: bool) -> Told {
        let at = lengths(&self.data).into_iter().filter(|length| *length == self.bytes).count();
        let said = since(&self.log, self.logged).matches(SAID).count();
        let end = if ended { "it had ended by itself" } else { "it still ran" };
        Told { hit: at + said > 0, seen: Some(format!("{at} files end there, {said} errors told, {end}")) }
    }
}

/// The lengths of all files below a directory.
fn lengths(folder: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => found.push(metadata.len()),
                // It went meanwhile.
                Err(_) => {}
            }
        }
    }
    found
}

/// What was written to a file from a place on.
fn since(path: &Path, place: u64) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(place))?;
        file.read_to_end(&mut bytes)
    });
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_or_an_error_since_shows_a_short_write() {
        let directory = tempfile::tempdir().unwrap();
        let (data, log) = (directory.path().join("data"), directory.path().join("log.txt"));
        fs::create_dir_all(data.join("log")).unwrap();
        fs::write(&log, "File too large, long ago\n").unwrap();
        let limit = Limit { data: data.clone(), logged: fs::metadata(&log).unwrap().len(), log: log.clone(), bytes: 7 };
        assert!(!limit.told(true).hit);
        fs::write(data.join("log/000004.log"), "1234567").unwrap();
        assert_eq!(limit.told(true).seen.unwrap(), "1 files end there, 0 errors told, it had ended by itself");
        fs::remove_file(data.join("log/000004.log")).unwrap();
        fs::write(&log, "File too large, long ago\nIO error: File too large\n").unwrap();
        assert!(limit.told(false).hit);
    }
}
