//! Checking a signature that came with a record: CMS SignedData (RFC 5652) over a certificate, detached, in
//! DER, and a timestamp token (RFC 3161). Pure functions over bytes, hashes, authorities and a time.
//!
//! What is checked
//! - The digest that was signed is that of the exact bytes: of all parts of the body, joined.
//! - The signature is by the certificate that it names, and that leads to a configured authority, was valid,
//!   and is for signing.
//! - The token's digest is that of the same bytes, or of the signature; it is signed by a certificate for
//!   timestamping that leads to a configured authority.
//!
//! Invariants
//! - Nothing is refused for what is found here: the store keeps what it received, and says what it found.
//! - Memory is constant: the bytes are only hashed as they pass, with the algorithms that the signature names.
//! - A certificate counts as valid at the token's time only if the token is over the signature: one over the
//!   bytes alone does not tell when they were signed.
//!
//! What is not checked: revocation (nothing is fetched); signatures of more than one signer, with RSA-PSS,
//! without signed attributes, or in BER: these are *unsupported*.

mod digests;
mod signed_data;
mod timestamp;
mod trust;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::SignatureCheck;
use kura_cluster::word::SignatureResult;

#[cfg(test)]
use digests::DigestAlgorithm;
use digests::Digests;
use signed_data::Signed;
use timestamp::Token;
pub use trust::AuthoritiesError;
use trust::{Authorities, Usage};

/// What is wrong, in short and in words for people. The words hold nothing of what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong {
    result: SignatureResult,
    why: &'static str,
}

impl Wrong {
    const fn unsupported(why: &'static str) -> Wrong {
        Wrong { result: SignatureResult::Unsupported, why }
    }

    const fn invalid(why: &'static str) -> Wrong {
        Wrong { result: SignatureResult::Invalid, why }
    }

    const fn untrusted(why: &'static str) -> Wrong {
        Wrong { result: SignatureResult::Untrusted, why }
    }
}

/// Checks signatures against configured authorities; without any it checks nothing.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    authorities: Option<Arc<Authorities>>,
    /// How many checks were begun.
    #[cfg(test)]
    pub begun: Arc<std::sync::atomic::AtomicUsize>,
}

impl Checker {
    /// Against the authorities in a PEM file.
    ///
    /// # Errors
    /// [`AuthoritiesError`] names the file.
    pub fn load(path: &Path) -> Result<Checker, AuthoritiesError> {
        Authorities::load(path).map(Checker::against)
    }

    fn against(authorities: Authorities) -> Checker {
        Checker {
            authorities: Some(Arc::new(authorities)),
            #[cfg(test)]
            begun: Arc::default(),
        }
    }

    /// Begins to check a signature and a timestamp token, either of which may be empty. None if there is
    /// nothing to check, or nothing to check it against.
    pub fn begin(&self, signature: &Bytes, timestamp_token: &Bytes) -> Option<Check> {
        let authorities = self.authorities.clone()?;
        if signature.is_empty() && timestamp_token.is_empty() {
            return None;
        }
        #[cfg(test)]
        self.begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let signature = (!signature.is_empty()).then(|| Signed::detached(signature));
        let token = (!timestamp_token.is_empty()).then(|| Token::parse(timestamp_token));
        let mut digests = Digests::default();
        if let Some(Ok(signed)) = &signature {
            digests.want(signed.digest);
        }
        if let Some(Ok(token)) = &token {
            digests.want(token.imprint.0);
        }
        Some(Check { authorities, signature, token, digests })
    }
}

/// A check under way: the bytes pass by.
#[derive(Clone)]
pub struct Check {
    authorities: Arc<Authorities>,
    signature: Option<Result<Signed, Wrong>>,
    token: Option<Result<Token, Wrong>>,
    digests: Digests,
}

impl Check {
    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digests.update(bytes);
    }

    /// What was found, once all bytes have passed.
    pub fn finish(self, now_ms: u64) -> SignatureCheck {
        let Check { authorities, signature, token, digests } = self;
        let mut check = SignatureCheck { at_ms: now_ms, ..SignatureCheck::default() };
        let signed = signature.as_ref().and_then(|signed| signed.as_ref().ok());
        let mut valid_at_ms = now_ms;
        match token.map(|token| token.and_then(|token| token.verify(&authorities, &digests, signed))) {
            None => {}
            Some(Err(wrong)) => check.timestamp_why = wrong.why.into(),
            Some(Ok(found)) => {
                check.timestamp_ms = found.at_ms;
                if found.over_signature {
                    valid_at_ms = found.at_ms;
                }
            }
        }
        let Some(signature) = signature else { return check };
        let found = signature.and_then(|signed| {
            check.signer_sha256 = signed.signer_sha256();
            signed.verify(&digests)?;
            authorities.verify(&signed, valid_at_ms, Usage::Signing)
        });
        let result = match found {
            Ok(()) => SignatureResult::Valid,
            Err(wrong) => {
                check.why = wrong.why.into();
                wrong.result
            }
        };
        check.result = result.number();
        check
    }
}
