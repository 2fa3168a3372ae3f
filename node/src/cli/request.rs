//! `kura node request` and `kura ca request`: a private key, made on the machine that uses it, and
//! the request to send to a CA (ours or any other that the cluster is configured to accept).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Failure, chain, not_made};
use super::output::{Output, hexadecimal};
use crate::certificates::{RequestFiles, Role, Subject, create_request, summarize_request};

/// `kura node …`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a node's private key and the request for its certificate, on the node's machine.
    Request(NodeRequestArguments),
}

/// Options of `kura node request`.
#[derive(Debug, Args)]
pub struct NodeRequestArguments {
    /// voter or backup.
    #[arg(long)]
    role: Role,
    /// The node's name, a DNS name; peers and clients check it.
    #[arg(long)]
    name: String,
    /// The cluster's name, if its CA puts one into certificates.
    #[arg(long)]
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
    #[arg(long)]
    name: String,
    /// The cluster's name, if its CA puts one into certificates.
    #[arg(long)]
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
    let NodeCommand::Request(arguments) = command;
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
    create_request(&paths, &subject, names).map_err(|error| not_made(&error))?;
    inspect(&paths.request, output)
}

/// Shows what a request states.
pub fn inspect(request: &Path, output: Output) -> Result<(), Failure> {
    let summary = summarize_request(request).map_err(|error| Failure::usage(chain(&error)))?;
    let stated = Stated {
        role: summary.role.map(Role::word),
        name: summary.name,
        cluster: summary.cluster,
        names: summary.alternative_names,
        key_sha256: hexadecimal(&summary.public_key_fingerprint),
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
