//! The recovery CA: made with the cluster, its certificate trusted from the first day, its private key wrapped
//! by the root key. Whoever restores the root key from shares can open it, and then make certificates for
//! nodes and people, when the prefecture's CA is lost.
//!
//! Its key is a P-256 scalar, so that it is wrapped like any other key of 32 bytes.

use kura_cluster::seal::Key;
use p256::pkcs8::EncodePrivateKey;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;

use super::authority::{Authority, AuthorityError, self_signed};
use super::identity::check_cluster;

/// How long its certificate is valid, in days: longer than anybody's memory of where the first one lies.
const DAYS: u32 = 18_262;

/// Why a recovery CA cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryAuthorityError {
    /// The bytes are no private key.
    #[error("the recovery CA's private key is malformed")]
    Key,
    /// Certificate and key are not one CA's.
    #[error("the recovery CA's certificate and private key do not fit: {0}")]
    Parts(String),
    /// See [`AuthorityError`].
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Authority {
    /// Makes the certificate of a recovery CA over a private key.
    ///
    /// # Errors
    /// [`RecoveryAuthorityError::Key`] for one in some four thousand million drawn keys: draw another.
    pub fn for_recovery(
        key: &Key,
        cluster: &str,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, RecoveryAuthorityError> {
        let cluster = Some(cluster).filter(|name| check_cluster(name).is_ok());
        Ok(self_signed("Kura recovery CA", cluster, DAYS, now, &key_pair(key)?)?.into())
    }

    /// Opens a recovery CA by its certificate and its private key.
    ///
    /// # Errors
    /// [`RecoveryAuthorityError`].
    pub fn of_recovery(certificate: CertificateDer<'static>, key: &Key) -> Result<Authority, RecoveryAuthorityError> {
        Authority::from_parts(certificate, key_pair(key)?).map_err(RecoveryAuthorityError::Parts)
    }
}

/// A certificate as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn key_pair(key: &Key) -> Result<KeyPair, RecoveryAuthorityError> {
    let secret = p256::SecretKey::from_slice(key.expose_bytes()).map_err(|_| RecoveryAuthorityError::Key)?;
    let document = secret.to_pkcs8_der().map_err(|_| RecoveryAuthorityError::Key)?;
    let der = PrivatePkcs8KeyDer::from(document.as_bytes());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| RecoveryAuthorityError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn the_ca_opens_with_its_own_key_only() {
        let (own, other) = (random::key(), random::key());
        let now = OffsetDateTime::now_utc();
        let certificate = Authority::for_recovery(&own, "kita", now).unwrap();
        let authority = Authority::of_recovery(certificate.clone(), &own).unwrap();
        assert_eq!(authority.cluster(), Some("kita"));
        assert!(authority.not_after() > now.unix_timestamp() + 49 * 365 * 86_400);
        assert!(matches!(Authority::of_recovery(certificate, &other), Err(RecoveryAuthorityError::Parts(_))));
        let zero = Key::from_bytes(&mut [0; 32]);
        assert!(matches!(Authority::for_recovery(&zero, "kita", now), Err(RecoveryAuthorityError::Key)));
    }
}
