//! One decision: the rows that it used, what it writes, what the journal gets.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::command::JournalAppend;
use kura_cluster::consent::{Basis, Denial, Settings};
use kura_cluster::row::{DisasterRow, JournalEntry, RowKey, SettingsRow, StoredRow, Table};
use kura_cluster::seal::{Domain, Key, Nonce, RowContext, RowName, index_hash, open_row, row, seal_row};
use kura_cluster::{Command, Pseudonym, Revision};
use prost::Message;

use super::error::DATABASE;
use super::rows::Loaded;
use super::{Gateway, GatewayError};
use crate::random::Nonces;
use crate::state::{Database, DatabaseError, Published};
use crate::vault::Vault;

/// A participant's data key and its version.
#[derive(Clone)]
pub struct DataKey {
    /// The participant.
    pub pseudonym: Pseudonym,
    /// Version, from 1.
    pub version: u32,
    /// The key.
    pub key: Arc<Key>,
}

/// A decision in the making.
pub struct Attempt<'g> {
    /// The gateway.
    pub gateway: &'g Gateway,
    /// Keys.
    pub vault: Arc<Vault>,
    /// Local applied state; read after `published` was taken.
    pub database: Arc<Database>,
    /// The gateway's clock.
    pub now_ms: u64,
    /// What will be proposed.
    pub command: Command,
    /// The draft of the journal entry.
    pub entry: JournalEntry,
    /// Facilities under which the entry is found again.
    pub entry_facilities: Vec<String>,
    /// Participants beside its subject under whom it is found again.
    pub entry_subjects: Vec<Pseudonym>,
    published: Arc<Published>,
    nonces: Nonces,
}

impl<'g> Attempt<'g> {
    /// Begins a decision on the state of this moment.
    pub fn begin(gateway: &'g Gateway, entry: &JournalEntry) -> Result<Attempt<'g>, GatewayError> {
        let vault = gateway.unsealed()?;
        let now_ms = gateway.now_ms()?;
        // In this order: a row newer than the published summary makes a table's expectation fail, which
        // is safe; an older one would not be noticed.
        let published = gateway.store.published();
        let database = gateway.store.database();
        Ok(Attempt {
            gateway,
            vault,
            database,
            now_ms,
            command: Command::new(now_ms),
            entry: JournalEntry { at_ms: now_ms, gateway: gateway.name.clone(), ..entry.clone() },
            entry_facilities: Vec::new(),
            entry_subjects: Vec::new(),
            published,
            nonces: Nonces::new(),
        })
    }

    /// The cluster's fence number: 0 until it was first recovered or restored.
    pub fn timeline(&self) -> u64 {
        self.published.summary.timeline
    }

    /// A fresh nonce.
    pub fn nonce(&mut self) -> Nonce {
        self.nonces.take()
    }

    /// The keyed hash of outside identifiers.
    pub fn hash(&self, domain: Domain, parts: &[&str]) -> [u8; 32] {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        index_hash(&self.vault.keyring().index, domain, &parts)
    }

    /// Expects that nothing in a whole table changes.
    pub fn expect_table(&mut self, table: Table) {
        let revision = self.table_revision(table);
        self.command.expect(&RowKey::whole_table(table), revision);
    }

    /// A whole table's last revision, as published when the decision began.
    pub fn table_revision(&self, table: Table) -> Revision {
        self.published.summary.table(table).revision
    }

    /// Opens a row of the registry without expecting it: its table is expected whole.
    pub fn look<T: Message + Default + 'static>(&self, key: &RowKey) -> Result<Loaded<T>, GatewayError> {
        self.open_cached(key, |attempt, context, value| attempt.open_registry(context, value))
    }

    /// Opens a row of the registry and expects it as it is.
    pub fn load<T: Message + Default + 'static>(&mut self, key: &RowKey) -> Result<Loaded<T>, GatewayError> {
        let loaded = self.look(key)?;
        self.command.expect(key, loaded.revision);
        Ok(loaded)
    }

    /// Opens a row sealed by any version of a participant's data key, without expecting it.
    pub fn look_of<T: Message + Default + 'static>(
        &self,
        key: &RowKey,
        pseudonym: &Pseudonym,
    ) -> Result<Loaded<T>, GatewayError> {
        self.open_cached(key, |attempt, context, value| attempt.open_data(pseudonym, context, value))
    }

    /// Opens a row sealed by any version of a participant's data key and expects it as it is.
    pub fn load_of<T: Message + Default + 'static>(
        &mut self,
        key: &RowKey,
        pseudonym: &Pseudonym,
    ) -> Result<Loaded<T>, GatewayError> {
        let loaded = self.look_of(key, pseudonym)?;
        self.command.expect(key, loaded.revision);
        Ok(loaded)
    }

    fn open_cached<T: Message + Default + 'static>(
        &self,
        key: &RowKey,
        open: impl FnOnce(&Self, &RowContext<'_>, &[u8]) -> Option<Vec<u8>>,
    ) -> Result<Loaded<T>, GatewayError> {
        let cache = &self.gateway.rows;
        if let Some(header) = self.database.known_header(key)
            && let Some(value) = cache.get::<T>(key.as_bytes(), header.revision)
        {
            return Ok(Loaded { revision: header.revision, value: Some(value) });
        }
        let Some(stored) = self.database.row(key).map_err(broken)? else {
            return Ok(Loaded { revision: Revision::ABSENT, value: None });
        };
        if let Some(value) = cache.get::<T>(key.as_bytes(), stored.header.revision) {
            return Ok(Loaded { revision: stored.header.revision, value: Some(value) });
        }
        let cluster_id = self.vault.cluster_id();
        let context = RowContext {
            cluster_id: &cluster_id,
            name: RowName::Full(key.as_bytes()),
            supersedes: stored.header.replaced,
            open_part_sha256: None,
        };
        let opened = open(self, &context, &stored.value).and_then(|plain| T::decode(&plain[..]).ok());
        let value = Arc::new(opened.ok_or_else(|| self.unopened(key, &stored))?);
        cache.keep(key.as_bytes(), stored.header.revision, value.clone());
        Ok(Loaded { revision: stored.header.revision, value: Some(value) })
    }

    fn open_registry(&self, context: &RowContext<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let header = row::peek_header(value).ok()?;
        let keyring = self.vault.epoch(header.key_version)?;
        open_row(&keyring.registry, keyring.epoch, context, value).ok()
    }

    /// Opens what a participant's data key sealed, by the version that the value names: rows stay as they
    /// were sealed when a further version comes.
    pub fn open_data(&self, pseudonym: &Pseudonym, context: &RowContext<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let header = row::peek_header(value).ok()?;
        let data = self.data_key(pseudonym, header.key_version).ok()?;
        open_row(&data.key, data.version, context, value).ok()
    }

    /// Opens a registry row found by a scan.
    pub fn open_scanned<T: Message + Default>(&self, key: &RowKey, stored: &StoredRow) -> Result<T, GatewayError> {
        let cluster_id = self.vault.cluster_id();
        let name = match key.table() {
            // An appended row's name is its prefix: table and facility.
            Some(Table::Inbox) => RowName::Prefix(&key.as_bytes()[..33]),
            _ => RowName::Full(key.as_bytes()),
        };
        let context =
            RowContext { cluster_id: &cluster_id, name, supersedes: stored.header.replaced, open_part_sha256: None };
        let plain = self.open_registry(&context, &stored.value);
        plain.and_then(|plain| T::decode(&plain[..]).ok()).ok_or_else(|| self.unopened(key, stored))
    }

    /// A row does not open: it is noted for operators.
    pub fn unopened(&self, key: &RowKey, stored: &StoredRow) -> GatewayError {
        self.gateway.unopened.note(key, stored.header.revision)
    }

    /// Puts a row of the registry in place of the revision that was loaded.
    pub fn put<T: Message>(&mut self, key: &RowKey, replaces: Revision, value: &T) {
        let sealed = self.seal_registry(RowName::Full(key.as_bytes()), replaces, &value.encode_to_vec());
        self.command.put(key, sealed);
    }

    /// Appends a row sealed by the registry key under a prefix.
    pub fn append<T: Message>(&mut self, prefix: &RowKey, value: &T) {
        let sealed = self.seal_registry(RowName::Prefix(prefix.as_bytes()), Revision::ABSENT, &value.encode_to_vec());
        self.command.append(prefix, sealed);
    }

    /// Puts a row sealed by a participant's data key in place of the revision that was loaded.
    pub fn put_with<T: Message>(&mut self, key: &RowKey, data: &DataKey, replaces: Revision, value: &T) {
        let nonce = self.nonce();
        let cluster_id = self.vault.cluster_id();
        let context = RowContext {
            cluster_id: &cluster_id,
            name: RowName::Full(key.as_bytes()),
            supersedes: replaces,
            open_part_sha256: None,
        };
        let sealed = seal_row(&data.key, data.version, &context, &nonce, &value.encode_to_vec());
        self.command.put(key, sealed);
    }

    /// Seals bytes under the registry key.
    pub fn seal_registry(&mut self, name: RowName<'_>, replaces: Revision, plain: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        let cluster_id = self.vault.cluster_id();
        let keyring = self.vault.keyring();
        let context = RowContext { cluster_id: &cluster_id, name, supersedes: replaces, open_part_sha256: None };
        seal_row(&keyring.registry, keyring.epoch, &context, &nonce, plain)
    }

    /// The network's settings; the table is expected whole.
    pub fn settings(&mut self) -> Result<Settings, GatewayError> {
        let row = self.setting::<SettingsRow>("network")?;
        Ok(row.map_or_else(Settings::default, |row| Settings::from_row(&row)))
    }

    /// The disaster declared last, if ever one was; the table is expected whole with the settings.
    pub fn disaster(&mut self) -> Result<Option<Arc<DisasterRow>>, GatewayError> {
        self.setting("disaster")
    }

    fn setting<T: Message + Default + 'static>(&mut self, name: &str) -> Result<Option<Arc<T>>, GatewayError> {
        self.expect_table(Table::Setting);
        if self.published.summary.table(Table::Setting).rows == 0 {
            return Ok(None);
        }
        Ok(self.look(&RowKey::setting(name))?.value)
    }

    /// Finishes the draft as permitted.
    pub fn permit(&mut self, basis: Basis) {
        self.entry.basis = basis.number();
        self.journal_as_drafted();
    }

    /// Drops everything that would have been written and finishes the draft as denied.
    pub fn deny(&mut self, reason: Denial) {
        self.command.writes.clear();
        self.command.request = None;
        self.entry.deny(reason.number());
        self.journal_as_drafted();
    }

    /// Adds the draft to the journal as it stands.
    pub fn journal_as_drafted(&mut self) {
        let mut index: Vec<Bytes> = Vec::with_capacity(2);
        let index_key = &self.vault.keyring().index;
        if !self.entry.pseudonym.is_empty() {
            let hash = index_hash(index_key, Domain::JournalSubject, &[&self.entry.pseudonym]);
            index.push(Bytes::copy_from_slice(&hash));
        }
        for subject in &self.entry_subjects {
            let hash = Bytes::copy_from_slice(&index_hash(index_key, Domain::JournalSubject, &[&subject.0]));
            if !index.contains(&hash) {
                index.push(hash);
            }
        }
        for facility in &self.entry_facilities {
            let hash = Bytes::copy_from_slice(&index_hash(index_key, Domain::JournalFacility, &[facility.as_bytes()]));
            if !index.contains(&hash) {
                index.push(hash);
            }
        }
        let nonce = self.nonce();
        let cluster_id = self.vault.cluster_id();
        let keyring = self.vault.keyring();
        let context = RowContext {
            cluster_id: &cluster_id,
            name: RowName::Prefix(&JOURNAL_PREFIX),
            supersedes: Revision::ABSENT,
            open_part_sha256: None,
        };
        let sealed = seal_row(&keyring.journal, keyring.epoch, &context, &nonce, &self.entry.encode_to_vec());
        self.command.journal.push(JournalAppend { entry: sealed.into(), index });
    }
}

/// Prefix of every journal row: entries are bound to it, not to their position.
pub const JOURNAL_PREFIX: [u8; 1] = [Table::Journal as u8];

/// Opens a journal entry.
pub fn open_journal_entry(vault: &Vault, sealed: &[u8]) -> Option<JournalEntry> {
    let header = row::peek_header(sealed).ok()?;
    let keyring = vault.epoch(header.key_version)?;
    let cluster_id = vault.cluster_id();
    let context = RowContext {
        cluster_id: &cluster_id,
        name: RowName::Prefix(&JOURNAL_PREFIX),
        supersedes: Revision::ABSENT,
        open_part_sha256: None,
    };
    let plain = open_row(&keyring.journal, keyring.epoch, &context, sealed).ok()?;
    JournalEntry::decode(&plain[..]).ok()
}

/// The local state cannot be read: this node is at fault, not the caller.
pub fn broken(error: DatabaseError) -> GatewayError {
    tracing::error!(%error, "the local state cannot be read");
    GatewayError::Damaged { what: DATABASE }
}

/// A row does not open.
pub fn damaged(key: &RowKey) -> GatewayError {
    let what = key.table().map_or("row", Table::word);
    tracing::error!(table = what, "a stored row does not open");
    GatewayError::Damaged { what }
}
