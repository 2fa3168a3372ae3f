//! `kura`: one node of the storehouse, and every command for it. See `kura --help`.

use std::process::ExitCode;

/// For RocksDB too: it replaces `malloc` itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    kura_node::cli::run()
}
