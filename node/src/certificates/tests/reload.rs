//! Files that change while the node serves.

use kura_client::tls::TlsFileError;

use super::*;

const LIST: &str = "revoked.pem";

fn with_list(house: &House, name: &str) -> TlsFiles {
    TlsFiles { revocation_lists: vec![house.path(LIST)], ..house.tls_files(name) }
}

fn revoke(house: &House, numbers: &[&Identity]) -> usize {
    let numbers: Vec<Vec<u8>> = numbers.iter().map(|identity| identity.serial.number.clone()).collect();
    house.authority.update_revocation_list(&house.path(LIST), &numbers, 30, now()).unwrap()
}

#[tokio::test]
async fn a_revoked_client_is_refused_without_a_restart() {
    let house = House::new();
    house.issue(Role::Voter, "node-1");
    revoke(&house, &[]);
    let tls = ReloadingTls::load(with_list(&house, "node-1")).unwrap();
    let server = Server::start(&tls).await;
    let (client, other) = (house.client("app"), house.client("other"));
    let (open, others) = (server.channel(&client, "node-1"), server.channel(&other, "node-1"));
    call(&open).await.unwrap();
    let revoked = server.last_peer().identity;
    assert!(!tls.is_revoked(&revoked.serial));

    revoke(&house, &[&revoked]);
    assert!(tls.reload_if_changed().unwrap());
    assert!(tls.is_revoked(&revoked.serial));
    // On the connection that is already open the service layer refuses, on new ones the handshake.
    assert_eq!(call(&open).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert_refused!(server.channel(&client, "node-1"), ConnectError::OwnCertificateRevoked { .. });
    call(&others).await.unwrap();
    call(&server.channel(&other, "node-1")).await.unwrap();
}

#[tokio::test]
async fn a_renewed_node_certificate_serves_new_connections() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    let client = house.client("app");
    let open = server.channel(&client, "node-1");
    call(&open).await.unwrap();
    let before = served_serial(&client, &server).await;
    assert_eq!(before, tls.identity().serial);
    assert!(!tls.reload_if_changed().unwrap());

    let renewed = house.issue(Role::Voter, "node-1").identity;
    assert_ne!(renewed.serial, before);
    assert!(tls.reload_if_changed().unwrap());
    assert_eq!(served_serial(&client, &server).await, renewed.serial);
    call(&open).await.unwrap();
    assert_eq!(tls.status().reloads, 1);
}

async fn served_serial(client: &Arc<ClientTls>, server: &Server) -> Serial {
    let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("node-1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(client.config()).connect(name, stream).await.unwrap();
    Identity::from_der(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap().serial
}

#[tokio::test]
async fn bad_files_leave_the_former_ones_serving() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    let client = house.client("app");
    let (serial, files) = (tls.identity().serial.clone(), house.tls_files("node-1"));
    let good = std::fs::read(&files.certificate).unwrap();

    house.issue(Role::Voter, "node-2");
    house.issue(Role::Application, "node-3");
    house.issue_at(Role::Voter, "node-4", 1, days_ago(3));
    let of = |name: &str| std::fs::read(house.tls_files(name).certificate).unwrap();
    let bad: [Vec<u8>; 6] =
        [Vec::new(), b"garbage".to_vec(), good[..good.len() / 2].to_vec(), of("node-2"), of("node-3"), of("node-4")];
    for (count, bytes) in bad.iter().enumerate() {
        std::fs::write(&files.certificate, bytes).unwrap();
        let error = tls.reload_if_changed().unwrap_err();
        assert!(error.to_string().contains("node-1.pem"), "the file is named: {error}");
        let status = tls.status();
        assert_eq!((status.failed_reloads, status.stale, status.reloads), (count as u64 + 1, true, 0));
        assert_eq!(served_serial(&client, &server).await, serial);
    }
    std::fs::remove_file(&files.certificate).unwrap();
    assert!(matches!(tls.reload_if_changed(), Err(TlsLoadError::File(TlsFileError::Read { .. }))));
    call(&server.channel(&client, "node-1")).await.unwrap();

    std::fs::write(&files.certificate, &good).unwrap();
    assert!(!tls.reload_if_changed().unwrap());
    assert!(!tls.status().stale);
}

#[tokio::test]
async fn a_reload_cannot_make_a_node_another_one() {
    let house = House::new();
    let tls = house.node("node-1");
    house.issue(Role::Voter, "node-2");
    let (from, to) = (house.tls_files("node-2"), house.tls_files("node-1"));
    std::fs::copy(from.certificate, to.certificate).unwrap();
    std::fs::copy(from.private_key, to.private_key).unwrap();
    assert!(matches!(tls.reload_if_changed(), Err(TlsLoadError::OtherIdentity { .. })));
    assert_eq!(tls.identity().name, "node-1");
}

#[tokio::test]
async fn the_watch_notices_changes_and_ends_with_its_owner() {
    let house = House::new();
    let tls = house.node("node-1");
    let watch = tls.watch(Duration::from_millis(5));
    let renewed = house.issue(Role::Voter, "node-1").identity;
    tokio::time::timeout(Duration::from_secs(20), async {
        while tls.identity().serial != renewed.serial {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    drop(tls);
    tokio::time::timeout(Duration::from_secs(20), watch).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_uses_its_renewed_certificate_from_the_next_connection() {
    let house = House::new();
    let server = Server::start(&house.node("node-1")).await;
    house.issue_at(Role::Application, "app", 1, days_ago(3));
    let client = ClientTls::load(house.tls_files("app")).unwrap();
    let channel = server.channel(&client, "node-1");
    assert_refused!(channel, ConnectError::OwnCertificateExpired { .. });
    let renewed = house.issue(Role::Application, "app").identity;
    // The same channel: it dials again, and reads the files again before it does.
    call(&channel).await.unwrap();
    assert_eq!(*server.last_peer().identity, renewed);
    assert_eq!((client.generation(), client.failed_reloads()), (1, 0));

    std::fs::write(house.tls_files("app").private_key, "damaged").unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap();
    assert_eq!((client.generation(), client.failed_reloads()), (1, 1));
}

#[tokio::test]
async fn a_client_refuses_a_node_on_its_revocation_list() {
    let house = House::new();
    let tls = house.node("node-1");
    let server = Server::start(&tls).await;
    house.issue(Role::Voter, "node-2");
    revoke(&house, &[]);
    let client = ClientTls::load(with_list(&house, "node-2")).unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap();
    revoke(&house, &[&tls.identity()]);
    assert_refused!(server.channel(&client, "node-1"), ConnectError::NodeCertificateRevoked { .. });
}

#[tokio::test]
async fn an_expired_list_stays_in_force_and_stops_nobody_else() {
    let house = House::new();
    house.issue(Role::Voter, "node-1");
    let (client, other) = (house.client("app"), house.client("other"));
    let revoked = Identity::from_der(&house.tls_files("app").read().unwrap().parse().unwrap().chain[0]).unwrap();
    let numbers = [revoked.serial.number.clone()];
    house.authority.update_revocation_list(&house.path(LIST), &numbers, 1, days_ago(3)).unwrap();
    let tls = ReloadingTls::load(with_list(&house, "node-1")).unwrap();
    assert!(tls.status().revocation_lists_next_update.unwrap() < now().unix_timestamp());
    let server = Server::start(&tls).await;
    assert_refused!(server.channel(&client, "node-1"), ConnectError::OwnCertificateRevoked { .. });
    call(&server.channel(&other, "node-1")).await.unwrap();
}

#[tokio::test]
async fn a_ca_without_a_list_revokes_nothing() {
    let (house, other) = (House::new(), House::new());
    house.issue(Role::Voter, "node-1");
    revoke(&house, &[]);
    let both = [house.path("ca.pem"), other.path("ca.pem")].map(|path| std::fs::read(path).unwrap()).concat();
    std::fs::write(house.path("both.pem"), both).unwrap();
    let files = TlsFiles { authorities: house.path("both.pem"), ..with_list(&house, "node-1") };
    let tls = ReloadingTls::load(files).unwrap();
    let server = Server::start(&tls).await;
    let theirs = other.issue(Role::Application, "app").identity;
    let files = TlsFiles { authorities: house.path("both.pem"), ..other.tls_files("app") };
    let client = ClientTls::load(files).unwrap();
    call(&server.channel(&client, "node-1")).await.unwrap();

    // The same number revoked by the one CA says nothing about the other's certificate.
    revoke(&house, &[&theirs]);
    assert!(tls.reload_if_changed().unwrap());
    assert!(!tls.is_revoked(&theirs.serial));
    call(&server.channel(&client, "node-1")).await.unwrap();
}

#[test]
fn lists_that_cannot_be_trusted_are_refused() {
    let (house, other) = (House::new(), House::new());
    house.issue(Role::Voter, "node-1");
    let load = |files| ReloadingTls::load(files).unwrap_err();
    assert!(matches!(load(with_list(&house, "node-1")), TlsLoadError::File(TlsFileError::Read { .. })));

    let list = other.authority.revocation_list(&[], 30, now()).unwrap();
    std::fs::write(house.path(LIST), list).unwrap();
    assert!(matches!(
        load(with_list(&house, "node-1")),
        TlsLoadError::Revocation(RevocationError::UnknownAuthority { .. })
    ));

    let list = house.authority.revocation_list(&[], 30, now()).unwrap();
    std::fs::write(house.path(LIST), issuing::with_damaged_signature(&list)).unwrap();
    assert!(matches!(load(with_list(&house, "node-1")), TlsLoadError::Revocation(RevocationError::Signature { .. })));

    std::fs::write(house.path(LIST), format!("{list}{list}")).unwrap();
    assert!(matches!(load(with_list(&house, "node-1")), TlsLoadError::Revocation(RevocationError::SecondList { .. })));
}

#[test]
fn a_node_does_not_start_with_what_its_peers_would_refuse() {
    let (house, other) = (House::new(), House::new());
    house.issue(Role::Application, "app");
    assert!(matches!(
        ReloadingTls::load(house.tls_files("app")),
        Err(TlsLoadError::NotANode { role: Role::Application, .. })
    ));
    house.issue(Role::Voter, "node-1");
    let files = TlsFiles { authorities: other.path("ca.pem"), ..house.tls_files("node-1") };
    assert!(matches!(ReloadingTls::load(files), Err(TlsLoadError::Own { .. })));
    let files = TlsFiles { private_key: house.path("app.key"), ..house.tls_files("node-1") };
    assert!(matches!(ReloadingTls::load(files), Err(TlsLoadError::File(TlsFileError::Pair { .. }))));
    house.issue_at(Role::Voter, "node-1", 1, days_ago(3));
    assert!(matches!(ReloadingTls::load(house.tls_files("node-1")), Err(TlsLoadError::Own { .. })));
}
