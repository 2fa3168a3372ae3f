//! A data directory that belongs to a member already: whose it is, and whether that is still approved.
//!
//! Invariant: what is told was read here or told by a member just now; nothing is guessed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kura_client::tls::{ChannelOptions, ClientTls, Endpoint};
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use tonic::Code;

use super::CALL_TIMEOUT;
use crate::clock::in_japan;
use crate::config::NodeConfig;
use crate::identity::{IdentityFileError, NodeIdentity};
use crate::removed::Removed;

/// What the members say of a node that asks to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approved {
    /// It is approved.
    As {
        /// Under this Raft id.
        raft_id: u64,
        /// For this cluster.
        cluster_id: Vec<u8>,
    },
    /// It is not, or not so.
    Not(String),
    /// Nobody could be asked.
    Unknown(String),
}

/// What a data directory is, and what it could be.
#[derive(Debug, Clone)]
pub struct There {
    /// Where it lies.
    pub data: PathBuf,
    /// Whose it is.
    pub identity: NodeIdentity,
    /// Whether that one was removed, as it knows itself.
    pub removed: Option<Removed>,
    /// What its name and key are approved as now.
    pub approved: Approved,
}

impl There {
    /// Reads the directory and asks the members that the configuration names.
    pub(super) async fn look(config: &NodeConfig, tls: &Arc<ClientTls>) -> Result<There, IdentityFileError> {
        let data = config.data.clone();
        let removed = Removed::read(&data).map_err(|source| IdentityFileError::File { path: data.clone(), source })?;
        Ok(There { identity: NodeIdentity::read(&data)?, removed, approved: ask(config, tls).await, data })
    }

    /// Whether it is what was approved, as far as anybody says.
    pub fn is_current(&self) -> bool {
        self.removed.is_none()
            && matches!(&self.approved, Approved::As { raft_id, cluster_id }
                if *raft_id == self.identity.raft_id && cluster_id[..] == self.identity.cluster_id.0)
    }
}

impl fmt::Display for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeIdentity { name, raft_id, cluster_name, .. } = &self.identity;
        write!(
            f,
            "{} exists: it is of {name}, member {raft_id} of {cluster_name}, ",
            self.data.join("identity").display()
        )?;
        if let Some(removed) = self.removed {
            write!(f, "which was removed, as it knows since {}; ", in_japan(removed.since_ms))?;
        }
        match &self.approved {
            Approved::As { .. } if self.is_current() => write!(f, "which is what was approved")?,
            Approved::As { raft_id, .. } => write!(f, "and {name} is approved as member {raft_id} now")?,
            Approved::Not(why) => write!(f, "and no member says that it is approved: {why}")?,
            Approved::Unknown(why) => write!(f, "and whether it is approved nobody could be asked: {why}")?,
        }
        f.write_str("; nothing was changed")
    }
}

async fn ask(config: &NodeConfig, tls: &Arc<ClientTls>) -> Approved {
    let (mut refusals, mut silences) = (Vec::new(), Vec::new());
    for peer in &config.peers {
        let endpoint = Endpoint { name: peer.name.clone(), address: peer.address.clone() };
        let channel = match tls.channel(&endpoint, &ChannelOptions::default()) {
            Ok(channel) => channel,
            Err(error) => {
                silences.push(format!("{}: {error}", peer.name));
                continue;
            }
        };
        let mut request = tonic::Request::new(v1::JoinRequest { name: config.name.clone() });
        request.set_timeout(CALL_TIMEOUT);
        match PeerClient::new(channel).join(request).await {
            Ok(reply) => {
                let v1::JoinReply { raft_id, cluster_id, .. } = reply.into_inner();
                return Approved::As { raft_id, cluster_id: cluster_id.to_vec() };
            }
            Err(status) => {
                let why = format!("{}: {}", peer.name, status.message());
                let is_refusal = status.code() == Code::PermissionDenied;
                if is_refusal { &mut refusals } else { &mut silences }.push(why);
            }
        }
    }
    match (refusals.is_empty(), silences.is_empty()) {
        (false, _) => Approved::Not(refusals.join("; ")),
        (true, false) => Approved::Unknown(silences.join("; ")),
        (true, true) => Approved::Unknown("the configuration names no peers".into()),
    }
}

#[cfg(test)]
mod tests {
    use kura_cluster::ClusterId;

    use super::*;

    #[test]
    fn only_what_is_known_is_told() {
        let identity = NodeIdentity {
            cluster_id: ClusterId([7; 16]),
            cluster_name: "kita".into(),
            raft_id: 3,
            name: "voter-3".into(),
            timeline: 0,
            recovery_public_key: [0; 32],
            membership: Default::default(),
        };
        let there = |removed, approved| There { data: "data".into(), identity: identity.clone(), removed, approved };
        let approved = |raft_id, cluster| Approved::As { raft_id, cluster_id: vec![cluster; 16] };
        let current = there(None, approved(3, 7));
        assert!(current.is_current() && current.to_string().contains("which is what was approved"), "{current}");
        let removed = Some(Removed { since_ms: 1, index: 9 });
        for (there, told) in [
            (there(None, approved(5, 7)), "approved as member 5 now"),
            (there(None, Approved::Not("voter-1: not approved".into())), "no member says"),
            (there(None, Approved::Unknown("voter-1: down".into())), "nobody could be asked"),
            (there(removed, approved(3, 7)), "which was removed"),
            (there(None, approved(3, 8)), "approved as member 3 now"),
        ] {
            assert!(!there.is_current() && there.to_string().contains(told), "{there}");
            assert!(there.to_string().contains("member 3 of kita"), "{there}");
        }
    }
}
