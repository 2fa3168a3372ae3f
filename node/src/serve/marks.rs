//! Members' marks, kept for them: a member that lost what it had promised must not vote again, and only
//! others can tell it.
//!
//! Invariants
//! - A kept mark was sent by its member: the file has a checksum, since one flipped bit could claim more
//!   than a healthy member ever promised, and lock it out.
//! - A mark that rose is saved, or its saving is tried again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::raft::log_store::LogWatch;
use crate::raft::marks::Mark;
use crate::raft::network::MarkSink;
use crate::raft::types::NodeId;

const SAVE_INTERVAL: Duration = Duration::from_secs(1);
const FILE: &str = "peer-marks";
const FORMAT: u32 = 2;
/// SHA-256 of what is before it.
const CHECKSUM_BYTES: usize = 32;
/// How files of format 1 begin (field 1, 1), which had no checksum. Two bits from how those of format 2 do.
const START_WITHOUT_CHECKSUM: [u8; 2] = [8, 1];

#[derive(Clone, PartialEq, Message)]
struct MarksFile {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    marks: Vec<KeptMark>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptMark {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(bytes = "bytes", tag = "2")]
    mark: Bytes,
}

/// The marks of other members, highest seen, saved each second.
pub struct MarkStore {
    path: PathBuf,
    /// With whether there is something to save.
    kept: Mutex<(BTreeMap<NodeId, Mark>, bool)>,
    own: OnceLock<LogWatch>,
}

impl MarkStore {
    /// Reads what was kept under a data directory. A file without a checksum is saved with one next.
    ///
    /// # Errors
    /// A file that cannot be read, fails its checksum, or is of another format.
    pub fn open(data: &Path) -> io::Result<Arc<MarkStore>> {
        let path = data.join(FILE);
        let kept = match std::fs::read(&path) {
            Ok(bytes) => read_marks(&bytes).map_err(|why| refused(&path, why))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), false),
            Err(error) => return Err(error),
        };
        Ok(Arc::new(MarkStore { path, kept: Mutex::new(kept), own: OnceLock::new() }))
    }

    /// Where this node's own mark comes from.
    pub fn watch_own(&self, log: LogWatch) {
        let _ = self.own.set(log);
    }

    /// Saves what has changed: written aside, synced, renamed, the directory synced.
    ///
    /// # Errors
    /// What the system says. The next call tries again.
    pub fn save(&self) -> io::Result<()> {
        let file = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut kept.1) {
                return Ok(());
            }
            let marks =
                kept.0.iter().map(|(node, mark)| KeptMark { node: *node, mark: mark.encode().into() }).collect();
            MarksFile { format: FORMAT, marks }
        };
        let mut bytes = file.encode_to_vec();
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        let written = self.write(&bytes);
        if written.is_err() {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        }
        written
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let aside = self.path.with_extension("new");
        let mut out = std::fs::File::create(&aside)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        std::fs::rename(&aside, &self.path)?;
        match self.path.parent() {
            Some(directory) => std::fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// The marks in a file, and whether it has to be saved again, or why it is refused.
pub(crate) fn read_marks(bytes: &[u8]) -> Result<(BTreeMap<NodeId, Mark>, bool), &'static str> {
    const OTHER_FORMAT: &str = "is in a form that this version does not know";
    let old = bytes.starts_with(&START_WITHOUT_CHECKSUM);
    let (content, format) = if old {
        (bytes, 1)
    } else {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("is cut short")?;
        if Sha256::digest(content)[..] != checksum[..] {
            return Err("is damaged (its checksum does not match)");
        }
        (content, FORMAT)
    };
    let file = MarksFile::decode(content).ok().filter(|file| file.format == format).ok_or(OTHER_FORMAT)?;
    let marks = file.marks.into_iter().map(|kept| Mark::decode(&kept.mark).map(|mark| (kept.node, mark)));
    Ok((marks.collect::<Result<BTreeMap<_, _>, _>>().map_err(|_| OTHER_FORMAT)?, old))
}

fn refused(path: &Path, why: &str) -> io::Error {
    let path = path.display();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{path} {why}. It is what this node remembers of the other members. Remove it only if all other voters \
             run: they then tell their marks anew. Otherwise replace this member"
        ),
    )
}

impl MarkSink for MarkStore {
    fn peer_mark(&self, node: NodeId, mark: Bytes) {
        let Ok(mark) = Mark::decode(&mark) else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.0.entry(node).or_default();
        if *before < mark {
            *before = mark;
            kept.1 = true;
        }
    }

    fn kept_mark(&self, node: NodeId) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.get(&node).map(|mark| mark.encode().into())
    }

    fn own_mark(&self) -> Bytes {
        self.own.get().map(|log| log.mark().encode().into()).unwrap_or_default()
    }

    fn opened_mark(&self) -> Bytes {
        self.own.get().map(|log| log.opened().encode().into()).unwrap_or_default()
    }
}

/// Saves the marks each second, for ever.
pub async fn persist(marks: Arc<MarkStore>) {
    let mut tick = tokio::time::interval(SAVE_INTERVAL);
    loop {
        tick.tick().await;
        if let Err(error) = tokio::task::block_in_place(|| marks.save()) {
            tracing::warn!(%error, "peers' marks could not be saved");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Vote, log_id};

    fn mark(index: u64) -> Mark {
        Mark { vote: Some(Vote::new_committed(4, 1)), last: Some(log_id(4, index)) }
    }

    fn kept(data: &Path) -> Option<Bytes> {
        MarkStore::open(data).unwrap().kept_mark(2)
    }

    fn refusal(data: &Path) -> io::Error {
        MarkStore::open(data).err().expect("the file is refused")
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused_with_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        let store = MarkStore::open(data.path()).unwrap();
        store.peer_mark(2, mark(258).encode().into());
        store.peer_mark(3, mark(259).encode().into());
        store.save().unwrap();
        assert_eq!(kept(data.path()), Some(mark(258).encode().into()));

        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            assert_eq!(refusal(data.path()).kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(refusal(data.path()).kind(), io::ErrorKind::InvalidData, "cut at {end}");
        }
        let said = refusal(data.path()).to_string();
        assert!(said.contains(&path.display().to_string()) && said.contains("replace this member"), "{said}");
    }

    #[test]
    fn a_failed_save_is_tried_again() {
        let data = tempfile::tempdir().unwrap();
        let store = MarkStore::open(data.path()).unwrap();
        store.peer_mark(2, mark(5).encode().into());
        let in_the_way = data.path().join(FILE).with_extension("new");
        std::fs::create_dir(&in_the_way).unwrap();
        store.save().unwrap_err();
        assert_eq!(kept(data.path()), None);
        std::fs::remove_dir(&in_the_way).unwrap();
        store.save().unwrap();
        assert_eq!(kept(data.path()), Some(mark(5).encode().into()));
    }

    #[test]
    fn a_file_without_a_checksum_is_read_and_saved_with_one() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        let marks = vec![KeptMark { node: 2, mark: mark(5).encode().into() }];
        let old = MarksFile { format: 1, marks }.encode_to_vec();
        std::fs::write(&path, &old).unwrap();
        let store = MarkStore::open(data.path()).unwrap();
        assert_eq!(store.kept_mark(2), Some(mark(5).encode().into()));
        store.save().unwrap();
        let new = std::fs::read(&path).unwrap();
        assert_eq!(new.len(), old.len() + CHECKSUM_BYTES);
        assert!(!new.starts_with(&START_WITHOUT_CHECKSUM));
        assert_eq!(kept(data.path()), Some(mark(5).encode().into()));
    }
}
