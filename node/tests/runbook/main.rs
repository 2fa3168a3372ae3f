//! The pages of the documentation, run: what a reader would type at three in the morning, on real nodes.
//!
//! docs/operations.md brings up the cluster; docs/recovery.md and its translation go on from there, one course after
//! the other. A command that fails, or one that no longer shows the fields that the page shows, fails the test.

mod page;
mod shell;
mod stage;

use page::Block;
use shell::Shell;

const OPERATIONS: &str = "operations.md";
const RECOVERY: [&str; 2] = ["recovery.md", "recovery.ja.md"];
/// Each has a test below.
const COURSES: [&str; 2] = ["take-over", "drill"];

/// The sections of a page from one on, up to another, and one more.
fn sections<'a>(blocks: &'a [Block], first: &str, end: &str, more: &str) -> Vec<&'a Block> {
    let from = blocks.iter().position(|block| block.section == first).unwrap();
    let to = blocks.iter().position(|block| block.section == end).unwrap();
    let rest = blocks.iter().filter(|block| block.section == more);
    blocks[from..to].iter().chain(rest).collect()
}

#[test]
fn operations_from_bare_hosts_to_an_upgrade() {
    let blocks = page::read(OPERATIONS);
    let mut shell = Shell::new();
    for block in sections(&blocks, stage::BARE_HOSTS, "Auditing", "Rolling upgrade") {
        shell.block(OPERATIONS, block);
    }
}

#[test]
fn every_block_of_the_runbook_is_in_a_course() {
    let [english, japanese] = RECOVERY.map(page::read);
    for (page, blocks) in [(RECOVERY[0], &english), (RECOVERY[1], &japanese)] {
        for block in blocks {
            assert!(COURSES.contains(&&block.course[..]), "{page}, {}: {:?} is no course", block.section, block.course);
        }
    }
    // The translation has the very same commands, so that what is run of one is run of both.
    let commands = |blocks: &[Block]| -> Vec<(String, String, Vec<String>)> {
        let steps = blocks.iter().flat_map(|block| block.steps.iter().map(|step| (block.course.clone(), step.clone())));
        steps.map(|(course, step)| (course, step.command, step.typed)).collect()
    };
    let (english, japanese) = (commands(&english), commands(&japanese));
    for (one, other) in english.iter().zip(&japanese) {
        assert_eq!(one, other, "{} and {} differ", RECOVERY[0], RECOVERY[1]);
    }
    assert_eq!(english.len(), japanese.len(), "commands of {} and {}", RECOVERY[0], RECOVERY[1]);
}

/// Runs a course of the runbook; how many commands it had.
fn run(page: &str, course: &str, shell: &mut Shell) -> usize {
    let blocks = page::read(page);
    let blocks: Vec<&Block> = blocks.iter().filter(|block| block.course == course).collect();
    for block in &blocks {
        shell.block(page, block);
    }
    blocks.iter().map(|block| block.steps.len()).sum()
}

#[test]
fn the_runbook_takes_over_from_the_backup_alone() {
    let mut shell = stage::cluster();
    stage::lose_the_prefecture(&mut shell);
    assert!(run(RECOVERY[0], "take-over", &mut shell) > 0);
    stage::is_all_there(&mut shell);
}

#[test]
fn the_runbook_drills() {
    let mut shell = stage::cluster();
    assert!(run(RECOVERY[0], "drill", &mut shell) > 0);
    stage::is_drilled(&mut shell);
}
