//! S3-compatible storage of an archive: `s3://BUCKET/PREFIX`, and a file that says how it is reached.
//!
//! Invariants
//! - Credentials come from a file, a systemd credential or the environment, never from an argument; nothing here
//!   prints them, and no error repeats what the file with them holds.
//! - Nothing goes over a connection without TLS unless `allow_plain_http` says so, and only authorities that the
//!   file names are trusted. There is no way around a proxy, and no redirection is followed.
//! - Each wait is bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use zeroize::Zeroizing;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unacknowledged by the other machine.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may stand still. A part of 8 MiB has to get there in this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is tried again, and how long after its beginning at most.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bytes of a file with credentials.
const CREDENTIALS_BYTES_MAX: u64 = 16 << 10;

/// How storage is reached: a TOML file. Relative paths are relative to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// `https://HOST[:PORT]`, without the bucket's name.
    pub endpoint: String,
    /// The region that requests are signed for.
    #[serde(default = "region")]
    pub region: String,
    /// Certificates of the authorities that may sign the endpoint's, PEM.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
    /// Where the access key comes from: a path, `{ credential = "NAME" }` or `{ environment = true }`.
    pub credentials: CredentialsConfig,
    /// Whether the bucket's name is put before the host's rather than into the path.
    #[serde(default)]
    pub bucket_in_host: bool,
    /// Whether an `http://` endpoint may be used: everything but the bodies' sealing goes in the clear then.
    #[serde(default)]
    pub allow_plain_http: bool,
}

fn region() -> String {
    "us-east-1".into()
}

/// Where an access key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CredentialsToml")]
pub enum CredentialsConfig {
    /// A file.
    File(PathBuf),
    /// A systemd credential of this name.
    Credential(String),
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if there is one, `AWS_SESSION_TOKEN`.
    Environment,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CredentialsToml {
    File(PathBuf),
    Other(CredentialsTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsTable {
    credential: Option<String>,
    environment: Option<bool>,
}

impl TryFrom<CredentialsToml> for CredentialsConfig {
    type Error = &'static str;

    fn try_from(toml: CredentialsToml) -> Result<CredentialsConfig, &'static str> {
        const FORMS: &str = "credentials is a path, { credential = \"NAME\" } or { environment = true }";
        match toml {
            CredentialsToml::File(path) => Ok(CredentialsConfig::File(path)),
            CredentialsToml::Other(CredentialsTable { credential: Some(name), environment: None }) => {
                let is_name = !matches!(&name[..], "" | "." | "..") && !name.contains('/');
                if is_name { Ok(CredentialsConfig::Credential(name)) } else { Err(FORMS) }
            }
            CredentialsToml::Other(CredentialsTable { credential: None, environment: Some(true) }) => {
                Ok(CredentialsConfig::Environment)
            }
            CredentialsToml::Other(_) => Err(FORMS),
        }
    }
}

/// Why storage cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The place is no `s3://BUCKET/PREFIX`.
    #[error(
        "s3:// is followed by a bucket of 3 to 63 letters a to z, digits, '.' and '-', then / and a prefix, if any"
    )]
    Place,
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, lacks a key, has an unknown one, or a value of the wrong kind.
    #[error("{path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{path}: {key}: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The access key cannot be had. Never says what was found.
    #[error("credentials of the storage: {0}")]
    Credentials(String),
}

/// An access key.
struct AccessKey {
    id: String,
    secret: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

impl StorageConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn load(path: &Path) -> Result<StorageConfig, StorageError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| StorageError::Read { path: path.to_owned(), source })?;
        let mut config: StorageConfig = toml::from_str(&text)
            .map_err(|source| StorageError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let base = path.parent().unwrap_or(Path::new(""));
        if let Some(authorities) = &mut config.authorities {
            *authorities = base.join(&*authorities);
        }
        if let CredentialsConfig::File(file) = &mut config.credentials {
            *file = base.join(&*file);
        }
        config.check().map_err(|(key, why)| StorageError::Value { path: path.to_owned(), key, why: why.into() })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let endpoint: http::Uri = self.endpoint.parse().map_err(|_| ("endpoint", "is not a URL"))?;
        // A name and password in it would be shown wherever the endpoint is.
        let host = endpoint.authority().filter(|authority| !authority.as_str().contains('@'));
        if host.is_none() || !matches!(endpoint.path(), "" | "/") || endpoint.query().is_some() {
            return Err(("endpoint", "is not https://HOST or https://HOST:PORT"));
        }
        match endpoint.scheme_str() {
            Some("https") if self.authorities.is_none() => Err((
                "authorities",
                "is missing: the file with the certificates of those who may sign the endpoint's; a system has one for public ones",
            )),
            Some("https") => Ok(()),
            Some("http") if self.allow_plain_http => Ok(()),
            Some("http") => Err((
                "endpoint",
                "is without TLS: use https://, or allow_plain_http = true for a line that is safe otherwise",
            )),
            _ => Err(("endpoint", "begins neither with https:// nor with http://")),
        }
    }

    fn access_key(&self) -> Result<AccessKey, StorageError> {
        let file = match &self.credentials {
            CredentialsConfig::File(path) => path.clone(),
            CredentialsConfig::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty());
                let none = || {
                    let why = format!("this process was given none (CREDENTIALS_DIRECTORY is not set), wanted {name}");
                    StorageError::Credentials(why)
                };
                PathBuf::from(directory.ok_or_else(none)?).join(name)
            }
            CredentialsConfig::Environment => return from_environment(),
        };
        let unreadable = |source| StorageError::Read { path: file.clone(), source };
        if std::fs::metadata(&file).map_err(unreadable)?.len() > CREDENTIALS_BYTES_MAX {
            let why = format!("{} has more than {CREDENTIALS_BYTES_MAX} bytes", file.display());
            return Err(StorageError::Credentials(why));
        }
        let text = Zeroizing::new(std::fs::read_to_string(&file).map_err(unreadable)?);
        read_credentials(&text).map_err(|why| StorageError::Credentials(format!("{}: {why}", file.display())))
    }

    /// A client of the bucket that a place names, and the prefix in it.
    ///
    /// # Errors
    /// [`StorageError`]; nothing is sent yet.
    pub fn client(&self, place: &str) -> Result<(AmazonS3, String), StorageError> {
        let (bucket, prefix) = split(place)?;
        let key = self.access_key()?;
        let mut endpoint = self.endpoint.trim_end_matches('/').to_owned();
        if self.bucket_in_host
            && let Some((scheme, host)) = self.endpoint.split_once("://")
        {
            endpoint = format!("{scheme}://{bucket}.{}", host.trim_end_matches('/'));
        }
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
            backoff: BackoffConfig { init_backoff: BACKOFF_MIN, max_backoff: BACKOFF_MAX, base: 2. },
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(endpoint)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(self.bucket_in_host)
            .with_allow_http(self.allow_plain_http)
            .with_access_key_id(key.id.clone())
            .with_secret_access_key(key.secret.as_str())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry)
            .with_http_connector(Connector { tls: self.tls()?, allow_plain_http: self.allow_plain_http });
        if let Some(token) = &key.token {
            builder = builder.with_token(token.as_str());
        }
        let client = builder.build().map_err(|error| StorageError::Credentials(error.to_string()))?;
        Ok((client, prefix.to_owned()))
    }

    fn tls(&self) -> Result<ClientConfig, StorageError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.authorities {
            let wrong = |why: String| StorageError::Value { path: path.clone(), key: "authorities", why };
            let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
            for certificate in found {
                // A system's file may have some that nothing here understands.
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                let _ = roots.add(certificate);
            }
            if roots.is_empty() {
                return Err(wrong("no authority's certificate is in it".into()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let versions = versions.map_err(|error| StorageError::Credentials(error.to_string()))?;
        Ok(versions.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Splits `s3://BUCKET/PREFIX`.
fn split(place: &str) -> Result<(&str, &str), StorageError> {
    let rest = place.strip_prefix("s3://").ok_or(StorageError::Place)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let is_bucket = (3..=63).contains(&bucket.len()) && bucket.bytes().all(known);
    if is_bucket { Ok((bucket, prefix.trim_end_matches('/'))) } else { Err(StorageError::Place) }
}

fn from_environment() -> Result<AccessKey, StorageError> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let wanted = |name: &str| {
        read(name)
            .ok_or_else(|| StorageError::Credentials(format!("{name} is not set, or is no text, in the environment")))
    };
    Ok(AccessKey {
        id: wanted("AWS_ACCESS_KEY_ID")?,
        secret: Zeroizing::new(wanted("AWS_SECRET_ACCESS_KEY")?),
        token: read("AWS_SESSION_TOKEN").map(Zeroizing::new),
    })
}

/// Reads the credentials file that tools of S3 share: `name = value` lines, of one profile. What is wrong is told
/// by its line's number alone.
fn read_credentials(text: &str) -> Result<AccessKey, String> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let mut profiles = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            profiles += 1;
            if profiles > 1 {
                return Err(format!("line {number} begins another profile: leave one in the file"));
            }
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {number} is not NAME = VALUE"))?;
        let target = match name.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        let value = Zeroizing::new(value.trim().to_owned());
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the value in line {number} is empty, or has blanks in it"));
        }
        if target.replace(value).is_some() {
            return Err(format!("line {number} gives a value for the second time"));
        }
    }
    let id = id.ok_or("it has no aws_access_key_id")?;
    Ok(AccessKey { id: id.as_str().to_owned(), secret: secret.ok_or("it has no aws_secret_access_key")?, token })
}

/// Connections with the limits and the TLS of this module.
struct Connector {
    tls: ClientConfig,
    allow_plain_http: bool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector(…)")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(!self.allow_plain_http)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT)
            .read_timeout(ANSWER_TIMEOUT)
            .build();
        let client = client.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(HttpClient::new(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMIexample";

    fn load(text: &str) -> Result<StorageConfig, StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("storage.toml");
        std::fs::write(&path, text).unwrap();
        StorageConfig::load(&path)
    }

    #[test]
    fn a_file_says_how_storage_is_reached() {
        let config = load(
            "endpoint = \"https://s3.example:9000\"\nauthorities = \"ca.pem\"\ncredentials = \"s3.credentials\"\n",
        )
        .unwrap();
        assert!(config.authorities.unwrap().is_absolute());
        assert!(matches!(config.credentials, CredentialsConfig::File(path) if path.is_absolute()));
        assert_eq!((&config.region[..], config.bucket_in_host, config.allow_plain_http), ("us-east-1", false, false));
        let says = |text: &str, words: &str| {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("storage.toml"), "{error}");
        };
        let with = |endpoint: &str| format!("endpoint = \"{endpoint}\"\ncredentials = {{ environment = true }}\n");
        says(&with("https://s3.example"), "authorities");
        says(&with("http://s3.example"), "allow_plain_http");
        says(&with("https://s3.example/bucket"), "endpoint");
        says(&with("https://user:word@s3.example"), "endpoint");
        says(&with("s3.example"), "endpoint");
        load(&(with("http://s3.example") + "allow_plain_http = true\n")).unwrap();
        says("endpoint = \"https://s3.example\"\ncredentials = { credential = \"a/b\" }\n", "credentials");
        says(&(with("https://s3.example") + "secret = \"x\"\n"), "secret");
    }

    #[test]
    fn a_place_is_a_bucket_and_a_prefix() {
        assert_eq!(split("s3://kura-archive/a/b/").unwrap(), ("kura-archive", "a/b"));
        assert_eq!(split("s3://kura").unwrap(), ("kura", ""));
        for wrong in ["s3://", "s3://ab/c", "s3://Kura/a", "s3:///a", "kura"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn credentials_are_read_and_never_repeated() {
        let key =
            read_credentials(&format!("[default]\n# ours\naws_access_key_id = KURA\naws_secret_access_key={SECRET}\n"))
                .unwrap();
        assert_eq!((&key.id[..], key.secret.as_str(), key.token.is_none()), ("KURA", SECRET, true));
        for (text, words) in [
            (SECRET.to_owned(), "line 1"),
            (format!("aws_access_key_id = {SECRET} {SECRET}"), "line 1"),
            (format!("aws_secret_access_key = {SECRET}"), "aws_access_key_id"),
            (format!("aws_access_key_id = {SECRET}\naws_access_key_id = {SECRET}"), "line 2"),
            (format!("[a]\naws_access_key_id = {SECRET}\n[b]\n"), "line 3"),
        ] {
            let error = read_credentials(&text).err().unwrap();
            assert!(error.contains(words) && !error.contains(SECRET), "{error}");
        }
    }
}
