//! The client's configuration: a TOML file, or built in code.
//!
//! Invariant: a [`Config`] that loads names at least one endpoint, and its limits are in bounds;
//! unknown keys are refused, so that a misspelt one does not pass unnoticed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most endpoints of one configuration.
pub const ENDPOINTS_MAX: usize = 64;

/// Where a node is and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The node's name, as its certificate has it.
    pub name: String,
    /// `host:port`; an IPv6 address in brackets.
    pub address: String,
}

/// Time limits, in milliseconds. Every one has a default and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For one connection to come about: default 5,000, from 100 to 60,000.
    pub connect_ms: u64,
    /// For one attempt at one node to be answered, and for a transfer to make any progress at one
    /// node: default 10,000, from 100 to 600,000.
    pub attempt_ms: u64,
    /// For a call with all its attempts at all nodes, and for a transfer to make any progress at
    /// all: default 30,000, from 100 to 600,000. A third of it if the nodes that answer say that there is no
    /// leader.
    pub call_ms: u64,
    /// For a whole transfer of a body: default 3,600,000 (an hour), from 1,000 to 86,400,000 (a day).
    pub transfer_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, attempt_ms: 10_000, call_ms: 30_000, transfer_ms: 3_600_000 }
    }
}

impl Timeouts {
    fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("timeouts.connect_ms", self.connect_ms, 100, 60_000),
            ("timeouts.attempt_ms", self.attempt_ms, 100, 600_000),
            ("timeouts.call_ms", self.call_ms, 100, 600_000),
            ("timeouts.transfer_ms", self.transfer_ms, 1_000, 86_400_000),
        ];
        for (key, given, least, most) in bounds {
            if !(least..=most).contains(&given) {
                let message = format!("is {given}, it must be from {least} to {most}");
                return Err(ConfigError::Value { key, message });
            }
        }
        Ok(())
    }

    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn attempt(&self) -> Duration {
        Duration::from_millis(self.attempt_ms)
    }

    pub(crate) fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    pub(crate) fn transfer(&self) -> Duration {
        Duration::from_millis(self.transfer_ms)
    }
}

/// How to reach a cluster, and as whom.
///
/// As a file:
///
/// ```toml
/// application = "karte"            # optional: what the application calls itself
/// ca = "ca.pem"                    # CA certificates; paths are relative to this file
/// certificate = "karte.pem"
/// key = "karte.key"
/// revocation_lists = []            # optional
/// journal_head = "journal-head"    # optional: where the last head of the journal is kept
///
/// [[endpoints]]
/// name = "voter-1"                 # as in the node's certificate
/// address = "10.0.0.1:7001"
///
/// [timeouts]                       # optional, see `Timeouts`
/// call_ms = 30000
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the application calls itself; only told back by [`crate::Client::application`]. The cluster goes by the
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// PEM file of CA certificates, any of which may have signed a node's certificate.
    pub ca: PathBuf,
    /// PEM file of this client's certificate, followed by intermediates.
    pub certificate: PathBuf,
    /// PEM file of the certificate's private key.
    pub key: PathBuf,
    /// PEM files of certificate revocation lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocation_lists: Vec<PathBuf>,
    /// File in which the last head of the journal that this client has seen is kept from run to run (see
    /// [`crate::Journal::head`]); made when there is one. One file for each cluster; several processes
    /// may share it: it never goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_head: Option<PathBuf>,
    /// The nodes to talk to: any voters, the more the better. 1 to [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Why a configuration cannot be used. Always names the file or the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not TOML, lacks a key or has an unknown one.
    #[error("{message}")]
    Text {
        /// Line, key and what is expected.
        message: String,
    },
    /// A value is out of its bounds.
    #[error("{key} {message}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Something is wrong with a file's content.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What.
        source: Box<ConfigError>,
    },
}

impl ConfigError {
    /// The key at fault, if the fault is in a single value.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Value { key, .. } => Some(key),
            Self::File { source, .. } => source.key(),
            Self::Read { .. } | Self::Text { .. } => None,
        }
    }
}

impl Config {
    /// Reads a file. Paths in it are relative to its folder. Blocking: one small file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and, where there is one, the key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Parses a text whose paths are relative to a folder.
    ///
    /// # Errors
    /// [`ConfigError::Text`] or [`ConfigError::Value`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Text { message: error.to_string().trim_end().to_owned() })?;
        config.check()?;
        let files = [&mut config.ca, &mut config.certificate, &mut config.key];
        for file in files.into_iter().chain(&mut config.revocation_lists).chain(&mut config.journal_head) {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// The text of a file that [`Config::load`] reads.
    ///
    /// # Errors
    /// [`ConfigError::Text`] if a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Text { message: error.to_string() })
    }

    /// Checks the bounds, also of a configuration built in code.
    ///
    /// # Errors
    /// [`ConfigError::Value`], naming the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            let message = format!("has {} entries, it must have 1 to {ENDPOINTS_MAX}", self.endpoints.len());
            return Err(ConfigError::Value { key: "endpoints", message });
        }
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            if self.endpoints[..place].iter().any(|other| other.name == endpoint.name) {
                let message = format!("name {:?} twice", endpoint.name);
                return Err(ConfigError::Value { key: "endpoints", message });
            }
        }
        self.timeouts.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        ca = "ca.pem"
        certificate = "app.pem"
        key = "/etc/kura/app.key"
        journal_head = "head"
        endpoints = [{ name = "voter-1", address = "10.0.0.1:7001" }]
        [timeouts]
        call_ms = 2000
    "#;

    #[test]
    fn paths_are_relative_to_the_folder_and_limits_have_defaults() {
        let config = Config::parse(GOOD, Path::new("/srv/app")).unwrap();
        assert_eq!(config.ca, Path::new("/srv/app/ca.pem"));
        assert_eq!(config.key, Path::new("/etc/kura/app.key"));
        assert_eq!(config.journal_head.as_deref(), Some(Path::new("/srv/app/head")));
        assert_eq!(config.timeouts, Timeouts { call_ms: 2000, ..Timeouts::default() });
        let again = Config::parse(&config.to_toml().unwrap(), Path::new("/elsewhere")).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        assert!(Config::load(&path).unwrap_err().to_string().contains("client.toml"));
        let table = [
            (GOOD.replace("ca = ", "cas = "), "cas"),
            (GOOD.replace("call_ms", "call_seconds"), "call_seconds"),
            (GOOD.replace("2000", "5"), "timeouts.call_ms"),
            (GOOD.replace("2000", "\"soon\""), "call_ms"),
            (GOOD.replace("{ name = \"voter-1\", address = \"10.0.0.1:7001\" }", ""), "endpoints"),
            (GOOD.replace("address", "port"), "port"),
            (GOOD.replace("key =", "# key ="), "key"),
        ];
        for (text, named) in table {
            std::fs::write(&path, text).unwrap();
            let message = Config::load(&path).unwrap_err().to_string();
            assert!(message.contains("client.toml") && message.contains(named), "{named}: {message}");
        }
    }
}
