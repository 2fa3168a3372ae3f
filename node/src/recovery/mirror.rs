//! Databases of a stopped node, seen or taken over without a change to the original.
//!
//! A RocksDB directory is tables and blob files, which never change once written, and a few small files. A mirror
//! for a *look* names the large files by symbolic links; a mirror to *work* on has hard links to them, or copies
//! where the file system is another. The small files are copied in both, so that nothing is written to the original.

use std::io;
use std::path::Path;

/// What a mirror is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Reading only.
    Look,
    /// Being opened as a database of its own.
    Work,
}

/// Makes a mirror of a database's directory in `into`, which must not exist.
///
/// # Errors
/// What the system says.
pub fn mirror(from: &Path, into: &Path, purpose: For) -> io::Result<()> {
    let from = from.canonicalize()?;
    std::fs::create_dir_all(into)?;
    for entry in std::fs::read_dir(&from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let text = name.to_string_lossy();
        // RocksDB's own lock and notes.
        if !entry.file_type()?.is_file() || text == "LOCK" || text.starts_with("LOG") {
            continue;
        }
        let to = into.join(&name);
        let never_changes = path.extension().is_some_and(|extension| extension == "sst" || extension == "blob");
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        match purpose {
            For::Look if never_changes || is_log => std::os::unix::fs::symlink(&path, &to)?,
            For::Work if never_changes => link_or_copy(&path, &to)?,
            _ => copy(&path, &to)?,
        }
    }
    std::fs::File::open(into)?.sync_all()
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Another file system, or one without links.
        Err(_) => copy(from, to),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to)?;
    std::fs::File::open(to)?.sync_all()
}
