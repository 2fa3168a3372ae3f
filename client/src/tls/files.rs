//! The PEM files that a TLS endpoint works with, read and parsed but not yet judged.
//!
//! Both ends use it: an application server and a node dialling its peers through [`super::ClientTls`],
//! a node's own port through the node's counterpart.
//!
//! Invariants:
//! - Every error names the file that it is about.
//! - Change is noticed by content: the digest covers every byte of every file, so a replacement
//!   with the same length within one tick of the file system's clock is still seen.
//! - The text of a private key is overwritten once parsed, and never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// The largest PEM file that is read, in bytes. A revocation list of 100,000 entries takes about 6 MB.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where the TLS files of one endpoint lie. All are PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// This endpoint's certificate, followed by intermediates if there are any.
    pub certificate: PathBuf,
    /// The private key of the first certificate (PKCS#8, SEC1 or PKCS#1).
    pub private_key: PathBuf,
    /// The bundle of CA certificates, any of which may have signed a peer's certificate.
    pub authorities: PathBuf,
    /// One more bundle, whose CAs count as those of the first; one that is not there is no error. A member's
    /// own copy of its cluster's recovery CA.
    pub authorities_more: Option<PathBuf>,
    /// Certificate revocation lists; may be empty. A file that is named must exist.
    pub revocation_lists: Vec<PathBuf>,
}

/// What went wrong with one of the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes, which no PEM file for TLS should be")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not PEM.
    #[error("{path} is not valid PEM: {reason}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What the parser met; never a part of a private key.
        reason: String,
    },
    /// The file is PEM but holds nothing of the expected kind.
    #[error("{path} holds no {expected}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for, in words.
        expected: &'static str,
    },
    /// A certificate of the CA bundle cannot serve as a CA.
    #[error("certificate {position} in the CA bundle {path} is not usable: {source}")]
    Authority {
        /// The bundle.
        path: PathBuf,
        /// Its place in the file, from 1.
        position: usize,
        /// Why.
        source: rustls::Error,
    },
    /// A revocation list cannot be used.
    #[error("a revocation list is not usable: {reason}")]
    RevocationList {
        /// Why.
        reason: String,
    },
    /// Certificate and private key do not fit, or one of them is of an unsupported kind.
    #[error("{certificate} and {private_key} cannot be used together: {source}")]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The private key file.
        private_key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Bytes that are overwritten when dropped.
struct SecretBytes(Vec<u8>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from dropping the writes above as dead.
        std::hint::black_box(&self.0);
    }
}

/// The bytes of [`TlsFiles`] as read at one moment.
pub struct TlsContents {
    files: TlsFiles,
    certificate: Vec<u8>,
    private_key: SecretBytes,
    authorities: Vec<u8>,
    authorities_more: Vec<u8>,
    revocation_lists: Vec<Vec<u8>>,
}

/// Parsed TLS files.
pub struct TlsMaterial {
    /// The endpoint's certificate first, then intermediates; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of `chain[0]`.
    pub private_key: PrivateKeyDer<'static>,
    /// The CA certificates; never empty.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Each revocation list with the file that it came from.
    pub revocation_lists: Vec<(PathBuf, CertificateRevocationListDer<'static>)>,
}

impl fmt::Debug for TlsContents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsContents").field("files", &self.files).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsMaterial")
            .field("certificates", &self.chain.len())
            .field("authorities", &self.authorities.len())
            .field("revocation_lists", &self.revocation_lists.len())
            .finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// Reads all files. Blocking: a few small files.
    ///
    /// # Errors
    /// [`TlsFileError::Read`] or [`TlsFileError::TooLarge`].
    pub fn read(&self) -> Result<TlsContents, TlsFileError> {
        Ok(TlsContents {
            certificate: read_bounded(&self.certificate)?,
            private_key: SecretBytes(read_bounded(&self.private_key)?),
            authorities: read_bounded(&self.authorities)?,
            authorities_more: self.authorities_more.as_deref().map_or(Ok(Vec::new()), read_if_there)?,
            revocation_lists: self.revocation_lists.iter().map(|path| read_bounded(path)).collect::<Result<_, _>>()?,
            files: self.clone(),
        })
    }
}

impl TlsContents {
    /// SHA-256 over the lengths and bytes of all files, in the order of [`TlsFiles`].
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let fixed = [&self.certificate, &self.private_key.0, &self.authorities, &self.authorities_more];
        for bytes in fixed.into_iter().chain(&self.revocation_lists) {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    /// Parses the PEM sections.
    ///
    /// # Errors
    /// [`TlsFileError::NotPem`] or [`TlsFileError::Missing`].
    pub fn parse(&self) -> Result<TlsMaterial, TlsFileError> {
        let files = &self.files;
        let mut authorities = certificates(&files.authorities, &self.authorities)?;
        if let (Some(path), false) = (&files.authorities_more, self.authorities_more.is_empty()) {
            let more = certificates(path, &self.authorities_more)?;
            authorities.extend(more.into_iter().filter(|one| !authorities.contains(one)).collect::<Vec<_>>());
        }
        let mut revocation_lists = Vec::new();
        for (path, bytes) in files.revocation_lists.iter().zip(&self.revocation_lists) {
            let lists: Vec<CertificateRevocationListDer<'static>> =
                sections(path, bytes, "revocation list (`BEGIN X509 CRL`)")?;
            revocation_lists.extend(lists.into_iter().map(|list| (path.clone(), list)));
        }
        Ok(TlsMaterial {
            chain: certificates(&files.certificate, &self.certificate)?,
            private_key: PrivateKeyDer::from_pem_slice(&self.private_key.0).map_err(|error| {
                match error {
                    pem::Error::NoItemsFound => TlsFileError::Missing {
                        path: files.private_key.clone(),
                        expected: "private key (`BEGIN PRIVATE KEY`)",
                    },
                    // The parser's own words can quote the line that it stumbled over.
                    _ => TlsFileError::NotPem {
                        path: files.private_key.clone(),
                        reason: "the private key's section is damaged".into(),
                    },
                }
            })?,
            authorities,
            revocation_lists,
        })
    }
}

impl TlsMaterial {
    /// The CA bundle as trust anchors. `path` is named in errors.
    ///
    /// # Errors
    /// [`TlsFileError::Authority`].
    pub fn roots(&self, path: &Path) -> Result<Arc<RootCertStore>, TlsFileError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in self.authorities.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|source| TlsFileError::Authority {
                path: path.to_path_buf(),
                position: index + 1,
                source,
            })?;
        }
        Ok(Arc::new(roots))
    }
}

/// The one source of cryptography: ring, always named, never the process's default.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// All certificates of a PEM file's bytes, in their order; at least one.
///
/// # Errors
/// [`TlsFileError::NotPem`] or [`TlsFileError::Missing`].
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    sections(path, bytes, "certificate (`BEGIN CERTIFICATE`)")
}

/// Reads a file of at most [`FILE_BYTES_MAX`] bytes.
///
/// # Errors
/// [`TlsFileError::Read`] or [`TlsFileError::TooLarge`].
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let failed = |source| TlsFileError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    // One allocation of the full size: growing would leave copies of a private key behind.
    let mut bytes = Vec::with_capacity(length.min(FILE_BYTES_MAX) as usize + 1);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsFileError::TooLarge { path: path.to_path_buf() });
    }
    Ok(bytes)
}

/// [`read_bounded`]; nothing if there is no file.
fn read_if_there(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    match read_bounded(path) {
        Err(TlsFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn sections<T: PemObject>(path: &Path, bytes: &[u8], expected: &'static str) -> Result<Vec<T>, TlsFileError> {
    let found: Vec<T> = T::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsFileError::NotPem { path: path.to_path_buf(), reason: error.to_string() })?;
    if found.is_empty() {
        return Err(TlsFileError::Missing { path: path.to_path_buf(), expected });
    }
    Ok(found)
}
