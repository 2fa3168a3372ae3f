//! A history, sorted for the rules.

use std::collections::BTreeMap;

use crate::history::{Action, Committed, End, Header, Line, Nemesis, Operation, Outcome, Status};

/// What is known in the end of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    /// It was committed, as was known at a time.
    Committed { receipt: &'a Committed, known_us: u64 },
    /// It never happened.
    Never,
    /// Nobody knows.
    Open,
}

/// A write and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub operation: &'a Operation,
    pub fate: Fate<'a>,
}

/// The parts of a history.
pub(super) struct View<'a> {
    pub header: &'a Header,
    pub operations: Vec<&'a Operation>,
    pub nemeses: Vec<&'a Nemesis>,
    pub statuses: Vec<&'a Status>,
    pub final_us: Option<u64>,
    pub end: Option<&'a End>,
    /// All puts, grants and revocations.
    pub writes: Vec<Write<'a>>,
    /// Answers to questions after a write, by its request.
    pub resolved: BTreeMap<&'a str, Vec<&'a Operation>>,
}

/// The request of a write.
pub(super) fn request(action: &Action) -> Option<&str> {
    match action {
        Action::Put { request, .. } | Action::Grant { request } | Action::Revoke { request } => Some(request),
        Action::Get { .. } | Action::List | Action::Resolve { .. } => None,
    }
}

impl<'a> View<'a> {
    /// Nothing if there is no header where it must be.
    pub fn of(lines: &'a [Line]) -> Option<Self> {
        let Some((Line::Header(header), rest)) = lines.split_first() else { return None };
        let mut view = Self {
            header,
            operations: Vec::new(),
            nemeses: Vec::new(),
            statuses: Vec::new(),
            final_us: None,
            end: None,
            writes: Vec::new(),
            resolved: BTreeMap::new(),
        };
        for line in rest {
            match line {
                // A second header is no operation; its history does not count as whole.
                Line::Header(_) => return None,
                Line::Operation(operation) => view.operations.push(operation),
                Line::Nemesis(nemesis) => view.nemeses.push(nemesis),
                Line::Status(status) => view.statuses.push(status),
                Line::FinalScan { at_us } => view.final_us = Some(*at_us),
                Line::End(end) => view.end = Some(end),
            }
        }
        for operation in &view.operations {
            if let Action::Resolve { of } = &operation.action {
                view.resolved.entry(of).or_default().push(operation);
            }
        }
        let write = |operation: &&'a Operation| {
            let request = request(&operation.action)?;
            Some(Write { operation, fate: fate(operation, view.resolved.get(request).map_or(&[], Vec::as_slice)) })
        };
        view.writes = view.operations.iter().filter_map(write).collect();
        Some(view)
    }
}

fn fate<'a>(operation: &'a Operation, resolved: &[&'a Operation]) -> Fate<'a> {
    match &operation.outcome {
        Outcome::Committed(receipt) => Fate::Committed { receipt, known_us: operation.return_us },
        Outcome::Unknown { .. } => resolved.iter().fold(Fate::Open, |known, answer| match (&answer.outcome, known) {
            (Outcome::Committed(receipt), Fate::Open) => Fate::Committed { receipt, known_us: answer.return_us },
            (Outcome::Absent, Fate::Open) => Fate::Never,
            _ => known,
        }),
        _ => Fate::Never,
    }
}
