//! Certificate signing requests (PKCS #10, RFC 2986): making our own, reading anyone's.
//!
//! Invariants:
//! - A request is read only if its signature proves that its sender holds the private key.
//! - Of a request only subject, alternative names and public key are ever used; every other
//!   extension that it asks for is ignored, so no request can ask its way to being a CA.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use kura_client::tls::{TlsFileError, read_bounded};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SubjectPublicKeyInfo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateSigningRequestDer, DnsName};
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::files::create_pair;
use super::identity::{IdentityError, Role, StatedSubject, check_cluster, check_name, subject_of};

/// How many alternative names one certificate may carry, the node's own name included.
pub const ALTERNATIVE_NAMES_MAX: usize = 32;

/// Why a request cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] TlsFileError),
    /// A file could not be created; existing files are never overwritten.
    #[error("cannot create {path}: {source} (existing files are never overwritten)")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no certificate signing request.
    #[error("{path} is not a certificate signing request in PEM")]
    NotARequest {
        /// The file.
        path: PathBuf,
    },
    /// The signature of the request is wrong, or of an unsupported kind.
    #[error("the signature of the request {path} does not prove that its sender holds the private key")]
    Signature {
        /// The file.
        path: PathBuf,
    },
    /// The public key is of a kind that cannot be certified.
    #[error("the public key in {path} is of an unsupported kind; use ECDSA P-256, P-384 or Ed25519")]
    PublicKey {
        /// The file.
        path: PathBuf,
    },
    /// The subject of the request, or the one asked for, is malformed.
    #[error("the subject cannot be used: {0}")]
    Subject(#[from] IdentityError),
    /// A name that a node's certificate cannot carry.
    #[error("{name:?} is neither a DNS name (wildcards are not taken) nor an IP address")]
    AlternativeName {
        /// The name.
        name: String,
    },
    /// The request asks for a kind of name other than DNS and IP.
    #[error("the request {path} asks for an alternative name that is neither DNS nor IP")]
    AlternativeNameKind {
        /// The file.
        path: PathBuf,
    },
    /// A node's name must be a DNS name.
    #[error("{name:?} cannot name a node: it must be a DNS name, not an IP address or a number")]
    NodeName {
        /// The name.
        name: String,
    },
    /// Only a node's certificate carries alternative names.
    #[error("a certificate with the role {role} carries no alternative names")]
    NamesWithoutNode {
        /// The role.
        role: Role,
    },
    /// More than [`ALTERNATIVE_NAMES_MAX`] names.
    #[error("more than {ALTERNATIVE_NAMES_MAX} alternative names")]
    TooManyNames,
    /// Key or request could not be generated.
    #[error("cannot make the request: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// OU.
    pub role: Role,
    /// CN; see [`check_name`].
    pub name: String,
    /// O; see [`check_cluster`].
    pub cluster: Option<String>,
}

/// Where [`create_request`] puts what it makes. Neither file may exist.
#[derive(Clone, Debug)]
pub struct RequestFiles {
    /// The new private key: PKCS#8 PEM, mode 0600.
    pub private_key: PathBuf,
    /// The request: PEM.
    pub request: PathBuf,
}

/// What a request states, for the person who decides on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSummary {
    /// OU, if stated.
    pub role: Option<Role>,
    /// CN, if stated.
    pub name: Option<String>,
    /// O, if stated.
    pub cluster: Option<String>,
    /// The DNS names and IP addresses that it asks for.
    pub alternative_names: Vec<String>,
    /// SHA-256 of the public key (its SubjectPublicKeyInfo in DER), to compare by telephone.
    pub public_key_fingerprint: [u8; 32],
}

/// Generates an ECDSA P-256 key and a request for `subject`; `names` are a node's further DNS names
/// and IP addresses (its own name is added).
///
/// # Errors
/// [`RequestError`]; then neither file was left behind.
pub fn create_request(files: &RequestFiles, subject: &Subject, names: &[String]) -> Result<(), RequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(subject)?;
    params.subject_alt_names = alternative_names(subject.role, &subject.name, names)?;
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?.pem()?;
    create_pair((&files.private_key, &Zeroizing::new(key.serialize_pem())), (&files.request, &request))
        .map_err(|(path, source)| RequestError::Create { path: path.to_path_buf(), source })
}

/// Reads a request and checks its signature.
///
/// # Errors
/// [`RequestError`].
pub fn summarize_request(path: &Path) -> Result<RequestSummary, RequestError> {
    let request = ParsedRequest::read(path)?;
    Ok(RequestSummary {
        role: request.stated.role,
        name: request.stated.name,
        cluster: request.stated.cluster,
        alternative_names: request.alternative_names,
        public_key_fingerprint: request.public_key_fingerprint,
    })
}

pub(super) struct ParsedRequest {
    pub(super) stated: StatedSubject,
    pub(super) alternative_names: Vec<String>,
    pub(super) public_key: SubjectPublicKeyInfo,
    public_key_fingerprint: [u8; 32],
}

impl ParsedRequest {
    pub(super) fn read(path: &Path) -> Result<Self, RequestError> {
        let not_a_request = || RequestError::NotARequest { path: path.to_path_buf() };
        let der = CertificateSigningRequestDer::from_pem_slice(&read_bounded(path)?).map_err(|_| not_a_request())?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| not_a_request())?;
        if !rest.is_empty() {
            return Err(not_a_request());
        }
        request.verify_signature().map_err(|_| RequestError::Signature { path: path.to_path_buf() })?;
        let mut alternative_names = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    alternative_names.push(general_name(path, name)?);
                }
            }
        }
        let info = &request.certification_request_info;
        Ok(Self {
            stated: subject_of(&info.subject)?,
            alternative_names,
            public_key: SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
                .map_err(|_| RequestError::PublicKey { path: path.to_path_buf() })?,
            public_key_fingerprint: Sha256::digest(info.subject_pki.raw).into(),
        })
    }
}

fn general_name(path: &Path, name: &GeneralName<'_>) -> Result<String, RequestError> {
    let other_kind = || RequestError::AlternativeNameKind { path: path.to_path_buf() };
    let text = match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6).map_err(|_| other_kind())?.to_string()
        }
        _ => return Err(other_kind()),
    };
    alternative_name(&text)?;
    Ok(text)
}

pub(super) fn distinguished_name(subject: &Subject) -> Result<DistinguishedName, RequestError> {
    check_name(&subject.name)?;
    let mut name = DistinguishedName::new();
    if let Some(cluster) = &subject.cluster {
        check_cluster(cluster)?;
        name.push(DnType::OrganizationName, cluster.as_str());
    }
    name.push(DnType::OrganizationalUnitName, subject.role.word());
    name.push(DnType::CommonName, subject.name.as_str());
    Ok(name)
}

/// For a node its own name and `names`, each once; for anyone else nothing.
pub(super) fn alternative_names(role: Role, name: &str, names: &[String]) -> Result<Vec<SanType>, RequestError> {
    if !role.is_node() {
        return if names.is_empty() { Ok(Vec::new()) } else { Err(RequestError::NamesWithoutNode { role }) };
    }
    let own = match alternative_name(name) {
        Ok(own @ SanType::DnsName(_)) => own,
        _ => {
            return Err(RequestError::NodeName { name: name.to_owned() });
        }
    };
    let mut all = vec![own];
    for name in names {
        let further = alternative_name(name)?;
        if !all.contains(&further) {
            all.push(further);
        }
    }
    if all.len() > ALTERNATIVE_NAMES_MAX {
        return Err(RequestError::TooManyNames);
    }
    Ok(all)
}

fn alternative_name(name: &str) -> Result<SanType, RequestError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || RequestError::AlternativeName { name: name.to_owned() };
    DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}
