//! The first start: from nothing to a cluster, as docs/operations.md walks it.

use std::fs;
use std::io;
use std::time::Duration;

use futures_util::future::try_join_all;
use kura_client::operations::MemberRole;
use kura_client::{Client, Config};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::layout::{ARCHIVES, CONFIG, ClientFile};
use super::plan::Member;
use super::process::{self, Process};
use super::{DevError, certificates};
use crate::cli::Candidate;

/// How long each step may take.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Free space at which a developer's node refuses writes, in MiB: low, since the machine is not its own.
const LOW_MIB: u64 = 256;
/// Its reserve, in MiB.
const RESERVE_MIB: u64 = 64;

/// A node's configuration. Paths are relative to the node's folder, so that the directory can move.
#[derive(Debug, Serialize)]
struct NodeFile<'a> {
    name: &'a str,
    data: &'a str,
    listen: String,
    advertise: String,
    metrics_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_key: Option<&'a str>,
    peers: Vec<Peer<'a>>,
    tls: Tls<'a>,
    space: Space,
    log: Log<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
}

#[derive(Debug, Serialize)]
struct Archive {
    place: String,
}

#[derive(Debug, Serialize)]
struct Peer<'a> {
    name: &'a str,
    address: String,
}

#[derive(Debug, Serialize)]
struct Tls<'a> {
    certificate: &'a str,
    private_key: &'a str,
    authorities: &'a str,
}

#[derive(Debug, Serialize)]
struct Space {
    low_mib: u64,
    reserve_mib: u64,
}

#[derive(Debug, Serialize)]
struct Log<'a> {
    format: &'a str,
    level: &'a str,
}

/// Makes the cluster and leaves its nodes running.
pub(super) async fn run(cluster: &mut Cluster, say: &(dyn Fn(&str) + Sync)) -> Result<(), DevError> {
    clear(cluster)?;
    say("making certificates");
    let (layout, plan) = (cluster.layout().clone(), cluster.plan().clone());
    let authority = certificates::create_authority(&layout, &plan)?;
    for member in &plan.members {
        certificates::create_node(&layout, &plan, &authority, member)?;
        let path = layout.node_config(&member.name);
        fs::write(&path, node_file(cluster, member)?).map_err(DevError::file(path))?;
        if member.backup {
            let path = layout.archive(&member.name);
            fs::create_dir_all(&path).map_err(DevError::file(path))?;
        }
    }
    certificates::create_clients(&layout, &plan, &authority)?;

    let Some((first, others)) = plan.members.split_first() else { return Ok(()) };
    say(&format!("{}: a new cluster", first.name));
    process::run(cluster.executable(), &layout, &first.name, "init", &["--cluster", &plan.cluster]).await?;
    certificates::trust_recovery(&layout, first)?;
    serve(cluster, first)?;
    wait_for_leader(cluster, first).await?;

    let operator = only(cluster, ClientFile::Operator, first).await?;
    let registrar = only(cluster, ClientFile::Registrar1, first).await?;
    for member in others {
        say(&format!("{}: approved", member.name));
        approve(cluster, &operator, member).await?;
        if !member.backup {
            approve(cluster, &registrar, member).await?;
        }
    }
    say("the others join");
    let joins = others.iter().map(|member| process::run(cluster.executable(), &layout, &member.name, "join", &[]));
    try_join_all(joins).await?;
    for member in others {
        serve(cluster, member)?;
    }
    for member in others {
        say(&format!("{}: catching up", member.name));
        wait_for_port(cluster, member).await?;
        let role = member_role(member);
        let added = crate::cli::add_quietly(&operator.operations(), &member.name, role).await;
        added.map_err(|error| DevError::refused(format!("adding {}", member.name), &error))?;
    }
    Ok(())
}

/// Makes one more member, approved, up to where it can join. A backup is not told to write an archive.
pub(super) async fn prepare(cluster: &mut Cluster, member: &Member) -> Result<(), DevError> {
    let (layout, plan) = (cluster.layout().clone(), cluster.plan().clone());
    let authority = certificates::open_authority(&layout)?;
    certificates::create_node(&layout, &plan, &authority, member)?;
    let path = layout.node_config(&member.name);
    let text = node_file(cluster, member)?;
    let text = text.split_once("[archive]").map_or(&text[..], |(before, _)| before);
    fs::write(&path, text).map_err(DevError::file(path))?;
    let approvers = [ClientFile::Operator, ClientFile::Registrar1];
    for file in approvers.into_iter().take(if member.backup { 1 } else { 2 }) {
        let client = cluster.client(file).await?;
        approve(cluster, &client, member).await?;
    }
    Ok(())
}

/// Lets a prepared voter join, and starts it.
pub(super) async fn enlist(cluster: &mut Cluster, member: &Member) -> Result<(), DevError> {
    let layout = cluster.layout().clone();
    process::run(cluster.executable(), &layout, &member.name, "join", &[]).await?;
    serve(cluster, member)?;
    wait_for_port(cluster, member).await
}

/// What a first start that was cut off left behind.
fn clear(cluster: &Cluster) -> Result<(), DevError> {
    let layout = cluster.layout();
    for folder in [layout.authority(), layout.nodes(), layout.clients(), layout.archives(), layout.shares()] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(DevError::file(folder)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn node_file(cluster: &Cluster, member: &Member) -> Result<String, DevError> {
    let others = cluster.plan().voters().filter(|voter| voter.name != member.name);
    let file = NodeFile {
        name: &member.name,
        data: "data",
        listen: member.address(),
        advertise: member.address(),
        metrics_listen: member.metrics_address(),
        root_key: (!member.backup).then_some("root.key"),
        peers: others.map(|voter| Peer { name: &voter.name, address: voter.address() }).collect(),
        tls: Tls {
            certificate: certificates::CERTIFICATE,
            private_key: certificates::KEY,
            authorities: "../../ca/ca.pem",
        },
        space: Space { low_mib: LOW_MIB, reserve_mib: RESERVE_MIB },
        log: Log { format: "text", level: "info,openraft=error" },
        archive: member.backup.then(|| Archive { place: format!("../../{ARCHIVES}/{}", member.name) }),
    };
    let path = cluster.layout().node(&member.name).join(CONFIG);
    toml::to_string(&file).map_err(|error| DevError::Plan { path, message: error.to_string() })
}

fn serve(cluster: &mut Cluster, member: &Member) -> Result<(), DevError> {
    let process = Process::serve(cluster.executable(), cluster.layout(), &member.name)?;
    cluster.put(&member.name, process);
    Ok(())
}

/// A client that talks to one voter only.
async fn only(cluster: &Cluster, file: ClientFile, member: &Member) -> Result<Client, DevError> {
    let config = cluster.client_config_at(file, &member.name)?;
    connect(config).await
}

pub(super) async fn connect(config: Config) -> Result<Client, DevError> {
    Client::connect(config).await.map_err(|error| DevError::refused("connecting", &error))
}

async fn wait_for_leader(cluster: &mut Cluster, member: &Member) -> Result<(), DevError> {
    wait_for_port(cluster, member).await?;
    let operator = only(cluster, ClientFile::Operator, member).await?;
    let end = Instant::now() + STEP_LIMIT;
    loop {
        let last = match operator.operations().status_of(&member.name).await {
            Ok(reply) if reply.leader_id != 0 => return Ok(()),
            Ok(_) => "no leader yet".to_owned(),
            Err(error) => error.to_string(),
        };
        cluster.check()?;
        pause(end, &format!("a leader at {}", member.name), &last).await?;
    }
}

/// Waits until a node takes connections, or has ended.
pub(super) async fn wait_for_port(cluster: &mut Cluster, member: &Member) -> Result<(), DevError> {
    let end = Instant::now() + STEP_LIMIT;
    loop {
        let last = match TcpStream::connect(member.address()).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        cluster.check()?;
        pause(end, &format!("{} listening", member.name), &last).await?;
    }
}

pub(super) async fn pause(end: Instant, what: &str, last: &str) -> Result<(), DevError> {
    if Instant::now() >= end {
        let (what, last) = (what.to_owned(), last.to_owned());
        return Err(DevError::Late { what, seconds: STEP_LIMIT.as_secs(), last });
    }
    tokio::time::sleep(LOOK).await;
    Ok(())
}

fn member_role(member: &Member) -> MemberRole {
    if member.backup { MemberRole::Backup } else { MemberRole::Voter }
}

async fn approve(cluster: &Cluster, client: &Client, member: &Member) -> Result<(), DevError> {
    let request = cluster.layout().node(&member.name).join(certificates::REQUEST);
    let candidate = Candidate::read(&request).map_err(|failure| DevError::Certificates(failure.message))?;
    let (role, key) = (member_role(member), candidate.key_sha256);
    let approved = client.operations().approve_member(&member.name, role, key, &member.address(), false).await;
    approved.map(drop).map_err(|error| DevError::refused(format!("approving {}", member.name), &error))
}
