//! How far backup and archive are behind: told as it is, UNKNOWN where nobody knows, and by one member alone.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kura_client::now_ms;
use kura_node::dev::{ClientFile, Cluster, Signal};
use serde_json::Value;

use super::world::{KURA, SOON, World, quick_segments, until};

/// The documented code for "further behind than asked, or nobody knows".
const BEHIND: Option<i32> = Some(11);
/// A node that does not answer costs its caller a second or two.
const TOLD: Duration = Duration::from_secs(20);

fn status(cluster: &Cluster, words: &[&str]) -> Output {
    let config = cluster.layout().client(ClientFile::Operator);
    let mut command = Command::new(KURA);
    command.arg("status").args(words).arg("--client").arg(config).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Result<Value, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().next().ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    serde_json::from_str(told).map_err(|error| format!("{error}: {text}"))
}

fn all_is_null(point: &Value) -> bool {
    ["entries_behind", "bytes_behind", "milliseconds_behind", "seconds_behind"].iter().all(|key| point[*key].is_null())
}

fn member<'v>(told: &'v Value, name: &str) -> &'v Value {
    told["members"].as_array().unwrap().iter().find(|member| member["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_is_told_grows_and_is_unknown_once_nobody_knows() {
    let mut world = World::configured(1, 1, quick_segments).await;
    let number = world.enrol(1).await;
    world.put(&number, "both have it").await;
    let within = ["--fail-if-lag", "5s", "--fail-if-archive-lag", "20s", "--json"];
    let is_within = async |world: &World| match status(&world.cluster, &within) {
        output if output.status.success() => json(&output),
        output => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    };
    let told = until("both within their limits", SOON, async || is_within(&world).await).await;
    for point in [&told["replication_point"], &told["archive_point"]] {
        assert!(point["state"] == "known" && point["seconds_behind"].is_u64() && point["why"].is_null(), "{told}");
    }

    // The archive's place is unmounted: what it has does not grow, the log does.
    let archive = world.cluster.layout().archive("backup-1");
    let away = archive.with_extension("away");
    fs::rename(&archive, &away).unwrap();
    fs::create_dir_all(&archive).unwrap();
    world.put(&number, "not in the archive").await;
    let mut seconds = Vec::new();
    until("an archive that falls behind", SOON, async || {
        let output = status(&world.cluster, &["--fail-if-archive-lag", "2s", "--json"]);
        let told = json(&output)?;
        let point = &told["archive_point"];
        let Some(behind) = point["seconds_behind"].as_u64().filter(|_| output.status.code() == BEHIND) else {
            return Err(format!("{:?} {point}", output.status));
        };
        seconds.push(behind);
        if behind >= 4 { Ok(()) } else { Err(point.to_string()) }
    })
    .await;
    assert!(seconds.is_sorted() && seconds[0] >= 2, "{seconds:?}");
    fs::remove_dir_all(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    until("an archive that catches up", SOON, async || is_within(&world).await).await;

    // A backup that does not answer has no lag that anybody knows.
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    world.put(&number, "not beyond the prefecture").await;
    let told = until("an unknown lag", SOON, async || {
        let output = status(&world.cluster, &["--fail-if-lag", "1h", "--json"]);
        let told = json(&output)?;
        if output.status.code() == BEHIND { Ok(told) } else { Err(told["replication_point"].to_string()) }
    })
    .await;
    let point = &told["replication_point"];
    assert!(point["state"] == "unknown" && all_is_null(point) && all_is_null(&told["archive_point"]), "{told}");
    let why = point["why"].as_str().unwrap();
    assert!(why.contains("no backup answers; backup-1 did last") && why.contains("had index"), "{why}");
    let silent = member(&told, "backup-1");
    assert!(silent["applied_index"].is_null() && silent["last_heard_ms"].is_u64(), "{silent}");
    assert!(told["alarms"].as_array().unwrap().iter().any(|alarm| alarm.as_str().unwrap().contains("UNKNOWN")));
    let shown = status(&world.cluster, &[]);
    let (shown, noted) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.contains("UNKNOWN: no backup answers") && shown.contains("NO ANSWER from backup-1"), "{shown}");
    assert!(noted.contains("ALARM: ") && noted.contains("UNKNOWN"), "{noted}");

    // A leader that starts anew has no lag of before; when the backup was last there, it remembers.
    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();
    world.cluster.restart("voter-1").await.unwrap();
    world.leader().await;
    let output = status(&world.cluster, &["--fail-if-lag", "1h", "--json"]);
    let told = json(&output).unwrap();
    assert_eq!(output.status.code(), BEHIND, "{told}");
    let (point, silent) = (&told["replication_point"], member(&told, "backup-1"));
    assert!(all_is_null(point) && point["index"].is_null() && silent["applied_index"].is_null(), "{told}");
    assert!(silent["last_heard_ms"].is_u64() && silent["last_heard_before_start"] == true, "{silent}");
    let why = point["why"].as_str().unwrap();
    assert!(why.contains("none did since") && why.contains("backup-1 did last at"), "{why}");

    world.cluster.restart("backup-1").await.unwrap();
    until("both within their limits again", SOON, async || is_within(&world).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_alone_answers_without_quorum_and_keys() {
    let mut world = World::start(1, 1).await;
    let number = world.enrol(1).await;
    world.put(&number, "kept").await;
    let before = world.settled().await.committed_index;
    let backup = format!("backup-1={}", world.member("backup-1").address());
    let ask = |world: &World| json(&status(&world.cluster, &["--at", &backup, "--json"]));
    until("a voter that was heard", SOON, async || {
        let told = ask(&world)?;
        if member(&told, "voter-1")["last_heard_ms"].is_null() { Err(told.to_string()) } else { Ok(()) }
    })
    .await;
    world.cluster.kill("voter-1", Signal::KILL).await.unwrap();

    let began = Instant::now();
    let told = until("no leader", SOON, async || {
        let told = ask(&world)?;
        if told["leader_id"] == 0 && told["clock_offset_ms"].is_null() { Ok(told) } else { Err(told.to_string()) }
    })
    .await;
    assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
    let is_told = |told: &Value| {
        let age_ms = now_ms().saturating_sub(told["applied_at_ms"].as_u64().unwrap());
        assert!(told["node"] == "backup-1" && told["applied_index"].as_u64().unwrap() >= before, "{told}");
        assert!(age_ms < 120_000 && told["clock_ms"].as_u64().unwrap().abs_diff(now_ms()) < 10_000, "{told}");
        assert!(told["shares"].as_str().unwrap().contains("none for the present root key"), "{told}");
        assert!(all_is_null(&told["replication_point"]) && all_is_null(&told["archive_point"]), "{told}");
        let voter = member(told, "voter-1");
        assert!(voter["reachable"] == false && voter["applied_index"].is_null() && voter["unsealed"].is_null());
        (voter["last_heard_ms"].clone(), voter["last_heard_before_start"].clone())
    };
    let (heard, before) = is_told(&told);
    let heard = heard.as_u64().unwrap();
    assert!(now_ms().saturating_sub(heard) < 120_000 && before == false, "{told}");

    // After a power cut of its own it has heard nobody, and knows as much of itself; and when the voter was last there.
    let data = world.cluster.layout().node_data("backup-1");
    let contacts = data.join("contacts");
    until("a saved contact", SOON, async || fs::metadata(&contacts).map_err(|error| error.to_string())).await;
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    let killed_ms = now_ms();
    world.cluster.restart("backup-1").await.unwrap();
    let told = until("an answer", SOON, async || ask(&world)).await;
    let (again, before) = is_told(&told);
    let again = again.as_u64().unwrap();
    // It is saved every five seconds: that much too early, and never later than it was.
    assert!(before == true && again <= heard && killed_ms - again < 120_000, "{heard} {told}");
    let is_shown = |world: &World, words: &[&str]| {
        let shown = status(&world.cluster, &["--at", &backup]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        words.iter().for_each(|words| assert!(shown.contains(words), "{words}: {shown}"));
    };
    let heard_before = format!("NO ANSWER from voter-1: last contact {}", kura_node::clock::in_japan(again));
    let head = ["NONE that has a majority", "applied up to index", "UNKNOWN against", "before the start of"];
    is_shown(&world, &head);
    is_shown(&world, &[heard_before.as_str()]);

    // What cannot be read is unknown, and holds nothing up.
    world.cluster.kill("backup-1", Signal::KILL).await.unwrap();
    // Whoever plans a take-over sees it, too.
    let mut plan = Command::new(KURA);
    plan.args(["recover", "plan"]).arg(&data).arg("--out").arg(data.with_extension("plan")).stdin(Stdio::null());
    let planned = plan.output().unwrap();
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.contains("it heard") && planned.contains("voter-1 at 20"), "{planned}");
    fs::write(&contacts, "damaged").unwrap();
    world.cluster.restart("backup-1").await.unwrap();
    let told = until("an answer", SOON, async || ask(&world)).await;
    let (heard, before) = is_told(&told);
    assert!(heard.is_null() && before.is_null(), "{told}");
    is_shown(&world, &["last contact UNKNOWN: none since"]);
}
