//! What is given on the command line: texts that say something, and the options by which people know the fields of
//! requests.
//!
//! Invariant: what is empty or blank is refused here, with the option's name, before any cluster is asked. Whether a
//! text may be left out is not this module's: where it may not, the cluster refuses, and journals that it did.

use kura_cluster::id::is_blank;

use crate::certificates::check_cluster;

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
    ("signature", "--signature"),
    ("signature_result", "--signature-result"),
    ("signed_day", "--signed-on"),
    ("timestamp_token", "--timestamp"),
    ("until_ms", "--hours"),
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
