//! S3-compatible storage for tests: `s3s-fs` over a directory, on loopback, in this process, with TLS and signed
//! requests. It keeps each object as a file of its name, so that tests tear and remove them there. Conditional puts
//! are its own; it can be told to pass them over, as storage that lacks them does.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{CreateMultipartUploadInput, PutObjectInput};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Request, S3Result};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::world::folder;

const BUCKET: &str = "kura-archive";
/// What nobody may find in a log.
pub const KEY_ID: &str = "KURATESTKEYID";
pub const SECRET: &str = "4Yb0qTzSecretOfTheTestStorage";

/// What the server was asked for, and how it behaves.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// Whether conditions of puts are passed over.
    pub unconditional: AtomicBool,
    /// Objects that were sent in parts.
    pub in_parts: AtomicU64,
}

struct Watch(Arc<Behaviour>);

#[async_trait]
impl S3Access for Watch {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        if self.0.unconditional.load(Ordering::Relaxed) {
            request.input.if_none_match = None;
        }
        Ok(())
    }

    async fn create_multipart_upload(&self, _: &mut S3Request<CreateMultipartUploadInput>) -> S3Result<()> {
        self.0.in_parts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A server, until it is stopped or dropped.
pub struct S3Server {
    folder: TempDir,
    service: S3Service,
    acceptor: TlsAcceptor,
    address: SocketAddr,
    running: Option<JoinSet<()>>,
    pub behaviour: Arc<Behaviour>,
}

impl S3Server {
    pub async fn start() -> Self {
        let folder = folder();
        let root = folder.path().join("objects");
        fs::create_dir_all(root.join(BUCKET)).unwrap();
        let behaviour = Arc::new(Behaviour::default());
        let mut builder = S3ServiceBuilder::new(FileSystem::new(&root).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        builder.set_access(Watch(behaviour.clone()));
        let service = builder.build();

        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("storage-ca.pem"), authority.pem()).unwrap();
        let own_key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&own_key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(own_key.serialize_der()).unwrap())
            .unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let credentials = format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
        fs::write(folder.path().join("storage.credentials"), credentials).unwrap();
        let mut server = Self { folder, service, acceptor, address, running: None, behaviour };
        server.storage("storage.toml", "credentials = \"storage.credentials\"");
        server.run(listener);
        server
    }

    fn run(&mut self, listener: TcpListener) {
        let (service, acceptor) = (self.service.clone(), self.acceptor.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            // Connections end with the server: they are this task's own.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (service, acceptor) = (service.clone(), acceptor.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        self.running = Some(running);
    }

    /// Nobody answers any more.
    pub async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// It answers again, at the same port.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.run(listener);
    }

    /// Writes a file that says how it is reached; answers its path.
    pub fn storage(&self, name: &str, credentials: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let text =
            format!("endpoint = \"https://{}\"\nauthorities = \"storage-ca.pem\"\n{credentials}\n", self.address);
        fs::write(&path, text).unwrap();
        path
    }

    /// The file that says how it is reached, with credentials in a file.
    pub fn storage_file(&self) -> PathBuf {
        self.folder.path().join("storage.toml")
    }

    /// Where an archive lies.
    pub fn place(prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The directory in which its objects lie.
    pub fn objects(&self, prefix: &str) -> PathBuf {
        self.folder.path().join("objects").join(BUCKET).join(prefix)
    }

    /// A file for a test's own use.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
