//! Writing certificate files: keys and certificates only as new files, keys for their owner only;
//! revocation lists by replacement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Creates a private key's file: mode 0600 from its first moment, synced, never over an existing file.
pub(super) fn create_private(path: &Path, text: &str) -> io::Result<()> {
    create(path, text, 0o600)
}

/// Creates a file that anyone may read: synced, never over an existing file.
pub(super) fn create_public(path: &Path, text: &str) -> io::Result<()> {
    create(path, text, 0o644)
}

fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Ours since create_new; half a file would only stand in the way of the next attempt.
        let _ = fs::remove_file(path);
        return written;
    }
    sync_directory(path)
}

/// Replaces a file that anyone may read, whole or not at all, also across a power cut.
pub(super) fn replace_public(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // A leftover of an attempt that a power cut ended.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => create_public(&fresh, text)?,
    }
    fs::rename(&fresh, path)?;
    sync_directory(path)
}

/// Creates a private key and the public file that goes with it, or neither.
pub(super) fn create_pair<'a>(
    private: (&'a Path, &str),
    public: (&'a Path, &str),
) -> Result<(), (&'a Path, io::Error)> {
    create_private(private.0, private.1).map_err(|error| (private.0, error))?;
    create_public(public.0, public.1).map_err(|error| {
        let _ = fs::remove_file(private.0);
        (public.0, error)
    })
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_its_owners_only_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        create_private(&path, "first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(create_private(&path, "second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn of_a_pair_both_exist_or_neither() {
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (directory.path().join("key.pem"), directory.path().join("certificate.pem"));
        fs::write(&certificate, "there before").unwrap();
        let (path, _) = create_pair((&key, "key"), (&certificate, "new")).unwrap_err();
        assert_eq!(path, certificate);
        assert!(!key.exists());
        assert_eq!(fs::read_to_string(&certificate).unwrap(), "there before");
    }
}
