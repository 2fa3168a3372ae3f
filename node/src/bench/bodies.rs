//! The small bodies that are written again and again.
//!
//! Invariant: they are in memory before anything is measured, [`BYTES_MAX`] of them at most.

use std::path::Path;

use bytes::Bytes;
use kura_client::{Class, Date};

use crate::cli::{Failure, note};
use crate::folder::Folder;
use crate::samples::{Generator, Mix};

/// Generated bodies.
const GENERATED: usize = 4_000;
/// Most bytes that are held; further files of a folder are left out, and that is told.
const BYTES_MAX: u64 = 512 << 20;
/// The earliest clinical day that is written; participants' consents are as old.
pub(super) const DAY_FIRST: Date = Date::from_days(-25_567);

/// A body and what is told with it.
#[derive(Debug)]
pub(super) struct SmallBody {
    pub class: Class,
    pub media_type: &'static str,
    pub day: Date,
    pub bytes: Bytes,
}

/// Reads a folder's files, or generates FHIR as JP-CLINS gathers it. Blocking. Never empty.
///
/// # Errors
/// If the folder or a file in it cannot be read, or has no files.
pub(super) fn load(input: Option<&Path>, seed: u64) -> Result<Vec<SmallBody>, Failure> {
    let bodies = match input {
        Some(path) => folder(path)?,
        None => generated(seed)?,
    };
    if bodies.is_empty() {
        return Err(Failure::usage("the input folder has no files"));
    }
    Ok(bodies)
}

fn generated(seed: u64) -> Result<Vec<SmallBody>, Failure> {
    let mut generator = Generator::new(seed);
    let today = Date::today();
    let bodies = (0..GENERATED).map(|_| {
        let sample = generator.sample(Mix::Clins);
        Ok(SmallBody {
            class: sample.class_word.parse().map_err(Failure::failed)?,
            media_type: sample.media_type,
            day: Date::from_days(sample.clinical_day).min(today),
            bytes: sample.bytes.into(),
        })
    });
    bodies.collect()
}

fn folder(path: &Path) -> Result<Vec<SmallBody>, Failure> {
    let today = Date::today();
    let mut files = Folder::open(path).map_err(Failure::usage)?;
    let (mut bodies, mut total, mut left_out) = (Vec::new(), 0, 0);
    for file in &mut files {
        if total + file.length > BYTES_MAX {
            left_out += 1;
            continue;
        }
        let bytes = Bytes::from(std::fs::read(&file.path)?);
        total += bytes.len() as u64;
        bodies.push(SmallBody {
            class: file.what.class_word.parse().map_err(Failure::failed)?,
            media_type: file.what.media_type,
            day: file.what.day.map_or(today, Date::from_days).clamp(DAY_FIRST, today),
            bytes,
        });
    }
    if left_out > 0 {
        note(&format!("{left_out} files are left out: at most {} MiB are held in memory", BYTES_MAX >> 20));
    }
    if files.report().problems > 0 {
        note(&format!("{} entries of the folder are not files that can be read", files.report().problems));
    }
    // A folder's order is the file system's: by content it is the same everywhere.
    bodies.sort_by(|one, other| one.bytes.cmp(&other.bytes));
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bodies_are_as_long_as_jp_clins_and_in_the_past() {
        let bodies = load(None, 7).unwrap();
        let total: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        assert!((3_500..5_000).contains(&(total / bodies.len())), "{}", total / bodies.len());
        assert!(bodies.iter().all(|body| body.day >= DAY_FIRST && body.day <= Date::today()));
    }

    #[test]
    fn a_folder_gives_every_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(Some(folder.path()), 7).is_err());
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("note.txt"), "a note").unwrap();
        std::fs::write(folder.path().join("deep/empty"), "").unwrap();
        let bodies = load(Some(folder.path()), 7).unwrap();
        assert_eq!(bodies.iter().map(|body| body.bytes.len()).collect::<Vec<_>>(), [0, 6]);
    }
}
