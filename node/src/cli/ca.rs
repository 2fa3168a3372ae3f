//! `kura ca …`: the cluster's own certificate authority. Works offline, on files alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;

use super::exit::{Exit, Failure, chain, not_made};
use super::given;
use super::output::{Output, hexadecimal, moment, note};
use super::request::{self, ClientRequestArguments};
use crate::certificates::{Approval, Authority, AuthorityError, AuthorityFiles, Identity, Role};

/// The CA's certificate in its folder: also the bundle that nodes and clients need.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// The CA's private key in its folder.
pub const KEY_FILE: &str = "ca.key";

/// `kura ca …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a CA: DIR/ca.pem, for every node and client, and DIR/ca.key, which stays here.
    Create(CreateArguments),
    /// Make a private key and a request for it, for an application or a person, on their machine.
    Request(ClientRequestArguments),
    /// Show what a request states, and the fingerprint to compare by telephone.
    Inspect {
        /// The request.
        request: PathBuf,
    },
    /// Sign a request.
    Sign(SignArguments),
    /// Revoke certificates: adds them to a revocation list, or begins one with --new-list.
    Revoke(RevokeArguments),
}

/// Options of `kura ca create`.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// The folder; created if it is not there.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// The cluster's name; it goes into every certificate.
    #[arg(long, value_parser = given::cluster)]
    cluster: Option<String>,
    /// Validity in days.
    #[arg(long, default_value_t = 3650, value_parser = given::valid_days())]
    days: u32,
}

/// Options of `kura ca sign`.
#[derive(Debug, Args)]
pub struct SignArguments {
    /// The request.
    request: PathBuf,
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// What its holder is: application, registrar, auditor, operator, recovery, voter or backup.
    #[arg(long)]
    role: Role,
    /// Its holder's name.
    #[arg(long, value_parser = given::name)]
    name: String,
    /// A further DNS name or IP address of a node.
    #[arg(long, value_name = "NAME")]
    also: Vec<String>,
    /// Accept every name that a node's request asks for.
    #[arg(long)]
    accept_names: bool,
    /// Validity in days.
    #[arg(long, default_value_t = 397, value_parser = given::valid_days())]
    days: u32,
    /// Where the certificate goes; an existing file is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Options of `kura ca revoke`.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// A certificate to revoke.
    #[arg(long, value_name = "FILE", required_unless_present = "serial")]
    certificate: Vec<PathBuf>,
    /// The serial number of a certificate to revoke, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    /// The revocation list; copy it to every node and client that names it.
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Begin the list: without this, it has to be there.
    #[arg(long)]
    new_list: bool,
    /// Days until the list should be renewed.
    #[arg(long, default_value_t = 90, value_parser = given::valid_days())]
    days: u32,
}

/// A certificate, as it is told after signing.
#[derive(Debug, Serialize)]
struct Signed {
    role: &'static str,
    name: String,
    cluster: Option<String>,
    serial: String,
    certificate_sha256: String,
    key_sha256: String,
    not_after_ms: u64,
    file: PathBuf,
}

/// The files of a CA's folder.
pub fn files(directory: &Path) -> AuthorityFiles {
    AuthorityFiles { certificate: directory.join(CERTIFICATE_FILE), private_key: directory.join(KEY_FILE) }
}

/// Runs it.
pub fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(&arguments, output),
        Command::Request(arguments) => request::run_client(&arguments, output),
        Command::Inspect { request } => request::inspect(&request, output),
        Command::Sign(arguments) => sign(&arguments, output),
        Command::Revoke(arguments) => revoke(&arguments, output),
    }
}

/// What a CA refuses: files that cannot be read or made, and what does not fit, are the caller's to mend.
fn refused(error: &AuthorityError) -> Failure {
    let words = chain(error);
    match error {
        AuthorityError::Sign(_) | AuthorityError::Random(_) => Failure::failed(words),
        AuthorityError::SubjectDiffers { attribute: "cluster", .. } => Failure::usage(words)
            .next("have its holder make a request for this cluster (`kura node request --cluster`), or sign it with that cluster's CA"),
        AuthorityError::SubjectDiffers { attribute, .. } => Failure::usage(words).next(format!(
            "if the request is the right one, sign it for what it states (--{attribute}); else ask its holder for another"
        )),
        AuthorityError::NameNotApproved { name, .. } => Failure::usage(words)
            .next(format!("if the node has that name, approve it with --also {name}, or all that it asks for with --accept-names")),
        error => match not_made(error) {
            Failure { exit: Exit::Failed, message, next } => Failure { exit: Exit::Usage, message, next },
            failure => failure,
        },
    }
}

fn open(directory: &Path) -> Result<Authority, Failure> {
    Authority::open(&files(directory)).map_err(|error| {
        Failure::usage(chain(&error)).of("--directory").next("name the folder that `kura ca create` made")
    })
}

fn create(arguments: &CreateArguments, output: Output) -> Result<(), Failure> {
    let CreateArguments { directory, cluster, days } = arguments;
    super::files::folder("--directory", directory)?;
    let files = files(directory);
    if files.certificate.exists() && files.private_key.exists() {
        let what = format!("there is a CA in {} already; nothing was changed", directory.display());
        return Err(Failure::new(Exit::Conflict, what)
            .next("sign with that one (`kura ca sign`), or name another folder for another CA"));
    }
    let authority = Authority::create(&files, cluster.as_deref(), *days, OffsetDateTime::now_utc())
        .map_err(|error| refused(&error).of("--directory"))?;
    let not_after_ms = u64::try_from(authority.not_after()).unwrap_or(0) * 1000;
    let told = serde_json::json!({
        "certificate": files.certificate, "private_key": files.private_key, "not_after_ms": not_after_ms,
    });
    output.thing(
        &told,
        &[
            ("certificate", format!("{} (give it to every node and client)", files.certificate.display())),
            ("private key", format!("{} (keep it here, offline if you can)", files.private_key.display())),
            ("valid until", moment(not_after_ms)),
        ],
    )
}

/// Certificates that this CA has signed, by role and name: the SHA-256 of the last one's key, in hexadecimal.
const SIGNED_FILE: &str = "signed.json";

/// Notes the key of a certificate just signed. Answers the key that was signed for the same holder before, if it
/// is another. The notes only serve this warning: a file that is lost or unreadable begins anew.
fn note_key(directory: &Path, holder: &str, key_sha256: &str) -> std::io::Result<Option<String>> {
    let path = directory.join(SIGNED_FILE);
    let mut known: BTreeMap<String, String> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let before = known.insert(holder.to_owned(), key_sha256.to_owned()).filter(|before| before != key_sha256);
    let fresh = directory.join(format!("{SIGNED_FILE}.new"));
    std::fs::write(&fresh, serde_json::to_vec_pretty(&known)?)?;
    std::fs::rename(&fresh, &path)?;
    Ok(before)
}

/// What follows from a certificate with another key than the last one of the same holder.
fn another_key(role: Role, name: &str, before: &str) -> String {
    let follows = match role.is_node() {
        true => format!(
            "the other members know {name} by its former key and refuse this one until it is approved: `kura member \
             approve REQUEST --renew-key`, then `kura member renew-key {name}`, then put key and certificate in place \
             (docs/operations.md, \"Certificates\"). To renew the certificate alone, sign the request of the key in use"
        ),
        false => {
            "the former certificate goes on working until it expires: revoke it if its key is lost or was seen by \
                  others (`kura ca revoke`)"
                .into()
        }
    };
    format!("warning: the certificate signed for {role} {name} before has another key ({before})\n  next: {follows}")
}

fn sign(arguments: &SignArguments, output: Output) -> Result<(), Failure> {
    let authority = open(&arguments.directory)?;
    let approval = Approval {
        role: arguments.role,
        name: arguments.name.clone(),
        alternative_names: arguments.also.clone(),
        accept_requested_names: arguments.accept_names,
        valid_days: arguments.days,
    };
    let issued =
        authority.issue(&arguments.request, &approval, OffsetDateTime::now_utc()).map_err(|error| refused(&error))?;
    issued.create_file(&arguments.out).map_err(|error| not_made(&error).of("--out"))?;
    let Identity { role, name, cluster, fingerprint, key_sha256, not_after, serial } = issued.identity;
    let signed = Signed {
        role: role.word(),
        name,
        cluster,
        serial: serial.to_string(),
        certificate_sha256: hexadecimal(&fingerprint),
        key_sha256: hexadecimal(&key_sha256),
        not_after_ms: u64::try_from(not_after).unwrap_or(0) * 1000,
        file: arguments.out.clone(),
    };
    let holder = format!("{} {}", signed.role, signed.name);
    match note_key(&arguments.directory, &holder, &signed.key_sha256) {
        Ok(Some(before)) => note(&another_key(arguments.role, &signed.name, &before)),
        Ok(None) => {}
        Err(error) => note(&format!(
            "warning: {} cannot be written ({error}): another key for the same name will not be noticed",
            arguments.directory.join(SIGNED_FILE).display()
        )),
    }
    output.thing(
        &signed,
        &[
            ("role", signed.role.to_owned()),
            ("name", signed.name.clone()),
            ("serial", signed.serial.clone()),
            ("sha256", signed.certificate_sha256.clone()),
            ("key sha256", signed.key_sha256.clone()),
            ("valid until", moment(signed.not_after_ms)),
            ("file", signed.file.display().to_string()),
        ],
    )
}

fn revoke(arguments: &RevokeArguments, output: Output) -> Result<(), Failure> {
    let authority = open(&arguments.directory)?;
    check_list(&arguments.list, arguments.new_list)?;
    let mut numbers = Vec::new();
    for path in &arguments.certificate {
        let der = given::certificate("--certificate", path)?;
        let wrong = |error| Failure::usage(format!("{}: {error}", path.display())).of("--certificate");
        let identity = Identity::from_der(&der).map_err(wrong)?;
        numbers.push(identity.serial.number);
    }
    for text in &arguments.serial {
        numbers.push(serial(text)?);
    }
    let revoked = authority
        .update_revocation_list(&arguments.list, &numbers, arguments.days, OffsetDateTime::now_utc())
        .map_err(|error| refused(&error).of("--list"))?;
    let told = serde_json::json!({ "list": arguments.list, "revoked": revoked });
    let list = arguments.list.display().to_string();
    output.thing(&told, &[("list", list), ("certificates in it", revoked.to_string())])
}

/// A list that was mistyped would be a new one, that no node looks at: beginning one is said.
fn check_list(list: &Path, is_new: bool) -> Result<(), Failure> {
    let shown = list.display();
    match (list.exists(), is_new) {
        (false, false) => Err(Failure::usage(format!("--list: {shown} is not there; nothing was revoked"))
            .next("name the list that the nodes and clients have; the first list of a CA is begun with --new-list")),
        (true, true) => {
            Err(Failure::new(Exit::Conflict, format!("--new-list: {shown} is there already; nothing was revoked"))
                .next("leave out --new-list to add to it, or name another file to begin another list"))
        }
        _ => Ok(()),
    }
}

fn serial(text: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::usage("--serial: a serial number has 1 to 20 bytes, in hexadecimal");
    if text.is_empty() || text.len() > 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let even = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("0{text}") };
    (0..even.len()).step_by(2).map(|at| u8::from_str_radix(&even[at..at + 2], 16).map_err(|_| wrong())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read() {
        assert_eq!(serial("ab01").unwrap(), [0xab, 1]);
        assert_eq!(serial("b01").unwrap(), [0x0b, 1]);
        for wrong in ["", "0x1", "ä1", &"f".repeat(41)] {
            assert!(serial(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn another_key_for_the_same_holder_is_noticed_and_what_follows_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let note = |holder, key| note_key(folder.path(), holder, key).unwrap();
        assert_eq!(note("voter voter-1", "aa"), None);
        assert_eq!(note("voter voter-1", "aa"), None, "a renewal");
        assert_eq!(note("backup voter-1", "bb"), None, "another role");
        assert_eq!(note("voter voter-1", "cc"), Some("aa".into()));
        assert_eq!(note("voter voter-1", "cc"), None);
        let words = another_key(Role::Voter, "voter-1", "aa");
        assert!(words.contains("--renew-key") && words.contains("next: "), "{words}");
        assert!(another_key(Role::Operator, "abe", "aa").contains("kura ca revoke"));
        std::fs::write(folder.path().join(SIGNED_FILE), "damaged").unwrap();
        assert_eq!(note("voter voter-1", "dd"), None, "notes that are lost begin anew");
    }
}
