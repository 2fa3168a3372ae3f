//! `chaos [--smoke | --minutes N] [--seed N] [--kinds A,B] [--previous BINARY]`: real nodes, each in a network namespace and on
//! a disk of its own, under load and faults; then the checker's verdict and a table.
//!
//! Exit status: 0 if nothing is wrong, 1 if something is or the run did not come to its end, 2 for wrong
//! arguments, 3 if nothing could be run. What could not be set up is told as NOT RUN and never passes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kura_chaos_tests::chaos::{self, Plan};
use kura_chaos_tests::cluster::binary;
use kura_chaos_tests::nemesis::{self, Kind};
use kura_chaos_tests::{apart, check, history};

const USAGE: &str = "usage: chaos [--smoke | --minutes N] [--seed N] [--kinds WORD,WORD] [--previous BINARY]";

/// Names the directory of a run, inside.
const RUN_VARIABLE: &str = "KURA_CHAOS_RUN";

/// Minutes, unless told otherwise.
const MINUTES: u64 = 30;

struct Arguments {
    plan: Plan,
    /// What repeats the run.
    again: String,
}

fn arguments() -> Result<Arguments, String> {
    let (mut smoke, mut minutes, mut seed, mut kinds, mut previous) = (false, None, None, None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} takes a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        match word.as_str() {
            "--smoke" => smoke = true,
            "--minutes" => minutes = Some(number(value()?)?),
            "--seed" => seed = Some(number(value()?)?),
            "--kinds" => {
                let of = |word: &str| Kind::of(word).ok_or(format!("there is no kind {word}"));
                kinds = Some(value()?.split(',').map(of).collect::<Result<Vec<_>, _>>()?);
            }
            "--previous" => {
                let path = value()?;
                previous = Some(std::fs::canonicalize(&path).map_err(|error| format!("--previous {path}: {error}"))?);
            }
            _ => return Err(USAGE.into()),
        }
    }
    let seed = seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let mut plan = match (smoke, minutes) {
        (true, None) => Plan::smoke(seed),
        (false, minutes) => Plan::long(seed, minutes.unwrap_or(MINUTES).max(1)),
        (true, Some(_)) => return Err(USAGE.into()),
    };
    let mut again = if smoke { "--smoke".to_owned() } else { format!("--minutes {}", minutes.unwrap_or(MINUTES)) };
    if let Some(kinds) = kinds {
        let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
        again += &format!(" --kinds {}", words.join(","));
        plan.kinds = kinds;
    }
    if let Some(previous) = previous {
        again += &format!(" --previous {}", previous.display());
        plan.upgrade_from(previous);
    }
    Ok(Arguments { plan, again: format!("chaos {again} --seed {seed}") })
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if apart::is_inside() { inside(arguments) } else { outside(&arguments) }
}

fn outside(arguments: &Arguments) -> ExitCode {
    if !arguments.plan.kinds.contains(&Kind::Upgrade) {
        println!("left out: upgrade (--previous names the binary of an earlier release)");
    }
    let not_run = nemesis::not_run(&arguments.plan.kinds, arguments.plan.previous.is_some());
    for one in &not_run {
        println!("NOT RUN {}: {}", one.kind, one.why);
    }
    if not_run.len() == arguments.plan.kinds.len() {
        println!("NOT RUN: no fault can be set up here; this is no pass");
        return ExitCode::from(3);
    }
    let made = binary().map_err(|error| error.to_string()).and_then(|_| apart::make_directory("chaos"));
    let directory = match made {
        Ok(directory) => directory,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(3);
        }
    };
    println!("seed {}; to repeat the schedule:\n  {}", arguments.plan.seed, arguments.again);
    let seed = arguments.plan.seed.to_string();
    match apart::again(&[(RUN_VARIABLE, directory.as_os_str()), (SEED_VARIABLE, seed.as_ref())]) {
        Ok(status) if status.success() => match std::fs::remove_dir_all(&directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", directory.display());
                ExitCode::from(1)
            }
        },
        ended => {
            let why = ended.map_or_else(|error| format!("unshare: {error}"), |status| status.to_string());
            println!("{why}; histories and logs are kept in {}", directory.display());
            println!("seed {}; to repeat the schedule:\n  {}", arguments.plan.seed, arguments.again);
            ExitCode::from(1)
        }
    }
}

/// Tells the process inside the seed that was drawn outside.
const SEED_VARIABLE: &str = "KURA_CHAOS_SEED";

#[tokio::main]
async fn inside(mut arguments: Arguments) -> ExitCode {
    let directory = std::env::var_os(RUN_VARIABLE).map(PathBuf::from);
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let (Some(directory), Some(seed)) = (directory, seed) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    arguments.plan.seed = seed;
    let not_run = nemesis::not_run(&arguments.plan.kinds, arguments.plan.previous.is_some());
    arguments.plan.kinds.retain(|kind| not_run.iter().all(|one| one.kind != kind.word()));
    arguments.plan.not_run = not_run;
    let ended = tokio::select! {
        ended = chaos::run(&arguments.plan, &directory, &|words| println!("{words}")) => ended.map_err(|error| error.to_string()),
        () = apart::told_to_end() => Err("told to end".into()),
    };
    if let Err(why) = &ended {
        println!("THE RUN DID NOT COME TO ITS END: {why}");
    }
    // Also of a run that was cut short: what it saw until then may tell why.
    let good = judge(&chaos::history(&directory));
    if good && ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Judges a history by its file alone, as `check` does.
fn judge(path: &Path) -> bool {
    match history::read(path) {
        Ok(lines) => {
            let report = check::check(&lines);
            println!("{report}");
            report.is_good()
        }
        Err(error) => {
            println!("no verdict: {error}");
            false
        }
    }
}
