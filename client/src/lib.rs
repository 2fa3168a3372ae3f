//! The client of a Kura cluster: consent-checked, journalled reads and writes of records.
//!
//! ```no_run
#![doc = include_str!("front_page.rs")]
//! ```
//!
//! What holds
//! - **A receipt means durable** on a majority of voters; [`Receipt::reach`] tells how far beyond.
//! - **A write happens once.** Every attempt carries the same [`RequestId`]; where it is not known
//!   whether it was committed, the error says so ([`PutError::Unknown`]) and [`Client::outcome`]
//!   tells. The author's [document id](NewRecord::document_id) does the same across restarts.
//! - **A body is complete or an error.** Bodies stream both ways in constant memory, from 0 bytes
//!   to any length; an upload that is cut off goes on at another node without sending everything
//!   again; a download that is cut off goes on as a new request, decided and journalled anew; hashes
//!   are checked before the last bytes of a part are handed out.
//! - **Every call ends**, by the [time limits](Timeouts) of the configuration.
//! - **Errors answer**: `may_retry()`, `was_committed()`, `field()`.
//! - **Nothing that names anyone is printed** by `Debug`, and errors do not repeat what was given.
#![deny(missing_docs)]

mod access;
mod actor;
mod call;
mod client;
mod config;
mod consent;
mod date;
mod emergency;
mod erasure;
mod error;
mod fault;
pub mod fork;
mod get;
mod hold;
mod id;
mod inbox;
mod journal;
pub mod keys;
pub mod limit;
mod list;
pub mod operations;
mod pages;
mod pool;
mod put;
mod receipt;
mod record;
pub mod registry;
mod review;
pub mod salvage;
pub mod tls;
mod word;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

/// The messages of the wire, for what is handed through as it is (see [`operations`]).
pub use kura_proto::v1 as wire;

pub use access::{Access, Accesses, RefusedAccess, SalvagedFrom};
pub use actor::{Actor, Auditor, Operator, Participant, ParticipantActor, Registrar, Stated, User};
pub use client::{ActingClient, Client, Person};
pub use config::{Config, ConfigError, ENDPOINTS_MAX, Endpoint, Timeouts};
pub use consent::{Consent, ConsentChange, Consents, FormerLink, Grant, Link};
pub use date::{Date, DateError, now_ms};
pub use emergency::{Emergency, OpenEmergency};
pub use erasure::{
    Erasure, ErasureActor, ErasureArchive, ErasureChange, ErasureEvent, ErasureList, ErasureReport, Erasures,
    ShownErasure,
};
pub use error::{
    ChangeError, ConnectError, ConsentError, EmergencyError, ErasureError, GetError, JournalError, ListError,
    OperationError, OutcomeError, PutError, RegistryError, ReviewError, Unreached,
};
pub use fault::{Broken, Committed, Conflict, Damage, Denial, Invalid, Later, Missing, Reason, Unfit};
pub use get::{GATHERED_BYTES_MAX, Get, GetSeveral, OneOfSeveral, Record, RefusedRecord, Several, SeveralRecord};
pub use hold::Hold;
pub use id::{
    ActId, EmergencyId, IdError, InboxCursor, PARTICIPANT_NUMBER_DIGITS, ParticipantNumber, RecordId, RequestId,
    ReviewId,
};
pub use inbox::{GrantedParticipant, Inbox, InboxEntry, InboxItem, InboxPage};
pub use journal::{
    FacilityAccesses, Journal, JournalHead, JournalHeadError, JournalList, JournalRewritten, journal_leaf,
};
pub use list::{Change, List};
pub use pages::Listing;
pub use put::{BODY_PART, PUT_WHOLE_BYTES_MAX, Put, WHOLE_READ_BYTES_MAX};
pub use receipt::{NotCommitted, Outcome, Reach, Receipt, ReceiptError};
pub use record::{Confirmation, DamagedRecord, Listed, NewRecord, Part, Related, SignatureCheck, Summary};
pub use review::{CloseReview, Review, Reviews, Verdict};
pub use word::{
    AccessLine, ActKind, ActState, Action, ActorKind, Class, ErasureState, FacilityKind, Method, Profession, Purpose,
    Relation, ReviewKind, ReviewVerdict, SignatureResult, Status, UnknownWord,
};
