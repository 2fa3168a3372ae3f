//! `kura`: one node of the storehouse, and every command for it. See `kura --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kura_node::cli::run()
}
