//! Heads that members signed: whether the journal begins with them.

use std::collections::BTreeMap;
use std::str::FromStr;

use kura_client::{Client, Journal, JournalHead, wire};
use kura_cluster::head::SignedHead;
use kura_cluster::hexadecimal;
use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::cli::given::sha256;

/// SHA-256 of a member's public key, as it was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySha256(String);

impl FromStr for KeySha256 {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        sha256(text).map(|bytes| Self(hexadecimal(bytes)))
    }
}

/// A signed head that was checked.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// The member whose key that is, by the status of the node in use; none if no member has it, or if this
    /// certificate may not ask. The signature is checked with the key, whatever name goes with it.
    pub member: Option<Member>,
    /// SHA-256 of the key that signed it.
    pub key_sha256: String,
    /// Log index at which it was signed.
    pub index: u64,
    /// Entries that the journal had.
    pub size: u64,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its Raft id.
    pub raft_id: u64,
    /// Its name.
    pub name: String,
}

/// The members by their keys.
#[derive(Debug)]
pub struct Members(Option<BTreeMap<String, Member>>);

impl Members {
    /// Asks the node in use. Not every certificate may.
    pub async fn ask(client: &Client) -> Members {
        let status = client.operations().status().await.ok();
        Members(status.map(|status| status.members.iter().map(Members::entry).collect()))
    }

    fn entry(member: &wire::MemberStatus) -> (String, Member) {
        let known = Member { raft_id: member.raft_id, name: member.name.clone() };
        (hexadecimal(&member.key_sha256), known)
    }

    fn of(&self, key: &str) -> Option<&Member> {
        self.0.as_ref()?.get(key)
    }

    /// Why no head of a demanded key was told. Nothing is wrong with the journal for that.
    fn missing(&self, key: &str) -> Failure {
        match (&self.0, self.of(key)) {
            (Some(_), None) => Failure::new(Exit::NotFound, format!("no member has the key {key}")).next(
                "`kura node request` showed a node's key when it was made, and `kura audit verify` shows those that sign",
            ),
            (_, member) => {
                let whose = member.map_or_else(String::new, |member| format!(" of {}", member.name));
                let what = format!("could not be checked: no head signed with the key {key}{whose} is told");
                Failure::new(Exit::Unavailable, what)
                    .next("wait until that member has signed one, or ask another: a client configuration with that one endpoint")
            }
        }
    }
}

/// Takes the newest head and checks every signed one against it, by member. Those of `demanded` keys must be
/// among them.
pub async fn check(
    client: &Client,
    journal: &Journal,
    demanded: &[KeySha256],
) -> Result<(JournalHead, Vec<Signed>), Failure> {
    let mut heads = Vec::new();
    for encoded in journal.signed_heads().await? {
        let wrong = |error| Failure::new(Exit::Damaged, format!("a signed head is not sound: {error}"));
        let signed = SignedHead::decode(&encoded).map_err(wrong)?;
        signed.verify(&signed.key_sha256()).map_err(wrong)?;
        heads.push(signed);
    }
    let largest = heads.iter().map(|signed| signed.head.journal_size).max().unwrap_or(0);
    let newest = journal.head_of(largest).await?;
    let members = Members::ask(client).await;
    let mut checked = Vec::new();
    for signed in &heads {
        let head = &signed.head;
        let (size, root) = (head.journal_size, head.journal_root);
        let older = JournalHead::new(head.cluster_id.0, head.timeline, head.index, size, root);
        journal.continues(&older, &newest).await?;
        let key_sha256 = hexadecimal(signed.key_sha256());
        checked.push(Signed { member: members.of(&key_sha256).cloned(), key_sha256, index: head.index, size });
    }
    order(&mut checked);
    match demanded.iter().find(|key| !checked.iter().any(|one| one.key_sha256 == key.0)) {
        Some(key) => Err(members.missing(&key.0)),
        None => Ok((newest, checked)),
    }
}

/// By id; who is no member comes last, by key.
fn order(signed: &mut [Signed]) {
    signed.sort_by_key(|one| (one.member.as_ref().map_or(u64::MAX, |member| member.raft_id), one.key_sha256.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let member = |raft_id, name: &str, byte| wire::MemberStatus {
            raft_id,
            name: name.into(),
            key_sha256: vec![byte; 32].into(),
            ..wire::MemberStatus::default()
        };
        let all = [member(2, "voter-2", 0xaa), member(1, "voter-1", 0xbb)];
        Members(Some(all.iter().map(Members::entry).collect()))
    }

    #[test]
    fn a_key_without_a_head_is_no_alarm() {
        let (known, unknown) = ("aa".repeat(32), "cc".repeat(32));
        let told = members().missing(&known);
        assert_eq!(told.exit, Exit::Unavailable);
        assert!(told.message.contains("of voter-2"), "{told}");
        assert_eq!(members().missing(&unknown).exit, Exit::NotFound);
        assert_eq!(Members(None).missing(&unknown).exit, Exit::Unavailable, "nobody said who the members are");
    }

    #[test]
    fn signers_are_named_and_in_order() {
        let members = members();
        let signed = |byte: &str| {
            let key_sha256 = byte.repeat(32);
            Signed { member: members.of(&key_sha256).cloned(), key_sha256, index: 1, size: 1 }
        };
        let mut all = ["cc", "aa", "bb", "0c"].map(signed);
        order(&mut all);
        let names = all.map(|one| one.member.map_or(one.key_sha256[..2].to_owned(), |member| member.name));
        assert_eq!(names, ["voter-1", "voter-2", "0c", "cc"]);
    }
}
