//! Shares from people: typed on the terminal without echo, or through a pipe.
//!
//! Invariants
//! - What is read goes into one buffer that is wiped; standard input is not buffered besides.
//! - A file as standard input or output is refused: a share does not belong on a disk.
//! - The terminal shows what is typed again afterwards, also after an interruption.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use kura_cluster::seal::Key;
use kura_cluster::share::{Gathered, Gathering, Share, ShareSet, WORDS_PER_SHARE};
use kura_cluster::{ClusterId, hexadecimal};
use rustix::fs::FileType;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::note;
use crate::custody::Known;

/// How often one share may be wrong on a terminal.
const TRIES_MAX: u32 = 5;

/// Longest input for a share, in bytes: 32 words and some blanks.
const INPUT_BYTES_MAX: usize = 1024;

/// Refuses a file where only a terminal or a pipe will do.
pub(in crate::cli) fn no_file(stream: impl AsFd, what: &str) -> Result<(), Failure> {
    let kind = rustix::fs::fstat(stream).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::RegularFile) => Err(Failure::usage(format!("{what} is a file: shares do not belong on a disk"))
            .next("use a terminal, or a pipe")),
        _ => Ok(()),
    }
}

/// What was typed is no share: whoever typed it can type it again.
fn malformed(why: impl std::fmt::Display) -> Failure {
    Failure::usage(why).next("compare with what is written down, word by word, and give it again")
}

/// Asks for a share.
pub(in crate::cli) async fn share(prompt: &str) -> Result<Share, Failure> {
    let text = text(prompt).await?;
    Share::from_words(&text).map_err(malformed)
}

/// Restores the present root key from shares that their holders type.
pub(in crate::cli) async fn gather(known: &Known, cluster: &ClusterId) -> Result<Key, Failure> {
    let root = known.root_check_value;
    let set = known.sets.iter().find(|set| set.is_confirmed() && Some(set.set.root_check_value) == root);
    let set = set.ok_or_else(|| {
        Failure::new(Exit::NotFound, "no confirmed shares restore this cluster's root key, and its file is not here")
            .next("put a copy of the root key where the configuration names it, and run the same again")
    })?;
    gather_set(cluster, set.set.clone()).await
}

/// Restores a root key from the shares of a set. On a terminal a share that is not taken is asked for again, a few times,
/// and those given before stay; what comes through a pipe has to be right.
///
/// # Errors
/// Exit code 2 for words that are no share, 7 for a share that is not of this set. Nothing was changed by then.
pub(in crate::cli) async fn gather_set(cluster: &ClusterId, set: ShareSet) -> Result<Key, Failure> {
    let fingerprint = hexadecimal(set.fingerprint(cluster));
    let mut gathering = Gathering::new(cluster, set);
    let mut tries = Tries::new(std::io::stdin().is_terminal());
    loop {
        let (held, threshold) = (gathering.held(), gathering.threshold());
        let which = format!("share {} of {threshold}, of the set {fingerprint}", held + 1);
        let refused = match share(&which).await {
            Ok(share) => match gathering.add(share) {
                Ok(Gathered::Key(key)) => return Ok(key),
                Ok(Gathered::Waiting { held: now, threshold }) => {
                    tell_held(held, now, threshold);
                    tries.begin_anew();
                    continue;
                }
                Err(error) => Failure::new(Exit::Damaged, error),
            },
            Err(failure) => failure,
        };
        tries.spend(&which, held, threshold, refused)?;
    }
}

/// How often a share that was not taken is asked for again.
struct Tries {
    each: u32,
    left: u32,
}

impl Tries {
    fn new(is_terminal: bool) -> Tries {
        let each = if is_terminal { TRIES_MAX } else { 1 };
        Tries { each, left: each }
    }

    fn begin_anew(&mut self) {
        self.left = self.each;
    }

    /// Says what was wrong with a share, of which `held` others are there; the failure once none is left, or if it was
    /// not for its words.
    fn spend(&mut self, which: &str, held: u8, threshold: u8, refused: Failure) -> Result<(), Failure> {
        self.left -= 1;
        let is_of_words = matches!(refused.exit, Exit::Usage | Exit::Damaged);
        if self.left == 0 || !is_of_words {
            let next = format!(
                "have its holder compare it with what is written down, word by word, or take another holder's. {held} of \
                 {threshold} shares were given, and are needed again; nothing was changed"
            );
            return Err(Failure { message: format!("{which}: {}", refused.message), ..refused }.next(next));
        }
        note(&format!(
            "{which} was not taken: {}. The {held} that were given stay. Give it again, or another holder's ({} times more)",
            refused.message, self.left
        ));
        Ok(())
    }
}

/// Says how many shares are there, and that one came twice.
pub(in crate::cli) fn tell_held(before: u8, held: u8, threshold: u8) {
    let again = if held == before { "that share was given before: another holder's is wanted; " } else { "" };
    note(&format!("{again}{held} of {threshold} shares are there"));
}

/// Asks for the words of a share, on one line or several; an empty line ends them, too.
pub(in crate::cli) async fn text(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    no_file(&stdin, "standard input")?;
    let quiet = stdin.is_terminal().then(Quiet::start).transpose()?;
    if quiet.is_some() {
        let _ = write!(std::io::stderr().lock(), "{prompt} (not shown, all {WORDS_PER_SHARE} of them): ");
    }
    let reading = tokio::task::spawn_blocking(read_words);
    let read = tokio::select! {
        read = reading => read.map_err(Failure::failed)?,
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
    };
    if quiet.is_some() {
        let _ = writeln!(std::io::stderr().lock());
    }
    read
}

/// Asks for a line that may be seen.
pub(in crate::cli) async fn plain(prompt: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        let _ = write!(std::io::stderr().lock(), "{prompt}: ");
    }
    let reading = tokio::task::spawn_blocking(|| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX));
        line(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).trim().to_owned())
    });
    tokio::select! {
        read = reading => read.map_err(Failure::failed)?,
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
    }
}

/// Waits for a line on the terminal.
pub(in crate::cli) async fn enter() -> Result<(), Failure> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX));
        line(&mut bytes)
    });
    tokio::select! {
        read = reading => read.map_err(Failure::failed)?.map(drop),
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
    }
}

fn read_words() -> Result<Zeroizing<String>, Failure> {
    // Long enough from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX));
    loop {
        let before = bytes.len();
        let more = line(&mut bytes)?;
        let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        let is_empty = bytes[before..].iter().all(u8::is_ascii_whitespace);
        if !more || words >= WORDS_PER_SHARE || (is_empty && words > 0) {
            let text = str::from_utf8(&bytes).map_err(|_| malformed("a share has only words"))?;
            let mut kept = Zeroizing::new(String::with_capacity(INPUT_BYTES_MAX));
            kept.push_str(text);
            return Ok(kept);
        }
    }
}

/// Adds a line; `false` at the end of the input.
fn line(bytes: &mut Vec<u8>) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    let mut one = Zeroizing::new([0]);
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut one[..]));
        match read.map_err(|error| Failure::usage(format!("standard input: {error}")))? {
            0 => return Ok(false),
            _ if bytes.len() == INPUT_BYTES_MAX => return Err(Failure::usage("that is longer than a share")),
            _ => bytes.push(one[0]),
        }
        if one[0] == b'\n' {
            return Ok(true);
        }
    }
}

/// A terminal that does not show what is typed, until this goes.
struct Quiet(Termios);

impl Quiet {
    fn start() -> Result<Quiet, Failure> {
        let failed =
            |error| Failure::failed(format!("the terminal cannot be kept from showing what is typed: {error}"));
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&stdin, OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_taken_is_asked_for_again_a_few_times_on_a_terminal_alone() {
        let wrong = || Failure::usage("word 7 is not in the word list");
        let which = "share 2 of 3, of the set ab";
        let mut tries = Tries::new(true);
        for _ in 1..TRIES_MAX {
            assert!(tries.spend(which, 1, 3, wrong()).is_ok());
        }
        let last = tries.spend(which, 1, 3, wrong()).unwrap_err();
        assert_eq!(last.exit, Exit::Usage);
        assert!(last.message.starts_with(which) && last.message.ends_with("word list"), "{last}");
        assert!(last.to_string().contains("1 of 3 shares were given"), "{last}");
        // The next share has as many tries again.
        let mut tries = Tries::new(true);
        for _ in 0..3 {
            for _ in 1..TRIES_MAX {
                assert!(tries.spend(which, 1, 3, Failure::new(Exit::Damaged, "of another set")).is_ok());
            }
            tries.begin_anew();
        }
        assert!(Tries::new(true).spend(which, 1, 3, Failure::failed("interrupted")).is_err());
        assert!(Tries::new(false).spend(which, 1, 3, wrong()).is_err(), "a pipe has nobody to ask");
    }
}
