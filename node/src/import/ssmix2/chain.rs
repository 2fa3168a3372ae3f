//! The versions of one record, stored in their order, and the record hidden if nothing of it is live.

use std::collections::HashMap;

use kura_client::{ActingClient, Class, Date, ListError, NewRecord, ParticipantNumber, Reach, RecordId};

use super::super::Done;
use super::super::report::{Line, Outcome, reason};
use super::super::stored::{Newest, Stored};
use super::super::write::{Refusal, hide, put};
use super::message;
use super::name::{Flag, apart};
use super::tree::Entry;
use crate::cli::Failure;

/// A participant, and what is stored of them from SS-MIX2.
pub struct Whose {
    number: ParticipantNumber,
    /// The newest version's moment of each chain.
    chains: HashMap<String, (String, Newest)>,
}

impl Whose {
    /// From what the importing user may list.
    pub fn new(number: ParticipantNumber, stored: &Stored) -> Whose {
        let known = |(id, newest)| {
            let (chain, moment) = apart(id)?;
            Some((chain.to_owned(), (moment.to_owned(), newest)))
        };
        Whose { number, chains: stored.iter().filter_map(known).collect() }
    }

    fn chain(&self, document_id: &str) -> Option<(&str, Newest)> {
        let (chain, _) = apart(document_id)?;
        self.chains.get(chain).map(|(moment, newest)| (moment.as_str(), *newest))
    }
}

/// The files of a chain that pass the mix-up check, and lines for the others, with their entries.
pub async fn sound(chain: Vec<Entry>, patient: &str) -> (Vec<Entry>, Vec<(Line, Entry)>) {
    let (mut sound, mut others) = (Vec::new(), Vec::new());
    for entry in chain {
        match message::read(&entry.path, patient).await {
            Ok(_) => sound.push(entry),
            Err(refusal) => others.push((refusal.line(&entry.relative, entry.bytes), entry)),
        }
    }
    (sound, others)
}

/// Whether the newest message that is stored is a live one, and no later message says that it was
/// deleted. One that was set aside cannot be trusted to show anything, but it can to hide.
fn is_live(newest: &Entry, set_aside: &[(Line, Entry)]) -> bool {
    let deleted_later = set_aside.iter().any(|(_, other)| other.moment >= newest.moment && other.flag == Flag::Deleted);
    newest.flag == Flag::Live && !deleted_later
}

/// A chain on its way.
struct Chain<'a> {
    acting: &'a ActingClient,
    whose: &'a Whose,
    patient: &'a str,
    record: Option<RecordId>,
    /// Whether the record is hidden, as far as that is known.
    hidden: Option<bool>,
    /// Document ids of all versions, once they were asked for.
    versions: Option<Vec<String>>,
    done: Done,
}

/// Stores the sound files of a chain, oldest first; `set_aside` are its others.
pub async fn store(
    acting: &ActingClient,
    whose: &Whose,
    patient: &str,
    sound: Vec<Entry>,
    set_aside: &[(Line, Entry)],
) -> Done {
    let known = sound.first().and_then(|first| whose.chain(&first.document_id));
    let mut chain = Chain {
        acting,
        whose,
        patient,
        record: known.map(|(_, newest)| newest.record),
        hidden: known.map(|(_, newest)| newest.hidden),
        versions: None,
        done: Done::default(),
    };
    if let Err(failure) = chain.run(&sound, set_aside, known).await {
        chain.done.stop = Some(failure);
    }
    chain.done
}

impl Chain<'_> {
    async fn run(
        &mut self,
        sound: &[Entry],
        set_aside: &[(Line, Entry)],
        known: Option<(&str, Newest)>,
    ) -> Result<(), Failure> {
        let deletions = sound.iter().any(|entry| entry.flag == Flag::Deleted);
        let live = sound.last().is_some_and(|newest| is_live(newest, set_aside));
        // The newest file that is stored, and whether this run stored it.
        let mut newest: Option<(&Entry, bool)> = None;
        for entry in sound {
            let named = newest.is_some_and(|(other, _)| other.document_id == entry.document_id);
            let before = known.filter(|(moment, _)| entry.moment.as_str() <= *moment);
            let line = match before {
                Some((moment, stored)) => self.stored_before(entry, moment, stored).await?,
                None => self.put(entry, if named { None } else { self.record }).await?,
            };
            match line.outcome {
                Outcome::Stored => newest = Some((entry, true)),
                Outcome::Repeated => newest = Some((entry, false)),
                // Its content is refused, but its flag still tells of the version that is stored under its id.
                Outcome::Refused if named || before.is_some() => newest = Some((entry, false)),
                _ => {}
            }
            self.done.lines.push(line);
            // At once, not only after the last version: nobody should meet what was deleted.
            if !live && newest.is_some() {
                self.hide(true).await?;
            }
        }
        let Some((newest, new)) = newest else { return Ok(()) };
        if !is_live(newest, set_aside) {
            self.hide(true).await
        } else if new && deletions && self.hidden != Some(false) {
            self.hide(false).await
        } else {
            Ok(())
        }
    }

    /// A file that is not newer than the newest version. The cluster says whether its content is the
    /// one that is stored: lists and histories tell no hash.
    async fn stored_before(&mut self, entry: &Entry, moment: &str, newest: Newest) -> Result<Line, Failure> {
        if entry.moment == moment {
            return self.put(entry, None).await;
        }
        let versions = match self.versions.take() {
            Some(versions) => versions,
            None => match self.acting.history(&self.whose.number, newest.record).await {
                // One that does not open does not tell its document id: it counts as another one.
                Ok(versions) => {
                    let opened = versions.into_iter().filter_map(|version| version.opened().ok());
                    opened.map(|version| version.document_id).collect()
                }
                Err(ListError::Denied(_) | ListError::NotFound(_)) => Vec::new(),
                Err(error) => return Err(error.into()),
            },
        };
        let known = versions.contains(&entry.document_id);
        self.versions = Some(versions);
        if !known {
            return Ok(Refusal::set_aside(reason::LATER_STORED).line(&entry.relative, entry.bytes));
        }
        self.put(entry, None).await
    }

    /// Sends a file as a version of `earlier`. Without one, another content under an id that is stored
    /// already is refused, where it would else become a further version.
    async fn put(&mut self, entry: &Entry, earlier: Option<RecordId>) -> Result<Line, Failure> {
        // Read again, and checked again: what is sent is what was found sound.
        let checked = match message::read(&entry.path, self.patient).await {
            Ok(checked) => checked,
            Err(refusal) => return Ok(refusal.line(&entry.relative, entry.bytes)),
        };
        let class: Class = entry.class_word.parse().map_err(Failure::failed)?;
        let mut record =
            NewRecord::new(class, checked.media_type, Date::from_days(entry.day)).document_id(&entry.document_id);
        if let Some(earlier) = earlier {
            record = record.version_of(earlier);
        }
        let bytes = checked.bytes.len() as u64;
        let body = async || Ok(std::io::Cursor::new(checked.bytes.clone()));
        let receipt = match put(self.acting, &self.whose.number, &record, body).await? {
            Ok(receipt) => receipt,
            Err(refusal) => return Ok(refusal.line(&entry.relative, bytes)),
        };
        if self.record.is_none() && !receipt.repeated() {
            self.hidden = Some(false);
        }
        self.record = Some(receipt.record());
        let outcome = if receipt.repeated() { Outcome::Repeated } else { Outcome::Stored };
        Ok(Line {
            record: Some(receipt.record()),
            version: Some(receipt.version()),
            ..Line::new(&entry.relative, outcome, bytes)
        })
    }

    /// Hides or shows the record, unless it is so already; told in the line of the file that was last
    /// dealt with.
    async fn hide(&mut self, hidden: bool) -> Result<(), Failure> {
        let (Some(record), true) = (self.record, self.hidden != Some(hidden)) else { return Ok(()) };
        let why = if hidden { "deleted or superseded in SS-MIX2" } else { "entered anew in SS-MIX2" };
        let changed = hide(self.acting, &self.whose.number, record, hidden, why).await?;
        let Some(line) = self.done.lines.last_mut() else { return Ok(()) };
        match changed {
            Ok(reach) => {
                self.hidden = Some(hidden);
                if hidden {
                    line.hidden = true;
                    line.beyond_prefecture = Some(reach == Reach::BeyondPrefecture);
                }
            }
            Err(refusal) => {
                let told = refusal.line(&line.file, line.bytes);
                (line.outcome, line.reason, line.detail) = (told.outcome, told.reason, told.detail);
            }
        }
        Ok(())
    }
}
