//! Recovery: a cluster that lost its prefecture begins again from what survives.
//!
//! - [`membership`]: makes a state at rest the only member of a new timeline

pub mod membership;
