//! Programs of the system that the run needs: called, waited for, and their answer told.
//!
//! Invariant: a program that is missing, fails or hangs is an error with its words, never a silent no.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{command}: {message}")]
pub struct ToolError {
    /// What was called.
    pub command: String,
    /// What it said.
    pub message: String,
}

/// Calls a program and answers what it printed.
///
/// # Errors
/// [`ToolError`] if it is missing, ends with an error or does not end.
pub async fn call<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Result<String, ToolError> {
    feed(program, arguments, "").await
}

/// Calls a program with a text to read.
///
/// # Errors
/// As [`call`].
pub async fn feed<A: AsRef<OsStr>>(program: &str, arguments: &[A], input: &str) -> Result<String, ToolError> {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(program.to_owned()).chain(words).collect();
    let failed = |message: String| ToolError { command: words.join(" "), message };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read ends with its own words.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let ended = timeout(LIMIT, child.wait_with_output()).await;
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("does not end within {} s", LIMIT.as_secs()))),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(failed(format!("{}: {}{}", output.status, said, String::from_utf8_lossy(&output.stderr)).trim().to_owned()))
}

/// Whether a program is there.
pub fn is_there(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_answers_or_its_words_are_told() {
        assert_eq!(feed("cat", &[""; 0], "words").await.unwrap(), "words");
        let failed = call("sh", &["-c", "echo why >&2; exit 3"]).await.unwrap_err();
        assert!(failed.message.contains("why") && failed.to_string().starts_with("sh -c"), "{failed}");
        assert!(call("no-such-program", &[""; 0]).await.is_err());
        assert!(is_there("sh") && !is_there("no-such-program"));
    }
}
