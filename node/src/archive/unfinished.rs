//! What a killed writer left unfinished in an archive's directory.
//!
//! The storage library writes `NAME#NUMBER`, syncs that and renames it (object_store's `local`). Such names it neither lists
//! nor deletes: a wrapped key among them would outlive its erasure.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use kura_cluster::archive::ObjectName;

use super::store::{ArchiveStore, StoreError};

/// Removes those files, and folders with nothing else; makes deletions there durable, since the library syncs only what it
/// writes. Answers how many files there were. For whoever alone writes here, while nothing is on its way.
pub async fn remove_unfinished(store: &ArchiveStore) -> Result<u64, StoreError> {
    let Some(directory) = store.directory.clone() else { return Ok(0) };
    let place = directory.display().to_string();
    let removed = tokio::task::spawn_blocking(move || remove(&directory)).await;
    removed
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| StoreError::Failed { name: place, why: error.to_string() })
}

fn remove(directory: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for folder in ObjectName::FOLDERS {
        match remove_below(&directory.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            below => removed += below?,
        }
    }
    sync(directory)?;
    Ok(removed)
}

fn remove_below(folder: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            removed += remove_below(&path)?;
            // A generation whose first manifest came not about is none.
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => return Err(error),
                _ => {}
            }
        } else if is_unfinished(&path) {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    sync(folder)?;
    Ok(removed)
}

/// No object's name has a `#`.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.split_once('#')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
