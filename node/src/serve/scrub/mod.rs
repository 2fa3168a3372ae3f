//! When this member checks its own files, what it found last, and what follows from damage.
//!
//! Invariants
//! - Damage is written down before the node stops: it does not start again with such files.
//! - While copies for a check lie around, they count as old checkpoints: they may hold what was deleted.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kura_proto::v1;
use prost::Message;
use tokio::sync::{Notify, watch};

use super::Node;
use crate::clock;
use crate::scrub::{ScrubError, bytes_to_read, check_log, check_state, damaged_blob_file, in_place};
use crate::space::Level;

/// Between two looks whether a check is due.
const LOOK: Duration = Duration::from_secs(10);
/// A check waits this long after a start, and after one that could not be carried through.
const PAUSE_MS: u64 = 10 * 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// Before a node with damage stops, others hear of it for this long.
const TELL: Duration = Duration::from_secs(3);
/// The longest wait in one piece, so that a stop need not wait long.
const NAP: Duration = Duration::from_millis(200);

/// Where copies are made, below `data`.
const WORK: &str = "scrub-work";
/// The last result, below `data`.
const RESULT: &str = "scrub";
/// What is damaged, below `data`. A node does not start beside it.
const DAMAGED: &str = "damaged";

const FORMAT: u32 = 1;
const WHOLE: u32 = 1;
const FOUND_DAMAGE: u32 = 2;
const NOT_ENDED: u32 = 3;

/// The last result as it is kept.
#[derive(Clone, PartialEq, Message)]
struct ResultFile {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    ended_ms: u64,
    #[prost(uint32, tag = "3")]
    result: u32,
    #[prost(string, tag = "4")]
    words: String,
    #[prost(uint64, tag = "5")]
    index: u64,
    #[prost(uint64, tag = "6")]
    bytes: u64,
}

/// A member's checks of its files.
#[derive(Debug)]
pub struct Scrubbing {
    told: Mutex<v1::Scrub>,
    wanted: Notify,
    damage: watch::Sender<Option<String>>,
}

impl Scrubbing {
    /// As the last check left it.
    pub fn read(data: &Path) -> Scrubbing {
        let kept = fs::read(data.join(RESULT)).ok().and_then(|bytes| ResultFile::decode(&bytes[..]).ok());
        let kept = kept.filter(|kept| kept.format == FORMAT).unwrap_or_default();
        let told = v1::Scrub {
            ended_ms: kept.ended_ms,
            result: kept.result,
            words: kept.words,
            index: kept.index,
            bytes: kept.bytes,
            ..v1::Scrub::default()
        };
        Scrubbing { told: Mutex::new(told), wanted: Notify::new(), damage: watch::Sender::new(None) }
    }

    fn told(&self) -> MutexGuard<'_, v1::Scrub> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a check begin now, unless one is under way.
    pub fn ask(&self) -> v1::Scrub {
        let mut told = self.told();
        if !told.running {
            told.running = true;
            (told.bytes_done, told.bytes_total) = (0, 0);
            self.wanted.notify_one();
        }
        told.clone()
    }

    /// What is damaged, once something is.
    pub fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Tells that something is damaged.
    fn note_damage(&self, words: &str) {
        self.damage.send_if_modified(|damage| damage.is_none().then(|| *damage = Some(words.to_owned())).is_some());
    }

    fn ends(&self, data: &Path, result: u32, words: String, index: u64) {
        let mut told = self.told();
        let bytes = told.bytes_done;
        *told = v1::Scrub { ended_ms: clock::now_ms(), result, words, index, bytes, ..v1::Scrub::default() };
        let file =
            ResultFile { format: FORMAT, ended_ms: told.ended_ms, result, words: told.words.clone(), index, bytes };
        drop(told);
        if let Err(error) = write(&data.join(RESULT), &file.encode_to_vec()) {
            tracing::warn!(%error, "the result of the check of this member's files could not be kept");
        }
    }
}

/// Written aside, synced, renamed, the directory synced.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = fs::File::create(&aside)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// What was found damaged in a data directory, if anything was.
pub fn known_damage(data: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(data.join(DAMAGED)) {
        Ok(words) => Ok(Some(words.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What this member says of its checks.
pub fn told(node: &Node) -> v1::Scrub {
    node.scrubbing.told().clone()
}

/// Whether copies for a check lie around.
pub fn has_copies(data: &Path) -> bool {
    data.join(WORK).exists()
}

/// Removes the copies of a check that was cut.
pub fn clear_work(data: &Path) {
    match fs::remove_dir_all(data.join(WORK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the copies of a check of this member's files could not be removed");
        }
        _ => {}
    }
}

/// Checks when it is due or asked for, for ever.
pub async fn follow(node: Arc<Node>) {
    loop {
        let asked = tokio::time::timeout(LOOK, node.scrubbing.wanted.notified()).await.is_ok();
        if !asked && !is_due(&node) {
            continue;
        }
        node.scrubbing.told().running = true;
        // The checking thread must end when the node stops: it looks whether anybody still waits for it.
        let (waits, waited_for) = watch::channel(());
        let checking = tokio::task::spawn_blocking({
            let node = node.clone();
            move || check(&node, &waited_for)
        });
        let checked = checking.await;
        drop(waits);
        let data = &node.config.data;
        clear_work(data);
        match checked {
            Ok(Ok(index)) => {
                node.scrubbing.ends(data, WHOLE, String::new(), index);
                tracing::info!(index, "the files of this member are whole");
            }
            Ok(Err(error @ ScrubError::Damaged { .. })) => {
                let words = error.to_string();
                tracing::error!("the files of this member are damaged: {words}");
                node.scrubbing.ends(data, FOUND_DAMAGE, words.clone(), 0);
                node.scrubbing.note_damage(&words);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the files of this member could not be checked");
                node.scrubbing.ends(data, NOT_ENDED, error.to_string(), 0);
            }
            Err(error) => node.scrubbing.ends(data, NOT_ENDED, error.to_string(), 0),
        }
    }
}

fn is_due(node: &Node) -> bool {
    let now_ms = clock::now_ms();
    let last = node.scrubbing.told().clone();
    let next_ms = match last.result {
        WHOLE => last.ended_ms.saturating_add(node.config.scrub.every_hours.saturating_mul(HOUR_MS)),
        _ => last.ended_ms.saturating_add(PAUSE_MS),
    };
    now_ms >= next_ms && now_ms >= node.started_ms.saturating_add(PAUSE_MS)
}

fn check(node: &Node, waited_for: &watch::Receiver<()>) -> Result<u64, ScrubError> {
    let work = node.config.data.join(WORK);
    clear_work(&node.config.data);
    let failed = |error: io::Error| ScrubError::Failed(format!("{}: {error}", work.display()));
    // The copies keep files that would otherwise go.
    if node.space.level() != Level::Enough {
        return Err(ScrubError::Failed("too little space is free".into()));
    }
    fs::create_dir_all(&work).map_err(failed)?;
    let (state, log) = (work.join("state"), work.join("log"));
    let database = node.store.database();
    let original = database.directory().to_owned();
    database.checkpoint(&state).map_err(|error| ScrubError::Failed(error.to_string()))?;
    drop(database);
    node.scrubbing.told().bytes_total = bytes_to_read(&state) + bytes_to_read(node.log.directory());
    let bytes_per_second = node.config.scrub.mib_per_second << 20;
    let began = Instant::now();
    let mut done: u64 = 0;
    let mut pace = |bytes: u64| {
        done += bytes;
        let due = Duration::from_millis(done.saturating_mul(1000) / bytes_per_second);
        loop {
            if waited_for.has_changed().is_err() {
                return Err(ScrubError::Ended);
            }
            if node.space.level() == Level::Spent {
                return Err(ScrubError::Failed("too little space is free".into()));
            }
            let ahead = due.saturating_sub(began.elapsed());
            if ahead < Duration::from_millis(10) {
                break;
            }
            std::thread::sleep(ahead.min(NAP));
        }
        let mut told = node.scrubbing.told();
        told.bytes_done = done.min(told.bytes_total);
        Ok(())
    };
    let named = |error| match error {
        ScrubError::Damaged { file, what } => ScrubError::Damaged {
            file: in_place(&file, &state, &original),
            what: in_place(&in_place(&what, &state, &original), &log, node.log.directory()),
        },
        other => other,
    };
    let index = check_state(&state, &mut pace).map_err(named)?;
    // Only the log's tables are left to be held.
    fs::remove_dir_all(&state).map_err(failed)?;
    check_log(&node.log, &log, &mut pace).map_err(named)?;
    Ok(index)
}

/// Waits until something of this member is known to be damaged; writes it down, and tells it for a moment.
pub async fn wait_for_damage(node: &Node) -> String {
    let mut watch = node.scrubbing.damage.subscribe();
    let words = loop {
        if let Some(words) = node.store.database().damage() {
            break named_by_file(node, words).await;
        }
        let found = tokio::time::timeout(NAP, watch.wait_for(Option::is_some)).await;
        if let Ok(Ok(found)) = found {
            break found.clone().unwrap_or_default();
        }
    };
    node.scrubbing.note_damage(&words);
    keep_damage(&node.config.data, &words);
    tokio::time::sleep(TELL).await;
    words
}

/// Writes down what is damaged, so that the node does not start again.
pub fn keep_damage(data: &Path, words: &str) {
    let told = format!("{}: {words}\n", clock::in_japan(clock::now_ms()));
    if let Err(error) = write(&data.join(DAMAGED), told.as_bytes()) {
        tracing::error!(%error, "what is damaged could not be written down");
    }
}

/// RocksDB does not name a damaged blob file: it is looked for.
async fn named_by_file(node: &Node, words: String) -> String {
    if crate::raft::database::file_in(&words).is_some() {
        return words;
    }
    keep_damage(&node.config.data, &words);
    let directory = node.store.database().directory().to_owned();
    let found = tokio::task::spawn_blocking(move || damaged_blob_file(&directory)).await;
    found.ok().flatten().unwrap_or(words)
}
