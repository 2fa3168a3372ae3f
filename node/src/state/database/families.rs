//! Column families: which there are, which rows live in which, and how RocksDB keeps them.

use kura_cluster::row::Table;
use rocksdb::{BlockBasedOptions, ColumnFamilyDescriptor, DBCompressionType, Options};

const META: &str = "default";
pub(super) const ROWS: &str = "rows";
/// The rows whose loss makes what was sealed under them unreadable: alone, so that they can be dropped.
pub(super) const KEYS: &str = "keys";
const BLOCKS: &str = "blocks";
const JOURNAL: &str = "journal";
/// Every family.
pub(super) const ALL: [&str; 5] = [META, ROWS, KEYS, BLOCKS, JOURNAL];

/// Memory for memtables of all column families together: somewhat more than is applied between two
/// snapshots (`retention.snapshot_every_mib`), each of which writes them out.
const MEMTABLES_BYTES: usize = 36 << 20;
/// Memory for cached blocks of all column families together.
const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Blocks from this size live in blob files, where compaction does not rewrite them: nearly all.
const BLOB_BYTES_MIN: u64 = 512;
/// Journal entries as well: they are never rewritten, and read one after the other.
const JOURNAL_BLOB_BYTES_MIN: u64 = 64;
/// New tables that are merged into the older ones at a time: each merge rewrites those.
const TABLES_MERGED: i32 = 8;
/// Open files kept by RocksDB.
const OPEN_FILES_MAX: i32 = 512;

/// Families with blob files.
pub(super) const WITH_BLOBS: [&str; 2] = [BLOCKS, JOURNAL];
/// Which part of the blob files, the oldest, each merge of tables writes again without what was deleted; RocksDB's own.
const CLEARED_PART_MAX: f64 = 0.25;
/// Bytes of them that a merge writes again, about: as much as it brings. A part alone would grow with the state.
const CLEARED_BYTES_MAX: u64 = 256 << 20;

/// How often [`CLEARED_PART_MAX`] is to be halved, of blob files of so many bytes in all.
pub(super) fn halvings(blob_bytes: u64) -> u32 {
    let part = (blob_bytes as f64 * CLEARED_PART_MAX / CLEARED_BYTES_MAX as f64).max(1.0);
    part.log2().ceil() as u32
}

/// RocksDB's option for that, and its value.
pub(super) fn cleared_part(halvings: u32) -> (&'static str, String) {
    ("blob_garbage_collection_age_cutoff", (CLEARED_PART_MAX / 2_f64.powf(halvings.into())).to_string())
}

/// What RocksDB rewrites by itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rewrites {
    /// Files stay as they are.
    Nothing,
    /// Tables are merged; blob files stay as they are.
    Tables,
    /// The older blob files are cleared of what was deleted, too: with all that is in them, at each merge.
    All,
}

/// The family that a row lives in.
pub(super) fn of(row: &[u8]) -> &'static str {
    match row.first().and_then(|n| Table::from_number(*n)) {
        Some(Table::Block) => BLOCKS,
        Some(Table::Journal | Table::JournalIndex | Table::JournalTree) => JOURNAL,
        Some(table) if table.holds_keys() => KEYS,
        _ => ROWS,
    }
}

/// Options of the whole database, and of each family.
pub(super) fn options(rewrites: Rewrites) -> (Options, [ColumnFamilyDescriptor; 5]) {
    let cache = rocksdb::Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    // Not charged to the cache: memtables would push filters and indexes out, and every lookup of a
    // new key would read the disk.
    let buffers = rocksdb::WriteBufferManager::new_write_buffer_manager(MEMTABLES_BYTES, false);
    options.set_write_buffer_manager(&buffers);
    let families = ALL.map(|name| {
        let mut options = family_options(name, &cache);
        options.set_disable_auto_compactions(rewrites == Rewrites::Nothing);
        options.set_enable_blob_gc(rewrites == Rewrites::All);
        ColumnFamilyDescriptor::new(name, options)
    });
    (options, families)
}

fn family_options(name: &str, cache: &rocksdb::Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Everything of size is sealed: compression would find nothing.
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(MEMTABLES_BYTES / 2);
    options.set_max_write_buffer_number(2);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_level_zero_file_num_compaction_trigger(TABLES_MERGED);
    let blob_bytes_min = match name {
        BLOCKS => Some(BLOB_BYTES_MIN),
        JOURNAL => Some(JOURNAL_BLOB_BYTES_MIN),
        _ => None,
    };
    if let Some(bytes) = blob_bytes_min {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(bytes);
        options.set_blob_gc_age_cutoff(CLEARED_PART_MAX);
        options.set_blob_file_size(256 << 20);
    }
    options
}

/// Of how many families the options in use, as RocksDB wrote them down, have a thirty-second part cleared.
#[cfg(test)]
pub(crate) fn cleared_by_a_thirty_second(directory: &std::path::Path) -> usize {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let newest = files.filter(|path| path.to_string_lossy().contains("OPTIONS-")).max().unwrap();
    let text = std::fs::read_to_string(newest).unwrap();
    text.lines().filter(|line| line.contains("age_cutoff=0.03125")).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use bytes::Bytes;
    use kura_cluster::apply::Summary;
    use kura_cluster::row::{RowKey, StoredRow};
    use kura_cluster::{ContentId, Pseudonym, Revision};

    use super::super::{Database, DatabaseError, Progress};
    use super::*;

    fn blob_files(directory: &Path) -> BTreeSet<String> {
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".blob")).collect()
    }

    #[test]
    fn a_merge_clears_no_more_than_it_brings_however_much_there_is() {
        for (blob_bytes, halved) in [(0, 0), (1 << 30, 0), ((1 << 30) + 1, 1), (5_000_000_000, 3), (1 << 40, 10)] {
            assert_eq!(halvings(blob_bytes), halved, "{blob_bytes}");
        }
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        database.bound_clearing_by(|_| 0).unwrap();
        assert_eq!(cleared_by_a_thirty_second(directory.path()), 0);
        database.bound_clearing_by(|_| 5_000_000_000).unwrap();
        assert_eq!(cleared_by_a_thirty_second(directory.path()), WITH_BLOBS.len());
    }

    #[test]
    fn a_replay_writes_blocks_once_whatever_is_merged() {
        type Open = fn(&Path) -> Result<Database, DatabaseError>;
        for (open, is_once) in [(Database::open_to_replay as Open, true), (Database::open, false)] {
            let directory = tempfile::tempdir().unwrap();
            let database = open(directory.path()).unwrap();
            for n in 0..6 {
                // Each table reaches over all others.
                let rows = [n, 255 - n].map(|content| {
                    let key = RowKey::block(&Pseudonym([1; 16]), &ContentId([content; 16]), 0, 0);
                    let value = Bytes::from(vec![n; 700]);
                    let row = StoredRow::new(Revision { timeline: 0, index: 5 }, Revision::ABSENT, value);
                    (key.as_bytes().clone(), Some(row))
                });
                let progress = Progress { applied: None, membership: None, summary: &Summary::default() };
                database.write(rows.iter().map(|(key, row)| (key, row)), &progress).unwrap();
                database.flush().unwrap();
            }
            let before = blob_files(directory.path());
            assert_eq!(before.len(), 6);
            database.db.compact_range_cf(database.family(BLOCKS), None::<&[u8]>, None::<&[u8]>);
            assert_eq!(blob_files(directory.path()).is_subset(&before), is_once);
        }
    }
}
