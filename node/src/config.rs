//! A node's configuration file (TOML). What one machine decides is here; what must be equal
//! everywhere is replicated state.

use std::path::{Path, PathBuf};

use kura_cluster::archive::Sha256Hash;
use kura_cluster::archive::keep::KeepRules;
use kura_cluster::from_hexadecimal;
use kura_cluster::id::is_blank;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::archive::store::is_remote;
use crate::certificates::check_name;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, lacks a key, has an unknown one, or a value of the wrong kind.
    #[error("configuration {path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its bounds.
    #[error("configuration {path}: {key}: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// A node's configuration. Relative paths are relative to the file's directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, as in its certificate.
    pub name: String,
    /// Directory of everything that the node writes.
    pub data: PathBuf,
    /// Address of the one port for clients, operators and peers.
    pub listen: String,
    /// Address at which others reach it; `listen` unless given.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Address of the Prometheus endpoint; none unless given.
    #[serde(default)]
    pub metrics_listen: Option<String>,
    /// Certificate, key, authorities.
    pub tls: TlsConfig,
    /// Where the root key comes from; voters only.
    #[serde(default)]
    pub root_key: Option<RootKeyConfig>,
    /// Members to ask when joining.
    #[serde(default)]
    pub peers: Vec<PeerConfig>,
    /// Marks of free disk space.
    #[serde(default)]
    pub space: SpaceConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// How much Raft log is kept for members that lag.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Checking of signatures that come with records.
    #[serde(default)]
    pub signatures: SignaturesConfig,
    /// The archive that a backup member writes; none unless given.
    #[serde(default)]
    pub archive: Option<ArchiveConfig>,
    /// Lags that raise an alarm.
    #[serde(default)]
    pub alarm: AlarmConfig,
    /// How often and how fast the node checks its own files.
    #[serde(default)]
    pub scrub: ScrubConfig,
}

/// Lags beyond which the leader, and whoever tells the status, raises an alarm.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// Of the backup.
    pub replication_seconds_max: u64,
    /// Of the archive.
    pub archive_seconds_max: u64,
}

impl Default for AlarmConfig {
    fn default() -> AlarmConfig {
        AlarmConfig { replication_seconds_max: 30, archive_seconds_max: 120 }
    }
}

/// Checking one's own files.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubConfig {
    /// From the end of one check to the next.
    pub every_hours: u64,
    /// How much is read in a second.
    pub mib_per_second: u64,
    /// From the end of one check to the next that is made on request; 0: at once.
    pub asked_minutes: u64,
}

impl Default for ScrubConfig {
    fn default() -> ScrubConfig {
        ScrubConfig { every_hours: 168, mib_per_second: 16, asked_minutes: 10 }
    }
}

/// Where a voter's root key comes from. In the file: a path, `{ credential = "NAME" }` or `{ shares = true }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RootKeyToml")]
pub enum RootKeyConfig {
    /// A file that the node writes, too: `init` and `join` make it, a rotation replaces it.
    File(PathBuf),
    /// A systemd credential of this name, which the node only reads.
    Credential(String),
    /// Nowhere on this machine: another voter hands it over, or holders of shares submit them.
    Shares,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RootKeyToml {
    File(PathBuf),
    Other(RootKeyTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootKeyTable {
    credential: Option<String>,
    shares: Option<bool>,
}

impl TryFrom<RootKeyToml> for RootKeyConfig {
    type Error = &'static str;

    fn try_from(toml: RootKeyToml) -> Result<RootKeyConfig, &'static str> {
        const FORMS: &str = "root_key is a path, { credential = \"NAME\" } or { shares = true }";
        match toml {
            RootKeyToml::File(path) => Ok(RootKeyConfig::File(path)),
            RootKeyToml::Other(RootKeyTable { credential: Some(name), shares: None }) => match name.as_str() {
                "" | "." | ".." => Err(FORMS),
                name if name.contains('/') => Err("root_key.credential is a name, not a path"),
                _ => Ok(RootKeyConfig::Credential(name)),
            },
            RootKeyToml::Other(RootKeyTable { credential: None, shares: Some(true) }) => Ok(RootKeyConfig::Shares),
            RootKeyToml::Other(_) => Err(FORMS),
        }
    }
}

/// TLS files, PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The node's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
    /// Certificates of every authority that may sign.
    pub authorities: PathBuf,
    /// Revocation lists of those authorities.
    #[serde(default)]
    pub revocation_lists: Vec<PathBuf>,
}

/// A member to ask when joining.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its name, as in its certificate.
    pub name: String,
    /// Host and port.
    pub address: String,
}

/// Marks of free space on the file system of `data`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpaceConfig {
    /// Below this, writes are refused.
    pub low_mib: u64,
    /// Preallocated; given up for the journal entries of reads when the rest is gone.
    pub reserve_mib: u64,
}

impl Default for SpaceConfig {
    fn default() -> SpaceConfig {
        SpaceConfig { low_mib: 1024, reserve_mib: 256 }
    }
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: String,
    /// A level (`info`) or a filter (`info,openraft=warn`).
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { format: "text".into(), level: "info,openraft=error".into() }
    }
}

impl LogConfig {
    /// The filter that `level` is. A word alone is a level: the library would take any other for the name of a part of
    /// the program, and tell nothing of the rest.
    ///
    /// # Errors
    /// It is none; in words.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_known =
            |part: &str| part.contains(['=', '[']) || LEVELS.iter().any(|one| part.eq_ignore_ascii_case(one));
        let wrong = || {
            format!("{:?} is neither a level ({}) nor a filter like info,openraft=warn", self.level, LEVELS.join(", "))
        };
        match self.level.split(',').all(|part| is_known(part.trim())) {
            true => EnvFilter::try_new(&self.level).map_err(|_| wrong()),
            false => Err(wrong()),
        }
    }
}

/// How much Raft log is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Log written since the last snapshot that makes a new one.
    pub snapshot_every_mib: u64,
    /// Log kept for a member that lags; beyond it the member will need a snapshot.
    pub log_max_mib: u64,
}

impl Default for RetentionConfig {
    fn default() -> RetentionConfig {
        RetentionConfig { snapshot_every_mib: 24, log_max_mib: 8192 }
    }
}

/// Checking of signatures that come with records.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignaturesConfig {
    /// Certificates of the authorities of signers and of timestamps, PEM; without it nothing is checked.
    pub ca: Option<PathBuf>,
}

/// The archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// A directory, a `file://` URL, or `s3://BUCKET/PREFIX`.
    pub place: String,
    /// The file that says how `s3://` is reached ([`crate::archive::storage::StorageConfig`]).
    #[serde(default)]
    pub storage: Option<PathBuf>,
    /// A segment is closed when it has so many MiB.
    #[serde(default = "segment_mib")]
    pub segment_mib: u64,
    /// A segment that has anything is closed after so many seconds.
    #[serde(default = "segment_seconds")]
    pub segment_seconds: u64,
    /// A generation that is so many hours old is followed by the next.
    #[serde(default = "base_every_hours")]
    pub base_every_hours: u64,
    /// So is one with so many MiB of segments.
    #[serde(default = "base_every_mib")]
    pub base_every_mib: u64,
    /// From the end of one check of everything in it to the next; 0: none is made.
    #[serde(default = "check_every_hours")]
    pub check_every_hours: u64,
    /// How much such a check reads in a second.
    #[serde(default = "check_mib_per_second")]
    pub check_mib_per_second: u64,
    /// Keys of former backups whose archive is gone on with: each the SHA-256 of a public key, 64 hexadecimal digits.
    #[serde(default)]
    pub signed_by: Vec<String>,
    /// Which generations are kept.
    #[serde(default)]
    pub keep: KeepConfig,
}

impl ArchiveConfig {
    /// The keys of `signed_by`.
    pub fn signed_by(&self) -> Vec<Sha256Hash> {
        self.signed_by.iter().filter_map(|key| from_hexadecimal(key)).collect()
    }
}

fn check_every_hours() -> u64 {
    168
}

fn check_mib_per_second() -> u64 {
    16
}

fn segment_mib() -> u64 {
    8
}

fn segment_seconds() -> u64 {
    5
}

fn base_every_hours() -> u64 {
    24
}

fn base_every_mib() -> u64 {
    4096
}

/// Which generations of the archive are kept: the newest ones, and the newest of so many days, weeks, months.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepConfig {
    /// The newest ones.
    pub last: u32,
    /// Of so many days.
    pub daily: u32,
    /// Of so many weeks.
    pub weekly: u32,
    /// Of so many months.
    pub monthly: u32,
}

impl Default for KeepConfig {
    fn default() -> KeepConfig {
        KeepConfig { last: 3, daily: 7, weekly: 4, monthly: 12 }
    }
}

impl KeepConfig {
    /// As the rules take them.
    pub fn rules(&self) -> KeepRules {
        KeepRules { last: self.last, daily: self.daily, weekly: self.weekly, monthly: self.monthly }
    }
}

impl NodeConfig {
    /// Reads and checks a configuration.
    pub fn load(path: &Path) -> Result<NodeConfig, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        NodeConfig::parse(&text, path)
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<NodeConfig, ConfigError> {
        let mut config: NodeConfig = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let wrong = |(key, why)| ConfigError::Value { path: path.to_owned(), key, why };
        config.check_paths().map_err(wrong)?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.anchor(base);
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// The keys that name a file, and what they name.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let mut files: Vec<(&'static str, &Path)> = vec![
            ("tls.certificate", &self.tls.certificate),
            ("tls.private_key", &self.tls.private_key),
            ("tls.authorities", &self.tls.authorities),
        ];
        files.extend(self.tls.revocation_lists.iter().map(|path| ("tls.revocation_lists", &**path)));
        files.extend(self.signatures.ca.iter().map(|path| ("signatures.ca", &**path)));
        if let Some(RootKeyConfig::File(path)) = &self.root_key {
            files.push(("root_key", path));
        }
        files.extend(self.archive.iter().flat_map(|one| &one.storage).map(|path| ("archive.storage", &**path)));
        files
    }

    /// The key that names the file which a message is about; of several that could be meant, the longest path's.
    pub fn key_of(&self, message: &str) -> Option<&'static str> {
        let told = self.files().into_iter().filter(|(_, path)| message.contains(&path.display().to_string()));
        told.max_by_key(|(_, path)| path.as_os_str().len()).map(|(key, _)| key)
    }

    /// Before they are relative to anything: an empty one would be the folder of the configuration.
    fn check_paths(&self) -> Result<(), (&'static str, String)> {
        let place = self.archive.as_ref().map(|archive| ("archive.place", Path::new(&archive.place)));
        let named = [("data", &*self.data)].into_iter().chain(self.files()).chain(place);
        let empty = named.into_iter().find(|(_, path)| is_blank(&path.to_string_lossy()));
        empty.map_or(Ok(()), |(key, _)| Err((key, "is empty".into())))
    }

    fn anchor(&mut self, base: &Path) {
        let files = [&mut self.data, &mut self.tls.certificate, &mut self.tls.private_key, &mut self.tls.authorities];
        for path in files.into_iter().chain(&mut self.signatures.ca).chain(&mut self.tls.revocation_lists) {
            *path = base.join(&*path);
        }
        if let Some(RootKeyConfig::File(path)) = &mut self.root_key {
            *path = base.join(&*path);
        }
        if let Some(archive) = &mut self.archive {
            if !archive.place.contains("://") {
                archive.place = base.join(&archive.place).display().to_string();
            }
            if let Some(storage) = &mut archive.storage {
                *storage = base.join(&*storage);
            }
        }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        check_name(&self.name).map_err(|error| ("name", error.to_string()))?;
        for (key, address) in [
            ("listen", Some(&self.listen)),
            ("advertise", self.advertise.as_ref()),
            ("metrics_listen", self.metrics_listen.as_ref()),
        ] {
            if let Some(address) = address
                && address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
            {
                return Err((key, format!("{address:?} is not host:port")));
            }
        }
        if !matches!(&self.log.format[..], "text" | "json") {
            return Err(("log.format", format!("{:?} is neither text nor json", self.log.format)));
        }
        self.log.filter().map_err(|why| ("log.level", why))?;
        if self.space.reserve_mib > self.space.low_mib {
            return Err(("space.reserve_mib", "is more than space.low_mib".into()));
        }
        if self.retention.snapshot_every_mib < 1 || self.retention.log_max_mib < self.retention.snapshot_every_mib {
            return Err(("retention.log_max_mib", "is less than retention.snapshot_every_mib, or that is 0".into()));
        }
        for (key, value, most) in [
            ("alarm.replication_seconds_max", self.alarm.replication_seconds_max, 24 * 3600),
            ("alarm.archive_seconds_max", self.alarm.archive_seconds_max, 24 * 3600),
            ("scrub.every_hours", self.scrub.every_hours, 24 * 366),
            ("scrub.mib_per_second", self.scrub.mib_per_second, 1 << 20),
        ] {
            if !(1..=most).contains(&value) {
                return Err((key, format!("{value} is not between 1 and {most}")));
            }
        }
        if self.scrub.asked_minutes > 24 * 60 {
            return Err(("scrub.asked_minutes", format!("{} is more than {}", self.scrub.asked_minutes, 24 * 60)));
        }
        if let Some(archive) = &self.archive {
            if self.root_key.is_some() {
                return Err(("archive", "is a backup's to write, which has no root_key".into()));
            }
            if is_remote(&archive.place) != archive.storage.is_some() {
                let why =
                    "is the file that says how an s3:// place is reached: such a place needs one, no other has one";
                return Err(("archive.storage", why.into()));
            }
            for (key, value, most) in [
                ("archive.segment_mib", archive.segment_mib, 64),
                ("archive.segment_seconds", archive.segment_seconds, 3600),
                ("archive.base_every_hours", archive.base_every_hours, 24 * 366),
                ("archive.base_every_mib", archive.base_every_mib, 1 << 30),
                ("archive.check_mib_per_second", archive.check_mib_per_second, 1 << 20),
            ] {
                if !(1..=most).contains(&value) {
                    return Err((key, format!("{value} is not between 1 and {most}")));
                }
            }
            if archive.check_every_hours > 24 * 366 {
                let why = format!("{} is more than {} (0: no check is made)", archive.check_every_hours, 24 * 366);
                return Err(("archive.check_every_hours", why));
            }
            if let Some(key) = archive.signed_by.iter().find(|key| from_hexadecimal::<32>(key).is_none()) {
                return Err(("archive.signed_by", format!("{key:?} is no SHA-256, which has 64 hexadecimal digits")));
            }
            if archive.keep.last == 0 {
                return Err(("archive.keep.last", "is 0; at least the newest generation is kept".into()));
            }
        }
        Ok(())
    }

    /// Address at which others reach this node.
    pub fn advertised(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }

    /// The files as the TLS modules take them.
    pub fn tls_files(&self) -> kura_client::tls::TlsFiles {
        kura_client::tls::TlsFiles {
            certificate: self.tls.certificate.clone(),
            private_key: self.tls.private_key.clone(),
            authorities: self.tls.authorities.clone(),
            authorities_more: Some(self.data.join(crate::init::RECOVERY_CA_FILE)),
            revocation_lists: self.tls.revocation_lists.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
