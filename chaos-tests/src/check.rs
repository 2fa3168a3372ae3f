//! The checker: judges a history, apart from the run that made it.
//!
//! Rules, by name
//! - `incomplete`: the history is whole, in its format, and leaves no outcome open.
//! - `vacuous`: the run did what it was made for (the header's floors).
//! - `lost`: every acknowledged record is read on every voter in the final scan, is in every list asked
//!   for after its acknowledgement, and is never missing after it.
//! - `wrong-bytes`: every read brings the bytes and the version that were written.
//! - `written-twice`: one request or one document id has one record and one version, and no list has
//!   either twice.
//! - `appeared`: no list and no read has a record that no write is known to have made, nor one in doubt, which is
//!   `incomplete`, may have made; what was told to be absent stays absent.
//! - `read-after-revocation`: no read that was called after a revocation was acknowledged, and
//!   returned before a following grant was called, succeeded; nor was any decided, by its log
//!   position, after a revocation without a grant in between.
//! - `refused-under-grant`: nothing is refused to a facility that was named throughout.
//! - `journal-shared`: no two reads or writes name the same journal entry.
//! - `out-of-order`: what was called after another had returned has the higher log position.
//! - `digest-differs`: members' digests of one index are equal, and closing checks found every member.
//! - `replay`: every participant's answers follow from what stands before them in the log, by the
//!   positions that they tell.
//! - `linearizable`: every participant's answers between two rests have an order that explains them, without
//!   a look at positions; one that is not found in time counts as none.
//! - `journal`: the root of the entries' tree, computed here, is that of every head that was told; what each
//!   reply names is there, about what was done.
//! - `uncounted`: of refusals without an entry of their own, the journal counts as many as clients were told at
//!   least, where no gateway was ended that may have had them in mind.
//! - `needs`: no node needs more memory, descriptors or disk than the header allows.
//! - `not-run`: nothing that the run is for could not be set up.
//! - `old-copy`: a voter that came back as it was some time ago made no majority and did not lead.
//! - `error`: nothing failed for other reasons than that the cluster could not do it just then.
//!
//! Invariant: a rule that finds nothing to judge says so as `incomplete` or `vacuous`.

mod agreement;
mod consent;
mod counted;
mod faults;
pub mod journal;
mod linear;
mod machine;
mod order;
mod records;
mod replay;
mod shape;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::history::Line;

/// Violations of one rule that are told one by one; further ones are only counted.
const TOLD_MAX: usize = 20;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
}

/// What a history shows.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Figures for people, in order.
    pub figures: Vec<(&'static str, String)>,
    /// Rows of the table of faults, the first being its head.
    pub table: Vec<Vec<String>>,
    /// What must not be, in the order of the rules.
    pub violations: Vec<Violation>,
}

impl Report {
    fn add(&mut self, rule: &'static str, message: impl Into<String>) {
        self.violations.push(Violation { rule, message: message.into() });
    }

    fn figure(&mut self, name: &'static str, value: impl fmt::Display) {
        self.figures.push((name, value.to_string()));
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.figures {
            writeln!(f, "{name:<28} {value}")?;
        }
        for row in &self.table {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(place, cell)| format!("{cell:<w$}", w = if place == 0 { 18 } else { 15 }))
                .collect();
            writeln!(f, "{}", cells.concat().trim_end())?;
        }
        for chunk in self.violations.chunk_by(|one, next| one.rule == next.rule) {
            for violation in chunk.iter().take(TOLD_MAX) {
                writeln!(f, "VIOLATION {}: {}", violation.rule, violation.message)?;
            }
            if chunk.len() > TOLD_MAX {
                writeln!(f, "VIOLATION {}: {} more", chunk[0].rule, chunk.len() - TOLD_MAX)?;
            }
        }
        write!(f, "{:<28} {}", "violations", self.violations.len())
    }
}

/// Judges a history.
pub fn check(lines: &[Line]) -> Report {
    let mut report = Report::default();
    let Some(view) = view::View::of(lines) else {
        report.add("incomplete", "the history does not begin with a header");
        return report;
    };
    shape::check(&view, &mut report);
    records::check(&view, &mut report);
    consent::check(&view, &mut report);
    order::check(&view, &mut report);
    replay::check(&view, &mut report);
    linear::check(&view, &mut report);
    journal::check(&view, &mut report);
    counted::check(&view, &mut report);
    machine::check(&view, &mut report);
    faults::check(&view, &mut report);
    agreement::check(&view, &mut report);
    report
}
