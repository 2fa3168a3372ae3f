//! A base: a checkpoint whose key rows were dropped, and what is kept of those.
//!
//! Invariants
//! - The node's own database is not touched: hard links are opened, dropped from, and unlinked.
//! - Between making a copy and [`BaseCopy::strip`] it holds key rows; nothing of it is sent before.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use kura_cluster::ClusterId;
use kura_cluster::archive::keys::KeyHeaders;
use kura_cluster::archive::manifest::BaseFile;
use kura_cluster::archive::{ObjectName, Sha256Hash};
use kura_cluster::row::Table;

use super::store::{ArchiveStore, StoreError};
use crate::snapshot::{FileHashes, FileName};
use crate::state::database::Snapshot;
use crate::state::{Database, DatabaseError};

const DATABASE: &str = "database";
const KEY_HEADERS: &str = "key-headers";

/// Why a base could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The state cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file operation failed.
    #[error("making a base in {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A copy that still has its keys. Dropped, its files go.
pub struct BaseCopy {
    folder: Folder,
    database: Database,
    key_headers: PathBuf,
}

/// A folder that is deleted when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "what a base was made from could not be removed");
        }
    }
}

impl BaseCopy {
    /// Makes a checkpoint below `work` and opens it. What an earlier one left there goes. Blocking.
    pub fn make(database: &Database, work: &Path, name: &str, cluster_id: ClusterId) -> Result<BaseCopy, BaseError> {
        let folder = work.join(name);
        let failed = |source| BaseError::File { path: folder.clone(), source };
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        let folder = Folder(folder);
        let directory = folder.0.join(DATABASE);
        database.checkpoint(&directory)?;
        let database = Database::open_copy(&directory)?;
        let key_headers = folder.0.join(KEY_HEADERS);
        let written = write_key_headers(&database, &key_headers, cluster_id);
        written.map_err(|error| match error {
            HeadersError::Database(error) => BaseError::Database(error),
            HeadersError::File(source) => BaseError::File { path: key_headers.clone(), source },
        })?;
        Ok(BaseCopy { folder, database, key_headers })
    }

    /// What it holds, its keys too.
    pub fn view(&self) -> Snapshot<'_> {
        self.database.snapshot()
    }

    /// Drops the keys and tells what is left, with hashes. Blocking: reads files whose hash is not known.
    pub fn strip(self, hashes: &FileHashes) -> Result<BaseFiles, BaseError> {
        let BaseCopy { folder, database, key_headers } = self;
        let directory = database.directory().to_owned();
        let of_keys = database.drop_keys()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BaseError::File { path, source }
        };
        let read_anew = FileHashes::default();
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            let path = entry.map_err(failed(&directory))?.path();
            let Some(name) = wanted(&path).filter(|name| !of_keys.contains(name)) else { continue };
            let is_immutable = FileName::parse(&name).is_ok_and(|name| name.is_immutable());
            let hashes = if is_immutable { hashes } else { &read_anew };
            let (bytes, sha256) = hashes.of(&path).map_err(failed(&path))?;
            files.push((BaseFile { name, bytes, sha256 }, path));
        }
        files.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let (key_headers_bytes, key_headers_sha256) = read_anew.of(&key_headers).map_err(failed(&key_headers))?;
        Ok(BaseFiles { _folder: folder, files, key_headers, key_headers_bytes, key_headers_sha256 })
    }
}

/// The name of a file that belongs to a base: what the database needs to be opened. Its options and logs are
/// made anew.
fn wanted(path: &Path) -> Option<String> {
    let name = FileName::parse(path.file_name()?.to_str()?).ok()?;
    let is_needed = name.is_immutable() || name.as_str() == "CURRENT" || name.as_str().starts_with("MANIFEST-");
    is_needed.then(|| name.as_str().to_owned())
}

enum HeadersError {
    Database(DatabaseError),
    File(io::Error),
}

impl From<DatabaseError> for HeadersError {
    fn from(error: DatabaseError) -> HeadersError {
        HeadersError::Database(error)
    }
}

fn write_key_headers(database: &Database, path: &Path, cluster_id: ClusterId) -> Result<(), HeadersError> {
    let view = database.snapshot();
    let (_, _, summary) = view.progress()?;
    let tables = [Table::Keyring, Table::ParticipantKey];
    let rows = tables.iter().map(|table| summary.table(*table).rows).sum();
    let mut file = BufWriter::new(fs::File::create(path).map_err(HeadersError::File)?);
    file.write_all(&KeyHeaders::begin(&cluster_id, rows)).map_err(HeadersError::File)?;
    let mut encoded = Vec::with_capacity(KeyHeaders::ROW_BYTES_MAX);
    for table in tables {
        let number = table.number();
        view.walk::<HeadersError>(&[number], &[number + 1], |key, row| {
            encoded.clear();
            KeyHeaders::put(&mut encoded, key, &row.header);
            file.write_all(&encoded).map_err(HeadersError::File)
        })?;
    }
    file.flush().map_err(HeadersError::File)
}

/// The files of a base, without keys. Dropped, they go from this machine.
pub struct BaseFiles {
    _folder: Folder,
    files: Vec<(BaseFile, PathBuf)>,
    key_headers: PathBuf,
    key_headers_bytes: u64,
    key_headers_sha256: Sha256Hash,
}

/// What was sent of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Files that the archive lacked.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl BaseFiles {
    /// Sends the tables and blob files that the archive lacks, which a base that is made soon will mostly share.
    pub async fn send_ahead(&self, store: &ArchiveStore) -> Result<Sent, StoreError> {
        let is_immutable = |name: &str| FileName::parse(name).is_ok_and(|name| name.is_immutable());
        let mut sent = Sent::default();
        for (file, path) in self.files.iter().filter(|(file, _)| is_immutable(&file.name)) {
            if store.put_file(&ObjectName::File(file.sha256), path, file.bytes).await? {
                sent = Sent { files: sent.files + 1, bytes: sent.bytes + file.bytes };
            }
        }
        Ok(sent)
    }

    /// Sends what the archive lacks.
    pub async fn send(&self, store: &ArchiveStore) -> Result<Sent, StoreError> {
        let mut sent = Sent::default();
        let headers = (self.key_headers_sha256, &self.key_headers, self.key_headers_bytes);
        let files = self.files.iter().map(|(file, path)| (file.sha256, path, file.bytes));
        for (sha256, path, bytes) in files.chain([headers]) {
            if store.put_file(&ObjectName::File(sha256), path, bytes).await? {
                sent = Sent { files: sent.files + 1, bytes: sent.bytes + bytes };
            }
        }
        Ok(sent)
    }

    /// As a manifest names them.
    pub fn files(&self) -> Vec<BaseFile> {
        self.files.iter().map(|(file, _)| file.clone()).collect()
    }

    /// Length and SHA-256 of the object of key rows' headers.
    pub fn key_headers(&self) -> (u64, Sha256Hash) {
        (self.key_headers_bytes, self.key_headers_sha256)
    }
}
