//! `kura ca …`: the cluster's own certificate authority. Works offline, on files alone.

mod signed;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kura_cluster::{from_hexadecimal, hexadecimal};
use serde::Serialize;
use time::OffsetDateTime;

use super::exit::{Exit, Failure, chain, not_made};
use super::given;
use super::output::{Output, moment, note};
use super::request::{self, ClientRequestArguments};
use crate::certificates::{Approval, Authority, AuthorityError, AuthorityFiles, Identity, Role};
use crate::clock::now_ms;

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
    /// Show what a request states, and the fingerprint to compare by telephone; or whose a certificate is, its serial
    /// number and how long it is valid.
    Inspect {
        /// The request, or the certificate.
        file: PathBuf,
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
    #[arg(long, value_name = "FILE", required_unless_present_any = ["serial", "name"])]
    certificate: Vec<PathBuf>,
    /// The serial number of a certificate to revoke, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    /// Every certificate that this CA has signed for this holder and that has not expired, as the CA's folder has them
    /// noted: for a machine whose files are gone.
    #[arg(long, value_name = "NAME", value_parser = given::name)]
    name: Option<String>,
    /// The role of the holder, where several roles have the name.
    #[arg(long, requires = "name")]
    role: Option<Role>,
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

/// A certificate as it is told.
#[derive(Debug, Serialize)]
struct Told {
    role: &'static str,
    name: String,
    cluster: Option<String>,
    serial: String,
    certificate_sha256: String,
    key_sha256: String,
    not_after_ms: u64,
    file: PathBuf,
}

impl Told {
    fn new(identity: Identity, file: &Path) -> Self {
        let Identity { role, name, cluster, fingerprint, key_sha256, not_after, serial } = identity;
        Self {
            role: role.word(),
            name,
            cluster,
            serial: serial.to_string(),
            certificate_sha256: hexadecimal(fingerprint),
            key_sha256: hexadecimal(key_sha256),
            not_after_ms: u64::try_from(not_after).unwrap_or(0) * 1000,
            file: file.to_owned(),
        }
    }

    fn print(&self, output: Output) -> Result<(), Failure> {
        let expired = if self.not_after_ms <= now_ms() { ": it has EXPIRED" } else { "" };
        output.thing(
            self,
            &[
                ("role", self.role.to_owned()),
                ("name", self.name.clone()),
                ("serial", self.serial.clone()),
                ("sha256", self.certificate_sha256.clone()),
                ("key sha256", self.key_sha256.clone()),
                ("valid until", format!("{}{expired}", moment(self.not_after_ms))),
                ("file", self.file.display().to_string()),
            ],
        )
    }
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
        Command::Inspect { file } => inspect(&file, output),
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

/// Shows a request, or a certificate.
fn inspect(file: &Path, output: Output) -> Result<(), Failure> {
    let bytes = super::files::read("FILE", file)?;
    let Some(der) = given::read_certificate(&bytes) else { return request::inspect(file, output) };
    let identity = Identity::from_der(&der).map_err(|error| {
        Failure::usage(format!(
            "{}: a certificate, but none of a member, an application or a person: {error}",
            file.display()
        ))
        .next("name a certificate that `kura ca sign` or another CA of the cluster has signed")
    })?;
    Told::new(identity, file).print(output)
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
    let told = Told::new(issued.identity, &arguments.out);
    let certificate = signed::Certificate {
        serial: told.serial.clone(),
        key_sha256: told.key_sha256.clone(),
        not_after_ms: told.not_after_ms,
    };
    match signed::note(&arguments.directory, arguments.role, &told.name, certificate, now_ms()) {
        Ok(noted) => {
            if let Some(before) = noted.other_key {
                note(&another_key(arguments.role, &told.name, &before));
            }
            if let Some(aside) = noted.put_aside {
                note(&format!(
                    "warning: the CA's notes of what it signed cannot be read and are put aside in {}: `kura ca revoke --name` \
                     finds what is signed from now on",
                    aside.display()
                ));
            }
        }
        Err(error) => note(&format!(
            "warning: {} cannot be written ({error}): another key for the same name will not be noticed, and `kura ca revoke \
             --name` will not find this certificate: keep its serial number",
            arguments.directory.join(signed::FILE).display()
        )),
    }
    told.print(output)
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
    if let Some(name) = &arguments.name {
        for certificate in signed::certificates(&arguments.directory, arguments.role, name, now_ms())? {
            numbers.push(serial(&certificate.serial)?);
        }
    }
    let revoked = authority
        .update_revocation_list(&arguments.list, &numbers, arguments.days, OffsetDateTime::now_utc())
        .map_err(|error| refused(&error).of("--list"))?;
    let serials: Vec<String> = numbers.iter().map(hexadecimal).collect();
    let told = serde_json::json!({ "list": arguments.list, "revoked": revoked, "serials": serials });
    let list = arguments.list.display().to_string();
    output.thing(&told, &[("list", list), ("serial", serials.join(", ")), ("certificates in it", revoked.to_string())])
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
    let bytes: [u8; 20] = from_hexadecimal(&format!("{text:0>40}")).filter(|_| !text.is_empty()).ok_or_else(wrong)?;
    Ok(bytes[bytes.len() - text.len().div_ceil(2)..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read() {
        assert_eq!(serial("ab01").unwrap(), [0xab, 1]);
        assert_eq!(serial("b01").unwrap(), [0x0b, 1]);
        assert_eq!(serial("000B01").unwrap(), [0, 0x0b, 1]);
        assert_eq!(serial(&"f".repeat(40)).unwrap(), [0xff; 20]);
        for wrong in ["", "0x1", "ä1", &"f".repeat(41)] {
            assert!(serial(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_follows_from_another_key_is_said() {
        let words = another_key(Role::Voter, "voter-1", "aa");
        assert!(words.contains("--renew-key") && words.contains("next: "), "{words}");
        assert!(another_key(Role::Operator, "abe", "aa").contains("kura ca revoke"));
    }
}
