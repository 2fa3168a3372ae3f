//! Salvage: what a former member's disk has beyond the take-over is offered again, through the present rules.
//!
//! The disk's holder has no keys and sends commands as they lie in the old log, sealed. They are opened here, and what
//! each asked for is asked again, by the very use cases that served it then: what restricts on the office of the staff
//! who salvage, all else for the actor who asked then. The journal has it with the original request id, and says from
//! which timeline it was salvaged, by whom, and who asked then.
//!
//! Invariants
//! - What restricts comes first (round 1), whatever is served yet, and whatever became of who asked for it. A record that
//!   was hidden or narrowed after it was written comes back so, in one command. A version for fewer is both: whom it is for
//!   comes in round 1, its body in round 2.
//! - Nothing widens: grants and enrolments are for people to do again; a will that was stated anew on the new timeline
//!   is not undone by an older restriction either.
//! - What is newer is told by the log alone: by where the timelines part, never by a clock.
//! - Nothing happens twice: an entry whose request is in the journal of its subject is there already. So a second run,
//!   or one that was cut, finds what was done. What was refused is in no journal as done, and is offered again.
//! - What is taken from the old log opens under this cluster's keys, and its rows fit its journal entry.
//! - What is offered is opened: no run, a rehearsal neither, opens anything before its beginning is in the journal.
//! - Nothing that is answered names a participant, a facility, a user or a record.

mod copies;
mod open;
mod record;
mod restrict;
mod widen;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::consent::Basis;
use kura_cluster::id::RecordId;
use kura_cluster::row::{JournalEntry, Participant, ReceiptRow, RowKey, SalvagedFrom, Table};
use kura_cluster::seal::{Domain, index_hash};
use kura_cluster::word::{Action, ActorKind};
use kura_proto::v1;

use super::attempt::Attempt;
use super::caller::{Salvaged, StatedActor};
use super::journal::{Filter, Journal, Stretch, stated};
use super::participant::{Known, number};
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::{Identity, Role};
use open::Old;

/// How the journal's entry of a rehearsal ends.
const REHEARSED: &str = ", a rehearsal: entries are opened and decided, nothing is applied";

/// What became of an entry, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect (or would).
    Applied = 1,
    /// It had before.
    There = 2,
    /// The rules refuse it now.
    Refused = 3,
    /// It does not open, or parts of it are missing.
    Unreadable = 4,
    /// People have to do it again.
    ByHand = 5,
    /// A read, a denial, an upload under way: nothing to bring back.
    Nothing = 6,
    /// It is of a later round.
    Later = 7,
}

/// What became of an entry, and why.
type Told = (Outcome, String);

fn told(outcome: Outcome, why: &str) -> Told {
    (outcome, why.to_owned())
}

/// The one who has the disk: asked for the sealed blocks of bodies.
pub trait Disk: Send {
    /// The value of a block's row; none: the disk does not have it. An error: nobody is there any more.
    fn block(&mut self, key: &RowKey) -> impl Future<Output = Result<Option<Bytes>, GatewayError>> + Send;
}

/// One run over a former member's disk.
pub struct Salvage {
    gateway: Arc<Gateway>,
    staff: Arc<Identity>,
    timeline: u64,
    /// Entries of the journal before the timeline that followed on the disk's.
    parted: u64,
    apply: bool,
    tail: open::Tail,
    /// Consents (no facility) and grants that the former timeline ended, by whom they were of: the last index.
    ended: HashMap<(Bytes, String), u64>,
    /// Versions of records that were written there, in the order of the old log.
    written: HashMap<RecordId, Vec<copies::Written>>,
    /// Records that were restricted there after they were written there.
    restricted: HashMap<RecordId, Restricted>,
    /// Records that came (or would come) in this run: their highest version.
    brought: HashMap<RecordId, u32>,
    /// Two runs at once would not see what the other does.
    _alone: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// How a record was restricted after it was written.
#[derive(Debug, Default)]
struct Restricted {
    hidden: bool,
    addressees: Vec<String>,
}

/// An entry of the old log as far as every kind needs it.
struct Item {
    index: u64,
    /// Entries with which both journals begin.
    common: u64,
    old: Old,
    action: Action,
    /// The participant's number, if it concerns one who is known.
    number: Option<String>,
}

impl Item {
    /// Whether an entry of this journal is this one: as it was made, as it was salvaged, or as it was sent again.
    fn is(&self, entry: &JournalEntry) -> bool {
        match self.old.entry.request_id.is_empty() {
            true => *entry == self.old.entry,
            false => entry.request_id == self.old.entry.request_id,
        }
    }
}

/// Something that was done here.
struct Done<'e> {
    position: u64,
    entry: &'e JournalEntry,
    /// Whether it is later than the entry of the old log that it is held against.
    is_newer: bool,
}

impl Salvage {
    /// Begins a run of `caller` over a disk of a former timeline; `parted` is how many entries the journal has from
    /// before the timeline that followed on that. Its beginning is journalled, also of a rehearsal: before anything is opened.
    ///
    /// # Errors
    /// [`GatewayError`]: sealed, no leader, or not recovery staff.
    pub async fn begin(
        gateway: Arc<Gateway>,
        caller: &Caller,
        (timeline, parted): (u64, u64),
        apply: bool,
    ) -> Result<Salvage, GatewayError> {
        if caller.identity.role != Role::Recovery {
            let takes = Role::Recovery.to_string();
            return Err(GatewayError::Role { role: caller.identity.role.to_string(), takes });
        }
        gateway.unsealed()?;
        let mut alone = None;
        if apply {
            let busy = |_| GatewayError::Unavailable { why: "another salvage is under way at this node".into() };
            alone = Some(gateway.salvaging.clone().try_lock_owned().map_err(busy)?);
        }
        let rehearsed = if apply { "" } else { REHEARSED };
        gateway
            .transact(caller, Action::Recover, None, |attempt| {
                attempt.entry.object = format!("salvage from timeline {timeline}{rehearsed}");
                Ok((Verdict::by_office(Basis::Recovery, ()), ReceiptRow::default()))
            })
            .await?;
        Ok(Salvage {
            gateway,
            staff: caller.identity.clone(),
            timeline,
            parted,
            apply,
            tail: open::Tail::default(),
            ended: HashMap::new(),
            written: HashMap::new(),
            restricted: HashMap::new(),
            brought: HashMap::new(),
            _alone: alone,
        })
    }

    /// Offers one entry in a round.
    ///
    /// # Errors
    /// Those after which the run cannot go on: no leader, a full disk, something not served yet, damage here. What was
    /// done stays done, and a further run finds it.
    pub async fn offer(
        &mut self,
        offered: v1::SalvageEntry,
        disk: &mut impl Disk,
    ) -> Result<v1::SalvageTold, GatewayError> {
        let v1::SalvageEntry { index, command, round, common } = offered;
        let vault = self.gateway.unsealed()?;
        let mut answer = v1::SalvageTold { index, ..v1::SalvageTold::default() };
        let old = match Old::open(&vault, &command) {
            Ok(old) => old,
            Err(why) => return Ok(finish(answer, told(Outcome::Unreadable, why))),
        };
        answer.at_ms = old.entry.at_ms;
        answer.request_id = old.entry.request_id.clone();
        answer.action = old.entry.action;
        if old.entry.denial != 0 || old.command.writes.is_empty() {
            return Ok(finish(answer, told(Outcome::Nothing, "")));
        }
        let Ok(action) = Action::from_number(old.entry.action) else {
            return Ok(finish(answer, told(Outcome::Unreadable, "of a kind that this version does not know")));
        };
        self.tail.learn(&vault, &old);
        let restricts = restrict::restricts(&vault, action, &old);
        let number = self.number_of(&old.entry.pseudonym)?;
        // Where the journals part, whoever offers says: no later than where the timelines did.
        let item = Item { index, common: common.min(self.parted), old, action, number };
        if round == 1 && action == Action::Put {
            self.keep_written(&item)?;
        }
        let narrows = self.narrowing(&item)?;
        answer.restricts = restricts || narrows.is_some();
        let done = match (round, restricts) {
            (1 | 3, true) => self.restrict(&item, round == 3).await?,
            (1, false) if narrows.is_some() => {
                self.restrict_version(&item, false).await.map(|_| told(Outcome::Later, ""))?
            }
            (2, false) if narrows.is_some() => {
                let brought = self.widen(&item, disk).await?;
                let narrowed = self.restrict_version(&item, true).await?;
                restrict::of_version(brought, narrowed)
            }
            (2, false) => self.widen(&item, disk).await?,
            _ => told(Outcome::Later, ""),
        };
        Ok(finish(answer, done))
    }

    /// The number of a participant: as this run learnt it, or as it is here.
    fn number_of(&self, pseudonym: &[u8]) -> Result<Option<String>, GatewayError> {
        let Ok(pseudonym) = Pseudonym::from_slice(pseudonym) else { return Ok(None) };
        if let Some(number) = self.tail.number(&pseudonym) {
            return Ok(Some(number.to_owned()));
        }
        let attempt = Attempt::begin(&self.gateway, &JournalEntry::default())?;
        let row = attempt.look::<Participant>(&RowKey::participant(&pseudonym))?.value;
        Ok(row.map(|row| row.number.clone()))
    }

    /// The participant of a number, as they are here now.
    fn known(&self, digits: &str) -> Result<Option<Known>, GatewayError> {
        Attempt::begin(&self.gateway, &JournalEntry::default())?.participant(&number(digits)?)
    }

    /// Goes through what the journal has of a participant from a position: what was permitted, of these actions, oldest
    /// first.
    fn since(
        &self,
        known: &Known,
        item: &Item,
        from: u64,
        actions: &[Action],
        mut look: impl FnMut(Done<'_>),
    ) -> Result<(), GatewayError> {
        let attempt = Attempt::begin(&self.gateway, &JournalEntry::default())?;
        let snapshot = attempt.database.snapshot();
        let journal = Journal::new(&attempt, &snapshot);
        let key = &attempt.vault.keyring().index;
        let index = known.pseudonyms().iter().map(|one| index_hash(key, Domain::JournalSubject, &[&one.0])).collect();
        let actions = actions.iter().map(|action| action.number()).collect();
        let filter = Filter { actions, index, ..Filter::default() };
        let before = self.gateway.store.published().summary.journal.size();
        let mut stretch = Stretch { cursor: from, limit: usize::MAX, oldest_first: true, before };
        loop {
            let next = journal.page(&filter, stretch, |position, entry| {
                if entry.denial == 0 {
                    let is_newer = match &entry.salvaged {
                        Some(from) => (from.timeline, from.index) > (self.timeline, item.index),
                        None => position >= self.parted,
                    };
                    look(Done { position, entry: &entry, is_newer });
                }
                Ok(())
            })?;
            if !next.more {
                return Ok(());
            }
            stretch.cursor = next.cursor;
        }
    }

    /// Whether the journal of a participant has this request: before the timelines parted, salvaged by a former run, or
    /// repeated by its application.
    fn is_in_journal(&self, known: &Known, item: &Item) -> Result<bool, GatewayError> {
        let mut found = false;
        self.since(known, item, 0, &[item.action], |done| found |= item.is(done.entry))?;
        Ok(found)
    }

    /// What the journal says of where something comes from.
    fn from(&self, item: &Item) -> SalvagedFrom {
        SalvagedFrom {
            timeline: self.timeline,
            index: item.index,
            at_ms: item.old.entry.at_ms,
            by: self.staff.name.clone(),
            actor: None,
        }
    }

    /// Those who salvage, for a restriction that somebody else asked for then.
    fn in_office(&self, item: &Item) -> Caller {
        let salvaged = Salvaged {
            from: SalvagedFrom { actor: item.old.entry.actor.clone(), ..self.from(item) },
            request_id: item.old.entry.request_id.clone(),
            restricts: true,
            rehearsed: !self.apply,
            ..Salvaged::default()
        };
        let actor = StatedActor::Office(ActorKind::Recovery);
        Caller { identity: self.staff.clone(), actor, salvaged: Some(Arc::new(salvaged)) }
    }

    /// The actor of then, as a caller of now.
    fn caller(&self, item: &Item, salvaged: Salvaged) -> Result<Caller, &'static str> {
        let actor = item.old.entry.actor.as_ref().ok_or("without an actor")?;
        let (Ok(ActorKind::FacilityUser), role) = (ActorKind::from_number(actor.kind), Role::Application) else {
            return Err("by an actor for whom nobody else can act");
        };
        let identity = Identity {
            role,
            name: actor.application.clone(),
            fingerprint: actor.credential_sha256[..].try_into().unwrap_or_default(),
            key_sha256: actor.key_sha256[..].try_into().unwrap_or_default(),
            ..(*self.staff).clone()
        };
        let stated = stated(actor.clone());
        let caller = Caller::parse(Arc::new(identity), Some(&stated)).map_err(|_| "by an actor that is malformed")?;
        let request_id = item.old.entry.request_id.clone();
        let salvaged = Salvaged { from: self.from(item), request_id, rehearsed: !self.apply, ..salvaged };
        Ok(Caller { salvaged: Some(Arc::new(salvaged)), ..caller })
    }

    /// Evidence that was not kept where nothing was there to end.
    fn evidence(&self, item: &Item, kept: &str) -> String {
        match kept.is_empty() {
            true => format!("salvaged from timeline {}, entry {}", self.timeline, item.index),
            false => kept.to_owned(),
        }
    }
}

fn finish(answer: v1::SalvageTold, (outcome, why): Told) -> v1::SalvageTold {
    v1::SalvageTold { outcome: outcome as u32, why, ..answer }
}

/// The request's id, for the use cases that parse one.
fn request(entry: &JournalEntry) -> Option<v1::RequestId> {
    Some(v1::RequestId { id: entry.request_id.clone() })
}

/// What a use case's answer says of an entry. An error is one after which the run cannot go on.
fn told_of(answer: Result<v1::Receipt, GatewayError>) -> Result<Told, GatewayError> {
    match answer {
        Ok(receipt) if receipt.repeated => Ok(told(Outcome::There, "the same document is there")),
        Ok(_) => Ok(told(Outcome::Applied, "")),
        Err(GatewayError::Denied { reason, .. }) => Ok(told(Outcome::Refused, reason.word())),
        Err(
            error @ (GatewayError::Invalid { .. }
            | GatewayError::NotFound { .. }
            | GatewayError::InUse { .. }
            | GatewayError::Contradicts { .. }),
        ) => Ok((Outcome::Refused, error.to_string())),
        Err(error) => Err(error),
    }
}

/// Rows of tables that a command put.
fn tables(old: &Old) -> impl Iterator<Item = Table> + '_ {
    old.command.writes.iter().filter_map(|write| Table::from_number(*write.row.first()?))
}
