//! Kura from outside: real `kura serve` processes on loopback, spoken to with the client crate and, where
//! a well-behaved client would not, with bare messages.
//!
//! Each test makes a small cluster of its own and asserts one promise. Conditions are polled with
//! deadlines; nothing waits for a fixed time and hopes.

mod agreement;
mod archive;
mod archive_check;
mod audit;
mod backup;
mod bodies;
mod certificates;
mod clock;
mod custody;
mod cut_off;
mod damaged_start;
mod drill;
mod drill_key;
mod emergency;
mod enrolled;
mod erasure;
mod export;
mod handover;
mod idempotence;
mod import;
mod input;
mod keys;
mod lag;
mod leaks;
mod leap;
mod lists;
mod majority;
mod members;
mod memory;
mod old_disk;
mod open;
mod opening;
mod outage;
mod proxy;
mod race;
mod raw;
mod records;
mod recovery;
mod refusal;
mod registry;
mod rehearsal;
mod replace;
mod restore;
mod restore_cuts;
mod restore_memory;
mod rewrap;
mod roles;
mod s3;
mod s3_server;
mod salvage;
mod scrub;
mod scrub_together;
mod seed;
mod skew;
mod space;
mod starting;
mod world;
