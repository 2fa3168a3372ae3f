//! The TLS of a node's own port, with files that can change under it.
//!
//! Invariants:
//! - TLS 1.3 with ring only; a client certificate by a CA of the bundle is required; no session is
//!   ever resumed, since that would skip the checks of certificate and revocation.
//! - Files come into use all together or not at all, and only if the node's own certificate passes
//!   the checks that its peers will make (chain, validity, its name as DNS name). A bad set leaves
//!   the former one serving, with a warning and a count.
//! - Open connections outlive a reload; the service layer asks [`ReloadingTls::is_revoked`] and
//!   compares [`Identity::not_after`] on each request.
//! - For expired and missing revocation lists see the module `revocation`.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kura_client::tls::{ALPN_H2, TlsFileError, TlsFiles, TlsMaterial, crypto_provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::{DnsName, ServerName, UnixTime};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::head_signer::HeadSigner;
use super::identity::{Identity, IdentityError, Role, Serial};
use super::refused::{Noting, Refusals};
use super::revocation::{RevocationError, Revoked};

/// Why a set of files cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsLoadError {
    /// A file is missing, damaged or does not fit the others.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// A revocation list is not usable.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// The node's certificate does not say who it is.
    #[error("{path} is no certificate for a node: {source}")]
    Identity {
        /// The certificate file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The certificate is not a voter's or a backup's.
    #[error("{path} is a certificate with the role {role}; a node needs voter or backup")]
    NotANode {
        /// The certificate file.
        path: PathBuf,
        /// Its role.
        role: Role,
    },
    /// A reload must not turn the node into another one.
    #[error("{path} is for the {role} {name}, another identity than this node was started with: restart to change it")]
    OtherIdentity {
        /// The certificate file.
        path: PathBuf,
        /// The new role.
        role: Role,
        /// The new name.
        name: String,
    },
    /// Peers would refuse the node's certificate.
    #[error("peers would refuse {path}: {reason}")]
    Own {
        /// The certificate file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

/// Numbers for metrics and `kura status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsStatus {
    /// How often changed files came into use since the start.
    pub reloads: u64,
    /// How often files could not be used since the start.
    pub failed_reloads: u64,
    /// Whether the newest files are not in use, because the last reload failed.
    pub stale: bool,
    /// How many connections were refused since the start, before their first request.
    pub refused_connections: u64,
    /// The end of the node's own certificate in use, in seconds since 1970.
    pub not_after: i64,
    /// The earliest `nextUpdate` of the revocation lists, in seconds since 1970.
    pub revocation_lists_next_update: Option<i64>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    identity: Arc<Identity>,
    revoked: Revoked,
    signer: Option<Arc<HeadSigner>>,
    digest: [u8; 32],
}

/// TLS for a node's port; see the module's invariants.
pub struct ReloadingTls {
    files: TlsFiles,
    loaded: ArcSwap<Loaded>,
    /// Held while files are read and judged; the words of the last failure, so that each is logged once.
    reloading: Mutex<Option<String>>,
    stale: AtomicBool,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    pub(super) refused_connections: AtomicU64,
    refusals: Refusals,
}

impl fmt::Debug for ReloadingTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReloadingTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ReloadingTls {
    /// Reads the files for the first time. Blocking: a few small files.
    ///
    /// # Errors
    /// [`TlsLoadError`]; it names the file.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsLoadError> {
        let contents = files.read()?;
        let refusals = Refusals::default();
        let loaded = judge(&files, contents.parse()?, contents.digest(), &refusals)?;
        Ok(Arc::new(Self {
            files,
            loaded: ArcSwap::from_pointee(loaded),
            reloading: Mutex::new(None),
            stale: AtomicBool::new(false),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            refusals,
        }))
    }

    /// Reads the files again and, if the content of any changed, uses them for new connections.
    /// Blocking. Answers whether new files are now in use.
    ///
    /// # Errors
    /// [`TlsLoadError`]; the former files stay in use and the failure is counted.
    pub fn reload_if_changed(&self) -> Result<bool, TlsLoadError> {
        let mut last_failure = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.try_reload();
        let failure = result.as_ref().err().map(TlsLoadError::to_string);
        match (&result, &failure) {
            (_, Some(words)) => {
                self.failed_reloads.fetch_add(1, Ordering::Relaxed);
                if *last_failure != failure {
                    tracing::warn!(error = %words, "changed TLS files are not usable; the former ones stay in use");
                }
            }
            (Ok(true), None) => {
                self.reloads.fetch_add(1, Ordering::Relaxed);
                let serial = &self.loaded.load().identity.serial;
                tracing::info!(%serial, "changed TLS files are in use for new connections");
            }
            _ => {}
        }
        self.stale.store(failure.is_some(), Ordering::Relaxed);
        *last_failure = failure;
        result
    }

    fn try_reload(&self) -> Result<bool, TlsLoadError> {
        let contents = self.files.read()?;
        let digest = contents.digest();
        let current = self.loaded.load();
        if current.digest == digest {
            return Ok(false);
        }
        let loaded = judge(&self.files, contents.parse()?, digest, &self.refusals)?;
        let (before, after) = (&current.identity, &loaded.identity);
        if (before.role, &before.name) != (after.role, &after.name) {
            return Err(TlsLoadError::OtherIdentity {
                path: self.files.certificate.clone(),
                role: after.role,
                name: after.name.clone(),
            });
        }
        self.loaded.store(Arc::new(loaded));
        Ok(true)
    }

    /// Starts a task that calls [`Self::reload_if_changed`] every `interval`, until `self` is dropped
    /// elsewhere or the handle is aborted. Must be called within a Tokio runtime.
    pub fn watch(self: &Arc<Self>, interval: Duration) -> JoinHandle<()> {
        let tls = Arc::downgrade(self);
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            loop {
                ticks.tick().await;
                let Some(tls) = tls.upgrade() else { return };
                // Failures are logged and counted there.
                let _ = tokio::task::spawn_blocking(move || tls.reload_if_changed()).await;
            }
        })
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// Who this node is.
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.loaded.load().identity)
    }

    /// SHA-256 over the files in use; see [`kura_client::tls::ClientTls::files_digest`].
    pub fn files_digest(&self) -> [u8; 32] {
        self.loaded.load().digest
    }

    /// Signs heads with the private key in use; `None` if its kind cannot.
    pub fn head_signer(&self) -> Option<Arc<HeadSigner>> {
        self.loaded.load().signer.clone()
    }

    /// Whether a certificate is on a revocation list in use. In memory, cheap enough for every request.
    pub fn is_revoked(&self, serial: &Serial) -> bool {
        self.loaded.load().revoked.serials.contains(serial)
    }

    /// Certificates that were refused, for the journal.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Numbers for metrics.
    pub fn status(&self) -> TlsStatus {
        let loaded = self.loaded.load();
        TlsStatus {
            reloads: self.reloads.load(Ordering::Relaxed),
            failed_reloads: self.failed_reloads.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            refused_connections: self.refused_connections.load(Ordering::Relaxed),
            not_after: loaded.identity.not_after,
            revocation_lists_next_update: loaded.revoked.next_update,
        }
    }
}

fn judge(
    files: &TlsFiles,
    material: TlsMaterial,
    digest: [u8; 32],
    refusals: &Refusals,
) -> Result<Loaded, TlsLoadError> {
    let path = || files.certificate.clone();
    let identity =
        Identity::from_der(&material.chain[0]).map_err(|source| TlsLoadError::Identity { path: path(), source })?;
    if !identity.role.is_node() {
        return Err(TlsLoadError::NotANode { path: path(), role: identity.role });
    }
    let roots = material.roots(&files.authorities)?;
    check_own(files, &material, &identity, &roots)?;
    let revoked = Revoked::check(&material.revocation_lists, &material.authorities)?;
    if revoked.serials.contains(&identity.serial) {
        return Err(TlsLoadError::Own { path: path(), reason: "it is on our own revocation list".into() });
    }
    if revoked.next_update.is_some_and(|next| next < OffsetDateTime::now_utc().unix_timestamp()) {
        tracing::warn!("a revocation list is past its next update: it stays in force, but should be renewed");
    }
    let signer = HeadSigner::new(&material.private_key).map(Arc::new);
    if signer.is_none() {
        tracing::warn!(
            "this node's key is neither ECDSA P-256 nor Ed25519: it signs no heads, and others cannot compare with it"
        );
    }
    let provider = crypto_provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .with_crls(material.revocation_lists.into_iter().map(|(_, list)| list))
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| TlsFileError::RevocationList { reason: error.to_string() })?;
    let pair = |source| TlsFileError::Pair {
        certificate: files.certificate.clone(),
        private_key: files.private_key.clone(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(Arc::new(Noting { judge: verifier, refusals: refusals.clone() }))
        .with_single_cert(material.chain, material.private_key)
        .map_err(pair)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), identity: Arc::new(identity), revoked, signer, digest })
}

/// Makes the checks that a peer with the same bundle will make.
fn check_own(
    files: &TlsFiles,
    material: &TlsMaterial,
    identity: &Identity,
    roots: &Arc<RootCertStore>,
) -> Result<(), TlsLoadError> {
    let refused = |reason: String| TlsLoadError::Own { path: files.certificate.clone(), reason };
    let name = DnsName::try_from(identity.name.clone())
        .map_err(|_| refused(format!("its name {} cannot be a DNS name", identity.name)))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), crypto_provider())
        .build()
        .map_err(|error| refused(error.to_string()))?;
    verifier
        .verify_server_cert(&material.chain[0], &material.chain[1..], &ServerName::DnsName(name), &[], UnixTime::now())
        .map(|_| ())
        .map_err(|error| {
            refused(match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    format!("it is signed by none of the CAs in {}", files.authorities.display())
                }
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ) => format!("its own name {} is not among its DNS names", identity.name),
                rustls::Error::InvalidCertificate(reason) => reason.to_string(),
                other => other.to_string(),
            })
        })
}
