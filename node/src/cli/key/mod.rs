//! `kura key …`: shares of the root key, and rotation of keys.
//!
//! Invariant: shares come from the terminal without echo, or from a pipe; never from an argument, a file or the
//! environment; and they go to a terminal or a pipe, never to a file.

pub(super) mod ask;
mod split;

use std::time::Duration;

use clap::{Args, Subcommand};
use kura_client::keys::Rotation;
use kura_client::{Client, Config, Endpoint, OperationError, wire};
use kura_cluster::share::{Fingerprint, Gathering, Share, ShareSet};
use kura_cluster::{ClusterId, from_hexadecimal, hexadecimal};
use serde::Serialize;

use super::acting::ClientOption;
use super::exit::{Exit, Failure, chain};
use super::output::{Output, moment, note, table};
use crate::certificates::Role;

/// Longest look for the members.
const STATUS_MAX: Duration = Duration::from_secs(10);

/// `kura key …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Split the root key into shares; on a voter's machine, with every holder present (an operator).
    Split(split::Arguments),
    /// Confirm a split by its fingerprint, once every holder has told that they have their share (a registrar).
    Confirm(ConfirmArguments),
    /// Check a share that its holder types; with a client configuration also against the cluster.
    VerifyShare(VerifyArguments),
    /// Submit a share to every sealed voter of the client configuration (recovery staff).
    Submit(ClientOption),
    /// Rotate the epoch keys or the root key: an operator and a registrar ask for the same.
    Rotate(RotateArguments),
    /// Which shares count, what waits for whom, which nodes are sealed.
    Status(ClientOption),
}

/// Options of `kura key confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArguments {
    /// The fingerprint that `kura key split` told: 10 hexadecimal digits.
    fingerprint: String,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura key verify-share`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura key rotate`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["root", "epoch"])))]
pub struct RotateArguments {
    /// The root key.
    #[arg(long)]
    root: bool,
    /// The epoch keys.
    #[arg(long)]
    epoch: bool,
    /// With --root: take the next root key into use before anybody has shares of it.
    #[arg(long, conflicts_with = "epoch")]
    without_shares: bool,
    #[command(flatten)]
    client: ClientOption,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    // Keys and shares must not land in a core file.
    crate::serve::forbid_core_dumps();
    match command {
        Command::Split(arguments) => split::run(arguments, output).await,
        Command::Confirm(arguments) => confirm(arguments, output).await,
        Command::VerifyShare(arguments) => verify(arguments, output).await,
        Command::Submit(client) => submit(client, output).await,
        Command::Rotate(arguments) => rotate(arguments, output).await,
        Command::Status(client) => status(client, output).await,
    }
}

async fn confirm(arguments: ConfirmArguments, output: Output) -> Result<(), Failure> {
    let fingerprint: Fingerprint = from_hexadecimal(&arguments.fingerprint).ok_or_else(|| {
        Failure::usage("a fingerprint has 10 hexadecimal digits")
            .next("`kura key split` told it, and `kura key status` shows it")
    })?;
    let reply = arguments.client.connect().await?.keys().confirm_shares(&fingerprint).await?;
    let restores = if reply.present { "the present root key" } else { "the next root key" };
    let told = serde_json::json!({ "fingerprint": hexadecimal(fingerprint), "present": reply.present });
    let mut fields = vec![("shares", hexadecimal(fingerprint)), ("restore", restores.to_owned())];
    if !reply.present {
        fields.push(("next", "kura key rotate --root".into()));
    }
    output.thing(&told, &fields)
}

/// What a share's holder learns of it.
#[derive(Debug, Serialize)]
struct Checked {
    share: u8,
    threshold: u8,
    set: String,
    /// What the cluster says of it; nothing if it was not asked.
    restores: Option<&'static str>,
}

async fn verify(arguments: VerifyArguments, output: Output) -> Result<(), Failure> {
    let share = ask::share("the words of the share").await?;
    let mut checked =
        Checked { share: share.index, threshold: share.threshold, set: hexadecimal(share.set), restores: None };
    if arguments.client.client.is_some() {
        let status = arguments.client.connect().await?.keys().status().await?;
        checked.restores = Some(known(&status, &share)?);
    }
    output.thing(
        &checked,
        &[
            ("share", format!("{}, {} of its set restore the key", checked.share, checked.threshold)),
            ("set", checked.set.clone()),
            ("restores", checked.restores.unwrap_or("the cluster was not asked (--client)").to_owned()),
        ],
    )
}

/// Holds a share against the sets that the cluster knows: what it restores.
fn known(status: &wire::KeyStatusReply, share: &Share) -> Result<&'static str, Failure> {
    let cluster = ClusterId::from_slice(&status.cluster_id).map_err(Failure::failed)?;
    for set in &status.sets {
        let Some(read) = read(set) else { continue };
        if read.fingerprint(&cluster) != share.set {
            continue;
        }
        Gathering::new(&cluster, read).check(share).map_err(|error| Failure::new(Exit::Damaged, error))?;
        return Ok(match set.registrar.is_empty() {
            true => "nothing yet: a registrar has not confirmed its set",
            false => restores(status, set),
        });
    }
    let wanted: Vec<String> = status.sets.iter().map(|set| hexadecimal(&set.fingerprint)).collect();
    let known = if wanted.is_empty() { "none".into() } else { wanted.join(", ") };
    Err(Failure::new(
        Exit::Damaged,
        format!(
            "this share is of the set {}, which is not one of this cluster's ({known}): it is of a former split, which a \
             later one replaced, or of another cluster",
            hexadecimal(share.set)
        ),
    )
    .next("find the share that belongs to the set; destroy one of a former split"))
}

/// What a set of shares restores, in words.
fn restores(status: &wire::KeyStatusReply, set: &wire::ShareSet) -> &'static str {
    let next = status.rotation.as_ref().map(|rotation| &rotation.next_check_value);
    match (set.present, set.registrar.is_empty()) {
        (_, true) => "waits for a registrar",
        (true, false) => "the present root key",
        (false, false) if next == Some(&set.root_check_value) => "the next root key",
        (false, false) => "a former root key",
    }
}

fn read(set: &wire::ShareSet) -> Option<ShareSet> {
    ShareSet::read(set.threshold, &set.root_check_value, &set.share_check_values)
}

/// A connection to each endpoint of a configuration alone.
async fn each(config: &Config, endpoints: &[Endpoint]) -> Result<Vec<(String, Client)>, Failure> {
    let mut clients = Vec::new();
    for endpoint in endpoints {
        let one = Config { endpoints: vec![endpoint.clone()], journal_head: None, ..config.clone() };
        clients.push((endpoint.name.clone(), Client::connect_lazily(one).await?));
    }
    Ok(clients)
}

/// What became of a share at a node.
#[derive(Debug, Serialize)]
struct AtNode {
    node: String,
    outcome: String,
    held: u32,
    needed: u32,
}

async fn submit(client: ClientOption, output: Output) -> Result<(), Failure> {
    client.must_be(Role::Recovery)?;
    let config = client.config()?;
    let clients = each(&config, &config.endpoints).await?;
    let share = ask::share("the words of your share").await?;
    let bytes = share.to_bytes();
    drop(share);
    let (mut rows, mut answered, mut refused, mut failed) = (Vec::new(), 0, None, None);
    for (node, client) in clients {
        let keys = client.keys();
        let submitted = match keys.status().await {
            Ok(status) if status.unsealed => Ok(None),
            Ok(status) if status.provider.is_empty() => continue,
            Ok(_) => keys.submit_share(&bytes[..]).await.map(Some),
            Err(error) => Err(error),
        };
        let (outcome, held, needed) = match submitted {
            Ok(None) => {
                answered += 1;
                ("unsealed already".to_owned(), 0, 0)
            }
            Ok(Some(reply)) => {
                answered += 1;
                let words = if reply.complete { "taken: enough to unseal" } else { "taken" };
                (words.to_owned(), reply.held, reply.needed)
            }
            Err(error @ OperationError::Invalid(_)) => {
                let words = chain(&error);
                refused.get_or_insert(words.clone());
                (format!("refused: {words}"), 0, 0)
            }
            Err(error) => {
                let words = chain(&error);
                failed = Some(error);
                (words, 0, 0)
            }
        };
        rows.push(AtNode { node, outcome, held, needed });
    }
    output.list(&rows, &["node", "share", "shares held"], |row| {
        let held = if row.needed == 0 { String::new() } else { format!("{} of {}", row.held, row.needed) };
        vec![row.node.clone(), row.outcome.clone(), held]
    })?;
    match (refused, failed) {
        (Some(why), _) if answered == 0 => {
            Err(Failure::new(Exit::Damaged, why).next("kura key verify-share says what a share is"))
        }
        (None, Some(error)) if answered == 0 => Err(error.into()),
        _ => Ok(()),
    }
}

async fn rotate(arguments: RotateArguments, output: Output) -> Result<(), Failure> {
    let what = match arguments.root {
        true => Rotation::Root { without_shares: arguments.without_shares },
        false => Rotation::Epoch,
    };
    let reply = arguments.client.connect().await?.keys().rotate(what).await?;
    let (word, next) = match reply.state {
        1 => ("asked for", "a registrar asks for the same"),
        2 => ("asked for", "an operator asks for the same"),
        3 => ("prepared", "kura key split on a voter's machine, kura key confirm, then kura key rotate --root again"),
        _ if arguments.root => ("done", "former copies and shares open nothing that is written from now on"),
        _ => ("done", "nothing: the leader re-wraps data keys by and by (kura key status); rows stay readable"),
    };
    let told = serde_json::json!({
        "state": word, "epoch": reply.epoch, "voters_ready": reply.voters_ready, "voters_missing": reply.voters_missing,
    });
    let epoch = if word == "done" { "epoch" } else { "epoch until then" };
    let mut fields = vec![("rotation", word.to_owned()), (epoch, reply.epoch.to_string())];
    if !reply.voters_ready.is_empty() {
        fields.push(("voters that have it", reply.voters_ready.join(", ")));
    }
    if !reply.voters_missing.is_empty() {
        fields.push(("voters that will ask", reply.voters_missing.join(", ")));
    }
    fields.push(("next", next.to_owned()));
    output.thing(&told, &fields)
}

/// A set of shares as it is shown.
#[derive(Debug, Serialize)]
struct Set {
    fingerprint: String,
    threshold: u32,
    holders: usize,
    restores: &'static str,
    recorded_by: String,
    confirmed_by: String,
    /// 0: not confirmed yet.
    confirmed_ms: u64,
}

/// An epoch of the keyring as it is shown.
#[derive(Debug, Serialize)]
struct Epoch {
    epoch: u32,
    timeline: u64,
    ended: bool,
    data_keys: u64,
    needed_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Told {
    root_key: String,
    epoch: u32,
    data_keys: u64,
    data_keys_under_older_epochs: u64,
    epochs: Vec<Epoch>,
    sets: Vec<Set>,
    nodes: Vec<AtNode>,
    alarms: Vec<String>,
}

fn epoch(one: wire::KeyEpoch) -> Epoch {
    let wire::KeyEpoch { epoch, timeline, ended, data_keys, needed_by } = one;
    Epoch { epoch, timeline, ended, data_keys, needed_by }
}

/// The members, as the cluster tells them; what the configuration names where no member tells. So nobody is shown who
/// was removed, and nobody left out who came.
async fn members(config: &Config) -> Result<Vec<Endpoint>, Failure> {
    let client = Client::connect_lazily(Config { journal_head: None, ..config.clone() }).await?;
    let told = client.operations().status_within(STATUS_MAX).await;
    let told = told.ok().filter(|reply| reply.removed_ms == 0 && !reply.members.is_empty());
    Ok(told.map_or_else(
        || config.endpoints.clone(),
        |reply| {
            let endpoint = |member: wire::MemberStatus| Endpoint { name: member.name, address: member.address };
            reply.members.into_iter().map(endpoint).collect()
        },
    ))
}

async fn status(client: ClientOption, output: Output) -> Result<(), Failure> {
    let (mut told, mut nodes, mut failed) = (None::<wire::KeyStatusReply>, Vec::new(), None);
    let config = client.config()?;
    for (node, client) in each(&config, &members(&config).await?).await? {
        match client.keys().status().await {
            Ok(reply) => {
                let state = match (reply.unsealed, &reply.provider[..]) {
                    (true, provider) => format!("unsealed, root key by {provider}"),
                    (false, "") => "sealed, a backup member".to_owned(),
                    (false, provider) => format!("SEALED, root key by {provider}"),
                };
                nodes.push(AtNode { node, outcome: state, held: reply.shares_held, needed: reply.shares_needed });
                // The one that has applied most knows best; an unsealed one is not behind for long.
                if told.as_ref().is_none_or(|before| reply.unsealed && !before.unsealed) {
                    told = Some(reply);
                }
            }
            Err(error) => {
                nodes.push(AtNode { node, outcome: chain(&error), held: 0, needed: 0 });
                failed = Some(error);
            }
        }
    }
    let Some(reply) = told else {
        return Err(failed.map_or_else(|| Failure::usage("the client configuration names no endpoint"), Failure::from));
    };
    let sets: Vec<Set> = reply
        .sets
        .iter()
        .map(|set| Set {
            fingerprint: hexadecimal(&set.fingerprint),
            threshold: set.threshold,
            holders: set.share_check_values.len(),
            restores: restores(&reply, set),
            recorded_by: set.operator.clone(),
            confirmed_by: set.registrar.clone(),
            confirmed_ms: set.confirmed_ms,
        })
        .collect();
    let told = Told {
        root_key: hexadecimal(&reply.root_check_value),
        epoch: reply.epoch,
        data_keys: reply.data_keys,
        data_keys_under_older_epochs: reply.data_keys_under_older_epochs,
        epochs: reply.epochs.into_iter().map(epoch).collect(),
        sets,
        nodes,
        alarms: reply.alarms,
    };
    if output.json {
        return output.line(&told);
    }
    let data_keys = match told.data_keys_under_older_epochs {
        0 => format!("{}, all under epoch {}", told.data_keys, told.epoch),
        older => format!("{}, {older} of them still under older epochs: the leader re-wraps them", told.data_keys),
    };
    let mut fields =
        vec![("root key", told.root_key.clone()), ("epoch", told.epoch.to_string()), ("data keys", data_keys)];
    if told.sets.is_empty() {
        fields.push(("shares", "none".into()));
    }
    output.thing(&(), &fields)?;
    if told.epochs.len() > 1 {
        let mut rows = table(&["epoch", "began on timeline", "data keys", "still needed by"]);
        for one in &told.epochs {
            let (timeline, data_keys) = (one.timeline.to_string(), one.data_keys.to_string());
            rows.add_row([one.epoch.to_string(), timeline, data_keys, one.needed_by.join(", ")]);
        }
        output.table(rows)?;
    }
    if !told.sets.is_empty() {
        let mut rows = table(&["shares", "restores", "how many", "recorded by", "confirmed by", "when"]);
        for set in &told.sets {
            rows.add_row([
                set.fingerprint.clone(),
                set.restores.to_owned(),
                format!("{} of {}", set.threshold, set.holders),
                set.recorded_by.clone(),
                set.confirmed_by.clone(),
                moment(set.confirmed_ms),
            ]);
        }
        output.table(rows)?;
    }
    let mut rows = table(&["node", "state", "shares held"]);
    for node in &told.nodes {
        let held = if node.needed == 0 { String::new() } else { format!("{} of {}", node.held, node.needed) };
        rows.add_row([node.node.clone(), node.outcome.clone(), held]);
    }
    output.table(rows)?;
    told.alarms.iter().for_each(|alarm| note(&format!("ALARM: {alarm}")));
    Ok(())
}
