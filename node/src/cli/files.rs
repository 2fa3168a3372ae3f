//! Files that people name: read, and made.
//!
//! Invariants
//! - What cannot be read or made is the caller's to mend: exit code 2, with the option and the path. What is there
//!   already and must not be: 8.
//! - What is made holds what people's records say, or who looked at them: only its owner may read it.
//! - Where it goes is found out before anything is asked of a cluster, and a file has its name only once it is whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure};

/// Reads a file that an option names.
///
/// # Errors
/// Exit code 2: it is not there, or cannot be read.
pub fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| unreadable(option, path, &error))
}

/// A file that cannot be read, and why.
pub fn unreadable(option: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{option}: cannot read {}: {}", path.display(), words(error)))
}

/// A file or folder that cannot be made, and why.
pub fn unmade(option: &str, path: &Path, error: &io::Error) -> Failure {
    let exit = if error.kind() == ErrorKind::AlreadyExists { Exit::Conflict } else { Exit::Usage };
    Failure::new(exit, format!("{option}: cannot make {}: {}", path.display(), words(error)))
        .next("name a place that is there and can be written; nothing was done")
}

/// A file that has been made, and cannot be written on: the disk's trouble.
pub fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {}", path.display(), words(error)))
}

/// What the system says, without its number.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// A folder for people's data, made unless it is there.
///
/// # Errors
/// Exit code 2.
pub fn folder(option: &str, path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| match error.kind() {
        // It is a file.
        ErrorKind::AlreadyExists => unmade(option, path, &io::Error::from(ErrorKind::NotADirectory)),
        _ => unmade(option, path, &error),
    })
}

/// Whether a folder can be at a place, or is there: found out before anything is asked.
///
/// # Errors
/// Exit code 2: a file is there, or the folder above is not.
pub fn fits_folder(option: &str, path: &Path) -> Result<(), Failure> {
    let is_folder = |path: &Path| match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(error) => Err(error),
    };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fits = is_folder(path).or_else(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => is_folder(above),
        _ => Err(error),
    });
    fits.map_err(|error| unmade(option, path, &error))
}

/// A folder whose files are to be read.
///
/// # Errors
/// Exit code 2.
pub fn readable_folder(option: &str, path: &Path) -> Result<(), Failure> {
    std::fs::read_dir(path).map(drop).map_err(|error| unreadable(option, path, &error))
}

/// A folder for the time of a command, beside others; gone when dropped.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes it, with a further ending to the name of what it is beside. One of a run that was cut is taken over.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn beside(option: &str, path: &Path, ending: &str) -> Result<Scratch, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let scratch = PathBuf::from(name);
        match DirBuilder::new().mode(0o700).create(&scratch) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists || !scratch.is_dir() => {
                Err(unmade(option, path, &error))
            }
            _ => Ok(Scratch(scratch)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Does something that leaves nothing half made when it is dropped; drops it when the person, or the system, ends the
/// command. To be begun once nothing waits for standard input any more.
///
/// # Errors
/// What it says; exit code 1: it was ended.
pub async fn unless_ended(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let cannot = |error| Failure::failed(format!("cannot wait for signals: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(cannot)?;
    tokio::select! {
        done = work => done,
        _ = interrupted.recv() => Err(Failure::failed("interrupted")),
        _ = terminated.recv() => Err(Failure::failed("terminated")),
    }
}

/// A file or folder in the making, under a name for the time; gone when dropped, unless it got its own name.
#[derive(Debug)]
pub struct Unfinished(pub PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0));
    }
}

/// A file in the making, beside its name; gone when dropped before it is kept.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    is_kept: bool,
}

impl Output {
    /// Begins a file, which will take the place of an existing one.
    ///
    /// # Errors
    /// Exit code 2: it cannot be made there, or something is there that is no file.
    pub fn begin(option: &str, path: &Path) -> Result<Output, Failure> {
        let no_file = std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
        if no_file || path.file_name().is_none() {
            return Err(Failure::usage(format!("{option}: {} is there, and is no file", path.display()))
                .next("name a file; nothing was done"));
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|error| unmade(option, path, &error))?;
        Ok(Output { path: path.to_owned(), temporary, file, is_kept: false })
    }

    /// The same, of a file that must not be there yet.
    ///
    /// # Errors
    /// As [`Output::begin`]; exit code 8 if it is there.
    pub fn begin_new(option: &str, path: &Path) -> Result<Output, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::new(Exit::Conflict, format!("{option}: {} is there already", path.display()))
                .next("name another file: nothing is overwritten"));
        }
        Output::begin(option, path)
    }

    /// What is written to.
    ///
    /// # Errors
    /// The system has no further handle.
    pub fn file(&self) -> Result<File, Failure> {
        self.file.try_clone().map_err(|error| unwritten(&self.path, &error))
    }

    /// It is whole: syncs it and gives it its name.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(mut self) -> Result<(), Failure> {
        let kept = self.file.sync_all().and_then(|()| std::fs::rename(&self.temporary, &self.path));
        kept.map_err(|error| unwritten(&self.path, &error))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_its_owners_and_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let output = Output::begin("--out", &path).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of half a file");
        std::fs::write(&path, "of before").unwrap();
        let output = Output::begin("--out", &path).unwrap();
        output.file().unwrap().write_all(b"whole").unwrap();
        output.keep().unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"whole".to_vec(), 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let there = Output::begin_new("--out", &path).unwrap_err();
        assert_eq!(there.exit, Exit::Conflict);
    }

    #[test]
    fn what_cannot_be_made_or_read_is_told_with_option_path_and_code() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let missing = folder.path().join("nowhere/out");
        let failures = [
            read("--head", &missing).unwrap_err(),
            read("--head", folder.path()).unwrap_err(),
            readable_folder("--input", &file).unwrap_err(),
            fits_folder("--out", &missing).unwrap_err(),
            fits_folder("--out", &file).unwrap_err(),
            Output::begin("--out", &missing).unwrap_err(),
            Output::begin("--out", folder.path()).unwrap_err(),
            Output::begin("--out", &file.join("out")).unwrap_err(),
            self::folder("--to", &file).unwrap_err(),
            self::folder("--to", &file.join("below")).unwrap_err(),
            Scratch::beside("--scratch", &missing, ".look").unwrap_err(),
        ];
        for failure in failures {
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
            assert!(failure.message.starts_with("--") && failure.message.contains(folder.path().to_str().unwrap()));
            assert!(!failure.message.contains("os error"), "{failure}");
        }
    }

    #[tokio::test]
    async fn what_is_half_made_when_the_command_is_ended_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, parts) = (folder.path().join("a.part"), folder.path().join("b.part"));
        let work = async {
            let _half = (Unfinished(file.clone()), Unfinished(parts.clone()));
            let _out = Output::begin("--out", &folder.path().join("out"))?;
            std::fs::write(&file, "half").unwrap();
            std::fs::create_dir(&parts).unwrap();
            std::fs::write(parts.join("1"), "half").unwrap();
            kill_process(getpid(), Signal::TERM).unwrap();
            std::future::pending().await
        };
        let failure = unless_ended(work).await.unwrap_err();
        assert_eq!((failure.exit, &failure.message[..]), (Exit::Failed, "terminated"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_are_their_owners_and_scratch_goes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        folder("--to", &path).unwrap();
        folder("--to", &path).unwrap();
        assert_eq!((mode(&path), mode(&root.path().join("a"))), (0o700, 0o700));
        let scratch = Scratch::beside("--scratch", &path.join("c"), ".look").unwrap();
        assert_eq!((mode(&scratch.0), scratch.0.clone()), (0o700, path.join("c.look")));
        drop(scratch);
        assert!(!path.join("c.look").exists());
    }
}
