//! Who a certificate says its holder is.
//!
//! Invariants:
//! - Exactly one CN and exactly one OU; anything else is an error, never a guess at which one counts.
//! - A name is 1 to 64 of `A-Z a-z 0-9 . _ -`, so it can stand in logs, file names and tables as it is.
//! - Parsing says who, not whether: the chain and the validity are the handshake's business.

use std::fmt;
use std::str::FromStr;

use kura_cluster::hexadecimal;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The longest name and cluster name, in characters (RFC 5280's bound for CN and O).
pub const NAME_CHARACTERS_MAX: usize = 64;

/// The longest serial number, in bytes (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// What the holder of a certificate is to the cluster. In the certificate it is the OU, as [`Role::word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// An application server that calls through the client crate.
    Application,
    /// A registrar of the support centre.
    Registrar,
    /// An auditor of the support centre.
    Auditor,
    /// An operator of the cluster.
    Operator,
    /// Disaster-recovery staff.
    Recovery,
    /// A node that votes, inside the prefecture.
    Voter,
    /// The backup node, outside it.
    Backup,
}

impl Role {
    /// All roles, in the order of their declaration.
    pub const ALL: [Self; 7] =
        [Self::Application, Self::Registrar, Self::Auditor, Self::Operator, Self::Recovery, Self::Voter, Self::Backup];

    /// The word in certificates, settings and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Registrar => "registrar",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Recovery => "recovery",
            Self::Voter => "voter",
            Self::Backup => "backup",
        }
    }

    /// Whether this is a node's role: such a certificate serves as well as dials.
    pub fn is_node(self) -> bool {
        matches!(self, Self::Voter | Self::Backup)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(word: &str) -> Result<Self, IdentityError> {
        Self::ALL.into_iter().find(|role| role.word() == word).ok_or(IdentityError::UnknownRole)
    }
}

/// Why no [`Identity`] can be read. The words quote nothing of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not an X.509 certificate, or bytes follow it.
    #[error("it is not a single X.509 certificate")]
    NotACertificate,
    /// An attribute occurs too rarely or too often.
    #[error("its subject has {found} {attribute}, where exactly one is needed")]
    NotExactlyOne {
        /// `CN` or `OU`.
        attribute: &'static str,
        /// How many there are.
        found: usize,
    },
    /// More than one O.
    #[error("its subject has more than one O")]
    SeveralClusters,
    /// An attribute is not plain text.
    #[error("the {attribute} of its subject is not text")]
    NotText {
        /// `CN`, `OU` or `O`.
        attribute: &'static str,
    },
    /// The name is empty, too long or has other characters.
    #[error("its name is not 1 to 64 letters, digits, dots, underscores and hyphens")]
    Name,
    /// The cluster name is empty, too long or has control characters.
    #[error("its cluster name is not 1 to 64 printable characters")]
    Cluster,
    /// The role is none of ours.
    #[error("its role is none of application, registrar, auditor, operator, recovery, voter, backup")]
    UnknownRole,
    /// The serial number is longer than RFC 5280 allows.
    #[error("its serial number is longer than 20 bytes")]
    Serial,
}

/// A certificate's serial number together with its issuer, without whom it is not unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serial {
    /// SHA-256 of the issuer's name in DER.
    pub issuer: [u8; 32],
    /// Big-endian, without leading zero bytes; at most 20 bytes.
    pub number: Vec<u8>,
}

impl Serial {
    /// From the parts of a parsed certificate or revocation list.
    pub(super) fn new(issuer: &X509Name<'_>, raw_number: &[u8]) -> Result<Self, IdentityError> {
        let zeros = raw_number.iter().take_while(|byte| **byte == 0).count();
        let number = raw_number[zeros..].to_vec();
        if number.len() > SERIAL_BYTES_MAX {
            return Err(IdentityError::Serial);
        }
        Ok(Self { issuer: Sha256::digest(issuer.as_raw()).into(), number })
    }
}

/// The number in lower-case hexadecimal, two digits a byte.
impl fmt::Display for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(&self.number))
    }
}

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// From OU.
    pub role: Role,
    /// From CN; see [`check_name`].
    pub name: String,
    /// From O, if there is one.
    pub cluster: Option<String>,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER): it stays when the certificate is renewed.
    pub key_sha256: [u8; 32],
    /// The end of validity, in seconds since 1970.
    pub not_after: i64,
    /// For [`super::ReloadingTls::is_revoked`].
    pub serial: Serial,
}

impl Identity {
    /// Reads an identity from a certificate's DER.
    ///
    /// # Errors
    /// [`IdentityError`] if the certificate does not say clearly who its holder is.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(IdentityError::NotACertificate);
        }
        let subject = subject_of(certificate.subject())?;
        Ok(Self {
            role: subject.role.ok_or(IdentityError::NotExactlyOne { attribute: "OU", found: 0 })?,
            name: subject.name.ok_or(IdentityError::NotExactlyOne { attribute: "CN", found: 0 })?,
            cluster: subject.cluster,
            fingerprint: Sha256::digest(der).into(),
            key_sha256: Sha256::digest(certificate.public_key().raw).into(),
            not_after: certificate.validity().not_after.timestamp(),
            serial: Serial::new(certificate.issuer(), certificate.raw_serial())?,
        })
    }
}

/// What a subject states; a certificate must state role and name, a request need not.
pub(super) struct StatedSubject {
    pub(super) role: Option<Role>,
    pub(super) name: Option<String>,
    pub(super) cluster: Option<String>,
}

pub(super) fn subject_of(subject: &X509Name<'_>) -> Result<StatedSubject, IdentityError> {
    let role = at_most_one("OU", subject.iter_organizational_unit())?;
    let name = at_most_one("CN", subject.iter_common_name())?;
    let cluster = at_most_one("O", subject.iter_organization())?;
    name.map(check_name).transpose()?;
    cluster.map(check_cluster).transpose()?;
    Ok(StatedSubject {
        role: role.map(Role::from_str).transpose()?,
        name: name.map(str::to_owned),
        cluster: cluster.map(str::to_owned),
    })
}

fn at_most_one<'a>(
    attribute: &'static str,
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<Option<&'a str>, IdentityError> {
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match values.count() {
        0 => value.as_str().map(Some).map_err(|_| IdentityError::NotText { attribute }),
        _ if attribute == "O" => Err(IdentityError::SeveralClusters),
        more => Err(IdentityError::NotExactlyOne { attribute, found: more + 1 }),
    }
}

/// Checks that a name is 1 to 64 of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// [`IdentityError::Name`].
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=NAME_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(IdentityError::Name)
    }
}

/// Checks that a cluster's name is 1 to 64 characters, none of them a control character.
///
/// # Errors
/// [`IdentityError::Cluster`].
pub fn check_cluster(cluster: &str) -> Result<(), IdentityError> {
    if (1..=NAME_CHARACTERS_MAX).contains(&cluster.chars().count()) && !cluster.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(IdentityError::Cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    fn certificate(parts: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.serial_number = Some(SerialNumber::from_slice(&[0, 0, 0xab, 0x01]));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn parsed(role: &str, name: &str) -> Result<Identity, IdentityError> {
        Identity::from_der(&certificate(&[
            (DnType::OrganizationalUnitName, role.into()),
            (DnType::CommonName, name.into()),
        ]))
    }

    #[test]
    fn each_role_is_read_back() {
        for role in Role::ALL {
            let identity = parsed(role.word(), "a.B_c-1").unwrap();
            assert_eq!((identity.role, identity.name.as_str()), (role, "a.B_c-1"));
            assert_eq!(identity.serial.to_string(), "ab01");
            assert_eq!(identity.cluster, None);
        }
    }

    #[test]
    fn malformed_names_and_roles_are_refused() {
        let long = "a".repeat(65);
        for name in ["", " a", "a b", "a/b", "a\0", "a\n", "ä", "a*", long.as_str()] {
            assert_eq!(parsed("voter", name), Err(IdentityError::Name), "{name:?}");
        }
        assert!(parsed("voter", &long[..64]).is_ok());
        for role in ["", "Voter", "voter ", "root", "voter,operator"] {
            assert_eq!(parsed(role, "a"), Err(IdentityError::UnknownRole), "{role:?}");
        }
    }

    #[test]
    fn a_missing_or_unreadable_part_is_refused() {
        let role: (DnType, DnValue) = (DnType::OrganizationalUnitName, "voter".into());
        let name: (DnType, DnValue) = (DnType::CommonName, "a".into());
        assert_eq!(
            Identity::from_der(&certificate(std::slice::from_ref(&role))),
            Err(IdentityError::NotExactlyOne { attribute: "CN", found: 0 })
        );
        assert_eq!(
            Identity::from_der(&certificate(std::slice::from_ref(&name))),
            Err(IdentityError::NotExactlyOne { attribute: "OU", found: 0 })
        );
        let wide = (DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()));
        assert_eq!(
            Identity::from_der(&certificate(&[role.clone(), wide])),
            Err(IdentityError::NotText { attribute: "CN" })
        );
        let cluster = (DnType::OrganizationName, "a\u{7}".into());
        assert_eq!(Identity::from_der(&certificate(&[role, name, cluster])), Err(IdentityError::Cluster));
    }

    // DER by hand, since the library writes each attribute once: CN is 2.5.4.3, OU 2.5.4.11.
    fn attribute(kind: u8, value: &str) -> Vec<u8> {
        let oid = [6, 3, 0x55, 4, kind];
        let text = [&[12, value.len() as u8], value.as_bytes()].concat();
        let pair = [&[0x30, (oid.len() + text.len()) as u8], &oid[..], &text[..]].concat();
        [&[0x31, pair.len() as u8], &pair[..]].concat()
    }

    #[test]
    fn a_part_that_occurs_twice_is_refused() {
        for (kinds, refused) in [([3, 3, 11], "CN"), ([11, 11, 3], "OU")] {
            let value = |kind| if kind == 3 { "a" } else { "voter" };
            let parts: Vec<u8> = kinds.iter().flat_map(|kind| attribute(*kind, value(*kind))).collect();
            let der = [&[0x30, parts.len() as u8], &parts[..]].concat();
            let (_, subject) = X509Name::from_der(&der).unwrap();
            assert_eq!(subject_of(&subject).err(), Some(IdentityError::NotExactlyOne { attribute: refused, found: 2 }));
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let good = certificate(&[(DnType::OrganizationalUnitName, "voter".into()), (DnType::CommonName, "a".into())]);
        let longer = [&good[..], &[0]].concat();
        for bad in [&[][..], b"garbage", &good[..good.len() - 1], &longer] {
            assert_eq!(Identity::from_der(bad), Err(IdentityError::NotACertificate));
        }
        // Unknown extensions are a CA's own business.
        let mut params = CertificateParams::default();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]));
        params.distinguished_name.push(DnType::CommonName, "a");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "voter");
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(Identity::from_der(der.der()).is_ok());
    }
}
