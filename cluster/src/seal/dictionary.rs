//! zstd dictionaries: the text that small documents share, so that each need not carry it.
//!
//! Invariants
//! - A dictionary is named by its SHA-256, in full, in every block that it compressed.
//! - Dictionaries are trained on generated samples only, never on stored records: a dictionary is
//!   made of its samples' text, and it is stored and shipped in the clear.
//! - A loaded dictionary is digested once, for compressing and for decompressing; blocks reuse that.

use std::fmt;
use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

/// The compression level that is used unless another is asked for.
pub const COMPRESSION_LEVEL: i32 = 3;

/// Longest dictionary that is loaded.
pub const DICTIONARY_BYTES_MAX: usize = 128 * 1024;

/// The first bytes of a trained dictionary (RFC 8878 §5).
const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// The dictionary that ships with this version, if there is one.
const SHIPPED_BYTES: Option<&[u8]> = Some(include_bytes!("../../dictionaries/records-1.zdict"));

/// A dictionary ready for use, shared by sealers and openers.
pub struct Dictionary {
    sha256: [u8; 32],
    bytes: Vec<u8>,
    encoder: EncoderDictionary<'static>,
    decoder: DecoderDictionary<'static>,
}

/// Why a dictionary was not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadDictionaryError {
    /// It is longer than [`DICTIONARY_BYTES_MAX`].
    #[error("the dictionary has {length} bytes, the limit is {DICTIONARY_BYTES_MAX}")]
    Long {
        /// Bytes given.
        length: usize,
    },
    /// It is not a trained zstd dictionary (RFC 8878 §5), or it is damaged.
    #[error("not a zstd dictionary")]
    NotADictionary,
}

/// Why no dictionary came out of the samples: there must be enough of them (some hundreds, together
/// many times the dictionary), and they must have something in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zstd could not train a dictionary on these samples: {reason}")]
pub struct TrainDictionaryError {
    /// What zstd says.
    pub reason: String,
}

impl Dictionary {
    /// Loads a trained dictionary for [`COMPRESSION_LEVEL`].
    pub fn load(bytes: &[u8]) -> Result<Dictionary, LoadDictionaryError> {
        Dictionary::load_at_level(bytes, COMPRESSION_LEVEL)
    }

    /// Loads a trained dictionary; blocks that use it are compressed at `level`.
    pub fn load_at_level(bytes: &[u8], level: i32) -> Result<Dictionary, LoadDictionaryError> {
        if bytes.len() > DICTIONARY_BYTES_MAX {
            return Err(LoadDictionaryError::Long { length: bytes.len() });
        }
        // zstd would take any bytes as "raw content"; here they can only be a mistake.
        if !bytes.starts_with(&MAGIC) || bytes.len() < 8 {
            return Err(LoadDictionaryError::NotADictionary);
        }
        Ok(Dictionary {
            sha256: Sha256::digest(bytes).into(),
            bytes: bytes.to_vec(),
            encoder: EncoderDictionary::try_copy(bytes, level).map_err(|_| LoadDictionaryError::NotADictionary)?,
            decoder: DecoderDictionary::try_copy(bytes).map_err(|_| LoadDictionaryError::NotADictionary)?,
        })
    }

    /// The dictionary that ships with this version, loaded once.
    pub fn shipped() -> Option<Arc<Dictionary>> {
        static SHIPPED: LazyLock<Option<Arc<Dictionary>>> = LazyLock::new(|| {
            SHIPPED_BYTES.map(|bytes| Arc::new(Dictionary::load(bytes).expect("a test loads the shipped dictionary")))
        });
        SHIPPED.clone()
    }

    /// Its name.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The dictionary itself, as it goes into bases and exports.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn encoder(&self) -> &EncoderDictionary<'static> {
        &self.encoder
    }

    pub(super) fn decoder(&self) -> &DecoderDictionary<'static> {
        &self.decoder
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Trains a dictionary of at most `bytes_max` on generated samples, for shipping. Used offline.
pub fn train(samples: &[Vec<u8>], bytes_max: usize) -> Result<Vec<u8>, TrainDictionaryError> {
    zstd::dict::from_samples(samples, bytes_max).map_err(|error| TrainDictionaryError { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{document, noise};
    use super::*;

    fn trained() -> Vec<u8> {
        let samples: Vec<Vec<u8>> = (0..300).map(document).collect();
        train(&samples, 8 * 1024).unwrap()
    }

    #[test]
    fn training_repeats_and_loads() {
        let bytes = trained();
        assert!(bytes.len() <= 8 * 1024);
        assert_eq!(bytes, trained());
        let dictionary = Dictionary::load(&bytes).unwrap();
        assert_eq!(dictionary.bytes(), bytes);
        assert_eq!(dictionary.sha256().as_slice(), Sha256::digest(&bytes).as_slice());
        assert!(!format!("{dictionary:?}").contains("resource"));
    }

    #[test]
    fn too_few_samples_train_nothing() {
        assert!(train(&[], 8 * 1024).is_err());
        assert!(train(&[b"one".to_vec()], 8 * 1024).is_err());
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for bytes in [vec![], noise(1000, 1), document(1), MAGIC.to_vec(), [&MAGIC[..], &noise(500, 2)].concat()] {
            assert_eq!(Dictionary::load(&bytes).unwrap_err(), LoadDictionaryError::NotADictionary);
        }
        let length = DICTIONARY_BYTES_MAX + 1;
        assert_eq!(Dictionary::load(&vec![0; length]).unwrap_err(), LoadDictionaryError::Long { length });
    }

    #[test]
    fn the_shipped_dictionary_loads() {
        assert_eq!(Dictionary::shipped().is_some(), SHIPPED_BYTES.is_some());
    }
}
