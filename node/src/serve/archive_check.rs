//! When the archive that this member writes is checked, and what such a check found last.
//!
//! Invariants
//! - The last result survives restarts, beside the data and as a note in the archive itself, for those who have only
//!   that. The note is not signed: it says when to look, not what to believe.
//! - A check holds nothing up: it reads at its own pace, and what it finds is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kura_proto::v1;

use super::checks::{self, FOUND_DAMAGE, NOT_ENDED, Rule, WHOLE};
use crate::archive::check::{CheckError, Found, Mends, Pace, check};
use crate::archive::signers::Signers;
use crate::archive::{ArchiveStore, ArchiveTold};
use crate::clock;
use crate::config::ArchiveConfig;

/// `result` of checks that are switched off.
pub const OFF: u32 = 4;
/// The last result, below `data`.
const RESULT: &str = "archive-check";
/// Between two looks whether a check is due, or overdue.
const LOOK: Duration = Duration::from_secs(2);

/// What a check of an archive says to people; none: nothing.
pub fn alarm(check: &v1::Scrub) -> Option<String> {
    if check.result == FOUND_DAMAGE {
        return Some(format!("the archive is DAMAGED: {}", check.words));
    }
    Some(check.overdue.clone()).filter(|words| !words.is_empty())
}

/// Checks when it is due, for ever.
pub(super) async fn follow(
    told: Arc<ArchiveTold>,
    store: ArchiveStore,
    signers: Arc<Signers>,
    mends: Mends,
    config: ArchiveConfig,
    data: PathBuf,
) {
    let path = data.join(RESULT);
    if config.check_every_hours == 0 {
        told.check().result = OFF;
        return std::future::pending().await;
    }
    let kept = checks::read(&path);
    *told.check() = kept;
    let rule = Rule {
        what: "its archive was",
        setting: "archive.check_every_hours",
        every_hours: config.check_every_hours,
        next: "see its log",
    };
    let judge = async {
        loop {
            rule.judge(&path, &mut told.check(), clock::now_ms());
            tokio::time::sleep(LOOK).await;
        }
    };
    let follow = async {
        loop {
            tokio::time::sleep(LOOK).await;
            // Nothing is there before the writer's first manifest.
            let is_due = checks::is_due(&told.check(), config.check_every_hours, clock::now_ms());
            if !is_due || told.point().is_none() {
                continue;
            }
            {
                let mut now = told.check();
                (now.running, now.bytes_done, now.bytes_total) = (true, 0, 0);
            }
            let tell = |bytes| told.check().bytes_done = bytes;
            let pace = Pace::new(config.check_mib_per_second << 20, &tell);
            ends(&told, &store, &path, check(&store, &signers, &mends, pace).await).await;
        }
    };
    tokio::join!(judge, follow);
}

async fn ends(told: &ArchiveTold, store: &ArchiveStore, path: &std::path::Path, checked: Result<Found, CheckError>) {
    let ended = {
        let mut now = told.check();
        let before = now.clone();
        *now = match checked {
            Ok(found) => {
                let result = if found.faults == 0 { WHOLE } else { FOUND_DAMAGE };
                tracing::info!(
                    objects = found.objects,
                    bytes = found.bytes,
                    mended = found.mended,
                    faults = found.faults,
                    "the archive is checked"
                );
                checks::ended(&before, result, in_words(&found), found.index, found.bytes)
            }
            Err(error) => {
                tracing::warn!(%error, "the archive could not be checked");
                let mut ended = checks::ended(&before, NOT_ENDED, error.to_string(), 0, before.bytes_done);
                // That is no word on anything: what was found stays found.
                if before.result == FOUND_DAMAGE {
                    (ended.result, ended.words) = (FOUND_DAMAGE, before.words);
                }
                ended
            }
        };
        now.clone()
    };
    checks::keep(path, &ended);
    if let Err(error) = store.replace(crate::archive::check::NOTE, checks::encode(&ended).into()).await {
        tracing::warn!(%error, "the note of the archive's check could not be written into it");
    }
}

fn in_words(found: &Found) -> String {
    let mut words = Vec::new();
    if found.faults > 0 {
        words.push(format!("{} objects are damaged or missing", found.faults));
    }
    if found.mended > 0 {
        words.push(format!("{} objects were, and are made again", found.mended));
    }
    words.extend(found.words.iter().cloned());
    let left = (found.faults + found.mended).saturating_sub(found.words.len() as u64);
    if left > 0 {
        words.push(format!("and {left} more: `kura archive verify` names all"));
    }
    words.join("; ")
}
