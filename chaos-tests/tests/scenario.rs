//! Scenarios on real nodes, from a seed that changes with each run and is printed. Nodes have network namespaces and
//! disks of their own, which needs root; where that cannot be, the tests fail and say NOT RUN.
//!
//! `KURA_SEED` has them done from that seed.

mod ran;

use ran::ran;

fn scenario(words: &[&str], path: Option<&str>) -> (Option<i32>, String) {
    ran(env!("CARGO_BIN_EXE_scenario"), words, path)
}

fn passes(word: &str) {
    let seed = std::env::var("KURA_SEED").unwrap_or_else(|_| rand::random_range(0..1_000_000_000_u64).to_string());
    let (code, told) = scenario(&[word, "--seed", &seed], None);
    println!("{told}");
    assert_eq!(code, Some(0), "seed {seed}:\n{told}");
}

#[test]
fn a_download_from_a_voter_that_is_cut_off_ends_when_the_consent_is_taken_back_on_the_other_side() {
    passes("cut-download");
}

#[test]
fn a_restored_cluster_serves_what_the_archive_had_and_goes_on_through_a_death() {
    passes("restored");
}

#[test]
fn where_nothing_can_be_set_up_nothing_passes() {
    // No program of the system is found.
    let (code, told) = scenario(&["cut-download", "--seed", "1"], Some("/nonexistent"));
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("NOT RUN cut-download: ip is missing") && told.contains("this is no pass"), "{told}");
    assert_eq!(scenario(&["rain"], None).0, Some(2));
    assert_eq!(scenario(&["cut-download", "--seeds", "1"], None).0, Some(2));
}
