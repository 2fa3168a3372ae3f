//! On which ground something was permitted, or why it was denied.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$mdoc:meta])* $member:ident = $number:literal, $word:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$mdoc])* $member = $number),+ }

        impl $name {
            /// Every member.
            pub const ALL: &'static [$name] = &[$($name::$member),+];

            /// The number in journal entries; never changes its meaning.
            pub fn number(self) -> u32 {
                self as u32
            }

            /// The member of a number.
            pub fn from_number(number: u32) -> Option<$name> {
                Self::ALL.iter().copied().find(|m| m.number() == number)
            }

            /// The word for people and cases.
            pub fn word(self) -> &'static str {
                match self { $($name::$member => $word),+ }
            }
        }
    };
}

numbered!(
    /// On which ground something was permitted.
    Basis {
    /// The participant named the facility.
    Grant = 1, "grant";
    /// The facility's own record, of a participant who names it.
    OwnRecord = 2, "own-record";
    /// The participant, about themselves.
    Own = 3, "own";
    /// A facility's user entering a participant's will, with evidence.
    Evidence = 4, "evidence";
    /// A facility's user enrolling or linking.
    Enrolment = 5, "enrolment";
    /// What the facility knows anyway: its ids, its inbox, its grants.
    OwnFacility = 6, "own-facility";
    /// A registrar's office.
    Registrar = 7, "registrar";
    /// An emergency.
    Emergency = 8, "emergency";
    /// The cluster itself.
    Cluster = 9, "cluster";
    /// An operator's office; never bears on records.
    Operator = 10, "operator";
    /// An auditor's office.
    Auditor = 11, "auditor";
    /// Recovery staff's office; never bears on records.
    Recovery = 12, "recovery";
});

numbered!(
    /// Why something was denied. The journal has it; callers see it only if it is about themselves.
    Denial {
    /// No participant has this number.
    NotEnrolled = 1, "not-enrolled";
    /// The participant has left.
    Withdrawn = 2, "withdrawn";
    /// The participant does not name the facility.
    NotGranted = 3, "not-granted";
    /// The information is older than the consent.
    BeforeConsent = 4, "before-consent";
    /// The record is narrowed to others.
    NotAddressee = 5, "not-addressee";
    /// The record is hidden.
    Hidden = 6, "hidden";
    /// The participant has no such record or version.
    NoSuchRecord = 7, "no-such-record";
    /// The profession may not see the class.
    ProfessionClass = 8, "profession-class";
    /// The application is not registered.
    ApplicationUnknown = 20, "application-unknown";
    /// The application is suspended or has left.
    ApplicationNotActive = 21, "application-not-active";
    /// The facility is not among the application's.
    ApplicationFacility = 22, "application-facility";
    /// The application may not state participants.
    ApplicationParticipants = 23, "application-participants";
    /// The facility is not registered.
    FacilityUnknown = 24, "facility-unknown";
    /// The facility is suspended or has left.
    FacilityNotActive = 25, "facility-not-active";
    /// The facility's line is not the application's.
    AccessLine = 26, "access-line";
    /// The class cannot be uploaded over this line.
    AccessLineClass = 27, "access-line-class";
    /// The user is not registered at the facility.
    UserUnknown = 28, "user-unknown";
    /// The user is suspended or has left.
    UserNotActive = 29, "user-not-active";
    /// Another credential than the registered one was used.
    Credential = 30, "credential";
    /// This kind of actor may not do this.
    ActorMayNot = 31, "actor-may-not";
    /// The class is reserved.
    ClassReserved = 32, "class-reserved";
    /// The purpose is reserved.
    PurposeReserved = 33, "purpose-reserved";
    /// The date lies in the future.
    FutureDate = 34, "future-date";
    /// No evidence was given.
    NoEvidence = 35, "no-evidence";
    /// The participant takes part already.
    AlreadyEnrolled = 36, "already-enrolled";
    /// The facility to be named is not registered or not active.
    BeneficiaryUnknown = 37, "beneficiary-unknown";
    /// An addressee is not among the facilities that the participant names.
    AddresseeNotGranted = 38, "addressee-not-granted";
    /// Only the author's facility may do this.
    NotAuthor = 39, "not-author";
    /// An author can narrow, never widen.
    Widens = 40, "widens";
    /// No reason was given.
    NoReason = 41, "no-reason";
    /// No purpose was stated.
    NoPurpose = 42, "no-purpose";
    /// The purpose is not one of this kind of actor.
    PurposeActor = 43, "purpose-actor";
    /// A proxy signed, and it is not said how they stand to the participant.
    ProxyRelation = 44, "proxy-relation";
    /// The new consent is dated before the withdrawal of the last one.
    BeforeWithdrawal = 45, "before-withdrawal";
    /// The facility has entered as many grants for itself as it may for now.
    OwnGrants = 46, "own-grants";
    /// The facility is not one for emergencies.
    EmergencyFacility = 47, "emergency-facility";
    /// The profession is not one for emergencies.
    EmergencyProfession = 48, "emergency-profession";
    /// The user, the facility or the application has opened as many emergencies as it may for now.
    EmergencyCap = 49, "emergency-cap";
    /// There is no such emergency of this user for this participant.
    EmergencyUnknown = 50, "emergency-unknown";
    /// The emergency has expired.
    EmergencyExpired = 51, "emergency-expired";
    /// An emergency is for reading records only.
    EmergencyReadOnly = 52, "emergency-read-only";
    /// This takes a second registrar.
    SecondRegistrar = 53, "second-registrar";
    /// The second person is the first one.
    SamePerson = 54, "same-person";
    /// There is no such act.
    ActUnknown = 55, "act-unknown";
    /// The act was confirmed or rejected before.
    ActClosed = 56, "act-closed";
    /// The act has waited too long for its second registrar.
    ActExpired = 57, "act-expired";
    /// What the act would replace has changed since, or what is confirmed is not what was proposed.
    ActStale = 58, "act-stale";
    /// The card's serial was given before.
    CardInUse = 59, "card-in-use";
    /// There is no such card, or another has taken its place.
    CardUnknown = 60, "card-unknown";
    /// Both numbers are of the same enrolment.
    SameParticipant = 61, "same-participant";
    /// The participant has not left.
    StillTakesPart = 62, "still-takes-part";
    /// The erasure has not come as far, or has come too far.
    ErasureState = 63, "erasure-state";
    /// As many participants were erased today as may be.
    ErasureCap = 64, "erasure-cap";
    /// The grace period has not ended.
    GracePeriod = 65, "grace-period";
    /// Not every member has reported that it holds nothing any more.
    ErasureReports = 66, "erasure-reports";
    /// A record is under legal hold.
    LegalHold = 67, "legal-hold";
    /// The record is held already, or not held.
    HoldState = 68, "hold-state";
    /// There is nothing to review under this id, or it was reviewed.
    ReviewState = 69, "review-state";
    /// No disaster is declared.
    NoDisaster = 70, "no-disaster";
    /// A participant acts for themselves only.
    AnotherPerson = 71, "another-person";
    /// An erasure of whoever has this number is on its way or done, so that nobody is enrolled under it.
    ErasureBegun = 72, "erasure-begun";
    /// A certificate was refused before anything was asked: no rule says so. The journal has the reason.
    Certificate = 90, "certificate";
});

impl Denial {
    /// Whether callers see only the one uniform refusal: the reason would tell them something about
    /// a participant who does not let them know.
    pub fn is_uniform(self) -> bool {
        matches!(
            self,
            Denial::NotEnrolled
                | Denial::Withdrawn
                | Denial::NotGranted
                | Denial::NotAddressee
                | Denial::Hidden
                | Denial::NoSuchRecord
                // Else a participant could tell whether another number is enrolled.
                | Denial::AnotherPerson
        )
    }

    /// The reason that a caller is told in the place of one that it may hear of only in part. Whoever enrols learns
    /// that a number is taken, since it cannot enrol it; not whether its holder has left, or is being erased.
    pub fn as_told(self) -> Denial {
        match self {
            Denial::BeforeWithdrawal | Denial::ErasureBegun => Denial::AlreadyEnrolled,
            told => told,
        }
    }
}
