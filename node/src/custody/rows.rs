//! What a member can read of the root key's custody without any key: sets of shares, the rotation under way,
//! the present root key's check value.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_cluster::row::{DrillRow, KeyringRow, RotationRow, RowKey, ShareSetRow, ShareSetsRow, Table};
use kura_cluster::share::{CheckValue, ShareSet};
use kura_cluster::{drill, rewrap};
use prost::Message;

use crate::state::{Database, DatabaseError};

/// A set of shares as the state has it.
#[derive(Debug, Clone)]
pub struct KnownSet {
    /// The set.
    pub set: ShareSet,
    /// Who recorded and confirmed it, and when.
    pub row: ShareSetRow,
}

impl KnownSet {
    /// Whether both people stand behind it.
    pub fn is_confirmed(&self) -> bool {
        !self.row.registrar.is_empty()
    }
}

/// Custody as the state tells it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Sets of shares.
    pub sets: Vec<KnownSet>,
    /// The rotation under way.
    pub rotation: Option<RotationRow>,
    /// Check value of the root key that wraps the keyring; `None` before the keyring has been applied.
    pub root_check_value: Option<CheckValue>,
    /// The newest epoch; 0 before the keyring has been applied.
    pub epoch: u32,
    /// The timeline on which the root key came into use: it wraps every row anew.
    pub root_timeline: u64,
    /// Every epoch, oldest first.
    pub epochs: Vec<KnownEpoch>,
    /// Synthetic participants, whose data keys no epoch wraps.
    pub synthetic: u64,
}

/// An epoch of the keyring, without its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEpoch {
    /// Its number.
    pub epoch: u32,
    /// The timeline on which it began.
    pub timeline: u64,
    /// Whether it wraps nothing and authenticates nothing any more.
    pub has_ended: bool,
}

/// How many participants' data keys are wrapped under which epoch. Reads every row of them; needs no key.
///
/// # Errors
/// [`DatabaseError`].
pub fn data_keys_by_epoch(database: &Database) -> Result<BTreeMap<u32, u64>, DatabaseError> {
    let mut counted = BTreeMap::new();
    let number = Table::ParticipantKey.number();
    database.snapshot().walk::<DatabaseError>(&[number], &[number + 1], |_, row| {
        if !drill::is_synthetic(&row) {
            *counted.entry(rewrap::epoch_of(&row).unwrap_or_default()).or_default() += 1;
        }
        Ok(())
    })?;
    Ok(counted)
}

impl Known {
    /// Reads it.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn read(database: &Database) -> Result<Known, DatabaseError> {
        let mut known = Known::default();
        // One moment: what is told together was so together.
        let snapshot = database.snapshot();
        let value =
            |key: &RowKey| -> Result<Option<Bytes>, DatabaseError> { Ok(snapshot.row(key)?.map(|row| row.value)) };
        if let Some(row) = value(&RowKey::share_sets())?.and_then(|value| ShareSetsRow::decode(value).ok()) {
            let sets = row.sets.into_iter();
            known.sets = sets.filter_map(|row| Some(KnownSet { set: ShareSet::from_row(&row)?, row })).collect();
        }
        known.rotation = value(&RowKey::rotation())?.and_then(|value| RotationRow::decode(value).ok());
        if let Some(row) = value(&RowKey::drill())?.and_then(|value| DrillRow::decode(value).ok()) {
            known.synthetic = row.canaries.len() as u64;
        }
        let rows = snapshot.scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX)?;
        known.root_timeline = rows.iter().map(|(_, row)| row.header.revision.timeline).min().unwrap_or(0);
        for row in rows.into_iter().filter_map(|(_, row)| KeyringRow::decode(row.value).ok()) {
            known.epoch = row.epoch;
            known.root_check_value = row.root_check_value[..].try_into().ok();
            let has_ended = rewrap::has_ended(&row);
            known.epochs.push(KnownEpoch { epoch: row.epoch, timeline: row.timeline, has_ended });
        }
        Ok(known)
    }

    /// Whether an epoch before the newest still wraps, or could.
    pub fn has_older_epochs(&self) -> bool {
        self.epochs.iter().any(|one| one.epoch < self.epoch && !one.has_ended)
    }

    /// What an epoch is still needed by, in words, given how many data keys are wrapped under it.
    pub fn needed_by(&self, epoch: &KnownEpoch, data_keys: u64, timeline: u64) -> Vec<&'static str> {
        if epoch.epoch == self.epoch {
            return vec!["all that is written now"];
        }
        let of_former = !epoch.has_ended && epoch.timeline != timeline;
        let needs = [(data_keys > 0, "data keys"), (of_former, "disks of a former timeline")];
        // Rows stay as they were sealed, and entries of the journal for ever.
        let rows = [(true, "registry rows"), (true, "journal entries")];
        needs.into_iter().chain(rows).filter(|(needs, _)| *needs).map(|(_, words)| words).collect()
    }

    /// Whether a confirmed set restores this root key.
    pub fn is_covered(&self, root: CheckValue) -> bool {
        self.sets.iter().any(|known| known.is_confirmed() && known.set.root_check_value == root)
    }

    /// Check value of the next root key, once it was drawn.
    pub fn prepared_check_value(&self) -> Option<CheckValue> {
        self.rotation.as_ref().and_then(|row| row.next_check_value[..].try_into().ok())
    }

    /// Sets whose shares lead to the present root key: directly, or through the next one that a former root
    /// key, `base`, wraps on this node's disk.
    pub fn usable(&self, base: Option<CheckValue>) -> Vec<ShareSet> {
        let roots = [self.root_check_value, base];
        let leads = |known: &&KnownSet| roots.contains(&Some(known.set.root_check_value));
        self.sets.iter().filter(leads).map(|known| known.set.clone()).collect()
    }

    /// Which shares restore the present root key, in words.
    pub fn in_words(&self) -> String {
        let Some(root) = self.root_check_value else { return "UNKNOWN: no keyring was applied here yet".into() };
        let of_root = self.sets.iter().filter(|known| known.set.root_check_value == root);
        let words: Vec<String> = of_root
            .map(|known| {
                let (need, all) = (known.set.threshold, known.set.holders());
                let state = if known.is_confirmed() { "verified" } else { "waiting for a registrar" };
                format!("any {need} of {all} holders, {state}")
            })
            .collect();
        if words.is_empty() { "none for the present root key".into() } else { words.join("; ") }
    }

    /// What people have to do about it, in words; empty: nothing.
    pub fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        let Some(root) = self.root_check_value else { return alarms };
        if !self.is_covered(root) {
            let waits = self.sets.iter().any(|known| known.set.root_check_value == root);
            alarms.push(match waits {
                true => "shares of the present root key wait for a registrar: kura key confirm".to_owned(),
                false => "no verified shares restore the present root key: kura key split".to_owned(),
            });
        }
        match &self.rotation {
            Some(row) if row.operator.is_empty() || row.registrar.is_empty() => {
                alarms.push("a rotation of keys waits for its second person: kura key rotate --root (or --epoch), as it was begun".into());
            }
            Some(row) if !row.next_check_value.is_empty() => {
                let covered = self.prepared_check_value().is_some_and(|next| self.is_covered(next));
                alarms.push(match covered || row.without_shares {
                    true => "a rotation of the root key was not finished: kura key rotate --root".into(),
                    false => {
                        "the next root key waits for its shares: kura key split, then kura key rotate --root".to_owned()
                    }
                });
            }
            Some(_) => alarms.push("a rotation of keys was approved and not finished: kura key rotate --root (or --epoch), as it was begun".into()),
            None => {}
        }
        alarms
    }
}
