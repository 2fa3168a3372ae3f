//! Bringing a facility's existing records in: an SS-MIX2 standard storage, or a folder of files.
//!
//! A blocking walker finds units (a patient's folder, a file) and hands them over a short queue; a few
//! of them are worked on at the same time, each from reading to receipt; what became of every file is
//! a [`report::Line`].
//!
//! Invariants
//! - The cluster is spoken to only through `kura_client`, for one stated user of one facility.
//! - A file is stored for a participant only if everything that names its patient agrees. Where two
//!   things disagree it is set aside, and stored under neither.
//! - What is stored is the file, byte for byte; a file that changes while it is read is not stored.
//! - A run that was cut goes on by running again: document ids make every write happen once. What a hash tells
//!   is stored already is not sent again where the user may see it.
//! - Memory does not grow with the folder: files are streamed, the queue and the work at the same time
//!   are counted. It grows with the records of the few participants at hand.
//! - Names of files and ids of patients go to the report file that was asked for, nowhere else.

pub mod files;
pub mod participants;
pub mod report;
pub mod ssmix2;
mod stored;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use kura_client::ActingClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::{Failure, Progress};
use participants::Participants;
use report::{Line, Report};

/// Units that wait to be worked on.
const QUEUE_UNITS: usize = 64;
/// Most units that are worked on at the same time.
pub const AT_ONCE_MAX: u16 = 64;

/// What both imports need.
#[derive(Debug)]
pub struct Import {
    /// Acts for the user who imports.
    pub acting: ActingClient,
    /// The user's facility, whose records they become.
    pub facility: String,
    /// What is imported.
    pub directory: PathBuf,
    /// Who is who.
    pub participants: Participants,
    /// Units that are worked on at the same time, at least 1.
    pub at_once: usize,
}

/// What became of a unit: of each of its files, and why nothing further can be done, if so.
#[derive(Debug, Default)]
struct Done {
    lines: Vec<Line>,
    stop: Option<Failure>,
}

impl Done {
    fn one(line: Line) -> Done {
        Done { lines: vec![line], stop: None }
    }
}

/// Works through the units that `walk` sends, in a thread of its own, until it ends or something
/// stops the run.
async fn drive<U, F>(
    import: Arc<Import>,
    walk: impl FnOnce(&Import, &mpsc::Sender<U>) + Send + 'static,
    work: impl Fn(Arc<Import>, U) -> F,
    report: &mut Report,
    progress: &Progress,
) -> Result<(), Failure>
where
    U: Send + 'static,
    F: Future<Output = Done>,
{
    let (sender, receiver) = mpsc::channel(QUEUE_UNITS);
    let walker = {
        let import = Arc::clone(&import);
        // Ends by itself once nobody receives any more.
        tokio::task::spawn_blocking(move || walk(&import, &sender))
    };
    let at_once = import.at_once.max(1);
    let mut working =
        ReceiverStream::new(receiver).map(|unit| work(Arc::clone(&import), unit)).buffer_unordered(at_once);
    while let Some(done) = working.next().await {
        for line in &done.lines {
            report.add(line)?;
        }
        progress.add(done.lines.len() as u64);
        if let Some(failure) = done.stop {
            return Err(failure);
        }
    }
    walker.await.map_err(|error| Failure::failed(format!("the walk through the folder broke off: {error}")))
}
