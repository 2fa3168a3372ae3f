//! Reading every row of a state at rest: each value against its hash, each table against what the summary counts.
//!
//! Tables are read in ranges of keys, several at a time: hashing is what takes the time, and digests are sums.

use std::sync::{Mutex, PoisonError};

use kura_cluster::apply::Summary;
use kura_cluster::digest::Digest as RowDigest;
use kura_cluster::row::{Table, is_stripped};
use sha2::{Digest, Sha256};

use crate::state::{Database, DatabaseError};

/// Ranges of a table's keys, by the first bits after the table's number: pseudonyms and hashes are spread evenly.
const RANGES: usize = 16;
/// Threads that read at a time, at most.
const THREADS_MAX: usize = 8;

/// Keys `from ≤ key < to` of a table.
type KeyRange = (Table, Vec<u8>, Vec<u8>);

/// What the rows of some keys add up to.
#[derive(Clone, Copy)]
struct Sum {
    rows: u64,
    digest: RowDigest,
    /// Whether every value had its hash.
    values: bool,
}

/// Reads every row of a state: whether values have their hashes (those of key rows are elsewhere), and rows add up to
/// their tables' digests. Answers the tables that do not.
///
/// # Errors
/// The database's.
pub fn scrub(database: &Database, summary: &Summary) -> Result<Vec<&'static str>, DatabaseError> {
    let left: Mutex<Vec<KeyRange>> = Mutex::new(Table::ALL.into_iter().flat_map(ranges).collect());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        let mut sums = Vec::new();
        while let Some((table, from, to)) = next() {
            sums.push((table, sum(database, table, &from, &to)?));
        }
        Ok::<_, DatabaseError>(sums)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let found = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        found.extend(
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
        );
        found
    });
    let mut sums = Table::ALL.map(|_| Sum { rows: 0, digest: RowDigest::default(), values: true });
    for of_thread in found {
        for (table, part) in of_thread? {
            let sum = &mut sums[table.place()];
            sum.rows += part.rows;
            sum.digest.add(part.digest);
            sum.values &= part.values;
        }
    }
    let differs = |table: &Table| {
        let (found, expected) = (sums[table.place()], summary.table(*table));
        (found.rows, found.digest, found.values) != (expected.rows, expected.digest, true)
    };
    Ok(Table::ALL.into_iter().filter(differs).map(Table::word).collect())
}

fn sum(database: &Database, table: Table, from: &[u8], to: &[u8]) -> Result<Sum, DatabaseError> {
    let mut sum = Sum { rows: 0, digest: RowDigest::default(), values: true };
    database.snapshot().pass::<DatabaseError>(from, to, |key, header, value| {
        sum.rows += 1;
        sum.digest.add(RowDigest::of_row(key, &header));
        let is_key = table.holds_keys() && is_stripped(value);
        sum.values &= is_key || <[u8; 32]>::from(Sha256::digest(value)) == header.value_sha256;
        Ok(())
    })?;
    Ok(sum)
}

/// A table's keys in [`RANGES`] ranges: the first begins with the table, the last ends with it.
fn ranges(table: Table) -> Vec<KeyRange> {
    let number = table.number();
    let bound = |place: usize| match u8::try_from(place * 256 / RANGES) {
        Ok(0) => vec![number],
        Ok(bits) => vec![number, bits],
        Err(_) => vec![number + 1],
    };
    (0..RANGES).map(|place| (table, bound(place), bound(place + 1))).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kura_cluster::Command;
    use kura_cluster::apply::Batch;
    use kura_cluster::row::{RowKey, StoredRow};
    use prost::Message;

    use super::*;
    use crate::state::database::Progress;

    /// Headers alone add up to the digests that members sign: a forged base could leave every body out.
    #[test]
    fn only_rows_of_keys_may_lack_their_values() {
        for (table, is_whole) in [(Table::Facility, false), (Table::ParticipantKey, true)] {
            let directory = tempfile::tempdir().unwrap();
            let database = Database::open(directory.path()).unwrap();
            let mut command = Command::new(1);
            command.put(&RowKey::hashed(table, &[7; 32]), b"a value".to_vec());
            let mut batch = Batch::new(&database, Summary::default());
            batch.apply(1, &Bytes::from(command.encode_to_vec())).unwrap();
            let (summary, mut rows) = batch.finish();
            let progress = Progress { applied: None, membership: None, summary: &summary };
            database.write(rows.iter(), &progress).unwrap();
            assert_eq!(scrub(&database, &summary).unwrap(), Vec::<&str>::new());
            for row in rows.values_mut().flatten() {
                let header = row.header;
                *row = StoredRow::stripped(header.revision, header.replaced, header.value_sha256);
            }
            database.write(rows.iter(), &progress).unwrap();
            assert_eq!(scrub(&database, &summary).unwrap().is_empty(), is_whole, "{}", table.word());
        }
    }

    /// Rows at the ends of the ranges that are read apart, and what is in none of them.
    #[test]
    fn no_row_is_left_out_or_counted_twice() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let mut batch = Batch::new(&database, Summary::default());
        for (index, first) in (1..).zip([0x00_u8, 0x0f, 0x10, 0x7f, 0x80, 0xef, 0xf0, 0xff]) {
            let mut command = Command::new(1);
            let key = [[first; 16], [first; 16]].concat();
            command.put(&RowKey::hashed(Table::Facility, &key.try_into().unwrap()), vec![first]);
            batch.apply(index, &Bytes::from(command.encode_to_vec())).unwrap();
        }
        let (summary, rows) = batch.finish();
        let write = |summary: &Summary| {
            let progress = Progress { applied: None, membership: None, summary };
            database.write(rows.iter(), &progress).unwrap();
        };
        write(&summary);
        assert_eq!(summary.table(Table::Facility).rows, 8);
        assert_eq!(scrub(&database, &summary).unwrap(), Vec::<&str>::new());
        assert_eq!(ranges(Table::Facility).len(), RANGES);
        let key = rows.keys().next_back().unwrap().clone();
        let gone = std::collections::BTreeMap::from([(key, None)]);
        database.write(gone.iter(), &Progress { applied: None, membership: None, summary: &summary }).unwrap();
        assert_eq!(scrub(&database, &summary).unwrap(), ["facility"]);
    }
}
