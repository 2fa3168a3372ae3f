//! What a decision rests on.

use super::{Change, Settings};
use crate::id::Revision;
use crate::row::{
    ActRow, ActorRow, Application, CardRow, CounterRow, DisasterRow, EpisodeRow, ErasureDayRow, ErasureRow, Facility,
    Participant, RecordControl, ReviewRow, User,
};
use crate::word::{Class, Purpose, Relation};

/// Who acts, as far as rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A facility's user, stated by an application.
    FacilityUser,
    /// The participant, stated by an application.
    Participant,
    /// A registrar, by its own certificate.
    Registrar,
    /// An auditor, by its own certificate.
    Auditor,
    /// The cluster itself: the sweeper that carries erasures out.
    Cluster,
    /// Recovery staff who salvage a former member's disk: what it shows to have been taken away. No rule permits them
    /// anything that lets anybody in.
    Recovery,
    /// An operator. No rule permits them anything here.
    Operator,
}

/// A record as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct RecordFacts<'a> {
    /// Its control row.
    pub control: &'a RecordControl,
    /// If it lies under a number that became an alias: the day of the consent that held there (Japan time).
    pub alias_day: Option<i32>,
}

/// What was signed.
#[derive(Debug, Clone, Copy)]
pub struct ConsentTerms<'a> {
    /// Day of the consent, Japan time.
    pub signed_day: i32,
    /// Who signed, if not the participant.
    pub proxy: &'a str,
    /// The proxy's relation.
    pub proxy_relation: &'a str,
    /// Reference to the evidence.
    pub evidence: &'a str,
    /// Whether records of the participant's own making are consented to. Reserved.
    pub own_records: bool,
    /// Whether secondary use is consented to. Reserved.
    pub secondary_use: bool,
}

/// A record that a new one refers to.
#[derive(Debug, Clone, Copy)]
pub struct Related<'a> {
    /// How.
    pub relation: Relation,
    /// The record, if there is one.
    pub record: Option<RecordFacts<'a>>,
}

/// Emergencies opened lately; a row that is absent counts none.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmergencyCounters<'a> {
    /// By the user.
    pub user: Option<&'a CounterRow>,
    /// With the user's credential, under whatever user ids and at whatever facilities.
    pub credential: Option<&'a CounterRow>,
    /// By the facility's users.
    pub facility: Option<&'a CounterRow>,
    /// Through the application.
    pub application: Option<&'a CounterRow>,
}

/// An emergency under which an access is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Emergency<'a> {
    /// The episode of the id that was given, if there is one.
    pub episode: Option<&'a EpisodeRow>,
}

/// How a second registrar confirms an act.
#[derive(Debug, Clone, Copy)]
pub struct Confirmation<'a> {
    /// The act, if there is one.
    pub act: Option<&'a ActRow>,
    /// Present revision of the row for which it was proposed.
    pub base: Revision,
    /// SHA-256 of what the second registrar was shown.
    pub payload_sha256: &'a [u8],
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// Enrol a participant, or take part again after a withdrawal.
    Enrol {
        /// What was signed.
        terms: ConsentTerms<'a>,
        /// The participant's erasure, if one was ever asked for.
        erasure: Option<&'a ErasureRow>,
    },
    /// Link the facility's own id.
    Link,
    /// Link the facility's own id to another participant than it named.
    Relink {
        /// Why.
        reason: &'a str,
    },
    /// Look up a participant by the facility's own id.
    Resolve,
    /// Look up the facility's own ids of a participant.
    ReverseResolve,
    /// Issue a card, or one in the place of another.
    IssueCard {
        /// Whether any card ever had this serial.
        taken: bool,
        /// Evidence, or the reason of the replacement.
        evidence: &'a str,
    },
    /// Look up a participant by the serial of a card that lies there.
    ResolveCard {
        /// The card, if there is one of this serial.
        card: Option<&'a CardRow>,
    },
    /// Make a duplicate enrolment an alias of the participant in [`Facts::participant`], who stays.
    Alias {
        /// The duplicate, if it is enrolled.
        duplicate: Option<&'a Participant>,
        /// Reference to the evidence that both are one person.
        evidence: &'a str,
        /// The second registrar's confirmation of what another proposed; none: it is proposed.
        second: Option<Confirmation<'a>>,
    },
    /// Name a facility that may see the records.
    Grant {
        /// The facility named, if it is registered.
        beneficiary: Option<&'a Facility>,
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
        /// Grants that the actor's facility entered lately and that are counted.
        own_grants: Option<&'a CounterRow>,
        /// Grants that the beneficiary's users entered lately for the actor's facility.
        returned: Option<&'a CounterRow>,
        /// Whether auditors found in order that by which the actor's facility knows the participant.
        reviewed: bool,
    },
    /// Take a grant back.
    Revoke {
        /// The facility whose grant it is.
        named: &'a str,
        /// Whether that facility is registered, active or not.
        registered: bool,
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Leave.
    Withdraw {
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Show consent and grants.
    ShowConsent,
    /// List who accessed the participant's records.
    ListAccesses,
    /// Write a record.
    Write {
        /// Its class.
        class: Class,
        /// Its clinical day, Japan time.
        clinical_day: i32,
        /// Facilities to which it is narrowed; empty: every granted one.
        addressees: &'a [String],
        /// For a further version the record of which it is one, if there is such a record.
        earlier: Option<Option<RecordFacts<'a>>>,
        /// For a further version the earliest clinical day under which that record has had the same body, if it has.
        body_day: Option<i32>,
        /// Another record that it refers to.
        related: Option<Related<'a>>,
    },
    /// List records; each is then asked for by [`super::visible`].
    List,
    /// Read a record or its history.
    Read {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
    },
    /// Read several records in one call; each is then asked for by [`super::visible`].
    ReadSeveral,
    /// Hide a record, or show it again.
    Hide {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
        /// Whether it is hidden; otherwise it is shown again.
        hidden: bool,
    },
    /// Narrow a record to addressees.
    Narrow {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
        /// The addressees that stay.
        addressees: &'a [String],
    },
    /// Put a legal hold on a record.
    Hold {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
        /// Reference to the evidence.
        evidence: &'a str,
    },
    /// Release a legal hold.
    Release {
        /// The record, if there is one.
        record: Option<RecordFacts<'a>>,
        /// Reference to the evidence.
        evidence: &'a str,
    },
    /// Open an emergency.
    OpenEmergency {
        /// Why.
        reason: &'a str,
        /// Emergencies opened lately.
        counters: EmergencyCounters<'a>,
    },
    /// Read the facility's inbox.
    Inbox,
    /// List who granted the facility.
    ListGranted,
    /// List the accesses of the facility's own users.
    ListFacilityAccesses,
    /// List the whole journal.
    ListJournal,
    /// List the review queue.
    ListReviews,
    /// Give a verdict on something in the review queue.
    Review {
        /// It, if it is there.
        review: Option<&'a ReviewRow>,
    },
    /// List the registry.
    ListRegistry,
    /// Register or change something as one registrar.
    Register {
        /// What.
        change: Change<'a>,
    },
    /// Propose a change to a second registrar.
    Propose {
        /// What.
        change: Change<'a>,
    },
    /// Confirm what another registrar proposed: it is done at once.
    Confirm(Confirmation<'a>),
    /// Reject what was proposed, or take it back.
    Reject {
        /// The act, if there is one.
        act: Option<&'a ActRow>,
    },
    /// List the acts in progress.
    ListActs,
    /// End the declared disaster early.
    EndDisaster,
    /// Ask that a participant who has left be erased.
    AskErasure {
        /// Their erasure, if one was ever asked for.
        erasure: Option<&'a ErasureRow>,
        /// Reference to the evidence; a participant needs none.
        evidence: &'a str,
    },
    /// Approve an erasure: the grace period begins.
    ApproveErasure {
        /// The erasure.
        erasure: Option<&'a ErasureRow>,
    },
    /// Stop an erasure.
    StopErasure {
        /// The erasure.
        erasure: Option<&'a ErasureRow>,
    },
    /// Destroy a participant's keys.
    Erase {
        /// The erasure.
        erasure: Option<&'a ErasureRow>,
        /// How many were erased on the day in the row.
        day: Option<&'a ErasureDayRow>,
    },
    /// Certify an erasure.
    CertifyErasure {
        /// The erasure.
        erasure: Option<&'a ErasureRow>,
        /// Raft ids of the present members.
        members: &'a [u64],
    },
}

/// Everything that a decision may look at.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The gateway's clock.
    pub now_ms: u64,
    /// Who acts.
    pub actor: Actor,
    /// The actor as the journal will have it: whose second person it may be, which credential was used.
    pub person: &'a ActorRow,
    /// What is to be done.
    pub act: Act<'a>,
    /// Purpose stated, for accesses.
    pub purpose: Option<Purpose>,
    /// The emergency under which it is asked for, if one.
    pub emergency: Option<Emergency<'a>>,
    /// The application behind the certificate, if it is registered.
    pub application: Option<&'a Application>,
    /// The actor's facility, if it is registered.
    pub facility: Option<&'a Facility>,
    /// The actor, if registered as a user.
    pub user: Option<&'a User>,
    /// The participant, if enrolled.
    pub participant: Option<&'a Participant>,
    /// The network's settings.
    pub settings: &'a Settings,
    /// The disaster declared last, if ever one was.
    pub disaster: Option<&'a DisasterRow>,
}
