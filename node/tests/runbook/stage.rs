//! The stage on which the runbook's courses begin: the end of docs/operations.md, which a reader walks first.

use std::time::{Duration, Instant};

use super::page;
use super::shell::Shell;

/// How long the cluster may take for what it does by itself, and how often is looked.
const SOON: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);

/// Walks the manual.
pub fn cluster() -> Shell {
    let mut shell = Shell::new();
    page::read(super::OPERATIONS).iter().for_each(|block| shell.block(super::OPERATIONS, block));
    // What its reader knows by now: the cluster's name, and the holders' words.
    shell.values.insert("cluster".into(), "demo".into());
    for holder in 1..=3 {
        let words = shell.own(&format!("sed -n 's/^share {holder} of 3: //p' shares.txt"));
        shell.values.insert(format!("share-{holder}"), words.trim().to_owned());
    }
    shell
}

/// The cluster tells of a drill that went well.
pub fn is_drilled(shell: &mut Shell) {
    let end = Instant::now() + SOON;
    loop {
        let told = shell.own("kura status --client people/op-1.toml --json 2>/dev/null");
        let status: serde_json::Value =
            serde_json::from_str(told.trim()).unwrap_or_else(|error| panic!("{error}: {told}"));
        if status["last_drill"]["state"] == "known" && status["last_drill"]["failed"] == "" {
            return;
        }
        assert!(Instant::now() < end, "no drill went well: {status}\n{}", shell.logs());
        std::thread::sleep(LOOK);
    }
}

/// What was written before the disaster is there, whole, for whoever may see it.
pub fn is_all_there(shell: &mut Shell) {
    let records = "kura record list 0043001234567890 --as F0012/u-0007 --client people/karte.toml --json 2>/dev/null";
    let listed = shell.own(records);
    assert_eq!(listed.lines().filter(|line| line.starts_with('{')).count(), 3, "{listed}");
}
