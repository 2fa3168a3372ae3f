//! Blocks: the pieces of at most 1 MiB into which each part of a body is cut, compressed and sealed.
//!
//! Shape of a sealed block, numbers big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 1 | codec: 0 stored as it is, 1 zstd, 2 zstd with a dictionary |
//! | 4 | length of the plaintext, at most 1 MiB |
//! | 4 | version of the data key |
//! | 0 or 32 | SHA-256 of the dictionary (codec 2 only) |
//! | 24 | nonce |
//! | any | ciphertext: as long as the plaintext for codec 0, shorter than it for the others |
//! | 16 | tag |
//!
//! Shape of the associated data: `kura-blk`, then format, codec, length of the plaintext and key
//! version as above, cluster id (16), pseudonym (16), content id (16), part (2), index (4), 1 for the
//! part's last block or else 0, and SHA-256 of the dictionary (32, codec 2 only).
//!
//! Invariants
//! - A block that was moved, replayed elsewhere, reordered or cut, or whose successors were dropped,
//!   does not open.
//! - Opening allocates at most the 1 MiB of a plaintext, however the header was forged, and
//!   decompresses nothing that was not authenticated.
//! - Compression comes before sealing, so a block's length tells how well it compressed. Only text
//!   of one author meets in a block, and the dictionary is public.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zstd::zstd_safe::{CCtx, DCtx};

use super::cipher::{self, NONCE_BYTES, Nonce, TAG_BYTES};
use super::dictionary::{COMPRESSION_LEVEL, Dictionary};
use super::{DoesNotOpen, Key, take};
use crate::id::{ClusterId, ContentId, Pseudonym};

/// Longest plaintext of a block: 1 MiB.
pub const BLOCK_PLAINTEXT_BYTES_MAX: usize = 1 << 20;

/// Longest sealed block.
pub const BLOCK_SEALED_BYTES_MAX: usize = HEADER_BYTES_MAX + BLOCK_PLAINTEXT_BYTES_MAX + TAG_BYTES;

/// Blocks longer than this are compressed without the dictionary: they have enough text of their own.
pub const DICTIONARY_PLAINTEXT_BYTES_MAX: usize = 64 * 1024;

const FORMAT: u8 = 1;
const HEADER_BYTES_MAX: usize = 1 + 1 + 4 + 4 + 32 + NONCE_BYTES;

/// Compression must save a sixteenth, else readers are spared the decompression.
const SAVING_SHIFT: u32 = 4;

/// Where a block belongs. Sealer and opener give the same, or the block does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContext {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The participant.
    pub pseudonym: Pseudonym,
    /// The content under which the block lies.
    pub content_id: ContentId,
    /// The part of the body, from 0.
    pub part: u16,
    /// The block of the part, from 0.
    pub index: u32,
    /// Whether it is the part's last block.
    pub last: bool,
}

/// How a block's plaintext was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Stored,
    /// zstd (RFC 8878), one frame.
    Zstd,
    /// zstd with the dictionary of this SHA-256.
    ZstdDictionary([u8; 32]),
}

impl Codec {
    fn number(self) -> u8 {
        match self {
            Codec::Stored => 0,
            Codec::Zstd => 1,
            Codec::ZstdDictionary(_) => 2,
        }
    }

    fn dictionary(&self) -> &[u8] {
        match self {
            Codec::ZstdDictionary(sha256) => sha256,
            Codec::Stored | Codec::Zstd => &[],
        }
    }
}

/// What a sealed block says in the clear. Not authenticated until the block was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// How the plaintext was encoded.
    pub codec: Codec,
    /// Length of the plaintext, at most [`BLOCK_PLAINTEXT_BYTES_MAX`].
    pub plaintext_bytes: u32,
    /// The version of the data key that sealed it.
    pub key_version: u32,
}

/// A block as it is replicated and stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBlock {
    /// Header, ciphertext, tag: at most [`BLOCK_SEALED_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, for the manifest.
    pub sha256: [u8; 32],
}

impl fmt::Debug for SealedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBlock({} bytes)", self.bytes.len())
    }
}

/// Why a block was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealBlockError {
    /// The plaintext is longer than [`BLOCK_PLAINTEXT_BYTES_MAX`].
    #[error("the block has {length} bytes, the limit is {BLOCK_PLAINTEXT_BYTES_MAX}")]
    Long {
        /// Bytes given.
        length: usize,
    },
}

/// Why a block was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenBlockError {
    /// See [`DoesNotOpen`].
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
    /// The header names a dictionary that this opener was not given ([`peek_header`] tells which).
    #[error("the block names a dictionary that is not loaded")]
    UnknownDictionary,
}

/// Compresses and seals blocks. One for each thread: it keeps a zstd context and a buffer (together
/// up to 2.3 MiB at the default level).
pub struct BlockSealer {
    context: CCtx<'static>,
    level: i32,
    dictionary: Option<Arc<Dictionary>>,
    compressed: Vec<u8>,
}

impl BlockSealer {
    /// A sealer at [`COMPRESSION_LEVEL`], with the dictionary for short blocks if one is given.
    pub fn new(dictionary: Option<Arc<Dictionary>>) -> BlockSealer {
        BlockSealer::at_level(COMPRESSION_LEVEL, dictionary)
    }

    /// A sealer at another zstd level; blocks that use the dictionary have the dictionary's own.
    pub fn at_level(level: i32, dictionary: Option<Arc<Dictionary>>) -> BlockSealer {
        BlockSealer { context: CCtx::create(), level, dictionary, compressed: Vec::new() }
    }

    /// Seals one block under a data key. `nonce` is 24 fresh random bytes.
    ///
    /// What compression does not shorten by a sixteenth is stored as it is.
    pub fn seal(
        &mut self,
        key: &Key,
        key_version: u32,
        context: &BlockContext,
        nonce: &Nonce,
        plaintext: &[u8],
    ) -> Result<SealedBlock, SealBlockError> {
        let plaintext_bytes = u32::try_from(plaintext.len())
            .ok()
            .filter(|_| plaintext.len() <= BLOCK_PLAINTEXT_BYTES_MAX)
            .ok_or(SealBlockError::Long { length: plaintext.len() })?;
        let (codec, body) = self.encode(plaintext);
        let header = BlockHeader { codec, plaintext_bytes, key_version };

        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + body.len() + TAG_BYTES);
        append_header(&mut bytes, &header);
        bytes.extend_from_slice(nonce);
        cipher::append_encrypted(&mut bytes, key, nonce, &associated_data(&header, context), body);
        let sha256 = Sha256::digest(&bytes).into();
        Ok(SealedBlock { bytes, sha256 })
    }

    /// The shortest form of `plaintext` that is worth it.
    fn encode<'a>(&'a mut self, plaintext: &'a [u8]) -> (Codec, &'a [u8]) {
        let dictionary = self.dictionary.as_ref().filter(|_| plaintext.len() <= DICTIONARY_PLAINTEXT_BYTES_MAX);
        let codec = match dictionary {
            Some(dictionary) => Codec::ZstdDictionary(*dictionary.sha256()),
            None => Codec::Zstd,
        };
        // zstd gives up when its output does not fit, and passes over what has no pattern at many
        // times the speed of text: no test of our own is cheaper.
        let saving = (plaintext.len() >> SAVING_SHIFT) + 1 + codec.dictionary().len();
        let room = plaintext.len().saturating_sub(saving);
        if self.compressed.len() < room {
            self.compressed.resize(room, 0);
        }
        let room = &mut self.compressed[..room];
        let written = match dictionary {
            Some(dictionary) => self.context.compress_using_cdict(room, plaintext, dictionary.encoder().as_cdict()),
            None => self.context.compress(room, plaintext, self.level),
        };
        match written {
            Ok(length) => (codec, &self.compressed[..length]),
            Err(_) => (Codec::Stored, plaintext),
        }
    }
}

impl Default for BlockSealer {
    /// Without a dictionary.
    fn default() -> BlockSealer {
        BlockSealer::new(None)
    }
}

/// Opens and decompresses blocks. One for each thread: it keeps a zstd context and a buffer
/// (together up to 1.1 MiB).
pub struct BlockOpener {
    context: DCtx<'static>,
    dictionaries: HashMap<[u8; 32], Arc<Dictionary>>,
    compressed: Vec<u8>,
}

impl BlockOpener {
    /// An opener that knows these dictionaries.
    pub fn new(dictionaries: impl IntoIterator<Item = Arc<Dictionary>>) -> BlockOpener {
        BlockOpener {
            context: DCtx::create(),
            dictionaries: dictionaries.into_iter().map(|dictionary| (*dictionary.sha256(), dictionary)).collect(),
            compressed: Vec::new(),
        }
    }

    /// Opens a sealed block: `key_version` is that of `key`, looked up by [`peek_header`] and held
    /// against the manifest.
    pub fn open(
        &mut self,
        key: &Key,
        key_version: u32,
        context: &BlockContext,
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenBlockError> {
        let (header, nonce, body) = split(sealed).ok_or(DoesNotOpen)?;
        // It stands in the associated data, too; here it only binds the header to it.
        if header.key_version != key_version {
            return Err(DoesNotOpen.into());
        }
        let associated_data = associated_data(&header, context);
        let plaintext_bytes = header.plaintext_bytes as usize;
        let dictionary = match &header.codec {
            Codec::Stored => return Ok(cipher::decrypt(key, &nonce, &associated_data, body)?),
            Codec::Zstd => None,
            Codec::ZstdDictionary(sha256) => {
                Some(self.dictionaries.get(sha256).ok_or(OpenBlockError::UnknownDictionary)?)
            }
        };
        cipher::decrypt_into(&mut self.compressed, key, &nonce, &associated_data, body)?;
        let mut plaintext = Vec::with_capacity(plaintext_bytes);
        match dictionary {
            Some(dictionary) => {
                let decoder = dictionary.decoder().as_ddict();
                self.context.decompress_using_ddict(&mut plaintext, &self.compressed, decoder)
            }
            None => self.context.decompress(&mut plaintext, &self.compressed),
        }
        .map_err(|_| DoesNotOpen)?;
        if plaintext.len() == plaintext_bytes { Ok(plaintext) } else { Err(DoesNotOpen.into()) }
    }
}

impl Default for BlockOpener {
    /// Knows the shipped dictionary, if there is one.
    fn default() -> BlockOpener {
        BlockOpener::new(Dictionary::shipped())
    }
}

/// Reads the header, so that the opener can look up the key and the dictionary.
pub fn peek_header(sealed: &[u8]) -> Result<BlockHeader, DoesNotOpen> {
    split(sealed).map(|(header, _, _)| header).ok_or(DoesNotOpen)
}

/// Header, nonce, and ciphertext with its tag, if their lengths fit together.
fn split(mut sealed: &[u8]) -> Option<(BlockHeader, Nonce, &[u8])> {
    let [format, codec] = take(&mut sealed)?;
    if format != FORMAT {
        return None;
    }
    let plaintext_bytes = u32::from_be_bytes(take(&mut sealed)?);
    let key_version = u32::from_be_bytes(take(&mut sealed)?);
    let codec = match codec {
        0 => Codec::Stored,
        1 => Codec::Zstd,
        2 => Codec::ZstdDictionary(take(&mut sealed)?),
        _ => return None,
    };
    let nonce = take(&mut sealed)?;
    let ciphertext_bytes = sealed.len().checked_sub(TAG_BYTES)?;
    let length = usize::try_from(plaintext_bytes).ok()?;
    let lengths_fit = match codec {
        Codec::Stored => ciphertext_bytes == length,
        Codec::Zstd | Codec::ZstdDictionary(_) => ciphertext_bytes < length,
    };
    (lengths_fit && length <= BLOCK_PLAINTEXT_BYTES_MAX).then_some((
        BlockHeader { codec, plaintext_bytes, key_version },
        nonce,
        sealed,
    ))
}

fn append_header(bytes: &mut Vec<u8>, header: &BlockHeader) {
    bytes.extend_from_slice(&[FORMAT, header.codec.number()]);
    bytes.extend_from_slice(&header.plaintext_bytes.to_be_bytes());
    bytes.extend_from_slice(&header.key_version.to_be_bytes());
    bytes.extend_from_slice(header.codec.dictionary());
}

fn associated_data(header: &BlockHeader, context: &BlockContext) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(105);
    bytes.extend_from_slice(b"kura-blk");
    bytes.extend_from_slice(&[FORMAT, header.codec.number()]);
    bytes.extend_from_slice(&header.plaintext_bytes.to_be_bytes());
    bytes.extend_from_slice(&header.key_version.to_be_bytes());
    bytes.extend_from_slice(&context.cluster_id.0);
    bytes.extend_from_slice(&context.pseudonym.0);
    bytes.extend_from_slice(&context.content_id.0);
    bytes.extend_from_slice(&context.part.to_be_bytes());
    bytes.extend_from_slice(&context.index.to_be_bytes());
    bytes.push(context.last.into());
    bytes.extend_from_slice(header.codec.dictionary());
    bytes
}

#[cfg(test)]
mod tests;
