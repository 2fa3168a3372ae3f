//! Opening what a replay has made, with the root key: whether sealed rows and blocks are what they were.
//!
//! Invariant: nothing that is opened leaves this module.

use std::collections::BTreeMap;

use kura_cluster::archive::Fault;
use kura_cluster::id::ContentId;
use kura_cluster::row::{RowKey, StoredRow, Table};
use kura_cluster::seal::{RowContext, RowName, open_row, row};
use kura_cluster::{ClusterId, Pseudonym, drill};
use sha2::{Digest, Sha256};

use super::replay::{Event, Tell};
use crate::gateway::attempt::{DataKey, open_journal_entry};
use crate::gateway::body::{Place, open_manifest};
use crate::state::{Database, DatabaseError};
use crate::vault::{Vault, VaultError};

/// What became of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// Rows that opened.
    pub opened: u64,
    /// Rows that do not.
    pub closed: u64,
    /// Rows whose key is gone: of erased participants.
    pub erased: u64,
    /// Blocks of records that opened.
    pub blocks: u64,
    /// Bytes that came out of them, each part with its length and SHA-256.
    pub bytes: u64,
}

enum Found {
    Opened,
    Closed,
    Erased,
}

/// Opens about `sample` rows of each table, evenly spread (all of them, if there are no more); and the blocks of the
/// records among them, whose contents are held against their hashes.
///
/// # Errors
/// The database's.
pub fn check(
    database: &Database,
    vault: &Vault,
    sample: u64,
    tell: Tell<'_>,
) -> Result<BTreeMap<&'static str, Opened>, VaultError> {
    let view = database.snapshot();
    let (_, _, summary) = view.progress()?;
    let mut tables = BTreeMap::new();
    for table in Table::ALL {
        let rows = summary.table(table).rows;
        if rows == 0 || !is_sealed(table) {
            continue;
        }
        tell(Event::Doing(format!("sealed rows of the table {}", table.word())));
        let stride = rows.div_ceil(sample.max(1)).max(1);
        let mut counted = Opened::default();
        let (mut at, number) = (0, table.number());
        view.walk::<VaultError>(&[number], &[number + 1], |key, row| {
            if at % stride == 0 && !is_open(key) && !is_of_drills(table, &row) {
                tell(Event::Bytes(row.value.len() as u64));
                match look(database, vault, table, key, &row, &mut counted, tell)? {
                    Found::Opened => counted.opened += 1,
                    Found::Closed => counted.closed += 1,
                    Found::Erased => counted.erased += 1,
                }
            }
            at += 1;
            Ok(())
        })?;
        tables.insert(table.word(), counted);
    }
    Ok(tables)
}

/// What does not open.
pub fn faults(tables: &BTreeMap<&'static str, Opened>) -> Vec<Fault> {
    let closed = tables.iter().filter(|(_, found)| found.closed > 0);
    closed
        .map(|(table, found)| Fault::DoesNotOpen {
            rows: found.closed,
            looked: found.opened + found.closed + found.erased,
            table,
        })
        .collect()
}

/// Blocks are opened with their records, the keyring before all.
fn is_sealed(table: Table) -> bool {
    !matches!(
        table,
        Table::Cluster | Table::Keyring | Table::Block | Table::JournalIndex | Table::JournalTree | Table::Request
    )
}

/// Wrapped by a key that only drills have.
fn is_of_drills(table: Table, row: &StoredRow) -> bool {
    table == Table::ParticipantKey && drill::is_synthetic(row)
}

/// Settings that sealed members read, too.
fn is_open(key: &[u8]) -> bool {
    let open = [RowKey::share_sets(), RowKey::rotation(), RowKey::service(), RowKey::drill()];
    open.iter().any(|open| open.as_bytes() == key)
}

fn look(
    database: &Database,
    vault: &Vault,
    table: Table,
    key: &[u8],
    stored: &StoredRow,
    counted: &mut Opened,
    tell: Tell<'_>,
) -> Result<Found, VaultError> {
    let cluster_id = vault.cluster_id();
    let opened = match table {
        Table::Journal => open_journal_entry(vault, &stored.value).is_some(),
        Table::ParticipantKey => {
            let (Some(pseudonym), Some(version)) = (pseudonym(key), key.get(17..21)) else { return Ok(Found::Closed) };
            if stored.is_stripped() {
                return Ok(Found::Erased);
            }
            let version = u32::from_be_bytes(version.try_into().unwrap_or_default());
            match vault.data_key(&pseudonym, version, database) {
                Ok(found) => found.is_some(),
                Err(VaultError::Database(error)) => return Err(error.into()),
                Err(_) => false,
            }
        }
        Table::RecordControl | Table::Staging => {
            let context = context(&cluster_id, RowName::Full(key), stored);
            return data_row(database, vault, key, &stored.value, |data| {
                open_row(&data.key, data.version, &context, &stored.value).is_ok()
            });
        }
        Table::Record => return record(database, vault, key, stored, counted, tell),
        _ => {
            let name =
                if table == Table::Inbox { RowName::Prefix(&key[..key.len().min(33)]) } else { RowName::Full(key) };
            let header = row::peek_header(&stored.value).ok();
            let keyring = header.and_then(|header| vault.epoch(header.key_version));
            keyring.is_some_and(|keyring| {
                let context = context(&cluster_id, name, stored);
                open_row(&keyring.registry, keyring.epoch, &context, &stored.value).is_ok()
            })
        }
    };
    Ok(if opened { Found::Opened } else { Found::Closed })
}

fn context<'a>(cluster_id: &'a ClusterId, name: RowName<'a>, stored: &StoredRow) -> RowContext<'a> {
    RowContext { cluster_id, name, supersedes: stored.header.replaced, open_part_sha256: None }
}

fn pseudonym(key: &[u8]) -> Option<Pseudonym> {
    key.get(1..17)?.try_into().ok().map(Pseudonym)
}

/// Opens what a participant's data key sealed, of the version that `sealed` names.
fn data_row(
    database: &Database,
    vault: &Vault,
    key: &[u8],
    sealed: &[u8],
    open: impl FnOnce(&DataKey) -> bool,
) -> Result<Found, VaultError> {
    let (Some(pseudonym), Ok(header)) = (pseudonym(key), row::peek_header(sealed)) else { return Ok(Found::Closed) };
    with_key(database, vault, pseudonym, header.key_version, open)
}

fn with_key(
    database: &Database,
    vault: &Vault,
    pseudonym: Pseudonym,
    version: u32,
    open: impl FnOnce(&DataKey) -> bool,
) -> Result<Found, VaultError> {
    let row = database.row(&RowKey::participant_key(&pseudonym, version))?;
    if row.is_none_or(|row| row.is_stripped()) {
        return Ok(Found::Erased);
    }
    match vault.data_key(&pseudonym, version, database) {
        Ok(Some(key)) => {
            let opened = open(&DataKey { pseudonym, version, key });
            Ok(if opened { Found::Opened } else { Found::Closed })
        }
        Err(VaultError::Database(error)) => Err(error.into()),
        _ => Ok(Found::Closed),
    }
}

/// A record's manifest, every block of it, and whether what comes out is what was once written.
fn record(
    database: &Database,
    vault: &Vault,
    key: &[u8],
    stored: &StoredRow,
    counted: &mut Opened,
    tell: Tell<'_>,
) -> Result<Found, VaultError> {
    let cluster_id = &vault.cluster_id();
    let Some(sealed) = sealed_part(&stored.value) else { return Ok(Found::Closed) };
    let row_key = RowKey::from_bytes(bytes::Bytes::copy_from_slice(key));
    let mut failed: Option<DatabaseError> = None;
    let found = data_row(database, vault, key, sealed, |data| {
        let opened = open_manifest(&row_key, cluster_id, stored, |context, sealed| {
            open_row(&data.key, data.version, context, sealed).ok()
        });
        let Some((open, sealed)) = opened else { return false };
        let Ok(content_id) = <[u8; 16]>::try_from(&open.content_id[..]) else { return false };
        // Blocks may be of another version of the key than the row.
        let block_key = match with_version(database, vault, data, open.key_version) {
            Ok(found) => found,
            Err(error) => {
                failed = Some(error);
                return false;
            }
        };
        let Some(data) = block_key else { return false };
        let place = Place { cluster_id: *cluster_id, content_id: ContentId(content_id), data };
        open.parts.iter().zip(&sealed.parts).zip(0_u16..).all(|((part, described), number)| {
            let last = part.lengths.len().saturating_sub(1);
            let (mut content, mut bytes) = (Sha256::new(), 0);
            let opened = part.sha256s.chunks_exact(32).zip(0_u32..).all(|(sha256, index)| {
                let block = match database.row(&place.block_key(number, index)) {
                    Ok(Some(block)) => block.value,
                    Ok(None) => return false,
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                };
                tell(Event::Bytes(block.len() as u64));
                if Sha256::digest(&block)[..] != *sha256 {
                    return false;
                }
                let Ok(plain) = place.open(number, index, index as usize == last, &block) else { return false };
                content.update(&plain);
                bytes += plain.len() as u64;
                counted.blocks += 1;
                true
            });
            counted.bytes += bytes;
            opened && bytes == described.bytes && content.finalize()[..] == described.sha256[..]
        })
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(found),
    }
}

fn with_version(
    database: &Database,
    vault: &Vault,
    data: &DataKey,
    version: u32,
) -> Result<Option<DataKey>, DatabaseError> {
    if version == data.version {
        return Ok(Some(data.clone()));
    }
    match vault.data_key(&data.pseudonym, version, database) {
        Ok(key) => Ok(key.map(|key| DataKey { pseudonym: data.pseudonym, version, key })),
        Err(VaultError::Database(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn sealed_part(value: &[u8]) -> Option<&[u8]> {
    let (&[_, a, b, c, d], rest) = value.split_first_chunk::<5>()?;
    rest.get(u32::from_be_bytes([a, b, c, d]) as usize..)
}
