//! What people say when they start a node, and why it did not start or has stopped.

use kura_client::tls::TlsFileError;

use crate::certificates::TlsLoadError;
use crate::identity::IdentityFileError;
use crate::raft::open::OpenError;
use crate::signature::AuthoritiesError;
use crate::state::DatabaseError;

/// What people say of other clusters of this id, when a node is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// The former cluster is to be ended at the first start on a new timeline, although it may live. Without this a
    /// majority of its voters that answers keeps the node from starting.
    pub end_former: bool,
    /// The other cluster on this timeline has ended: the note of it goes, unless it still answers.
    pub other_is_ended: bool,
}

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// See [`IdentityFileError`].
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The identity is another node's.
    #[error("{data} belongs to {found}, the configuration is for {expected}")]
    OtherNode {
        /// The data directory.
        data: String,
        /// Whose it is.
        found: String,
        /// Whom the configuration names.
        expected: String,
    },
    /// See [`TlsLoadError`].
    #[error(transparent)]
    Tls(#[from] TlsLoadError),
    /// See [`TlsFileError`].
    #[error(transparent)]
    ClientTls(#[from] TlsFileError),
    /// See [`AuthoritiesError`].
    #[error(transparent)]
    Signatures(#[from] AuthoritiesError),
    /// See [`OpenError`].
    #[error(transparent)]
    Log(#[from] OpenError),
    /// See [`DatabaseError`].
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// The port cannot be had.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// openraft did not start.
    #[error("Raft did not start: {0}")]
    Raft(String),
    /// The cluster has gone on without it.
    #[error("{0}")]
    Fenced(String),
    /// Another cluster is, or was, on its timeline.
    #[error("{0}")]
    Forked(String),
    /// Its disk is of an earlier time than what others know of it.
    #[error("{0}")]
    Earlier(String),
    /// This would be a start beside a cluster that is on this timeline, or on a later one.
    #[error(
        "another cluster of this id is alive, on timeline {timeline}, which is this one's or a later one: {alive} answer. \
         This start would make two clusters that do not know of each other's records and revocations. Nothing was shown to \
         anybody"
    )]
    OtherLives {
        /// Who answers, by name.
        alive: String,
        /// The other's timeline.
        timeline: u64,
    },
    /// This would be the first start of a new timeline, and the former cluster lives.
    #[error(
        "the former cluster is alive, and this start would end it for good: {alive} answer, of its {voters} voters. \
         Each member of it that is shown the certificate of timeline {timeline} stops, and never starts again. \
         Nothing was shown to anybody"
    )]
    FormerLives {
        /// Who answers, by name.
        alive: String,
        /// How many voters it had.
        voters: usize,
        /// The timeline that has not begun yet.
        timeline: u64,
    },
    /// Files of this member are not what was once written.
    #[error(
        "this member's files are damaged: {0}. It does not serve from them. Rebuild it under a new id: \
         `kura member replace`. Keep the directory until that is done"
    )]
    Damaged(String),
    /// The state that it was seeded with is not the cluster's.
    #[error(
        "the state with which this member was seeded is not the cluster's: {0}. It does not go on. Remove its data \
         directory and join anew, under a new name: without `--seed-from`, or from another archive"
    )]
    Seed(String),
    /// The log could not be written or synced.
    #[error(
        "the node stops: the Raft log failed: {0}. After a failed sync nothing more can be promised; check the disk, \
         then start it again, or replace this member"
    )]
    LogFailed(String),
    /// The node cannot go on; its state on disk is as the message says.
    #[error("the node stops: {0}")]
    Fatal(String),
}
