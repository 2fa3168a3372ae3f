//! A share as bytes and as words.
//!
//! Bytes: format (1, 1), threshold (1), number (1), fingerprint of the set (5), body (32), checksum (4): the
//! first four bytes of the SHA-256 of `kura-shr` and all before it. Words: the same 44 bytes, eleven bits a
//! word, the highest first, by the English list of BIP-39 (2,048 words that differ in their first four
//! letters). 44 bytes are exactly 32 words.
//!
//! A wrong word, or two that changed places, pass the checksum with a probability of 2^-32 at most: if one of
//! the checked words is wrong, the hash would have to come out alike by chance; if only words of the checksum
//! are, it never does.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{CHECKSUM_BYTES, FINGERPRINT_BYTES, FORMAT, HOLDERS_MAX, SHARE_BYTES, Share, ShareError, is_possible};
use crate::seal::{KEY_BYTES, Key};

/// Words of a share.
pub const WORDS_PER_SHARE: usize = 32;

const BITS_PER_WORD: u32 = 11;
/// Longest word of the list, and a blank.
const WORD_BYTES_MAX: usize = 9;
const CHECKED_BYTES: usize = SHARE_BYTES - CHECKSUM_BYTES;

static LIST: LazyLock<Vec<&'static str>> = LazyLock::new(|| include_str!("english.txt").lines().collect());

impl Share {
    /// The share as bytes: what travels to a sealed node.
    pub fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[..3].copy_from_slice(&[FORMAT, self.threshold, self.index]);
        bytes[3..3 + FINGERPRINT_BYTES].copy_from_slice(&self.set);
        bytes[3 + FINGERPRINT_BYTES..CHECKED_BYTES].copy_from_slice(self.body.expose_bytes());
        let checksum = checksum(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum);
        bytes
    }

    /// Reads a share's bytes.
    ///
    /// # Errors
    /// [`ShareError::Form`], [`ShareError::Checksum`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Share, ShareError> {
        let bytes: &[u8; SHARE_BYTES] = bytes.try_into().map_err(|_| ShareError::Form)?;
        if checksum(&bytes[..CHECKED_BYTES]) != bytes[CHECKED_BYTES..] {
            return Err(ShareError::Checksum);
        }
        let [format, threshold, index, ..] = *bytes;
        if format != FORMAT || !is_possible(threshold, HOLDERS_MAX) || !(1..=HOLDERS_MAX).contains(&index) {
            return Err(ShareError::Form);
        }
        let mut set = [0; FINGERPRINT_BYTES];
        set.copy_from_slice(&bytes[3..3 + FINGERPRINT_BYTES]);
        let mut body = [0; KEY_BYTES];
        body.copy_from_slice(&bytes[3 + FINGERPRINT_BYTES..CHECKED_BYTES]);
        Ok(Share { index, threshold, set, body: Key::from_bytes(&mut body) })
    }

    /// The share's words, in order, with a blank between them.
    pub fn to_words(&self) -> Zeroizing<String> {
        let bytes = self.to_bytes();
        // Long enough from the start: growing would leave copies behind.
        let mut words = Zeroizing::new(String::with_capacity(WORDS_PER_SHARE * WORD_BYTES_MAX));
        let (mut held, mut bits) = (0_u32, 0);
        for byte in bytes.iter() {
            held = held << 8 | u32::from(*byte);
            bits += 8;
            if bits >= BITS_PER_WORD {
                bits -= BITS_PER_WORD;
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(LIST[(held >> bits) as usize]);
                held &= (1 << bits) - 1;
            }
        }
        words
    }

    /// Reads a share's words, separated by blanks, in capitals or not.
    ///
    /// # Errors
    /// [`ShareError`]; it says which word is unknown by its place, and repeats none.
    pub fn from_words(text: &str) -> Result<Share, ShareError> {
        let found = text.split_whitespace().count();
        if found != WORDS_PER_SHARE {
            return Err(ShareError::Count { found });
        }
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        let (mut held, mut bits, mut filled) = (0_u32, 0, 0);
        for (at, word) in text.split_whitespace().enumerate() {
            let word = Zeroizing::new(word.to_ascii_lowercase());
            let number = LIST.binary_search(&&word[..]).map_err(|_| ShareError::Word { place: at + 1 })?;
            held = held << BITS_PER_WORD | number as u32;
            bits += BITS_PER_WORD;
            while bits >= 8 {
                bits -= 8;
                bytes[filled] = (held >> bits) as u8;
                filled += 1;
                held &= (1 << bits) - 1;
            }
        }
        Share::from_bytes(&bytes[..])
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash: [u8; 32] = Sha256::new().chain_update(b"kura-shr").chain_update(bytes).finalize().into();
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    short
}
