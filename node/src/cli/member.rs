//! `kura member …`: who belongs to the cluster.

mod scrub;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use kura_client::operations::{MemberRole, Operations};
use kura_client::{Listing, OperationError, wire};
use kura_cluster::hexadecimal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

use super::acting::ClientOption;
use super::exit::{Exit, Failure, chain};
use super::given;
use super::output::{Output, Progress, note};
use super::status;
use crate::certificates::{Identity, Role, summarize_request};

/// The step at which someone has to act on the member's machine.
const NEW_KEY_AWAITED: &str = "waiting for the new key";

/// How long a removed member may take to learn of it.
const LEARNS: Duration = Duration::from_secs(5);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(200);

/// `kura member …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Approve a member to join: a voter takes an operator and a registrar, a backup an operator.
    Approve(ApproveArguments),
    /// The members.
    List(ClientOption),
    /// Add an approved voter that has joined and runs; shows how it catches up.
    AddVoter(NameArguments),
    /// Add an approved backup member that has joined and runs; shows how it catches up.
    AddBackup(NameArguments),
    /// Remove a member.
    Remove(RemoveArguments),
    /// Move a member to the new key that was approved with `approve --renew-key`; waits until it shows it.
    RenewKey(NameArguments),
    /// Replace a member by another in one membership change; shows how the new one catches up.
    Replace(ReplaceArguments),
    /// Have a member check its own files now, and wait for what it finds. One that finds damage stops.
    Scrub(ScrubArguments),
    /// Hand leadership to another voter.
    HandOver(HandOverArguments),
}

/// Options of `kura member approve`.
#[derive(Debug, Args)]
pub struct ApproveArguments {
    /// The member's certificate or its request (PEM): its name, role and key.
    file: PathBuf,
    /// Where peers and clients reach it, host:port.
    #[arg(long, required_unless_present = "renew_key", value_parser = given::address)]
    address: Option<String>,
    /// Approve the file's key as the next key of a member that there is already.
    #[arg(long, conflicts_with = "address")]
    renew_key: bool,
    /// The fingerprint of its public key, as told by telephone; compared with the file's.
    #[arg(long, value_name = "HEX", value_parser = given::sha256)]
    key_sha256: Option<[u8; 32]>,
    /// The key was approved at another address, which is wrong: end that approval and begin anew.
    #[arg(long, conflicts_with = "renew_key")]
    anew: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// A member by name.
#[derive(Debug, Args)]
pub struct NameArguments {
    /// The member's name.
    name: String,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura member remove`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The member's name.
    name: String,
    /// Also if fewer than three voters, or no backup, remain by it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura member replace`.
#[derive(Debug, Args)]
pub struct ReplaceArguments {
    /// The member that goes.
    old: String,
    /// The member that comes: approved, joined and running.
    new: String,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura member scrub`.
#[derive(Debug, Args)]
pub struct ScrubArguments {
    /// The member: one of the cluster, or NAME=HOST:PORT.
    name: String,
    /// Only have it begin.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura member hand-over`.
#[derive(Debug, Args)]
pub struct HandOverArguments {
    /// The voter that is to lead; without it the most advanced.
    name: Option<String>,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Approve(arguments) => approve(arguments, output).await,
        Command::List(client) => {
            let reply = client.connect().await?.operations().status().await?;
            status::print_members(&reply, output)
        }
        Command::AddVoter(arguments) => add(arguments, MemberRole::Voter, output).await,
        Command::AddBackup(arguments) => add(arguments, MemberRole::Backup, output).await,
        Command::Remove(arguments) => remove(&arguments, output).await,
        Command::RenewKey(arguments) => {
            let operations = arguments.client.connect().await?.operations();
            follow(operations.renew_key(&arguments.name).await?, &arguments.name).await?;
            note(&format!("{} has its new key; the old one is nobody's any more", arguments.name));
            status::print_members(&operations.status().await?, output)
        }
        Command::Replace(arguments) => {
            let operations = arguments.client.connect().await?.operations();
            follow(operations.replace_member(&arguments.old, &arguments.new).await?, &arguments.new).await?;
            status::print_members(&operations.status().await?, output)
        }
        Command::Scrub(arguments) => scrub::run(&arguments.client, &arguments.name, !arguments.no_wait, output).await,
        Command::HandOver(arguments) => {
            let operations = arguments.client.connect().await?.operations();
            let leader = operations.transfer_leader(arguments.name.as_deref()).await?;
            output.thing(&serde_json::json!({ "leader": leader }), &[("leader", leader.clone())])
        }
    }
}

async fn remove(arguments: &RemoveArguments, output: Output) -> Result<(), Failure> {
    let RemoveArguments { name, yes, client } = arguments;
    let operations = client.connect().await?.operations();
    operations.remove_member(name, *yes).await.map_err(|error| match &error {
        OperationError::Invalid(invalid) if invalid.field() == Some("accept_fewer") => {
            Failure::from(error).next(format!("if that is meant: kura member remove {name} --yes"))
        }
        _ => error.into(),
    })?;
    note(&format!("{name} is no longer a member; its directory can be deleted"));
    let reply = without(&operations, name).await?;
    status::print_members(&reply, output)?;
    status::print_warnings(&reply);
    Ok(())
}

/// The status without a member that was removed: that one answers as well, and learns of it within a second or two.
async fn without(operations: &Operations, name: &str) -> Result<wire::StatusReply, Failure> {
    let end = Instant::now() + LEARNS;
    loop {
        let reply = operations.status().await?;
        if Instant::now() >= end || !reply.members.iter().any(|member| member.name == name) {
            return Ok(reply);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Debug, Serialize)]
struct Approved {
    name: String,
    role: &'static str,
    key_sha256: String,
    raft_id: u64,
    operator_approved: bool,
    registrar_approved: bool,
    complete: bool,
    /// What was approved under this name and is not any more.
    replaced: Option<String>,
}

async fn approve(arguments: ApproveArguments, output: Output) -> Result<(), Failure> {
    let candidate = Candidate::read(&arguments.file)?;
    let key_sha256 = hexadecimal(candidate.key_sha256);
    if arguments.key_sha256.is_some_and(|told| told != candidate.key_sha256) {
        return Err(Failure::new(Exit::Damaged, "--key-sha256: the key in the file is not the one that was told")
            .next("compare with what `kura node request` printed on the member's machine"));
    }
    let operations = arguments.client.connect().await?.operations();
    let Candidate { name, role, key_sha256: key } = candidate;
    let reply = match &arguments.address {
        Some(address) => operations.approve_member(&name, member_role(role), key, address, arguments.anew).await?,
        None => operations.approve_next_key(&name, member_role(role), key).await?,
    };
    let approved = Approved {
        name,
        role: role.word(),
        key_sha256,
        raft_id: reply.raft_id,
        operator_approved: reply.operator_approved,
        registrar_approved: reply.registrar_approved,
        complete: reply.complete,
        replaced: Some(reply.replaced).filter(|words| !words.is_empty()),
    };
    let next = next_step(&approved, &arguments.file, arguments.address.as_deref());
    let mut fields = vec![
        ("member", approved.name.clone()),
        ("role", approved.role.to_owned()),
        ("key sha256", approved.key_sha256.clone()),
        ("by an operator", yes(approved.operator_approved)),
        ("by a registrar", yes(approved.registrar_approved)),
    ];
    if let Some(replaced) = &approved.replaced {
        fields.push(("no more approved", replaced.clone()));
    }
    fields.push(("next", next));
    output.thing(&approved, &fields)
}

/// The next command, as it is typed. Without an address it is a new key that was approved.
fn next_step(approved: &Approved, file: &Path, address: Option<&str>) -> String {
    let Approved { name, role, operator_approved, complete, .. } = approved;
    if !complete {
        let who = if *operator_approved { "a registrar" } else { "an operator" };
        let how = address.map_or_else(|| "--renew-key".to_owned(), |address| format!("--address {address}"));
        return format!("{who}: kura member approve {} {how}", file.display());
    }
    match address {
        Some(_) => format!(
            "on its machine: kura join --config CONFIG, kura serve --config CONFIG; then an operator: kura member add-{role} {name}"
        ),
        None => format!(
            "an operator: kura member renew-key {name}; meanwhile put the new key and certificate in place on its machine"
        ),
    }
}

fn yes(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

fn member_role(role: Role) -> MemberRole {
    if role == Role::Backup { MemberRole::Backup } else { MemberRole::Voter }
}

/// A member to be: what its request or certificate says.
pub(crate) struct Candidate {
    pub name: String,
    pub role: Role,
    /// SHA-256 of its public key: a renewed certificate of the same key is the same member's.
    pub key_sha256: [u8; 32],
}

impl Candidate {
    /// Reads a certificate (the first one of a chain) or a request.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
        let candidate = match CertificateDer::from_pem_file(path) {
            Ok(der) => {
                let Identity { name, role, key_sha256, .. } =
                    Identity::from_der(&der).map_err(|error| wrong(&error.to_string()))?;
                Self { name, role, key_sha256 }
            }
            Err(_) => {
                let summary = summarize_request(path).map_err(|error| Failure::usage(chain(&error)))?;
                let (Some(name), Some(role)) = (summary.name, summary.role) else {
                    return Err(wrong("the request states no name or role; approve by the signed certificate"));
                };
                Self { name, role, key_sha256: summary.public_key_fingerprint }
            }
        };
        if candidate.role.is_node() { Ok(candidate) } else { Err(wrong("it is not a node's")) }
    }
}

async fn add(arguments: NameArguments, role: MemberRole, output: Output) -> Result<(), Failure> {
    let operations = arguments.client.connect().await?.operations();
    follow(operations.add_member(&arguments.name, role).await?, &arguments.name).await?;
    status::print_members(&operations.status().await?, output)
}

/// Adds a member and waits until it is one.
pub(crate) async fn add_quietly(operations: &Operations, name: &str, role: MemberRole) -> Result<(), OperationError> {
    let mut steps = operations.add_member(name, role).await?;
    while let Some(step) = steps.next().await {
        step?;
    }
    Ok(())
}

async fn follow(mut steps: Listing<wire::MemberProgress, OperationError>, name: &str) -> Result<(), Failure> {
    let progress = Progress::spinner();
    let mut told = false;
    while let Some(step) = steps.next().await {
        let wire::MemberProgress { step, matched_index, target_index, why, .. } = step?;
        if step == NEW_KEY_AWAITED && !told {
            told = true;
            progress.keep(&format!("both keys of {name} count now: put its new key and certificate in place"));
        }
        let mut words = format!("{name}: {step}");
        if target_index > 0 {
            words.push_str(&format!(", entry {matched_index} of {target_index}"));
        }
        if !why.is_empty() {
            words.push_str(&format!(" ({why})"));
        }
        progress.wait_for(&words);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_can_be_typed() {
        let approved = |role, complete| Approved {
            name: "voter-2".into(),
            role,
            key_sha256: String::new(),
            raft_id: 2,
            operator_approved: true,
            registrar_approved: complete,
            complete,
            replaced: None,
        };
        let next =
            |role, complete, address| next_step(&approved(role, complete), Path::new("voter-2/node.csr"), address);
        let address = Some("127.0.0.1:7102");
        assert_eq!(
            next("voter", false, address),
            "a registrar: kura member approve voter-2/node.csr --address 127.0.0.1:7102"
        );
        assert!(next("voter", true, address).ends_with("kura member add-voter voter-2"));
        assert!(next("backup", true, address).ends_with("kura member add-backup voter-2"));
        assert_eq!(next("voter", false, None), "a registrar: kura member approve voter-2/node.csr --renew-key");
        assert!(next("voter", true, None).contains("kura member renew-key voter-2"));
    }
}
