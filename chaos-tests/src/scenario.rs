//! Scenarios: one course of events each, and what must come of it, on a cluster apart.
//!
//! The nemesis draws faults and lets them meet the load wherever it is. A scenario sets one fault at the moment that
//! matters, and asks for what follows within its documented bound.
//!
//! Invariants
//! - What is drawn (who is cut off, when) follows from the seed, which is printed; timing is not repeated.
//! - A scenario that could not be set up, or did not come to its moment, is an error and no pass.

pub mod cut_download;
pub mod restored;

use std::path::Path;

use crate::cluster::ClusterError;
use crate::history::HistoryError;
use crate::load::LoadError;
use crate::nemesis::{self, Kind};
use crate::site::tool::ToolError;

/// Which course of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// [`cut_download`].
    CutDownload,
    /// [`restored`].
    Restored,
}

/// Why a scenario is no pass.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program of the system.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The participants and their load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It did not come to its moment.
    #[error("it did not come about: {0}")]
    Setup(String),
    /// What is promised does not hold.
    #[error("BROKEN: {0}")]
    Broken(String),
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CutDownload, Self::Restored];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::CutDownload => "cut-download",
            Self::Restored => "restored",
        }
    }

    /// The scenario of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.word() == word)
    }

    /// Why it cannot be run here, if it cannot.
    pub fn not_run(self) -> Option<String> {
        nemesis::not_run(&[Kind::CutLeader], false).pop().map(|told| told.why)
    }

    /// Runs it in a directory, in this process's namespaces. `say` is told each step.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub async fn run(self, seed: u64, directory: &Path, say: &dyn Fn(&str)) -> Result<(), ScenarioError> {
        match self {
            Self::CutDownload => cut_download::run(seed, directory, say).await,
            Self::Restored => restored::run(seed, directory, say).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_word_of_its_own() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::of(scenario.word()), Some(scenario));
        }
        assert_eq!(Scenario::of("rain"), None);
    }
}
