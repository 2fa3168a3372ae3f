//! Certificates that are revoked, renewed, expired or another CA's, on nodes that go on running.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use kura_client::tls::{ClientTls, TlsFiles};
use kura_client::wire::operations_client::OperationsClient;
use kura_client::{Client, Config, ConnectError, wire};
use kura_node::certificates::{Approval, Authority, AuthorityFiles, Role};
use kura_node::dev::{ClientFile, Cluster, Member};
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::raw;
use super::world::{HOSPITAL, World, cluster, doctor_through, folder, listed, until};

/// Nodes look at their files every five seconds.
const RELOADED: Duration = Duration::from_secs(20);

fn config(cluster: &Cluster, files: TlsFiles) -> Config {
    Config {
        ca: files.authorities,
        certificate: files.certificate,
        key: files.private_key,
        ..cluster.client_config(ClientFile::Application).unwrap()
    }
}

async fn refused_at_the_door(cluster: &Cluster, files: TlsFiles) -> String {
    match Client::connect(config(cluster, files)).await {
        Err(error @ ConnectError::NoNode { .. }) => {
            assert!(!error.may_retry(), "{error}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// SHA-256 of the certificate that a node shows.
async fn shown(files: &TlsFiles, member: &Member) -> Vec<u8> {
    let tls: Arc<ClientTls> = ClientTls::load(files.clone()).unwrap();
    let name = ServerName::try_from(member.name.clone()).unwrap();
    let tcp = TcpStream::connect(member.address()).await.unwrap();
    let stream = TlsConnector::from(tls.config()).connect(name, tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_refused_without_a_restart_on_old_and_new_connections() {
    let mut world = World::start(1, 0).await;
    let authority = raw::authority(&world.cluster);
    let list = raw::begin_revocation_list(&mut world, "voter-1").await;

    let number = world.enrol(1).await;
    let now = OffsetDateTime::now_utc();
    let (bad, issued) = raw::issue(&world.cluster, &authority, (Role::Application, "application"), 30, now);
    let open = Client::connect(config(&world.cluster, bad.clone())).await.unwrap();
    let doctor = doctor_through(&open, HOSPITAL);
    listed(&doctor, &number).await;
    let process = world.cluster.process_id("voter-1");

    let revoked = authority.update_revocation_list(&list, &[issued.identity.serial.number], 30, now).unwrap();
    assert_eq!(revoked, 1);
    let refusal = until("a refusal", RELOADED, async || match doctor.list(&number).stream().take(1).await {
        Ok(_) => Err("the revoked certificate still lists".into()),
        Err(error) => Ok(error),
    })
    .await;
    assert!(!refusal.may_retry() && refusal.to_string().contains("revoked"), "{refusal}");
    let words = refused_at_the_door(&world.cluster, bad).await;
    assert!(words.contains("revoked"), "{words}");
    // The application itself, with its other certificate, goes on.
    listed(&world.doctor(HOSPITAL), &number).await;
    assert_eq!(world.cluster.process_id("voter-1"), process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_node_certificate_is_shown_without_a_restart() {
    let folder = folder();
    let cluster = cluster(folder.path(), 2, 0).await;
    let authority = raw::authority(&cluster);
    let member = cluster.plan().members[1].clone();
    let client = raw::client_files(cluster.layout(), ClientFile::Operator);
    let before = shown(&client, &member).await;
    let node = cluster.layout().node(&member.name);
    let approval = Approval {
        role: Role::Voter,
        name: member.name.clone(),
        alternative_names: vec!["127.0.0.1".into(), "localhost".into()],
        accept_requested_names: false,
        valid_days: 77,
    };
    let now = OffsetDateTime::now_utc();
    let renewed = authority.issue(&node.join("node.csr"), &approval, now).unwrap();
    // As `kura ca sign --out` and a rename: never half a file.
    let fresh = node.join("node.pem.new");
    renewed.create_file(&fresh).unwrap();
    fs::rename(fresh, node.join("node.pem")).unwrap();
    until("the renewed certificate", RELOADED, async || match shown(&client, &member).await == before {
        true => Err("the former one is shown".into()),
        false => Ok(()),
    })
    .await;
    // Members still talk to each other, and everybody sees the new end.
    let operator = cluster.client(ClientFile::Operator).await.unwrap();
    until("both members", RELOADED, async || {
        let status = operator.operations().status().await.map_err(|error| error.to_string())?;
        let told = status.members.iter().find(|one| one.name == member.name).filter(|one| one.reachable);
        let days = told.map(|one| (one.certificate_not_after_ms / 1000) as i64 - now.unix_timestamp());
        match days {
            Some(seconds) if (76 * 86_400..=77 * 86_400).contains(&seconds) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_certificates_and_those_of_another_ca_are_refused() {
    let folder = folder();
    let cluster = cluster(folder.path(), 1, 0).await;
    let authority = raw::authority(&cluster);
    let who = (Role::Application, "application");
    let now = OffsetDateTime::now_utc();
    let (expired, _) = raw::issue(&cluster, &authority, who, 1, now - time::Duration::days(3));
    let words = refused_at_the_door(&cluster, expired).await;
    assert!(words.contains("expired"), "{words}");

    let elsewhere = tempfile::tempdir().unwrap();
    let files =
        AuthorityFiles { certificate: elsewhere.path().join("ca.pem"), private_key: elsewhere.path().join("ca.key") };
    // It calls itself the same: only its key differs.
    let other = Authority::create(&files, authority.cluster(), 400, now).unwrap();
    let (stranger, _) = raw::issue(&cluster, &other, who, 30, now);
    let words = refused_at_the_door(&cluster, stranger).await;
    assert!(words.contains("does not know the CA"), "{words}");
    // A node of that CA is not taken for one of ours either.
    let (node, _) = raw::issue(&cluster, &other, (Role::Voter, "voter-1"), 30, now);
    let mut operations = OperationsClient::new(raw::channel(node, &cluster.plan().members[0]));
    let status = operations.status(wire::StatusRequest {}).await.unwrap_err();
    assert!(kura_client::tls::connect_error(&status).is_some(), "{status}");
    assert_ne!(status.code(), Code::Ok);
    // And with our own, it works.
    cluster.client(ClientFile::Operator).await.unwrap().operations().status().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_on_an_open_connection_ends_its_calls() {
    let folder = folder();
    let cluster = cluster(folder.path(), 1, 0).await;
    let authority = raw::authority(&cluster);
    let now = OffsetDateTime::now_utc();
    // It was good for a day, of which four seconds are left.
    let issued_at = now - time::Duration::days(1) + time::Duration::seconds(4);
    let (files, _) = raw::issue(&cluster, &authority, (Role::Operator, "late"), 1, issued_at);
    let mut operations = OperationsClient::new(raw::channel(files, &cluster.plan().members[0]));
    operations.status(wire::StatusRequest {}).await.unwrap();
    let status = until("the end", RELOADED, async || match operations.status(wire::StatusRequest {}).await {
        Ok(_) => Err("it still works".into()),
        Err(status) => Ok(status),
    })
    .await;
    assert!(status.message().contains("expired"), "{status}");
}
