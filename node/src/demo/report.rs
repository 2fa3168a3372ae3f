//! The demo's table, and what is seen while it works.

use std::time::Instant;

use serde::Serialize;

use crate::cli::{Failure, Output, Progress, table};

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
struct Row {
    step: &'static str,
    shown: String,
    figure: String,
    seconds: f64,
    ok: bool,
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    progress: Progress,
    began: Instant,
    step: Option<(&'static str, Instant)>,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(output: Output) -> Self {
        Self { output, progress: Progress::spinner(), began: Instant::now(), step: None, rows: Vec::new() }
    }

    pub fn output(&self) -> Output {
        self.output
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Prints data at once, past the line that shows progress.
    pub fn print_now(&self, text: &str) -> Result<(), Failure> {
        self.progress.past(|| self.output.text(text))
    }

    /// A step begins.
    pub fn begin(&mut self, step: &'static str) {
        self.progress.say(step);
        self.step = Some((step, Instant::now()));
    }

    /// The step that began last has shown this.
    pub fn done(&mut self, shown: impl Into<String>, figure: impl Into<String>) {
        self.end(shown.into(), figure.into(), true);
    }

    fn end(&mut self, shown: String, figure: String, ok: bool) {
        let (step, began) = self.step.take().unwrap_or(("", self.began));
        let row = Row { step, shown, figure, seconds: began.elapsed().as_secs_f64(), ok };
        let mark = if ok { "ok    " } else { "FAILED" };
        self.progress.keep(&format!("{mark} {:5.1} s  {}: {}", row.seconds, row.step, row.figure));
        self.rows.push(row);
    }

    /// Prints the table. Answers the step that failed, if one did.
    pub fn print(mut self, failure: Option<&Failure>) -> Result<&'static str, Failure> {
        let failed = self.step.map_or("the demo", |(step, _)| step);
        if let Some(failure) = failure {
            if self.step.is_none() {
                self.step = Some((failed, Instant::now()));
            }
            self.end(failure.message.clone(), "failed".into(), false);
        }
        let Self { output, progress, began, rows, .. } = self;
        drop(progress);
        if output.json {
            rows.iter().try_for_each(|row| output.line(row))?;
            return Ok(failed);
        }
        let mut shown = table(&["step", "what was shown", "figure", "seconds", ""]);
        for row in rows {
            let mark = if row.ok { "ok" } else { "FAILED" };
            shown.add_row([row.step.to_owned(), row.shown, row.figure, format!("{:.1}", row.seconds), mark.into()]);
        }
        let end = if failure.is_some() { "ended" } else { "all shown" };
        output.table(shown)?;
        output.text(&format!("{end} after {:.1} s", began.elapsed().as_secs_f64()))?;
        Ok(failed)
    }
}
