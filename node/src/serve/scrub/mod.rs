//! When this member checks its own files, what it found last, and what follows from damage.
//!
//! - [`turn`]: members check one after another
//! - [`damage`]: what follows from damage, with regard to the others
//!
//! Invariants
//! - While copies for a check lie around, they count as old checkpoints: they may hold what was deleted.
//! - What a check found last survives a restart, so that a member that goes on in spite of damage says so again.

pub mod damage;
mod turn;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kura_proto::v1;
use tokio::sync::{Notify, watch};

use super::Node;
use super::checks::{self, FOUND_DAMAGE, NOT_ENDED, Rule, WHOLE};
use crate::clock;
use crate::scrub::{ScrubError, bytes_to_read, check_log, check_state, in_place};
use crate::space::Level;

/// Between two looks whether a check is due.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks whether it is this member's turn.
const TURN_LOOK: Duration = Duration::from_secs(1);
/// A check waits this long after a start.
const START_PAUSE: Duration = Duration::from_secs(10 * 60);
const MINUTE_MS: u64 = 60 * 1000;
/// The longest wait in one piece, so that a stop need not wait long.
const NAP: Duration = Duration::from_millis(200);

/// Where copies are made, below `data`.
const WORK: &str = "scrub-work";
/// The last result, below `data`.
const RESULT: &str = "scrub";

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
        let told = checks::read(&data.join(RESULT));
        let damage = (told.result == FOUND_DAMAGE).then(|| told.words.clone());
        Scrubbing { told: Mutex::new(told), wanted: Notify::new(), damage: watch::Sender::new(damage) }
    }

    fn told(&self) -> MutexGuard<'_, v1::Scrub> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a check begin as soon as it is this member's turn, unless one is under way.
    ///
    /// # Errors
    /// In words, if the last one ended less than `pause_minutes` ago: a check costs everybody's reads.
    pub fn ask(&self, pause_minutes: u64) -> Result<v1::Scrub, String> {
        let mut told = self.told();
        if !told.running {
            let since_ms = clock::now_ms().checked_sub(told.ended_ms);
            let pause_ms = pause_minutes.saturating_mul(MINUTE_MS);
            if let Some(since_ms) = since_ms
                && matches!(told.result, WHOLE | FOUND_DAMAGE)
                && since_ms < pause_ms
            {
                return Err(format!(
                    "this member's files were checked {} min ago, and one check in {pause_minutes} min is made on \
                     request (`scrub.asked_minutes`): ask again in {} min; `kura status` shows what was found",
                    since_ms / MINUTE_MS,
                    (pause_ms - since_ms).div_ceil(MINUTE_MS)
                ));
            }
            (told.running, told.waiting) = (true, true);
            (told.bytes_done, told.bytes_total) = (0, 0);
            self.wanted.notify_one();
        }
        Ok(told.clone())
    }

    /// Whether a check is wanted that has not begun.
    fn waits(&self) -> bool {
        self.told().waiting
    }

    /// What is damaged, once something is.
    pub fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Why this member goes on in spite of damage; nothing if it does not.
    pub fn goes_on_because(&self) -> Option<String> {
        Some(self.told().goes_on_because.clone()).filter(|why| !why.is_empty())
    }

    /// Keeps what was found without a check.
    fn note_damage(&self, data: &Path, words: &str) {
        let mut told = self.told();
        if told.result != FOUND_DAMAGE {
            (told.result, told.words, told.ended_ms) = (FOUND_DAMAGE, words.to_owned(), clock::now_ms());
            keep(data, &told);
        }
        drop(told);
        self.damage.send_if_modified(|damage| damage.is_none().then(|| *damage = Some(words.to_owned())).is_some());
    }

    fn ends(&self, data: &Path, result: u32, words: String, index: u64) {
        let mut told = self.told();
        let (bytes, goes_on_because) = (told.bytes_done, std::mem::take(&mut told.goes_on_because));
        *told = checks::ended(&told, result, words, index, bytes);
        match result {
            // Whatever it was, it is not there any more: the check was mended, or the file put back.
            WHOLE => drop(self.damage.send_replace(None)),
            FOUND_DAMAGE => {
                told.goes_on_because = goes_on_because;
                self.damage.send_replace(Some(told.words.clone()));
            }
            // A check that could not be carried through is no word on anything.
            _ => {
                if let Some(damage) = self.damage() {
                    (told.result, told.words, told.goes_on_because) = (FOUND_DAMAGE, damage, goes_on_because);
                }
            }
        }
        keep(data, &told);
    }
}

fn keep(data: &Path, told: &v1::Scrub) {
    checks::keep(&data.join(RESULT), told);
}

/// What this member says of its checks.
pub fn told(node: &Node) -> v1::Scrub {
    v1::Scrub { damage: damage::known(node).unwrap_or_default(), ..node.scrubbing.told().clone() }
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
    let began = Instant::now();
    let mut patience = turn::Patience::default();
    loop {
        let pause = if node.scrubbing.waits() { TURN_LOOK } else { LOOK };
        let asked = tokio::time::timeout(pause, node.scrubbing.wanted.notified()).await.is_ok();
        if !asked && !node.scrubbing.waits() && (began.elapsed() < START_PAUSE || !is_due(&node)) {
            continue;
        }
        if !turn::has_come(&node, &mut patience).await {
            continue;
        }
        patience = turn::Patience::default();
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
                node.scrubbing.ends(data, FOUND_DAMAGE, words, 0);
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
    checks::is_due(&node.scrubbing.told(), node.config.scrub.every_hours, clock::now_ms())
}

/// Looks whether a check is overdue, for ever, whatever a check under way does; says it when it becomes so.
pub async fn watch(node: Arc<Node>) {
    let rule = Rule {
        what: "its files were",
        setting: "scrub.every_hours",
        every_hours: node.config.scrub.every_hours,
        next: "`kura member scrub` asks for a check",
    };
    loop {
        rule.judge(&node.config.data.join(RESULT), &mut node.scrubbing.told(), clock::now_ms());
        tokio::time::sleep(LOOK).await;
    }
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
        // Others go by it whether the check moves on.
        let mut told = node.scrubbing.told();
        (told.bytes_done, told.bytes_total) = (done, told.bytes_total.max(done));
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
