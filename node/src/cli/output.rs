//! What commands print: tables for people, JSON for programs.
//!
//! Invariants
//! - Data goes to standard output and nothing else does; progress and notes go to standard error.
//! - With `--json` a thing is one JSON object on one line, and a list is one line for each item.
//! - A reader that has gone away (`kura … | head`) ends the command without a word ([`Exit::Unread`]), never a panic.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comfy_table::{Cell, ContentArrangement, Row, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kura_cluster::hexadecimal;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::exit::{Exit, Failure};
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
        self.list_or("none", items, heading, row)
    }

    /// The same, with words for an empty list: what was looked for.
    pub fn list_or<T: Serialize>(
        &self,
        none: &str,
        items: &[T],
        heading: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            return items.iter().try_for_each(|item| self.line(item));
        }
        if items.is_empty() {
            note(none);
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

/// Makes a table fit into so many columns: without the columns that are empty in every row, and as long as it does
/// not fit, its widest column goes on in the next line. Nothing else is left out, and no word, number, id or moment is
/// broken: a table that cannot fit that way becomes a block for each row, its fields one below the other.
fn fit(table: Table, columns: u16) -> String {
    let cells = |row: &Row| row.cell_iter().map(Cell::content).collect::<Vec<String>>();
    let heading = table.header().map(cells).unwrap_or_default();
    let rows: Vec<Vec<String>> = table.row_iter().map(cells).collect();
    let has_something = |at: usize| rows.iter().any(|row| row.get(at).is_some_and(|cell| !cell.trim().is_empty()));
    let kept: Vec<usize> = (0..heading.len()).filter(|at| rows.is_empty() || has_something(*at)).collect();
    let column = |at: usize| std::iter::once(&heading).chain(&rows).filter_map(move |row| row.get(at));
    let lines = |at: usize| column(at).flat_map(|cell| cell.lines());
    let widths: Vec<usize> = kept.iter().map(|at| lines(*at).map(str::width).max().unwrap_or(0)).collect();
    let longest = |at: &usize| lines(*at).flat_map(pieces).map(|piece| piece.width()).max().unwrap_or(0);
    let least: Vec<usize> = kept.iter().map(longest).collect();
    let Some(widths) = narrowed(&widths, &least, columns) else { return blocks(&heading, &rows, &kept) };
    let row = |cells: &[String]| -> Vec<String> {
        let cell = |at: usize| cells.get(at).map_or("", String::as_str);
        kept.iter().zip(&widths).map(|(at, width)| wrapped(cell(*at), *width)).collect()
    };
    let mut fitted = self::table(&[]);
    fitted.set_header(row(&heading));
    rows.iter().for_each(|cells| {
        fitted.add_row(row(cells));
    });
    let last = kept.len().saturating_sub(1);
    for (at, column) in fitted.column_iter_mut().enumerate() {
        column.set_padding((0, if at == last { 0 } else { GAP }));
    }
    fitted.trim_fmt()
}

/// Widths that fit together, none below its least: the widest gives way first. None if there are none.
fn narrowed(widths: &[usize], least: &[usize], columns: u16) -> Option<Vec<usize>> {
    let mut widths = widths.to_vec();
    let gaps = usize::from(GAP) * widths.len().saturating_sub(1);
    let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns.into());
    for _ in 0..over {
        let with_room = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        *with_room.max_by_key(|(width, _)| **width)?.0 -= 1;
    }
    Some(widths)
}

/// A block for each row: what the table would have in its columns, with their heading.
fn blocks(heading: &[String], rows: &[Vec<String>], kept: &[usize]) -> String {
    let widest = kept.iter().map(|at| heading[*at].width()).max().unwrap_or(0);
    let field = |row: &[String], at: usize| {
        let cell = row.get(at).filter(|cell| !cell.trim().is_empty())?;
        let padding = " ".repeat(widest - heading[at].width() + usize::from(GAP));
        Some(format!(" {}{padding}{}", heading[at], cell.replace('\n', " ")))
    };
    let block = |row: &Vec<String>| kept.iter().filter_map(|at| field(row, *at)).collect::<Vec<_>>().join("\n");
    rows.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

/// The pieces of a line that stay whole: words, and a day with the time that follows it.
fn pieces(line: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        match pieces.last_mut() {
            Some(day) if ends_with_day(day) && word.contains(':') => *day = format!("{day} {word}"),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

/// Whether it ends with YYYY-MM-DD.
fn ends_with_day(word: &str) -> bool {
    let Some(at) = word.len().checked_sub("YYYY-MM-DD".len()) else { return false };
    word.as_bytes()[at..].iter().enumerate().all(|(place, byte)| match place {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    })
}

/// A text over lines of a width into which each of its pieces fits.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.width() <= width {
            lines.push(line.to_owned());
            continue;
        }
        let mut filling = String::new();
        for piece in pieces(line) {
            if !filling.is_empty() && filling.width() + 1 + piece.width() > width {
                lines.push(std::mem::take(&mut filling));
            }
            if !filling.is_empty() {
                filling.push(' ');
            }
            filling.push_str(&piece);
        }
        lines.push(filling);
    }
    lines.join("\n")
}

fn columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(PIPED_COLUMNS)
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| unwritten("cannot write to standard output", &error))
}

/// Output that could not be written: whoever read it has gone, or the disk is full, say.
pub fn unwritten(what: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Unread, "whoever read the output has gone"),
        _ => Failure::failed(format!("{what}: {error}")),
    }
}

/// A note for a person, on standard error.
pub fn note(text: &str) {
    // Nobody to tell if standard error is gone.
    // In one piece: where both streams go to one place, a line of the other must not come in between.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
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

/// The content of a field as people read it: what is in milliseconds as a moment in Japan, or as a length of time
/// with the milliseconds that `kura setting set` takes.
pub fn readable(field: &str, content: &str) -> String {
    /// Lengths of time are shorter: this is 1973.
    const MOMENT_MS_LEAST: u64 = 100_000_000_000;
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let is_time = field.ends_with("_ms") || field.ends_with("_ms_max");
    let Some(ms) = content.parse::<u64>().ok().filter(|_| is_time) else { return content.to_owned() };
    match UNITS.iter().find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms)) {
        _ if ms >= MOMENT_MS_LEAST => moment(ms),
        Some((unit_ms, unit)) => format!("{ms} ({} {unit})", ms / unit_ms),
        None => content.to_owned(),
    }
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

    const MOMENT: &str = "2026-04-01 09:30:00+09:00";
    const ID: &str = "01a2042f3a0df4f1be7a2a4b35b1c9d0";

    #[test]
    fn a_table_fits_and_breaks_no_word_number_id_or_moment() {
        let reason = "a reason of several words that goes on and on, 4300000000000001 among them";
        let mut wide = table(&["act", "expires", "ended", "reason"]);
        wide.add_row([ID, MOMENT, "", reason]);
        wide.add_row([ID, MOMENT, "", "病院　の事情"]);
        let whole = fit(wide.clone(), 200);
        assert!(whole.contains(reason) && !whole.contains("ended"), "without the empty column: {whole}");
        for columns in 78..140 {
            let shown = fit(wide.clone(), columns);
            assert!(shown.lines().all(|line| line.width() <= usize::from(columns)), "{columns}:\n{shown}");
            for piece in [ID, MOMENT, "4300000000000001", "several", "病院　の事情"] {
                assert!(shown.contains(piece), "{columns}: {piece}\n{shown}");
            }
        }
    }

    #[test]
    fn a_moment_stays_whole_while_other_columns_go_on_in_the_next_line() {
        let mut wide = table(&["when", "who", "until", "why"]);
        wide.add_row([MOMENT, "F0012/u-7", &format!("sent {MOMENT}"), "asked by telephone, in writing later"]);
        for columns in [75, 80, 90, 100] {
            let shown = fit(wide.clone(), columns);
            assert!(shown.lines().all(|line| line.width() <= usize::from(columns)), "{columns}:\n{shown}");
            assert_eq!(shown.matches(MOMENT).count(), 2, "{columns}:\n{shown}");
            assert!(shown.starts_with("when"), "no blocks yet at {columns}:\n{shown}");
        }
        assert!(fit(wide, 60).starts_with(" when "), "blocks");
    }

    #[test]
    fn a_table_that_cannot_fit_has_a_block_for_each_row() {
        let mut wide = table(&["act", "expires", "ended", "reason"]);
        wide.add_row([ID, MOMENT, "", "one"]);
        wide.add_row([ID, MOMENT, "", "another"]);
        let shown = fit(wide, 50);
        let block = |reason: &str| format!(" act      {ID}\n expires  {MOMENT}\n reason   {reason}");
        assert_eq!(shown, format!("{}\n\n{}", block("one"), block("another")));
    }

    #[test]
    fn times_are_readable_and_lengths_of_time_keep_their_milliseconds() {
        assert_eq!(readable("until_ms", "1775003400000"), "2026-04-01 09:30:00+09:00");
        let lengths =
            [("emergency_ms", "3600000", "3600000 (1 h)"), ("disaster_ms_max", "7776000000", "7776000000 (90 d)")];
        lengths.iter().for_each(|(field, given, told)| assert_eq!(readable(field, given), *told));
        for (field, same) in [("act_ms", "0"), ("act_ms", "1500"), ("caps_factor", "3600000"), ("until_ms", "")] {
            assert_eq!(readable(field, same), same, "{field}");
        }
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((bytes(0), bytes(1023), bytes(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
        assert_eq!([0, 1, 2].map(|count| counted(count, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!((short(&[0xab; 32]), short(&[0xab; 6])), ("abababababab…".into(), "abababababab".into()));
    }
}
