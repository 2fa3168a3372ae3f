//! TLS towards nodes: what an application server and a node dialling its peers have in common.
//!
//! Invariants:
//! - TLS 1.3 only, with ring; both sides show certificates; a node is who its certificate's DNS
//!   name says, whatever its address.
//! - Files are read again before each new connection; files that cannot be used leave the last
//!   good ones in place, with a warning and a count. An open connection keeps what it began with:
//!   compare [`ClientTls::generation`] and open a new channel to move on.
//! - Sessions are never resumed: resumption would skip the check of certificates and revocation lists.
//! - A revocation list past its `nextUpdate` stays in force (what it revokes stays revoked), and a
//!   CA without a list is taken as revoking nothing: a forgotten file must not stop the cluster.

mod connect;
mod files;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls_pki_types::{DnsName, ServerName};
use tonic::transport::Channel;
use tower::service_fn;

use connect::Expected;
pub use connect::{ConnectError, connect_error};
pub use files::{
    FILE_BYTES_MAX, TlsContents, TlsFileError, TlsFiles, TlsMaterial, certificates, crypto_provider, read_bounded,
};

/// The application protocol that nodes speak, as negotiated in the handshake (RFC 7540, section 3.1).
pub const ALPN_H2: &[u8] = b"h2";

/// The HTTP/2 window of one stream, in bytes. Fixed, so that one large record over 20 ms and
/// 100 Mbit/s (250 kB in flight) never waits for window updates.
pub const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// The HTTP/2 window of one connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A node to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The node's name, a DNS name in its certificate.
    pub name: String,
    /// `host:port`; an IPv6 address goes in brackets. The host need not be in the certificate.
    pub address: String,
}

/// Time limits of a channel, and whom it may reach.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// From the start of dialling to the node's first byte.
    pub connect_timeout: Duration,
    /// How often an HTTP/2 ping is sent, also while nothing is asked.
    pub keepalive_interval: Duration,
    /// How long a ping's answer may take before the connection is given up.
    pub keepalive_timeout: Duration,
    /// The public keys that the node may show: SHA-256 of their SubjectPublicKeyInfo. `None`: any that a CA
    /// of the bundle has signed for the node's name. Members know each other's keys and name them.
    pub keys_sha256: Option<Vec<[u8; 32]>>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            keys_sha256: None,
        }
    }
}

/// Why an [`Endpoint`] cannot be dialled at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The name cannot be a DNS name in a certificate.
    #[error("{name:?} cannot be a node's name: letters, digits, hyphens and dots, and not an IP address")]
    Name {
        /// The name given.
        name: String,
    },
    /// The address is not `host:port`.
    #[error("{address:?} is not an address: it must be host:port, with IPv6 addresses in brackets")]
    Address {
        /// The address given.
        address: String,
    },
}

struct Loaded {
    config: Arc<ClientConfig>,
    digest: [u8; 32],
}

/// The TLS side of everything that dials nodes; see the module's invariants.
pub struct ClientTls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
    /// Held while files are read and judged, so that of two reloads the later one wins. Holds the
    /// words of the last failure, so that each is logged once.
    reloading: Mutex<Option<String>>,
    generation: AtomicU64,
    failed_reloads: AtomicU64,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files for the first time. Blocking: a few small files.
    ///
    /// # Errors
    /// Any [`TlsFileError`]; it names the file.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsFileError> {
        let contents = files.read()?;
        let config = client_config(&files, contents.parse()?)?;
        Ok(Arc::new(Self {
            loaded: Mutex::new(Loaded { config, digest: contents.digest() }),
            files,
            reloading: Mutex::new(None),
            generation: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
        }))
    }

    /// Reads the files again and uses them for new connections if any of them changed. Blocking.
    /// Answers whether new files are now in use.
    ///
    /// # Errors
    /// Any [`TlsFileError`]; the last good files stay in use, and the failure is counted.
    pub fn reload_if_changed(&self) -> Result<bool, TlsFileError> {
        let mut last_failure = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.try_reload();
        let failure = result.as_ref().err().map(TlsFileError::to_string);
        if let Some(words) = &failure {
            self.failed_reloads.fetch_add(1, Ordering::Relaxed);
            if *last_failure != failure {
                tracing::warn!(error = %words, "changed TLS files are not usable; the former ones stay in use");
            }
        }
        *last_failure = failure;
        result
    }

    fn try_reload(&self) -> Result<bool, TlsFileError> {
        let contents = self.files.read()?;
        let digest = contents.digest();
        if self.loaded().digest == digest {
            return Ok(false);
        }
        let config = client_config(&self.files, contents.parse()?)?;
        *self.loaded() = Loaded { config, digest };
        self.generation.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// [`Self::reload_if_changed`] off the runtime's threads; a failure is logged there.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        let tls = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || tls.reload_if_changed()).await;
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.loaded().config)
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows by one whenever new files come into use. A channel opened at a lower generation still
    /// uses the former certificate on its open connection.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many reloads failed since the start; a metric.
    pub fn failed_reloads(&self) -> u64 {
        self.failed_reloads.load(Ordering::Relaxed)
    }

    /// SHA-256 over the files in use: equal to that of another part of this process that uses the same.
    pub fn files_digest(&self) -> [u8; 32] {
        self.loaded().digest
    }

    /// A channel to one node. It dials when first used, and again whenever the connection is lost;
    /// a failure to connect reaches the call as `UNAVAILABLE`, with a [`ConnectError`] behind it
    /// (see [`connect_error`]). Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] if name or address cannot be used.
    pub fn channel(self: &Arc<Self>, endpoint: &Endpoint, options: &ChannelOptions) -> Result<Channel, EndpointError> {
        let name_refused = || EndpointError::Name { name: endpoint.name.clone() };
        let server_name = ServerName::DnsName(DnsName::try_from(endpoint.name.clone()).map_err(|_| name_refused())?);
        if !is_host_and_port(&endpoint.address) {
            return Err(EndpointError::Address { address: endpoint.address.clone() });
        }
        // The authority of requests is the node's name: it must not depend on the way there.
        let uri = Uri::builder()
            .scheme("https")
            .authority(endpoint.name.as_str())
            .path_and_query("/")
            .build()
            .map_err(|_| name_refused())?;
        let tls = Arc::clone(self);
        let endpoint = Arc::new(endpoint.clone());
        let expected = Expected { server_name, keys_sha256: options.keys_sha256.clone() };
        let limit = options.connect_timeout;
        Ok(tonic::transport::Endpoint::from(uri)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_adaptive_window(false)
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(service_fn(move |_: Uri| {
                connect::connect(Arc::clone(&tls), Arc::clone(&endpoint), expected.clone(), limit)
            })))
    }
}

fn client_config(files: &TlsFiles, material: TlsMaterial) -> Result<Arc<ClientConfig>, TlsFileError> {
    let provider = crypto_provider();
    let pair = |source| TlsFileError::Pair {
        certificate: files.certificate.clone(),
        private_key: files.private_key.clone(),
        source,
    };
    let verifier =
        WebPkiServerVerifier::builder_with_provider(material.roots(&files.authorities)?, Arc::clone(&provider))
            .with_crls(material.revocation_lists.into_iter().map(|(_, list)| list))
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| TlsFileError::RevocationList { reason: error.to_string() })?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(material.chain, material.private_key)
        .map_err(pair)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let host_is_plain = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '/', '@', ' ']),
    };
    host_is_plain && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::is_host_and_port;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["node-1:7000", "10.0.0.1:1", "[::1]:65535", "a.b.example:443"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in
            ["", "node-1", ":7000", "node-1:", "node-1:0", "node-1:65536", "::1:7000", "https://node-1:7000", "[::1"]
        {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
