//! Fifty rounds of SIGKILL under writing, to any node: half of them from a fixed seed, half from one
//! that changes with each run and is printed.
//!
//! `KURA_CRASH_ROUNDS` sets the rounds in all, `KURA_SEED` has them all done from one seed. The
//! directory of a failed run is kept, with every node's log and the history.

use std::io::Write;
use std::process::Command;

use kura_chaos_tests::crash::Run;

const FIXED_SEED: u64 = 20_260_401;
const ROUNDS: u32 = 50;

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_nodes_are_killed_at_random_moments() {
    let rounds = number("KURA_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seeds: Vec<u64> = match number("KURA_SEED") {
        Some(seed) => vec![seed],
        None => vec![FIXED_SEED, rand::random_range(0..1_000_000_000)],
    };
    let each = rounds.div_ceil(u32::try_from(seeds.len()).unwrap());
    for seed in seeds {
        crash(seed, each).await;
    }
}

async fn crash(seed: u64, rounds: u32) {
    let again = format!(
        "KURA_SEED={seed} KURA_CRASH_ROUNDS={rounds} cargo test --release -p kura-chaos-tests --test crash -- --nocapture"
    );
    // Not captured: a run that hangs or is cut off must have told its seed, too.
    let _ = writeln!(std::io::stderr(), "{rounds} rounds from seed {seed}; to repeat the schedule:\n  {again}");
    let mut run = Run::prepare(seed, rounds).await.unwrap_or_else(|error| panic!("{error}\n  {again}"));
    let directory = run.directory().display().to_string();
    let ended = run.run(|words| println!("  {words}")).await;
    // Also of a run that was cut short: what it saw until then may tell why.
    let checked = Command::new(env!("CARGO_BIN_EXE_check")).arg(run.history()).output().expect("the checker runs");
    let report = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    println!("{report}");
    if let Err(error) = ended {
        panic!("{error}\nkept in {directory}; to repeat the schedule:\n  {again}\n{report}");
    }
    assert!(checked.status.success(), "kept in {directory}; to repeat the schedule:\n  {again}\n{report}");
    run.remove().unwrap();
}
