//! Digests of the bytes as they pass, with the algorithms that a signature or a token names.

use der::asn1::ObjectIdentifier;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// By its OID (NIST's arc 2.16.840.1.101.3.4.2).
    pub fn of(oid: &ObjectIdentifier) -> Option<DigestAlgorithm> {
        const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
        const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
        const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
        match *oid {
            SHA256 => Some(DigestAlgorithm::Sha256),
            SHA384 => Some(DigestAlgorithm::Sha384),
            SHA512 => Some(DigestAlgorithm::Sha512),
            _ => None,
        }
    }

    /// The digest of bytes at hand.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            DigestAlgorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            DigestAlgorithm::Sha384 => Sha384::digest(bytes).to_vec(),
            DigestAlgorithm::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// Running digests: those that are wanted.
#[derive(Clone, Default)]
pub struct Digests {
    sha256: Option<Sha256>,
    sha384: Option<Sha384>,
    sha512: Option<Sha512>,
}

impl Digests {
    /// Runs this one, too; before any bytes pass.
    pub fn want(&mut self, algorithm: DigestAlgorithm) {
        match algorithm {
            DigestAlgorithm::Sha256 => drop(self.sha256.get_or_insert_default()),
            DigestAlgorithm::Sha384 => drop(self.sha384.get_or_insert_default()),
            DigestAlgorithm::Sha512 => drop(self.sha512.get_or_insert_default()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha384 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha512 {
            hash.update(bytes);
        }
    }

    /// The digest of all that passed; empty, which equals no digest, if it was not wanted.
    pub fn of(&self, algorithm: DigestAlgorithm) -> Vec<u8> {
        let digest = match algorithm {
            DigestAlgorithm::Sha256 => self.sha256.clone().map(|hash| hash.finalize().to_vec()),
            DigestAlgorithm::Sha384 => self.sha384.clone().map(|hash| hash.finalize().to_vec()),
            DigestAlgorithm::Sha512 => self.sha512.clone().map(|hash| hash.finalize().to_vec()),
        };
        digest.unwrap_or_default()
    }
}
