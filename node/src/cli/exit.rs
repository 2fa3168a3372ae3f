//! How a command ends: documented exit codes, and messages that say what to do next.
//!
//! Invariants
//! - The codes are part of the interface and never change their meaning.
//! - A message repeats no participant number, id or body: it may end up in somebody's log.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use kura_client::{
    ChangeError, ConfigError, ConnectError, ConsentError, EmergencyError, ErasureError, GetError, JournalError,
    ListError, NotCommitted, OperationError, OutcomeError, PutError, Reason, RegistryError, ReviewError,
};

use super::output::note;
use super::{given, refusal};
use crate::clock::now_ms;
use crate::identity::IdentityFileError;
use crate::leap;

/// What a take-over or a restore goes on by is this machine's clock: told beside the last entry's time, and refused if
/// the one cannot well follow the other, unless people say that it is right.
pub fn check_clock(last_ms: u64, time_is_right: bool) -> Result<(), Failure> {
    match leap::doubt(now_ms(), last_ms) {
        Some(why) if !time_is_right => Err(Failure::usage(why).next(
            "set the clock; or, if it is right (the machines were off for so long, or had a wrong time before), repeat \
             the same with --time-is-right",
        )),
        Some(why) => {
            note(&format!("{why}; it is said to be right"));
            Ok(())
        }
        None => Ok(()),
    }
}

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// 0: done.
    Done = 0,
    /// 1: failed for a reason that no other code names.
    Failed = 1,
    /// 2: the command line, a configuration or a value is wrong.
    Usage = 2,
    /// 3: refused: no consent, or not this certificate's right.
    Denied = 3,
    /// 4: what was named is not there.
    NotFound = 4,
    /// 5: not now; the same may be tried again.
    Unavailable = 5,
    /// 6: it is not known whether the write was committed.
    Unknown = 6,
    /// 7: something is damaged, or a check did not pass.
    Damaged = 7,
    /// 8: it contradicts what is there already.
    Conflict = 8,
    /// 9: the rest was done, but something was refused or set aside.
    Partly = 9,
    /// 10: proposed; it is not done before a second person confirms it.
    Proposed = 10,
    /// 11: the backup or the archive is further behind than asked, or nobody knows how far.
    Behind = 11,
    /// 12: the cluster's status shows what somebody has to look at.
    Unwell = 12,
    /// 141: whoever read standard output has gone; as shells tell of a program that SIGPIPE ended. Nothing is said.
    Unread = 141,
}

impl Exit {
    /// What `kura --help` says about the codes.
    pub const HELP: &'static str = "\
Exit codes:
  0  done
  1  failed
  2  the command line, a configuration or a value is wrong
  3  refused: no consent, or not this certificate's right
  4  not found
  5  not now: the same may be tried again
  6  it is not known whether the write was committed: ask for its outcome
  7  damaged, or a check did not pass
  8  it contradicts what is there already
  9  the rest was done, but something was refused or set aside: see the report
  10  proposed: it is not done before another registrar confirms it
  11  the backup or the archive is further behind than the given limit, or how far is UNKNOWN
  12  the cluster is not well (kura status --fail)
  141 whoever read the output has gone; what was not done yet is not done

Times are shown as Japan reads them, with their offset (+09:00), and the days on which something was entered are
Japan's; clinical days are as they were given. With --json times are milliseconds since 1970 (UTC), and so are errors
JSON. Tables fit the terminal, or 120 columns: columns without content are left out, and a table that does not fit
becomes a block for each row. Programs use --json, which has everything: also all of a digest that ends in ….";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// What to do next, if that is known.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with a code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), next: None }
    }

    /// A failure that no other code names.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A wrong value.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Names the option, or argument, at fault.
    #[must_use]
    pub fn of(mut self, option: &str) -> Self {
        self.message = format!("{option}: {}", self.message);
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.next.as_ref().map_or(Ok(()), |next| write!(f, "\n  next: {next}"))
    }
}

/// An error and what lies under it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let words = source.to_string();
        // Many errors repeat their source's words in their own.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        below = source.source();
    }
    text
}

/// A failure to make something: a conflict if something is there already, and a wrong argument if the place cannot be
/// read or written. The error tells its name.
pub(crate) fn not_made(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut under = Some(error);
    while let Some(cause) = under {
        let kind = cause.downcast_ref().map(std::io::Error::kind);
        if kind == Some(ErrorKind::AlreadyExists)
            || matches!(cause.downcast_ref(), Some(IdentityFileError::Exists { .. }))
        {
            return Failure::new(Exit::Conflict, chain(error))
                .next("nothing was changed: use what is there, or name another place");
        }
        if kind.is_some_and(is_of_the_place) {
            return Failure::usage(chain(error))
                .next("nothing was made: name a place that is there, and can be read and written");
        }
        under = cause.source();
    }
    Failure::failed(chain(error))
}

/// Whether it is the place that was named, rather than the machine, that does not do.
fn is_of_the_place(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}

const ASK_OUTCOME: &str = "ask what became of it with the same --client: kura record outcome";

/// What to do about what does not open.
pub(in crate::cli) const DAMAGED: &str = "tell whoever operates the cluster, and ask the author for it (docs/operations.md, \"Records that do not \
                                open\")";
const TRY_AGAIN: &str = "try again; `kura status` shows which members answer";
const CLIENT_FILES: &str = "check certificate, CA and node names in the client configuration (--client)";

/// What to do about something that is there already.
fn in_the_way(field: Option<&str>) -> &'static str {
    match field {
        Some("document_id") => {
            "what is there stays as it is (`kura record list`): write a further version of it with --version-of RECORD, or \
             another document under another --document-id"
        }
        Some("local_id") => {
            "this id of the facility names another participant: check both; if it was linked by mistake, put it right with \
             `kura participant relink NUMBER ID --reason WHY`"
        }
        Some("request") => "write it anew, without --request: this one was another write's",
        _ => {
            "what is there already stays as it is: look at it (`list`), then change it, or give another id if this is \
             another thing"
        }
    }
}

/// What to do about something that is not there, by the words that name it.
const MISSING: &[(&str, &str)] = &[
    ("the act", "check the id: `kura act list --all` shows them"),
    ("an erasure", "check the number: `kura erasure list` shows the erasures; `kura erasure ask` asks for one"),
    ("a review", "check the id: `kura review list` shows those that are open, with --closed the others"),
    ("not a member", "check the name: `kura member list` shows the members"),
    ("an approved member", "approve it first: `kura member approve FILE --address HOST:PORT`"),
    ("an approved next key", "approve it first: `kura member approve FILE --renew-key`"),
    ("set of shares", "check the fingerprint: `kura key status` shows the sets"),
    ("rotation", "`kura key status` shows what is under way"),
    ("the registration", "register it first, with `add`"),
    ("card", "check the serial; the present card is the one issued last"),
    ("linked to this id", "check the id; a user of the facility links one: `kura participant link NUMBER ID`"),
    ("a consent at that time", "ask for a later day (--as-of), or leave it out"),
    ("a part of", "`kura record show` names the parts"),
    ("upload", "send it again from the start"),
    (
        "facility-unknown",
        "check the facility's id: `kura facility list` shows them; a registrar registers it: `kura facility add`",
    ),
];

fn missing(words: &str) -> &'static str {
    let found = MISSING.iter().find(|(what, _)| words.contains(what));
    found.map_or("check what was named: it is not there", |(_, next)| next)
}

/// What to do about a certificate or role that does not fit.
fn unfit(words: &str) -> &'static str {
    match words {
        words if words.contains("it takes one of role") => "use the client configuration of such a role (--client)",
        words if words.contains("ask for a new one") || words.contains("renew it") => {
            "have the CA sign a new one (docs/operations.md, \"Certificates\")"
        }
        _ => CLIENT_FILES,
    }
}

/// What to do about something that cannot be done now.
fn when(reason: Reason) -> &'static str {
    match reason {
        Reason::NoLeader => "start the voters that are down: more than half of them have to answer (`kura status`)",
        Reason::Removed => {
            "ask the members: take it out of the client configuration (--client). Stop it, and delete its data \
             directory; or join it anew under another name (docs/operations.md, \"Removed members\")"
        }
        Reason::Forked => {
            "stop asking: people decide which of the two goes on and end the other (docs/recovery.md, \"Two clusters on one \
             timeline\"); then take the ended one's endpoints out of the client configuration"
        }
        Reason::NotOpened => {
            "recovery staff opens the next step (`kura recover open`); `kura status` tells how far it is opened"
        }
        Reason::LowSpace => "make space on the nodes' disks (docs/operations.md, \"Low disk space\"), then try again",
        Reason::Clock => "mend the clock of the node that says so (NTP), then try again",
        Reason::Overloaded | Reason::Contended => "try again in a moment, with less at once",
        Reason::UploadLost => "send it again from the start",
        Reason::JournalBehind => "wait, or ask another member: a client configuration with that one endpoint",
        _ => TRY_AGAIN,
    }
}

macro_rules! from_family {
    ($($name:ident |$failure:ident| { $($extra:tt)* })*) => { $(
        impl From<$name> for Failure {
            fn from(error: $name) -> Self {
                let $failure = |exit| Failure::new(exit, chain(&error));
                match &error {
                    $name::Denied(denial) => refusal::failure(denial, <$name as refusal::Uniform>::NEXT),
                    $name::Unfit(words) => $failure(Exit::Denied).next(unfit(&words.to_string())),
                    $name::Invalid(invalid) => Failure::usage(given::named(invalid.field(), chain(&error))),
                    $name::NotFound(what) => $failure(Exit::NotFound).next(missing(&what.to_string())),
                    $name::Later(later) => $failure(Exit::Unavailable).next(when(later.reason())),
                    $name::Damaged(_) => $failure(Exit::Damaged).next(DAMAGED),
                    $name::Broken(_) => $failure(Exit::Failed).next("this is a bug: report it with the node's log"),
                    $($extra)*
                    _ => $failure(Exit::Failed),
                }
            }
        }
    )* };
}

macro_rules! from_write_family {
    ($($name:ident |$failure:ident| { $($extra:tt)* })*) => { from_family! { $($name |$failure| {
        $name::Unknown { request } => $failure(Exit::Unknown).next(format!("{ASK_OUTCOME} {request}")),
        $name::Expired { .. } => $failure(Exit::Unknown).next("look for what it wrote before writing it anew"),
        $name::Conflict { conflict } => {
            let words = given::named(conflict.field(), conflict.to_string());
            Failure::new(Exit::Conflict, format!("conflict: {words}")).next(in_the_way(conflict.field()))
        }
        $($extra)*
    })* } };
}

from_write_family! {
    PutError |failure| {}
    ChangeError |failure| {}
    ConsentError |failure| {}
    ErasureError |failure| {}
    RegistryError |failure| {}
    ReviewError |failure| {}
    EmergencyError |failure| {
        EmergencyError::NotListed { emergency, .. } =>
            failure(Exit::Unavailable).next(format!("it is open: go on with kura record list --emergency {emergency}")),
    }
}

from_family! {
    GetError |failure| {
        GetError::EndedEarly { .. } | GetError::WrongHash { .. } =>
            failure(Exit::Damaged).next("try again: another node may hold a sound copy"),
    }
    ListError |failure| {}
    OutcomeError |failure| {}
    JournalError |failure| {
        JournalError::Rewritten { rewritten } => failure(Exit::Damaged)
            .next(format!("keep these two heads:\n    {}\n    {}", rewritten.known, rewritten.told)),
        JournalError::NotIncluded { .. } =>
            failure(Exit::Damaged).next("keep the receipt, and ask another member whether it holds the entry"),
        JournalError::OtherCluster {} => failure(Exit::Usage).next("name this cluster's own head file"),
    }
    OperationError |failure| {
        OperationError::Conflict { .. } => failure(Exit::Conflict)
            .next("look at what there is (`kura member list`, `kura key status`): nothing was changed"),
        OperationError::InDoubt { .. } => failure(Exit::Unknown)
            .next("`kura member list` shows whether it did; if not, run the same again: it goes on where it was"),
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let retry = error.may_retry();
        let failure = |exit| Failure::new(exit, chain(&error));
        match &error {
            ConnectError::NoNode { .. } if retry => failure(Exit::Unavailable).next("check that the nodes run"),
            ConnectError::NoNode { nodes } => {
                let words: Vec<&str> = nodes.iter().map(|node| &node.message[..]).collect();
                failure(Exit::Denied).next(unfit(&words.join("; ")))
            }
            _ => failure(Exit::Usage).next(CLIENT_FILES),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::usage(chain(&error))
            .next("check the file (--client or KURA_CLIENT); packaging/client.example.toml is one")
    }
}

impl From<NotCommitted> for Failure {
    fn from(error: NotCommitted) -> Self {
        match error {
            NotCommitted::Absent => Failure::new(Exit::NotFound, error).next(
                "ask with the client configuration that wrote it (--client); write it anew only if it was this one",
            ),
            NotCommitted::Forgotten => {
                Failure::new(Exit::Unknown, error).next("`kura record list` shows whether a record was written")
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A read through the client hands its own error on.
        match error.downcast::<GetError>() {
            Ok(read) => read.into(),
            Err(error) => Failure::failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stay_as_documented() {
        let table = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Denied, 3),
            (Exit::NotFound, 4),
            (Exit::Unavailable, 5),
            (Exit::Unknown, 6),
            (Exit::Damaged, 7),
            (Exit::Conflict, 8),
            (Exit::Partly, 9),
            (Exit::Proposed, 10),
            (Exit::Behind, 11),
            (Exit::Unwell, 12),
            (Exit::Unread, 141),
        ];
        for (exit, code) in table {
            assert_eq!(exit as u8, code);
            assert!(Exit::HELP.contains(&format!("\n  {code:<2} ")), "{code} is not in the help");
        }
    }

    #[test]
    fn errors_become_codes_and_say_what_to_do() {
        let request: kura_client::RequestId = "018f0000000000000000000000000001".parse().unwrap();
        let table: Vec<(Failure, Exit)> = vec![
            (PutError::Unknown { request }.into(), Exit::Unknown),
            (PutError::Expired {}.into(), Exit::Unknown),
            (PutError::Body { source: std::io::Error::other("cut") }.into(), Exit::Failed),
            (ConsentError::Unknown { request }.into(), Exit::Unknown),
            (GetError::EndedEarly { bytes: 1, expected: 2 }.into(), Exit::Damaged),
            (GetError::WrongHash { part: 1 }.into(), Exit::Damaged),
            (OperationError::InDoubt { message: "cut".into() }.into(), Exit::Unknown),
            (ConnectError::NoNode { nodes: vec![] }.into(), Exit::Denied),
            (NotCommitted::Absent.into(), Exit::NotFound),
            (std::io::Error::from(GetError::WrongHash { part: 1 }).into(), Exit::Damaged),
        ];
        for (failure, exit) in table {
            assert_eq!(failure.exit, exit, "{failure}");
        }
        // Whoever is told that something is not there is told where to look.
        for what in ["the act is not there", "an erasure of this participant is not there", "v is not a member"] {
            assert!(missing(what).contains("list"), "{what}");
        }
        assert!(
            unfit("a certificate of role auditor may not do this: it takes one of role registrar")
                .contains("such a role")
        );
        // Another certificate's write may be there: nobody is sent to write it twice.
        let absent = Failure::from(NotCommitted::Absent);
        assert!(absent.message.contains("another certificate") && !absent.message.contains("anew"), "{absent}");
        assert!(absent.next.unwrap().starts_with("ask with the client configuration that wrote it"));
        let unknown = Failure::from(PutError::Unknown { request });
        assert!(unknown.next.unwrap().contains(&request.to_string()));
        let body = Failure::from(PutError::Body { source: std::io::Error::other("the disk is gone") });
        assert!(body.message.contains("the disk is gone"));
    }
}
