//! What is given on the command line: texts that say something, and the options by which people know the fields of
//! requests.
//!
//! Invariant: what is empty or blank is refused here, with the option's name, before any cluster is asked. Whether a
//! text may be left out is not this module's: where it may not, the cluster refuses, and journals that it did.

use std::io::ErrorKind;
use std::path::Path;

use clap::builder::RangedI64ValueParser;
use kura_client::{Date, JournalHead};
use kura_cluster::from_hexadecimal;
use kura_cluster::id::{FacilityId, is_blank};
use kura_cluster::seal::Key;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::exit::{Failure, chain};
use super::files;
use crate::certificates::{DAYS_MAX, check_cluster, check_name};
use crate::config::NodeConfig;
use crate::vault::read_root_key;

/// A text that says something.
///
/// # Errors
/// An empty or blank one.
pub fn text(given: &str) -> Result<String, &'static str> {
    if is_blank(given) { Err("is empty or blank") } else { Ok(given.to_owned()) }
}

/// A cluster's name: 1 to 64 characters that are seen.
///
/// # Errors
/// Anything else.
pub fn cluster(given: &str) -> Result<String, &'static str> {
    check_cluster(given).map_err(|_| "is not 1 to 64 characters that are seen")?;
    text(given)
}

/// A name as certificates have it.
///
/// # Errors
/// Anything but 1 to 64 letters, digits, dots, underscores and hyphens.
pub fn name(given: &str) -> Result<String, &'static str> {
    check_name(given).map_err(|_| "is not 1 to 64 letters, digits, dots, underscores and hyphens")?;
    Ok(given.to_owned())
}

/// The id of a facility that is to be registered. One with a slash could never be acted for: FACILITY/USER is split
/// at the first.
///
/// # Errors
/// What no facility's id may be, and a slash.
pub fn new_facility(given: &str) -> Result<String, String> {
    FacilityId::parse(&text(given)?).map_err(|error| error.to_string())?;
    if given.contains('/') { Err("holds a slash, at which FACILITY/USER is split".into()) } else { Ok(given.into()) }
}

/// For how many days a certificate or list is to be valid.
pub fn valid_days() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(1..=i64::from(DAYS_MAX))
}

/// A SHA-256.
///
/// # Errors
/// Anything but 64 hexadecimal digits.
pub fn sha256(given: &str) -> Result<[u8; 32], &'static str> {
    from_hexadecimal(given).ok_or("a SHA-256 has 64 hexadecimal digits")
}

/// The first day that begins after 1970-01-01 UTC: times of before cannot be asked for.
const DAY_FIRST: Date = Date::from_days(1);

/// A day that something was entered on, or will be.
///
/// # Errors
/// No day, or one before 1970-01-02.
pub fn day(given: &str) -> Result<Date, String> {
    let day: Date = given.parse().map_err(|error: kura_client::DateError| error.to_string())?;
    if day < DAY_FIRST { Err(format!("is before {DAY_FIRST}, the first day that can be asked for")) } else { Ok(day) }
}

/// A day that has begun in Japan, by this machine's clock.
///
/// # Errors
/// As [`day`], and one that is to come.
pub fn day_so_far(given: &str) -> Result<Date, String> {
    let (day, today) = (day(given)?, Date::today());
    if day > today { Err(format!("is after {today}, which is today in Japan")) } else { Ok(day) }
}

/// Two days that bound something are in order.
///
/// # Errors
/// The first is after the last.
pub fn in_order(since: Option<Date>, until: Option<Date>) -> Result<(), Failure> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            Err(Failure::usage(format!("--since {since} is after --until {until}: no day is between them")))
        }
        _ => Ok(()),
    }
}

/// A certificate's DER, from a file in PEM (its first one) or DER.
///
/// # Errors
/// The file cannot be read, or is no certificate.
pub fn certificate(option: &str, path: &Path) -> Result<CertificateDer<'static>, Failure> {
    let bytes = files::read(option, path)?;
    read_certificate(&bytes).ok_or_else(|| {
        Failure::usage(format!("{option}: {} is no certificate (PEM or DER)", path.display()))
            .next("name the file with the certificate of the card, not its key or a request")
    })
}

/// The certificate that a file's content is (PEM or DER), if it is one.
pub fn read_certificate(bytes: &[u8]) -> Option<CertificateDer<'static>> {
    let der = CertificateDer::from_pem_slice(bytes).unwrap_or_else(|_| bytes.to_vec().into());
    matches!(X509Certificate::from_der(&der), Ok(([], _))).then_some(der)
}

/// A node's configuration.
///
/// # Errors
/// Exit code 2: it cannot be read, or says what cannot be.
pub fn configuration(path: &Path) -> Result<NodeConfig, Failure> {
    NodeConfig::load(path).map_err(|error| Failure::usage(chain(&error)).of("--config"))
}

/// A node's configuration that was loaded, and names what cannot be used: the error names the file, this the key.
pub fn misconfigured(path: &Path, config: &NodeConfig, key: Option<&'static str>, why: &str) -> Failure {
    let key = key.or_else(|| config.key_of(why)).map_or_else(String::new, |key| format!("{key}: "));
    Failure::usage(format!("--config: configuration {}: {key}{why}", path.display()))
        .next("mend it, then run the same again")
}

/// The root key in a file.
///
/// # Errors
/// Exit code 2: it is not there, or is none.
pub fn root_key(path: &Path) -> Result<Key, Failure> {
    let key = read_root_key(path).map_err(|error| Failure::usage(chain(&error)).of("--root-key"))?;
    key.ok_or_else(|| {
        Failure::usage(format!("--root-key: there is no file {}", path.display()))
            .next("name the file with the root key: 64 hexadecimal digits")
    })
}

/// A head of the journal that somebody kept.
///
/// # Errors
/// Exit code 2: it cannot be read, or is none.
pub fn head(option: &str, path: &Path) -> Result<JournalHead, Failure> {
    JournalHead::read(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => Failure::usage(format!("{option}: {} holds no head: {error}", path.display()))
            .next("name a file that `kura audit head --file` has written"),
        _ => files::unreadable(option, path, &error),
    })
}

/// Where somebody is reached: host:port.
///
/// # Errors
/// No port from 1 to 65535 after the last colon, or nothing before it.
pub fn address(given: &str) -> Result<String, &'static str> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match given.rsplit_once(':') {
        Some((host, port)) if !is_blank(host) && !host.contains(char::is_whitespace) && is_port(port) => {
            Ok(given.to_owned())
        }
        _ => Err("is not host:port, with a port from 1 to 65535"),
    }
}

/// Fields of requests, and how they are given.
const OPTIONS: &[(&str, &str)] = &[
    ("accept_fewer", "--yes"),
    ("actor.facility", "--as"),
    ("actor.name", "--as"),
    ("addressees", "--to"),
    ("author_ms", "--authored-at"),
    ("author_user", "--author"),
    ("confirmer_ms", "--confirmed-at"),
    ("confirmer_user", "--confirmer"),
    ("document_id", "--document-id"),
    ("enterer_ms", "--entered-at"),
    ("enterer_user", "--enterer"),
    ("evidence", "--evidence"),
    ("institution_code", "--institution-code"),
    ("media_type", "--media-type"),
    ("note", "--note"),
    ("part", "--part"),
    ("part media_type", "--media-type"),
    ("part name", "--part"),
    ("parts", "--part"),
    ("parts.media_type", "--media-type"),
    ("parts.name", "--part"),
    ("proxy", "--proxy"),
    ("proxy_relation", "--relation"),
    ("range", "--range"),
    ("range_start", "--range"),
    ("reason", "--reason"),
    ("related_record_id", "--replaces, --appends-to or --transforms"),
    ("since", "--since"),
    ("signature", "--signature"),
    ("signature_result", "--signature-result"),
    ("signed_day", "--signed-on"),
    ("timestamp_token", "--timestamp"),
    ("caps_factor", "--caps-factor"),
    ("facilities", "--facility or --add-facility"),
    ("facility_kinds", "--kind"),
    ("professions", "--profession"),
    ("until_ms", "--hours"),
    ("id", "ID"),
    ("local_id", "LOCAL_ID"),
    ("facility", "FACILITY"),
    ("new", "NEW"),
    ("participant", "NUMBER"),
    ("record_id", "RECORD"),
    ("record_ids", "RECORD"),
    ("serial", "SERIAL"),
];

/// A message about a field, which it begins with, under the name of the option that gives it.
pub fn named(field: Option<&str>, message: String) -> String {
    let option = OPTIONS.iter().find(|(known, _)| Some(*known) == field);
    match option.and_then(|(field, option)| Some((option, message.strip_prefix(field)?))) {
        Some((option, rest)) if rest.starts_with([':', ' ']) => {
            format!("{option}: {}", rest.trim_start_matches([':', ' ']))
        }
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_something() {
        assert_eq!(text("paper 1"), Ok("paper 1".into()));
        for blank in ["", " ", "\t\n", "\u{3000}", "\u{200b}"] {
            assert!(text(blank).is_err(), "{blank:?}");
        }
    }

    #[test]
    fn a_clusters_name_is_seen_and_short() {
        assert_eq!(cluster("くまもと"), Ok("くまもと".into()));
        for wrong in ["", " ", "a\nb", &"x".repeat(65)] {
            assert!(cluster(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_day_can_be_asked_for_from_1970_on_and_one_so_far_is_not_to_come() {
        assert_eq!(day("1970-01-02"), Ok(Date::from_days(1)));
        for wrong in ["", "1970-01-01", "1969-12-31", "0001-01-01", "2026-02-30", "yesterday"] {
            assert!(day(wrong).is_err() && day_so_far(wrong).is_err(), "{wrong:?}");
        }
        assert!(day("1960-05-01").unwrap_err().contains("1970-01-02"));
        let (today, tomorrow) = (Date::today(), Date::from_days(Date::today().days() + 1));
        assert_eq!(day_so_far(&today.to_string()), Ok(today));
        assert_eq!(day(&tomorrow.to_string()), Ok(tomorrow));
        assert!(day_so_far(&tomorrow.to_string()).unwrap_err().contains(&today.to_string()));
        assert!(in_order(Some(today), Some(today)).is_ok() && in_order(Some(tomorrow), None).is_ok());
        assert!(in_order(Some(tomorrow), Some(today)).is_err());
    }

    #[test]
    fn a_new_facility_can_be_acted_for() {
        assert_eq!(new_facility("F-みなと"), Ok("F-みなと".into()));
        for wrong in ["", " ", "F/1", &"x".repeat(1000)] {
            assert!(new_facility(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card");
        let made = rcgen::generate_simple_self_signed(vec!["card".into()]).unwrap();
        for (content, is_one) in [
            (made.cert.pem().into_bytes(), true),
            (made.cert.der().to_vec(), true),
            (made.signing_key.serialize_pem().into_bytes(), false),
            ([&made.cert.der()[..], b"x"].concat(), false),
            (b"a photograph".to_vec(), false),
            (Vec::new(), false),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(certificate("--credential", &path).is_ok(), is_one);
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for right in ["127.0.0.1:7101", "voter-1.example:1", "[::1]:65535"] {
            assert_eq!(address(right), Ok(right.into()));
        }
        for wrong in ["", "nonsense", "127.0.0.1", "127.0.0.1:0", ":7101", "a b:1", "h:65536", "h:"] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_field_is_told_by_its_option() {
        for (field, message, told) in [
            (Some("media_type"), "media_type: is no type/subtype", "--media-type: is no type/subtype"),
            (Some("range"), "range is empty", "--range: is empty"),
            (Some("media_type"), "told so", "told so"),
            (Some("part"), "parts: 2 are given", "parts: 2 are given"),
            (Some("of_a_later_version"), "of_a_later_version: is 5", "of_a_later_version: is 5"),
            (None, "reason: is blank", "reason: is blank"),
        ] {
            assert_eq!(named(field, message.into()), told);
        }
    }
}
