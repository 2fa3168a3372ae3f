//! Certificates that were refused, so that failed authentications can be journalled.
//!
//! A refusal is noted wherever a certificate was read: by the verifier during the handshake, right after
//! it, or at a request on an open connection. What fails before (no TLS, no certificate) names nobody.
//!
//! Invariants
//! - Noting never waits and never fails: beyond [`WAITING_MAX`] refusals that nobody has taken yet, further
//!   ones are only counted ([`super::TlsStatus::refused_connections`]).
//! - Whoever shows a certificate in a handshake that is refused has not proved to hold its key: the name is
//!   the certificate's claim, not an identity.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::mpsc;

use super::identity::{Identity, Role};

/// Refusals that wait to be taken.
pub const WAITING_MAX: usize = 256;

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its validity has ended.
    Expired,
    /// Its validity has not begun.
    NotYetValid,
    /// It is on a revocation list.
    Revoked,
    /// None of our CAs signed it.
    UnknownAuthority,
    /// Its role may not do what was asked for.
    Role,
    /// Anything else that the verifier found.
    Unusable,
}

impl Why {
    /// The words in the journal.
    pub fn words(self) -> &'static str {
        match self {
            Self::Expired => "certificate expired",
            Self::NotYetValid => "certificate not valid yet",
            Self::Revoked => "certificate revoked",
            Self::UnknownAuthority => "certificate of an unknown authority",
            Self::Role => "certificate's role may not do this",
            Self::Unusable => "certificate not usable",
        }
    }
}

impl From<&rustls::Error> for Why {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::Revoked => Self::Revoked,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                _ => Self::Unusable,
            },
            _ => Self::Unusable,
        }
    }
}

/// A certificate that was refused, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// The role that it claims.
    pub role: Role,
    /// The name that it claims.
    pub name: String,
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// Why.
    pub why: Why,
}

/// Where refusals are noted and taken. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Refusals {
    noted: mpsc::Sender<RefusedCertificate>,
    waiting: Arc<Mutex<Option<mpsc::Receiver<RefusedCertificate>>>>,
}

impl Default for Refusals {
    fn default() -> Self {
        let (noted, waiting) = mpsc::channel(WAITING_MAX);
        Self { noted, waiting: Arc::new(Mutex::new(Some(waiting))) }
    }
}

impl Refusals {
    /// Notes a refusal.
    pub fn note(&self, identity: &Identity, why: Why) {
        let refused = RefusedCertificate {
            role: identity.role,
            name: identity.name.clone(),
            fingerprint: identity.fingerprint,
            why,
        };
        // Full: whoever floods us is counted, not written down one by one.
        let _ = self.noted.try_send(refused);
    }

    /// What is noted from now on, and what waits. There is one taker; whoever comes later gets nothing.
    pub fn take(&self) -> Option<mpsc::Receiver<RefusedCertificate>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A verifier that judges as another one does, and notes whom it refuses.
#[derive(Debug)]
pub(super) struct Noting {
    pub(super) judge: Arc<dyn ClientCertVerifier>,
    pub(super) refusals: Refusals,
}

impl ClientCertVerifier for Noting {
    fn offer_client_auth(&self) -> bool {
        self.judge.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.judge.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.judge.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            if let Ok(identity) = Identity::from_der(end_entity) {
                self.refusals.note(&identity, Why::from(error));
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
