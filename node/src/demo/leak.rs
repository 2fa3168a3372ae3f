//! A search for plaintext in files: many patterns at once, each file read once, in constant memory.
//!
//! Invariants
//! - A match is found wherever it lies, also across the boundary of two reads.
//! - Files and folders that cannot be read are an error: what was not searched is not clean.
//! - The search proves itself: [`Search::prove`] plants every pattern in a control file and must
//!   find every one of them there.
//! - What was found is told by kind and place, never by its text.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};

/// Shortest pattern, in bytes: anything shorter could be met by chance.
pub const PATTERN_BYTES_MIN: usize = 8;

/// Matches that are kept with their place; further ones are counted.
pub const HITS_MAX: usize = 100;

/// The control file plants patterns across multiples of this, which is where reads end.
const BOUNDARY_BYTES: usize = 64 * 1024;
/// How many of these boundaries.
const BOUNDARIES: usize = 16;

/// Something to look for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// What it is: "participant number", …
    pub what: &'static str,
    /// Its bytes, at least [`PATTERN_BYTES_MIN`].
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pattern").field("what", &self.what).finish_non_exhaustive()
    }
}

/// Why a search could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LeakError {
    /// There is nothing to look for.
    #[error("there is nothing to search for")]
    NoPatterns,
    /// A pattern is shorter than [`PATTERN_BYTES_MIN`].
    #[error("a {what} has {length} bytes; a search needs {PATTERN_BYTES_MIN} at least")]
    ShortPattern {
        /// What it is.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// The patterns are too many.
    #[error("the search cannot be made: {0}")]
    Build(#[from] aho_corasick::BuildError),
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The control file was not found out.
    #[error("the search does not work: of {planted} planted patterns it found {found}")]
    Control {
        /// How many were planted.
        planted: usize,
        /// How many were found.
        found: usize,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LeakError + '_ {
    move |source| LeakError::File { path: path.to_owned(), source }
}

/// A match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What was found.
    pub what: &'static str,
}

/// What a search saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Matches.
    pub count: u64,
    /// The first [`HITS_MAX`] of them.
    pub hits: Vec<Hit>,
}

impl Found {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Found) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.count += other.count;
        self.hits.extend(other.hits);
    }
}

/// A search for some patterns.
#[derive(Debug)]
pub struct Search {
    automaton: AhoCorasick,
    patterns: Vec<Pattern>,
}

impl Search {
    /// A search for these. A pattern that holds another one is left out: the shorter finds both.
    ///
    /// # Errors
    /// [`LeakError::NoPatterns`], [`LeakError::ShortPattern`], [`LeakError::Build`].
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, LeakError> {
        let mut patterns = patterns;
        if let Some(short) = patterns.iter().find(|pattern| pattern.bytes.len() < PATTERN_BYTES_MIN) {
            return Err(LeakError::ShortPattern { what: short.what, length: short.bytes.len() });
        }
        patterns.sort_by(|a, b| (a.bytes.len(), &a.bytes).cmp(&(b.bytes.len(), &b.bytes)));
        patterns.dedup_by(|a, b| a.bytes == b.bytes);
        if patterns.is_empty() {
            return Err(LeakError::NoPatterns);
        }
        let all = build(&patterns)?;
        let holds_another = |place: usize, pattern: &Pattern| {
            all.find_overlapping_iter(&pattern.bytes).any(|found| found.pattern().as_usize() != place)
        };
        let kept: Vec<Pattern> = patterns
            .iter()
            .enumerate()
            .filter(|(place, pattern)| !holds_another(*place, pattern))
            .map(|(_, pattern)| pattern.clone())
            .collect();
        Ok(Self { automaton: build(&kept)?, patterns: kept })
    }

    /// How many patterns are looked for.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Plants every pattern in a control file, which must lie where nothing else is searched, and
    /// sees whether the search finds every one. Removes the file. Answers how many were planted.
    ///
    /// # Errors
    /// [`LeakError::Control`] if one was not found; [`LeakError::File`].
    pub fn prove(&self, control: &Path) -> Result<usize, LeakError> {
        fs::write(control, self.control()).map_err(at(control))?;
        let mut seen = vec![false; self.patterns.len()];
        let searched = self.file(control, &mut |_, pattern| seen[pattern] = true);
        fs::remove_file(control).map_err(at(control))?;
        searched?;
        let (planted, found) = (seen.len(), seen.iter().filter(|seen| **seen).count());
        if planted == found { Ok(planted) } else { Err(LeakError::Control { planted, found }) }
    }

    /// Patterns across each boundary first, each of them only there; the others after them.
    fn control(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (across, others) = self.patterns.split_at(self.patterns.len().min(BOUNDARIES));
        for (place, pattern) in across.iter().enumerate() {
            let before = 1 + place % (pattern.bytes.len() - 1);
            bytes.resize((place + 1) * BOUNDARY_BYTES - before, 0);
            bytes.extend_from_slice(&pattern.bytes);
        }
        for pattern in others {
            bytes.push(0);
            bytes.extend_from_slice(&pattern.bytes);
        }
        bytes
    }

    /// Searches every file below a folder; links are not followed. `progress` is told the bytes
    /// read so far.
    ///
    /// # Errors
    /// [`LeakError::File`].
    pub fn folder(&self, root: &Path, progress: &dyn Fn(u64)) -> Result<Found, LeakError> {
        let mut found = Found::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(at(&folder))? {
                let entry = entry.map_err(at(&folder))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(at(&path))?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    self.search(&path, &mut found)?;
                    progress(found.bytes);
                }
            }
        }
        Ok(found)
    }

    fn search(&self, path: &Path, found: &mut Found) -> Result<(), LeakError> {
        let mut hits = Vec::new();
        let mut count = 0;
        let room = HITS_MAX - found.hits.len();
        found.bytes += self.file(path, &mut |offset, pattern| {
            count += 1;
            if hits.len() < room {
                hits.push(Hit { path: path.to_owned(), offset, what: self.patterns[pattern].what });
            }
        })?;
        found.files += 1;
        found.count += count;
        found.hits.extend(hits);
        Ok(())
    }

    /// Searches one file; answers its length.
    fn file(&self, path: &Path, hit: &mut dyn FnMut(u64, usize)) -> Result<u64, LeakError> {
        let file = Counting { file: File::open(path).map_err(at(path))?, bytes: 0 };
        let mut file = file;
        for found in self.automaton.stream_find_iter(&mut file) {
            let found = found.map_err(at(path))?;
            hit(found.start() as u64, found.pattern().as_usize());
        }
        Ok(file.bytes)
    }
}

fn build(patterns: &[Pattern]) -> Result<AhoCorasick, LeakError> {
    let patterns = patterns.iter().map(|pattern| &pattern.bytes);
    Ok(AhoCorasick::builder().match_kind(MatchKind::Standard).build(patterns)?)
}

/// A file whose bytes are counted as they are read.
struct Counting {
    file: File,
    bytes: u64,
}

impl io::Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(what: &'static str, bytes: &[u8]) -> Pattern {
        Pattern { what, bytes: bytes.to_vec() }
    }

    fn search() -> Search {
        Search::new(vec![
            pattern("number", b"0043001234567890"),
            pattern("name", "山田 太郎".as_bytes()),
            pattern("jis", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ])
        .unwrap()
    }

    #[test]
    fn patterns_are_found_at_every_place_around_the_boundaries_of_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("000123.sst");
        for boundary in [8 * 1024, 64 * 1024, 128 * 1024, 192 * 1024] {
            for before in 0..=16 {
                let mut bytes = vec![b'0'; boundary - before];
                bytes.extend_from_slice(b"0043001234567890");
                bytes.resize(boundary + 70_000, b'4');
                fs::write(&path, &bytes).unwrap();
                let found = search().folder(directory.path(), &|_| {}).unwrap();
                let offset = (boundary - before) as u64;
                assert_eq!(found.hits, [Hit { path: path.clone(), offset, what: "number" }]);
                assert_eq!((found.files, found.bytes, found.count), (1, bytes.len() as u64, 1));
            }
        }
    }

    #[test]
    fn every_file_of_every_folder_is_searched_and_clean_ones_are_clean() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("data/state/checkpoint");
        fs::create_dir_all(&deep).unwrap();
        fs::write(directory.path().join("log.txt"), "nothing here, 004300123456789 is one digit short").unwrap();
        fs::write(deep.join("empty"), "").unwrap();
        let found = search().folder(directory.path(), &|_| {}).unwrap();
        assert_eq!((found.files, found.count), (2, 0));
        fs::write(deep.join("blob"), "…山田 太郎…").unwrap();
        let mut raw = b"PID|1||7||".to_vec();
        raw.extend_from_slice(b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B|||");
        fs::write(deep.join("wal"), raw).unwrap();
        let mut kinds: Vec<_> =
            search().folder(directory.path(), &|_| {}).unwrap().hits.iter().map(|hit| hit.what).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["jis", "name"]);
        assert!(search().folder(&directory.path().join("missing"), &|_| {}).is_err());
    }

    #[test]
    fn the_search_proves_itself_and_a_blind_one_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control");
        let many: Vec<Pattern> = (0..500).map(|i| pattern("id", format!("document-{i:05}").as_bytes())).collect();
        let mut search = Search::new(many).unwrap();
        assert_eq!(search.prove(&control).unwrap(), 500);
        assert!(!control.exists());
        // A search that looks for something else than it says.
        search.automaton = build(&[pattern("id", b"something else")]).unwrap();
        assert!(matches!(search.prove(&control), Err(LeakError::Control { planted: 500, found: 0 })));
    }

    #[test]
    fn the_shorter_pattern_stands_for_the_longer_and_short_ones_are_refused() {
        let search = Search::new(vec![
            pattern("document", b"facility-7f3a-20240301"),
            pattern("facility", b"facility-7f3a"),
            pattern("facility", b"facility-7f3a"),
        ])
        .unwrap();
        assert_eq!(search.patterns(), 1);
        assert!(matches!(Search::new(vec![pattern("id", b"F0012")]), Err(LeakError::ShortPattern { length: 5, .. })));
        assert!(matches!(Search::new(vec![]), Err(LeakError::NoPatterns)));
    }
}
