//! `kura audit head` and `kura audit verify`: whether the journal is what it was.
//!
//! Without a key the structure is checked: every sealed entry is fetched, its leaf hashed, the root computed and
//! compared with the head's, which must begin with an older head. An auditor's certificate adds the content:
//! that the cluster opens every entry, and skips none.

use std::path::PathBuf;

use clap::Args;
use kura_client::{Client, Journal, JournalHead, ListError};
use kura_cluster::hexadecimal;
use kura_cluster::seal::row::peek_header;
use kura_cluster::tree::{Peaks, leaf_hash};
use serde::Serialize;

use super::signed::{self, KeySha256, Signed};
use crate::cli::acting::ClientOption;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files::unmade;
use crate::cli::given::head as kept_head;
use crate::cli::output::{Output, Progress, bytes, note};

/// Between two looks of the progress at where it is.
const TOLD_EVERY: u64 = 1_000;

/// Options of `kura audit head`.
#[derive(Debug, Args)]
pub struct HeadArguments {
    /// Hold it against the head in this file, if there is one, and put it in its place.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    client: ClientOption,
}

/// Options of `kura audit verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// An older head (of `kura audit head`): the journal must begin with it, and only what came since is
    /// fetched. Everything is fetched otherwise.
    #[arg(long, value_name = "HEAD_FILE")]
    from: Option<PathBuf>,
    /// Have every entry opened, too; takes an auditor's client configuration. Journalled.
    #[arg(long)]
    content: bool,
    /// A member with this key (SHA-256, hexadecimal) must have signed a head that the journal begins with. Can
    /// be given more than once.
    #[arg(long, value_name = "SHA256")]
    signed_by: Vec<KeySha256>,
    #[command(flatten)]
    client: ClientOption,
}

#[derive(Debug, Serialize)]
struct HeadTold {
    head: JournalHead,
    size: u64,
    root: String,
    timeline: u64,
    index: u64,
    /// Entries of the older head that it was held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Verified {
    head: JournalHead,
    /// Entries fetched and hashed: all since this position.
    from: u64,
    entries: u64,
    sealed_bytes: u64,
    /// Entries that the cluster opened; none if that was not asked for.
    opened: Option<u64>,
    /// Heads that members signed, and that the journal begins with.
    signed: Vec<Signed>,
}

async fn journal(client: &ClientOption) -> Result<(Client, Journal), Failure> {
    let client = client.connect().await?;
    let journal = client.journal();
    Ok((client, journal))
}

/// Runs `kura audit head`.
pub async fn head(arguments: HeadArguments, output: Output) -> Result<(), Failure> {
    let HeadArguments { file, client } = arguments;
    let older = file.as_deref().filter(|path| path.exists()).map(|path| kept_head("--file", path)).transpose()?;
    let (_client, journal) = journal(&client).await?;
    let head = journal.head().await?;
    if let Some(older) = &older {
        journal.continues(older, &head).await?;
    }
    if let Some(path) = &file {
        let kept = head.keep(path, older.as_ref());
        if !kept.map_err(|error| unmade("--file", path, &error))? {
            note(&format!("another process put a newer head into {} meanwhile: that one stays", path.display()));
        }
    }
    let told = HeadTold {
        head,
        size: head.size(),
        root: hexadecimal(head.root()),
        timeline: head.timeline(),
        index: head.index(),
        continues: older.map(|older| older.size()),
    };
    let mut fields = vec![
        ("entries", told.size.to_string()),
        ("root", told.root.clone()),
        ("timeline", told.timeline.to_string()),
        ("index", told.index.to_string()),
        ("head", head.to_string()),
    ];
    if let Some(size) = told.continues {
        fields.push(("begins with", format!("the {size} entries of the former head, unchanged")));
    }
    output.thing(&told, &fields)
}

/// Runs `kura audit verify`.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { from, content, signed_by, client } = arguments;
    let older = from.as_deref().map(|path| kept_head("--from", path)).transpose()?;
    let (client, journal) = journal(&client).await?;
    let (head, signed) = signed::check(&client, &journal, &signed_by).await?;
    let peaks = match &older {
        Some(older) => {
            let peaks = journal.continues(older, &head).await?;
            let peaks = Peaks::from_parts(older.size(), peaks);
            peaks.ok_or_else(|| Failure::new(Exit::Damaged, "the older head's subtrees do not fit its size"))?
        }
        None => Peaks::default(),
    };
    let from = peaks.size();
    let (entries, sealed_bytes) = check_structure(&journal, peaks, &head).await?;
    let opened = if content { Some(check_content(&journal, from, &head).await?) } else { None };
    let told = Verified { head, from, entries, sealed_bytes, opened, signed };
    let mut fields = vec![
        ("entries", format!("{} in the journal", head.size())),
        ("fetched", format!("{entries} from position {from} on, {}", bytes(sealed_bytes))),
        ("root", format!("{}, as computed from them", hexadecimal(head.root()))),
    ];
    if let Some(older) = &older {
        fields.push(("begins with", format!("the {} entries of the older head, unchanged", older.size())));
    }
    for one in &told.signed {
        let by = one.member.as_ref().map_or("no member known here".into(), |member| member.name.clone());
        fields.push(("signed", format!("{} entries, by {by}, key {}", one.size, one.key_sha256)));
    }
    fields.push(("content", opened.map_or("not looked at".into(), |opened| format!("{opened} entries opened"))));
    fields.push(("head", head.to_string()));
    output.thing(&told, &fields)?;
    if older.is_none() {
        note("keep the head: whoever holds one can demand later that nothing before it was changed");
    }
    Ok(())
}

/// Fetches every sealed entry since `peaks` and computes the root.
async fn check_structure(journal: &Journal, mut peaks: Peaks, head: &JournalHead) -> Result<(u64, u64), Failure> {
    let progress = Progress::spinner();
    let mut sealed = journal.sealed(peaks.size(), head.size());
    let (mut entries, mut sealed_bytes) = (0_u64, 0);
    while let Some(entry) = sealed.next().await {
        let entry = entry?;
        if entries.is_multiple_of(TOLD_EVERY) {
            progress.say(format!("entry {} of {}", peaks.size(), head.size()));
        }
        if peek_header(&entry).is_err() {
            return Err(Failure::new(Exit::Damaged, format!("entry {} is no sealed row", peaks.size())));
        }
        peaks.append(leaf_hash(&entry), |_| {});
        entries += 1;
        sealed_bytes += entry.len() as u64;
    }
    if (peaks.size(), peaks.root()) != (head.size(), head.root()) {
        return Err(Failure::new(
            Exit::Damaged,
            format!(
                "the journal's {} entries have the root {}, the head says {} entries with the root {}",
                peaks.size(),
                hexadecimal(peaks.root()),
                head.size(),
                hexadecimal(head.root())
            ),
        )
        .next("compare with another member (a client configuration with that one endpoint)"));
    }
    Ok((entries, sealed_bytes))
}

/// Has every entry since a position opened: none may be missing.
async fn check_content(journal: &Journal, from: u64, head: &JournalHead) -> Result<u64, Failure> {
    if from == head.size() {
        return Ok(0);
    }
    let progress = Progress::spinner();
    let mut opened = journal.list().starting_at(from).before(head.size()).stream();
    let mut next = from;
    while let Some(access) = opened.next().await {
        let access = access.map_err(|error| match error {
            ListError::Broken(_) => {
                Failure::new(Exit::Damaged, format!("an entry from position {next} on does not open: {error}"))
            }
            other => other.into(),
        })?;
        if access.journal_position != next {
            return Err(Failure::new(Exit::Damaged, format!("the opened journal lacks entry {next}")));
        }
        if next.is_multiple_of(TOLD_EVERY) {
            progress.say(format!("entry {next} of {} opened", head.size()));
        }
        next += 1;
    }
    match next == head.size() {
        true => Ok(next - from),
        false => Err(Failure::new(Exit::Damaged, format!("the opened journal ends before entry {next}"))),
    }
}
