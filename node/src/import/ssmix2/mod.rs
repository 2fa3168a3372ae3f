//! `kura import ssmix2`: an SS-MIX2 standard storage.
//!
//! Invariants
//! - A message whose PID-3 is not the patient of its path is set aside, and stored under neither.
//! - Files that differ only in moment and flag are versions of one record, oldest first; a later one
//!   is never followed by an earlier one.
//! - A record whose newest message is deleted, or past without a live successor, is hidden. It is
//!   shown again only by a new live version, and only where a deletion stands in the storage: what a
//!   person hid stays hidden.
//! - Bodies are the files, byte for byte, in the character set in which they lie.

mod chain;
pub(crate) mod message;
pub(crate) mod name;
mod tree;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::participants::Unfound;
use super::report::{Line, Report};
use super::stored::Stored;
use super::write::Refusal;
use super::{Done, Import, drive};
use crate::cli::{Failure, Progress};
use crate::folder::PatientId;
use chain::{Whose, store};
use tree::Patient;

/// Imports a storage.
///
/// # Errors
/// Why the run stopped before its end; what was stored until then is stored.
pub async fn run(import: Arc<Import>, report: &mut Report, progress: &Progress) -> Result<(), Failure> {
    drive(import, walk, work, report, progress).await
}

/// Files of a storage, for the progress bar: names are looked at, nothing is opened.
pub fn count(root: &Path) -> u64 {
    let mut count = 0;
    tree::patients(root, |found| {
        count += match found {
            Ok(patient) => {
                let (chains, lines) = tree::files(&patient);
                chains.values().map(Vec::len).sum::<usize>() + lines.len()
            }
            Err(lines) => lines.len(),
        } as u64;
        true
    });
    count
}

fn walk(import: &Import, units: &mpsc::Sender<Result<Patient, Vec<Line>>>) {
    tree::patients(&import.directory, |found| units.blocking_send(found).is_ok());
}

async fn work(import: Arc<Import>, unit: Result<Patient, Vec<Line>>) -> Done {
    let patient = match unit {
        Ok(patient) => patient,
        Err(lines) => return Done { lines, stop: None },
    };
    let listed = {
        let patient = patient.clone();
        tokio::task::spawn_blocking(move || tree::files(&patient)).await
    };
    let (chains, lines) = match listed {
        Ok(listed) => listed,
        Err(error) => return Done { lines: Vec::new(), stop: Some(Failure::failed(error)) },
    };
    let mut done = Done { lines, stop: None };
    let mut whose = None;
    for chain in chains.into_values() {
        // Nobody is looked up for a patient all of whose messages are set aside.
        let (sound, set_aside) = chain::sound(chain, &patient.id).await;
        done.lines.extend(set_aside.iter().map(|(line, _)| line.clone()));
        if sound.is_empty() {
            continue;
        }
        if whose.is_none() {
            match find(&import, &patient.id).await {
                Ok(found) => whose = Some(found),
                Err(failure) => {
                    done.stop = Some(failure);
                    return done;
                }
            }
        }
        match &whose {
            Some(Ok(whose)) => {
                let stored = store(&import.acting, whose, &patient.id, sound, &set_aside).await;
                done.lines.extend(stored.lines);
                if stored.stop.is_some() {
                    done.stop = stored.stop;
                    return done;
                }
            }
            Some(Err(refusal)) => {
                done.lines.extend(sound.into_iter().map(|e| refusal.clone().line(&e.relative, e.bytes)));
            }
            None => {}
        }
    }
    done
}

async fn find(import: &Import, patient: &str) -> Result<Result<Whose, Refusal>, Failure> {
    let ids = [PatientId::local(patient)];
    let number = match import.participants.find(&import.acting, &ids, None).await {
        Ok(number) => number,
        Err(Unfound::Refusal(refusal)) => return Ok(Err(refusal)),
        Err(Unfound::Stop(failure)) => return Err(failure),
    };
    let stored = Stored::load(&import.acting, &number, &import.facility).await?;
    Ok(Ok(Whose::new(number, &stored)))
}

#[cfg(test)]
mod tests;
