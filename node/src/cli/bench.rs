//! `kura bench`: reserved; the measuring itself is not in this version.

use clap::Args;

use super::exit::Failure;
use super::output::Output;

/// Options of `kura bench`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs it.
pub async fn run(_arguments: Arguments, _output: Output) -> Result<(), Failure> {
    Err(Failure::failed("kura bench is not in this version"))
}
