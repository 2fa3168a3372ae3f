//! The plan of a take-over: what survives, ranked; what may be lost; what has to be fenced. A file (JSON) that
//! `apply` holds against what is there then.
//!
//! Invariant: what is not known is told as unknown; nothing is made up from what happens to be there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::found::{self, Found, FoundError, Known, Place};

/// The form of a plan's file.
const FORMAT: u32 = 1;
/// Things that a plan looks at, at most.
pub const SOURCES_MAX: usize = 64;

/// Why there is no plan, or one is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// See [`FoundError`].
    #[error(transparent)]
    Found(#[from] FoundError),
    /// Nothing was named, or too much.
    #[error("name 1 to {SOURCES_MAX} data directories or archives")]
    Sources,
    /// Two of another cluster each.
    #[error("{one} and {other} are of different clusters: make a plan for one of them")]
    OtherCluster {
        /// One.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Nothing that a take-over can begin from.
    #[error("only archives survive: `kura restore` begins from them")]
    OnlyArchives,
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no plan of this version.
    #[error("{path} is not a plan that this version knows")]
    Form {
        /// Which file.
        path: PathBuf,
    },
    /// Something is not as the plan has seen it.
    #[error("{path} has changed since the plan was made: make a new plan and look at it again")]
    Changed {
        /// What.
        path: PathBuf,
    },
}

/// How far others said that the survivor was, before the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The log index that monitoring had as the last replication point.
    pub index: u64,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    format: u32,
    /// When it was made, by this machine's clock.
    pub made_ms: u64,
    /// The name that `apply` wants typed.
    pub cluster_name: String,
    /// Hexadecimal.
    pub cluster_id: String,
    /// What survives, the best first and what is unusable last. `apply` begins from the first that is no archive.
    pub found: Vec<Found>,
    /// Who may still live somewhere: every member but those whose directories are here.
    pub fence: Vec<Known>,
    /// Entries of the best that were not known to be committed, at its end.
    pub unconfirmed: u64,
    /// The last replication point that somebody had seen; `None`: UNKNOWN.
    pub published: Option<Published>,
}

impl Plan {
    /// Looks at everything and ranks it. `storage` is the file that says how `s3://` is reached; `scratch` is an own
    /// directory, empty afterwards.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn make(
        sources: &[PathBuf],
        storage: Option<&Path>,
        published: Option<u64>,
        scratch: &Path,
        now_ms: u64,
    ) -> Result<Plan, PlanError> {
        if !(1..=SOURCES_MAX).contains(&sources.len()) {
            return Err(PlanError::Sources);
        }
        let mut found = Vec::new();
        for source in sources {
            found.push(found::look(source, storage, scratch).await?);
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.rank()));
        let first = &found[0];
        if let Some(other) = found.iter().find(|other| other.cluster_id != first.cluster_id) {
            return Err(PlanError::OtherCluster { one: first.path.clone(), other: other.path.clone() });
        }
        let best = found.iter().find(|one| !one.is_archive()).ok_or(PlanError::OnlyArchives)?;
        let here = |known: &&Known| !found.iter().any(|one| one.name == known.name);
        Ok(Plan {
            format: FORMAT,
            made_ms: now_ms,
            cluster_name: best.cluster_name.clone(),
            cluster_id: best.cluster_id.clone(),
            fence: best.members.iter().filter(here).cloned().collect(),
            unconfirmed: best.last.index.saturating_sub(best.committed.index),
            published: published.map(|index| Published { index }),
            found,
        })
    }

    /// What `apply` begins from.
    pub fn best(&self) -> &Found {
        self.found.iter().find(|one| !one.is_archive()).unwrap_or(&self.found[0])
    }

    /// An archive that holds more than the best directory.
    pub fn archive_ahead(&self) -> Option<&Found> {
        self.found.iter().take_while(|one| one.is_archive()).next()
    }

    /// Entries that were beyond the best survivor's end already when the replication point was published.
    pub fn missing_below_published(&self) -> Option<u64> {
        self.published.map(|published| published.index.saturating_sub(self.best().last.index))
    }

    /// Holds it against what is there now.
    ///
    /// # Errors
    /// [`PlanError::Changed`], or what kept it from looking.
    pub async fn check(&self) -> Result<(), PlanError> {
        for one in &self.found {
            match found::fingerprint(one).await {
                Ok(now) if now == one.fingerprint => {}
                Ok(_) => return Err(PlanError::Changed { path: one.path.clone() }),
                Err(FoundError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(PlanError::Changed { path: one.path.clone() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes it into a new file.
    ///
    /// # Errors
    /// [`PlanError::File`], also if there is one already.
    pub fn write(&self, path: &Path) -> Result<(), PlanError> {
        use std::io::Write;
        let failed = |source| PlanError::File { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let mut file = std::fs::File::create_new(path).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`PlanError::File`] and [`PlanError::Form`].
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let bytes = std::fs::read(path).map_err(|source| PlanError::File { path: path.to_owned(), source })?;
        let plan: Option<Plan> = serde_json::from_slice(&bytes).ok();
        let is_whole = |plan: &Plan| plan.format == FORMAT && plan.found.iter().any(|one| !one.is_archive());
        plan.filter(is_whole).ok_or_else(|| PlanError::Form { path: path.to_owned() })
    }
}

/// A place in words, for tables.
pub fn words(place: Place) -> String {
    format!("{}.{}", place.term, place.index)
}
