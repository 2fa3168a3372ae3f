//! `recovery [--seed N] [--seeds COUNT]`: a prefecture is lost under load, and recovered from the backup's disk and the
//! shares by the runbook; a witness from outside judges what is back. Several seeds run one after the other.
//!
//! Each run ends with a line of JSON; all with a table and totals. Exit status: 0 if nothing is wrong, 1 if something is
//! or a run did not come to its end, 2 for wrong arguments, 3 if nothing can be run here, which is no pass.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use kura_chaos_tests::cluster::binary;
use kura_chaos_tests::recovery::table::{HEADING, Ran, row, totals};
use kura_chaos_tests::recovery::{self, Plan};
use kura_chaos_tests::{apart, nemesis};

const USAGE: &str = "usage: recovery [--seed N] [--seeds COUNT]";

/// Names the directory of a run, and its seed, inside.
const RUN_VARIABLE: &str = "KURA_RECOVERY_RUN";
const SEED_VARIABLE: &str = "KURA_RECOVERY_SEED";

/// What shifts the wall clock of every process of a run; the end-to-end tests have it, too.
const CLOCK_SHIM: &str = include_str!("../../../node/tests/end_to_end/clock_shim.cc");

/// The seeds.
fn arguments() -> Result<Vec<u64>, String> {
    let (mut seed, mut seeds) = (None, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} takes a value; {USAGE}"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{value} is not a number"))?;
        match word.as_str() {
            "--seed" => seed = Some(number),
            "--seeds" if number >= 1 => seeds = number,
            _ => return Err(USAGE.into()),
        }
    }
    let first = seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    Ok((first..first.saturating_add(seeds)).collect())
}

fn main() -> ExitCode {
    if apart::is_inside() {
        return inside();
    }
    let seeds = match arguments() {
        Ok(seeds) => seeds,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    // What a power cut of all voters needs, and no more.
    if let Some(one) = nemesis::not_run(&[nemesis::Kind::PowerCutVoters], false).first() {
        println!("NOT RUN: {}; this is no pass", one.why);
        return ExitCode::from(3);
    }
    if let Err(error) = binary() {
        eprintln!("{error}");
        return ExitCode::from(3);
    }
    let mut all: Vec<(u64, Ran)> = Vec::new();
    for seed in seeds {
        println!("seed {seed}; to repeat it:\n  recovery --seed {seed}");
        let ran = outside(seed);
        if let Err(why) = &ran {
            println!("THE RUN DID NOT COME TO ITS END: {why}");
        }
        all.push((seed, ran));
    }
    println!("{HEADING}");
    all.iter().for_each(|(seed, ran)| println!("{}", row(*seed, ran)));
    println!("{}", totals(&all));
    let clean = |ran: &Ran| ran.as_ref().is_ok_and(|outcome| outcome.verdict.violations.is_empty());
    if all.iter().all(|(_, ran)| clean(ran)) { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Runs a seed in namespaces of its own, every process of which tells the time of one clock.
fn outside(seed: u64) -> Ran {
    let directory = apart::make_directory("recovery")?;
    let shim = build_shim(&directory)?;
    let clock = clock(&directory);
    std::fs::write(&clock, "0").map_err(|error| format!("{}: {error}", clock.display()))?;
    let seed = seed.to_string();
    let environment: [(&str, &OsStr); 4] = [
        (RUN_VARIABLE, directory.as_os_str()),
        (SEED_VARIABLE, seed.as_ref()),
        ("LD_PRELOAD", shim.as_os_str()),
        ("KURA_TEST_CLOCK", clock.as_os_str()),
    ];
    let ended = apart::again(&environment).map_err(|error| format!("unshare: {error}"))?;
    let kept = format!("witness.jsonl and logs are kept in {}", directory.display());
    let text = std::fs::read_to_string(verdict(&directory)).map_err(|_| format!("{ended}; {kept}"))?;
    let outcome: recovery::Outcome = serde_json::from_str(&text).map_err(|error| format!("{error}; {kept}"))?;
    if outcome.verdict.violations.is_empty() {
        std::fs::remove_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    } else {
        println!("{kept}");
    }
    Ok(outcome)
}

fn clock(directory: &Path) -> PathBuf {
    directory.join("clock")
}

fn verdict(directory: &Path) -> PathBuf {
    directory.join("verdict.json")
}

fn build_shim(directory: &Path) -> Result<PathBuf, String> {
    let (source, shim) = (directory.join("clock-shim.cc"), directory.join("clock-shim.so"));
    std::fs::write(&source, CLOCK_SHIM).map_err(|error| format!("{}: {error}", source.display()))?;
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut build = Command::new(&compiler);
    let built = build.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).output();
    let built = built.map_err(|error| format!("{compiler}: {error}"))?;
    match built.status.success() {
        true => Ok(shim),
        false => Err(format!("{compiler}: {}", String::from_utf8_lossy(&built.stderr))),
    }
}

#[tokio::main]
async fn inside() -> ExitCode {
    let directory = std::env::var_os(RUN_VARIABLE).map(PathBuf::from);
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let (Some(directory), Some(seed)) = (directory, seed) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let (plan, clock) = (Plan::of(seed), clock(&directory));
    let ran = tokio::select! {
        ran = recovery::run(&plan, &directory, &clock, &|words| println!("  {words}")) => {
            ran.map_err(|error| error.to_string())
        }
        () = apart::told_to_end() => Err("told to end".into()),
    };
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(why) => {
            println!("  {why}");
            return ExitCode::from(1);
        }
    };
    outcome.verdict.violations.iter().for_each(|violation| println!("{violation}"));
    let told = serde_json::to_string(&outcome).map_err(|error| error.to_string());
    match told.and_then(|text| {
        println!("{text}");
        std::fs::write(verdict(&directory), text).map_err(|error| error.to_string())
    }) {
        Ok(()) if outcome.verdict.violations.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        Err(why) => {
            println!("  {why}");
            ExitCode::from(1)
        }
    }
}
