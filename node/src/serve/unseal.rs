//! Getting and keeping the keys: root key from its file or from another voter, keyring from the state.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kura_cluster::row::Table;
use kura_cluster::seal::Key;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;
use zeroize::Zeroize;

use super::{Node, peers};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::MemberRole;
use crate::vault::{Vault, VaultError, read_root_key, write_root_key};

const RETRY_INTERVAL: Duration = Duration::from_millis(500);
const HAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Unseals as soon as that is possible, and again whenever the keyring changes. A node without a root key
/// file in its configuration (a backup) stays sealed.
pub async fn keep_unsealed(node: Arc<Node>) {
    let Some(path) = node.config.root_key.clone() else { return };
    let mut told = String::new();
    let root = loop {
        match read_root_key(&path) {
            Ok(root) => break Arc::new(root),
            Err(VaultError::NoRootKey { .. }) => {
                if let Err(error) = fetch(&node, &path).await {
                    tell(&mut told, &error);
                }
            }
            Err(error) => tell(&mut told, &error.to_string()),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    };
    let mut watch = node.store.watch();
    let mut opened = None;
    loop {
        let revision = watch.borrow_and_update().summary.table(Table::Keyring).revision;
        if opened != Some(revision) && !revision.is_absent() {
            match Vault::unseal(root.clone(), node.identity.cluster_id, &node.store.database()) {
                Ok(vault) => {
                    node.gateway.vault.store(Some(Arc::new(vault)));
                    opened = Some(revision);
                    tracing::info!("unsealed");
                }
                Err(error) => tell(&mut told, &error.to_string()),
            }
        }
        // Until it is unsealed every change matters; later ones are rotations, and no hurry.
        match opened {
            Some(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            None if watch.changed().await.is_err() => return,
            None => {}
        }
    }
}

fn tell(told: &mut String, error: &str) {
    if told != error {
        tracing::warn!(%error, "still sealed");
        error.clone_into(told);
    }
}

/// Asks the other voters for the root key; approval and certificate decide.
async fn fetch(node: &Node, path: &std::path::Path) -> Result<(), String> {
    let mut last = "no other voter is known".to_owned();
    for (_, member) in peers::others(node) {
        if member.role != MemberRole::Voter {
            continue;
        }
        let channel = node.channels.channel(&member, Lane::Control)?;
        let mut request = tonic::Request::new(v1::RootKeyRequest {
            name: node.config.name.clone(),
            cluster_id: Bytes::copy_from_slice(&node.identity.cluster_id.0),
        });
        request.set_timeout(HAND_TIMEOUT);
        match PeerClient::new(channel).hand_root_key(request).await {
            Ok(reply) => {
                let Ok(mut bytes) = <[u8; 32]>::try_from(&reply.into_inner().root_key[..]) else {
                    last = format!("{} answered with a malformed root key", member.name);
                    continue;
                };
                let key = Key::from_bytes(&mut bytes);
                bytes.zeroize();
                return write_root_key(path, &key).map_err(|error| error.to_string());
            }
            Err(status) => last = format!("{}: {}", member.name, status.message()),
        }
    }
    Err(last)
}
