//! What a member can read of the root key's custody without any key: sets of shares, the rotation under way,
//! the present root key's check value.

use bytes::Bytes;
use kura_cluster::row::{KeyringRow, RotationRow, RowKey, ShareSetRow, ShareSetsRow, Table};
use kura_cluster::share::{CheckValue, ShareSet};
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
    /// The timeline on which the newest epoch began. Its row tells the revision before its last: after two rotations of
    /// the root key alone this is theirs.
    pub epoch_timeline: u64,
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
        let rows = snapshot.scan(&RowKey::whole_table(Table::Keyring), None, usize::MAX)?;
        known.root_timeline = rows.iter().map(|(_, row)| row.header.revision.timeline).min().unwrap_or(0);
        if let Some((header, row)) =
            rows.last().and_then(|(_, row)| Some((row.header, KeyringRow::decode(row.value.clone()).ok()?)))
        {
            known.epoch = row.epoch;
            known.root_check_value = row.root_check_value[..].try_into().ok();
            known.epoch_timeline =
                if header.replaced.is_absent() { header.revision.timeline } else { header.replaced.timeline };
        }
        Ok(known)
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
                alarms.push("a rotation of keys waits for its second person: kura key rotate".into());
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
            Some(_) => alarms.push("a rotation of keys was approved and not finished: kura key rotate".into()),
            None => {}
        }
        alarms
    }
}
