//! The last drill on this machine, as its report tells it: another process writes that (`kura drill`).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::drill::{FILE, Report};

/// By which a report is known without reading it: each has a file of its own, which takes the place of the one before.
type Mark = (u64, Option<SystemTime>);

/// The last drill. It is looked for whenever somebody asks, so that a status after a drill tells that drill, and read
/// only if there is another report than before.
#[derive(Debug, Default)]
pub struct LastDrill(Mutex<(Option<Mark>, Option<Arc<Report>>)>);

impl LastDrill {
    /// What it was, by the report in this data directory; `None` if there was none. One that cannot be read is told as a
    /// drill that failed, of the file's time: the one before may have.
    pub fn look(&self, data: &Path) -> Option<Arc<Report>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = fs::metadata(data.join(FILE)).ok().map(|found| (found.ino(), found.modified().ok()));
        if known.0 != mark {
            let read = Report::read(data).unwrap_or_else(|error| {
                tracing::warn!(%error, "the last drill's report");
                let written = mark.and_then(|(_, at)| at?.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
                let failed = Some(format!("its report cannot be read: {error}"));
                Some(Report { failed, ..Report::begun(u64::try_from(written.as_millis()).unwrap_or(0), false) })
            });
            *known = (mark, read.map(Arc::new));
        }
        known.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_is_told_as_soon_as_it_is_there() {
        let data = tempfile::tempdir().unwrap();
        let last = LastDrill::default();
        assert_eq!(last.look(data.path()), None);
        for at_ms in 1..=3 {
            let report = Report::begun(at_ms, false);
            report.write(data.path()).unwrap();
            assert_eq!(last.look(data.path()).as_deref(), Some(&report));
            assert_eq!(last.look(data.path()).as_deref(), Some(&report), "asked again, it is the same");
        }
        fs::write(data.path().join("other"), "no report").unwrap();
        fs::rename(data.path().join("other"), data.path().join(FILE)).unwrap();
        let told = last.look(data.path()).unwrap();
        assert!(told.failed.as_ref().is_some_and(|why| why.contains("cannot be read")) && told.at_ms > 3, "{told:?}");
        fs::remove_file(data.path().join(FILE)).unwrap();
        assert_eq!(last.look(data.path()), None);
    }
}
