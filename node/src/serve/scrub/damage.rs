//! What follows from damage: a member ends, if the others are enough without it.
//!
//! A fault that is the same everywhere (a wrong check in a new build, a file that all have from one source) must not
//! end one member after the other. So a member with damage asks the others first. It ends only if none of them is
//! damaged, too, and more than half of the voters serve without it. Otherwise it goes on and says so, decides nothing
//! for clients as long as another voter does, and asks again and again: once the other one is replaced, it ends.
//!
//! Invariants
//! - Damage is written down before a node stops because of it, and the node does not start beside that note. One
//!   that goes on writes no such note: a restart must not end what was kept up on purpose.
//! - Others hear of damage before this member asks them: of two that find some at one moment, neither ends.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use kura_proto::v1;

use super::super::checks::{FOUND_DAMAGE, write};
use super::{Scrubbing, WORK};
use crate::clock;
use crate::raft::types::MemberRole;
use crate::scrub::damaged_blob_file;
use crate::serve::{Node, most_advanced, peers};

/// For so long others hear of damage before they are asked whether they are enough; also between two questions.
const TELL: Duration = Duration::from_secs(3);
/// Between two looks whether there is damage.
const LOOK: Duration = Duration::from_millis(200);

/// What is damaged, below `data`. A node does not start beside it.
const DAMAGED: &str = "damaged";

/// What was found damaged in a data directory, if anything was.
pub fn noted(data: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(data.join(DAMAGED)) {
        Ok(words) => Ok(Some(words.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is damaged of this member, by a check or by any read.
pub fn known(node: &Node) -> Option<String> {
    node.scrubbing.damage().or_else(|| node.store.database().damage())
}

/// Waits until this member has to end because of damage; what is damaged is written down then. While the others are
/// not enough without it, it goes on and says so.
pub async fn wait_for_end(node: &Node) -> String {
    loop {
        let words = wait_for_damage(node).await;
        node.scrubbing.note_damage(&node.config.data, &words);
        tokio::time::sleep(TELL).await;
        if known(node).is_none() {
            tracing::info!("a new check found the files of this member whole");
            node.gateway.stand_back(false);
            continue;
        }
        let others = ask(node).await;
        match enough(node, &others) {
            Ok(()) => {
                keep(&node.config.data, &words);
                return words;
            }
            Err(why) => go_on(node, &others, &words, why).await,
        }
    }
}

async fn wait_for_damage(node: &Node) -> String {
    let mut watch = node.scrubbing.damage.subscribe();
    loop {
        if let Some(words) = watch.borrow_and_update().clone() {
            return words;
        }
        if let Some(words) = node.store.database().damage() {
            return named_by_file(node, words).await;
        }
        // Whether it was noted, or time passed: it is looked above.
        let _ = tokio::time::timeout(LOOK, watch.changed()).await;
    }
}

/// RocksDB does not name a damaged blob file: it is looked for.
async fn named_by_file(node: &Node, words: String) -> String {
    if crate::raft::database::file_in(&words).is_some() {
        return words;
    }
    let (database, work) = (node.store.database(), node.config.data.join(WORK));
    let found = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&work).ok()?;
        let found = damaged_blob_file(&database, &work.join("named"));
        // Unless a check has its copies there.
        let _ = fs::remove_dir(&work);
        found
    });
    found.await.ok().flatten().unwrap_or(words)
}

/// After Raft itself has come upon damage: writes it down, if the others are enough without this member. If not, it
/// may be started again, perhaps by a build that reads what this one cannot.
pub async fn raft_has_ended(node: &Node, words: &str) {
    match enough(node, &ask(node).await) {
        Ok(()) => keep(&node.config.data, words),
        Err(why) => tracing::error!("this member ends by damage, and may be started again: {why}"),
    }
}

/// Writes down what is damaged, so that the node does not start beside it.
pub fn keep(data: &Path, words: &str) {
    let told = format!("{}: {words}\n", clock::in_japan(clock::now_ms()));
    if let Err(error) = write(&data.join(DAMAGED), told.as_bytes()) {
        tracing::error!(%error, "what is damaged could not be written down");
    }
}

/// Goes on in spite of damage: said, without leading or deciding where another voter can.
async fn go_on(node: &Node, others: &[Other], words: &str, why: String) {
    let is_news = node.scrubbing.goes_on_because().as_ref() != Some(&why);
    if is_news {
        tracing::error!("the files of this member are damaged, and it goes on: {why}. Damaged: {words}");
    }
    node.scrubbing.goes_on(why);
    let can_serve = others.iter().any(|other| other.votes && other.serves && other.damage.is_none());
    node.gateway.stand_back(can_serve);
    if can_serve
        && node.leads()
        && let Some(successor) = most_advanced(node)
        && others.iter().any(|other| other.id == successor && other.serves && other.damage.is_none())
    {
        tracing::warn!(successor, "the files of this leader are damaged: handing over leadership");
        let _ = node.raft.trigger().transfer_leader(successor).await;
    }
}

impl Scrubbing {
    fn goes_on(&self, why: String) {
        self.told().goes_on_because = why;
    }
}

/// Another member, as far as it matters whether this one may end.
#[derive(Debug, Clone)]
struct Other {
    id: u64,
    name: String,
    votes: bool,
    /// It answers, and has its keys, or this member has none either.
    serves: bool,
    /// What is damaged there; by its last answer, if it gives none now.
    damage: Option<String>,
}

async fn ask(node: &Node) -> Vec<Other> {
    let unsealed = node.gateway.vault.load().is_some();
    let asked = peers::others(node).into_iter().map(|(id, member)| async move {
        let answer = peers::hello(node, id, &member).await.ok();
        let serves = answer.as_ref().is_some_and(|reply| reply.unsealed || !unsealed);
        let last = answer.or_else(|| node.peers.heard(id).map(|heard| heard.reply));
        let damage = last.and_then(|reply| damage_told(reply.scrub.as_ref()));
        Other { id, votes: member.role == MemberRole::Voter, name: member.name, serves, damage }
    });
    join_all(asked).await
}

/// What a member says is damaged; builds that know no `damage` say so by the last check's result.
fn damage_told(scrub: Option<&v1::Scrub>) -> Option<String> {
    let scrub = scrub?;
    let words = if scrub.damage.is_empty() { &scrub.words } else { &scrub.damage };
    (!scrub.damage.is_empty() || scrub.result == FOUND_DAMAGE).then(|| words.clone())
}

fn enough(node: &Node, others: &[Other]) -> Result<(), String> {
    let own = node.member(node.id()).is_some_and(|member| member.role == MemberRole::Voter);
    enough_without(own, others)
}

/// Whether the others are enough without a member that is damaged; else why not.
fn enough_without(votes: bool, others: &[Other]) -> Result<(), String> {
    if let Some(other) = others.iter().find(|other| other.damage.is_some()) {
        let damage = other.damage.as_deref().unwrap_or_default();
        return Err(format!(
            "{} is damaged, too ({damage}); two at a time may have one cause that is no disk: the check, the build, or \
             what both were made from",
            other.name
        ));
    }
    let voters = others.iter().filter(|other| other.votes).count() + usize::from(votes);
    let left = others.iter().filter(|other| other.votes && other.serves).count();
    match 2 * left > voters {
        true => Ok(()),
        false => Err(format!("without it {left} of {voters} voters would serve, which is no majority")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::checks::{NOT_ENDED, WHOLE};
    use super::*;

    fn other(id: u64, serves: bool, damage: Option<&str>) -> Other {
        // The tenth and later ones are backups.
        Other { id, name: format!("member-{id}"), votes: id < 10, serves, damage: damage.map(str::to_owned) }
    }

    const ROT: Option<&str> = Some("000012.blob: a checksum");

    #[test]
    fn a_member_ends_only_if_a_majority_serves_without_it() {
        let well = |id| other(id, true, None);
        let silent = |id| other(id, false, None);
        assert_eq!(enough_without(true, &[well(2), well(3), silent(10)]), Ok(()));
        assert_eq!(enough_without(true, &[well(2), well(3), well(4), silent(5)]), Ok(()));
        assert_eq!(enough_without(false, &[well(2), silent(3), well(4)]), Ok(()), "a backup");
        for others in [vec![], vec![well(2)], vec![well(2), silent(3), well(10)], vec![silent(2), silent(3), well(10)]]
        {
            let why = enough_without(true, &others).unwrap_err();
            assert!(why.contains("no majority"), "{why}");
        }
        // The prefecture is gone: its backup is all that there is.
        assert!(enough_without(false, &[silent(1), silent(2), silent(3)]).is_err());
    }

    #[test]
    fn of_several_that_are_damaged_none_ends_but_the_first() {
        let well = |id| other(id, true, None);
        for damaged in [other(3, false, ROT), other(3, true, ROT), other(10, false, ROT)] {
            let name = damaged.name.clone();
            let why = enough_without(true, &[well(2), damaged, well(4), well(5)]).unwrap_err();
            assert!(why.contains(&name) && why.contains("000012.blob"), "{why}");
        }
    }

    #[test]
    fn what_was_found_survives_a_restart_until_a_check_finds_all_whole() {
        let data = tempfile::tempdir().unwrap();
        let scrubbing = Scrubbing::read(data.path());
        assert_eq!(scrubbing.damage(), None);
        scrubbing.note_damage(data.path(), "000012.blob: a checksum");
        let again = Scrubbing::read(data.path());
        assert_eq!(again.damage().as_deref(), ROT);
        again.ends(data.path(), NOT_ENDED, "too little space is free".into(), 0);
        assert_eq!(again.damage().as_deref(), ROT, "that was no word on anything");
        assert_eq!(Scrubbing::read(data.path()).damage().as_deref(), ROT);
        again.ends(data.path(), WHOLE, String::new(), 9);
        assert_eq!((again.damage(), Scrubbing::read(data.path()).damage()), (None, None));
    }
    #[test]
    fn checks_on_request_keep_a_pause_and_join_one_that_is_under_way() {
        let data = tempfile::tempdir().unwrap();
        let scrubbing = Scrubbing::read(data.path());
        assert!(scrubbing.ask(10).is_ok_and(|told| told.running && told.waiting));
        assert!(scrubbing.ask(10).is_ok(), "it is under way");
        scrubbing.ends(data.path(), NOT_ENDED, "too little space is free".into(), 0);
        assert!(scrubbing.ask(10).is_ok(), "nothing was checked");
        scrubbing.ends(data.path(), WHOLE, String::new(), 9);
        for scrubbing in [&scrubbing, &Scrubbing::read(data.path())] {
            let why = scrubbing.ask(10).unwrap_err();
            assert!(why.contains("scrub.asked_minutes") && why.contains("again in 10 min"), "{why}");
            assert!(!scrubbing.told().running);
        }
        assert!(scrubbing.ask(0).is_ok());
    }
}
