//! Who gets in, and what those who do not are told.

use kura_client::tls::{ALPN_H2, crypto_provider};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

#[tokio::test]
async fn a_client_of_the_cluster_is_let_in_and_known() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    let issued = house.issue(Role::Registrar, "desk-7");
    let client = ClientTls::load(house.tls_files("desk-7")).unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap();
    let peer = server.last_peer();
    assert_eq!(*peer.identity, issued.identity);
    assert_eq!((peer.identity.role, peer.identity.name.as_str()), (Role::Registrar, "desk-7"));
    assert_eq!(peer.identity.cluster.as_deref(), Some("test cluster"));
    assert!(peer.remote.ip().is_loopback());
}

#[tokio::test]
async fn a_node_is_let_in_by_another_node() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    house.issue(Role::Backup, "node-9");
    let client = ClientTls::load(house.tls_files("node-9")).unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap();
    assert_eq!(server.last_peer().identity.role, Role::Backup);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    let material = house.tls_files("node-1").read().unwrap().parse().unwrap();
    let mut config = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(material.roots(&house.path("ca.pem")).unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let mut stream = dial(Arc::new(config), &server.address).await;
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(tls.status().refused_connections, 1);
    assert!(server.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_on_either_side() {
    let (house, other) = (House::new(), House::new());
    let server = Server::start(&house.node("node-1")).await;

    // Trusts the node's CA, but its own certificate is another's.
    other.issue(Role::Application, "app");
    let files = TlsFiles { authorities: house.path("ca.pem"), ..other.tls_files("app") };
    let client = ClientTls::load(files).unwrap();
    assert_refused!(server.channel(&client, "node-1"), ConnectError::OwnAuthorityUnknown { .. });

    // Trusts another CA than the node's.
    house.issue(Role::Application, "app");
    let files = TlsFiles { authorities: other.path("ca.pem"), ..house.tls_files("app") };
    let client = ClientTls::load(files).unwrap();
    assert_refused!(server.channel(&client, "node-1"), ConnectError::NodeAuthorityUnknown { .. });
    assert!(server.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn any_ca_of_the_bundle_may_have_signed() {
    let (house, other) = (House::new(), House::new());
    house.issue(Role::Voter, "node-1");
    let both = [house.path("ca.pem"), other.path("ca.pem")].map(|path| std::fs::read(path).unwrap()).concat();
    std::fs::write(house.path("both.pem"), both).unwrap();
    let files = TlsFiles { authorities: house.path("both.pem"), ..house.tls_files("node-1") };
    let server = Server::start(&ReloadingTls::load(files).unwrap()).await;
    other.issue(Role::Application, "app");
    let files = TlsFiles { authorities: house.path("both.pem"), ..other.tls_files("app") };
    call(&server.channel(&ClientTls::load(files).unwrap(), "node-1")).await.unwrap();
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    house.issue_at(Role::Application, "app", 1, days_ago(3));
    let client = ClientTls::load(house.tls_files("app")).unwrap();
    assert_refused!(server.channel(&client, "node-1"), ConnectError::OwnCertificateExpired { .. });
    assert!(server.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_or_ill_suited_node_is_refused() {
    let house = House::new();
    let client = house.client("app");
    house.issue_at(Role::Voter, "node-1", 1, days_ago(3));
    let address = bare_server(&house.tls_files("node-1")).await;
    assert_refused!(channel(&client, "node-1", &address), ConnectError::NodeCertificateExpired { .. });

    // A certificate for clients does not make a node, even with a node's name in it.
    let mut params = rcgen::CertificateParams::new(["node-2".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    issue_odd(&house, &params);
    let address = bare_server(&house.tls_files("odd")).await;
    assert_refused!(channel(&client, "node-2", &address), ConnectError::NodeCertificateNotForServer { .. });
    house.issue(Role::Application, "node-2");
    let address = bare_server(&house.tls_files("node-2")).await;
    assert_refused!(channel(&client, "node-2", &address), ConnectError::NodeCertificateNotForServer { .. });
}

#[tokio::test]
async fn a_node_that_closes_at_once_is_not_taken_for_connected() {
    let house = House::new();
    house.issue(Role::Voter, "node-1");
    let address = bare_server(&house.tls_files("node-1")).await;
    assert_refused!(channel(&house.client("app"), "node-1", &address), ConnectError::Closed { .. });
}

#[tokio::test]
async fn another_nodes_name_is_refused() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    let client = house.client("app");
    let status = call(&server.channel(&client, "node-2")).await.unwrap_err();
    assert!(matches!(connect_error(&status), Some(ConnectError::NodeNameWrong { .. })), "{status:?}");
    assert!(status.message().contains("node-1"), "it says who answers instead: {status:?}");
    call(&server.channel(&client, "node-1")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_without_a_role_is_refused() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    issue_odd(&house, &params);
    let client = ClientTls::load(house.tls_files("odd")).unwrap();
    assert_refused!(server.channel(&client, "node-1"), ConnectError::Closed { .. });
    assert_eq!(tls.status().refused_connections, 1);
    assert!(server.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_handshake_delays_nobody_else() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(&server.address).await.unwrap());
    }
    // Half a ClientHello.
    silent[0].write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    call(&server.channel(&house.client("app"), "node-1")).await.unwrap();
}

#[tokio::test]
async fn pending_handshakes_are_bounded_in_number_and_time() {
    let house = House::new();
    let tls = house.node("node-1");
    let limits = IncomingLimits { pending_handshakes_max: 1, handshake_timeout: Duration::from_millis(300) };
    let server = Server::start_with(&tls, limits).await;
    let mut silent = TcpStream::connect(&server.address).await.unwrap();
    // Waits behind the silent one, and gets in once that is given up.
    call(&server.channel(&house.client("app"), "node-1")).await.unwrap();
    assert_eq!(tls.status().refused_connections, 1);
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn sessions_are_never_resumed() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    let mut config = ClientConfig::clone(&house.client("app").config());
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut stream = dial(Arc::clone(&config), &server.address).await;
        // Past the first byte a session ticket would have arrived, too.
        stream.read_u8().await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_node_with_the_right_name_and_another_key_is_not_spoken_to() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    house.issue(Role::Voter, "node-9");
    let client = ClientTls::load(house.tls_files("node-9")).unwrap();
    let endpoint = Endpoint { name: "node-1".into(), address: server.address.clone() };
    let to = |keys: &[[u8; 32]]| {
        let options = ChannelOptions { keys_sha256: Some(keys.to_vec()), ..ChannelOptions::default() };
        client.channel(&endpoint, &options).unwrap()
    };
    let key = tls.identity().key_sha256;
    assert_refused!(to(&[[7; 32]]), ConnectError::NodeKeyWrong { .. });
    assert_refused!(to(&[]), ConnectError::NodeKeyWrong { .. });
    assert!(server.peers.lock().unwrap().is_empty());
    call(&to(&[[7; 32], key])).await.unwrap();
}

#[tokio::test]
async fn nobody_and_nothing_at_an_address_is_said_so() {
    let house = House::new();
    let client = house.client("app");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = ChannelOptions { connect_timeout: Duration::from_millis(200), ..ChannelOptions::default() };
    let endpoint = Endpoint { name: "node-1".into(), address: address.clone() };
    assert_refused!(client.channel(&endpoint, &options).unwrap(), ConnectError::TimedOut { .. });
    drop(listener);
    assert_refused!(channel(&client, "node-1", &address), ConnectError::Unreachable { .. });
    for (name, address) in [("10.0.0.1", "a:1"), ("a b", "a:1"), ("", "a:1"), ("node-1", "a")] {
        assert!(client.channel(&Endpoint { name: name.into(), address: address.into() }, &options).is_err());
    }
}

/// Has the CA's key sign what [`Authority`] never would, into `odd.pem` and `odd.key`.
fn issue_odd(house: &House, params: &rcgen::CertificateParams) {
    let read = |name| std::fs::read_to_string(house.path(name)).unwrap();
    let authority_key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(house.path("odd.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(house.path("odd.key"), key.serialize_pem()).unwrap();
}

async fn dial(config: Arc<ClientConfig>, address: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(config).connect(ServerName::try_from("node-1").unwrap(), stream).await.unwrap()
}

/// A server with whatever certificate, which a node would not start with.
async fn bare_server(files: &TlsFiles) -> String {
    let material = files.read().unwrap().parse().unwrap();
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(material.chain, material.private_key)
        .unwrap();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

/// The refusal that was noted last.
async fn noted(
    tls: &ReloadingTls,
    refusals: &mut Option<tokio::sync::mpsc::Receiver<RefusedCertificate>>,
) -> (Role, String, Why) {
    let refusals = refusals.get_or_insert_with(|| tls.refusals().take().unwrap());
    let refused = tokio::time::timeout(Duration::from_secs(20), refusals.recv()).await.unwrap().unwrap();
    (refused.role, refused.name, refused.why)
}

#[tokio::test]
async fn refused_certificates_are_noted_as_they_name_themselves() {
    let (house, other) = (House::new(), House::new());
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    let mut refusals = None;

    house.issue_at(Role::Application, "late", 1, days_ago(3));
    let client = ClientTls::load(house.tls_files("late")).unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap_err();
    assert_eq!(noted(&tls, &mut refusals).await, (Role::Application, "late".into(), Why::Expired));

    other.issue(Role::Application, "foreign");
    let files = TlsFiles { authorities: house.path("ca.pem"), ..other.tls_files("foreign") };
    call(&server.channel(&ClientTls::load(files).unwrap(), "node-1")).await.unwrap_err();
    assert_eq!(noted(&tls, &mut refusals).await, (Role::Application, "foreign".into(), Why::UnknownAuthority));

    let issued = house.issue(Role::Application, "bad");
    let list = house.path("revoked.pem");
    house.authority.update_revocation_list(&list, &[issued.identity.serial.number], 30, now()).unwrap();
    let files = TlsFiles { revocation_lists: vec![list], ..house.tls_files("node-1") };
    let tls = ReloadingTls::load(files).unwrap();
    let server = Server::start(&tls).await;
    call(&server.channel(&ClientTls::load(house.tls_files("bad")).unwrap(), "node-1")).await.unwrap_err();
    assert_eq!(noted(&tls, &mut None).await, (Role::Application, "bad".into(), Why::Revoked));

    // Who is let in is not noted.
    call(&server.channel(&house.client("good"), "node-1")).await.unwrap();
    call(&server.channel(&ClientTls::load(house.tls_files("bad")).unwrap(), "node-1")).await.unwrap_err();
    assert!(tls.refusals().take().is_none(), "there is one taker");
}
