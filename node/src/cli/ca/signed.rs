//! What a CA notes of the certificates that it signs, in `signed.json` in its folder: to warn where a holder gets
//! another key, and to revoke what was signed for a holder whose certificate file is gone.
//!
//! Invariants
//! - Nobody is let in or kept out by these notes: they only tell what to warn of and which serial numbers to revoke.
//! - Notes that cannot be read are put aside, never overwritten.
//!
//! The file is a JSON object of holders (`ROLE NAME`); each has `key_sha256`, the last certificate's key, and
//! `certificates` that have not expired, each with `serial` and `key_sha256` (hexadecimal) and `not_after_ms`. Files of
//! before have the key's text alone in a holder's place.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::certificates::Role;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;

/// The file.
pub const FILE: &str = "signed.json";

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of its key, hexadecimal.
    pub key_sha256: String,
    /// When it expires.
    pub not_after_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
struct Holder {
    key_sha256: String,
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Key(String),
    Holder { key_sha256: String, certificates: Vec<Certificate> },
}

impl From<Stored> for Holder {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Key(key_sha256) => Self { key_sha256, certificates: Vec::new() },
            Stored::Holder { key_sha256, certificates } => Self { key_sha256, certificates },
        }
    }
}

type Holders = BTreeMap<String, Holder>;

/// What was found when a certificate was noted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The key that was signed for the same holder before, if it is another.
    pub other_key: Option<String>,
    /// Where notes that cannot be read were put.
    pub put_aside: Option<PathBuf>,
}

fn of(role: Role, name: &str) -> String {
    format!("{} {name}", role.word())
}

fn read(path: &Path) -> io::Result<Holders> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Holders::new()),
        Err(error) => Err(error),
    }
}

/// Notes a certificate just signed; what has expired is forgotten.
pub fn note(directory: &Path, role: Role, name: &str, signed: Certificate, now_ms: u64) -> io::Result<Noted> {
    let path = directory.join(FILE);
    let mut noted = Noted::default();
    let mut holders = match read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            let aside = directory.join(format!("{FILE}.unreadable-{now_ms}"));
            std::fs::rename(&path, &aside)?;
            noted.put_aside = Some(aside);
            Holders::new()
        }
        read => read?,
    };
    let holder = holders.entry(of(role, name)).or_default();
    let before = std::mem::replace(&mut holder.key_sha256, signed.key_sha256.clone());
    noted.other_key = Some(before).filter(|before| !before.is_empty() && *before != signed.key_sha256);
    holder.certificates.push(signed);
    holders.values_mut().for_each(|holder| holder.certificates.retain(|one| one.not_after_ms > now_ms));
    crate::serve::checks::write(&path, &serde_json::to_vec_pretty(&holders)?)?;
    Ok(noted)
}

/// The certificates of a holder that have not expired.
///
/// # Errors
/// Exit code 2: the notes cannot be read, or several roles have a holder of the name. 4: none is noted.
pub fn certificates(
    directory: &Path,
    role: Option<Role>,
    name: &str,
    now_ms: u64,
) -> Result<Vec<Certificate>, Failure> {
    const BY_NUMBER: &str = "name the certificate's file (--certificate) or its serial number (--serial)";
    let path = directory.join(FILE);
    let holders = read(&path).map_err(|error| files::unreadable("--directory", &path, &error).next(BY_NUMBER))?;
    let found: Vec<(Role, Holder)> = holders
        .into_iter()
        .filter_map(|(holder, told)| {
            let (word, known) = holder.split_once(' ')?;
            let known_role: Role = word.parse().ok()?;
            (known == name && role.is_none_or(|role| role == known_role)).then_some((known_role, told))
        })
        .collect();
    if found.len() > 1 {
        let roles: Vec<&str> = found.iter().map(|(role, _)| role.word()).collect();
        return Err(Failure::usage(format!("--name: certificates of {name} were signed for {}", roles.join(" and ")))
            .next("say which is meant with --role; nothing was revoked"));
    }
    let certificates: Vec<Certificate> = found
        .into_iter()
        .flat_map(|(_, holder)| holder.certificates)
        .filter(|certificate| certificate.not_after_ms > now_ms)
        .collect();
    if certificates.is_empty() {
        let why = format!("--name: {} has no certificate of {name} that is valid; nothing was revoked", path.display());
        return Err(Failure::new(Exit::NotFound, why)
            .next(format!("what an earlier version or another CA signed is not noted there: {BY_NUMBER}")));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(serial: &str, key: &str, not_after_ms: u64) -> Certificate {
        Certificate { serial: serial.into(), key_sha256: key.into(), not_after_ms }
    }

    #[test]
    fn another_key_for_the_same_holder_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let other = |role, key| note(folder.path(), role, "voter-1", certificate("01", key, 9), 1).unwrap().other_key;
        assert_eq!(other(Role::Voter, "aa"), None);
        assert_eq!(other(Role::Voter, "aa"), None, "a renewal");
        assert_eq!(other(Role::Backup, "bb"), None, "another role");
        assert_eq!(other(Role::Voter, "cc"), Some("aa".into()));
        assert_eq!(other(Role::Voter, "cc"), None);
    }

    #[test]
    fn what_was_signed_for_a_name_is_found_by_it_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        for (role, serial, not_after_ms) in
            [(Role::Voter, "0a", 50), (Role::Voter, "0b", 90), (Role::Operator, "0c", 90)]
        {
            note(directory, role, "abe", certificate(serial, "aa", not_after_ms), 1).unwrap();
        }
        let found = |role, name, now_ms| -> Result<Vec<String>, (Exit, String)> {
            let found = certificates(directory, role, name, now_ms);
            let serials = found.map(|found| found.into_iter().map(|one| one.serial).collect());
            serials.map_err(|failure| (failure.exit, failure.to_string()))
        };
        assert_eq!(found(Some(Role::Voter), "abe", 2), Ok(vec!["0a".into(), "0b".into()]));
        assert_eq!(found(Some(Role::Voter), "abe", 60), Ok(vec!["0b".into()]));
        assert_eq!(found(Some(Role::Operator), "abe", 2), Ok(vec!["0c".into()]));
        let (exit, why) = found(None, "abe", 2).unwrap_err();
        assert!(exit == Exit::Usage && why.contains("operator and voter") && why.contains("--role"), "{why}");
        for (role, name, now_ms) in [(None, "ito", 2), (Some(Role::Voter), "abe", 90), (Some(Role::Backup), "abe", 2)] {
            assert_eq!(found(role, name, now_ms).unwrap_err().0, Exit::NotFound, "{name} at {now_ms}");
        }
        note(directory, Role::Voter, "ito", certificate("0d", "bb", 99), 60).unwrap();
        assert!(!std::fs::read_to_string(directory.join(FILE)).unwrap().contains("0a"), "it has expired");
    }

    #[test]
    fn notes_of_before_stay_readable_and_damaged_ones_are_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        std::fs::write(directory.join(FILE), r#"{"voter voter-1": "aa", "operator abe": "bb"}"#).unwrap();
        assert_eq!(certificates(directory, None, "abe", 1).unwrap_err().exit, Exit::NotFound);
        let noted = note(directory, Role::Voter, "voter-1", certificate("01", "cc", 9), 1).unwrap();
        assert_eq!(noted, Noted { other_key: Some("aa".into()), put_aside: None });
        let text = std::fs::read_to_string(directory.join(FILE)).unwrap();
        assert!(text.contains("operator abe") && text.contains("bb"), "what was not touched stays: {text}");
        assert_eq!(certificates(directory, None, "voter-1", 1).unwrap(), [certificate("01", "cc", 9)]);

        std::fs::write(directory.join(FILE), "damaged").unwrap();
        assert_eq!(certificates(directory, None, "voter-1", 1).unwrap_err().exit, Exit::Usage);
        let noted = note(directory, Role::Voter, "voter-1", certificate("02", "dd", 9), 7).unwrap();
        assert_eq!(noted.other_key, None);
        assert_eq!(std::fs::read_to_string(noted.put_aside.unwrap()).unwrap(), "damaged");
    }
}
