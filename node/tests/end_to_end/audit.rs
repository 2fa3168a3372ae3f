//! The journal from outside: checked at every member and by the command line, listed, exported, altered.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kura_client::wire::registry_client::RegistryClient;
use kura_client::{Action, Client, Config, JournalError, Receipt, wire};
use kura_cluster::hexadecimal;
use kura_node::certificates::{Authority, AuthorityFiles, Identity, Role};
use kura_node::dev::{ClientFile, Signal};
use rocksdb::{DB, Options};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use time::OffsetDateTime;

use super::raw;
use super::world::{CLINIC, DOCTOR, HOSPITAL, KURA, SOON, World, note, number, until};

/// What a command answered.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

/// Runs `kura audit …` with a client's configuration.
async fn audit(world: &World, file: ClientFile, words: &[&str]) -> Answer {
    let mut command = tokio::process::Command::new(KURA);
    command.arg("audit").args(words).arg("--client").arg(world.cluster.layout().client(file));
    let output = command.output().await.unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn put(world: &World, nth: u64) -> Receipt {
    world.doctor(HOSPITAL).put(&number(nth), note()).bytes("a note").await.unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// SHA-256 of a node's public key.
fn key_of(world: &World, node: &str) -> String {
    let path = raw::node_files(world.cluster.layout(), node).certificate;
    let certificate = CertificateDer::from_pem_file(path).unwrap();
    hexadecimal(Identity::from_der(&certificate).unwrap().key_sha256)
}

/// A head whose root is another.
fn forged(head: &Path, to: &Path) -> PathBuf {
    let text = fs::read_to_string(head).unwrap();
    let (rest, last) = text.trim_end().split_at(text.trim_end().len() - 1);
    fs::write(to, format!("{rest}{}\n", if last == "0" { "1" } else { "0" })).unwrap();
    to.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_can_be_checked_at_every_member_and_from_an_older_head() {
    let world = World::start(2, 1).await;
    world.enrol(1).await;
    let receipt = put(&world, 1).await;
    // Each member shows that the entry is there, the sealed backup too.
    for member in world.cluster.plan().members.clone() {
        let only = world.cluster.client_at(ClientFile::Application, &member.name).await.unwrap();
        let head =
            until("the entry", SOON, async || only.journal().includes(&receipt).await.map_err(|e| e.to_string()));
        assert!(head.await.size() > receipt.journal_position());
    }
    let told = receipt.to_string();
    let (rest, last) = told.split_at(told.len() - 1);
    let other: Receipt = format!("{rest}{}", if last == "0" { "1" } else { "0" }).parse().unwrap();
    let error = world.application.journal().includes(&other).await.unwrap_err();
    assert!(matches!(error, JournalError::NotIncluded { .. }), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let head = folder.path().join("head");
    let first = audit(&world, ClientFile::Operator, &["head", "--file", text(&head), "--json"]).await;
    assert_eq!(first.code, 0, "{}", first.err);
    let size = first.lines()[0]["size"].as_u64().unwrap();
    for _ in 0..10 {
        put(&world, 1).await;
    }
    let since = audit(&world, ClientFile::Application, &["verify", "--from", text(&head), "--json"]).await;
    assert_eq!(since.code, 0, "{}", since.err);
    let told = &since.lines()[0];
    assert_eq!((told["from"].as_u64(), told["opened"].as_u64()), (Some(size), None));
    assert!(told["entries"].as_u64().unwrap() >= 10);
    let whole = audit(&world, ClientFile::Auditor, &["verify", "--content", "--json"]).await;
    assert_eq!(whole.code, 0, "{}", whole.err);
    let told = &whole.lines()[0];
    assert_eq!((told["from"].as_u64(), &told["opened"]), (Some(0), &told["entries"]));
    assert!(told["entries"].as_u64().unwrap() >= size + 10);
    // Only an auditor has entries opened.
    let refused = audit(&world, ClientFile::Operator, &["verify", "--content"]).await;
    assert_eq!(refused.code, 3, "{}", refused.err);

    // Each member's signature is demanded by its key, and nobody else's will do.
    for member in world.cluster.plan().members.clone() {
        let key = key_of(&world, &member.name);
        let told = until("a signed head", SOON, async || {
            let verified = audit(&world, ClientFile::Auditor, &["verify", "--json", "--signed-by", &key]).await;
            if verified.code == 0 { Ok(verified) } else { Err(verified.err) }
        });
        let signed = told.await.lines()[0]["signed"].clone();
        assert!(signed.as_array().unwrap().iter().any(|one| one["key_sha256"] == key.as_str()), "{signed}");
    }
    let nobody = audit(&world, ClientFile::Auditor, &["verify", "--signed-by", &"ab".repeat(32)]).await;
    assert_eq!(nobody.code, 4, "{}", nobody.err);

    let other = forged(&head, &folder.path().join("forged"));
    for words in [["verify", "--from"], ["head", "--file"]] {
        let alarm = audit(&world, ClientFile::Operator, &[words[0], words[1], text(&other)]).await;
        assert_eq!(alarm.code, 7, "{}", alarm.err);
        assert!(alarm.err.contains("the journal was rewritten"), "{}", alarm.err);
    }
    let renewed = audit(&world, ClientFile::Operator, &["head", "--file", text(&head), "--json"]).await;
    assert_eq!(renewed.lines()[0]["continues"].as_u64(), Some(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_altered_on_disk_does_not_verify() {
    let mut world = World::start(1, 0).await;
    world.enrol(1).await;
    let receipt = put(&world, 1).await;
    assert_eq!(audit(&world, ClientFile::Operator, &["verify"]).await.code, 0);
    world.cluster.kill("voter-1", Signal::TERM).await.unwrap();
    let state = world.cluster.layout().node_data("voter-1").join("state");
    let directory = state.join(fs::read_to_string(state.join("CURRENT")).unwrap().trim());
    {
        let families = DB::list_cf(&Options::default(), &directory).unwrap();
        // The node still closes its databases when the signal has been sent.
        let deadline = std::time::Instant::now() + SOON;
        let db = loop {
            match DB::open_cf(&Options::default(), &directory, &families) {
                Err(error) if error.to_string().contains("LOCK") && std::time::Instant::now() < deadline => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        let journal = db.cf_handle("journal").unwrap();
        let key = [&[18][..], &receipt.journal_position().to_be_bytes()].concat();
        let mut row = db.get_cf(journal, &key).unwrap().unwrap();
        *row.last_mut().unwrap() ^= 1;
        db.put_cf(journal, &key, row).unwrap();
        db.flush_cf(journal).unwrap();
    }
    world.cluster.restart("voter-1").await.unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();
    let alarm = audit(&world, ClientFile::Operator, &["verify"]).await;
    assert_eq!(alarm.code, 7, "{}", alarm.err);
    assert!(alarm.err.contains("the head says"), "{}", alarm.err);
    let error = world.application.journal().includes(&receipt).await.unwrap_err();
    assert!(error.is_alarm(), "{error}");
    let content = audit(&world, ClientFile::Auditor, &["list", "--all", "--json"]).await;
    assert_ne!(content.code, 0, "an entry that does not open is not passed over");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_exports_by_the_command_line() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let record = world.put(&number, "a note").await;
    let reason = r#"he said: "no", \n 「否」 </script>"#;
    world.doctor(HOSPITAL).hide(&number, record).reason(reason).await.unwrap();
    world.doctor(CLINIC).get(&number, record).await.unwrap_err();

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("all.ndjson");
    let exported = audit(&world, ClientFile::Auditor, &["export", "--out", text(&out)]).await;
    assert_eq!((exported.code, exported.out.as_str()), (0, ""), "{}", exported.err);
    let lines: Vec<Value> =
        fs::read_to_string(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let positions: Vec<u64> = lines.iter().map(|line| line["journal_position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (0..positions.len() as u64).collect::<Vec<_>>());
    assert!(exported.err.contains(&format!("{} entries", lines.len())), "{}", exported.err);
    let hide = lines.iter().find(|line| line["action"] == "hide").unwrap();
    assert_eq!((hide["reason"].as_str(), hide["participant"].as_str()), (Some(reason), Some(number.reveal())));
    let again = audit(&world, ClientFile::Auditor, &["export", "--out", text(&out)]).await;
    assert_eq!(again.code, 8, "{}", again.err);
    let none = audit(&world, ClientFile::Auditor, &["export", "--since", "2199-01-01"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    for file in [ClientFile::Operator, ClientFile::Registrar1, ClientFile::Application] {
        assert_eq!(audit(&world, file, &["export"]).await.code, 3, "{file:?}");
    }

    let denied = audit(&world, ClientFile::Auditor, &["list", "--all", "--denied", "--json"]).await;
    let told: Vec<_> = denied.lines().iter().map(|line| (line["facility"].clone(), line["denial"].clone())).collect();
    // The newest is the application's attempt to export.
    assert_eq!(told, [("".into(), "certificate".into()), (CLINIC.into(), "hidden".into())]);
    let few = audit(&world, ClientFile::Auditor, &["list", "--all", "--limit", "2"]).await;
    assert!(few.err.contains("there are more"), "{}", few.err);
    // A facility's list takes the right, and does not say why its user was refused.
    let own = ["list", "--own-facility", "--as", &format!("{CLINIC}/{DOCTOR}"), "--json"];
    assert_eq!(audit(&world, ClientFile::Application, &own).await.code, 3);
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let before = registry.users(CLINIC).await.unwrap().remove(0);
    let mut user = before.clone();
    user.lists_accesses = true;
    registry.change_user(&before, &user).await.unwrap().done().unwrap();
    let listed = audit(&world, ClientFile::Application, &own).await;
    assert_eq!(listed.code, 0, "{}", listed.err);
    let gets: Vec<Value> = listed.lines().into_iter().filter(|line| line["action"] == "get").collect();
    assert_eq!(gets.len(), 1, "{gets:?}");
    assert_eq!((&gets[0]["denial"], &gets[0]["participant"]), (&"refused".into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_authentications_that_name_an_application_are_journalled() {
    let world = World::start(2, 0).await;
    let now = OffsetDateTime::now_utc();
    let authority = raw::authority(&world.cluster);
    let config = |files: kura_client::tls::TlsFiles| Config {
        ca: files.authorities,
        certificate: files.certificate,
        key: files.private_key,
        ..world.cluster.client_config(ClientFile::Application).unwrap()
    };
    let late = now - time::Duration::days(3);
    for name in ["application", "nobody"] {
        let (expired, _) = raw::issue(&world.cluster, &authority, (Role::Application, name), 1, late);
        Client::connect(config(expired)).await.unwrap_err();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let files =
        AuthorityFiles { certificate: elsewhere.path().join("ca.pem"), private_key: elsewhere.path().join("ca.key") };
    let other = Authority::create(&files, authority.cluster(), 400, now).unwrap();
    let (foreign, _) = raw::issue(&world.cluster, &other, (Role::Application, "application"), 30, now);
    Client::connect(config(foreign)).await.unwrap_err();
    let mut registry = RegistryClient::new(raw::application(&world));
    registry.list_users(wire::ListRegistryRequest::default()).await.unwrap_err();

    let auditor = world.cluster.client(ClientFile::Auditor).await.unwrap().journal();
    let expected = ["certificate expired", "certificate of an unknown authority", "certificate's role may not do this"];
    let found = until("entries of every kind", SOON, async || {
        let listed = auditor.list().action(Action::Authenticate).stream().take(usize::MAX).await;
        let listed = listed.map_err(|error| error.to_string())?;
        let reasons: BTreeSet<String> = listed.iter().map(|access| access.reason.clone()).collect();
        if reasons.len() < expected.len() { Err(format!("{reasons:?}")) } else { Ok(listed) }
    })
    .await;
    let reasons: BTreeSet<&str> = found.iter().map(|access| access.reason.as_str()).collect();
    assert_eq!(reasons, BTreeSet::from(expected));
    let named = |access: &kura_client::Access| (access.application.clone(), access.denial.clone());
    assert!(found.iter().all(|access| named(access) == ("application".into(), "certificate".into())));
}
