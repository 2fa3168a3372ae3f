//! What the witness writes down: everything that the cluster said to somebody outside of it.
//!
//! Invariants
//! - An act is noted before it is sent, with all that it would write; so what comes back later can be held against
//!   everything that anybody tried to write.
//! - Times are microseconds of one monotonic clock of the witness. An acknowledgement's time is that of its arrival,
//!   a question's both that of its asking and of its answer.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kura_client::{JournalHead, Receipt};
use serde::Serialize;

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Write a record.
    Put,
    /// Read one.
    Read,
    /// Name a facility.
    Grant,
    /// Take it back.
    Revoke,
    /// Hide a record.
    Hide,
    /// Leave.
    Withdraw,
}

impl Kind {
    /// Whether it takes access away, so that it waits for the backup.
    pub fn restricts(self) -> bool {
        matches!(self, Self::Revoke | Self::Hide | Self::Withdraw)
    }
}

/// An act before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Act {
    /// What.
    pub kind: Kind,
    /// Of which participant.
    pub place: usize,
    /// The facility that acts, or that is named.
    pub facility: String,
    /// The record, if there is one already.
    pub record: String,
    /// The request id of a write, in hexadecimal.
    pub request: String,
    /// SHA-256 of the body of a put, in hexadecimal.
    pub sha256: String,
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// The timeline.
    pub timeline: u64,
    /// The log index.
    pub index: u64,
    /// The position in the journal.
    pub journal: u64,
    /// The record, of a put or a read.
    pub record: String,
    /// SHA-256 of what was read, in hexadecimal.
    pub sha256: String,
    /// How far it had come, in the receipt's word; empty for a read.
    pub reach: String,
}

impl Acknowledged {
    /// Whether it was said that the backup has it.
    pub fn is_plain(&self) -> bool {
        self.reach == "beyond-prefecture"
    }
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Acknowledged(Acknowledged),
    /// It was refused.
    Refused,
    /// Nobody knows, or it could not be done just then.
    Failed(String),
}

/// An act, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The act.
    pub act: Act,
    /// When it was sent.
    pub called_us: u64,
    /// When the answer arrived.
    pub answered_us: u64,
    /// The answer; nothing if none came.
    pub answer: Option<Answer>,
}

impl Deed {
    /// The acknowledgement.
    pub fn acknowledged(&self) -> Option<&Acknowledged> {
        match &self.answer {
            Some(Answer::Acknowledged(acknowledged)) => Some(acknowledged),
            _ => None,
        }
    }
}

/// A replication point as it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Published {
    /// When it was asked for.
    pub asked_us: u64,
    /// When it arrived.
    pub arrived_us: u64,
    /// The index, and how many milliseconds it is behind; nothing: UNKNOWN.
    pub point: Option<(u64, u64)>,
}

/// A head of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// When it arrived.
    pub at_us: u64,
    /// The head.
    pub head: JournalHead,
}

/// An erasure whose keys are destroyed, as the cluster told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// When that was told.
    pub at_us: u64,
    /// The participant.
    pub place: usize,
    /// The position of the act in the journal.
    pub journal: u64,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// In the order in which they were sent.
    pub deeds: Vec<Deed>,
    /// In the order in which they arrived.
    pub published: Vec<Published>,
    /// In the order in which they arrived.
    pub heads: Vec<Head>,
    /// In the order in which they were told.
    pub erased: Vec<Erased>,
    /// Receipts, for proofs.
    pub receipts: Vec<Receipt>,
    /// What the cluster said that it must never say.
    pub alarms: Vec<String>,
    /// When the prefecture was lost.
    pub lost_us: u64,
}

impl Notes {
    /// The last replication point that was known.
    pub fn last_point(&self) -> Option<u64> {
        self.published.iter().rev().find_map(|published| published.point).map(|(index, _)| index)
    }

    /// Up to which log index an entry of the journal surely lies: that of the first head that has it.
    pub fn index_of_journal(&self, position: u64) -> Option<u64> {
        let has = self.heads.iter().filter(|one| one.head.size() > position);
        has.map(|one| one.head.index()).min()
    }

    /// Acts of a kind that were acknowledged.
    pub fn acknowledged(&self, kind: Kind) -> usize {
        self.deeds.iter().filter(|deed| deed.act.kind == kind && deed.acknowledged().is_some()).count()
    }
}

/// The witness's book. It is no part of the cluster.
pub struct Witness {
    began: Instant,
    notes: Mutex<Notes>,
}

impl Default for Witness {
    fn default() -> Self {
        Self { began: Instant::now(), notes: Mutex::default() }
    }
}

impl Witness {
    /// Microseconds since it began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The book.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an act that is about to be sent; answers its number.
    pub fn calls(&self, act: Act) -> usize {
        let mut notes = self.notes();
        notes.deeds.push(Deed { act, called_us: self.now_us(), answered_us: 0, answer: None });
        notes.deeds.len() - 1
    }

    /// Notes what came of it.
    pub fn answers(&self, number: usize, answer: Answer, receipt: Option<Receipt>) {
        let mut notes = self.notes();
        let now_us = self.now_us();
        let deed = &mut notes.deeds[number];
        (deed.answered_us, deed.answer) = (now_us, Some(answer));
        notes.receipts.extend(receipt);
    }

    /// Writes the book out, one note a line.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        #[derive(Serialize)]
        #[serde(tag = "note", rename_all = "kebab-case")]
        enum Line<'a> {
            Deed(&'a Deed),
            Published(&'a Published),
            Head { at_us: u64, head: String },
            Erased(&'a Erased),
            Alarm { words: &'a str },
            Lost { at_us: u64 },
        }
        let notes = self.notes();
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let deeds = notes.deeds.iter().map(Line::Deed);
        let published = notes.published.iter().map(Line::Published);
        let heads = notes.heads.iter().map(|one| Line::Head { at_us: one.at_us, head: one.head.to_string() });
        let erased = notes.erased.iter().map(Line::Erased);
        let alarms = notes.alarms.iter().map(|words| Line::Alarm { words });
        for line in deeds.chain(published).chain(heads).chain(erased).chain(alarms) {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        serde_json::to_writer(&mut file, &Line::Lost { at_us: notes.lost_us })?;
        file.write_all(b"\n")?;
        file.flush()
    }
}
