//! How long certificate files remain valid.

use std::path::Path;

use kura_client::tls::{TlsFileError, certificates, read_bounded};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY_S: i64 = 24 * 60 * 60;

/// The end of a certificate file's validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The earliest end of validity among the file's certificates, in seconds since 1970.
    pub not_after: i64,
    /// Whole days left, rounded down: 0 on the last day, negative once expired.
    pub days_left: i64,
}

/// When the first of a PEM file's certificates expires: a chain ends with its weakest link.
///
/// # Errors
/// [`TlsFileError`] if the file cannot be read or holds no certificate.
pub fn certificate_expiry(path: &Path, now: OffsetDateTime) -> Result<Expiry, TlsFileError> {
    let mut not_after = i64::MAX;
    for der in certificates(path, &read_bounded(path)?)? {
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| TlsFileError::NotPem {
            path: path.to_path_buf(),
            reason: format!("a section is no certificate: {error}"),
        })?;
        not_after = not_after.min(certificate.validity().not_after.timestamp());
    }
    Ok(Expiry { not_after, days_left: not_after.saturating_sub(now.unix_timestamp()).div_euclid(DAY_S) })
}
