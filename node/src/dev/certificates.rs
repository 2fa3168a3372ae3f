//! The CA, the nodes' certificates and the clients' configurations: what `kura ca` and
//! `kura node request` do, one after the other.

use std::fs;
use std::path::Path;

use kura_client::{Config, Endpoint, Timeouts};
use time::OffsetDateTime;

use super::DevError;
use super::layout::{ClientFile, Layout};
use super::plan::{Member, Plan};
use crate::certificates::{Approval, Authority, AuthorityFiles, RequestFiles, Role, Subject, create_request};

/// Validity of a developer's CA and certificates, in days.
const DAYS: u32 = 3650;

/// A node's certificate in its folder.
pub(super) const CERTIFICATE: &str = "node.pem";
/// A node's request in its folder.
pub(super) const REQUEST: &str = "node.csr";
/// A node's private key in its folder.
pub(super) const KEY: &str = "node.key";

fn failed(error: &(dyn std::error::Error + 'static)) -> DevError {
    DevError::Certificates(crate::cli::chain(error))
}

fn authority_files(layout: &Layout) -> AuthorityFiles {
    AuthorityFiles { certificate: layout.authority_certificate(), private_key: layout.authority().join("ca.key") }
}

/// Makes the CA.
pub(super) fn create_authority(layout: &Layout, plan: &Plan) -> Result<Authority, DevError> {
    let folder = layout.authority();
    fs::create_dir_all(&folder).map_err(DevError::file(&folder))?;
    // One day more than what it signs: no certificate may outlive it.
    Authority::create(&authority_files(layout), Some(&plan.cluster), DAYS + 1, OffsetDateTime::now_utc())
        .map_err(|error| failed(&error))
}

/// Adds the recovery CA to the bundle that every node and client has.
pub(super) fn trust_recovery(layout: &Layout, first: &Member) -> Result<(), DevError> {
    let path = layout.node_data(&first.name).join(crate::init::RECOVERY_CA_FILE);
    let recovery = fs::read_to_string(&path).map_err(DevError::file(&path))?;
    let bundle = layout.authority_certificate();
    let own = fs::read_to_string(&bundle).map_err(DevError::file(&bundle))?;
    fs::write(&bundle, own + &recovery).map_err(DevError::file(&bundle))
}

/// Opens the CA that was made before.
pub(super) fn open_authority(layout: &Layout) -> Result<Authority, DevError> {
    Authority::open(&authority_files(layout)).map_err(|error| failed(&error))
}

/// A node's key and request, made in its folder, and the certificate that the CA signs for it.
pub(super) fn create_node(
    layout: &Layout,
    plan: &Plan,
    authority: &Authority,
    member: &Member,
) -> Result<(), DevError> {
    let folder = layout.node(&member.name);
    create(authority, &plan.cluster, member.role(), &member.name, &folder, "node", true)
}

fn create(
    authority: &Authority,
    cluster: &str,
    role: Role,
    name: &str,
    folder: &Path,
    stem: &str,
    loopback: bool,
) -> Result<(), DevError> {
    fs::create_dir_all(folder).map_err(DevError::file(folder))?;
    let files =
        RequestFiles { private_key: folder.join(format!("{stem}.key")), request: folder.join(format!("{stem}.csr")) };
    let names = if loopback { vec!["127.0.0.1".to_owned(), "localhost".to_owned()] } else { Vec::new() };
    let subject = Subject { role, name: name.to_owned(), cluster: Some(cluster.to_owned()) };
    create_request(&files, &subject, &names).map_err(|error| failed(&error))?;
    let approval = Approval {
        role,
        name: name.to_owned(),
        alternative_names: names,
        accept_requested_names: false,
        valid_days: DAYS,
    };
    let issued =
        authority.issue(&files.request, &approval, OffsetDateTime::now_utc()).map_err(|error| failed(&error))?;
    issued.create_file(&folder.join(format!("{stem}.pem"))).map_err(|error| failed(&error))
}

/// All clients' keys, certificates and configurations.
pub(super) fn create_clients(layout: &Layout, plan: &Plan, authority: &Authority) -> Result<(), DevError> {
    for file in ClientFile::ALL {
        let role = match file {
            ClientFile::Application | ClientFile::ApplicationSsl => Role::Application,
            ClientFile::Registrar1 | ClientFile::Registrar2 => Role::Registrar,
            ClientFile::Operator => Role::Operator,
            ClientFile::Auditor => Role::Auditor,
            ClientFile::Recovery => Role::Recovery,
        };
        let name = file.name();
        create(authority, &plan.cluster, role, name, &layout.clients(), name, false)?;
        let config = Config {
            application: (role == Role::Application).then(|| name.to_owned()),
            ca: "../ca/ca.pem".into(),
            certificate: format!("{name}.pem").into(),
            key: format!("{name}.key").into(),
            revocation_lists: Vec::new(),
            journal_head: None,
            endpoints: plan
                .voters()
                .map(|voter| Endpoint { name: voter.name.clone(), address: voter.address() })
                .collect(),
            timeouts: Timeouts::default(),
        };
        let text = config.to_toml().map_err(|error| failed(&error))?;
        let path = layout.client(file);
        fs::write(&path, text).map_err(DevError::file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_configuration_loads_and_names_every_voter() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let plan = Plan::new(3, 1, None).unwrap();
        let authority = create_authority(&layout, &plan).unwrap();
        create_clients(&layout, &plan, &authority).unwrap();
        for file in ClientFile::ALL {
            let config = Config::load(layout.client(file)).unwrap();
            assert_eq!(config.endpoints.len(), 3);
            assert!(config.ca.exists() && config.certificate.exists() && config.key.exists());
        }
        create_node(&layout, &plan, &authority, &plan.members[3]).unwrap();
        let folder = layout.node("backup-1");
        let candidate = crate::cli::Candidate::read(&folder.join(REQUEST)).unwrap();
        let signed = crate::cli::Candidate::read(&folder.join(CERTIFICATE)).unwrap();
        assert_eq!((candidate.name.as_str(), candidate.role), ("backup-1", Role::Backup));
        assert_eq!(candidate.key_sha256, signed.key_sha256);
        assert!(crate::cli::Candidate::read(&layout.clients().join("operator.pem")).is_err(), "not a node's");
    }
}
