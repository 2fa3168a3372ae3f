//! Signing heads, and an archive's manifests, with the key of the node's certificate.
//!
//! A node has one identity key, the one that was approved and that stands in the membership. Its heads
//! are signed with that, so that nothing else has to be made, approved, kept and renewed
//! (docs/decisions/0014).

use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::archive::{Manifest, SignedManifest};
use kura_cluster::head::{Head, SignedHead};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};

/// The kinds of signature that [`SignedHead::verify`] knows.
const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

/// See the module.
#[derive(Debug)]
pub struct HeadSigner {
    key: Arc<dyn SigningKey>,
    public_key: Bytes,
}

impl HeadSigner {
    /// With the private key of a certificate; `None` if its kind signs no heads (RSA, P-384).
    pub fn new(private_key: &PrivateKeyDer<'_>) -> Option<HeadSigner> {
        let key = any_supported_type(private_key).ok()?;
        key.choose_scheme(&SCHEMES)?;
        let public_key = Bytes::copy_from_slice(key.public_key()?.as_ref());
        Some(HeadSigner { key, public_key })
    }

    /// Signs a head; `None` if the system has no randomness, which ECDSA needs.
    pub fn sign(&self, head: Head) -> Option<SignedHead> {
        let signature = self.sign_statement(&head.statement())?;
        Some(SignedHead { head, public_key: self.public_key.clone(), signature })
    }

    /// Signs an archive's manifest; `None` as [`HeadSigner::sign`].
    pub fn sign_manifest(&self, manifest: Manifest) -> Option<SignedManifest> {
        let signature = self.sign_statement(&manifest.statement())?;
        Some(SignedManifest { manifest, public_key: self.public_key.clone(), signature })
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo), as it stands in the membership.
    pub fn key_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.public_key).into()
    }

    fn sign_statement(&self, statement: &[u8]) -> Option<Bytes> {
        self.key.choose_scheme(&SCHEMES)?.sign(statement).ok().map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use kura_cluster::ClusterId;
    use kura_cluster::apply::Summary;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn signer(pair: &KeyPair) -> Option<HeadSigner> {
        HeadSigner::new(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap())
    }

    #[test]
    fn what_a_certificates_key_signs_its_fingerprint_verifies() {
        let head = Head::of(ClusterId([1; 16]), 3, &Summary::default());
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let params = {
                let mut params = rcgen::CertificateParams::default();
                params.distinguished_name.push(rcgen::DnType::CommonName, "n1");
                params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "voter");
                params
            };
            let certificate = params.self_signed(&pair).unwrap();
            let identity = crate::certificates::Identity::from_der(certificate.der()).unwrap();
            let signed = signer(&pair).unwrap().sign(head.clone()).unwrap();
            assert_eq!(signed.verify(&identity.key_sha256), Ok(()));
        }
        assert!(signer(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()).is_none());
    }
}
