//! The cluster's own CA: it signs requests and revocation lists.
//!
//! Invariants:
//! - Role and name of a certificate are what the person at the CA said, never what a request says;
//!   a request that states something else is refused, and so is a name for a node that nobody approved.
//! - No certificate outlives its CA, since verifiers do not look at a trust anchor's validity.
//! - Each CA's own name is unique (it carries random digits): verifiers find the revocation list of a
//!   certificate by its CA's name, and two CAs of one name would spoil each other's lists.
//! - Time is an argument.

use std::io;
use std::path::{Path, PathBuf};

use kura_client::tls::{TlsFileError, certificates, read_bounded};
use kura_cluster::hexadecimal;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::files::{create_pair, create_public, replace_public};
use super::identity::{Identity, IdentityError, Role, check_cluster};
use super::recovery_authority::certificate_pem;
use super::request::{ParsedRequest, RequestError, Subject, alternative_names, distinguished_name};
use super::revocation::{Revocation, RevocationError, own_revocations};

/// The longest validity of a certificate or a revocation list, in days.
pub const DAYS_MAX: u32 = 36_500;

/// How far before the moment of signing validity begins, so that slow clocks accept it at once.
const BACKDATE: Duration = Duration::minutes(5);

/// Why the CA did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] TlsFileError),
    /// The request cannot be made or read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The existing revocation list cannot be continued.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files are not a CA's certificate and key.
    #[error("{certificate} with {private_key} cannot serve as a CA: {reason}")]
    NotAnAuthority {
        /// The certificate file.
        certificate: PathBuf,
        /// The private key file.
        private_key: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file holds no private key.
    #[error("{path} holds no private key (PKCS#8, PEM)")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The cluster's name is malformed.
    #[error("the cluster's name cannot be used: {0}")]
    Cluster(#[from] IdentityError),
    /// A number of days that is 0 or above [`DAYS_MAX`].
    #[error("a validity of {days} days is not possible: 1 to {DAYS_MAX}")]
    Days {
        /// The days asked for.
        days: u32,
    },
    /// The certificate would outlive the CA.
    #[error(
        "a validity of {days} days is longer than the CA's own: {days_left} days are left; renew the CA first or choose fewer"
    )]
    OutlivesAuthority {
        /// The days asked for.
        days: u32,
        /// The CA's own whole days left.
        days_left: i64,
    },
    /// The request states another role, name or cluster than approved.
    #[error("the request {path} states the {attribute} {stated}, and not {given}")]
    SubjectDiffers {
        /// The request.
        path: PathBuf,
        /// `role`, `name` or `cluster`.
        attribute: &'static str,
        /// What it states.
        stated: String,
        /// What was approved.
        given: String,
    },
    /// The request asks for an alternative name that was not approved.
    #[error(
        "the request {path} asks for the name {name}, which was not approved: approve it, or accept all that it asks for"
    )]
    NameNotApproved {
        /// The request.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A serial number to revoke is empty or too long.
    #[error("a serial number to revoke must have 1 to 20 bytes")]
    SerialNumber,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Where a CA's, or any, certificate and private key lie.
#[derive(Clone, Debug)]
pub struct AuthorityFiles {
    /// The certificate: PEM. For a CA it is also the bundle that the cluster's members need.
    pub certificate: PathBuf,
    /// The private key: PKCS#8 PEM, mode 0600.
    pub private_key: PathBuf,
}

impl AuthorityFiles {
    /// A CA's files in its folder: `ca.pem` and `ca.key`.
    pub fn in_folder(folder: &Path) -> AuthorityFiles {
        AuthorityFiles { certificate: folder.join("ca.pem"), private_key: folder.join("ca.key") }
    }
}

/// What the person at the CA approved.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The role.
    pub role: Role,
    /// The name.
    pub name: String,
    /// A node's DNS names and IP addresses besides its name. Empty for other roles.
    pub alternative_names: Vec<String>,
    /// Whether a node also gets whatever names its request asks for; otherwise one that is not in
    /// `alternative_names` is refused. (Requests of other roles get none in any case.)
    pub accept_requested_names: bool,
    /// The validity, in days from now.
    pub valid_days: u32,
}

/// A certificate just signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// What it says.
    pub identity: Identity,
}

impl Issued {
    /// Writes the certificate into a new file.
    ///
    /// # Errors
    /// [`AuthorityError::Write`], also if the file exists.
    pub fn create_file(&self, path: &Path) -> Result<(), AuthorityError> {
        create_public(path, &self.certificate_pem)
            .map_err(|source| AuthorityError::Write { path: path.to_path_buf(), source })
    }
}

/// A CA, able to sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    cluster: Option<String>,
    not_after: OffsetDateTime,
}

/// A CA's certificate over its own key.
pub(super) fn self_signed(
    title: &str,
    cluster: Option<&str>,
    valid_days: u32,
    now: OffsetDateTime,
    key: &KeyPair,
) -> Result<rcgen::Certificate, AuthorityError> {
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(cluster) = cluster {
        check_cluster(cluster)?;
        params.distinguished_name.push(DnType::OrganizationName, cluster);
    }
    let digits = hexadecimal(&serial[serial.len() - 4..]);
    params.distinguished_name.push(DnType::CommonName, format!("{title} {digits}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    (params.not_before, params.not_after) = validity(now, valid_days)?;
    Ok(params.self_signed(key)?)
}

impl Authority {
    /// Creates a CA: an ECDSA P-256 key and a self-signed certificate that may sign end certificates
    /// only (path length 0) and revocation lists.
    ///
    /// # Errors
    /// [`AuthorityError`]; existing files are never overwritten, and no half is left behind.
    pub fn create(
        files: &AuthorityFiles,
        cluster: Option<&str>,
        valid_days: u32,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = self_signed("Kura CA", cluster, valid_days, now, &key)?;
        create_pair(
            (&files.private_key, &Zeroizing::new(key.serialize_pem())),
            (&files.certificate, &certificate.pem()),
        )
        .map_err(|(path, source)| AuthorityError::Write { path: path.to_path_buf(), source })?;
        Self::open(files)
    }

    /// Opens a CA from its files. The certificate file must begin with the CA's certificate.
    ///
    /// # Errors
    /// [`AuthorityError::Read`] or [`AuthorityError::NotAnAuthority`].
    pub fn open(files: &AuthorityFiles) -> Result<Self, AuthorityError> {
        let refused = |reason: &str| AuthorityError::NotAnAuthority {
            certificate: files.certificate.clone(),
            private_key: files.private_key.clone(),
            reason: reason.to_owned(),
        };
        let der = certificates(&files.certificate, &read_bounded(&files.certificate)?)?.swap_remove(0);
        let key_bytes = Zeroizing::new(read_bounded(&files.private_key)?);
        // The library's words are not passed on: they could quote the key.
        let key = std::str::from_utf8(&key_bytes)
            .ok()
            .and_then(|text| KeyPair::from_pem(text).ok())
            .ok_or_else(|| refused("the private key cannot be read"))?;
        Self::from_parts(der, key).map_err(|reason| refused(&reason))
    }

    /// A CA by its certificate and its key, or why they are none.
    pub(super) fn from_parts(der: CertificateDer<'static>, key: KeyPair) -> Result<Self, String> {
        let (cluster, not_after) = {
            let (_, parsed) =
                X509Certificate::from_der(&der).map_err(|_| "the certificate cannot be read".to_owned())?;
            if !parsed.is_ca() {
                return Err("the certificate is not a CA's".to_owned());
            }
            if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
                return Err("the private key is another certificate's".to_owned());
            }
            if parsed.subject().iter_rdn().any(|part| part.iter().count() != 1) {
                return Err("its name has a part that is not a single attribute".to_owned());
            }
            let cluster = match parsed.subject().iter_organization().next() {
                Some(organization) => {
                    let text = organization.as_str().map_err(|_| "its O is not text".to_owned())?;
                    check_cluster(text).map_err(|error| error.to_string())?;
                    Some(text.to_owned())
                }
                None => None,
            };
            (cluster, parsed.validity().not_after.to_datetime())
        };
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, certificate: der, cluster, not_after })
    }

    /// The certificate (DER).
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The cluster's name, which goes into every certificate.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The end of the CA's own validity, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after.unix_timestamp()
    }

    /// Signs a request.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue(&self, request: &Path, approval: &Approval, now: OffsetDateTime) -> Result<Issued, AuthorityError> {
        let parsed = ParsedRequest::read(request)?;
        let stated = &parsed.stated;
        let pairs = [
            ("role", stated.role.map(|role| role.to_string()), approval.role.to_string()),
            ("name", stated.name.clone(), approval.name.clone()),
            ("cluster", stated.cluster.clone(), self.cluster.clone().unwrap_or_else(|| "none".into())),
        ];
        for (attribute, stated, given) in pairs {
            if let Some(stated) = stated.filter(|stated| *stated != given) {
                return Err(AuthorityError::SubjectDiffers { path: request.to_path_buf(), attribute, stated, given });
            }
        }
        let mut names = approval.alternative_names.clone();
        if approval.role.is_node() {
            for name in parsed.alternative_names {
                let approved = name == approval.name || names.contains(&name);
                if !approved && !approval.accept_requested_names {
                    return Err(AuthorityError::NameNotApproved { path: request.to_path_buf(), name });
                }
                names.push(name);
            }
        }
        self.sign(&parsed.public_key, approval, &names, now)
    }

    /// Signs a certificate for a private key that is there already, into a new file: for a machine that has both.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue_for_key(
        &self,
        files: &AuthorityFiles,
        approval: &Approval,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let bytes = Zeroizing::new(read_bounded(&files.private_key)?);
        let key = std::str::from_utf8(&bytes).ok().and_then(|text| KeyPair::from_pem(text).ok());
        let key = key.ok_or_else(|| AuthorityError::NotAKey { path: files.private_key.clone() })?;
        let issued = self.sign(&key, approval, &approval.alternative_names, now)?;
        issued.create_file(&files.certificate)?;
        Ok(issued)
    }

    /// Writes this CA's certificate and private key into new files, so that it can be opened from them.
    ///
    /// # Errors
    /// [`AuthorityError::Write`], also if one of them exists.
    pub fn write(&self, files: &AuthorityFiles) -> Result<(), AuthorityError> {
        create_pair(
            (&files.private_key, &Zeroizing::new(self.issuer.key().serialize_pem())),
            (&files.certificate, &certificate_pem(&self.certificate)),
        )
        .map_err(|(path, source)| AuthorityError::Write { path: path.to_path_buf(), source })
    }

    /// Generates a key and signs its certificate in one step, where both belong to one machine
    /// (a cluster on a developer's own). Neither file may exist.
    ///
    /// # Errors
    /// [`AuthorityError`]; then neither file was left behind.
    pub fn issue_with_key(
        &self,
        files: &AuthorityFiles,
        approval: &Approval,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let issued = self.sign(&key, approval, &approval.alternative_names, now)?;
        create_pair(
            (&files.private_key, &Zeroizing::new(key.serialize_pem())),
            (&files.certificate, &issued.certificate_pem),
        )
        .map_err(|(path, source)| AuthorityError::Write { path: path.to_path_buf(), source })?;
        Ok(issued)
    }

    fn sign(
        &self,
        public_key: &impl PublicKeyData,
        approval: &Approval,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let (not_before, not_after) = validity(now, approval.valid_days)?;
        if not_after > self.not_after {
            return Err(AuthorityError::OutlivesAuthority {
                days: approval.valid_days,
                days_left: (self.not_after - now).whole_days(),
            });
        }
        let subject = Subject { role: approval.role, name: approval.name.clone(), cluster: self.cluster.clone() };
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&subject)?;
        params.subject_alt_names = alternative_names(approval.role, &approval.name, names)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if approval.role.is_node() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        (params.not_before, params.not_after) = (not_before, not_after);
        let certificate = params.signed_by(public_key, &self.issuer)?;
        let identity = Identity::from_der(certificate.der())?;
        Ok(Issued { certificate_pem: certificate.pem(), identity })
    }

    /// Signs a revocation list (RFC 5280, section 5), valid until `valid_days` from now, as PEM. Its
    /// number is the time in milliseconds, so that later lists have higher ones.
    ///
    /// # Errors
    /// [`AuthorityError::Days`], [`AuthorityError::SerialNumber`] or [`AuthorityError::Sign`].
    pub fn revocation_list(
        &self,
        revocations: &[Revocation],
        valid_days: u32,
        now: OffsetDateTime,
    ) -> Result<String, AuthorityError> {
        let (this_update, next_update) = validity(now, valid_days)?;
        let mut revoked_certs = Vec::with_capacity(revocations.len());
        for revocation in revocations {
            if !(1..=20).contains(&revocation.number.len()) {
                return Err(AuthorityError::SerialNumber);
            }
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&revocation.number),
                revocation_time: OffsetDateTime::from_unix_timestamp(revocation.revoked_at).unwrap_or(now),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let number = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// Adds serial numbers to the revocation list in a file, or begins one, and renews its validity.
    /// The file is replaced whole. Answers how many certificates are now revoked.
    ///
    /// # Errors
    /// [`AuthorityError`]; the file is then as it was. A list that this CA did not sign is refused.
    pub fn update_revocation_list(
        &self,
        path: &Path,
        added: &[Vec<u8>],
        valid_days: u32,
        now: OffsetDateTime,
    ) -> Result<usize, AuthorityError> {
        let mut revocations = match own_revocations(path, &self.certificate) {
            Err(RevocationError::Read(TlsFileError::Read { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            other => other?,
        };
        for number in added {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            let number = number[zeros..].to_vec();
            if !revocations.iter().any(|known| known.number == number) {
                revocations.push(Revocation { number, revoked_at: now.unix_timestamp() });
            }
        }
        let list = self.revocation_list(&revocations, valid_days, now)?;
        replace_public(path, &list).map_err(|source| AuthorityError::Write { path: path.to_path_buf(), source })?;
        Ok(revocations.len())
    }
}

fn validity(now: OffsetDateTime, days: u32) -> Result<(OffsetDateTime, OffsetDateTime), AuthorityError> {
    let end = (1..=DAYS_MAX).contains(&days).then(|| now.checked_add(Duration::days(days.into()))).flatten();
    let begin = now.checked_sub(BACKDATE);
    begin.zip(end).ok_or(AuthorityError::Days { days })
}

/// 16 random bytes whose first two bits are 01: always positive and of full length in DER.
fn random_serial() -> Result<[u8; 16], AuthorityError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(AuthorityError::Random)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}
