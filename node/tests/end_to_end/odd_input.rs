//! Whatever comes over its connections, a node goes on to serve, in bounded memory, and none of it reaches its log.
//!
//! What is sent follows from a seed, which is printed; `KURA_SEED` has it sent again. The order in which connections are
//! served does not follow from it.

mod frames;
mod messages;

use std::fs;
use std::time::Duration;

use kura_client::tls::ClientTls;
use kura_node::dev::ClientFile;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tonic::Code;

use super::memory::peak_kib;
use super::raw;
use super::world::{HOSPITAL, World, note, set};

/// Messages of each kind of request.
const EACH: usize = 4;
/// Connections that are spoken to in bytes, with a certificate and without.
const CONNECTIONS: usize = 48;
/// Callers at a time.
const CALLERS: usize = 8;
/// Connections on which nobody says anything, all the while.
const SILENT: usize = 100;
const MEMORY_KIB_MAX: u64 = 400 << 10;
/// No answer takes longer; a call that waits for more of a stream is given up then.
const CALL: Duration = Duration::from_secs(5);

/// What no log may hold: whatever was sent as a text, and whom it was about.
fn planted(number: &str) -> Vec<String> {
    [messages::WORDS.iter().map(|word| (*word).to_owned()).collect(), vec![number.to_owned()]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outlives_whatever_is_sent_to_it() {
    let seed: u64 = std::env::var("KURA_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("KURA_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::configured(1, 0, |table| set(table, "log", "level", "debug")).await;
    // Requests are about the one; that of the other must be as it was.
    let (spoken_of, other) = (world.enrol(4_711).await, world.enrol(4_712).await);
    let record = world.put(&other, "as it was").await;
    let name = world.voters().remove(0);
    let member = world.member(&name);
    let schema = messages::Schema::read();
    assert!(schema.methods.len() > 60, "only {} methods", schema.methods.len());

    let open = ClientTls::load(raw::client_files(world.cluster.layout(), ClientFile::Application)).unwrap();
    let with = frames::Door::new(open.config(), &member);
    let files = raw::client_files(world.cluster.layout(), ClientFile::Application);
    let without = frames::Door::without_certificate(&files, &member);
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(tokio::net::TcpStream::connect(member.address()).await.unwrap());
    }

    let mut sent: Vec<(String, Vec<Vec<u8>>, bool)> = Vec::new();
    for (path, input) in &schema.methods {
        for nth in 0..EACH {
            // The last of each is no message at all.
            let sound = nth + 1 < EACH;
            let count = if sound { random.random_range(1..=2) } else { 1 };
            let draw = |random: &mut StdRng| match sound {
                true => schema.message(random, input, spoken_of.reveal()),
                false => messages::noise(random, 300),
            };
            sent.push((path.clone(), (0..count).map(|_| draw(&mut random)).collect(), sound));
        }
    }
    let total = sent.len();
    let mut tasks = JoinSet::new();
    let channel = raw::application(&world);
    for nth in 0..CALLERS {
        let (channel, mine) = (channel.clone(), sent.iter().skip(nth).step_by(CALLERS).cloned().collect::<Vec<_>>());
        tasks.spawn(async move {
            let mut ended = Vec::new();
            for (path, messages, sound) in mine {
                ended.push((path.clone(), sound, messages::call(&channel, &path, messages, CALL).await));
            }
            ended
        });
    }
    let mut bytes = JoinSet::new();
    for nth in 0..CONNECTIONS {
        let door = if nth % 3 == 2 { without.clone() } else { with.clone() };
        let mut random = StdRng::seed_from_u64(random.random());
        let paths: Vec<String> = schema.methods.iter().map(|(path, _)| path.clone()).collect();
        bytes.spawn(async move { (nth % 3 == 2, door.speak(&mut random, &paths).await) });
    }
    let (mut wrong, mut answered) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        for (path, sound, code) in ended.unwrap() {
            answered += usize::from(code.is_some());
            // A sound message is the caller's fault at worst; none breaks a connection.
            if sound && matches!(code, Some((Code::Unknown | Code::Internal | Code::DataLoss, _))) {
                wrong.push(format!("{path}: {code:?}"));
            }
        }
    }
    while let Some(ended) = bytes.join_next().await {
        if let (true, heard @ 1..) = ended.unwrap() {
            wrong.push(format!("{heard} bytes were told to somebody without a certificate"));
        }
    }
    println!("{answered} of {total} calls were answered");
    assert!(wrong.is_empty(), "KURA_SEED={seed}\n{}", wrong.join("\n"));
    assert!(answered * 10 > total * 9, "KURA_SEED={seed}: {answered} of {total} were answered");

    // It serves, as before, also with the silent ones there.
    world.doctor(HOSPITAL).put(&other, note()).bytes("after it").await.unwrap();
    let read = world.doctor(HOSPITAL).get(&other, record).await.unwrap().bytes().await.unwrap();
    assert_eq!(&read[..], b"as it was", "KURA_SEED={seed}");
    let peak = peak_kib(world.cluster.process_id(&name).unwrap());
    assert!(peak < MEMORY_KIB_MAX, "KURA_SEED={seed}: it took {} MiB", peak >> 10);
    drop(silent);
    assert_eq!(world.cluster.stop().await.unwrap(), Vec::<String>::new());
    let log = fs::read_to_string(world.cluster.layout().node_log(&name)).unwrap();
    assert!(
        !log.contains("panicked"),
        "KURA_SEED={seed}: {}",
        log.lines().find(|line| line.contains("panicked")).unwrap()
    );
    for word in planted(spoken_of.reveal()) {
        let line = log.lines().find(|line| line.contains(&word));
        assert!(line.is_none(), "KURA_SEED={seed}: {word} is in the log: {line:?}");
    }
}
