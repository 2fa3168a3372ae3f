//! Real handshakes on loopback, with real files in temporary directories.

mod handshake;
mod issuing;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kura_client::tls::{ChannelOptions, ClientTls, ConnectError, Endpoint, TlsFiles, connect_error};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

/// A directory with a CA in it.
struct House {
    directory: TempDir,
    authority: Authority,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = authority_files(directory.path());
        let authority = Authority::create(&files, Some("test cluster"), 400, now()).unwrap();
        Self { directory, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tls_files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            authorities_more: None,
            certificate: self.path(&format!("{name}.pem")),
            private_key: self.path(&format!("{name}.key")),
            authorities: self.path("ca.pem"),
            revocation_lists: Vec::new(),
        }
    }

    /// Creates, or replaces, `name.pem` and `name.key`.
    fn issue_at(&self, role: Role, name: &str, valid_days: u32, at: OffsetDateTime) -> Issued {
        let files = self.tls_files(name);
        let _ = std::fs::remove_file(&files.certificate);
        let _ = std::fs::remove_file(&files.private_key);
        let pair = AuthorityFiles { certificate: files.certificate, private_key: files.private_key };
        self.authority.issue_with_key(&pair, &approval(role, name, valid_days), at).unwrap()
    }

    fn issue(&self, role: Role, name: &str) -> Issued {
        self.issue_at(role, name, 30, now())
    }

    fn node(&self, name: &str) -> Arc<ReloadingTls> {
        self.issue(Role::Voter, name);
        ReloadingTls::load(self.tls_files(name)).unwrap()
    }

    fn client(&self, name: &str) -> Arc<ClientTls> {
        self.issue(Role::Application, name);
        ClientTls::load(self.tls_files(name)).unwrap()
    }
}

fn authority_files(directory: &Path) -> AuthorityFiles {
    AuthorityFiles { certificate: directory.join("ca.pem"), private_key: directory.join("ca.key") }
}

fn approval(role: Role, name: &str, valid_days: u32) -> Approval {
    Approval { role, name: name.into(), alternative_names: Vec::new(), accept_requested_names: false, valid_days }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn days_ago(days: i64) -> OffsetDateTime {
    now() - time::Duration::days(days)
}

/// A tonic server behind `tls_incoming`, which notes the peer of each call and, as the service layer
/// will, refuses calls of revoked peers.
struct Server {
    address: String,
    peers: Arc<Mutex<Vec<PeerInfo>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(tls: &Arc<ReloadingTls>) -> Self {
        Self::start_with(tls, IncomingLimits::default()).await
    }

    async fn start_with(tls: &Arc<ReloadingTls>, limits: IncomingLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peers = Arc::new(Mutex::new(Vec::new()));
        let (seen, checked) = (Arc::clone(&peers), Arc::clone(tls));
        let (_reporter, health) = tonic_health::server::health_reporter();
        let service = InterceptedService::new(health, move |request: Request<()>| {
            let peer = request.extensions().get::<PeerInfo>().expect("every request has its peer").clone();
            if checked.is_revoked(&peer.identity.serial) {
                return Err(Status::unauthenticated("revoked"));
            }
            seen.lock().unwrap().push(peer);
            Ok(request)
        });
        let incoming = tls_incoming_with(listener, Arc::clone(tls), limits);
        let task = tokio::spawn(async move {
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, peers, _task: AbortOnDropHandle::new(task) }
    }

    fn channel(&self, client: &Arc<ClientTls>, name: &str) -> Channel {
        channel(client, name, &self.address)
    }

    fn last_peer(&self) -> PeerInfo {
        self.peers.lock().unwrap().last().unwrap().clone()
    }
}

fn channel(client: &Arc<ClientTls>, name: &str, address: &str) -> Channel {
    let options = ChannelOptions { connect_timeout: Duration::from_secs(20), ..ChannelOptions::default() };
    client.channel(&Endpoint { name: name.into(), address: address.into() }, &options).unwrap()
}

async fn call(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest { service: String::new() }).await.map(|_| ())
}

/// The [`ConnectError`] of a call that must fail for want of a connection. A macro keeps the line.
macro_rules! assert_refused {
    ($channel:expr, $pattern:pat) => {{
        let status = call(&$channel).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        let error = connect_error(&status).unwrap_or_else(|| panic!("{status:?}"));
        assert!(matches!(error, $pattern), "{error:?}");
        assert_eq!(status.message(), error.to_string(), "the words must reach whoever reads the status");
    }};
}
use assert_refused;
