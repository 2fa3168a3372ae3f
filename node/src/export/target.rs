//! The folder that a copy goes to.
//!
//! Invariants
//! - Nothing in it is ever replaced but by a copy of the same participant for the same actor that was
//!   cut: the marker says whose it is.
//! - Only its owner may read it. A file has its name only once it is whole and synced.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kura_client::ParticipantNumber;
use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::{FORMAT, cannot_write};
use crate::cli::files::unmade;
use crate::cli::{Exit, Failure};

const MARKER: &str = "INCOMPLETE.json";
const MANIFEST: &str = "manifest.json";
/// Folder of the records' folders.
const RECORDS: &str = "records";
/// Ending of what is not whole yet.
const PART: &str = ".part";

/// Whose copy is being made.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    participant: String,
    actor: String,
}

/// The folder.
#[derive(Debug)]
pub struct Target {
    root: PathBuf,
}

impl Target {
    /// Opens a folder that is empty or not there yet, or that holds a copy of the same that was cut.
    pub async fn open(root: &Path, number: &ParticipantNumber, actor: &str) -> Result<Target, Failure> {
        let marker = Marker { format: FORMAT, participant: number.reveal().to_owned(), actor: actor.to_owned() };
        let target = Target { root: root.to_owned() };
        let failed = |error: std::io::Error| cannot_write(root, &error);
        match std::fs::DirBuilder::new().mode(0o700).create(root) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unmade("--out", root, &error)),
            _ => {}
        }
        match fs::read(root.join(MARKER)).await {
            Ok(text) if serde_json::from_slice::<Marker>(&text).is_ok_and(|found| found == marker) => {}
            Ok(_) => return Err(refused(root, "holds another participant's or actor's copy that was cut")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if root.join(MANIFEST).exists() {
                    let what = format!("--out: {} holds a copy that is complete", root.display());
                    return Err(Failure::new(Exit::Conflict, what).next(
                        "it stays as it is (`sha256sum --check SHA256SUMS` in it checks it); name another folder for a newer one",
                    ));
                }
                if fs::read_dir(root).await.map_err(failed)?.next_entry().await.map_err(failed)?.is_some() {
                    return Err(refused(root, "is not empty"));
                }
                let text = serde_json::to_vec(&marker).map_err(Failure::failed)?;
                target.write(MARKER, &text).await?;
            }
            Err(error) => return Err(failed(error)),
        }
        let records = target.root.join(RECORDS);
        match std::fs::DirBuilder::new().mode(0o700).create(&records) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        target.clear(&records).await?;
        target.clear(&target.root).await?;
        Ok(target)
    }

    /// Removes what a cut run left half-written.
    async fn clear(&self, folder: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| cannot_write(folder, &error);
        let mut entries = fs::read_dir(folder).await.map_err(failed)?;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            if !entry.file_name().to_string_lossy().ends_with(PART) {
                continue;
            }
            remove(&entry).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes all that is not of this copy: files by their names below it, and folders of records that hold none of them.
    pub async fn keep_only<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<(), Failure> {
        // A record's folder is there as a whole.
        let kept: HashSet<&'n str> =
            names.map(|name| name.rsplit_once('/').map_or(name, |(folder, _)| folder)).collect();
        for (folder, prefix) in [(self.root.clone(), ""), (self.path(RECORDS), "records/")] {
            let failed = |error: std::io::Error| cannot_write(&folder, &error);
            let mut entries = fs::read_dir(&folder).await.map_err(failed)?;
            while let Some(entry) = entries.next_entry().await.map_err(failed)? {
                let name = entry.file_name().to_str().map(|name| format!("{prefix}{name}"));
                let is_kept = |name: String| name == MARKER || name == RECORDS || kept.contains(&name[..]);
                if !name.is_some_and(is_kept) {
                    remove(&entry).await.map_err(failed)?;
                }
            }
            sync(&folder).await?;
        }
        Ok(())
    }

    /// Where something lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where something is made before it has its name.
    pub fn temporary(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}{PART}"))
    }

    /// Gives what is whole its name.
    pub async fn put_in_place(&self, temporary: &Path, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let moved = fs::rename(temporary, &path).await;
        moved.map_err(|error| cannot_write(&path, &error))?;
        sync(path.parent().unwrap_or(&self.root)).await
    }

    /// Writes a small file.
    pub async fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let temporary = self.temporary(name);
        let failed = |error: std::io::Error| cannot_write(&temporary, &error);
        let mut file = create(&temporary).await?;
        file.write_all(bytes).await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        self.put_in_place(&temporary, name).await
    }

    /// The copy is complete: the manifest comes, then the marker goes.
    pub async fn finish(&self, manifest: &[u8]) -> Result<(), Failure> {
        self.write(MANIFEST, manifest).await?;
        let marker = self.path(MARKER);
        fs::remove_file(&marker).await.map_err(|error| cannot_write(&marker, &error))?;
        sync(&self.root).await
    }
}

async fn remove(entry: &fs::DirEntry) -> std::io::Result<()> {
    match entry.file_type().await?.is_dir() {
        true => fs::remove_dir_all(entry.path()).await,
        false => fs::remove_file(entry.path()).await,
    }
}

fn refused(root: &Path, why: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("--out: {} {why}", root.display()))
        .next("name a folder that is empty or not there yet")
}

/// A new file that only its owner may read.
pub async fn create(path: &Path) -> Result<fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    fs::OpenOptions::from(options).open(path).await.map_err(|error| cannot_write(path, &error))
}

/// Makes names in a folder durable.
pub async fn sync(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| cannot_write(folder, &error);
    fs::File::open(folder).await.map_err(failed)?.sync_all().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn number(digit: u8) -> ParticipantNumber {
        format!("430000000000000{digit}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_target_that_holds_anything_is_refused_and_a_cut_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("copy");
        let target = Target::open(&root, &number(1), "participant").await.unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o077, 0);
        target.write("consents.json", b"{}").await.unwrap();
        std::fs::create_dir(root.join("records/x.part")).unwrap();
        std::fs::write(root.join("records/x.part/1-body"), "half").unwrap();
        std::fs::write(root.join("index.ndjson.part"), "half").unwrap();

        let other = Target::open(&root, &number(2), "participant").await.unwrap_err();
        assert_eq!(other.exit, Exit::Conflict);
        assert!(!other.to_string().contains("4300"), "{other}");
        assert!(Target::open(&root, &number(1), "facility-user").await.is_err());
        assert!(root.join("records/x.part").exists(), "a refusal changes nothing");

        let again = Target::open(&root, &number(1), "participant").await.unwrap();
        assert!(!root.join("records/x.part").exists() && !root.join("index.ndjson.part").exists());
        assert!(root.join("consents.json").exists());
        // Fetched by the run that was cut: one is in this copy, the other was hidden meanwhile.
        for record in ["seen", "hidden"] {
            std::fs::create_dir(root.join("records").join(record)).unwrap();
            std::fs::write(root.join("records").join(record).join("1-body"), "body").unwrap();
        }
        std::fs::write(root.join("index.ndjson"), "of the run that was cut").unwrap();
        again.keep_only(["consents.json", "records/seen/1-body"].into_iter()).await.unwrap();
        assert!(root.join("records/seen/1-body").exists() && root.join("consents.json").exists());
        assert!(!root.join("records/hidden").exists() && !root.join("index.ndjson").exists());
        again.finish(b"{}").await.unwrap();
        assert!(!root.join(MARKER).exists() && root.join(MANIFEST).exists());
        let complete = Target::open(&root, &number(1), "participant").await.unwrap_err();
        assert!(complete.message.contains("complete") && complete.exit == Exit::Conflict, "{complete}");
    }

    #[tokio::test]
    async fn a_foreign_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.part"), "x").unwrap();
        assert!(Target::open(folder.path(), &number(1), "participant").await.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(folder.path().join(MARKER), "{}").unwrap();
        assert!(Target::open(folder.path(), &number(1), "participant").await.is_err());
        assert!(folder.path().join("mine.part").exists());
    }
}
