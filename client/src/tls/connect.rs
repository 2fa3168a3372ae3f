//! One connection to a node: TCP, TLS 1.3, and proof that the node accepted our certificate.
//!
//! Invariants:
//! - In TLS 1.3 the dialling side finishes its handshake before the other side has judged its
//!   certificate, so a refusal would surface later, as a broken request of unknown fate. A
//!   connection is therefore handed out only after the node's first byte (its HTTP/2 settings,
//!   which it sends unasked) has arrived. A [`ConnectError`] thus always means: nothing was sent.
//! - Every error says whose certificate is at fault and what to do about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ALPN_H2, ClientTls, Endpoint};

/// Why no connection to a node came about. No request was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address could not be resolved, or nothing answered there.
    #[error("cannot reach node {name} at {address}: {source}; is it running, and is the address right?")]
    Unreachable {
        /// The node's name.
        name: String,
        /// Its address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The connection was not ready within the connect timeout.
    #[error("node {name} at {address} did not complete a connection within {limit_ms} ms")]
    TimedOut {
        /// The node's name.
        name: String,
        /// Its address.
        address: String,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The node's certificate is signed by none of our CAs.
    #[error(
        "the certificate of node {name} is signed by none of the CAs in our bundle: add the CA that signed it, or check that the address leads to this cluster"
    )]
    NodeAuthorityUnknown {
        /// The node's name.
        name: String,
    },
    /// The node's certificate has expired.
    #[error(
        "the certificate of node {name} has expired: renew it on the node (no restart is needed), and check this machine's clock"
    )]
    NodeCertificateExpired {
        /// The node's name.
        name: String,
    },
    /// The node's certificate is not valid yet.
    #[error(
        "the certificate of node {name} is not valid yet: check the clocks of this machine and of the one that signed it"
    )]
    NodeCertificateNotYetValid {
        /// The node's name.
        name: String,
    },
    /// The node's certificate is for another name.
    #[error("the node at {address} is not {name}: its certificate is for {presented}; correct the name or the address")]
    NodeNameWrong {
        /// The name that was expected.
        name: String,
        /// The address that was dialled.
        address: String,
        /// The names in the certificate.
        presented: String,
    },
    /// The node's certificate is for the right name, but not for a key that it may have.
    #[error(
        "what answers as {name} at {address} shows another key than the one that was approved for {name}: put back the certificate of the approved key, or have the new key approved"
    )]
    NodeKeyWrong {
        /// The node's name.
        name: String,
        /// The address that was dialled.
        address: String,
    },
    /// The node's certificate is on a revocation list of ours.
    #[error("the certificate of node {name} is revoked: the node needs a new one")]
    NodeCertificateRevoked {
        /// The node's name.
        name: String,
    },
    /// The node's certificate was not issued for a server.
    #[error("the certificate of {name} was not issued for a node: issue one with the role voter or backup")]
    NodeCertificateNotForServer {
        /// The node's name.
        name: String,
    },
    /// The node does not trust the CA that signed our certificate.
    #[error(
        "node {name} does not know the CA that signed our certificate: use a certificate of this cluster's CA, or add the CA to the node's bundle"
    )]
    OwnAuthorityUnknown {
        /// The node's name.
        name: String,
    },
    /// The node says that our certificate has expired or is not valid yet.
    #[error("node {name} says that our certificate has expired or is not valid yet: renew it, and check the clocks")]
    OwnCertificateExpired {
        /// The node's name.
        name: String,
    },
    /// The node says that our certificate is revoked.
    #[error("node {name} says that our certificate is revoked: ask for a new one")]
    OwnCertificateRevoked {
        /// The node's name.
        name: String,
    },
    /// The node refused our certificate for another reason.
    #[error("node {name} refused our certificate ({alert}): the node's log says why")]
    OwnCertificateRefused {
        /// The node's name.
        name: String,
        /// The TLS alert.
        alert: String,
    },
    /// The node closed the connection after the handshake.
    #[error(
        "node {name} closed the connection before its first byte: it is stopping, or it cannot read a role and a name from our certificate (the node's log says which)"
    )]
    Closed {
        /// The node's name.
        name: String,
    },
    /// Whatever answers there does not speak TLS 1.3 with HTTP/2 as a node does.
    #[error("what answers as {name} at {address} does not speak as a node does: {reason}")]
    NotANode {
        /// The node's name.
        name: String,
        /// Its address.
        address: String,
        /// What differs.
        reason: String,
    },
    /// The connection broke during the handshake.
    #[error("the connection to node {name} broke during the handshake: {source}")]
    Broken {
        /// The node's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether the same attempt can succeed later without anyone changing a certificate or a setting.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Closed { .. } | Self::Broken { .. })
    }
}

/// The [`ConnectError`] behind a failed call, if the call failed because no connection came about.
pub fn connect_error(status: &tonic::Status) -> Option<&ConnectError> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<ConnectError>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What the node at the other end has to show.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) server_name: ServerName<'static>,
    /// See [`super::ChannelOptions::keys_sha256`].
    pub(super) keys_sha256: Option<Vec<[u8; 32]>>,
}

impl Expected {
    fn admits(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        let Some(keys) = &self.keys_sha256 else { return true };
        let shown = certificate.and_then(|der| ParsedCertificate::try_from(der).ok());
        shown.is_some_and(|shown| {
            let key: [u8; 32] = Sha256::digest(shown.subject_public_key_info()).into();
            keys.contains(&key)
        })
    }
}

pub(super) async fn connect(
    tls: Arc<ClientTls>,
    endpoint: Arc<Endpoint>,
    expected: Expected,
    limit: Duration,
) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
    tokio::time::timeout(limit, handshake(tls, &endpoint, expected)).await.unwrap_or_else(|_| {
        Err(ConnectError::TimedOut {
            name: endpoint.name.clone(),
            address: endpoint.address.clone(),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        })
    })
}

async fn handshake(
    tls: Arc<ClientTls>,
    endpoint: &Endpoint,
    expected: Expected,
) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
    tls.refresh().await;
    let unreachable =
        |source| ConnectError::Unreachable { name: endpoint.name.clone(), address: endpoint.address.clone(), source };
    let stream = TcpStream::connect(&endpoint.address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut stream = TlsConnector::from(tls.config())
        .connect(expected.server_name.clone(), stream)
        .await
        .map_err(|error| explain(endpoint, error))?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
        return Err(not_a_node(endpoint, "it does not offer HTTP/2".into()));
    }
    if !expected.admits(stream.get_ref().1.peer_certificates().and_then(<[_]>::first)) {
        return Err(ConnectError::NodeKeyWrong { name: endpoint.name.clone(), address: endpoint.address.clone() });
    }
    let nothing = stream.fill_buf().await.map_err(|error| explain(endpoint, error))?.is_empty();
    if nothing {
        return Err(ConnectError::Closed { name: endpoint.name.clone() });
    }
    Ok(TokioIo::new(stream))
}

fn not_a_node(endpoint: &Endpoint, reason: String) -> ConnectError {
    ConnectError::NotANode { name: endpoint.name.clone(), address: endpoint.address.clone(), reason }
}

fn explain(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    let name = endpoint.name.clone();
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => ConnectError::Closed { name },
            _ => ConnectError::Broken { name, source: error },
        };
    };
    match cause {
        rustls::Error::InvalidCertificate(certificate) => explain_certificate(endpoint, certificate),
        rustls::Error::InvalidCertRevocationList(list) => {
            not_a_node(endpoint, format!("its certificate cannot be checked against our revocation list: {list:?}"))
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA => ConnectError::OwnAuthorityUnknown { name },
            AlertDescription::CertificateExpired => ConnectError::OwnCertificateExpired { name },
            AlertDescription::CertificateRevoked => ConnectError::OwnCertificateRevoked { name },
            AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion => {
                not_a_node(endpoint, format!("it answers with the alert {alert:?}"))
            }
            other => ConnectError::OwnCertificateRefused { name, alert: format!("{other:?}") },
        },
        other => not_a_node(endpoint, other.to_string()),
    }
}

fn explain_certificate(endpoint: &Endpoint, error: &CertificateError) -> ConnectError {
    let name = endpoint.name.clone();
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => ConnectError::NodeAuthorityUnknown { name },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ConnectError::NodeCertificateExpired { name }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ConnectError::NodeCertificateNotYetValid { name }
        }
        CertificateError::Revoked => ConnectError::NodeCertificateRevoked { name },
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ConnectError::NodeCertificateNotForServer { name }
        }
        CertificateError::NotValidForName => wrong_name(endpoint, "another name".into()),
        CertificateError::NotValidForNameContext { presented, .. } => {
            wrong_name(endpoint, if presented.is_empty() { "no name at all".into() } else { presented.join(", ") })
        }
        other => not_a_node(endpoint, format!("its certificate is not usable: {other}")),
    }
}

fn wrong_name(endpoint: &Endpoint, presented: String) -> ConnectError {
    ConnectError::NodeNameWrong { name: endpoint.name.clone(), address: endpoint.address.clone(), presented }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint { name: "node-1".into(), address: "127.0.0.1:1".into() }
    }

    fn explained(error: rustls::Error) -> ConnectError {
        explain(&endpoint(), io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn faults_of_the_other_side_and_of_our_own_are_told_apart() {
        assert!(matches!(
            explained(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            ConnectError::NodeAuthorityUnknown { .. }
        ));
        assert!(matches!(
            explained(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            ConnectError::OwnAuthorityUnknown { .. }
        ));
        assert!(matches!(
            explained(rustls::Error::InvalidCertificate(CertificateError::Expired)),
            ConnectError::NodeCertificateExpired { .. }
        ));
        assert!(matches!(
            explained(rustls::Error::AlertReceived(AlertDescription::CertificateRevoked)),
            ConnectError::OwnCertificateRevoked { .. }
        ));
    }

    #[test]
    fn only_faults_that_pass_by_themselves_are_retried() {
        assert!(explain(&endpoint(), io::ErrorKind::UnexpectedEof.into()).may_retry());
        assert!(explain(&endpoint(), io::ErrorKind::ConnectionReset.into()).may_retry());
        assert!(!explained(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)).may_retry());
        assert!(!explained(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)).may_retry());
    }
}
