//! Statements with the signature of a member's key: the form that heads and manifests share.
//!
//! The key is the one of the member's certificate. ECDSA over P-256 with SHA-256 (signature in DER, RFC 3279 §2.2.3) and
//! Ed25519 (RFC 8032) are known. Every kind of statement begins with a tag of its own, and none with the 64 spaces of
//! TLS 1.3 (RFC 8446 §4.4.3), so that none can stand in for another.

use bytes::Bytes;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::DecodePublicKey as _;
use prost::Message;

const FORMAT: u32 = 1;

/// Why bytes are no signed statement, or one proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedError {
    /// Not of a known form.
    Form,
    /// The key is neither ECDSA over P-256 nor Ed25519.
    Kind,
    /// The signature does not fit.
    Signature,
}

/// A statement, the key (SubjectPublicKeyInfo, DER) and its signature over the statement, as they travel and are kept.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Signed {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub statement: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub public_key: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub signature: Bytes,
}

impl Signed {
    /// Encodes a signed statement.
    pub fn encoded(statement: Vec<u8>, public_key: &Bytes, signature: &Bytes) -> Vec<u8> {
        let (public_key, signature) = (public_key.clone(), signature.clone());
        Signed { format: FORMAT, statement: statement.into(), public_key, signature }.encode_to_vec()
    }

    /// Reads one of at most `bytes_max` bytes. Says nothing of the signature: see [`check`].
    pub fn read(bytes: &[u8], bytes_max: usize) -> Result<Signed, SignedError> {
        if bytes.len() > bytes_max {
            return Err(SignedError::Form);
        }
        let signed = Signed::decode(bytes).map_err(|_| SignedError::Form)?;
        if signed.format == FORMAT { Ok(signed) } else { Err(SignedError::Form) }
    }
}

/// Whether a key has signed a statement. Whose key that is, is the caller's to ask.
pub(crate) fn check(public_key: &[u8], statement: &[u8], signature: &[u8]) -> Result<(), SignedError> {
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(public_key) {
        let signature = p256::ecdsa::DerSignature::from_bytes(signature).map_err(|_| SignedError::Signature)?;
        return key.verify(statement, &signature).map_err(|_| SignedError::Signature);
    }
    let key = ed25519_dalek::VerifyingKey::from_public_key_der(public_key).map_err(|_| SignedError::Kind)?;
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignedError::Signature)?;
    key.verify_strict(statement, &signature).map_err(|_| SignedError::Signature)
}
