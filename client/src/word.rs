//! The closed vocabularies: words for people and settings, numbers on the wire.
//!
//! Invariant: the numbers are those of the protocol (docs/formats.md) and never change; 0 is never
//! a member, so that a missing field is noticed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A word or number that is not in its vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{vocabulary} {given} is not known; known are: {known}")]
pub struct UnknownWord {
    /// Which vocabulary.
    pub vocabulary: &'static str,
    /// What was given.
    pub given: String,
    /// The words it knows.
    pub known: String,
}

/// Words that are read wherever they stand, and refused by the cluster today: nobody is offered them.
const RESERVED: [(&str, &str); 2] = [("record class", "personal"), ("purpose", "secondary")];

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $title:literal, { $($(#[$mdoc:meta])* $member:ident = $number:literal, $word:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$mdoc])* $member = $number),+ }

        impl $name {
            /// Every member, in order of its number.
            pub const ALL: &'static [$name] = &[$($name::$member),+];

            /// The word for people and settings.
            pub const fn word(self) -> &'static str {
                match self { $($name::$member => $word),+ }
            }

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The member of a number on the wire.
            ///
            /// # Errors
            /// [`UnknownWord`] for a number that this version does not know.
            pub fn from_number(number: u32) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|m| m.number() == number).ok_or_else(|| Self::unknown(number.to_string()))
            }

            fn unknown(given: String) -> UnknownWord {
                let is_offered = |word: &&str| !RESERVED.contains(&($title, *word));
                let known = Self::ALL.iter().map(|m| m.word()).filter(is_offered).collect::<Vec<_>>().join(", ");
                UnknownWord { vocabulary: $title, given, known }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|m| m.word() == word).ok_or_else(|| Self::unknown(word.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

vocabulary!(
    /// What kind of record a document is.
    Class, "record class", {
    /// 診療情報提供書
    ReferralLetter = 1, "referral-letter";
    /// 退院時サマリー
    DischargeSummary = 2, "discharge-summary";
    /// 検査結果
    LaboratoryResult = 3, "laboratory-result";
    /// 処方
    Prescription = 4, "prescription";
    /// 調剤
    Dispensing = 5, "dispensing";
    /// 画像
    Image = 6, "image";
    /// アレルギー
    Allergy = 7, "allergy";
    /// 介護・看護の記録
    CareRecord = 8, "care-record";
    /// 健診
    Checkup = 9, "checkup";
    /// Any other document.
    Document = 10, "document";
    /// Of the participant's own making; reserved, off.
    Personal = 11, "personal";
});

vocabulary!(
    /// The seven kinds of facility.
    FacilityKind, "facility kind", {
    /// 病院
    Hospital = 1, "hospital";
    /// 診療所
    Clinic = 2, "clinic";
    /// 歯科診療所
    DentalClinic = 3, "dental-clinic";
    /// 薬局
    Pharmacy = 4, "pharmacy";
    /// 介護施設・事業所
    Care = 5, "care";
    /// 訪問看護ステーション
    HomeNursing = 6, "home-nursing";
    /// 地域包括支援センター
    CommunitySupport = 7, "community-support";
});

vocabulary!(
    /// Whether a facility, user or application takes part at present.
    Status, "status", {
    /// Takes part.
    Active = 1, "active";
    /// May come back.
    Suspended = 2, "suspended";
    /// Has gone for good.
    Left = 3, "left";
});

vocabulary!(
    /// The line over which an application reaches the network.
    AccessLine, "access line", {
    /// Everything.
    IpVpn = 1, "ip-vpn";
    /// No upload of laboratory results and prescriptions.
    SslVpn = 2, "ssl-vpn";
});

vocabulary!(
    /// A user's profession.
    Profession, "profession", {
    /// 医師
    Physician = 1, "physician";
    /// 歯科医師
    Dentist = 2, "dentist";
    /// 薬剤師
    Pharmacist = 3, "pharmacist";
    /// 看護師
    Nurse = 4, "nurse";
    /// 検査技師・放射線技師など
    Technician = 5, "technician";
    /// リハビリテーション職
    Therapist = 6, "therapist";
    /// 介護職・ケアマネジャー
    CareWorker = 7, "care-worker";
    /// 事務職
    Clerk = 8, "clerk";
});

vocabulary!(
    /// How an actor was authenticated, as the application server states it.
    Method, "authentication method", {
    /// A card with a certificate (HPKI, JPKI, staff card).
    Card = 1, "card";
    /// A password and a second factor.
    TwoFactor = 2, "two-factor";
    /// A password alone.
    Password = 3, "password";
    /// A certificate of the actor's own (operators, registrars).
    Certificate = 4, "certificate";
});

vocabulary!(
    /// What an access is for.
    Purpose, "purpose", {
    /// Care of the participant.
    Care = 1, "care";
    /// The participant's own use.
    Own = 2, "own";
    /// An audit by the network.
    Audit = 3, "audit";
    /// Secondary use; reserved, off.
    Secondary = 4, "secondary";
});

vocabulary!(
    /// How a record refers to another.
    Relation, "relation", {
    /// It stands in the other's place.
    Replaces = 1, "replaces";
    /// It adds to the other.
    Appends = 2, "appends";
    /// It is the other in another form.
    Transforms = 3, "transforms";
});

vocabulary!(
    /// What the cluster found when it checked a signature itself.
    SignatureResult, "signature result", {
    /// Over these bytes, by a certificate that leads to a configured authority.
    Valid = 1, "valid";
    /// Not over these bytes, or not by the certificate that it names.
    Invalid = 2, "invalid";
    /// Over these bytes, but by a certificate that leads to no configured authority.
    Untrusted = 3, "untrusted";
    /// Of a form that the cluster does not check.
    Unsupported = 4, "unsupported";
});

vocabulary!(
    /// What kind of actor a request states.
    ActorKind, "actor kind", {
    /// A facility's user.
    FacilityUser = 1, "facility-user";
    /// A participant.
    Participant = 2, "participant";
    /// A registrar of the support centre.
    Registrar = 3, "registrar";
    /// An auditor of the support centre.
    Auditor = 4, "auditor";
    /// An operator of the cluster.
    Operator = 5, "operator";
    /// Recovery staff.
    Recovery = 6, "recovery";
    /// The cluster itself: bootstrap, sweeper.
    Cluster = 7, "cluster";
    /// An application itself, whose certificate was refused.
    Application = 8, "application";
});

vocabulary!(
    /// What a journal entry tells of.
    Action, "action", {
    /// The cluster was made.
    Init = 1, "init";
    /// A facility was registered or changed.
    Facility = 2, "facility";
    /// A user was registered or changed.
    User = 3, "user";
    /// An application was registered or changed.
    Application = 4, "application";
    /// A participant was enrolled.
    Enrol = 5, "enrol";
    /// A facility's own id was linked.
    Link = 6, "link";
    /// A facility was named by the participant.
    Grant = 7, "grant";
    /// A grant was taken back.
    Revoke = 8, "revoke";
    /// The participant left.
    Withdraw = 9, "withdraw";
    /// A record was written.
    Put = 10, "put";
    /// A record was read.
    Get = 11, "get";
    /// Records were listed.
    List = 12, "list";
    /// A record's versions were listed.
    History = 13, "history";
    /// A record was hidden; in journals of before `unhide` also one that was shown again.
    Hide = 14, "hide";
    /// A record's addressees were narrowed.
    Narrow = 15, "narrow";
    /// The consents were shown.
    ShowConsent = 16, "show-consent";
    /// The accesses were listed.
    ListAccesses = 17, "list-accesses";
    /// A facility's inbox was read.
    Inbox = 18, "inbox";
    /// The participants who granted a facility were listed.
    ListGranted = 19, "list-granted";
    /// An upload was begun.
    Stage = 20, "stage";
    /// An upload was given up and swept.
    Sweep = 21, "sweep";
    /// A setting was changed.
    Setting = 22, "setting";
    /// A member was approved, added or removed.
    Member = 23, "member";
    /// A participant's number was looked up by a facility's own id.
    Resolve = 24, "resolve";
    /// A card was issued or replaced.
    Card = 40, "card";
    /// A participant's number was looked up by a card's serial.
    ResolveCard = 41, "resolve-card";
    /// A facility's own ids of a participant were looked up.
    ReverseResolve = 42, "reverse-resolve";
    /// A facility's own id was linked to another participant.
    Relink = 43, "relink";
    /// A duplicate enrolment became an alias.
    Alias = 44, "alias";
    /// Several records were read in one call.
    GetSeveral = 45, "get-several";
    /// An emergency was opened.
    Emergency = 46, "emergency";
    /// A legal hold was put on a record.
    Hold = 47, "hold";
    /// A legal hold was released.
    Release = 48, "release";
    /// An act that takes two registrars was proposed.
    Propose = 49, "propose";
    /// A proposed act was confirmed and done.
    Confirm = 50, "confirm";
    /// A proposed act was rejected or taken back.
    Reject = 51, "reject";
    /// The acts in progress were listed.
    ListActs = 52, "list-acts";
    /// Something in the review queue was reviewed.
    Review = 53, "review";
    /// The review queue was listed.
    ListReviews = 54, "list-reviews";
    /// A disaster was declared.
    Disaster = 55, "disaster";
    /// A declared disaster was ended early.
    EndDisaster = 56, "end-disaster";
    /// An erasure was asked for.
    AskErasure = 57, "ask-erasure";
    /// An erasure was approved.
    ApproveErasure = 58, "approve-erasure";
    /// An erasure was stopped.
    StopErasure = 59, "stop-erasure";
    /// A participant's keys were destroyed.
    Erase = 60, "erase";
    /// An erasure was certified: every member had reported.
    CertifyErasure = 61, "certify-erasure";
    /// A facility listed its own users' accesses.
    FacilityAccesses = 62, "facility-accesses";
    /// An auditor listed the journal.
    ListJournal = 63, "list-journal";
    /// The registry was listed.
    ListRegistry = 64, "list-registry";
    /// An application showed a certificate that was refused, or asked for what its role may not.
    Authenticate = 65, "authenticate";
    /// A hidden record was shown again.
    Unhide = 66, "unhide";
    /// How far an erasure has come was looked at.
    ShowErasure = 67, "show-erasure";
    /// The erasures were listed.
    ListErasures = 68, "list-erasures";
    /// Custody of the root key: shares recorded or confirmed, keys rotated, unsealing by shares.
    Key = 80, "key";
    /// A timeline was begun: a take-over or a restore.
    Recover = 90, "recover";
    /// After a recovery, more was opened to callers.
    Open = 91, "open";
});

vocabulary!(
    /// What two registrars do together.
    ActKind, "act", {
    /// A facility is registered or changed.
    Facility = 1, "facility";
    /// An application is registered or changed.
    Application = 2, "application";
    /// The settings are changed.
    Settings = 3, "settings";
    /// A disaster is declared.
    Disaster = 4, "disaster";
    /// A duplicate enrolment becomes an alias.
    Alias = 5, "alias";
});

vocabulary!(
    /// How far an act of two registrars has come.
    ActState, "act state", {
    /// Waits for the second.
    Proposed = 1, "proposed";
    /// Confirmed and done.
    Confirmed = 2, "confirmed";
    /// Rejected, or taken back by who proposed it.
    Rejected = 3, "rejected";
});

vocabulary!(
    /// What lies in the review queue.
    ReviewKind, "review kind", {
    /// A grant entered by its own beneficiary.
    OwnGrant = 1, "own-grant";
    /// An emergency.
    Emergency = 2, "emergency";
    /// A duplicate enrolment that became an alias.
    Alias = 3, "alias";
    /// A grant entered by a facility for another one whose users entered some for it.
    MutualGrant = 4, "mutual-grant";
    /// A grant entered by a facility that does not know the participant.
    StrangerGrant = 5, "stranger-grant";
    /// A grant entered by a facility that was itself named by another's hand only.
    SecondHandGrant = 6, "second-hand-grant";
    /// A facility took a participant back who had left.
    ReEnrolment = 7, "re-enrolment";
});

vocabulary!(
    /// What a review found.
    ReviewVerdict, "verdict", {
    /// It was in order.
    Justified = 1, "justified";
    /// It was not.
    Unjustified = 2, "unjustified";
});

vocabulary!(
    /// How far an erasure has come.
    ErasureState, "erasure state", {
    /// Asked for; waits for a registrar.
    Asked = 1, "asked";
    /// Approved; the grace period runs.
    Approved = 2, "approved";
    /// Stopped; it can be asked for again.
    Stopped = 3, "stopped";
    /// The keys are destroyed; members have yet to report.
    Pending = 4, "pending";
    /// Every member has reported.
    Certified = 5, "certified";
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_come_back_and_zero_is_nothing() {
        for class in Class::ALL {
            assert_eq!(Class::from_number(class.number()), Ok(*class));
            assert_eq!(class.word().parse(), Ok(*class));
        }
        assert!(Class::from_number(0).is_err());
        assert!("ward".parse::<FacilityKind>().unwrap_err().to_string().contains("hospital"));
    }
}
