//! One shell in one empty directory, in which a page's commands run as a reader would run them.
//!
//! Invariants
//! - A command that ends otherwise than with 0, or not in time, ends the test, with its place in the page.
//! - What the page shows of the output is held against the real one as far as it must agree: labels of fields, and
//!   lines with `{braces}`, from which values are taken.
//! - Whatever the shell has started in the background is killed when it goes, also if the test is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kura_node::dev::Signal;
use rustix::process::{Pid, kill_process_group};

use super::page::{Block, Step};

/// The command under test.
pub const KURA: &str = env!("CARGO_BIN_EXE_kura");
/// No command of a page takes longer.
const LIMIT: Duration = Duration::from_secs(300);
/// Ports as the pages write them: of nodes, and of their metrics.
const WRITTEN_PORTS: [std::ops::RangeInclusive<u16>; 2] = [7101..=7109, 7201..=7209];

/// See the module.
pub struct Shell {
    folder: tempfile::TempDir,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    ports: BTreeMap<u16, u16>,
    /// What braces stand for.
    pub values: BTreeMap<String, String>,
    count: usize,
}

impl Shell {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = Path::new(KURA).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::env::join_paths([own.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut command = Command::new("bash");
        command.args(["--norc", "--noprofile"]).current_dir(folder.path()).env("PATH", paths);
        command.env_remove("KURA_CLIENT").env("LC_ALL", "C.UTF-8").process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        // The end of input, whatever its cause, is the end of everything that was started here.
        writeln!(stdin, "exec 2>&1; trap 'exit 1' TERM; trap 'kill -KILL $(jobs -p) 2>/dev/null; wait' EXIT").unwrap();
        Self { folder, child, stdin: Some(stdin), lines, ports: free_ports(), values: BTreeMap::new(), count: 0 }
    }

    /// Where it runs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs all steps of a block.
    pub fn block(&mut self, page: &str, block: &Block) {
        block.steps.iter().for_each(|step| self.step(page, step));
    }

    /// Runs a step and holds its output against the page's.
    pub fn step(&mut self, page: &str, step: &Step) {
        let place = format!("{page}, line {}", step.line);
        let fill = |text: &str| self.fill(text).unwrap_or_else(|fault| panic!("{place}: {fault}: {text}"));
        let (command, typed) = (fill(&step.command), step.typed.iter().map(|line| fill(line)).collect::<Vec<_>>());
        let (code, output) = self.run(&command, &typed);
        let told = output.join("\n");
        assert_eq!(code, 0, "{place}: $ {command}\n{told}\n{}", self.logs());
        for shown in &step.shown {
            match self.hold(shown, &output) {
                Ok(values) => self.values.extend(values),
                Err(fault) => panic!("{place}: $ {command}\nshown: {shown}\n{fault}\n{told}"),
            }
        }
    }

    /// Runs a command of the test's own.
    pub fn own(&mut self, command: &str) -> String {
        let filled = self.fill(command).unwrap();
        let (code, output) = self.run(&filled, &[]);
        assert_eq!(code, 0, "$ {filled}\n{}\n{}", output.join("\n"), self.logs());
        output.join("\n")
    }

    /// Runs a command; its code and what it printed.
    pub fn run(&mut self, command: &str, typed: &[String]) -> (i32, Vec<String>) {
        self.count += 1;
        let script = format!("step-{}.sh", self.count);
        std::fs::write(self.path(&script), format!("{command}\n")).unwrap();
        let end = format!("--- end of {script}:");
        // A pipe, as shares are never read from a file; nothing typed is the end of input.
        let typed: Vec<String> = typed.iter().map(|line| format!("'{}'", line.replace('\'', "'\\''"))).collect();
        let input = match typed.is_empty() {
            true => "/dev/null".to_owned(),
            false => format!("<(printf '%s\\n' {})", typed.join(" ")),
        };
        let stdin = self.stdin.as_mut().expect("taken when the shell is dropped");
        writeln!(stdin, ". ./{script} < {input}; code=$?; rm -f {script}; echo; echo \"{end} $code\"").unwrap();
        let (limit, mut output) = (Instant::now() + LIMIT, Vec::new());
        loop {
            match self.lines.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(&end) {
                    Some(code) => return (code.trim().parse().unwrap(), output),
                    None => output.push(line),
                },
                Err(RecvTimeoutError::Timeout) => panic!("no end within {LIMIT:?}: $ {command}\n{}", output.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the shell has ended: $ {command}\n{}", output.join("\n"))
                }
            }
        }
    }

    /// Puts values and ports in their places.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = text.to_owned();
        for name in braces(text) {
            let value = self.values.get(name).ok_or(format!("nothing has told {{{name}}}"))?;
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        Ok(with_ports(&filled, &self.ports))
    }

    /// Holds a shown line against the output: the values that its braces stand for.
    fn hold(&self, shown: &str, output: &[String]) -> Result<Vec<(String, String)>, String> {
        let new = braces(shown);
        if !new.is_empty() {
            let found = output.iter().find_map(|line| matched(shown, line, &self.values));
            return found.ok_or_else(|| "no line of the output is like it".into());
        }
        // ` label   value` is a field: the label stays, whatever the value is.
        let Some((label, _)) = shown.strip_prefix(' ').and_then(|rest| rest.split_once("  ")) else {
            return Ok(Vec::new());
        };
        match output.iter().any(|line| line.trim_start().starts_with(label)) {
            true => Ok(Vec::new()),
            false => Err(format!("no line of the output begins with {label:?}")),
        }
    }

    /// The ends of all logs, for a failure's report.
    pub fn logs(&self) -> String {
        let mut told = String::new();
        for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let Ok(log) = std::fs::read_to_string(entry.path().join("log.txt")) else { continue };
            let lines: Vec<&str> = log.lines().collect();
            told +=
                &format!("--- {}\n{}\n", entry.path().display(), lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        told
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // The shell and all that it started, also what waits in a loop of the page's and nodes of which it
        // no longer knows.
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

fn free_ports() -> BTreeMap<u16, u16> {
    let written: Vec<u16> = WRITTEN_PORTS.into_iter().flatten().collect();
    // Held together, so that all differ.
    let held: Vec<TcpListener> = written.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    written.into_iter().zip(held.iter().map(|listener| listener.local_addr().unwrap().port())).collect()
}

fn with_ports(text: &str, ports: &BTreeMap<u16, u16>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let length = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        let (number, after) = from.split_at(length);
        result += before;
        match number.parse().ok().and_then(|number: u16| ports.get(&number)) {
            Some(port) if length == 4 => result += &port.to_string(),
            _ => result += number,
        }
        rest = after;
    }
    result + rest
}

/// The names in braces, `{like-this}`; shell's own `${…}` and `{ …; }` are none.
fn braces(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices('{') {
        let Some(name) = text[at + 1..].split('}').next().filter(|name| text[at + 1..].len() > name.len()) else {
            continue;
        };
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if is_name(name) && !text[..at].ends_with('$') && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Word by word; `…` is anything to the end of the line. A name that has a value already must have it again.
fn matched(shown: &str, line: &str, known: &BTreeMap<String, String>) -> Option<Vec<(String, String)>> {
    let (mut shown, mut line) = (shown.split_whitespace(), line.split_whitespace());
    let mut values = Vec::new();
    loop {
        match (shown.next(), line.next()) {
            (None, None) => return Some(values),
            (Some("…"), _) => return Some(values),
            (Some(pattern), Some(word)) => values.extend(word_of(pattern, word, known)?),
            _ => return None,
        }
    }
}

fn word_of(pattern: &str, word: &str, known: &BTreeMap<String, String>) -> Option<Option<(String, String)>> {
    let Some(name) = braces(pattern).into_iter().next() else { return (pattern == word).then_some(None) };
    let (before, after) = pattern.split_once(&format!("{{{name}}}"))?;
    let value = word.strip_prefix(before)?.strip_suffix(after)?;
    match known.get(name) {
        Some(known) if known != value => None,
        _ => Some(Some((name.to_owned(), value.to_owned()))),
    }
}

#[test]
fn ports_and_braces_are_filled_and_values_are_taken() {
    let ports = BTreeMap::from([(7101, 40001), (7201, 9)]);
    assert_eq!(with_ports("s/7101/7201/ 17101 71010 127.0.0.1:7101", &ports), "s/40001/9/ 17101 71010 127.0.0.1:40001");
    assert_eq!(braces("a {plan} ${HOME} { x; } '{ print $4 }' {share-1} {plan}"), ["plan", "share-1"]);
    let none = BTreeMap::new();
    let value = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect());
    assert_eq!(matched(" plan  {plan}", "plan    ab12", &none), value(&[("plan", "ab12")]));
    assert_eq!(matched(" index {index}, {n} …", " index 7, 3 x y", &none), value(&[("index", "7"), ("n", "3")]));
    assert_eq!(matched(" plan {plan}", " plans ab", &none), None);
    let known = BTreeMap::from([("plan".to_owned(), "ab".to_owned())]);
    assert_eq!(matched(" plan {plan}", " plan cd", &known), None, "it was ab before");
}

#[test]
fn a_shell_keeps_variables_takes_what_is_typed_and_tells_the_code() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("x=1", &[]).0, 0);
    assert_eq!(shell.run("read y; echo \"$x-$y\"", &["it's".into()]), (0, vec!["1-it's".into(), String::new()]));
    assert_eq!(shell.run("test -f /dev/stdin && echo file; false", &["a".into()]), (1, vec![String::new()]));
}
