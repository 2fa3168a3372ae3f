//! The named bounds of the gateway.

use std::time::Duration;

/// Longest body of [`super::put`] in one message.
pub const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Longest body of a record, all parts together.
pub const BODY_BYTES_MAX: u64 = 8 << 30;
/// Parts of a record.
pub const PARTS_MAX: usize = 1024;
/// Records of one call that reads several.
pub const SEVERAL_RECORDS_MAX: usize = 64;
/// Addressees of a record, grants of a participant at a time, facilities of an application.
pub const FACILITIES_MAX: usize = 512;
/// Most former document ids of one record: as many as a participant has aliases.
pub const FORMER_DOCUMENT_IDS_MAX: usize = 16;
/// Earliest day on which a consent can have been signed: 1900-01-01, in days since 1970-01-01. Nobody who takes
/// part was born before.
pub const CONSENT_DAY_FIRST: i32 = -25_567;
/// Bytes of a free text: names, evidence, reasons, media types, part names.
pub const TEXT_BYTES_MAX: usize = 512;
/// Bytes of a detached signature or a timestamp token.
pub const SIGNATURE_BYTES_MAX: usize = 256 << 10;
/// Rows of one page.
pub const PAGE_ROWS_MAX: u32 = 1_000;
/// Rows of one page unless asked otherwise.
pub const PAGE_ROWS_DEFAULT: u32 = 200;
/// Decisions of one call before it gives up as contended.
pub const ATTEMPTS_MAX: u32 = 12;
/// How long a call waits for what it proposed.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call looks for a leader that takes its proposal before it says that there is none: an election
/// takes less. The caller may know a voter that has one.
pub const LEADER_WAIT: Duration = Duration::from_secs(3);
/// How far a gateway's clock may be off the voters' median.
pub const CLOCK_OFFSET_MS_MAX: u64 = 5_000;
/// How much earlier than `apply` a gateway takes a request's id for too old: clocks of two gateways may differ by
/// twice the limit, and a command waits a moment for its turn.
pub const REQUEST_BEHIND_MS: u64 = 3 * CLOCK_OFFSET_MS_MAX;
/// How far in the future a request's birth may lie: clocks differ.
pub const REQUEST_AHEAD_MS_MAX: u64 = 5 * 60_000;
/// How long a restrictive command waits for the backup.
pub const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing of a download leaves later than this after the moment up to which this node is known to have applied
/// whatever was acknowledged: before, it is decided again.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How old a proof that this node's state is current may be for a check of a download: those that run share one.
pub const PROOF_AGE_MAX: Duration = Duration::from_secs(5);
/// How long such a check looks for a proof before it ends the download: longer than an election takes.
pub const RECHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// A download ends after this long.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// An upload that is not finished this long after it was begun is swept.
pub const STAGING_MS_MAX: u64 = 24 * 3_600_000;
/// Sealed bytes from which gathered blocks are proposed. With one more block of 1 MiB a command stays
/// below its own bound.
pub const STAGE_COMMAND_BYTES: usize = 512 << 10;
/// Rows from which gathered blocks are proposed.
pub const STAGE_COMMAND_ROWS: usize = 512;
/// Acts that wait for their second registrar.
pub const ACTS_OPEN_MAX: usize = 256;
/// Longest that an act can wait: the bound of the setting `act_ms`.
pub const ACT_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Payloads of acts from which a page of them is told.
pub const ACTS_REPLY_BYTES: usize = 1 << 20;
/// Professions in a table of professions and classes; far more than there are.
pub const PROFESSIONS_MAX: usize = 64;
/// Enrolments that can become aliases of one participant.
pub const ALIASES_MAX: usize = 16;
/// Cards that a participant can have had under one number: one each month for sixteen years. Serials are never given
/// again, so that each stays.
pub const CARDS_MAX: u32 = 200;
/// Versions of a record: what asks for its history is told all of them at once.
pub const VERSIONS_MAX: u32 = 1_000;
/// One facility's own ids of one participant: enough for a patient who was registered again and again.
pub const FACILITY_LINKS_MAX: usize = 64;
/// Facilities' own ids of one participant, for each number that they have; all of them are shown.
pub const LINKS_MAX: usize = 4096;
