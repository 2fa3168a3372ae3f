//! Writing and reading the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{End, Header, Line, Operation};

/// Why a history was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not of the format.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

struct Sink {
    file: BufWriter<File>,
    operations: u64,
    /// The first failure: later writes do nothing, and [`Recorder::end`] tells it.
    failed: Option<io::Error>,
}

/// Writes a history. Shared by all of a run's tasks.
pub struct Recorder {
    path: PathBuf,
    began: Instant,
    sink: Mutex<Sink>,
}

impl Recorder {
    /// Begins a history; the run's time begins now.
    ///
    /// # Errors
    /// [`HistoryError::File`].
    pub fn create(path: impl Into<PathBuf>, header: Header) -> Result<Self, HistoryError> {
        let path = path.into();
        let file = File::create(&path).map_err(|source| HistoryError::File { path: path.clone(), source })?;
        let sink = Sink { file: BufWriter::new(file), operations: 0, failed: None };
        let recorder = Self { path, began: Instant::now(), sink: Mutex::new(sink) };
        recorder.write(&Line::Header(header));
        Ok(recorder)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Microseconds since the run began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line. A failure is told by [`Recorder::end`].
    pub fn write(&self, line: &Line) {
        write_line(&mut self.sink(), line);
    }

    /// Writes an operation, giving it the next id.
    pub fn operation(&self, operation: Operation) {
        let mut sink = self.sink();
        sink.operations += 1;
        let operation = Operation { id: sink.operations, ..operation };
        write_line(&mut sink, &Line::Operation(operation));
    }

    /// Writes what is still in memory to the file, so that it can be read while the run goes on.
    pub fn flush(&self) {
        let mut sink = self.sink();
        if let Err(error) = sink.file.flush() {
            sink.failed.get_or_insert(error);
        }
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// [`HistoryError::File`], also of any earlier line.
    pub fn end(&self) -> Result<(), HistoryError> {
        let at_us = self.now_us();
        let mut sink = self.sink();
        let end = End { at_us, operations: sink.operations };
        write_line(&mut sink, &Line::End(end));
        let flushed = sink.file.flush();
        match sink.failed.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(source) => Err(HistoryError::File { path: self.path.clone(), source }),
        }
    }
}

fn write_line(sink: &mut Sink, line: &Line) {
    if sink.failed.is_some() {
        return;
    }
    let written =
        serde_json::to_writer(&mut sink.file, line).map_err(io::Error::from).and_then(|()| sink.file.write_all(b"\n"));
    sink.failed = written.err();
}

/// Reads a history.
///
/// # Errors
/// [`HistoryError`], naming the line.
pub fn read(path: &Path) -> Result<Vec<Line>, HistoryError> {
    let failed = |source| HistoryError::File { path: path.to_owned(), source };
    let reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut lines = Vec::new();
    for (place, text) in reader.lines().enumerate() {
        let line = serde_json::from_str(&text.map_err(failed)?).map_err(|error| HistoryError::Line {
            path: path.to_owned(),
            line: place + 1,
            message: error.to_string(),
        })?;
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    const OPERATION: &str = r#"{"line":"operation","id":1,"client":"writer-0","participant":"p00","facility":"home","call_us":5,"return_us":9,"action":"put","request":"aa","document":"d","body_sha256":"ff","body_bytes":3,"outcome":"committed","record":"r1","version":1,"at":{"timeline":0,"index":7},"term":2,"journal":4,"reach":"not-awaited","repeated":false}"#;

    fn header() -> Header {
        Header {
            format: FORMAT,
            run: "crash".into(),
            seed: 1,
            rounds: 0,
            version: "kura 0.1.0".into(),
            began_ms: 0,
            voters: vec!["voter-1".into()],
            backups: Vec::new(),
            ..Header::default()
        }
    }

    #[test]
    fn the_form_of_an_operation_is_frozen() {
        let line: Line = serde_json::from_str(OPERATION).unwrap();
        assert_eq!(serde_json::to_string(&line).unwrap(), OPERATION);
        let Line::Operation(operation) = line else { panic!("an operation") };
        assert!(matches!(operation.action, Action::Put { body_bytes: 3, .. }));
        assert!(matches!(operation.outcome, Outcome::Committed(Committed { journal: 4, .. })));
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path, header()).unwrap();
        let Line::Operation(operation) = serde_json::from_str(OPERATION).unwrap() else { panic!("an operation") };
        recorder.operation(operation.clone());
        recorder.operation(operation);
        recorder.end().unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], Line::Header(header()));
        assert!(matches!(&lines[2], Line::Operation(Operation { id: 2, .. })));
        assert!(matches!(lines[3], Line::End(End { operations: 2, .. })));

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        assert!(matches!(read(&path), Err(HistoryError::Line { line: 4, .. })));
    }
}
