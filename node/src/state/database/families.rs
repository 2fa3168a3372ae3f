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

/// The family that a row lives in.
pub(super) fn of(row: &[u8]) -> &'static str {
    match row.first().and_then(|n| Table::from_number(*n)) {
        Some(Table::Block) => BLOCKS,
        Some(Table::Journal | Table::JournalIndex | Table::JournalTree) => JOURNAL,
        Some(table) if table.holds_keys() => KEYS,
        _ => ROWS,
    }
}

/// Options of the whole database, and of each family; without compactions, files stay as they are.
pub(super) fn options(compacts: bool) -> (Options, [ColumnFamilyDescriptor; 5]) {
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
        options.set_disable_auto_compactions(!compacts);
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
        options.set_enable_blob_gc(true);
        options.set_blob_file_size(256 << 20);
    }
    options
}
