//! Authorities whose certificates are trusted for signatures, and chains to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cms::cert::x509::ext::pkix::KeyUsage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, RequiredEkuNotFoundContext,
    anchor_from_trusted_cert,
};

use super::Wrong;
use super::signed_data::Signed;

/// Why a file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It cannot be read, or is not PEM.
    #[error("signatures.ca {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// It holds no certificate.
    #[error("signatures.ca {path}: holds no certificate")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// One of its certificates cannot be an authority's.
    #[error("signatures.ca {path}: certificate {place}: {source}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Which certificate, from 1.
        place: usize,
        /// What is wrong.
        source: Error,
    },
}

/// Trusted authorities.
#[derive(Debug)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

/// What a certificate must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Signing documents.
    Signing,
    /// Timestamping (RFC 3161 §2.3).
    Timestamping,
}

impl Authorities {
    /// From a PEM file.
    pub fn load(path: &Path) -> Result<Authorities, AuthoritiesError> {
        let read = |source| AuthoritiesError::Read { path: path.to_owned(), source };
        let certificates = CertificateDer::pem_file_iter(path).map_err(read)?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(read)?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty { path: path.to_owned() });
        }
        Authorities::of(&certificates).map_err(|(place, source)| AuthoritiesError::Certificate {
            path: path.to_owned(),
            place,
            source,
        })
    }

    /// From certificates; the place (from 1) of one that is none.
    pub fn of(certificates: &[CertificateDer<'_>]) -> Result<Authorities, (usize, Error)> {
        let anchor = |(place, certificate)| match anchor_from_trusted_cert(certificate) {
            Ok(anchor) => Ok(anchor.to_owned()),
            Err(source) => Err((place, source)),
        };
        Ok(Authorities((1..).zip(certificates).map(anchor).collect::<Result<_, _>>()?))
    }

    /// Whether a signer's certificate leads to one of these, was valid at that time and is for this use.
    pub fn verify(&self, signed: &Signed, at_ms: u64, usage: Usage) -> Result<(), Wrong> {
        let signer = signed.signer.as_ref().ok_or(Wrong::untrusted("does not hold the signer's certificate"))?;
        let (parsed, encoded) = signer;
        let for_signing = match parsed.tbs_certificate().get_extension::<KeyUsage>() {
            Ok(Some((_, usage))) => usage.digital_signature() || usage.non_repudiation(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !for_signing {
            return Err(Wrong::untrusted("is by a certificate that is not for signing"));
        }
        let unknown = |_| Wrong::unsupported("has a signer's certificate of an unknown form");
        let certificate = EndEntityCert::try_from(encoded).map_err(unknown)?;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path = certificate.verify_for_usage(algorithms, &self.0, &signed.others, time, usage, None, None);
        path.map(drop).map_err(|error| {
            Wrong::untrusted(match error {
                Error::CertExpired { .. } => "is by a certificate that had expired",
                Error::CertNotValidYet { .. } => "is by a certificate that was not valid yet",
                Error::UnknownIssuer => "is by a certificate that leads to no configured authority",
                Error::RequiredEkuNotFoundContext(_) => "is by a certificate for another use",
                _ => "is by a certificate whose chain does not verify",
            })
        })
    }
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        // emailProtection; document signing (RFC 9336); any. Timestamping must be said.
        const SIGNING: [&[usize]; 3] =
            [&[1, 3, 6, 1, 5, 5, 7, 3, 4], &[1, 3, 6, 1, 5, 5, 7, 3, 36], &[2, 5, 29, 37, 0]];
        const TIMESTAMPING: [&[usize]; 1] = [&[1, 3, 6, 1, 5, 5, 7, 3, 8]];
        let (known, silence): (&[&[usize]], bool) = match self {
            Usage::Signing => (&SIGNING, true),
            Usage::Timestamping => (&TIMESTAMPING, false),
        };
        let mut present = Vec::new();
        for purpose in purposes {
            present.push(purpose?.to_decoded_oid());
        }
        match present.iter().any(|purpose| known.contains(&&purpose[..])) || (silence && present.is_empty()) {
            true => Ok(()),
            false => {
                let required = webpki::KeyUsage::required(&[]);
                Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
            }
        }
    }
}
