//! Damage to what a stopped node has stored.
//!
//! Files are chosen by what any reader of the directory sees: RocksDB's names, and sizes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Which files of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Write-ahead logs of the Raft log.
    LogTail,
    /// Tables and blobs of the state.
    State,
}

impl Part {
    fn is(self, path: &Path) -> bool {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let below = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
        match self {
            Self::LogTail => end == "log" && below("log"),
            Self::State => matches!(end, "sst" | "blob") && below("state"),
        }
    }
}

/// The largest file of a part; nothing if there is none with content.
fn largest(data: &Path, part: Part) -> io::Result<Option<(PathBuf, u64)>> {
    let mut folders = vec![data.to_owned()];
    let mut found: Option<(PathBuf, u64)> = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && part.is(path.strip_prefix(data).unwrap_or(&path)) {
                let length = entry.metadata()?.len();
                if length > found.as_ref().map_or(0, |(_, most)| *most) {
                    found = Some((path, length));
                }
            }
        }
    }
    Ok(found)
}

/// Flips a bit somewhere in the middle half of the largest file of a part, and says where.
///
/// # Errors
/// What the system says; `NotFound` if there is no such file.
pub fn flip(data: &Path, part: Part, draw: u64) -> io::Result<String> {
    let (path, length) = largest(data, part)?.ok_or(io::ErrorKind::NotFound)?;
    let place = length / 4 + draw % (length / 2).max(1);
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    byte[0] ^= 1 << (draw % 8);
    file.write_all_at(&byte, place)?;
    file.sync_all()?;
    Ok(format!("a bit at {place} of {length} in {}", named(&path)))
}

/// Cuts the largest file of a part short by a third, and says where.
///
/// # Errors
/// As [`flip`].
pub fn cut(data: &Path, part: Part) -> io::Result<String> {
    let (path, length) = largest(data, part)?.ok_or(io::ErrorKind::NotFound)?;
    let left = length - length / 3;
    let file = File::options().write(true).open(&path)?;
    file.set_len(left)?;
    file.sync_all()?;
    Ok(format!("{left} of {length} bytes are left of {}", named(&path)))
}

fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped_and_an_end_cut_in_the_part_that_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for folder in ["log/db", "state/db"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (name, length) in [("log/db/000004.log", 900), ("log/db/000007.sst", 5_000), ("state/db/000009.sst", 400)] {
            fs::write(at(name), vec![7; length]).unwrap();
        }
        flip(directory.path(), Part::LogTail, 12_345).unwrap();
        let log = fs::read(at("log/db/000004.log")).unwrap();
        let changed: Vec<u8> = log.iter().copied().filter(|byte| *byte != 7).collect();
        assert!(changed.len() == 1 && (changed[0] ^ 7).count_ones() == 1);
        assert!(fs::read(at("log/db/000007.sst")).unwrap().iter().all(|byte| *byte == 7), "not the state's");
        cut(directory.path(), Part::State).unwrap();
        assert_eq!(fs::metadata(at("state/db/000009.sst")).unwrap().len(), 400 - 133);
        fs::remove_file(at("state/db/000009.sst")).unwrap();
        assert_eq!(flip(directory.path(), Part::State, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
