//! Opening the synthetic participants of a restored state with the drill key.
//!
//! Invariant: whatever is not there, does not open or is not what was sealed is a failure; so is nothing to be opened.

use std::sync::Arc;

use kura_cluster::id::ContentId;
use kura_cluster::row::{CanaryRow, DrillRow, ParticipantKeyRow, RowKey};
use kura_cluster::seal::Key;
use kura_cluster::{ClusterId, Pseudonym, drill};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::gateway::attempt::DataKey;
use crate::gateway::body::Place;
use crate::state::Database;

/// Opens all of them; what was opened, in words.
///
/// # Errors
/// What is wrong, in words.
pub fn open(database: &Database, cluster_id: ClusterId, key: &Key) -> Result<String, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let row = database.row(&RowKey::drill()).map_err(|error| words(&error))?;
    let row = row.ok_or("the cluster was never prepared for it: kura drill prepare")?;
    let row = DrillRow::decode(row.value).map_err(|_| "the row of the drill is in no known form")?;
    if row.key_check_value[..] != key.check_value() {
        return Err("this is not the drill key with which the cluster was prepared last: kura drill prepare".into());
    }
    if row.canaries.is_empty() {
        return Err("there is no synthetic participant".into());
    }
    let (mut blocks, mut bytes) = (0, 0);
    for (number, canary) in (1..).zip(&row.canaries) {
        open_one(database, cluster_id, key, canary)
            .map_err(|why| format!("synthetic participant {number} of {}: {why}", row.canaries.len()))?;
        blocks += u64::from(canary.blocks);
        bytes += canary.bytes;
    }
    Ok(format!("{} synthetic participants, {blocks} blocks, {bytes} bytes as they were sealed", row.canaries.len()))
}

fn open_one(database: &Database, cluster_id: ClusterId, key: &Key, canary: &CanaryRow) -> Result<(), String> {
    let row = |key: &RowKey| database.row(key).map_err(|error| error.to_string());
    let ids = (Pseudonym::from_slice(&canary.pseudonym), ContentId::from_slice(&canary.content_id));
    let (Ok(pseudonym), Ok(content_id)) = ids else { return Err("its row is malformed".into()) };
    let wrapped = row(&RowKey::participant_key(&pseudonym, drill::KEY_VERSION))?;
    let wrapped = wrapped.filter(|row| !row.is_stripped()).ok_or("its wrapped data key is not there")?;
    let wrapped = ParticipantKeyRow::decode(wrapped.value).map_err(|_| "its wrapped data key is malformed")?;
    let data_key = drill::unwrap(key, &cluster_id, &pseudonym, &wrapped);
    let data_key = Arc::new(data_key.map_err(|_| "its wrapped data key does not open")?);
    let data = DataKey { pseudonym, version: drill::KEY_VERSION, key: data_key };
    let place = Place { cluster_id, content_id, data };
    let mut content = Sha256::new();
    let mut bytes = 0;
    for index in 0..canary.blocks {
        let block = row(&place.block_key(0, index))?.ok_or_else(|| format!("block {index} is not there"))?;
        let plain = place.open(0, index, index + 1 == canary.blocks, &block.value);
        let plain = plain.map_err(|_| format!("block {index} does not open"))?;
        content.update(&plain);
        bytes += plain.len() as u64;
    }
    match bytes == canary.bytes && content.finalize()[..] == canary.sha256[..] {
        true => Ok(()),
        false => Err("what opened is not what was sealed".into()),
    }
}
