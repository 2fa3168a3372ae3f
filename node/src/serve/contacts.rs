//! When each other member was heard last, beyond a restart: after a disaster the backup is started alone, and people ask
//! it since when the voters are silent.
//!
//! Invariants
//! - What is told of before the start is a moment and what was said then, never the present; it can be too early by
//!   [`SAVE_INTERVAL`], never too late.
//! - It is for people alone: nothing is decided by it. A file that cannot be read counts as none, and is told of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};

use super::checks::write;
use super::{Node, peers};
use crate::raft::types::NodeId;

/// Between two saves, if anybody was heard meanwhile.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
const FILE: &str = "contacts";
const FORMAT: u32 = 1;
/// SHA-256 of what is before it.
const CHECKSUM_BYTES: usize = 32;

#[derive(Clone, PartialEq, Message)]
struct ContactsFile {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    contacts: Vec<Contact>,
}

/// The last contact with a member, as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Contact {
    /// Whose. An id is never given twice within a timeline.
    #[prost(uint64, tag = "1")]
    pub node: NodeId,
    /// Its name: after a take-over ids may be others'.
    #[prost(string, tag = "2")]
    pub name: String,
    /// When it was heard, by this node's clock, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    /// The last log index that it had applied then.
    #[prost(uint64, tag = "4")]
    pub applied_index: u64,
    /// The cluster's time at that entry, milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub applied_at_ms: u64,
}

/// What was kept before this start.
#[derive(Debug, Default)]
pub struct Before(BTreeMap<NodeId, Contact>);

impl Before {
    /// Reads what is kept below a data directory.
    pub fn read(data: &Path) -> Before {
        match std::fs::read(data.join(FILE)) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                tracing::warn!("when members were heard last cannot be read from the file {FILE}: it is damaged");
                Before::default()
            }),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(%error, "when members were heard last cannot be read");
                }
                Before::default()
            }
        }
    }

    /// Every contact, the furthest of them last.
    pub fn all(&self) -> Vec<&Contact> {
        let mut all: Vec<&Contact> = self.0.values().collect();
        all.sort_by_key(|contact| (contact.applied_index, contact.at_ms));
        all
    }

    /// The last contact before this start with a member.
    pub fn of(&self, node: NodeId, name: &str) -> Option<&Contact> {
        self.0.get(&node).filter(|contact| contact.name == name)
    }
}

fn decode(bytes: &[u8]) -> Option<Before> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if Sha256::digest(content)[..] != checksum[..] {
        return None;
    }
    let file = ContactsFile::decode(content).ok().filter(|file| file.format == FORMAT)?;
    Some(Before(file.contacts.into_iter().map(|contact| (contact.node, contact)).collect()))
}

fn encode(contacts: Vec<Contact>) -> Vec<u8> {
    let mut bytes = ContactsFile { format: FORMAT, contacts }.encode_to_vec();
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// The last contact with each present member, of before this start where there was none since.
fn now(node: &Node) -> Vec<Contact> {
    let others = peers::others(node).into_iter();
    let contacts = others.filter_map(|(id, member)| match node.peers.heard(id) {
        Some(heard) => Some(Contact {
            node: id,
            name: member.name,
            at_ms: heard.at_ms,
            applied_index: heard.reply.applied_index,
            applied_at_ms: heard.reply.applied_at_ms,
        }),
        None => node.heard_before.of(id, &member.name).cloned(),
    });
    contacts.collect()
}

/// Saves what is new since `saved`.
pub(super) fn save(node: &Node, saved: &mut Vec<Contact>) {
    let contacts = now(node);
    // Without members (a node that is joining) there is nothing to keep, and nothing is taken back.
    if contacts.is_empty() || contacts == *saved {
        return;
    }
    match write(&node.config.data.join(FILE), &encode(contacts.clone())) {
        Ok(()) => *saved = contacts,
        Err(error) => tracing::warn!(%error, "when members were heard last could not be saved; trying again"),
    }
}

/// Saves, for ever.
pub async fn follow(node: Arc<Node>) {
    let mut saved = Vec::new();
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        tokio::task::block_in_place(|| save(&node, &mut saved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(node: NodeId, name: &str) -> Contact {
        Contact { node, name: name.into(), at_ms: 1_800_000_000_000, applied_index: 258, applied_at_ms: 9 }
    }

    #[test]
    fn contacts_are_kept_by_id_and_name_and_any_flipped_bit_or_cut_makes_them_unknown() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        assert_eq!(Before::read(data.path()).of(2, "voter-2"), None);
        let whole = encode(vec![contact(2, "voter-2"), contact(3, "voter-3")]);
        std::fs::write(&path, &whole).unwrap();
        let before = Before::read(data.path());
        assert_eq!(before.of(2, "voter-2"), Some(&contact(2, "voter-2")));
        assert_eq!((before.of(2, "voter-9"), before.of(9, "voter-2")), (None, None));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
        assert!((0..whole.len()).all(|end| decode(&whole[..end]).is_none()));
    }

    #[test]
    fn frozen_encoding() {
        let bytes = encode(vec![contact(2, "v")]);
        let expected = [
            8, 1, 18, 17, // format, one contact
            8, 2, 18, 1, b'v', 24, 128, 160, 241, 194, 177, 52, 32, 130, 2, 40, 9, //
        ];
        assert_eq!(bytes[..bytes.len() - CHECKSUM_BYTES], expected);
    }
}
