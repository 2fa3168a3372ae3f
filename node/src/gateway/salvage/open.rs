//! Opening what an old log has, without a state around it.
//!
//! A sealed row is bound to the revision that it superseded. Use cases expect what they replace, so a command tells it
//! itself; a row that it does not expect was new.
//!
//! Invariant: keys of participants who were enrolled on the former timeline alone are held for one run only.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::{JournalEntry, Participant, ParticipantKeyRow, RowKey, Table};
use kura_cluster::seal::{Key, RowContext, RowName, open_row, row};
use kura_cluster::word::HistoryKind;
use kura_cluster::{Command, Pseudonym, Revision};
use prost::Message;

use super::super::GatewayError;
use super::super::attempt::{Attempt, DataKey, open_journal_entry};
use crate::vault::Vault;

/// A command of the old log and its journal entry: the first, of looks that share one, which bring nothing back.
pub(super) struct Old {
    pub command: Command,
    pub entry: JournalEntry,
}

impl Old {
    /// Takes a command apart, or says why it cannot be.
    pub fn open(vault: &Vault, bytes: &Bytes) -> Result<Old, &'static str> {
        let command = Command::decode(bytes.clone()).map_err(|_| "not a command of a known form")?;
        // What journals nothing is a part of an upload: its last command speaks for it.
        let entry = match command.journal.first() {
            Some(first) => {
                open_journal_entry(vault, &first.entry).ok_or("it does not open with this cluster's keys")?
            }
            None => return Ok(Old { command: Command::default(), entry: JournalEntry::default() }),
        };
        Ok(Old { command, entry })
    }

    /// Rows of a table that it put, with their values.
    pub fn puts(&self, table: Table) -> impl Iterator<Item = (RowKey, &Bytes)> {
        let puts = self.command.writes.iter().filter(move |write| {
            write.kind() == kura_cluster::command::WriteKind::Put && write.row.first() == Some(&table.number())
        });
        puts.map(|write| (RowKey::from_bytes(write.row.clone()), &write.value))
    }

    fn supersedes(&self, key: &RowKey) -> Revision {
        let expected = self.command.expects.iter().find(|expect| expect.row == key.as_bytes());
        expected.map_or(Revision::ABSENT, |expect| Revision { timeline: expect.timeline, index: expect.index })
    }

    fn opened<T: Message + Default>(
        &self,
        vault: &Vault,
        key: &RowKey,
        open: impl FnOnce(&RowContext<'_>) -> Option<Vec<u8>>,
    ) -> Option<T> {
        let cluster_id = vault.cluster_id();
        let context = RowContext {
            cluster_id: &cluster_id,
            name: RowName::Full(key.as_bytes()),
            supersedes: self.supersedes(key),
            open_part_sha256: None,
        };
        T::decode(&open(&context)?[..]).ok()
    }

    /// The first row of a table of the registry that it put and that opens.
    pub fn registry<T: Message + Default>(&self, vault: &Vault, table: Table) -> Option<T> {
        self.puts(table).find_map(|(key, value)| self.registry_row(vault, &key, value))
    }

    /// The first row of a kind of the history of consents that it put and that opens.
    pub fn history<T: Message + Default>(&self, vault: &Vault, kind: HistoryKind) -> Option<T> {
        let mut puts = self.puts(Table::ConsentHistory);
        puts.find_map(|(key, value)| {
            // Table and pseudonym come first.
            (key.as_bytes().get(17) == Some(&(kind as u8))).then_some(())?;
            self.registry_row(vault, &key, value)
        })
    }

    fn registry_row<T: Message + Default>(&self, vault: &Vault, key: &RowKey, value: &[u8]) -> Option<T> {
        let keyring = vault.epoch(row::peek_header(value).ok()?.key_version)?;
        self.opened(vault, key, |context| open_row(&keyring.registry, keyring.epoch, context, value).ok())
    }

    /// A row sealed by a participant's data key.
    pub fn sealed_by<T: Message + Default>(
        &self,
        vault: &Vault,
        (key, value): (&RowKey, &Bytes),
        data: &DataKey,
    ) -> Option<T> {
        self.opened(vault, key, |context| open_row(&data.key, data.version, context, value).ok())
    }
}

/// What a run has learnt of participants from the old log.
#[derive(Default)]
pub(super) struct Tail {
    numbers: HashMap<Pseudonym, String>,
    keys: HashMap<(Pseudonym, u32), Arc<Key>>,
}

impl Tail {
    /// Keeps what a command tells of a participant and their keys.
    pub fn learn(&mut self, vault: &Vault, old: &Old) {
        if let (Some(row), Ok(pseudonym)) =
            (old.registry::<Participant>(vault, Table::Participant), Pseudonym::from_slice(&old.entry.pseudonym))
            && old.puts(Table::Participant).any(|(key, _)| key == RowKey::participant(&pseudonym))
        {
            self.numbers.insert(pseudonym, row.number);
        }
        for (key, value) in old.puts(Table::ParticipantKey) {
            let Some(pseudonym) = pseudonym_in(&key) else { continue };
            let Ok(row) = ParticipantKeyRow::decode(value.clone()) else { continue };
            let keyring = vault.epoch(row.epoch);
            let opened =
                keyring.and_then(|keyring| keyring.unwrap_data_key(&vault.cluster_id(), &pseudonym, &row).ok());
            if let Some(key) = opened {
                self.keys.insert((pseudonym, row.version), Arc::new(key));
            }
        }
    }

    /// A participant's number.
    pub fn number(&self, pseudonym: &Pseudonym) -> Option<&str> {
        self.numbers.get(pseudonym).map(String::as_str)
    }

    /// A participant's data key: the one here, or the one of the old log. A key that was destroyed here is in neither.
    pub fn data_key(
        &self,
        attempt: &Attempt<'_>,
        pseudonym: &Pseudonym,
        version: u32,
    ) -> Result<Option<DataKey>, GatewayError> {
        if let Some(key) = self.keys.get(&(*pseudonym, version)) {
            return Ok(Some(DataKey { pseudonym: *pseudonym, version, key: key.clone() }));
        }
        match attempt.data_key(pseudonym, version) {
            Ok(key) => Ok(Some(key)),
            Err(GatewayError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The pseudonym with which a row key begins.
pub(super) fn pseudonym_in(key: &RowKey) -> Option<Pseudonym> {
    Pseudonym::from_slice(key.as_bytes().get(1..17)?).ok()
}
