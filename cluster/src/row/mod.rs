//! Rows: which tables there are, how a row's key is laid out, and what a row holds once opened.
//!
//! A row key is the table's number (one byte) followed by the key of that table. Every identifier
//! inside a key is random or a keyed hash; the layouts are fixed-length, so that a key can be split
//! again without a parser (docs/formats.md).
//!
//! Invariants
//! - A table's number never changes its meaning.
//! - No row key contains an outside identifier.

mod key;
mod message;
mod stored;
mod table;

pub use key::{ROW_KEY_BYTES_MAX, RowKey};
pub use message::*;
pub use stored::{RowHeader, StoredRow, StoredRowError, is_stripped};
pub use table::Table;
