//! Records that a restore leaves without a body, and that were hidden, narrowed or held: named, as whoever writes them again
//! without their document id makes another record, which is not.
//!
//! Invariant: records are told by their random ids alone. An auditor finds them in the journal.

use bytes::Bytes;
use kura_cluster::Pseudonym;
use kura_cluster::id::RecordId;
use kura_cluster::row::{RecordControl, RowHeader, RowKey};
use kura_cluster::seal::{RowContext, RowName, open_row, row};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::merge::Fate;
use crate::state::{Database, DatabaseError};
use crate::vault::Vault;

/// Most of them that are named.
const NAMED_MAX: usize = 2_000;
/// Bytes of a row key up to and including the record's id: table, pseudonym, record.
const RECORD_PREFIX_BYTES: usize = 33;

/// A record that has no body any more, and what still restricts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bodiless {
    /// Its id, hexadecimal.
    pub record: String,
    /// Whether it is hidden.
    pub hidden: bool,
    /// Whether it is narrowed to addressees.
    pub narrowed: bool,
    /// Whether it is under a legal hold.
    pub held: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub named: Vec<Bodiless>,
    /// Of which record the row before was.
    last: Bytes,
}

impl LeftOut {
    /// Takes note of a record's row of the new state, in the order of keys: versions come from the lowest on, and none is
    /// newer than one that stays but for those after it.
    pub(super) fn pass(
        &mut self,
        in_new: &Option<(Bytes, RowHeader)>,
        fate: Fate,
        new: &Database,
        vault: &Vault,
    ) -> Result<(), DatabaseError> {
        let Some((key, _)) = in_new else { return Ok(()) };
        let record = key.slice(..RECORD_PREFIX_BYTES.min(key.len()));
        let is_first = std::mem::replace(&mut self.last, record.clone()) != record;
        if !is_first || fate != Fate::Newer {
            return Ok(());
        }
        let ids = (record.get(1..17).map(Pseudonym::from_slice), record.get(17..).map(RecordId::from_slice));
        let (Some(Ok(pseudonym)), Some(Ok(record))) = ids else { return Ok(()) };
        let Some(control) = control(&pseudonym, &record, new, vault)? else { return Ok(()) };
        let RecordControl { hidden, hold: held, addressees, .. } = control;
        let narrowed = !addressees.is_empty();
        if hidden || narrowed || held {
            self.count += 1;
            if self.named.len() < NAMED_MAX {
                self.named.push(Bodiless { record: record.to_hex(), hidden, narrowed, held });
            }
        }
        Ok(())
    }
}

/// A record's control row; none if it is not there, or does not open.
fn control(
    pseudonym: &Pseudonym,
    record: &RecordId,
    new: &Database,
    vault: &Vault,
) -> Result<Option<RecordControl>, DatabaseError> {
    let key = RowKey::record_control(pseudonym, record);
    let Some(stored) = new.row(&key)? else { return Ok(None) };
    let open = || {
        let version = row::peek_header(&stored.value).ok()?.key_version;
        let data = vault.data_key(pseudonym, version, new).ok()??;
        let context = RowContext {
            cluster_id: &vault.cluster_id(),
            name: RowName::Full(key.as_bytes()),
            supersedes: stored.header.replaced,
            open_part_sha256: None,
        };
        RecordControl::decode(&open_row(&data, version, &context, &stored.value).ok()?[..]).ok()
    };
    Ok(open())
}
