//! What commands print: tables for people, JSON for programs.
//!
//! Invariants
//! - Data goes to standard output and nothing else does; progress and notes go to standard error.
//! - With `--json` a thing is one JSON object on one line, and a list is one line for each item.
//! - A reader that has gone away (`kura … | head`) is an error like any other, never a panic.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableComponent, Width, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::exit::Failure;
pub use crate::clock::in_japan as moment;

/// Where data goes, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
}

impl Output {
    /// Prints one thing: its fields one below the other, or as a JSON object.
    pub fn thing<T: Serialize>(&self, value: &T, fields: &[(&str, String)]) -> Result<(), Failure> {
        if self.json {
            return self.line(value);
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for (name, content) in fields {
            table.add_row([*name, content.as_str()]);
        }
        write(&table.trim_fmt())
    }

    /// Prints a list: a table with a heading, or one JSON object a line.
    pub fn list<T: Serialize>(
        &self,
        items: &[T],
        heading: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return items.iter().try_for_each(|item| self.line(item));
        }
        if items.is_empty() {
            note("none");
            return Ok(());
        }
        let mut table = self::table(heading);
        for item in items {
            table.add_row(row(item));
        }
        self.table(table)?;
        note(&format!("{} in all", items.len()));
        Ok(())
    }

    /// Prints a JSON object on a line of its own, whatever the form asked for.
    pub fn line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(Failure::failed)?;
        write(&text)
    }

    /// Prints a table for people, as wide as the terminal or [`PIPED_COLUMNS`] allow.
    pub fn table(&self, table: Table) -> Result<(), Failure> {
        write(&shown(table))
    }

    /// Prints text as it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        write(text)
    }
}

/// Columns of a table where standard output is no terminal.
const PIPED_COLUMNS: u16 = 120;

/// Spaces between two columns.
const GAP: u16 = 2;

/// No column is made narrower than this.
const COLUMN_LEAST: u16 = 8;

/// An empty table with a heading, for [`Output::table`].
pub fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heading.iter().copied());
    table
}

/// A table as [`Output::table`] prints it.
pub fn shown(table: Table) -> String {
    fit(table, columns())
}

/// Makes a table fit into so many columns: as long as it does not, its widest column goes on in the next line.
/// Nothing is left out.
fn fit(mut table: Table, columns: u16) -> String {
    let mut widths: Vec<u16> = table.column_max_content_widths().into_iter().map(|width| width.max(1)).collect();
    let gaps = GAP * u16::try_from(widths.len().saturating_sub(1)).unwrap_or(0);
    let mut over = (widths.iter().sum::<u16>() + gaps).saturating_sub(columns);
    while over > 0 {
        let Some(widest) = widths.iter_mut().filter(|width| **width > COLUMN_LEAST).max() else { break };
        *widest -= 1;
        over -= 1;
    }
    let last = widths.len().saturating_sub(1);
    for (at, (column, width)) in table.column_iter_mut().zip(widths).enumerate() {
        let gap = if at == last { 0 } else { GAP };
        column.set_padding((0, gap)).set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + gap)));
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns).trim_fmt()
}

fn columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(PIPED_COLUMNS)
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}

/// A note for a person, on standard error.
pub fn note(text: &str) {
    // Nobody to tell if standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Progress on standard error, drawn only where that is a terminal.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    told: Arc<Mutex<Option<(String, Instant)>>>,
}

/// Between two lines that say what is waited for.
const WAIT_LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Progress {
    /// A spinner with words behind it.
    pub fn spinner() -> Self {
        Self::with("{spinner} {elapsed:>4} {msg}")
    }

    /// A counter of bytes.
    pub fn bytes() -> Self {
        Self::with("{spinner} {elapsed:>4} {bytes} {bytes_per_sec} {msg}")
    }

    /// Bytes of so many, with their rate and the time that remains.
    pub fn transfer(total: u64) -> Self {
        const TEMPLATE: &str =
            "{spinner} {elapsed:>4} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}";
        let progress = Self::drawn(TEMPLATE, ProgressDrawTarget::stderr());
        progress.total(total);
        progress
    }

    /// A bar over things that are counted; its end is known once [`Progress::total`] tells it.
    /// Nothing is drawn unless `shown`.
    pub fn counted(shown: bool) -> Self {
        const TEMPLATE: &str = "{spinner} {elapsed:>4} {wide_bar} {pos}/{len} {per_sec} eta {eta}";
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self::drawn(TEMPLATE, target)
    }

    /// How many things there are.
    pub fn total(&self, count: u64) {
        self.bar.set_length(count);
    }

    /// Whether anything is drawn.
    pub fn is_drawn(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn with(template: &str) -> Self {
        Self::drawn(template, ProgressDrawTarget::stderr())
    }

    fn drawn(template: &str, target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, told: Arc::default() }
    }

    /// What is going on.
    pub fn say(&self, words: impl Into<String>) {
        self.bar.set_message(words.into());
    }

    /// What is waited for: drawn, or a line each time it changes where nothing is drawn, at most one in
    /// [`WAIT_LINE_INTERVAL`].
    pub fn wait_for(&self, words: &str) {
        if self.is_drawn() {
            return self.say(words);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.as_ref().is_none_or(|(last, at)| last != words && at.elapsed() >= WAIT_LINE_INTERVAL);
        if is_new {
            *told = Some((words.to_owned(), Instant::now()));
            note(&format!("waiting: {words}"));
        }
    }

    /// A line that stays, also where nothing is drawn.
    pub fn keep(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    /// Prints something while nothing is drawn.
    pub fn past<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Counts bytes, or what else is counted.
    pub fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of things: `1 file`, `2 files`.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Bytes with a binary unit, three digits or so.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// Hexadecimal digits of bytes.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first digits of a long hash, enough to compare by eye; `…` stands for the rest.
pub fn short(bytes: &[u8]) -> String {
    const SHOWN: usize = 6;
    match bytes.get(..SHOWN) {
        Some(shown) if bytes.len() > SHOWN => format!("{}…", hexadecimal(shown)),
        _ => hexadecimal(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_and_leaves_nothing_out() {
        let long = "0123456789abcdef".repeat(8);
        let mut wide = table(&["member", "digest", "state"]);
        wide.add_row(["voter-1", &long, "follows"]);
        let shown = fit(wide.clone(), 60);
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(shown.contains("voter-1") && shown.contains("follows"), "only the widest gives way: {shown}");
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
        assert_eq!(digits(&shown), digits(&long) + 1, "{shown}");
        let whole = fit(wide, 200);
        assert!(whole.contains(&long) && whole.lines().count() == 3, "{whole}");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((bytes(0), bytes(1023), bytes(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
        assert_eq!([0, 1, 2].map(|count| counted(count, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!((short(&[0xab; 32]), short(&[0xab; 6])), ("abababababab…".into(), "abababababab".into()));
    }
}
