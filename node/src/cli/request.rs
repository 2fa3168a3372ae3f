//! `kura node request` and `kura ca request`: a private key, made on the machine that uses it, and
//! the request to send to a CA (ours or any other that the cluster is configured to accept). And what else is said of a
//! node on its own machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kura_cluster::hexadecimal;
use serde::Serialize;

use super::exit::{Exit, Failure, chain, not_made};
use super::given;
use super::output::{Output, moment, note};
use crate::certificates::{RequestError, RequestFiles, Role, Subject, create_request, summarize_request};
use crate::clock::now_ms;
use crate::leap;

/// `kura node …`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a node's private key and the request for its certificate, on the node's machine.
    Request(NodeRequestArguments),
    /// Say that this machine's clock is right, although it has leapt: a voter that is the only one waits for that.
    ClockIsRight(ClockArguments),
}

/// Options of `kura node clock-is-right`.
#[derive(Debug, Args)]
pub struct ClockArguments {
    /// The node's configuration: it may run or not.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Serialize)]
struct SaidRight {
    clock_ms: u64,
    noted_in: PathBuf,
}

fn clock_is_right(arguments: &ClockArguments, output: Output) -> Result<(), Failure> {
    let config = given::configuration(&arguments.config)?;
    if !config.data.is_dir() {
        let why = format!("{} is not there: no node has run here", config.data.display());
        return Err(Failure::new(Exit::NotFound, why).next("run this on the node's machine, with its configuration"));
    }
    let clock_ms = now_ms();
    leap::say_right(&config.data, clock_ms).map_err(|error| super::files::unwritten(&config.data, &error))?;
    let said = SaidRight { clock_ms, noted_in: config.data };
    output.thing(
        &said,
        &[("this machine's clock", moment(clock_ms)), ("noted in", said.noted_in.display().to_string())],
    )?;
    if !output.json {
        note("a node that waits for it goes on within a second or two; what its clock has moved stays moved");
    }
    Ok(())
}

/// Options of `kura node request`.
#[derive(Debug, Args)]
pub struct NodeRequestArguments {
    /// voter or backup.
    #[arg(long)]
    role: Role,
    /// The node's name, a DNS name; peers and clients check it.
    #[arg(long, value_parser = given::name)]
    name: String,
    /// The cluster's name, if its CA puts one into certificates.
    #[arg(long, value_parser = given::cluster)]
    cluster: Option<String>,
    /// A further DNS name or IP address.
    #[arg(long, value_name = "NAME")]
    also: Vec<String>,
    #[command(flatten)]
    files: Files,
}

/// Options of `kura ca request`.
#[derive(Debug, Args)]
pub struct ClientRequestArguments {
    /// application, registrar, auditor, operator or recovery.
    #[arg(long)]
    role: Role,
    /// The application's name, or the person's.
    #[arg(long, value_parser = given::name)]
    name: String,
    /// The cluster's name, if its CA puts one into certificates.
    #[arg(long, value_parser = given::cluster)]
    cluster: Option<String>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Files {
    /// Where the private key goes; an existing file is not overwritten.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the request goes; an existing file is not overwritten.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
}

/// What a request states.
#[derive(Debug, Serialize)]
struct Stated {
    role: Option<&'static str>,
    name: Option<String>,
    cluster: Option<String>,
    names: Vec<String>,
    key_sha256: String,
    request: PathBuf,
}

/// Runs `kura node …`.
pub fn run_node(command: NodeCommand, output: Output) -> Result<(), Failure> {
    let arguments = match command {
        NodeCommand::Request(arguments) => arguments,
        NodeCommand::ClockIsRight(arguments) => return clock_is_right(&arguments, output),
    };
    let NodeRequestArguments { role, name, cluster, also, files } = arguments;
    if !role.is_node() {
        return Err(Failure::usage("a node is a voter or a backup").next("for others use `kura ca request`"));
    }
    make(Subject { role, name, cluster }, &also, files, output)
}

/// Runs `kura ca request`.
pub fn run_client(arguments: &ClientRequestArguments, output: Output) -> Result<(), Failure> {
    let ClientRequestArguments { role, name, cluster, files } = arguments;
    if role.is_node() {
        return Err(Failure::usage("this is for applications and people").next("for nodes use `kura node request`"));
    }
    let files = Files { key: files.key.clone(), request: files.request.clone() };
    make(Subject { role: *role, name: name.clone(), cluster: cluster.clone() }, &[], files, output)
}

fn make(subject: Subject, names: &[String], files: Files, output: Output) -> Result<(), Failure> {
    let paths = RequestFiles { private_key: files.key, request: files.request };
    create_request(&paths, &subject, names).map_err(|error| refused(&error, &paths))?;
    inspect(&paths.request, output)
}

fn refused(error: &RequestError, paths: &RequestFiles) -> Failure {
    match error {
        RequestError::Generate(_) => Failure::failed(chain(error)),
        RequestError::Create { path, .. } if *path == paths.private_key => not_made(error).of("--key"),
        RequestError::Create { .. } => not_made(error).of("--request"),
        RequestError::AlternativeName { .. } | RequestError::TooManyNames => Failure::usage(chain(error)).of("--also"),
        RequestError::NodeName { .. } | RequestError::Subject(_) => Failure::usage(chain(error)).of("--name"),
        error => Failure::usage(chain(error)),
    }
}

/// Shows what a request states.
pub fn inspect(request: &Path, output: Output) -> Result<(), Failure> {
    let summary = summarize_request(request).map_err(|error| Failure::usage(chain(&error)))?;
    let stated = Stated {
        role: summary.role.map(Role::word),
        name: summary.name,
        cluster: summary.cluster,
        names: summary.alternative_names,
        key_sha256: hexadecimal(summary.public_key_fingerprint),
        request: request.to_owned(),
    };
    output.thing(
        &stated,
        &[
            ("request", stated.request.display().to_string()),
            ("role", stated.role.unwrap_or("not stated").to_owned()),
            ("name", stated.name.clone().unwrap_or_else(|| "not stated".into())),
            ("also", stated.names.join(", ")),
            ("key sha256", stated.key_sha256.clone()),
        ],
    )
}
