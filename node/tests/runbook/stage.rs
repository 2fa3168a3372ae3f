//! The stage on which the runbook's courses begin: the cluster of docs/operations.md, with shares of the root key,
//! recovery staff and a record.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::page;
use super::shell::{KURA, Shell};

/// The section of docs/operations.md that brings the cluster up.
pub const BARE_HOSTS: &str = "From bare hosts to a cluster";

/// How long the cluster may take for what it does by itself, and how often is looked.
const SOON: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);

/// What the record holds.
const BODY: &str = "written before the disaster";
const NUMBER: &str = "0043001234567890";

/// Brings it up.
pub fn cluster() -> Shell {
    let mut shell = Shell::new();
    for block in page::read(super::OPERATIONS).iter().filter(|block| block.section == BARE_HOSTS) {
        for step in &block.steps {
            shell.step(super::OPERATIONS, step);
        }
    }
    let fingerprint = split(&mut shell);
    shell.own(&format!("kura key confirm {fingerprint} --client people/reg-1.toml"));
    shell.own(&format!("printf '{BODY}' > before.txt"));
    shell.own(&format!(
        "kura record put {NUMBER} before.txt --class care-record --media-type text/plain --date 2026-05-01 \
         --as F0012/u-0007 --client people/karte.toml"
    ));
    let head = shell.own("kura audit head --client people/aud-1.toml --json 2>/dev/null");
    let head: serde_json::Value = serde_json::from_str(head.trim()).unwrap();
    let head = head["head"].as_str().unwrap_or_else(|| panic!("{head}")).to_owned();
    for (name, value) in [("cluster", "demo"), ("number", NUMBER), ("kept-head", &head)] {
        shell.values.insert(name.into(), value.into());
    }
    shell.own("kura status --client people/op-1.toml --wait");
    archived(&mut shell);
    shell
}

fn status(shell: &mut Shell) -> serde_json::Value {
    let told = shell.own("kura status --client people/op-1.toml --json 2>/dev/null");
    serde_json::from_str(told.trim()).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// Looks until the status is as it should be.
fn until(shell: &mut Shell, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
    let end = Instant::now() + SOON;
    loop {
        let told = status(shell);
        if is_so(&told) {
            return;
        }
        assert!(Instant::now() < end, "{what} did not come about: {told}\n{}", shell.logs());
        std::thread::sleep(LOOK);
    }
}

/// Waits until backup and archive have what is there now, and keeps the replication point, as monitoring would.
fn archived(shell: &mut Shell) {
    let index = status(shell)["committed_index"].as_u64().unwrap();
    until(shell, "an archive that has caught up", |told| {
        let reached = |point: &serde_json::Value| point["state"] == "known" && point["index"].as_u64() >= Some(index);
        reached(&told["archive_point"]) && reached(&told["replication_point"])
    });
    shell.values.insert("index".into(), index.to_string());
}

/// The cluster tells of a drill that went well.
pub fn is_drilled(shell: &mut Shell) {
    until(shell, "a drill that went well", |told| {
        told["last_drill"]["state"] == "known" && told["last_drill"]["failed"] == ""
    });
}

/// Plays three holders: each reads the share that is shown, keeps it, and types it back.
fn split(shell: &mut Shell) -> String {
    const HOLDERS: usize = 3;
    let mut command = Command::new(KURA);
    command.args(["--json", "key", "split", "--config", "voter-1/node.toml", "--threshold", "2", "--holders", "3"]);
    command.args(["--client", "people/op-1.toml"]).current_dir(shell.path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for holder in 1..=HOLDERS {
        let line = lines.next().unwrap_or_else(|| panic!("no share {holder}")).unwrap();
        let words = line.split_once(": ").unwrap_or_else(|| panic!("{line}")).1.to_owned();
        writeln!(stdin, "{words}").unwrap();
        shell.values.insert(format!("share-{holder}"), words);
    }
    let told: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    told["fingerprint"].as_str().unwrap().to_owned()
}

/// All voters die at once, and their disks are gone.
pub fn lose_the_prefecture(shell: &mut Shell) {
    shell.own(
        "for n in voter-1 voter-2 voter-3; do kill -KILL $(cat $n/pid); done; \
         while kill -0 $(cat voter-1/pid) || kill -0 $(cat voter-2/pid) || kill -0 $(cat voter-3/pid); do sleep 0.1; done 2>/dev/null; \
         rm -rf voter-1 voter-2 voter-3",
    );
}

/// The record of before is there, whole, for whoever may see it.
pub fn is_all_there(shell: &mut Shell) {
    let read = shell.own(&format!(
        "kura record list {NUMBER} --class care-record --as F0012/u-0007 --client people/karte.toml --json 2>/dev/null | head -n 1"
    ));
    let listed: serde_json::Value = serde_json::from_str(read.trim()).unwrap_or_else(|error| panic!("{error}: {read}"));
    let record = listed["record"].as_str().unwrap_or_else(|| panic!("{listed}"));
    let got = shell.own(&format!("kura record get {NUMBER} {record} --as F0012/u-0007 --client people/karte.toml"));
    assert!(got.contains(BODY), "{got}");
}
