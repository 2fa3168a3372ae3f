//! `kura demo`: what Kura does, shown and checked.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use super::files;
use super::output::Output;
use crate::demo::{self, Options};

/// Options of `kura demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the cluster lies: a new directory, or one of an earlier `kura dev` or `kura demo`. Without
    /// it a temporary one, which is deleted if all went well.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Records to write: every file of this folder, instead of generated ones.
    #[arg(long, value_name = "FOLDER")]
    input: Option<PathBuf>,
    /// Seed of the generated people, places and records; drawn and told without it.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { data, input, seed } = arguments;
    if let Some(input) = &input {
        files::readable_folder("--input", input)?;
    }
    if let Some(data) = &data {
        files::folder("--data", data)?;
    }
    demo::run(Options { data, input, seed }, output).await
}
