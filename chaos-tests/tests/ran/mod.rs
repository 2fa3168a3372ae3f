//! Runs a program of this crate as people do.

use std::process::Command;

/// Its exit code, and what it told. `path`: where it looks for programs of the system, if not where everybody does.
pub fn ran(program: &str, words: &[&str], path: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.args(words);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let ran = command.output().expect("it starts");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code(), told)
}
