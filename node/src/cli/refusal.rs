//! The words with which the cluster says why it refused: what each means, what to do, and the exit code.
//!
//! Invariants
//! - Every word that is told to callers has a row here and in docs/operations.md, "Refusals".
//! - What concerns a participant is one refusal without a word; its advice tells nothing of the participant: it follows
//!   what was asked for ([`Uniform`]).

use kura_client::{
    ChangeError, ConsentError, Denial, EmergencyError, ErasureError, GetError, JournalError, ListError, OperationError,
    OutcomeError, PutError, RegistryError, ReviewError,
};

use super::exit::{Exit, Failure};

/// One word.
#[derive(Debug)]
pub struct Word {
    /// As the cluster tells it.
    pub word: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do.
    pub next: &'static str,
    /// The exit code.
    pub exit: Exit,
}

/// What to do about the refusal that has no word, by what was asked for. It never follows from the reason.
pub trait Uniform {
    /// What to do.
    const NEXT: &'static str = "check what was named: what is not there is refused the same way";
}

impl Uniform for GetError {
    const NEXT: &'static str = "check the number, the record's id and the version (`kura record list`, `kura record history`): what \
        is not there is refused the same way. Else it is not opened to whoever asks: the participant's own list of \
        accesses has the reason";
}

impl Uniform for ListError {
    const NEXT: &'static str = "check the number, and the record's id if one was given: what is not there is refused the same way. Else \
        the participant opens it (`kura consent grant`); their own list of accesses has the reason";
}

impl Uniform for PutError {
    const NEXT: &'static str = "check the number, and the record's id if one was given: what is not there is refused the same way. A \
        facility writes for participants who name it (`kura consent grant`)";
}

impl Uniform for ChangeError {
    const NEXT: &'static str = "check the number and the record's id (`kura record list`): what is not there is refused the same way. \
        Else it is not for whoever asks to change";
}

impl Uniform for ConsentError {
    const NEXT: &'static str = "check the number: one that nobody has is refused the same way, and so is one whose participant has \
        left, or does not name the facility that asks";
}

impl Uniform for EmergencyError {
    const NEXT: &'static str =
        "check the number: one that nobody has is refused the same way, and so is one whose participant has left";
}

impl Uniform for ErasureError {
    const NEXT: &'static str = "check the number: one that nobody has is refused the same way";
}

impl Uniform for RegistryError {}
impl Uniform for ReviewError {}
impl Uniform for OutcomeError {}
impl Uniform for JournalError {}
impl Uniform for OperationError {}

const fn word(word: &'static str, exit: Exit, means: &'static str, next: &'static str) -> Word {
    Word { word, means, next, exit }
}

use Exit::{Conflict, Denied, NotFound, Unavailable};

/// All words.
pub const WORDS: &[Word] = &[
    word(
        "before-consent",
        Denied,
        "the information is older than the consent",
        "nothing from before the consent is stored or shown; check the clinical date (--date)",
    ),
    word(
        "profession-class",
        Denied,
        "the user's profession may not see this class",
        "act as a user whose profession may (docs/consent.md has the table)",
    ),
    word(
        "application-unknown",
        NotFound,
        "the application is not registered",
        "a registrar registers it under the name in its certificate: `kura app add NAME --facility F`",
    ),
    word(
        "application-not-active",
        Denied,
        "the application is suspended or has left",
        "ask a registrar: `kura app list` shows its status",
    ),
    word(
        "application-facility",
        Denied,
        "the application may not speak for this facility",
        "check --as; a registrar adds facilities: `kura app change NAME --add-facility F`",
    ),
    word(
        "application-participants",
        Denied,
        "the application may not speak for participants",
        "act as a facility's user (--as), or ask a registrar: `kura app change NAME --participants true`",
    ),
    word(
        "facility-unknown",
        NotFound,
        "the facility is not registered",
        "check the id; a registrar registers it: `kura facility add`",
    ),
    word(
        "facility-not-active",
        Denied,
        "the facility is suspended or has left",
        "ask a registrar: `kura facility list` shows its status",
    ),
    word(
        "access-line",
        Denied,
        "the facility's line is not the application's",
        "use an application on the facility's line, or ask a registrar: `kura facility list`, `kura app list`",
    ),
    word(
        "access-line-class",
        Denied,
        "this class cannot be uploaded over this line",
        "upload it through an application on the IP-VPN",
    ),
    word(
        "user-unknown",
        NotFound,
        "the user is not registered at this facility",
        "check --as FACILITY/USER; a registrar registers users: `kura user add`",
    ),
    word(
        "user-not-active",
        Denied,
        "the user is suspended or has left",
        "ask a registrar: `kura user list FACILITY` shows the status",
    ),
    word(
        "credential",
        Denied,
        "another credential than the registered one was used, or none",
        "authenticate with the registered one (--credential FILE), or ask a registrar to register the new one",
    ),
    word(
        "actor-may-not",
        Denied,
        "this kind of actor may not do this",
        "act as someone who may: --as FACILITY/USER, --as-participant, or another client configuration",
    ),
    word("class-reserved", Denied, "the class is reserved", "choose another class"),
    word("purpose-reserved", Denied, "the purpose is reserved", "state another purpose, or leave it out"),
    word("future-date", Denied, "the date lies in the future", "check the date, and the clock of this machine"),
    word("no-evidence", Denied, "no evidence was given", "name the signed paper or order with --evidence"),
    word(
        "already-enrolled",
        Conflict,
        "the number is taken: its participant takes part already, or cannot take part again on this form",
        "nothing is to be done if they take part; else ask a registrar",
    ),
    word(
        "beneficiary-unknown",
        NotFound,
        "the facility to be named is not registered, or not active",
        "check the facility's id; a registrar sees it in `kura facility list`",
    ),
    word(
        "addressee-not-granted",
        Denied,
        "an addressee is not among the facilities that the participant names",
        "address the record to facilities that the participant names, or have them named first (`kura consent grant`)",
    ),
    word(
        "not-author",
        Denied,
        "only the facility that wrote the record may do this",
        "act as a user of that facility; `kura record list` shows the author",
    ),
    word(
        "widens",
        Denied,
        "a record can be narrowed, never widened",
        "address it to some of those who see it now, or write a new record",
    ),
    word("no-reason", Denied, "no reason was given", "give one with --reason"),
    word("no-purpose", Denied, "no purpose was stated", "state one with --purpose"),
    word(
        "purpose-actor",
        Denied,
        "the purpose is not one of this kind of actor",
        "facilities' users state care, participants own use (--purpose)",
    ),
    word(
        "proxy-relation",
        Denied,
        "a proxy signed, and it is not said how they stand to the participant",
        "say it with --relation",
    ),
    word(
        "erasure-begun",
        Denied,
        "an erasure of whoever has this number is on its way or done",
        "registrars and the participant can stop an erasure; an erased number is never given out again",
    ),
    word(
        "before-withdrawal",
        Denied,
        "the new consent is dated before the withdrawal of the last one",
        "a new consent has to be signed after the participant left; check --signed-on",
    ),
    word(
        "own-grants",
        Unavailable,
        "the facility has entered as many grants for itself as it may for now",
        "try again later (the window is a setting), or let the participants enter their grants",
    ),
    word(
        "emergency-facility",
        Denied,
        "the facility is not one for emergencies",
        "ask registrars to flag it: that takes two",
    ),
    word(
        "emergency-profession",
        Denied,
        "the profession is not one for emergencies",
        "a physician of the facility opens it",
    ),
    word(
        "emergency-cap",
        Unavailable,
        "the user, the facility or the application has opened as many emergencies as it may for now",
        "another user opens it, or try again later; a declared disaster raises the caps",
    ),
    word(
        "emergency-unknown",
        NotFound,
        "there is no such emergency of this user for this participant",
        "open one first, as the same user, at the same facility, for the same participant",
    ),
    word("emergency-expired", Denied, "the emergency has expired", "open another one if it goes on"),
    word(
        "emergency-read-only",
        Denied,
        "an emergency is for reading records only",
        "do this without the emergency, on a grant of the participant",
    ),
    word(
        "second-registrar",
        Denied,
        "this takes a second registrar",
        "propose it; another registrar confirms it (`kura act confirm`)",
    ),
    word("same-person", Denied, "the second person is the first one", "another person has to do this"),
    word("act-unknown", NotFound, "there is no such act", "check its id: `kura act list --all`"),
    word("act-closed", Conflict, "the act was confirmed or rejected before", "look at it: `kura act list --all`"),
    word("act-expired", Denied, "the act has waited too long for its second registrar", "propose it anew"),
    word(
        "act-stale",
        Conflict,
        "what the act would replace has changed, or it is not what was proposed",
        "look at what is there now, and propose it anew",
    ),
    word("card-in-use", Conflict, "the card's serial was given before", "check the serial; no serial is given twice"),
    word(
        "card-unknown",
        NotFound,
        "there is no such card, or another has taken its place",
        "check the serial; the present card is the one issued last",
    ),
    word("same-participant", Denied, "both numbers are of the same enrolment", "check the two numbers"),
    word("still-takes-part", Denied, "the participant has not left", "the participant withdraws first"),
    word(
        "erasure-state",
        Denied,
        "the erasure has not come as far, or has come too far",
        "see how far it is: `kura erasure show NUMBER`",
    ),
    word("erasure-cap", Unavailable, "as many participants were erased today as may be", "try again tomorrow"),
    word("grace-period", Unavailable, "the grace period has not ended", "try again when it has ended"),
    word(
        "erasure-reports",
        Unavailable,
        "not every member has reported that it holds nothing any more",
        "wait for the members that are missing (`kura status`)",
    ),
    word("legal-hold", Denied, "a record is under legal hold", "registrars release the hold first: that takes two"),
    word(
        "hold-state",
        Denied,
        "the record is held already, or not held",
        "nothing is to be done; an auditor sees who held or released it: `kura audit list NUMBER --all`",
    ),
    word(
        "review-state",
        Denied,
        "there is nothing to review under this id, or it was reviewed",
        "look at the list of what waits for review",
    ),
    word("no-disaster", NotFound, "no disaster is declared", "nothing is to be ended"),
    word(
        "certificate",
        Denied,
        "the certificate was refused",
        "check its validity and role, and that it is not revoked; ask for a new one",
    ),
];

/// What a command says of a refusal, and how it ends.
pub fn failure(denial: &Denial, uniform_next: &'static str) -> Failure {
    let Some(reason) = denial.reason() else {
        return Failure::new(Exit::Denied, denial).next(uniform_next);
    };
    match WORDS.iter().find(|word| word.word == reason) {
        Some(word) => Failure::new(word.exit, format!("{denial}: {}", word.means)).next(word.next),
        // Of a later version.
        None => Failure::new(Exit::Denied, denial).next("see docs/operations.md, \"Refusals\""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kura_cluster::consent::Denial as Reason;

    use super::*;

    #[test]
    fn every_word_that_is_told_has_a_meaning_and_a_next_step() {
        let told: BTreeSet<&str> =
            Reason::ALL.iter().filter(|reason| !reason.is_uniform()).map(|reason| reason.word()).collect();
        let known: BTreeSet<&str> = WORDS.iter().map(|word| word.word).collect();
        assert_eq!(known, told);
        assert_eq!(known.len(), WORDS.len(), "a word stands twice");
        assert!(WORDS.iter().all(|word| !word.means.is_empty() && !word.next.is_empty()));
    }

    #[test]
    fn the_manual_has_the_same_rows() {
        let manual = include_str!("../../../docs/operations.md");
        let rows = |word: &Word| format!("| `{}` | {} | {} | {} |", word.word, word.exit as u8, word.means, word.next);
        let missing: Vec<String> = WORDS.iter().map(rows).filter(|row| !manual.contains(row.as_str())).collect();
        assert!(missing.is_empty(), "docs/operations.md, \"Refusals\", lacks:\n{}", missing.join("\n"));
    }
}
