//! `check history.jsonl`: judges a history, apart from the run that made it.
//!
//! Exit status: 0 if nothing is wrong, 1 if something is, 2 if the history cannot be read.

use std::path::PathBuf;
use std::process::ExitCode;

use kura_chaos_tests::{check, history};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: check HISTORY.jsonl");
        return ExitCode::from(2);
    };
    let lines = match history::read(&path) {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let report = check::check(&lines);
    println!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
