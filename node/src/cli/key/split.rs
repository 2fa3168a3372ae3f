//! `kura key split`: on a voter's machine, with every holder present.
//!
//! The root key comes from the voter's own provider, or from the shares of present holders: whoever can run this
//! could read the key anyway. Shares are shown to their holder, one after the other, and read back. Only when
//! all of them were is the set recorded; a registrar then confirms it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kura_client::wire;
use kura_cluster::seal::Key;
use kura_cluster::share::{HOLDERS_MAX, Share, THRESHOLD_MIN, split};
use kura_cluster::{ClusterId, hexadecimal};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::acting::ClientOption;
use super::super::exit::{Exit, Failure, chain};
use super::super::given::configuration;
use super::super::output::{Output, note};
use super::ask;
use crate::certificates::Role;
use crate::config::NodeConfig;
use crate::custody::Custody;
use crate::random;

/// How often a holder may try to read the share back.
const TRIES: u32 = 3;
/// Words on a line of a shown share.
const WORDS_PER_LINE: usize = 4;

/// Options of `kura key split`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration of the voter of this machine.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How many shares restore the key.
    #[arg(long, value_name = "K")]
    threshold: u8,
    /// How many holders there are.
    #[arg(long, value_name = "N")]
    holders: u8,
    /// Restore the root key from shares of present holders, instead of reading it from the voter's provider.
    #[arg(long)]
    from_shares: bool,
    #[command(flatten)]
    client: ClientOption,
}

#[derive(Debug, Serialize)]
struct Done {
    fingerprint: String,
    threshold: u8,
    holders: usize,
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let range = THRESHOLD_MIN..=HOLDERS_MAX;
    if !range.contains(&arguments.threshold) || !(arguments.threshold..=HOLDERS_MAX).contains(&arguments.holders) {
        return Err(Failure::usage(format!(
            "--threshold is {THRESHOLD_MIN} or more, --holders {HOLDERS_MAX} or fewer and not fewer than --threshold"
        )));
    }
    let stdout = std::io::stdout();
    ask::no_file(&stdout, "standard output")?;
    arguments.client.must_be(Role::Operator)?;
    let config = configuration(&arguments.config)?;
    let keys = arguments.client.connect().await?.keys();
    let status = keys.status().await?;
    let cluster = ClusterId::from_slice(&status.cluster_id).map_err(Failure::failed)?;
    let root = root_key(&arguments, &config, &status, &cluster).await?;
    let (set, shares) =
        split(&root, &cluster, arguments.threshold, arguments.holders, random::fill).map_err(Failure::usage)?;
    let shown = stdout.is_terminal() && std::io::stdin().is_terminal();
    for share in &shares {
        hand_out(share, shares.len(), shown).await?;
    }
    let ask = wire::RecordSharesRequest {
        threshold: u32::from(set.threshold),
        root_check_value: set.root_check_value.to_vec().into(),
        share_check_values: set.share_check_values.iter().map(|value| value.to_vec().into()).collect(),
        proof: set.proof(&cluster, &root).to_vec().into(),
    };
    drop((root, shares));
    let reply = keys.record_shares(ask).await?;
    let done = Done { fingerprint: hexadecimal(&reply.fingerprint), threshold: set.threshold, holders: set.holders() };
    output.thing(
        &done,
        &[
            ("shares", done.fingerprint.clone()),
            ("restore the key", format!("{} of {}", done.threshold, done.holders)),
            ("next", format!("a registrar: kura key confirm {}", done.fingerprint)),
        ],
    )
}

/// The root key that is to be split: the next one, if a rotation has drawn one, else the present one.
async fn root_key(
    arguments: &Arguments,
    config: &NodeConfig,
    status: &wire::KeyStatusReply,
    cluster: &ClusterId,
) -> Result<Arc<Key>, Failure> {
    let drawn = status.rotation.as_ref().map(|rotation| &rotation.next_check_value).filter(|value| !value.is_empty());
    let wanted = drawn.unwrap_or(&status.root_check_value);
    let custody = Custody::new(*cluster, config.root_key.as_ref(), &config.data);
    let failed = |error: crate::vault::VaultError| Failure::failed(chain(&error));
    let mut keys = match arguments.from_shares {
        true => vec![Arc::new(gather(status, cluster).await?)],
        false => custody.candidates().map_err(failed)?,
    };
    if let Some(present) = keys.first().cloned()
        && let Some(next) = custody.next_under(&present).map_err(failed)?
    {
        keys.push(next.key);
    }
    keys.into_iter().find(|key| key.check_value()[..] == wanted[..]).ok_or_else(|| {
        let what = if drawn.is_some() { "the next root key" } else { "the present root key" };
        Failure::new(Exit::NotFound, format!("{what} is not at hand on this machine"))
            .next("run this on a voter that has it, as a user who may read it; or with --from-shares")
    })
}

/// Restores the present root key from shares that their holders type.
async fn gather(status: &wire::KeyStatusReply, cluster: &ClusterId) -> Result<Key, Failure> {
    let set = status.sets.iter().find(|set| set.present).and_then(super::read);
    let set = set.ok_or_else(|| Failure::new(Exit::NotFound, "no shares restore the present root key"))?;
    ask::gather_set(cluster, set).await
}

/// Shows a share to its holder and has it read back.
async fn hand_out(share: &Share, holders: usize, shown: bool) -> Result<(), Failure> {
    let words = share.to_words();
    let mut text = Zeroizing::new(String::with_capacity(2 * words.len() + 512));
    if shown {
        note(&format!("Holder {} of {holders}: write these words down, in order, on paper.", share.index));
        let words: Vec<&str> = words.split(' ').collect();
        for (row, line) in words.chunks(WORDS_PER_LINE).enumerate() {
            for (column, word) in line.iter().enumerate() {
                text.push_str(&format!("{:>4} ", row * WORDS_PER_LINE + column + 1));
                text.push_str(word);
                // Padding, not formatting: no copy of a word is made.
                (word.len()..9).for_each(|_| text.push(' '));
            }
            text.push('\n');
        }
    } else {
        text.push_str(&format!("share {} of {holders}: ", share.index));
        text.push_str(&words);
        text.push('\n');
    }
    print(&text)?;
    if shown {
        note("Press Enter when they are written down: they disappear, and are asked for.");
        ask::enter().await?;
        // The screen and what can be scrolled back to.
        print("\x1b[2J\x1b[3J\x1b[H")?;
    }
    for left in (0..TRIES).rev() {
        let read = ask::text(&format!("holder {}, the words as they are written down", share.index)).await?;
        let wrong = match Share::from_words(&read) {
            Ok(read) if read == *share => return Ok(()),
            Ok(_) => "this is another share".to_owned(),
            Err(error) => error.to_string(),
        };
        note(&format!("{wrong}; {left} tries are left"));
    }
    Err(Failure::new(
        Exit::Damaged,
        format!("holder {} did not read the share back: nothing was recorded", share.index),
    )
    .next("destroy what was written down and split again"))
}

fn print(text: &str) -> Result<(), Failure> {
    // Past the standard library's buffer, which would keep a copy.
    let out = std::io::stdout();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&out, rest));
        let written = written.map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))?;
        rest = &rest[written..];
    }
    Ok(())
}
