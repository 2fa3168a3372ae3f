//! Hosts of a test: folders, each with what one machine would hold, and the commands run on them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kura_node::dev::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

pub const KURA: &str = env!("CARGO_BIN_EXE_kura");

/// What a command answered.
pub struct Answer {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// Each line of JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    pub fn json(&self) -> Value {
        self.lines().remove(0)
    }
}

/// All hosts.
pub struct Site {
    pub root: tempfile::TempDir,
    running: Vec<(String, Child)>,
}

impl Site {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), running: Vec::new() }
    }

    pub fn folder(&self, host: &str) -> PathBuf {
        let folder = self.root.path().join(host);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs `kura` on a host, with lines on standard input; words are separated by spaces.
    pub fn try_kura(&self, host: &str, words: &str, input: &[u8]) -> Answer {
        let mut command = Command::new(KURA);
        command.args(words.split(' ')).current_dir(self.folder(host)).env_remove("KURA_CLIENT");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = input.to_vec();
        // A command that does not read its input closes it early; that is its right.
        let feed = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap();
        Answer::of(output)
    }

    /// Like [`Site::try_kura`], and must succeed.
    pub fn kura(&self, host: &str, words: &str) -> Answer {
        self.kura_with(host, words, b"")
    }

    pub fn kura_with(&self, host: &str, words: &str, input: &[u8]) -> Answer {
        let answer = self.try_kura(host, words, input);
        assert_eq!(answer.code, 0, "kura {words}: {}", answer.err);
        answer
    }

    /// Must fail with a code; answers what it said.
    pub fn refused(&self, code: i32, host: &str, words: &str, input: &[u8]) -> String {
        let answer = self.try_kura(host, words, input);
        assert_eq!(answer.code, code, "kura {words}: {} {}", answer.err, String::from_utf8_lossy(&answer.out));
        assert!(!answer.err.is_empty(), "kura {words} says nothing");
        answer.err
    }

    /// Starts `kura serve` on a host and waits until it takes connections.
    pub fn serve(&mut self, host: &str, address: &str) {
        let log = File::create(self.folder(host).join("log.txt")).unwrap();
        let again = log.try_clone().unwrap();
        let mut command = Command::new(KURA);
        command.args(["serve", "--config", "node.toml"]).current_dir(self.folder(host));
        command.args(["--exit-with-parent", &std::process::id().to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(log).stderr(again).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(address).is_err() {
            let log = fs::read_to_string(self.folder(host).join("log.txt")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{host} ended: {log}");
            assert!(Instant::now() < end, "{host} does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.running.push((host.to_owned(), child));
    }

    /// The machine dies.
    pub fn kill(&mut self, host: &str) {
        let place = self.running.iter().position(|(name, _)| name == host).unwrap();
        let (_, mut child) = self.running.remove(place);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM to every node; each must end well.
    pub fn stop(&mut self) {
        for (_, child) in &self.running {
            signal(child, Signal::TERM);
        }
        for (host, mut child) in std::mem::take(&mut self.running) {
            let status = child.wait().unwrap();
            assert!(status.success(), "{host}: {status}: {}", self.log(&host));
        }
    }

    fn log(&self, host: &str) -> String {
        self.errors(host, "log.txt")
    }

    /// What a file holds that something wrote its complaints to.
    pub fn errors(&self, host: &str, file: &str) -> String {
        fs::read_to_string(self.root.path().join(host).join(file)).unwrap_or_default()
    }

    pub fn copy(&self, from: &str, to: &str) {
        let (from, to): (PathBuf, PathBuf) = (self.root.path().join(from), self.root.path().join(to));
        fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::copy(from, to).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (host, child) in &mut self.running {
            if std::thread::panicking() {
                let log = fs::read_to_string(self.root.path().join(&*host).join("log.txt")).unwrap_or_default();
                eprintln!("--- log of {host}\n{log}");
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process of this test.
pub fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}
