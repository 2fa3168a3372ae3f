//! Members' marks, kept for them: a member that lost what it had promised must not vote again, and only
//! others can tell it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::raft::log_store::LogWatch;
use crate::raft::marks::Mark;
use crate::raft::network::MarkSink;
use crate::raft::types::NodeId;

const SAVE_INTERVAL: Duration = Duration::from_secs(1);
const FILE: &str = "peer-marks";

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
    kept: Mutex<(BTreeMap<NodeId, Mark>, bool)>,
    own: OnceLock<LogWatch>,
}

impl MarkStore {
    /// Reads what was kept under a data directory.
    pub fn open(data: &Path) -> io::Result<Arc<MarkStore>> {
        let path = data.join(FILE);
        let malformed =
            || io::Error::new(io::ErrorKind::InvalidData, format!("{} is not in a known form", path.display()));
        let kept = match std::fs::read(&path) {
            Ok(bytes) => {
                let file = MarksFile::decode(&bytes[..]).ok().filter(|file| file.format == 1).ok_or_else(malformed)?;
                let marks = file
                    .marks
                    .into_iter()
                    .map(|kept| Ok((kept.node, Mark::decode(&kept.mark).map_err(|_| malformed())?)));
                marks.collect::<io::Result<BTreeMap<_, _>>>()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Arc::new(MarkStore { path, kept: Mutex::new((kept, false)), own: OnceLock::new() }))
    }

    /// Where this node's own mark comes from.
    pub fn watch_own(&self, log: LogWatch) {
        let _ = self.own.set(log);
    }

    /// Saves what has changed: written aside, synced, renamed.
    pub fn save(&self) -> io::Result<()> {
        use std::io::Write;
        let file = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut kept.1) {
                return Ok(());
            }
            let marks =
                kept.0.iter().map(|(node, mark)| KeptMark { node: *node, mark: mark.encode().into() }).collect();
            MarksFile { format: 1, marks }
        };
        let aside = self.path.with_extension("new");
        let mut out = std::fs::File::create(&aside)?;
        out.write_all(&file.encode_to_vec())?;
        out.sync_all()?;
        std::fs::rename(&aside, &self.path)
    }
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
