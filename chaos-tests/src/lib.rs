//! Real nodes, real faults, recorded histories, checkers.
