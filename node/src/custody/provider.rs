//! Where a voter's root key comes from.

use std::path::{Path, PathBuf};

use kura_cluster::hexadecimal;
use kura_cluster::seal::Key;

use super::Known;
use crate::config::RootKeyConfig;
use crate::vault::{VaultError, read_root_key, replace_root_key, write_root_key};

/// systemd's variable: the directory of the service's credentials. It names a place, not a secret.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A root key's source; see [`RootKeyConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// A file of the node's own.
    File(PathBuf),
    /// A systemd credential: its file, or its name if this process was given no credentials.
    Credential(Result<PathBuf, String>),
    /// People with shares, or another voter.
    Shares,
}

impl Provider {
    /// The provider of a configuration.
    pub fn new(config: &RootKeyConfig) -> Provider {
        match config {
            RootKeyConfig::File(path) => Provider::File(path.clone()),
            RootKeyConfig::Credential(name) => {
                let directory = std::env::var_os(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
                let path = directory.map(|directory| Path::new(&directory).join(name));
                Provider::Credential(path.ok_or_else(|| name.clone()))
            }
            RootKeyConfig::Shares => Provider::Shares,
        }
    }

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Provider::File(_) => "file",
            Provider::Credential(_) => "credential",
            Provider::Shares => "shares",
        }
    }

    /// Whether it is a file that the node itself replaces.
    pub fn is_file(&self) -> bool {
        matches!(self, Provider::File(_))
    }

    /// The key that it gives now; `None`: none.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn read(&self) -> Result<Option<Key>, VaultError> {
        match self {
            Provider::File(path) | Provider::Credential(Ok(path)) => read_root_key(path),
            Provider::Credential(Err(_)) | Provider::Shares => Ok(None),
        }
    }

    /// Puts another key in a file's place. Other providers are people's to change.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn replace(&self, key: &Key) -> Result<(), VaultError> {
        match self {
            Provider::File(path) => replace_root_key(path, key),
            Provider::Credential(_) | Provider::Shares => Ok(()),
        }
    }

    /// Keeps a file's key, which is to be replaced, in another file beside it, and answers where.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn keep_aside(&self, key: &Key) -> Result<PathBuf, VaultError> {
        let Provider::File(path) = self else { return Ok(PathBuf::new()) };
        let check = hexadecimal(&key.check_value()[..4]);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".kept-{check}"));
        let kept = PathBuf::from(name);
        if read_root_key(&kept)?.as_ref() != Some(key) {
            write_root_key(&kept, key)?;
        }
        Ok(kept)
    }

    /// Whether a restart would find this key: the file or credential holds it, or confirmed shares restore it.
    ///
    /// # Errors
    /// [`VaultError::RootKeyFile`].
    pub fn gives(&self, key: &Key, known: &Known) -> Result<bool, VaultError> {
        match self {
            Provider::Shares => Ok(known.is_covered(key.check_value())),
            _ => Ok(self.read()?.as_ref() == Some(key)),
        }
    }

    /// Why the node has no key, for its log.
    pub fn missing(&self) -> String {
        match self {
            Provider::File(path) => format!(
                "no root key at {} that opens it (there is none, or another cluster's, or one of before a rotation)",
                path.display()
            ),
            Provider::Credential(Ok(path)) => format!("no credential at {} that opens it", path.display()),
            Provider::Credential(Err(name)) => {
                format!("this process was given no credentials ({CREDENTIALS_DIRECTORY} is not set), wanted {name}")
            }
            Provider::Shares => "no key shares yet (`kura key submit`)".into(),
        }
    }
}
