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
        )
    }
}
