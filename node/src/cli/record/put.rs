//! `kura record put`: a body of any length, in constant memory.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use clap::Args;
use kura_client::limit::SIGNATURE_BYTES_MAX;
use kura_client::{ActingClient, BODY_PART, Class, Date, NewRecord, ParticipantNumber, RecordId, RequestId, now_ms};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::body::Body;
use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::files::unreadable;
use crate::cli::given::text;
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, Progress};
use crate::cli::receipt;

/// The media type of which nothing is said.
const UNSAID: &str = "application/octet-stream";

/// Options of `kura record put`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input, as the line before the body if
    /// that comes from there, too.
    number: NumberArgument,
    /// The body; `-` reads it from standard input.
    #[arg(required_unless_present = "part", conflicts_with = "part")]
    file: Option<PathBuf>,
    /// A named part of the body instead; up to 1,024, in their order. The file may be `-`.
    #[arg(long, value_name = "NAME=FILE[,MEDIA-TYPE]")]
    part: Vec<NamedPart>,
    /// The body, or one of its parts, may be empty, which is refused otherwise.
    #[arg(long)]
    empty: bool,
    /// What it is: referral-letter, discharge-summary, laboratory-result, prescription, dispensing,
    /// image, allergy, care-record, checkup or document. A version is what its record is.
    #[arg(long, required_unless_present = "version_of")]
    class: Option<Class>,
    /// Its media type; without it a version's is the former one's, and any other application/octet-stream.
    #[arg(long, value_parser = text)]
    media_type: Option<String>,
    /// The clinical date, YYYY-MM-DD; today without it. A version needs it: `kura record show` tells the former one's.
    #[arg(long, value_name = "DAY")]
    date: Option<Date>,
    /// The author's own id of the document: the same one is written once, however often it is put. It names the same
    /// class, day and facilities each time: give --date if it may be put again on another day.
    #[arg(long, value_name = "ID", value_parser = text)]
    document_id: Option<String>,
    /// A facility to which it is narrowed.
    #[arg(long, value_name = "FACILITY", value_parser = text)]
    to: Vec<String>,
    /// A further version of this record.
    #[arg(long, value_name = "RECORD", requires = "date")]
    version_of: Option<RecordId>,
    /// It stands in the place of this record, which stays visible and tells so.
    #[arg(long, value_name = "RECORD", group = "relation")]
    replaces: Option<RecordId>,
    /// It adds to this record.
    #[arg(long, value_name = "RECORD", group = "relation")]
    appends_to: Option<RecordId>,
    /// It is this record in another form.
    #[arg(long, value_name = "RECORD", group = "relation")]
    transforms: Option<RecordId>,
    /// The version of that record, if not its highest.
    #[arg(long, value_name = "VERSION", requires = "relation", value_parser = clap::value_parser!(u32).range(1..))]
    related_version: Option<u32>,
    #[command(flatten)]
    people: People,
    #[command(flatten)]
    signature: SignatureFiles,
    /// Wait until the backup outside the prefecture has it.
    #[arg(long)]
    beyond_prefecture: bool,
    /// Repeat an earlier request.
    #[arg(long)]
    request: Option<RequestId>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Who made it, and when. Users of the actor's facility; times as RFC 3339, such as
/// 2026-04-01T09:30:00+09:00.
#[derive(Debug, Args)]
struct People {
    /// The author, if not the actor.
    #[arg(long, value_name = "USER", value_parser = text)]
    author: Option<String>,
    /// When the author finished it, if not now.
    #[arg(long, value_name = "TIME")]
    authored_at: Option<Moment>,
    /// Who entered it, if not the actor.
    #[arg(long, value_name = "USER", value_parser = text)]
    enterer: Option<String>,
    /// When it was entered, if not now.
    #[arg(long, value_name = "TIME")]
    entered_at: Option<Moment>,
    /// Who confirmed it.
    #[arg(long, value_name = "USER", value_parser = text)]
    confirmer: Option<String>,
    /// When it was confirmed, if not now.
    #[arg(long, value_name = "TIME", requires = "confirmer")]
    confirmed_at: Option<Moment>,
}

/// A signature over the exact bytes.
#[derive(Debug, Args)]
struct SignatureFiles {
    /// A detached signature over the body (all parts joined), kept beside it; CMS in DER is checked by the
    /// cluster if it is configured to.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// A timestamp token (RFC 3161, DER) over the same bytes.
    #[arg(long, value_name = "FILE")]
    timestamp: Option<PathBuf>,
    /// What the application found when it verified them.
    #[arg(long, value_name = "WORDS", value_parser = text)]
    signature_result: Option<String>,
}

/// A part: NAME=FILE[,MEDIA-TYPE].
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedPart {
    name: String,
    file: PathBuf,
    media_type: Option<String>,
}

impl FromStr for NamedPart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write NAME=FILE or NAME=FILE,MEDIA-TYPE";
        let (name, rest) = text.split_once('=').ok_or(WRONG)?;
        // A media type has a slash and no comma: what follows the last comma is one only if it looks like it.
        let (file, media_type) = match rest.rsplit_once(',') {
            Some((file, media_type)) if media_type.contains('/') => (file, Some(media_type.to_owned())),
            _ => (rest, None),
        };
        if name.is_empty() || file.is_empty() {
            Err(WRONG)
        } else {
            Ok(Self { name: name.into(), file: file.into(), media_type })
        }
    }
}

/// A moment, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment(u64);

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write a time after 1970 as RFC 3339, such as 2026-04-01T09:30:00+09:00";
        let at =
            time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).map_err(|_| WRONG)?;
        let at_ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| WRONG)?;
        if at_ms == 0 { Err(WRONG) } else { Ok(Self(at_ms)) }
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let mut files = arguments.file.iter().chain(arguments.part.iter().map(|part| &part.file));
    let number = match files.any(|file| file.as_path() == Path::new("-")) {
        true => arguments.number.read_before_more("NUMBER")?,
        false => arguments.number.read()?,
    };
    let (progress, empty) = (Progress::bytes(), arguments.empty);
    let mut bodies = Vec::new();
    if let Some(file) = &arguments.file {
        let body = Body::open("FILE", file, empty, progress.clone()).await?;
        bodies.push((BODY_PART.to_owned(), None, body));
    }
    for NamedPart { name, file, media_type } in &arguments.part {
        bodies.push((name.clone(), media_type.clone(), Body::open("--part", file, empty, progress.clone()).await?));
    }
    let acting = arguments.acting.act(Some(&number)).await?;
    let (class, media_type) = kind(&arguments, &acting, &number).await?;
    let record = described(&arguments, class, media_type.clone()).await?;
    let mut put = acting.put(&number, record);
    for (name, own, body) in bodies {
        put = put.part(name, own.unwrap_or_else(|| media_type.clone()), body);
    }
    if arguments.beyond_prefecture {
        put = put.beyond_prefecture();
    }
    if let Some(request) = arguments.request {
        put = put.request(request);
    }
    let receipt = put.await?;
    drop(progress);
    receipt::print(&receipt, output)
}

/// Its class and media type: those that are given, else, of a version, those of the former one.
async fn kind(
    arguments: &Arguments,
    acting: &ActingClient,
    number: &ParticipantNumber,
) -> Result<(Class, String), Failure> {
    const GIVE: &str = "give --class and --media-type: what the version is, is not told to who may not read the record";
    let earlier = match (arguments.version_of, arguments.class, &arguments.media_type) {
        (_, Some(class), Some(media_type)) => return Ok((class, media_type.clone())),
        (None, Some(class), None) => return Ok((class, UNSAID.into())),
        (earlier, ..) => earlier.ok_or_else(|| Failure::usage("--class: is missing"))?,
    };
    let versions = acting.history(number, earlier).await;
    let versions = versions.map_err(|error| Failure::from(error).next(GIVE))?;
    let last = versions.into_iter().filter_map(|version| version.opened().ok()).next_back();
    let last = last.ok_or_else(|| Failure::usage("--version-of: no version of it can be read").next(GIVE))?;
    let class = arguments.class.unwrap_or(last.class);
    Ok((class, arguments.media_type.clone().unwrap_or(last.media_type)))
}

/// What is said of the record beside its body.
async fn described(arguments: &Arguments, class: Class, media_type: String) -> Result<NewRecord, Failure> {
    let now = || Moment(now_ms());
    let date = arguments.date.unwrap_or_else(Date::today);
    let mut record = NewRecord::new(class, media_type, date).addressees(&arguments.to);
    if let Some(id) = &arguments.document_id {
        record = record.document_id(id);
    }
    if let Some(earlier) = arguments.version_of {
        record = record.version_of(earlier);
    }
    record = match (arguments.replaces, arguments.appends_to, arguments.transforms) {
        (Some(other), ..) => record.replaces(other),
        (_, Some(other), _) => record.appends_to(other),
        (.., Some(other)) => record.transforms(other),
        _ => record,
    };
    if let Some(version) = arguments.related_version {
        record = record.related_version(version);
    }
    let people = &arguments.people;
    if let Some(author) = &people.author {
        record = record.author(author);
    }
    if let Some(Moment(at_ms)) = people.authored_at {
        record = record.authored_at(at_ms);
    }
    if let Some(enterer) = &people.enterer {
        record = record.enterer(enterer);
    }
    if let Some(Moment(at_ms)) = people.entered_at {
        record = record.entered_at(at_ms);
    }
    if let Some(confirmer) = &people.confirmer {
        record = record.confirmed_by(confirmer, people.confirmed_at.unwrap_or_else(now).0);
    }
    let SignatureFiles { signature, timestamp, signature_result } = &arguments.signature;
    let (signature, timestamp) =
        (small("--signature", signature.as_deref()).await?, small("--timestamp", timestamp.as_deref()).await?);
    Ok(record.signature(signature, timestamp, signature_result.as_deref().unwrap_or_default()))
}

/// A signature or token, as bytes; empty if there is none. The client names its bound.
async fn small(option: &str, path: Option<&Path>) -> Result<Bytes, Failure> {
    let Some(path) = path else { return Ok(Bytes::new()) };
    let cannot = |error| unreadable(option, path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).await.map_err(cannot)?;
    file.take(SIGNATURE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(cannot)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_times_are_read() {
        let part = |name: &str, file: &str, media_type: Option<&str>| {
            Ok(NamedPart { name: name.into(), file: file.into(), media_type: media_type.map(str::to_owned) })
        };
        assert_eq!("a=b.dcm,application/dicom".parse(), part("a", "b.dcm", Some("application/dicom")));
        assert_eq!("a=b,c".parse(), part("a", "b,c", None));
        assert_eq!("a=b=c".parse(), part("a", "b=c", None));
        for wrong in ["", "a", "=b", "a="] {
            assert!(wrong.parse::<NamedPart>().is_err(), "{wrong:?}");
        }
        assert_eq!("1970-01-01T09:00:01+09:00".parse(), Ok(Moment(1000)));
        for wrong in ["", "2026-04-01", "1969-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong:?}");
        }
    }
}
