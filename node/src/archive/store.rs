//! Objects, wherever they are kept.
//!
//! Invariants
//! - An object appears whole or not at all, and is on stable storage when its put returns: a directory is
//!   written with `fsync`; S3-compatible storage answers then only.
//! - A directory's object is written as `NAME#NUMBER` and renamed. What a killed writer leaves so is neither listed nor
//!   deleted by its name: [`super::unfinished`] is for that.
//! - An object whose name is its content's hash is not sent again if one of its length is there: whether that is still
//!   what its name says, a check finds out ([`super::check`]), and has it replaced.
//! - Memory does not grow with an object: a large one is sent in parts, a few at a time.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use kura_cluster::archive::ObjectName;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::storage::{StorageConfig, StorageError};

/// Bytes of a part of an object that is sent in parts.
const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at a time.
const PARTS_UNDER_WAY: usize = 2;
/// Bytes read of a file at a time.
const READ_BYTES: usize = 1 << 20;

/// Why an archive could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place is not one.
    #[error("the archive {place}: {why}")]
    Place {
        /// As it was given.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The object is not there.
    #[error("{name}: missing in the archive")]
    Missing {
        /// The object.
        name: String,
    },
    /// An object of that name is there already.
    #[error("{name}: it is in the archive already")]
    Exists {
        /// The object.
        name: String,
    },
    /// An object is longer than any of its kind.
    #[error("{name}: {bytes} bytes, more than the {bytes_max} that such an object may have")]
    Long {
        /// The object.
        name: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A file on this machine could not be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The storage failed: full, unreachable, forbidden.
    #[error("{name}: {why}")]
    Failed {
        /// The object or folder.
        name: String,
        /// What the storage says. The same words for the same trouble.
        why: String,
    },
    /// How S3-compatible storage is reached.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The storage does not do what two writers are noticed by.
    #[error(
        "the archive {place}: {why}: put the archive on storage with conditional writes (If-None-Match), or into a directory"
    )]
    Unconditional {
        /// As it was given.
        place: String,
        /// What it did.
        why: String,
    },
}

impl StoreError {
    /// Whether the object is merely not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, StoreError::Missing { .. })
    }
}

/// An archive's objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArchiveStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    place: String,
    is_remote: bool,
    /// Where it lies on this machine, if it does.
    pub(super) directory: Option<PathBuf>,
}

impl ArchiveStore {
    /// Opens an archive in a directory, or at a `file://` URL.
    ///
    /// # Errors
    /// [`StoreError::Place`] if there is none, or the place is of a kind that is not known.
    pub fn open(place: &str) -> Result<ArchiveStore, StoreError> {
        ArchiveStore::open_at(place, None)
    }

    /// Opens an archive in a directory, at a `file://` URL, or at `s3://BUCKET/PREFIX`: that takes a file that says
    /// how the storage is reached ([`StorageConfig`]). Blocking; sends nothing.
    ///
    /// # Errors
    /// [`StoreError::Place`] if there is none, or the place is of a kind that is not known; [`StoreError::Storage`].
    pub fn open_at(place: &str, storage: Option<&FilePath>) -> Result<ArchiveStore, StoreError> {
        let refused = |why: String| StoreError::Place { place: place.to_owned(), why };
        if is_remote(place) {
            let storage = storage.ok_or_else(|| {
                refused("name the file that says how s3:// is reached: --storage FILE, or archive.storage".into())
            })?;
            let (objects, prefix) = StorageConfig::load(storage)?.client(place)?;
            let mut store = ArchiveStore::over(Arc::new(objects), place);
            (store.prefix, store.is_remote) = (Path::from(prefix), true);
            return Ok(store);
        }
        let directory = match place.split_once("://") {
            None => place,
            Some(("file", path)) => path,
            Some((scheme, _)) => {
                return Err(refused(format!("{scheme}:// is not known here; a directory is, file:// and s3://")));
            }
        };
        match std::fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(refused("it is a file, not a directory".into())),
            Err(error) => return Err(refused(error.to_string())),
        }
        let objects = LocalFileSystem::new_with_prefix(directory).map_err(|error| refused(error.to_string()))?;
        // A generation's folder goes with its last manifest: folders are what is listed.
        let objects = objects.with_fsync(true).with_automatic_cleanup(true);
        let store = ArchiveStore::over(Arc::new(objects), place);
        Ok(ArchiveStore { directory: Some(directory.into()), ..store })
    }

    /// As [`ArchiveStore::open`]; makes the directory, but not the one above it, if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Place`].
    pub fn open_or_make(place: &str) -> Result<ArchiveStore, StoreError> {
        let directory = place.strip_prefix("file://").unwrap_or(place);
        if !directory.contains("://") {
            match std::fs::create_dir(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::Place { place: place.to_owned(), why: error.to_string() });
                }
                _ => {}
            }
        }
        ArchiveStore::open(place)
    }

    /// An archive over any storage; `place` is its name for people.
    pub fn over(objects: Arc<dyn ObjectStore>, place: &str) -> ArchiveStore {
        ArchiveStore { objects, prefix: Path::default(), place: place.to_owned(), is_remote: false, directory: None }
    }

    /// Finds out whether the storage refuses an object of a name that is taken: some S3-compatible ones take it. A
    /// directory always does. Leaves nothing behind.
    ///
    /// # Errors
    /// [`StoreError::Unconditional`] if it does not; what keeps it from being written.
    pub async fn check_conditional(&self) -> Result<(), StoreError> {
        if !self.is_remote {
            return Ok(());
        }
        let lacks = |why: &str| StoreError::Unconditional { place: self.place.clone(), why: why.into() };
        let name = format!("probe/{:032x}", rand::random::<u128>());
        let put = async || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.objects.put_opts(&self.path(&name), PutPayload::from_static(b"probe"), options).await
        };
        let first = put().await;
        let second = if first.is_ok() { Some(put().await) } else { None };
        let deleted = self.delete(&name).await;
        match (first, second) {
            (Ok(_), Some(Ok(_))) => Err(lacks("the storage takes an object of a name that is taken")),
            (Ok(_), Some(Err(object_store::Error::AlreadyExists { .. }))) => deleted,
            (Ok(_), None) => deleted,
            (Err(error), _) | (_, Some(Err(error))) if is_not_implemented(&error) => {
                Err(lacks("the storage knows no conditional writes"))
            }
            (Err(error), _) | (_, Some(Err(error))) => Err(self.failed("probe")(error)),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    fn failed(&self, name: &str) -> impl FnOnce(object_store::Error) -> StoreError + use<> {
        let (name, is_remote) = (name.to_owned(), self.is_remote);
        move |source| match source {
            object_store::Error::NotFound { .. }
                if is_remote && code_of(&source).as_deref() == Some("NoSuchBucket") =>
            {
                StoreError::Failed { name, why: words(&source) }
            }
            object_store::Error::NotFound { .. } => StoreError::Missing { name },
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                StoreError::Exists { name }
            }
            source if is_remote => StoreError::Failed { name, why: words(&source) },
            source => StoreError::Failed { name, why: innermost(&source) },
        }
    }

    /// Puts an object that must not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if it is.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.objects.put_opts(&self.path(name), PutPayload::from_bytes(bytes), options).await;
        put.map(drop).map_err(self.failed(name))
    }

    /// Puts an object whose name is its content's hash, unless it is there.
    pub async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), StoreError> {
        let text = name.to_string();
        if self.length(&text).await? == Some(bytes.len() as u64) {
            return Ok(());
        }
        let put = self.objects.put(&self.path(&text), PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(self.failed(&text))
    }

    /// Puts a file of this machine under its content's hash, unless it is there. Answers whether it was sent.
    pub async fn put_file(&self, name: &ObjectName, file: &FilePath, bytes: u64) -> Result<bool, StoreError> {
        let text = name.to_string();
        if self.length(&text).await? == Some(bytes) {
            return Ok(false);
        }
        self.replace_file(name, file, bytes).await.map(|()| true)
    }

    /// Puts a file of this machine under its content's hash, in place of whatever is there.
    pub async fn replace_file(&self, name: &ObjectName, file: &FilePath, bytes: u64) -> Result<(), StoreError> {
        let text = name.to_string();
        let unreadable = |source| StoreError::File { path: file.display().to_string(), source };
        let mut source = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let mut target = self.begin(&text);
        let mut read = 0;
        loop {
            let mut piece = BytesMut::with_capacity(READ_BYTES);
            match source.read_buf(&mut piece).await {
                Ok(0) if read == bytes => break,
                Ok(0) => {
                    target.abort().await;
                    let why = format!("it has {read} bytes, not {bytes}");
                    return Err(unreadable(std::io::Error::other(why)));
                }
                Ok(count) => read += count as u64,
                Err(error) => {
                    target.abort().await;
                    return Err(unreadable(error));
                }
            }
            if let Err(error) = target.put(piece.freeze()).await {
                target.abort().await;
                return Err(error);
            }
        }
        target.finish().await
    }

    /// Puts an object in place of whatever is there.
    pub async fn replace(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(&self.path(name), PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(self.failed(name))
    }

    /// Begins an object that comes in pieces. It is there once it is finished.
    pub fn begin(&self, name: &str) -> Beginning {
        Beginning { held: BytesMut::new(), upload: None, store: self.clone(), name: name.to_owned() }
    }

    /// An object's length; `None` if it is not there.
    pub async fn length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&self.path(name)).await.map_err(self.failed(name)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the storage says of an object that it keeps versions of what is replaced or deleted. What it does not
    /// say, nobody knows.
    pub async fn keeps_versions(&self, name: &str) -> Result<bool, StoreError> {
        let meta = self.objects.head(&self.path(name)).await.map_err(self.failed(name))?;
        // S3 answers `null` for what was put while versions were switched off.
        Ok(meta.version.is_some_and(|version| version != "null"))
    }

    /// A whole object of at most `bytes_max`.
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Bytes, StoreError> {
        let found = self.objects.get(&self.path(name)).await.map_err(self.failed(name))?;
        let bytes = found.meta.size;
        if bytes > bytes_max {
            return Err(StoreError::Long { name: name.to_owned(), bytes, bytes_max });
        }
        let length = usize::try_from(bytes).unwrap_or_default();
        match found.payload {
            GetResultPayload::File(file, _) => {
                let read = tokio::task::spawn_blocking(move || {
                    let mut whole = Vec::with_capacity(length);
                    file.take(bytes).read_to_end(&mut whole).map(|_| whole)
                });
                let failed =
                    |error: std::io::Error| StoreError::Failed { name: name.to_owned(), why: error.to_string() };
                read.await.map_err(std::io::Error::other).flatten().map(Bytes::from).map_err(failed)
            }
            GetResultPayload::Stream(mut pieces) => {
                let mut whole = BytesMut::with_capacity(length);
                while let Some(piece) = pieces.try_next().await.map_err(self.failed(name))? {
                    whole.extend_from_slice(&piece);
                }
                Ok(whole.freeze())
            }
        }
    }

    /// An object's length, and its bytes as they come.
    pub async fn stream(&self, name: &str) -> Result<(u64, BoxStream<'static, Result<Bytes, StoreError>>), StoreError> {
        let found = self.objects.get(&self.path(name)).await.map_err(self.failed(name))?;
        let bytes = found.meta.size;
        let (this, name) = (self.clone(), name.to_owned());
        let pieces = match found.payload {
            // The crate would read it in pieces of 8 KiB, each on a thread of its own.
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(READ_BYTES);
                let failed =
                    |source: std::io::Error| object_store::Error::Generic { store: "file", source: source.into() };
                ReaderStream::with_capacity(file.take(bytes), READ_BYTES).map_err(failed).boxed()
            }
            GetResultPayload::Stream(pieces) => pieces,
        };
        Ok((bytes, pieces.map_err(move |error| this.failed(&name)(error)).boxed()))
    }

    /// Everything in a folder and below it: names relative to the archive's root, and lengths. In no order.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<(String, u64), StoreError>> {
        let (this, folder) = (self.clone(), folder.to_owned());
        let listed = self.objects.list(Some(&self.path(&folder)));
        listed
            .map(move |found| {
                let found = found.map_err(this.failed(&folder))?;
                Ok((this.relative(&found.location), found.size))
            })
            .boxed()
    }

    /// Folders and objects directly in a folder, by their last name, sorted.
    pub async fn entries(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let found = self.objects.list_with_delimiter(Some(&self.path(folder))).await.map_err(self.failed(folder))?;
        let last = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let mut folders: Vec<String> = found.common_prefixes.iter().map(last).collect();
        let mut objects: Vec<String> = found.objects.iter().map(|object| last(&object.location)).collect();
        folders.sort_unstable();
        objects.sort_unstable();
        Ok((folders, objects))
    }

    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(name)).await.map_err(self.failed(name)) {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    fn relative(&self, path: &Path) -> String {
        match path.prefix_match(&self.prefix) {
            Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
            None => path.to_string(),
        }
    }
}

/// Whether a place is no file system's, and needs to be told how it is reached.
pub fn is_remote(place: &str) -> bool {
    place.starts_with("s3://")
}

/// Whether the storage answers that it does not know what was asked for.
fn is_not_implemented(error: &object_store::Error) -> bool {
    code_of(error).as_deref() == Some("NotImplemented")
}

fn code_of(error: &object_store::Error) -> Option<String> {
    element(&error.to_string(), "Code").map(str::to_owned)
}

/// What S3-compatible storage says, in words that are the same each time: without the request's number, without how
/// long it took, and without the parts of its answer that repeat what was signed.
fn words(error: &object_store::Error) -> String {
    let text = error.to_string();
    if let Some(code) = element(&text, "Code") {
        let more = element(&text, "Message").map(|message| format!(": {message}")).unwrap_or_default();
        return format!("the storage answers {code}{more}");
    }
    match error {
        object_store::Error::PermissionDenied { .. } => "the storage refuses it to this access key".into(),
        object_store::Error::Unauthenticated { .. } => "the storage does not know this access key".into(),
        error => format!("the storage cannot be reached, or broke off: {}", innermost(error)),
    }
}

/// What lies under an error of the library, whose own words name its parts: what the system says.
fn innermost(error: &object_store::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The text of an element of an answer.
fn element<'t>(answer: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = answer.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// An object that comes in pieces: a small one is sent whole, a larger one in parts. (`BufWriter` of the
/// `object_store` crate panics when it is used after a failure.)
pub struct Beginning {
    held: BytesMut,
    upload: Option<WriteMultipart>,
    store: ArchiveStore,
    name: String,
}

impl Beginning {
    /// Adds a piece. After an error nothing more can be done with it.
    pub async fn put(&mut self, piece: Bytes) -> Result<(), StoreError> {
        if let Some(upload) = &mut self.upload {
            upload.wait_for_capacity(PARTS_UNDER_WAY).await.map_err(self.store.failed(&self.name))?;
            upload.put(piece);
            return Ok(());
        }
        self.held.extend_from_slice(&piece);
        if self.held.len() >= PART_BYTES {
            let begun = self.store.objects.put_multipart(&self.store.path(&self.name)).await;
            let begun = begun.map_err(self.store.failed(&self.name))?;
            let mut upload = WriteMultipart::new_with_chunk_size(begun, PART_BYTES);
            upload.put(self.held.split().freeze());
            self.upload = Some(upload);
        }
        Ok(())
    }

    /// Ends it: it is there now.
    pub async fn finish(self) -> Result<(), StoreError> {
        let ended = match self.upload {
            Some(upload) => upload.finish().await,
            None => {
                let bytes = PutPayload::from_bytes(self.held.freeze());
                self.store.objects.put(&self.store.path(&self.name), bytes).await
            }
        };
        ended.map(drop).map_err(self.store.failed(&self.name))
    }

    /// Gives it up: it never is there.
    pub async fn abort(self) {
        if let Some(upload) = self.upload {
            // What storage keeps of it is its own to clean up.
            let _ = upload.abort().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_come_back_from_a_directory_and_are_put_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("archive");
        let place = place.to_str().unwrap();
        assert!(ArchiveStore::open(place).is_err(), "it is not made by reading");
        let store = ArchiveStore::open_or_make(place).unwrap();
        let name = ObjectName::File([1; 32]);
        store.put(&name, Bytes::from_static(b"one")).await.unwrap();
        assert_eq!(store.get(&name.to_string(), 3).await.unwrap(), "one");
        assert!(matches!(store.get(&name.to_string(), 2).await, Err(StoreError::Long { bytes: 3, .. })));
        assert_eq!(store.length("files/none").await.unwrap(), None);
        assert!(store.get("files/none", 1).await.unwrap_err().is_missing());

        let path = directory.path().join("large");
        std::fs::write(&path, vec![7; 20 << 20]).unwrap();
        let large = ObjectName::File([2; 32]);
        assert!(store.put_file(&large, &path, 20 << 20).await.unwrap());
        assert!(!store.put_file(&large, &path, 20 << 20).await.unwrap(), "not sent again");
        let (bytes, mut pieces) = store.stream(&large.to_string()).await.unwrap();
        let mut read = 0;
        while let Some(piece) = pieces.try_next().await.unwrap() {
            assert!(piece.iter().all(|byte| *byte == 7));
            read += piece.len() as u64;
        }
        assert_eq!((bytes, read), (20 << 20, 20 << 20));

        store.put_new("manifests/1/1", Bytes::from_static(b"a")).await.unwrap();
        let again = store.put_new("manifests/1/1", Bytes::from_static(b"b")).await;
        assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
        assert_eq!(store.get("manifests/1/1", 9).await.unwrap(), "a");
        store.put_new("manifests/1/2", Bytes::from_static(b"c")).await.unwrap();
        assert_eq!(store.entries("manifests").await.unwrap(), (vec!["1".into()], vec![]));
        assert_eq!(store.entries("manifests/1").await.unwrap(), (vec![], vec!["1".into(), "2".into()]));
        let mut listed: Vec<_> = store.list("manifests").try_collect().await.unwrap();
        listed.sort();
        assert_eq!(listed, [("manifests/1/1".to_owned(), 1), ("manifests/1/2".to_owned(), 1)]);
        store.delete("manifests/1/1").await.unwrap();
        store.delete("manifests/1/1").await.unwrap();
        assert_eq!(store.entries("manifests/1").await.unwrap().1, ["2"]);
    }

    #[test]
    fn places_that_are_none_are_named() {
        let refused = ArchiveStore::open("ftp://somewhere/a").unwrap_err().to_string();
        assert!(refused.contains("ftp://"), "{refused}");
    }
}
