//! The convincing test, for one seed: a prefecture is lost under load, and recovered from the backup's disk and the
//! shares by the runbook. Needs root; where that cannot be, the test fails and says NOT RUN.
//!
//! `KURA_SEED` has it done from that seed; `make recovery-proof` does twenty.

mod ran;

use ran::ran;

const FIXED_SEED: u64 = 3;

fn recovery(words: &[&str], path: Option<&str>) -> (Option<i32>, String) {
    ran(env!("CARGO_BIN_EXE_recovery"), words, path)
}

#[test]
fn a_lost_prefecture_comes_back_as_the_witness_knew_it() {
    let seed = std::env::var("KURA_SEED").unwrap_or(FIXED_SEED.to_string());
    let (code, told) = recovery(&["--seed", &seed], None);
    println!("{told}");
    assert_eq!(code, Some(0), "seed {seed}:\n{told}");
    assert!(told.contains("1 of 1 runs are clean"), "{told}");
}

#[test]
fn where_nothing_can_be_set_up_nothing_passes() {
    let (code, told) = recovery(&["--seed", "1"], Some("/nonexistent"));
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("NOT RUN") && told.contains("this is no pass"), "{told}");
    assert_eq!(recovery(&["--minutes", "3"], None).0, Some(2));
    assert_eq!(recovery(&["--seed"], None).0, Some(2));
}
