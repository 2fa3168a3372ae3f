//! What a drill found: a file in the data directory of the member on whose machine it ran, JSON for people and
//! programs, replaced by the next drill.
//!
//! ```text
//! { "format": 1, "at_ms": 1795398000000, "milliseconds": 5210, "index": 1234, "journal_size": 567,
//!   "archive_at_ms": 1795397998000, "head": true, "opened": true, "failed": null,
//!   "steps": [ { "step": "check the archive", "milliseconds": 812, "ok": true, "told": "31 objects, …" } ] }
//! ```

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Its name in a data directory.
pub const FILE: &str = "drill.json";
/// The only form there is.
pub const FORMAT: u32 = 1;
/// No report is longer.
const BYTES_MAX: u64 = 64 << 10;

/// Why there is no report to be had.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no report, or a newer one.
    #[error("{path} is no report of a drill of format {FORMAT}: {why}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A step of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub step: Cow<'static, str>,
    /// How long it took.
    pub milliseconds: u64,
    /// Whether it did what it says.
    pub ok: bool,
    /// What it found, or why it failed. Names objects, tables and numbers of rows; no keys, no identifiers.
    pub told: String,
}

impl Step {
    pub(super) fn new(step: &'static str, took: Duration, ok: bool, told: String) -> Step {
        Step { step: step.into(), milliseconds: milliseconds(took), ok, told }
    }
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// When it began, milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took.
    pub milliseconds: u64,
    /// The log index that it restored; 0 if it did not come to that.
    pub index: u64,
    /// Entries of the journal there.
    pub journal_size: u64,
    /// When the archive's newest manifest was written; 0 if unknown.
    pub archive_at_ms: u64,
    /// Whether the archive was held against a head that somebody kept.
    pub head: bool,
    /// Whether synthetic participants were opened with a drill key, and were what was sealed.
    #[serde(default)]
    pub opened: bool,
    /// The step that failed, and why.
    pub failed: Option<String>,
    /// All steps that were begun.
    pub steps: Vec<Step>,
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    pub(crate) fn begun(at_ms: u64, head: bool) -> Report {
        Report {
            format: FORMAT,
            at_ms,
            milliseconds: 0,
            index: 0,
            journal_size: 0,
            archive_at_ms: 0,
            head,
            opened: false,
            failed: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn end(&mut self, took: Duration, failed: Option<String>) {
        (self.milliseconds, self.failed) = (milliseconds(took), failed);
    }

    /// The last drill's report in a data directory; `None` if there was none.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn read(data: &Path) -> Result<Option<Report>, ReportError> {
        let path = data.join(FILE);
        let failed = |source| ReportError::File { path: path.clone(), source };
        let form = |why: String| ReportError::Form { path: path.clone(), why };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(found) if found.len() > BYTES_MAX => return Err(form(format!("it is longer than {BYTES_MAX} bytes"))),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(failed)?;
        let report: Report = serde_json::from_slice(&bytes).map_err(|error| form(error.to_string()))?;
        match report.format {
            FORMAT => Ok(Some(report)),
            other => Err(form(format!("it is of format {other}"))),
        }
    }

    /// Puts it in the place of the one before, whole or not at all.
    ///
    /// # Errors
    /// [`ReportError::File`].
    pub fn write(&self, data: &Path) -> Result<PathBuf, ReportError> {
        let path = data.join(FILE);
        let failed = |source| ReportError::File { path: path.clone(), source };
        let aside = path.with_extension("json.new");
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let mut file = fs::File::create(&aside).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&aside, &path).map_err(failed)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_no_other_form_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Report::read(folder.path()).unwrap().is_none());
        let mut report = Report::begun(7, true);
        report.steps.push(Step::new("open it", Duration::from_millis(5), false, "it does not".into()));
        report.end(Duration::from_secs(2), Some("open it: it does not".into()));
        let path = report.write(folder.path()).unwrap();
        assert_eq!(Report::read(folder.path()).unwrap(), Some(report.clone()));
        let newer = Report { format: 2, ..report };
        newer.write(folder.path()).unwrap();
        assert!(matches!(Report::read(folder.path()), Err(ReportError::Form { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Report::read(folder.path()), Err(ReportError::Form { .. })));
        fs::write(&path, vec![b' '; 70_000]).unwrap();
        assert!(Report::read(folder.path()).unwrap_err().to_string().contains("longer"));
    }
}
