//! `kura dev` and `kura demo`: whole clusters on this machine, started and stopped as a person does.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kura_node::dev::Signal;
use serde_json::Value;

use super::host::{KURA, Site, signal};

/// A first start, on a busy machine.
const UP: Duration = Duration::from_secs(90);
const DOWN: Duration = Duration::from_secs(30);

/// A command that runs until it is interrupted.
struct Running {
    child: Child,
    /// What it told once it was up.
    told: Value,
}

impl Running {
    fn dev(site: &Site, directory: &str) -> Running {
        let errors = File::create(site.folder("here").join("dev.err")).unwrap();
        let mut command = Command::new(KURA);
        command.args(["dev", "--data", directory, "--voters", "1", "--backups", "1", "--json"]);
        command.current_dir(site.folder("here")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(out).read_line(&mut line);
            let _ = send.send(line);
        });
        let Ok(line) = lines.recv_timeout(UP) else {
            let _ = child.kill();
            panic!("kura dev is not up: {}", site.errors("here", "dev.err"));
        };
        let told = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line}: {}", site.errors("here", "dev.err")));
        Running { child, told }
    }

    fn interrupt(mut self) -> ExitStatus {
        signal(&self.child, Signal::INT);
        let end = Instant::now() + DOWN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its nodes notice that their parent is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dev_goes_on_with_its_directory_after_ctrl_c() {
    let site = Site::new();
    let first = Running::dev(&site, "cluster");
    let client = |told: &Value, name: &str| {
        let clients = told["clients"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        let mut found = clients.filter(|path| Path::new(path).file_stem().is_some_and(|stem| stem == name));
        found.next().unwrap_or_else(|| panic!("no client configuration {name}: {told}")).to_owned()
    };
    let names: Vec<&str> =
        first.told["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["voter-1", "backup-1"]);
    let archives = first.told["archives"].as_array().unwrap();
    assert!(archives.len() == 1 && Path::new(archives[0].as_str().unwrap()).is_dir(), "{archives:?}");
    let registrar = client(&first.told, "registrar-1");
    site.kura("here", &format!("facility add F-minato --name Minato --kind hospital --client {registrar}"));
    let refused = site.refused(8, "here", "dev --data cluster --voters 1 --backups 1", b"");
    assert!(refused.contains("in use"), "{refused}");
    assert!(first.interrupt().success(), "{}", site.errors("here", "dev.err"));
    site.refused(5, "here", &format!("facility list --client {registrar}"), b"");

    let again = Running::dev(&site, "cluster");
    assert_eq!(client(&again.told, "registrar-1"), registrar, "a client keeps its configuration");
    let listed = site.kura("here", &format!("facility list --json --client {registrar}")).lines();
    assert_eq!((listed.len(), listed[0]["id"].as_str()), (1, Some("F-minato")));
    let operator = client(&again.told, "operator");
    site.kura("here", &format!("status --wait --client {operator}"));
    assert!(again.interrupt().success(), "{}", site.errors("here", "dev.err"));
}

#[test]
fn the_demo_shows_and_checks_everything() {
    let site = Site::new();
    let shown = site.kura("here", "demo --data demo --seed 7 --json");
    let rows = shown.lines();
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    let steps: Vec<&str> = rows.iter().map(|row| row["step"].as_str().unwrap()).collect();
    let first = ["cluster", "registry", "participants", "write", "read back", "access line", "not permitted", "grant"];
    let then = ["revoke", "access list", "leader killed", "catch-up", "backup", "stop", "search for leaks"];
    assert_eq!(steps, [&first[..], &then[..]].concat());
    // A named directory is kept, and holds a cluster as any other.
    let refused = site.refused(8, "here", "dev --data demo --voters 1 --backups 1", b"");
    assert!(refused.contains("3 voters and 1 backups"), "{refused}");
}
