//! Sabotages are run rarely (`make mutants`); that their patches are of the present code is known always.

use std::path::Path;
use std::process::Command;

#[test]
fn every_patch_applies() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = std::fs::read_dir(top.join("chaos-tests/mutants")).unwrap();
    let mut patches: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    patches.retain(|path| path.extension().is_some_and(|ending| ending == "patch"));
    assert!(!patches.is_empty());
    for patch in patches {
        // As it is, without looking for lines nearby.
        let mut tried = Command::new("patch");
        tried.args(["-p1", "-s", "-F0", "--dry-run", "-i"]).arg(patch.canonicalize().unwrap()).current_dir(&top);
        let tried = tried.output().expect("NOT RUN: patch is not installed");
        assert!(tried.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&tried.stdout));
    }
}
