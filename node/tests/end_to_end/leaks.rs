//! What names anybody or anything never reaches logs or metrics, neither as it is nor as row keys.

use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use kura_client::registry::{Application, Facility, User as RegisteredUser};
use kura_client::wire::consents_client::ConsentsClient;
use kura_client::wire::records_client::RecordsClient;
use kura_client::{Consent, Date, FacilityKind, Method, Profession, User, now_ms, wire};
use kura_cluster::hexadecimal;
use kura_node::dev::{ClientFile, Signal};
use rocksdb::{DB, IteratorMode, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::memory::Made;
use super::raw;
use super::world::{HOSPITAL, SOON, World, confirm, note, number, person_through, set};

const FACILITY: &str = "planted-facility-kq7";
const USER: &str = "planted-user-kq7";
const NAME: &str = "planted-name-kq7";
const LOCAL: &str = "planted-local-id-kq7";
const DOCUMENT: &str = "planted-document-kq7";
const EVIDENCE: &str = "planted-evidence-kq7";
const BODY: &str = "planted-body-kq7";
const REASON: &str = "planted-reason-kq7";
const PLANTED: [&str; 8] = [FACILITY, USER, NAME, LOCAL, DOCUMENT, EVIDENCE, BODY, REASON];
/// Shorter parts of keys occur by chance.
const KEY_BYTES_MIN: usize = 8;

/// A busy run with everything that goes right and much that goes wrong.
async fn be_busy(world: &mut World) -> Vec<String> {
    let registry = world.cluster.client(ClientFile::Registrar1).await.unwrap().registry();
    let facility = Facility::new(FACILITY, NAME, FacilityKind::Clinic);
    registry.add_facility(&facility).await.unwrap().done().unwrap();
    let user = RegisteredUser::new(FACILITY, USER, NAME, Profession::Physician);
    registry.add_user(&user).await.unwrap().done().unwrap();
    let before = registry.applications().await.unwrap().remove(0);
    let mut application = Application::new("application", [HOSPITAL, FACILITY]);
    application.participants = true;
    let registry = registry.because(REASON);
    confirm(&world.cluster, registry.change_application(&before, &application).await.unwrap()).await;

    let (here, nobody) = (number(4_711), number(4_712));
    let user = User::at(FACILITY, USER).authenticated(Method::Card, now_ms());
    let acting = world.application.act(user.clone());
    let consent = Consent::signed_on(Date::today()).evidence(EVIDENCE);
    acting.enrol(&here, consent).await.unwrap();
    acting.link(&here, LOCAL).await.unwrap();
    let person = world.person(here);
    person.grant(FACILITY).evidence(EVIDENCE).await.unwrap();
    let document = note().document_id(DOCUMENT);
    let receipt = acting.put(&here, document.clone()).bytes(BODY).await.unwrap();
    acting.put(&here, document.clone()).bytes("another").await.unwrap_err();
    acting.put(&here, note()).body(Made::noise(1, 5 << 20)).await.unwrap();
    acting.get(&here, receipt.record()).await.unwrap().bytes().await.unwrap();
    acting.list(&here).stream().take(9).await.unwrap();
    acting.hide(&here, receipt.record()).reason(REASON).await.unwrap();
    acting.resolve(LOCAL).await.unwrap();
    person.accesses().stream().take(99).await.unwrap();
    world.application.outcome(receipt.request()).await.unwrap();

    // Refusals and malformed requests, at every voter.
    for voter in world.voters() {
        let config = world.cluster.client_config_at(ClientFile::Application, &voter).unwrap();
        let only = kura_client::Client::connect(config).await.unwrap();
        only.act(user.clone()).get(&nobody, receipt.record()).await.unwrap_err();
        only.act(User::at(FACILITY, "planted-user-kq7-unknown").authenticated(Method::Card, 1))
            .list(&here)
            .stream()
            .take(1)
            .await
            .unwrap_err();
        person_through(&only, nobody).grant(FACILITY).await.unwrap_err();
        let files = raw::client_files(world.cluster.layout(), ClientFile::Application);
        let channel = raw::channel(files, &world.member(&voter));
        let mut records = RecordsClient::new(channel.clone());
        let mut bad = raw::put_whole(FACILITY, &here);
        bad.participant = format!("{}-", here.reveal());
        records.put_whole(bad).await.unwrap_err();
        let mut bad = raw::put_whole(FACILITY, &here);
        bad.record.as_mut().unwrap().document_id = format!("{DOCUMENT}\n");
        records.put_whole(bad).await.unwrap_err();
        let link = wire::LinkRequest {
            actor: raw::doctor(FACILITY),
            request: raw::request(),
            participant: here.reveal().to_owned(),
            local_id: LOCAL.repeat(20),
        };
        ConsentsClient::new(channel).link(link).await.unwrap_err();
    }
    // A crash, a restart and a change of leaders under way.
    let leader = world.leader().await;
    world.cluster.kill(&leader, Signal::KILL).await.unwrap();
    acting.put(&here, note().document_id(format!("{DOCUMENT}-2"))).bytes(BODY).await.unwrap();
    person.revoke(FACILITY).evidence(EVIDENCE).await.unwrap();
    world.cluster.restart(&leader).await.unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();

    let mut words: Vec<String> = PLANTED.iter().map(|word| (*word).to_owned()).collect();
    words.extend([here.reveal().to_owned(), nobody.reveal().to_owned()]);
    words.extend([receipt.record().to_string(), receipt.request().to_string()]);
    words
}

async fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: kura\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("kura_applied_index"), "{text}");
    text
}

/// Every log file that a node or its databases wrote.
fn logs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            logs(&path, found);
        } else if name == "log.txt" || name.starts_with("LOG") {
            found.push(path);
        }
    }
}

/// The random or hashed parts of every row key of a state database, each as text would show it.
fn keys(state: &Path) -> Vec<String> {
    let current = fs::read_to_string(state.join("CURRENT")).unwrap();
    let directory = state.join(current.trim());
    let families = DB::list_cf(&Options::default(), &directory).unwrap();
    let db = DB::open_cf_for_read_only(&Options::default(), &directory, &families, false).unwrap();
    let mut words = Vec::new();
    for family in families.iter().filter(|family| *family != "default" && *family != "journal") {
        for row in db.iterator_cf(db.cf_handle(family).unwrap(), IteratorMode::Start) {
            let (key, _) = row.unwrap();
            // After the table's byte comes what is random or hashed, 16 bytes at a time.
            for part in key[1..].chunks(16).filter(|part| part.len() >= KEY_BYTES_MIN) {
                if part.iter().filter(|byte| **byte == 0).count() * 2 > part.len() {
                    continue;
                }
                let part = &part[..KEY_BYTES_MIN];
                words.push(hexadecimal(part).to_uppercase());
                words.push(hexadecimal(part));
                // As `Debug` of bytes prints them.
                words.push(part.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
                words.push(part.escape_ascii().to_string());
            }
        }
    }
    words.sort();
    words.dedup();
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_metrics_name_nobody_even_at_debug() {
    let mut world = World::configured(3, 1, |table| set(table, "log", "level", "debug")).await;
    let mut words = be_busy(&mut world).await;
    world.settled().await;
    let mut texts = Vec::new();
    for member in world.cluster.plan().members.clone() {
        texts.push((format!("metrics of {}", member.name), metrics(&member.metrics_address()).await.into_bytes()));
    }
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    let mut paths = Vec::new();
    logs(&world.cluster.layout().nodes(), &mut paths);
    assert!(paths.iter().filter(|path| path.ends_with("log.txt")).count() == 4, "{paths:?}");
    texts.extend(paths.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())));

    let before = words.len();
    words.extend(keys(&world.cluster.layout().node_data("voter-1").join("state")));
    assert!(words.len() > before + 100, "only {} parts of keys", words.len() - before);
    let search = AhoCorasick::new(&words).unwrap();
    // The search finds what is there.
    assert!(words.iter().all(|word| search.is_match(format!("x{word}x").as_bytes())));
    let mut wrong = Vec::new();
    for (place, text) in &texts {
        for hit in search.find_iter(text).take(5) {
            let line_start = text[..hit.start()].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let line = String::from_utf8_lossy(&text[line_start..text.len().min(hit.end() + 100)]).into_owned();
            wrong.push(format!("{place}: {:?} in {line}", words[hit.pattern().as_usize()]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let busiest = texts.iter().map(|(_, text)| text.len()).max().unwrap();
    assert!(busiest > 10_000, "debug logs are longer than {busiest} bytes");
}
