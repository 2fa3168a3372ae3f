//! Recovery: a cluster that lost its prefecture begins again from what survives.
//!
//! - [`found`]: looks at what survives, [`plan`]: ranks it, says what may be lost and what has to be fenced
//! - [`take`]: the take-over itself, offline; [`membership`]: makes a state at rest the only member of a new timeline
//! - [`report`]: what was taken over and what is unconfirmed; [`verify`]: holds the result against it
//! - [`salvage`]: what a former member's disk has that the new timeline lacks
//! - [`fence`]: being left behind by a later timeline, or beside another one; [`taken`]: the mark on a survivor that was taken over
//!
//! Invariants
//! - What survives is never changed, but for that mark: everything is done on mirrors ([`mirror`]), and the result is a new
//!   directory.
//! - Nothing begins without people who restore the root key, and the recovery key that it opens.

pub mod fence;
pub mod found;
pub mod membership;
pub mod mirror;
pub mod plan;
pub mod report;
pub mod salvage;
pub mod take;
pub mod taken;
pub mod verify;
