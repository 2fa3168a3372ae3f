//! What plans, reports and verifications of restores look like.

use std::path::Path;

use kura_cluster::hexadecimal;
use serde::Serialize;

use crate::cli::archive::{not_vouched, signers};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, bytes, counted, moment, table};
use crate::restore::plan::{Plan, TableChange};
use crate::restore::report::{FILE, Report};
use crate::restore::verify::Verified;
use crate::restore::work::WorkError;

#[derive(Debug, Serialize)]
struct Change {
    table: &'static str,
    rows_then: u64,
    rows_newest: u64,
}

impl From<&TableChange> for Change {
    fn from(change: &TableChange) -> Self {
        Change { table: change.table.word(), rows_then: change.rows_then, rows_newest: change.rows_newest }
    }
}

#[derive(Debug, Serialize)]
struct PlanTold {
    cluster_id: String,
    timeline: u64,
    first_index: u64,
    index: u64,
    clock_ms: u64,
    newest_index: u64,
    newest_clock_ms: u64,
    journal_size: u64,
    old_generation: u64,
    new_generation: u64,
    segments: u64,
    bytes: u64,
    left_out: Vec<Change>,
    kept_newer: Vec<Change>,
    never_archived: Vec<(u64, u64)>,
    target: Option<String>,
    signed_by: Vec<String>,
    signers_verified: bool,
    contents_read: bool,
    /// What a plan cannot tell, whatever it found.
    not_checked: Vec<&'static str>,
    /// As `kura archive verify` tells it.
    head: Option<&'static str>,
    faults: Vec<String>,
}

/// What a plan leaves to the restore itself.
const CONTENTS: &str = "what is in the objects: kura archive verify does, and the restore itself";

/// Shows a plan; with whether only named keys might have signed the archive, whether it was held against a kept head, and
/// whether a target can be used.
pub fn plan(
    plan: &Plan,
    is_held: bool,
    has_head: bool,
    usable: Option<&(&Path, Result<(), WorkError>)>,
    output: Output,
) -> Result<(), Failure> {
    let told = PlanTold {
        cluster_id: plan.cluster_id.to_hex(),
        timeline: plan.timeline,
        first_index: plan.first.index,
        index: plan.target.index,
        clock_ms: plan.target.clock_ms,
        newest_index: plan.newest.index,
        newest_clock_ms: plan.newest.clock_ms,
        journal_size: plan.journal_size,
        old_generation: plan.old.generation,
        new_generation: plan.new.generation,
        segments: plan.segments,
        bytes: plan.bytes,
        left_out: plan.left_out.iter().map(Change::from).collect(),
        kept_newer: plan.kept_newer.iter().map(Change::from).collect(),
        never_archived: plan.holes.iter().map(|(_, first, last)| (*first, *last)).collect(),
        target: usable.map(|(_, found)| found.as_ref().map_or_else(ToString::to_string, |()| "can be used".into())),
        signed_by: plan.signed_by.keys().map(hexadecimal).collect(),
        signers_verified: is_held,
        // A plan goes by manifests and lengths; a restore compares every hash.
        contents_read: false,
        not_checked: not_vouched(is_held, has_head).chain([CONTENTS]).collect(),
        head: plan.head.map(|(fit, _)| fit.word()),
        faults: plan.faults.iter().map(ToString::to_string).collect(),
    };
    if output.json {
        return output.line(&told);
    }
    let at = |index: u64, clock_ms: u64| format!("entry {index}, {}", moment(clock_ms));
    let mut fields = vec![
        ("cluster", format!("{}, timeline {}", told.cluster_id, told.timeline)),
        ("records", format!("as of {}", at(told.index, told.clock_ms))),
        ("all else", format!("as of {}, the archive's end", at(told.newest_index, told.newest_clock_ms))),
        ("journal", format!("whole: {} entries", told.journal_size)),
        (
            "left out",
            match told.newest_index - told.index {
                0 => "nothing".into(),
                entries => format!("what {entries} entries wrote of records"),
            },
        ),
        (
            "from",
            match plan.is_one_generation() {
                true => format!("generation {}", told.new_generation),
                false => {
                    format!("generation {} for records, {} for all else", told.old_generation, told.new_generation)
                }
            },
        ),
        ("to read", format!("{}, {} segments", bytes(told.bytes), told.segments)),
    ];
    if let Some((fit, size)) = plan.head {
        fields.push(("kept head", fit.words(size)));
    }
    for (first, last) in &told.never_archived {
        fields.push(("never archived", format!("entries {first} to {last}")));
    }
    if let (Some((path, _)), Some(words)) = (usable, &told.target) {
        fields.push(("target", format!("{}: {words}", path.display())));
    }
    fields.extend(signers(&plan.signed_by, is_held).into_iter().map(|words| ("signed by", words)));
    fields.push((
        "archive",
        if told.faults.is_empty() {
            "its chain is whole, each object there in its length".into()
        } else {
            "NOT WHOLE".into()
        },
    ));
    fields.extend(told.not_checked.iter().map(|words| ("not checked", (*words).to_owned())));
    for fault in &told.faults {
        fields.push(("FAULT", fault.clone()));
    }
    output.thing(&(), &fields)?;
    let mut rows = table(&["table", "then", "newest", "what becomes of it"]);
    for (changes, words) in [(&told.left_out, "goes back"), (&told.kept_newer, "stays as it is newest")] {
        for change in changes {
            rows.add_row([change.table, &change.rows_then.to_string(), &change.rows_newest.to_string(), words]);
        }
    }
    if told.left_out.is_empty() && told.kept_newer.is_empty() { Ok(()) } else { output.table(rows) }
}

/// Shows a report.
pub fn report(report: &Report, into: &Path, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.line(report);
    }
    let rate = report.bytes.saturating_mul(1000).checked_div(report.elapsed_ms).unwrap_or(report.bytes);
    let head = match report.head_checked {
        true => "held against a head that was kept".to_owned(),
        false => format!("held against no head: {}", report.waiver),
    };
    let mut fields = vec![
        ("restored", into.display().to_string()),
        ("records", format!("as of entry {}, {}", report.index, moment(report.clock_ms))),
        ("all else", format!("as of entry {}, {}", report.newest_index, moment(report.newest_clock_ms))),
        ("archive's end", head),
        ("timeline", format!("{}, from entry {} on", report.timeline, report.began_index)),
        ("first voter", format!("{}, Raft id {}", report.voter, report.raft_id)),
        ("fenced", report.fenced.clone()),
        ("journal", format!("{} entries, root {}", report.journal_size, report.journal_root)),
        ("state digest", format!("{} at entry {}", report.state_digest, report.applied_index)),
        (
            "kept newer",
            if report.kept_newer.is_empty() { "nothing differs".into() } else { report.kept_newer.join(", ") },
        ),
        ("read", format!("{} in {} s, {} a second", bytes(report.bytes), report.elapsed_ms / 1000, bytes(rate))),
    ];
    for (first, last) in &report.holes {
        fields.push(("never archived", format!("entries {first} to {last}")));
    }
    if report.restricted_left_out > 0 {
        let count = counted(report.restricted_left_out, "record");
        fields.push(("without a body", format!("{count} that stay hidden, narrowed or held: {FILE} lists them")));
    }
    output.thing(&(), &fields)?;
    let mut rows =
        table(&["table", "rows", "newer, left out", "came back", "of erased, left out", "unfinished, left out"]);
    for found in &report.went_back {
        let counts =
            [found.kept, found.newer_left_out, found.came_back, found.erased_left_out, found.unfinished_left_out];
        rows.add_row([vec![found.table.clone()], counts.map(|count| count.to_string()).to_vec()].concat());
    }
    output.table(rows)
}

#[derive(Debug, Serialize)]
struct VerifiedTold {
    index: u64,
    timeline: u64,
    served_since: bool,
    rows: u64,
    journal_size: u64,
    opened_rows: u64,
    unchecked: Vec<String>,
    faults: Vec<String>,
}

/// Shows what was verified.
pub fn verified(found: &Verified, output: Output) -> Result<(), Failure> {
    let told = VerifiedTold {
        index: found.index,
        timeline: found.timeline,
        served_since: found.served_since,
        rows: found.rows,
        journal_size: found.journal_size,
        opened_rows: found.opened.iter().map(|(_, table)| table.opened).sum(),
        unchecked: found.unchecked.clone(),
        faults: found.faults.clone(),
    };
    let mut fields = vec![
        ("state", format!("entry {}, timeline {}", told.index, told.timeline)),
        ("rows", format!("{}, which add up to their digests", told.rows)),
        ("journal", format!("{} entries, on from the last archived head", told.journal_size)),
    ];
    if !told.faults.is_empty() {
        fields.truncate(1);
    }
    if told.opened_rows > 0 {
        fields.push(("opened", format!("{} rows", told.opened_rows)));
    }
    for words in &told.unchecked {
        fields.push(("not checked", words.clone()));
    }
    fields.push(("faults", if told.faults.is_empty() { "none".into() } else { told.faults.len().to_string() }));
    for fault in &told.faults {
        fields.push(("FAULT", fault.clone()));
    }
    output.thing(&told, &fields)
}
