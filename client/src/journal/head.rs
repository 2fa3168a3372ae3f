//! Heads of the journal, and the file in which a client keeps the last one that it has seen.
//!
//! Format of the text, version 1, stable: six fields joined by `:`
//! `kura-head1 : cluster id : timeline : log index : size : root`, numbers in decimal, bytes in hexadecimal.
//!
//! Invariant: a kept head is only ever replaced by one that was shown to begin with it.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::ConfigError;
use crate::id::{Hexadecimal, from_hexadecimal};

const FORMAT: &str = "kura-head1";

/// Longest head file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024;

/// The journal at one moment: how many entries it has, and the root of the Merkle tree over them.
///
/// Whoever keeps one can demand later that the journal still begins with those entries, unchanged and in
/// the same order. As text (`Display`, `FromStr`, serde) it has a stable format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JournalHead {
    pub(super) cluster_id: [u8; 16],
    pub(super) timeline: u64,
    pub(super) index: u64,
    pub(super) size: u64,
    pub(super) root: [u8; 32],
}

impl JournalHead {
    /// A head from its parts, as somebody else told or signed them.
    pub fn new(cluster_id: [u8; 16], timeline: u64, index: u64, size: u64, root: [u8; 32]) -> Self {
        Self { cluster_id, timeline, index, size, root }
    }

    /// Whose journal it is.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.cluster_id
    }

    /// The cluster's timeline at that moment.
    pub fn timeline(&self) -> u64 {
        self.timeline
    }

    /// Log index of the last entry that the member had applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Entries in the journal: positions 0 to `size - 1`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the Merkle tree over them (RFC 6962).
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Reads a head from a file that holds its text.
    ///
    /// # Errors
    /// What the system says; `InvalidData` if the file holds no head.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let text = io::read_to_string(io::Read::take(file, FILE_BYTES_MAX))?;
        text.trim_end().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes its text to a file: aside first, so that the former one stays whole until this one is.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".new");
        let aside = path.with_file_name(name);
        let mut file = std::fs::File::create(&aside)?;
        writeln!(file, "{self}")?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        // The name, too, has to outlast a power cut: else the former head came back.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder)?.sync_all()
    }

    /// Puts it in a file in the place of `base`, the head that it was shown to begin with. Several processes may
    /// keep theirs in one file: it never goes back. Answers whether it was put there; if not, another process has
    /// kept a newer one meanwhile, of which nobody has shown that this one begins with it.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&self, path: &Path, base: Option<&Self>) -> io::Result<bool> {
        // Released when it is dropped. The head's own file is replaced, and so cannot be the one to lock.
        let mut lock = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        lock.push(".lock");
        let lock = std::fs::File::create(path.with_file_name(lock))?;
        lock.lock()?;
        match read_if_there(path)? {
            Some(found) if base.is_none_or(|base| found.is_newer_than(base)) => Ok(false),
            _ => self.write(path).map(|()| true),
        }
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        (self.timeline, self.size) > (other.timeline, other.size)
    }
}

impl fmt::Display for JournalHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster_id, timeline, index, size, root } = self;
        write!(f, "{FORMAT}:{}:{timeline}:{index}:{size}:{}", Hexadecimal(cluster_id), Hexadecimal(root))
    }
}

/// A text that is not a head of a version known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a head of a journal: {field} is missing or malformed")]
pub struct JournalHeadError {
    /// The part at fault.
    pub field: &'static str,
}

impl FromStr for JournalHead {
    type Err = JournalHeadError;

    fn from_str(text: &str) -> Result<Self, JournalHeadError> {
        let mut parts = text.split(':');
        if parts.next() != Some(FORMAT) {
            return Err(JournalHeadError { field: "format" });
        }
        let mut part = |field| parts.next().map(|part| (field, part)).ok_or(JournalHeadError { field });
        let head = Self {
            cluster_id: bytes(part("cluster id")?)?,
            timeline: number(part("timeline")?)?,
            index: number(part("log index")?)?,
            size: number(part("size")?)?,
            root: bytes(part("root")?)?,
        };
        parts.next().is_none().then_some(head).ok_or(JournalHeadError { field: "end" })
    }
}

fn number((field, text): (&'static str, &str)) -> Result<u64, JournalHeadError> {
    // `+7` parses as a number, but is never written.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(JournalHeadError { field })
}

fn bytes<const N: usize>((field, text): (&'static str, &str)) -> Result<[u8; N], JournalHeadError> {
    from_hexadecimal(field, text).map_err(|_| JournalHeadError { field })
}

impl Serialize for JournalHead {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JournalHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The last head that was seen, in memory and, if configured, in a file. Several processes may keep theirs in
/// the same file: it never goes back.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    known: Option<JournalHead>,
    path: Option<PathBuf>,
}

impl Kept {
    /// With what lies in the configured file, if there is one yet.
    pub fn open(path: Option<PathBuf>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        match read_if_there(&path) {
            Ok(known) => Ok(Self { known, path: Some(path) }),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// What this process has seen last.
    pub fn known(&self) -> Option<JournalHead> {
        self.known
    }

    /// What a new head has to begin with: the newest that this or another process has kept.
    pub fn newest(&mut self) -> io::Result<Option<JournalHead>> {
        if let Some(path) = &self.path
            && let Some(found) = read_if_there(path)?
            && self.known.is_none_or(|known| found.is_newer_than(&known))
        {
            self.known = Some(found);
        }
        Ok(self.known)
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Keeps a head that was shown to begin with the one known. Blocking: one small file.
    pub fn keep(&mut self, head: JournalHead) -> io::Result<()> {
        let base = self.known.replace(head);
        if base.is_some_and(|known| known.size == head.size && known.timeline == head.timeline) {
            self.known = base;
            return Ok(());
        }
        let Some(path) = &self.path else { return Ok(()) };
        // Kept by another process meanwhile: the next head will have to begin with that one.
        head.keep(path, base.as_ref()).map(|_| ())
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<JournalHead>> {
    match JournalHead::read(path) {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kura-head1:000102030405060708090a0b0c0d0e0f:2:1234:99:\
                        fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";

    #[test]
    fn the_text_is_frozen_and_malformed_ones_are_refused() {
        let head: JournalHead = TEXT.parse().unwrap();
        assert_eq!(head.to_string(), TEXT);
        assert_eq!((head.timeline(), head.index(), head.size()), (2, 1234, 99));
        assert_eq!((head.cluster_id()[15], head.root()[0]), (0x0f, 0xfa));
        let malformed = [
            (TEXT.replace("head1", "head2"), "format"),
            (TEXT.replace("0e0f", "0e"), "cluster id"),
            (TEXT.replace(":2:", ":+2:"), "timeline"),
            (TEXT.replace(":1234:", "::"), "log index"),
            (TEXT.replace(":99:", ":-1:"), "size"),
            (TEXT.replace("fac5", "zac5"), "root"),
            (format!("{TEXT}:"), "end"),
            (TEXT[..60].to_owned(), "root"),
            (String::new(), "format"),
        ];
        for (text, field) in malformed {
            assert_eq!(text.parse::<JournalHead>(), Err(JournalHeadError { field }), "{text}");
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_a_damaged_file_is_no_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let mut kept = Kept::open(Some(path.clone())).unwrap();
        assert_eq!(kept.newest().unwrap(), None);
        let head: JournalHead = TEXT.parse().unwrap();
        kept.keep(head).unwrap();
        assert_eq!(Kept::open(Some(path.clone())).unwrap().known(), Some(head));
        let larger = JournalHead { size: 100, ..head };
        kept.keep(larger).unwrap();
        assert_eq!(Kept::open(Some(path.clone())).unwrap().known(), Some(larger));
        std::fs::write(&path, &TEXT[..40]).unwrap();
        assert!(matches!(Kept::open(Some(path)), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn whoever_puts_a_head_into_a_file_waits_for_the_lock_and_never_moves_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let first: JournalHead = TEXT.parse().unwrap();
        let at = |size| JournalHead { size, ..first };
        assert!(first.keep(&path, None).unwrap());
        // Read 99, was shown 110; meanwhile another process has put 120 there.
        at(120).write(&path).unwrap();
        assert!(!at(110).keep(&path, Some(&first)).unwrap());
        assert_eq!(JournalHead::read(&path).unwrap(), at(120));
        assert!(at(130).keep(&path, Some(&at(120))).unwrap());
        // While another holds the lock nothing is written: whoever is first is read by the other.
        let lock = std::fs::File::create(folder.path().join("head.lock")).unwrap();
        lock.lock().unwrap();
        let later = std::thread::spawn({
            let (path, head, base) = (path.clone(), at(140), at(130));
            move || head.keep(&path, Some(&base)).unwrap()
        });
        at(150).write(&path).unwrap();
        drop(lock);
        assert!(!later.join().unwrap());
        assert_eq!(JournalHead::read(&path).unwrap(), at(150));
    }

    #[test]
    fn two_processes_with_one_file_never_move_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let first: JournalHead = TEXT.parse().unwrap();
        let at = |size| JournalHead { size, ..first };
        let (mut one, mut other) = (Kept::open(Some(path.clone())).unwrap(), Kept::open(Some(path.clone())).unwrap());
        one.keep(first).unwrap();
        assert_eq!(other.newest().unwrap(), Some(first), "what one has seen the other demands");
        other.keep(at(120)).unwrap();
        // Asked before the other kept its own, answered afterwards.
        one.keep(at(110)).unwrap();
        assert_eq!(JournalHead::read(&path).unwrap(), at(120));
        assert_eq!(one.newest().unwrap(), Some(at(120)));
        one.keep(at(130)).unwrap();
        assert_eq!(JournalHead::read(&path).unwrap(), at(130));
        // A file that could not be written for a while catches up.
        first.write(&path).unwrap();
        one.keep(at(140)).unwrap();
        assert_eq!(JournalHead::read(&path).unwrap(), at(140));
    }
}
