//! Preparing drills: synthetic participants, whose blocks are opened in a restore that has no root key.
//!
//! Invariants
//! - What the drill key wraps was drawn here, for this. It is in memory for the call, and no more.
//! - It can neither be the root key nor wrap anything of a real participant: rows are put only where no data key is, or
//!   where a synthetic participant's was.
//! - Prepared again, the same participants get new keys and new blocks in the old places: nothing is deleted, and nothing
//!   is left that the former key opens in the present state.

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::consent::{Basis, Denial};
use kura_cluster::drill;
use kura_cluster::id::ContentId;
use kura_cluster::row::{CanaryRow, DrillRow, ReceiptRow, RowKey};
use kura_cluster::seal::Key;
use kura_cluster::seal::block::BLOCK_PLAINTEXT_BYTES_MAX;
use kura_cluster::word::Action;
use kura_cluster::{Pseudonym, Revision, hexadecimal};
use kura_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, DataKey, broken};
use super::body::Place;
use super::transact::Verdict;
use super::{Caller, Gateway, GatewayError};
use crate::certificates::Role;
use crate::random;

/// Length of each synthetic participant's one part: an empty one, a short text (dictionary), bytes that nothing compresses,
/// and a text of several blocks. All of them sealed fit one command.
const BODIES: [Body; 4] = [Body::Text(0), Body::Text(3_000), Body::Noise(300_000), Body::Text(2_500_000)];

#[derive(Clone, Copy)]
enum Body {
    Text(usize),
    Noise(usize),
}

impl Body {
    fn draw(self) -> Vec<u8> {
        let (Body::Text(length) | Body::Noise(length)) = self;
        let mut bytes = Vec::with_capacity(length + 64);
        if let Body::Noise(_) = self {
            bytes.resize(length, 0);
            random::fill(&mut bytes);
        }
        let run = hexadecimal(random::id());
        let mut line = 0_u32;
        while bytes.len() < length {
            line += 1;
            bytes.extend_from_slice(format!("nobody's record {run}, line {line:06}\n").as_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

impl Gateway {
    /// Stores the synthetic participants anew, under a drill key (an operator).
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn prepare_drill(
        &self,
        caller: &Caller,
        request: v1::PrepareDrillRequest,
    ) -> Result<v1::PrepareDrillReply, GatewayError> {
        let bytes = <[u8; 32]>::try_from(&request.drill_key[..]);
        let mut bytes = bytes.map_err(|_| GatewayError::invalid("drill_key", "a drill key has 32 bytes"))?;
        let drill_key = Key::from_bytes(&mut bytes);
        if drill_key == **self.unsealed()?.root() {
            return Err(GatewayError::invalid("drill_key", "is the root key, which belongs on voters alone"));
        }
        self.space.check_writes().map_err(|why| GatewayError::LowSpace { why })?;
        let done = self
            .transact(caller, Action::Key, None, |attempt| {
                attempt.entry.object = "drill prepared".into();
                if caller.identity.role != Role::Operator {
                    return Ok((Verdict::Denied(Denial::ActorMayNot), ReceiptRow::default()));
                }
                let (_, before) = attempt.load_open::<DrillRow>(&RowKey::drill())?;
                let before = before.unwrap_or_default();
                let drawn = BODIES.iter().enumerate();
                let drawn = drawn.map(|(nth, body)| canary(attempt, &drill_key, before.canaries.get(nth), *body));
                let canaries = drawn.collect::<Result<_, _>>()?;
                let row = DrillRow {
                    key_check_value: Bytes::copy_from_slice(&drill_key.check_value()),
                    prepared_ms: attempt.now_ms,
                    operator: caller.identity.name.clone(),
                    canaries,
                };
                attempt.command.put(&RowKey::drill(), row.encode_to_vec());
                Ok((Verdict::by_office(Basis::Operator, row), ReceiptRow::default()))
            })
            .await?;
        let row = done.value.ok_or(GatewayError::Unknown)?;
        Ok(v1::PrepareDrillReply {
            participants: row.canaries.len() as u64,
            blocks: row.canaries.iter().map(|one| u64::from(one.blocks)).sum(),
            bytes: row.canaries.iter().map(|one| one.bytes).sum(),
            index: done.committed.revision.index,
        })
    }
}

/// Drafts a synthetic participant, in the place of one of before if there was.
fn canary(
    attempt: &mut Attempt<'_>,
    drill_key: &Key,
    before: Option<&CanaryRow>,
    body: Body,
) -> Result<CanaryRow, GatewayError> {
    let (pseudonym, content_id, revision) = match place(attempt, before)? {
        Some(place) => place,
        None => (Pseudonym(random::id()), ContentId(random::id()), Revision::ABSENT),
    };
    let cluster_id = attempt.vault.cluster_id();
    let (nonce, key) = (attempt.nonce(), random::key());
    let wrapped = drill::wrap(drill_key, &cluster_id, &pseudonym, &key, &nonce);
    let row_key = RowKey::participant_key(&pseudonym, drill::KEY_VERSION);
    attempt.command.expect(&row_key, revision);
    attempt.command.put(&row_key, wrapped.encode_to_vec());
    let data = DataKey { pseudonym, version: drill::KEY_VERSION, key: Arc::new(key) };
    let place = Place { cluster_id, content_id, data };
    let plain = body.draw();
    // An empty part has one empty block.
    let pieces: Vec<&[u8]> =
        if plain.is_empty() { vec![&[]] } else { plain.chunks(BLOCK_PLAINTEXT_BYTES_MAX).collect() };
    for (index, piece) in (0_u32..).zip(&pieces) {
        let nonce = attempt.nonce();
        let sealed = place.seal(0, index, index as usize + 1 == pieces.len(), &nonce, piece);
        attempt.command.put(&place.block_key(0, index), sealed.bytes);
    }
    Ok(CanaryRow {
        pseudonym: Bytes::copy_from_slice(&pseudonym.0),
        content_id: Bytes::copy_from_slice(&content_id.0),
        blocks: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
        bytes: plain.len() as u64,
        sha256: Bytes::copy_from_slice(&Sha256::digest(&plain)),
    })
}

/// Where a synthetic participant of before lies, and the revision of its key; `None` if it is not there, or is none.
fn place(
    attempt: &Attempt<'_>,
    before: Option<&CanaryRow>,
) -> Result<Option<(Pseudonym, ContentId, Revision)>, GatewayError> {
    let Some(before) = before else { return Ok(None) };
    let ids = (Pseudonym::from_slice(&before.pseudonym), ContentId::from_slice(&before.content_id));
    let (Ok(pseudonym), Ok(content_id)) = ids else { return Ok(None) };
    let found = attempt.database.row(&RowKey::participant_key(&pseudonym, drill::KEY_VERSION)).map_err(broken)?;
    let found = found.filter(drill::is_synthetic);
    Ok(found.map(|row| (pseudonym, content_id, row.header.revision)))
}
