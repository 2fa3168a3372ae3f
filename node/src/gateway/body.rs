//! Bodies: parts, their sealed blocks, and the manifest that accounts for them.
//!
//! A manifest's row value is: format byte 1, length of the open part (4 bytes big endian), the open
//! part ([`ManifestOpen`]), the sealed part ([`Manifest`]). The sealed part is bound to the SHA-256 of
//! the open one.

use std::cell::RefCell;

use bytes::Bytes;
use kura_cluster::id::ContentId;
use kura_cluster::row::{Manifest, ManifestOpen, Part, PartBlocks, RowKey, StoredRow};
use kura_cluster::seal::block::{BLOCK_PLAINTEXT_BYTES_MAX, OpenBlockError};
use kura_cluster::seal::{
    BlockContext, BlockOpener, BlockSealer, Dictionary, Nonce, RowContext, RowName, SealedBlock, seal_row,
};
use kura_cluster::{ClusterId, Revision};
use prost::Message;
use sha2::{Digest, Sha256};

use super::GatewayError;
use super::attempt::DataKey;

const MANIFEST_FORMAT: u8 = 1;

thread_local! {
    static SEALER: RefCell<BlockSealer> = RefCell::new(BlockSealer::new(Dictionary::shipped()));
    static OPENER: RefCell<BlockOpener> = RefCell::new(BlockOpener::default());
}

/// Where a body's blocks lie and what seals them.
#[derive(Clone)]
pub struct Place {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The content.
    pub content_id: ContentId,
    /// The key.
    pub data: DataKey,
}

impl Place {
    fn context(&self, part: u16, index: u32, last: bool) -> BlockContext {
        BlockContext {
            cluster_id: self.cluster_id,
            pseudonym: self.data.pseudonym,
            content_id: self.content_id,
            part,
            index,
            last,
        }
    }

    /// Row key of the upload under which the blocks are staged.
    pub fn staging_key(&self) -> RowKey {
        RowKey::staging(&self.data.pseudonym, &self.content_id)
    }

    /// Row key of a block.
    pub fn block_key(&self, part: u16, index: u32) -> RowKey {
        RowKey::block(&self.data.pseudonym, &self.content_id, part, index)
    }

    /// Compresses and seals one block of at most 1 MiB.
    pub fn seal(&self, part: u16, index: u32, last: bool, nonce: &Nonce, plain: &[u8]) -> SealedBlock {
        let context = self.context(part, index, last);
        SEALER.with_borrow_mut(|sealer| {
            sealer
                .seal(&self.data.key, self.data.version, &context, nonce, plain)
                .expect("callers cut bodies into blocks of at most 1 MiB")
        })
    }

    /// Opens one block.
    pub fn open(&self, part: u16, index: u32, last: bool, sealed: &[u8]) -> Result<Vec<u8>, OpenBlockError> {
        let context = self.context(part, index, last);
        OPENER.with_borrow_mut(|opener| opener.open(&self.data.key, self.data.version, &context, sealed))
    }
}

/// A part being taken in: its description and the account of its blocks.
#[derive(Default)]
pub struct PartDraft {
    /// Name, unique in the record.
    pub name: String,
    /// Media type, or empty for the record's.
    pub media_type: String,
    /// Sealed lengths.
    pub lengths: Vec<u32>,
    /// SHA-256s of the sealed blocks.
    pub sha256s: Vec<u8>,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Over the plaintext.
    pub hash: Sha256,
    /// Its last block is sealed.
    pub complete: bool,
}

impl PartDraft {
    /// A part without data yet.
    pub fn new(name: String, media_type: String) -> PartDraft {
        PartDraft { name, media_type, ..PartDraft::default() }
    }

    /// Number of blocks so far.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.lengths.len()).unwrap_or(u32::MAX)
    }

    /// Accounts for a sealed block and its plaintext.
    pub fn account(&mut self, sealed_bytes: usize, sealed_sha256: &[u8; 32], plain: &[u8]) {
        self.lengths.push(u32::try_from(sealed_bytes).unwrap_or(u32::MAX));
        self.sha256s.extend_from_slice(sealed_sha256);
        self.bytes += plain.len() as u64;
        self.hash.update(plain);
    }

    /// SHA-256 of the plaintext.
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

/// SHA-256 over the parts' SHA-256s: a body's identity.
pub fn body_sha256<'a>(parts: impl IntoIterator<Item = &'a [u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The open part of a manifest and the parts' descriptions.
pub fn account(place: &Place, parts: &[PartDraft]) -> (ManifestOpen, Vec<Part>) {
    let open = ManifestOpen {
        content_id: Bytes::copy_from_slice(&place.content_id.0),
        key_version: place.data.version,
        parts: parts
            .iter()
            .map(|part| PartBlocks { lengths: part.lengths.clone(), sha256s: Bytes::copy_from_slice(&part.sha256s) })
            .collect(),
    };
    let described = parts
        .iter()
        .map(|part| Part {
            name: part.name.clone(),
            media_type: part.media_type.clone(),
            bytes: part.bytes,
            sha256: Bytes::copy_from_slice(&part.sha256()),
        })
        .collect();
    (open, described)
}

/// The row value of a manifest.
pub fn seal_manifest(key: &RowKey, place: &Place, nonce: &Nonce, open: &ManifestOpen, sealed: &Manifest) -> Vec<u8> {
    let open = open.encode_to_vec();
    let context = RowContext {
        cluster_id: &place.cluster_id,
        name: RowName::Full(key.as_bytes()),
        supersedes: Revision::ABSENT,
        open_part_sha256: Some(&Sha256::digest(&open).into()),
    };
    let sealed = seal_row(&place.data.key, place.data.version, &context, nonce, &sealed.encode_to_vec());
    let mut value = Vec::with_capacity(5 + open.len() + sealed.len());
    value.push(MANIFEST_FORMAT);
    value.extend_from_slice(&u32::try_from(open.len()).unwrap_or(u32::MAX).to_be_bytes());
    value.extend_from_slice(&open);
    value.extend_from_slice(&sealed);
    value
}

/// Splits the row value of a manifest and has its sealed part opened. `None` if it does not open or is
/// inconsistent.
pub fn open_manifest(
    key: &RowKey,
    cluster_id: &ClusterId,
    stored: &StoredRow,
    open_sealed: impl FnOnce(&RowContext<'_>, &[u8]) -> Option<Vec<u8>>,
) -> Option<(ManifestOpen, Manifest)> {
    let (&[format, a, b, c, d], rest) = stored.value.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if format != MANIFEST_FORMAT || length > rest.len() {
        return None;
    }
    let (open, sealed) = rest.split_at(length);
    let context = RowContext {
        cluster_id,
        name: RowName::Full(key.as_bytes()),
        supersedes: stored.header.replaced,
        open_part_sha256: Some(&Sha256::digest(open).into()),
    };
    let plain = open_sealed(&context, sealed)?;
    let (open, manifest) = (ManifestOpen::decode(open).ok()?, Manifest::decode(&plain[..]).ok()?);
    let consistent = open.parts.len() == manifest.parts.len()
        && open.parts.iter().all(|part| part.sha256s.len() == 32 * part.lengths.len());
    consistent.then_some((open, manifest))
}

/// Cuts a whole part into blocks and seals them. An empty part has one empty block, so that its end is
/// sealed, too.
pub fn seal_part(
    place: &Place,
    part: u16,
    draft: &mut PartDraft,
    data: &[u8],
    mut nonce: impl FnMut() -> Nonce,
    mut put: impl FnMut(RowKey, Vec<u8>),
) {
    let mut rest = data;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK_PLAINTEXT_BYTES_MAX));
        let index = draft.blocks();
        let sealed = place.seal(part, index, after.is_empty(), &nonce(), block);
        draft.account(sealed.bytes.len(), &sealed.sha256, block);
        put(place.block_key(part, index), sealed.bytes);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// A hash that was given must be the one that was found.
pub fn check_sha256(given: &[u8], found: &[u8; 32]) -> Result<(), GatewayError> {
    match given.len() {
        0 => Ok(()),
        32 if given == found => Ok(()),
        32 => Err(GatewayError::invalid("sha256", "the data received has another SHA-256; nothing was stored")),
        other => Err(GatewayError::invalid("sha256", format!("has {other} bytes, a SHA-256 has 32"))),
    }
}
