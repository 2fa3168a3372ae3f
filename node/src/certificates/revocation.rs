//! Certificate revocation lists (RFC 5280, section 5) as files.
//!
//! Invariants:
//! - A list counts only if a CA of the bundle signed it; anything else is an error, never skipped.
//! - At most one list for each CA: TLS would look into the first one only.
//! - A list past its `nextUpdate` stays in force, with a warning: what it revokes stays revoked, and a
//!   forgotten file does not stop the cluster. A CA without a list revokes nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kura_client::tls::{TlsFileError, read_bounded};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::identity::Serial;

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] TlsFileError),
    /// The file holds no revocation list, or a damaged one.
    #[error("{path} is not a revocation list in PEM")]
    NotAList {
        /// The file.
        path: PathBuf,
    },
    /// None of the CAs has the name of the list's issuer.
    #[error("the revocation list {path} is by a CA that is not in the bundle: add the CA, or remove the list")]
    UnknownAuthority {
        /// The file.
        path: PathBuf,
    },
    /// The signature is wrong.
    #[error("the signature of the revocation list {path} is not its CA's")]
    Signature {
        /// The file.
        path: PathBuf,
    },
    /// Two lists of one CA.
    #[error("{path} is a second revocation list by the same CA: keep the newer one only")]
    SecondList {
        /// The file.
        path: PathBuf,
    },
}

/// One entry of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The certificate's serial number: big-endian, without leading zero bytes, 1 to 20 bytes.
    pub number: Vec<u8>,
    /// When it was revoked, in seconds since 1970.
    pub revoked_at: i64,
}

/// The entries of the first revocation list in a PEM file, in its order. The signature is not checked.
///
/// # Errors
/// [`RevocationError::Read`] or [`RevocationError::NotAList`].
pub fn revocations(path: &Path) -> Result<Vec<Revocation>, RevocationError> {
    let der = read_list(path)?;
    Ok(entries(&parse(path, &der)?))
}

/// The entries of a file's list, if `authority` signed it.
pub(super) fn own_revocations(path: &Path, authority: &CertificateDer<'_>) -> Result<Vec<Revocation>, RevocationError> {
    let der = read_list(path)?;
    let list = parse(path, &der)?;
    check_signature(path, &list, std::slice::from_ref(authority))?;
    Ok(entries(&list))
}

/// What several checked lists revoke together.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    pub(super) serials: HashSet<Serial>,
    /// The earliest `nextUpdate`, in seconds since 1970.
    pub(super) next_update: Option<i64>,
}

impl Revoked {
    pub(super) fn check(
        lists: &[(PathBuf, CertificateRevocationListDer<'static>)],
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, RevocationError> {
        let mut revoked = Self::default();
        let mut issuers = HashSet::new();
        for (path, der) in lists {
            let list = parse(path, der)?;
            check_signature(path, &list, authorities)?;
            if !issuers.insert(list.issuer().as_raw().to_vec()) {
                return Err(RevocationError::SecondList { path: path.clone() });
            }
            for entry in list.iter_revoked_certificates() {
                let serial = Serial::new(list.issuer(), entry.raw_serial())
                    .map_err(|_| RevocationError::NotAList { path: path.clone() })?;
                revoked.serials.insert(serial);
            }
            let next_update = list.next_update().map(|time| time.timestamp());
            revoked.next_update = revoked.next_update.into_iter().chain(next_update).min();
        }
        Ok(revoked)
    }
}

fn read_list(path: &Path) -> Result<CertificateRevocationListDer<'static>, RevocationError> {
    CertificateRevocationListDer::from_pem_slice(&read_bounded(path)?)
        .map_err(|_| RevocationError::NotAList { path: path.to_path_buf() })
}

fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<CertificateRevocationList<'a>, RevocationError> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        _ => Err(RevocationError::NotAList { path: path.to_path_buf() }),
    }
}

fn entries(list: &CertificateRevocationList<'_>) -> Vec<Revocation> {
    let without_zeros = |raw: &[u8]| raw[raw.iter().take_while(|byte| **byte == 0).count()..].to_vec();
    list.iter_revoked_certificates()
        .map(|entry| Revocation {
            number: without_zeros(entry.raw_serial()),
            revoked_at: entry.revocation_date.timestamp(),
        })
        .collect()
}

fn check_signature(
    path: &Path,
    list: &CertificateRevocationList<'_>,
    authorities: &[CertificateDer<'_>],
) -> Result<(), RevocationError> {
    let mut named = false;
    for der in authorities {
        let Ok((_, authority)) = X509Certificate::from_der(der) else {
            continue;
        };
        if authority.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        if list.verify_signature(authority.public_key()).is_ok() {
            return Ok(());
        }
        named = true;
    }
    let path = path.to_path_buf();
    Err(if named { RevocationError::Signature { path } } else { RevocationError::UnknownAuthority { path } })
}
