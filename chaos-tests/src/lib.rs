//! Real nodes, real faults, recorded histories, checkers.
//!
//! A run starts a cluster of `kura` processes, loads it with clients, injects faults from a seed,
//! and writes a [history](history) of everything that the clients saw. A [checker](check) judges the
//! history afterwards, apart from the run: the binary `check` reads nothing but the file.
//!
//! Invariants
//! - Nothing here looks into a node or depends on its crate: what is known comes from clients, from
//!   signals and from exit statuses.
//! - The schedule of faults and every client's sequence of operations follow from the seed. Timing
//!   does not, so a seed repeats a schedule, not an interleaving.
//! - What could not be done or checked makes a run fail, never pass.

pub mod apart;
pub mod chaos;
pub mod check;
pub mod cluster;
pub mod content;
pub mod crash;
pub mod history;
pub mod load;
pub mod nemesis;
pub mod process;
pub mod recovery;
pub mod scan;
pub mod scenario;
pub mod seed;
pub mod site;
