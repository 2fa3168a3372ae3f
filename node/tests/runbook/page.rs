//! A page of the documentation as what can be run of it: its `console` blocks.
//!
//! Invariants
//! - Every line of a `console` block is a command (`$ `), its continuation (`> `), something typed (`< `) or output;
//!   nothing is skipped.
//! - A page that cannot be read so is a failure, never an empty list.

use std::path::Path;

/// A command, what is typed when it asks, and what the page shows of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the page, from 1.
    pub line: usize,
    pub command: String,
    pub typed: Vec<String>,
    pub shown: Vec<String>,
}

/// A `console` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The heading of level 2 above it.
    pub section: String,
    /// What stands after `console`; empty if nothing does.
    pub course: String,
    pub steps: Vec<Step>,
}

/// The blocks of a page of the repository's `docs`.
pub fn read(name: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    blocks(&text).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// The blocks of a page.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let (mut blocks, mut section, mut open) = (Vec::new(), String::new(), None::<Block>);
    let mut other_fence = false;
    for (line, text) in (1..).zip(text.lines()) {
        match (&mut open, text.strip_prefix("```")) {
            (None, Some(_)) if other_fence => other_fence = false,
            (None, Some(info)) => match info.split_once(' ').unwrap_or((info, "")) {
                ("console", course) => {
                    open = Some(Block { section: section.clone(), course: course.into(), steps: Vec::new() });
                }
                _ => other_fence = true,
            },
            (None, None) if !other_fence => {
                if let Some(heading) = text.strip_prefix("## ") {
                    section = heading.to_owned();
                }
            }
            (None, None) => {}
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => take(block, line, text)?,
        }
    }
    match (open, other_fence) {
        (None, false) => Ok(blocks),
        _ => Err("a block is not closed".into()),
    }
}

fn take(block: &mut Block, line: usize, text: &str) -> Result<(), String> {
    if let Some(command) = text.strip_prefix("$ ") {
        let command = command.to_owned();
        block.steps.push(Step { line, command, typed: Vec::new(), shown: Vec::new() });
        return Ok(());
    }
    let Some(step) = block.steps.last_mut() else {
        return Err(format!("line {line}: a console block begins with a command (`$ `)"));
    };
    let continues = (text == ">").then_some("").or_else(|| text.strip_prefix("> "));
    match (continues, text.strip_prefix("< ")) {
        (Some(more), _) if step.shown.is_empty() && step.typed.is_empty() => {
            step.command.push('\n');
            step.command.push_str(more);
        }
        (Some(_), _) => return Err(format!("line {line}: a continuation after output")),
        (None, Some(typed)) => step.typed.push(typed.to_owned()),
        (None, None) => step.shown.push(text.to_owned()),
    }
    Ok(())
}

#[test]
fn a_page_is_read_line_by_line() {
    let page = "# P\n## One\n```console take-over\n$ a <<'END'\n> b\n>\n> END\n out  x\n< typed\n$ c\n```\n\n```sh\n## not a heading\n$ not run\n```\n## Two\n```console\n$ d\n```\n";
    let read = blocks(page).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((&read[0].section[..], &read[0].course[..]), ("One", "take-over"));
    assert_eq!((&read[1].section[..], &read[1].course[..]), ("Two", ""));
    let first = &read[0].steps[0];
    assert_eq!((first.line, &first.command[..]), (4, "a <<'END'\nb\n\nEND"));
    assert_eq!((&first.shown[..], &first.typed[..]), (&[" out  x".to_owned()][..], &["typed".to_owned()][..]));
    assert_eq!(read[0].steps[1].command, "c");
    for bad in ["```console\nout\n```\n", "```console\n$ a\nout\n> more\n```\n", "```console\n$ a\n", "```sh\n"] {
        assert!(blocks(bad).is_err(), "{bad}");
    }
}
