//! Restoring a cluster from an archive: records as they were at a moment, everything that restricts as it is newest.
//!
//! - [`plan`]: which entry, which generations, what is left out and what stays newer; writes nothing
//! - [`work`]: the unfinished restore in its target, and how it goes on after a cut
//! - [`merge`]: two replayed states become one
//! - [`left_out`]: restricted records that have no body afterwards
//! - [`apply`]: the whole, up to the first voter of a new timeline
//! - [`verify`]: a restored directory held against its report
//!
//! Invariants
//! - Consents, record control, keys, erasures, the registry and the journal are those of the newest entry in the
//!   archive, whatever moment is asked for. Only tables that [`Table::goes_back`] go back.
//! - Nothing of a participant comes back whose data keys the newest state does not have.
//! - Nothing is in its place before it was verified; the identity comes last, and without it nothing serves.
//!
//! [`Table::goes_back`]: kura_cluster::row::Table::goes_back

pub mod apply;
pub mod left_out;
pub mod merge;
pub mod plan;
pub mod report;
pub mod verify;
pub mod work;

#[cfg(test)]
mod tests;

pub use plan::{Plan, PlanError, Target, Wanted};
pub use report::Report;
