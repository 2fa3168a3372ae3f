//! Getting and keeping the keys: root key from its provider, from shares or from another voter, keyring from
//! the state.
//!
//! Invariants
//! - What opens the keyring of the own state is the root key; nothing else is kept.
//! - A voter that cannot open a keyring that was rotated keeps the keys that it has, and asks another voter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_cluster::Revision;
use kura_cluster::row::Table;
use kura_cluster::seal::Key;
use kura_proto::v1;
use kura_proto::v1::peer_client::PeerClient;

use super::{Node, peers};
use crate::custody::Provider;
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::MemberRole;
use crate::vault::{Vault, VaultError};

/// Between two looks, unsealed and sealed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const SEALED_INTERVAL: Duration = Duration::from_millis(100);
/// Between two rounds of asking other voters. Each handing over is journalled, also of a key that does not help.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
const HAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Unseals as soon as that is possible, and again whenever the keyring changes. A node without a root key
/// in its configuration (a backup) stays sealed.
pub async fn keep_unsealed(node: Arc<Node>) {
    let Some(provider) = node.custody.provider().cloned() else { return };
    if provider == Provider::Shares {
        let _ = node.gateway.sealed_because.set("it waits for key shares (`kura key submit`)");
    }
    let mut told = String::new();
    let mut ask_at = Instant::now();
    let mut settled = None;
    loop {
        let revision = node.store.published().summary.table(Table::Keyring).revision;
        let is_open = node.custody.opened() == Some(revision);
        if !revision.is_absent() && !is_open {
            let opened = match open_here(&node, revision) {
                Ok(true) => Ok(true),
                Ok(false) if Instant::now() >= ask_at => {
                    let asked = ask_others(&node, revision).await;
                    ask_at = Instant::now() + ASK_INTERVAL;
                    asked.map_err(|error| format!("{}; {error}", provider.missing()))
                }
                Ok(false) => Ok(false),
                Err(error) => Err(error.to_string()),
            };
            match opened {
                Ok(true) => told.clear(),
                Ok(false) => {}
                Err(error) => tell(&mut told, error),
            }
        }
        if node.custody.opened().is_some() {
            if settled != node.custody.opened() || node.custody.has_next() {
                settled = node.custody.opened().filter(|_| keep_order(&node, &mut told));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        } else {
            let _ = tokio::time::timeout(SEALED_INTERVAL, node.custody.woken()).await;
        }
    }
}

/// Once it is unsealed: what lies on the disk, and the journal entry of an unsealing by shares.
/// `false`: it has to be tried again.
fn keep_order(node: &Arc<Node>, told: &mut String) -> bool {
    let Some(vault) = node.gateway.vault.load_full() else { return false };
    let settled = tokio::task::block_in_place(|| node.custody.settle(vault.root(), &node.store.database()));
    if let Err(error) = &settled {
        tell(told, error.to_string());
    }
    if let Some(names) = node.custody.take_submitters() {
        let node = node.clone();
        tokio::spawn(async move {
            // There is a leader only after a while; the entry must not be lost for that.
            while let Err(error) = node.gateway.journal_unsealing(&names).await {
                tracing::warn!(%error, "that this node was unsealed by shares is not journalled yet");
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        });
    }
    settled.is_ok()
}

fn tell(told: &mut String, error: String) {
    if *told != error {
        tracing::warn!(%error, "the keyring is not open");
        *told = error;
    }
}

/// Tries the keys that are at hand. `false`: none opens the keyring.
fn open_here(node: &Node, revision: Revision) -> Result<bool, VaultError> {
    let present = node.gateway.vault.load_full().map(|vault| vault.root().clone());
    let given = tokio::task::block_in_place(|| node.custody.candidates());
    // A file that cannot be read must not keep out a key that is at hand.
    let (keys, failed) = match given {
        Ok(keys) => (keys, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    for key in present.into_iter().chain(keys) {
        if open_with(node, &key, revision)? {
            return Ok(true);
        }
    }
    failed.map_or(Ok(false), Err)
}

/// Opens the keyring with a key; `false`: it is not the root key.
fn open_with(node: &Node, key: &Arc<Key>, revision: Revision) -> Result<bool, VaultError> {
    match Vault::unseal(key.clone(), node.identity.cluster_id, &node.store) {
        Ok(vault) => {
            let first = node.gateway.vault.swap(Some(Arc::new(vault))).is_none();
            node.custody.note_opened(revision, key);
            tracing::info!(first, "unsealed");
            Ok(true)
        }
        Err(VaultError::WrongRootKey) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks the other voters for the root key; approval and certificate decide. `false`: there is none to ask.
async fn ask_others(node: &Node, revision: Revision) -> Result<bool, String> {
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
        last = match PeerClient::new(channel).hand_root_key(request).await {
            Ok(reply) => match <[u8; 32]>::try_from(&reply.into_inner().root_key[..]) {
                Ok(mut bytes) => match open_with(node, &Arc::new(Key::from_bytes(&mut bytes)), revision)
                    .map_err(|error| error.to_string())?
                {
                    true => return Ok(true),
                    false => format!("the root key of {} does not open the keyring here", member.name),
                },
                Err(_) => format!("{} answered with a malformed root key", member.name),
            },
            Err(status) => format!("{}: {}", member.name, status.message()),
        };
    }
    Err(last)
}
