//! `scenario WORD [--seed N]`: one course of events on real nodes, each in a network namespace and on a disk of its own.
//! See `kura_chaos_tests::scenario` for the words.
//!
//! Exit status: 0 if all came as it must, 1 if not or if it did not come to its end, 2 for wrong arguments, 3 if it
//! could not be run: told as NOT RUN, and no pass.

use std::path::PathBuf;
use std::process::ExitCode;

use kura_chaos_tests::apart;
use kura_chaos_tests::cluster::binary;
use kura_chaos_tests::scenario::Scenario;

const USAGE: &str = "usage: scenario WORD [--seed N]; WORD is one of";

/// Names the directory of a run, inside.
const RUN_VARIABLE: &str = "KURA_CHAOS_RUN";
/// Tells the process inside the seed that was drawn outside.
const SEED_VARIABLE: &str = "KURA_CHAOS_SEED";

fn arguments() -> Result<(Scenario, u64), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = || format!("{USAGE} {}", Scenario::ALL.map(Scenario::word).join(", "));
    let of = |word: &str| Scenario::of(word).ok_or_else(usage);
    match &words[..] {
        [word] => Ok((of(word)?, rand::random_range(0..1_000_000_000))),
        [word, flag, seed] if flag == "--seed" => {
            Ok((of(word)?, seed.parse().map_err(|_| format!("{seed} is not a number"))?))
        }
        _ => Err(usage()),
    }
}

fn main() -> ExitCode {
    match arguments() {
        Ok((scenario, _)) if apart::is_inside() => inside(scenario),
        Ok((scenario, seed)) => outside(scenario, seed),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn outside(scenario: Scenario, seed: u64) -> ExitCode {
    if let Some(why) = scenario.not_run() {
        println!("NOT RUN {}: {why}; this is no pass", scenario.word());
        return ExitCode::from(3);
    }
    let made = binary().map_err(|error| error.to_string()).and_then(|_| apart::make_directory("scenario"));
    let directory = match made {
        Ok(directory) => directory,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(3);
        }
    };
    let again = format!("seed {seed}; to repeat what it draws:\n  scenario {} --seed {seed}", scenario.word());
    println!("{again}");
    let ended = apart::again(&[(RUN_VARIABLE, directory.as_os_str()), (SEED_VARIABLE, seed.to_string().as_ref())]);
    let why = match ended {
        Ok(status) if status.success() => match std::fs::remove_dir_all(&directory) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error.to_string(),
        },
        ended => ended.map_or_else(|error| format!("unshare: {error}"), |status| status.to_string()),
    };
    println!("{why}; logs are kept in {}\n{again}", directory.display());
    ExitCode::from(1)
}

#[tokio::main]
async fn inside(scenario: Scenario) -> ExitCode {
    let directory = std::env::var_os(RUN_VARIABLE).map(PathBuf::from);
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let (Some(directory), Some(seed)) = (directory, seed) else {
        eprintln!("the run has no directory or no seed");
        return ExitCode::from(2);
    };
    let ended = tokio::select! {
        ended = scenario.run(seed, &directory, &|words| println!("{words}")) => ended.map_err(|error| error.to_string()),
        () = apart::told_to_end() => Err("told to end".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::from(1)
        }
    }
}
