//! The pages of the documentation, run: what a reader would type at three in the morning, on real nodes.
//!
//! docs/operations.md brings up a cluster and looks after it; docs/recovery.md and its translation go on where it ends, in
//! the same directory and shell, one course after the other: one world, which a reader can walk. A command that fails, or one that no longer shows the fields that the page shows, fails the test.

mod cited;
mod page;
mod shell;
mod stage;

use page::Block;
use shell::Shell;

const OPERATIONS: &str = "operations.md";
const RECOVERY: [&str; 2] = ["recovery.md", "recovery.ja.md"];
/// Both are walked below.
const COURSES: [&str; 2] = ["take-over", "drill"];

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
fn a_reader_walks_the_manual_then_the_drill_then_the_take_over() {
    let mut shell = stage::cluster();
    assert!(run(RECOVERY[0], "drill", &mut shell) > 0);
    stage::is_drilled(&mut shell);
    assert!(run(RECOVERY[0], "take-over", &mut shell) > 0);
    stage::is_all_there(&mut shell);
}
