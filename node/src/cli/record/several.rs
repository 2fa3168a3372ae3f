//! `kura record get … --to DIR`: several records into a directory.
//!
//! Invariant: a record's file, or directory of parts, has its name only if all of it is there.

use std::path::{Path, PathBuf};

use kura_client::{GetError, GetSeveral, OneOfSeveral, RecordId, SeveralRecord};
use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::cli::exit::{Exit, Failure};
use crate::cli::files::{self, Unfinished, unwritten};
use crate::cli::output::{Output, Progress, bytes};
use crate::cli::record::list::{DOES_NOT_OPEN, whole};
use crate::export::{PART_NAME_MAX, ending, safe};

#[derive(Debug, Serialize)]
struct Told {
    record: RecordId,
    /// Its file or directory; none if it was refused or does not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    bytes: u64,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Whether it is stored and does not open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
}

/// Runs it. Records that are refused or do not open are told, and make the command fail once all others are there.
pub async fn run(get: GetSeveral, to: &Path, output: Output) -> Result<(), Failure> {
    let was_there = to.exists();
    files::folder("--to", to)?;
    let mut several = match get.await {
        Ok(several) => several,
        Err(error) => {
            // Nothing was handed out: a folder made for it goes again.
            if !was_there {
                let _ = std::fs::remove_dir(to);
            }
            return Err(error.into());
        }
    };
    let progress = Progress::bytes();
    let mut told = Vec::new();
    while let Some(one) = several.next().await {
        let none = |record| Told { record, path: None, bytes: 0, refused: None, damaged: false };
        told.push(match one? {
            OneOfSeveral::Refused(refused) => {
                let why = refused.reason.unwrap_or_else(|| "no consent covers this".into());
                Told { refused: Some(why), ..none(refused.record) }
            }
            OneOfSeveral::Damaged(damaged) => Told { damaged: true, ..none(damaged.record) },
            OneOfSeveral::Record(mut record) => {
                let (id, length) = (record.summary().record, record.summary().bytes);
                let temporary = Unfinished(to.join(format!("{id}.{}.part", std::process::id())));
                match save(&mut record, to, &temporary.0, &progress).await? {
                    Some(saved) => Told { bytes: length, path: Some(saved), ..none(id) },
                    None => Told { damaged: true, ..none(id) },
                }
            }
        });
    }
    drop(progress);
    let refused = told.iter().filter(|one| one.refused.is_some()).count();
    output.list(&told, &["record", "size", "in"], |one| {
        let place = one.path.as_ref().map(|path| path.display().to_string());
        let place = place.unwrap_or_else(|| match &one.refused {
            Some(why) => format!("refused: {why}"),
            None => DOES_NOT_OPEN.into(),
        });
        vec![one.record.to_string(), bytes(one.bytes), place]
    })?;
    // What is damaged weighs more than what was refused.
    let damaged = told.iter().filter(|one| one.damaged).count();
    whole(damaged as u64, told.len() as u64, "record")?;
    let words = || format!("{refused} of {} records were refused", told.len());
    match refused {
        0 => Ok(()),
        all if all == told.len() => Err(Failure::new(Exit::Denied, words())),
        _ => Err(Failure::new(Exit::Partly, words())),
    }
}

/// Its path; none if it does not open to its end.
async fn save(
    record: &mut SeveralRecord<'_>,
    to: &Path,
    temporary: &Path,
    progress: &Progress,
) -> Result<Option<PathBuf>, Failure> {
    let (id, parts) = (record.summary().record, record.parts().to_vec());
    let (path, mut files) = match &parts[..] {
        [part] => {
            let media_type = if part.media_type.is_empty() { &record.summary().media_type } else { &part.media_type };
            (to.join(format!("{id}{}", ending(media_type))), vec![(temporary.to_owned(), part.bytes)])
        }
        _ => {
            files::folder("--to", temporary)?;
            let file = |(place, part): (usize, &kura_client::Part)| {
                let name: String = part.name.chars().take(PART_NAME_MAX).collect();
                (temporary.join(format!("{}-{}{}", place + 1, safe(&name), ending(&part.media_type))), part.bytes)
            };
            (to.join(id.to_string()), parts.iter().enumerate().map(file).collect())
        }
    };
    files.reverse();
    let mut open: Option<(File, u64)> = None;
    let mut chunk = bytes::Bytes::new();
    loop {
        // Also makes the files of parts without bytes.
        while let Some((_, 0)) | None = open.as_ref().map(|(file, left)| (file, *left)) {
            if let Some((file, _)) = open.take() {
                file.sync_all().await.map_err(|error| unwritten(temporary, &error))?;
            }
            let Some((path, length)) = files.pop() else { break };
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
            let file = file.map_err(|error| unwritten(&path, &error))?;
            open = Some((file, length));
        }
        if chunk.is_empty() {
            match record.chunk().await {
                Ok(Some(further)) => chunk = further,
                Ok(None) => break,
                Err(GetError::Damaged(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let Some((file, left)) = &mut open else {
            return Err(Failure::new(Exit::Damaged, "more bytes came than the parts have"));
        };
        let piece = chunk.split_to(chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
        file.write_all(&piece).await.map_err(|error| unwritten(temporary, &error))?;
        *left -= piece.len() as u64;
        progress.add(piece.len() as u64);
    }
    // An earlier run's is replaced, as `--out` replaces a file.
    if path.is_dir() {
        tokio::fs::remove_dir_all(&path).await.map_err(|error| unwritten(&path, &error))?;
    }
    tokio::fs::rename(temporary, &path).await.map_err(|error| unwritten(&path, &error))?;
    Ok(Some(path))
}
