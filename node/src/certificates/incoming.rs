//! A node's port: from TCP connections to connections whose holder is known.
//!
//! Invariants:
//! - Handshakes run beside each other and beside accepting: a peer that is slow delays only itself.
//!   At most [`PENDING_HANDSHAKES_MAX`] run at a time, each for at most [`HANDSHAKE_TIMEOUT`];
//!   beyond that the kernel's queue holds new connections back.
//! - What comes out has a verified certificate from which an [`Identity`] could be read and that was
//!   not revoked at that moment. Everything else is closed and counted, and logged with the reason.
//! - The stream never ends and never yields an error: no peer and no shortage of descriptors can
//!   stop the node from accepting. Dropping the stream closes the port and all pending handshakes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use kura_client::tls::ALPN_H2;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;

use super::identity::{Identity, IdentityError};
use super::refused::Why;
use super::server_tls::ReloadingTls;

/// How many handshakes may be under way at a time.
pub const PENDING_HANDSHAKES_MAX: usize = 512;

/// How long one handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many finished connections wait for the server to take them.
const READY_CONNECTIONS_MAX: usize = 64;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The limits of a port; tests lower them.
#[derive(Clone, Debug)]
pub struct IncomingLimits {
    /// See [`PENDING_HANDSHAKES_MAX`].
    pub pending_handshakes_max: usize,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
}

impl Default for IncomingLimits {
    fn default() -> Self {
        Self { pending_handshakes_max: PENDING_HANDSHAKES_MAX, handshake_timeout: HANDSHAKE_TIMEOUT }
    }
}

/// Who is at the other end; found in the extensions of every request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// From the peer's certificate.
    pub identity: Arc<Identity>,
    /// Where the connection came from.
    pub remote: SocketAddr,
}

/// A connection whose holder is known.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("the handshake took longer than the limit")]
    TimedOut,
    #[error("the client does not speak HTTP/2")]
    NotHttp2,
    #[error("the client's certificate cannot be used: {0}")]
    Identity(#[from] IdentityError),
    #[error("the client's certificate is revoked")]
    Revoked,
}

impl Refusal {
    /// Whether someone holds a certificate that does not work, rather than strays to our port.
    fn concerns_a_certificate(&self) -> bool {
        match self {
            Self::Handshake(error) => {
                error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|inner| {
                    matches!(
                        inner,
                        rustls::Error::InvalidCertificate(_)
                            | rustls::Error::InvalidCertRevocationList(_)
                            | rustls::Error::NoCertificatesPresented
                            | rustls::Error::AlertReceived(_)
                    )
                })
            }
            Self::TimedOut | Self::NotHttp2 => false,
            Self::Identity(_) | Self::Revoked => true,
        }
    }
}

/// Accepts connections for tonic's `serve_with_incoming`. Must be called within a Tokio runtime.
pub fn tls_incoming(
    listener: TcpListener,
    tls: Arc<ReloadingTls>,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send + Unpin + 'static {
    tls_incoming_with(listener, tls, IncomingLimits::default())
}

/// [`tls_incoming`] with limits of one's own.
pub fn tls_incoming_with(
    listener: TcpListener,
    tls: Arc<ReloadingTls>,
    limits: IncomingLimits,
) -> impl Stream<Item = io::Result<TlsConnection>> + Send + Unpin + 'static {
    let (ready, connections) = mpsc::channel(READY_CONNECTIONS_MAX);
    let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, tls, limits, ready)));
    TlsIncoming { connections, _accepting: accepting }
}

struct TlsIncoming {
    connections: mpsc::Receiver<TlsConnection>,
    _accepting: AbortOnDropHandle<()>,
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ReloadingTls>,
    limits: IncomingLimits,
    ready: mpsc::Sender<TlsConnection>,
) {
    let pending = Arc::new(Semaphore::new(limits.pending_handshakes_max.max(1)));
    // Owned by this task, so that aborting it aborts them.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&pending).acquire_owned().await else {
            return;
        };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (tls, ready) = (Arc::clone(&tls), ready.clone());
        let limit = limits.handshake_timeout;
        handshakes.spawn(async move {
            let admitted = tokio::time::timeout(limit, admit(stream, remote, &tls)).await;
            match admitted.unwrap_or(Err(Refusal::TimedOut)) {
                // The receiver is gone only if the whole stream is.
                Ok(connection) => drop(ready.send(connection).await),
                Err(refusal) => {
                    tls.refused_connections.fetch_add(1, Ordering::Relaxed);
                    if refusal.concerns_a_certificate() {
                        tracing::warn!(%remote, reason = %refusal, "connection refused");
                    } else {
                        tracing::debug!(%remote, reason = %refusal, "connection refused");
                    }
                }
            }
            drop(permit);
        });
    }
}

async fn admit(stream: TcpStream, remote: SocketAddr, tls: &ReloadingTls) -> Result<TlsConnection, Refusal> {
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN_H2) {
        return Err(Refusal::NotHttp2);
    }
    let certificate = session.peer_certificates().and_then(<[_]>::first).ok_or(IdentityError::NotACertificate)?;
    let identity = Identity::from_der(certificate)?;
    // The lists may have changed since the handshake began.
    if tls.is_revoked(&identity.serial) {
        tls.refusals().note(&identity, Why::Revoked);
        return Err(Refusal::Revoked);
    }
    Ok(TlsConnection { stream, peer: PeerInfo { identity: Arc::new(identity), remote } })
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

impl TlsConnection {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
