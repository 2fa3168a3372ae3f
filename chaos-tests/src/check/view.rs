//! A history, sorted for the rules.

use std::collections::BTreeMap;

use crate::history::{
    Action, Committed, End, Entry, Header, Leaves, Line, Machine, Members, Nemesis, Operation, Outcome, Status,
};

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
    /// When the load came to rest and went on, in order.
    pub rests: Vec<(u64, bool)>,
    pub members: Vec<&'a Members>,
    pub machines: Vec<&'a Machine>,
    pub leaves: Vec<&'a Leaves>,
    pub entries: Vec<&'a Entry>,
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
            rests: Vec::new(),
            members: Vec::new(),
            machines: Vec::new(),
            leaves: Vec::new(),
            entries: Vec::new(),
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
                Line::Rest { at_us } => view.rests.push((*at_us, true)),
                Line::Work { at_us } => view.rests.push((*at_us, false)),
                Line::Members(members) => view.members.push(members),
                Line::Machine(machine) => view.machines.push(machine),
                Line::Leaves(leaves) => view.leaves.push(leaves),
                Line::Entries { entries } => view.entries.extend(entries),
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

    /// The voters and backups at a time.
    pub fn members_at(&self, at_us: u64) -> (&'a [String], &'a [String]) {
        let last = self.members.iter().rev().find(|members| members.at_us <= at_us);
        last.map_or((&self.header.voters, &self.header.backups), |members| (&members.voters, &members.backups))
    }

    /// The voters of the final scan.
    pub fn last_voters(&self) -> &'a [String] {
        self.members_at(u64::MAX).0
    }

    /// Between which times the load worked.
    pub fn stretches(&self) -> Vec<(u64, u64)> {
        let mut stretches = Vec::new();
        let mut from = Some(0);
        for (at_us, rests) in &self.rests {
            match (*rests, from) {
                (true, Some(begun)) => {
                    stretches.push((begun, *at_us));
                    from = None;
                }
                (false, None) => from = Some(*at_us),
                _ => {}
            }
        }
        stretches.extend(from.map(|begun| (begun, u64::MAX)));
        stretches
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
