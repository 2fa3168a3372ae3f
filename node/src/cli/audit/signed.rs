//! Heads that members signed: whether the journal begins with them.

use std::str::FromStr;

use kura_client::{Journal, JournalHead};
use kura_cluster::head::SignedHead;
use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::hexadecimal;

/// SHA-256 of a member's public key, as it was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySha256(String);

impl FromStr for KeySha256 {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_one { Ok(Self(text.to_ascii_lowercase())) } else { Err("a SHA-256 has 64 hexadecimal digits") }
    }
}

/// A signed head that was checked.
#[derive(Debug, Serialize)]
pub struct Signed {
    /// SHA-256 of the key that signed it.
    pub key_sha256: String,
    /// Log index at which it was signed.
    pub index: u64,
    /// Entries that the journal had.
    pub size: u64,
}

/// Takes the newest head and checks every signed one against it. Those of `demanded` keys must be among them.
pub async fn check(journal: &Journal, demanded: &[KeySha256]) -> Result<(JournalHead, Vec<Signed>), Failure> {
    let mut heads = Vec::new();
    for encoded in journal.signed_heads().await? {
        let wrong = |error| Failure::new(Exit::Damaged, format!("a signed head is not sound: {error}"));
        let signed = SignedHead::decode(&encoded).map_err(wrong)?;
        signed.verify(&signed.key_sha256()).map_err(wrong)?;
        heads.push(signed);
    }
    let largest = heads.iter().map(|signed| signed.head.journal_size).max().unwrap_or(0);
    let newest = journal.head_of(largest).await?;
    let mut checked = Vec::new();
    for signed in &heads {
        let head = &signed.head;
        let (size, root) = (head.journal_size, head.journal_root);
        let older = JournalHead::new(head.cluster_id.0, head.timeline, head.index, size, root);
        journal.continues(&older, &newest).await?;
        checked.push(Signed { key_sha256: hexadecimal(&signed.key_sha256()), index: head.index, size });
    }
    match demanded.iter().find(|key| !checked.iter().any(|one| one.key_sha256 == key.0)) {
        Some(key) => Err(Failure::new(Exit::Damaged, format!("no head signed with the key {} is told", key.0))
            .next("ask another member; a node's key is the one that `kura node request` showed and that was approved")),
        None => Ok((newest, checked)),
    }
}
