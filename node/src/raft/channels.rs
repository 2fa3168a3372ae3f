//! Connections to other members.
//!
//! Invariants
//! - Each [`Lane`] to a member is an HTTP/2 connection of its own, so that a large append never
//!   delays a heartbeat and a snapshot delays neither.
//! - Connections are made when first used and shared by all who speak to that member on that lane.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kura_client::tls::{ChannelOptions, ClientTls, Endpoint};
use tonic::transport::Channel;

use super::types::Member;

/// How long the lanes that carry heartbeats, votes and entries wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a silent connection is asked whether it still lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long that may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections kept: three to each of the members that a cluster may have had while this node ran.
const CHANNELS_MAX: usize = 96;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Entries.
    Append,
    /// Heartbeats, votes, handovers.
    Control,
    /// Snapshots.
    Bulk,
}

/// Where connections come from.
pub trait PeerChannels: Send + Sync + 'static {
    /// The connection to a member, made when it is used.
    ///
    /// # Errors
    /// Why the member's name or address cannot be used at all.
    fn channel(&self, member: &Member, lane: Lane) -> Result<Channel, String>;

    /// Another number once certificates or revocation lists have changed: connections of before are to be left.
    fn generation(&self) -> u64 {
        0
    }
}

struct Kept {
    channel: Channel,
    /// The certificate files in use when it was opened.
    generation: u64,
    /// The keys that the member could show then; `None`: any that a certificate names it with.
    keys_sha256: Option<Vec<[u8; 32]>>,
}

/// Connections under mutual TLS: a member is who its certificate's name says and has the key that was
/// approved for it.
pub struct TlsChannels {
    tls: Arc<ClientTls>,
    /// By name, address and lane; and whether the key is one that was approved.
    kept: Mutex<HashMap<(String, String, Lane, bool), Kept>>,
    /// The members' keys as the newest memberships have them, by name.
    keys: ArcSwap<BTreeMap<String, Vec<[u8; 32]>>>,
}

impl TlsChannels {
    /// With this node's certificate.
    pub fn new(tls: Arc<ClientTls>) -> Self {
        Self { tls, kept: Mutex::new(HashMap::new()), keys: ArcSwap::default() }
    }

    /// Learns the members' keys. Those who ask for connections (openraft keeps what a membership said when
    /// it began to replicate) may have older ones.
    pub fn learn<'m>(&self, members: impl Iterator<Item = &'m Member>) {
        let mut keys: BTreeMap<String, Vec<[u8; 32]>> = BTreeMap::new();
        for member in members {
            let known = keys.entry(member.name.clone()).or_default();
            for key in member.keys().filter(|key| !known.contains(key)).collect::<Vec<_>>() {
                known.push(key);
            }
        }
        if **self.keys.load() != keys {
            self.keys.store(Arc::new(keys));
        }
    }

    /// The connection to whoever shows a certificate of this name at that address, whatever its key: to ask a node of
    /// another timeline, which may have a certificate of its own, and never to be believed by the connection alone.
    ///
    /// # Errors
    /// Why the name or the address cannot be used at all.
    pub fn by_name(&self, name: &str, address: &str) -> Result<Channel, String> {
        self.open(name, address, Lane::Control, None)
    }

    fn open(
        &self,
        name: &str,
        address: &str,
        lane: Lane,
        keys_sha256: Option<Vec<[u8; 32]>>,
    ) -> Result<Channel, String> {
        let key = (name.to_owned(), address.to_owned(), lane, keys_sha256.is_some());
        let generation = self.tls.generation();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&key)
            && found.generation == generation
            && found.keys_sha256 == keys_sha256
        {
            return Ok(found.channel.clone());
        }
        let endpoint = Endpoint { name: name.to_owned(), address: address.to_owned() };
        let options = ChannelOptions {
            connect_timeout: CONNECT_TIMEOUT,
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
            keys_sha256: keys_sha256.clone(),
        };
        let channel = self.tls.channel(&endpoint, &options).map_err(|error| error.to_string())?;
        if kept.len() >= CHANNELS_MAX {
            kept.clear();
        }
        kept.insert(key, Kept { channel: channel.clone(), generation, keys_sha256 });
        Ok(channel)
    }
}

impl PeerChannels for TlsChannels {
    fn channel(&self, member: &Member, lane: Lane) -> Result<Channel, String> {
        let learnt = self.keys.load().get(&member.name).cloned();
        let keys_sha256 = learnt.unwrap_or_else(|| member.keys().collect());
        self.open(&member.name, &member.address, lane, Some(keys_sha256))
    }

    fn generation(&self) -> u64 {
        self.tls.generation()
    }
}
