//! Flipped bytes in a state's and a log's files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kura_cluster::Revision;
use kura_cluster::apply::Summary;
use kura_cluster::digest::Digest;
use kura_cluster::row::{RowHeader, StoredRow, Table};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::raft::types::log_id;
use crate::state::database::Progress;

const ROWS: u32 = 400;

/// A database with rows in tables and in blob files, at rest.
fn state(directory: &Path) {
    let database = Database::open(directory).unwrap();
    let mut summary = Summary::default();
    let mut rows = HashMap::new();
    for nth in 0..ROWS {
        // Blocks lie in blob files, facilities in tables.
        for (table, bytes) in [(Table::Block, 3000), (Table::Facility, 200)] {
            let mut key = vec![table.number()];
            key.extend_from_slice(&[nth as u8; 40]);
            key.extend_from_slice(&nth.to_be_bytes());
            let value: Bytes = Sha256::digest(nth.to_be_bytes()).iter().copied().cycle().take(bytes).collect();
            let revision = Revision { timeline: 0, index: 1 + u64::from(nth) };
            let value_sha256 = Sha256::digest(&value).into();
            let header = RowHeader { revision, replaced: Revision::default(), value_sha256 };
            let of_table = &mut summary.tables[table.place()];
            of_table.rows += 1;
            of_table.digest.add(Digest::of_row(&key, &header));
            rows.insert(Bytes::from(key), Some(StoredRow { header, value }));
        }
    }
    let applied = Some(log_id(1, 1000));
    database.write(rows.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
    database.flush().unwrap();
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files::numbered(directory, extension).unwrap().into_iter().map(|(_, p)| p).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn check(directory: &Path) -> Result<u64, ScrubError> {
    check_state(directory, &mut |_| Ok(()))
}

/// Flips one bit of a file at each of many places, checks a copy each time; answers what was found.
fn flipped(whole: &Path, name: &Path, step: usize, mut each: impl FnMut(usize, Result<u64, ScrubError>)) {
    let work = tempfile::tempdir().unwrap();
    let bytes = fs::read(whole.join(name)).unwrap();
    for at in (0..bytes.len()).step_by(step) {
        let directory = work.path().join("copy");
        copy(whole, &directory);
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(directory.join(name), changed).unwrap();
        each(at, check(&directory));
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn whole_files_are_found_whole() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    let mut read = 0;
    let index = check_state(directory.path(), &mut |bytes| {
        read += bytes;
        Ok(())
    });
    assert_eq!(index.unwrap(), 1000);
    assert!(read > 2 * u64::from(ROWS) * 3000, "blob files and rows are read: {read}");
}

#[test]
fn a_flipped_byte_of_a_blob_file_is_found_and_the_file_named() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    let blobs = files(directory.path(), "blob");
    assert!(!blobs.is_empty());
    for blob in blobs {
        let name = blob.strip_prefix(directory.path()).unwrap();
        let length = fs::metadata(&blob).unwrap().len() as usize;
        flipped(directory.path(), name, length / 40, |at, found| match found {
            Err(ScrubError::Damaged { file, .. }) => assert!(file.ends_with(name.to_str().unwrap()), "{at}: {file}"),
            other => panic!("byte {at}: {other:?}"),
        });
    }
}

#[test]
fn the_damaged_blob_file_is_named_and_not_one_that_is_being_written() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    let blob = files(directory.path(), "blob").remove(0);
    let work = tempfile::tempdir().unwrap();
    let copy = work.path().join("copy");
    fs::write(directory.path().join("000001.blob"), [0; 100]).unwrap();
    let database = Database::open(directory.path()).unwrap();
    assert_eq!(damaged_blob_file(&database, &copy), None);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let words = damaged_blob_file(&database, &copy).unwrap();
    assert!(words.starts_with(blob.to_str().unwrap()), "{words}");
    assert!(!copy.exists());
}

#[test]
fn a_flipped_byte_of_a_table_is_found_or_changes_nothing_that_is_read() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    for table in files(directory.path(), "sst") {
        let name = table.strip_prefix(directory.path()).unwrap();
        let length = fs::metadata(&table).unwrap().len() as usize;
        let (mut found, mut looks) = (0, 0);
        flipped(directory.path(), name, (length / 30).max(1), |at, result| {
            looks += 1;
            match result {
                Err(ScrubError::Damaged { file, what }) => {
                    let blames_manifest = file.ends_with("copy") && what.contains("MANIFEST");
                    assert!(file.ends_with(name.to_str().unwrap()) || blames_manifest, "{at}: {file}: {what}");
                    found += 1;
                }
                // Filters, properties and padding: every row was read, and the digests are right.
                Ok(index) => assert_eq!(index, 1000),
                Err(other) => panic!("byte {at}: {other:?}"),
            }
        });
        assert!(found > looks / 5, "{name:?}: {found} of {looks}");
    }
}

#[test]
fn rows_that_are_whole_but_not_those_that_were_applied_are_found() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    let database = Database::open(directory.path()).unwrap();
    let (applied, _, mut summary) = database.progress().unwrap();
    summary.tables[Table::Facility.place()].digest.add(Digest::from_bytes([1; 32]));
    let nothing = HashMap::new();
    database.write(nothing.iter(), &Progress { applied, membership: None, summary: &summary }).unwrap();
    database.flush().unwrap();
    drop(database);
    let error = check(directory.path()).unwrap_err();
    assert!(error.to_string().contains("table facility"), "{error}");
}

#[test]
fn whoever_asks_can_end_a_check() {
    let directory = tempfile::tempdir().unwrap();
    state(directory.path());
    let ended = check_state(directory.path(), &mut |_| Err(ScrubError::Ended));
    assert!(matches!(ended, Err(ScrubError::Ended)), "{ended:?}");
}

#[test]
fn a_flipped_byte_of_a_write_ahead_file_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = rocksdb::DB::open_default(directory.path()).unwrap();
    for nth in 0..300_u32 {
        rocks.put(nth.to_be_bytes(), vec![nth as u8; 1 + nth as usize * 7]).unwrap();
    }
    let path = files(directory.path(), "log").pop().unwrap();
    let check = |is_newest| files::check_log_file(&path, is_newest, &mut |_| Ok(()));
    check(true).unwrap();
    check(false).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 3 * 32 * 1024, "several blocks");
    // Not the last record's length: it may look like one that is being written.
    for at in (0..whole.len() - 4096).step_by(509) {
        let mut changed = whole.clone();
        changed[at] ^= 0x01;
        fs::write(&path, changed).unwrap();
        let found = check(true);
        assert!(matches!(&found, Err(ScrubError::Damaged { file, .. }) if file.ends_with(".log")), "{at}: {found:?}");
    }
    // A torn end is no damage where it is being written, and is where it is not.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    check(true).unwrap();
    assert!(matches!(check(false), Err(ScrubError::Damaged { .. })));
}
