//! `kura review …`: what auditors look at afterwards.

use clap::{Args, Subcommand};
use kura_client::{Access, Client, Date, EmergencyId, ListError, Review, ReviewId, ReviewVerdict};
use serde::Serialize;

use super::acting::ClientOption;
use super::audit::{FULL_HEADING, Told as AccessTold};
use super::exit::Failure;
use super::given::text;
use super::output::{Output, moment};
use super::receipt;

/// `kura review …`. With an auditor's client configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Emergencies, aliases, people taken back after they had left, and grants that a facility entered for itself, in
    /// return for another's, or for people whom it does not know or knows at second hand: those that wait for a
    /// verdict, oldest first.
    List {
        /// Those that have a verdict.
        #[arg(long)]
        closed: bool,
        #[command(flatten)]
        client: ClientOption,
    },
    /// One of them; of an emergency also what was read under it.
    Show {
        /// The review.
        review: ReviewId,
        #[command(flatten)]
        client: ClientOption,
    },
    /// Give a verdict, once. The participant sees the verdict, not the note.
    Close(CloseArguments),
}

/// Options of `kura review close`.
#[derive(Debug, Args)]
pub struct CloseArguments {
    /// The review.
    review: ReviewId,
    /// justified or unjustified.
    #[arg(long)]
    verdict: ReviewVerdict,
    /// A note for auditors.
    #[arg(long, value_parser = text)]
    note: Option<String>,
    #[command(flatten)]
    client: ClientOption,
}

#[derive(Debug, Serialize)]
struct Told {
    review: ReviewId,
    kind: &'static str,
    queued_ms: u64,
    participant: String,
    facility: String,
    actor: String,
    application: String,
    reason: String,
    emergency: Option<EmergencyId>,
    granted: String,
    duplicate: String,
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accesses: Option<Vec<AccessTold>>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    verdict: &'static str,
    by: String,
    at_ms: u64,
    note: String,
}

impl From<Review> for Told {
    fn from(review: Review) -> Self {
        Self {
            review: review.id,
            kind: review.kind.word(),
            queued_ms: review.queued_ms,
            participant: review.participant.reveal().to_owned(),
            facility: review.facility,
            actor: review.actor,
            application: review.application,
            reason: review.reason,
            emergency: review.emergency,
            granted: review.granted,
            duplicate: review.duplicate.map(|number| number.reveal().to_owned()).unwrap_or_default(),
            verdict: review.verdict.map(|given| Verdict {
                verdict: given.verdict.word(),
                by: given.by,
                at_ms: given.at_ms,
                note: given.note,
            }),
            accesses: None,
        }
    }
}

impl Told {
    fn verdict(&self) -> String {
        self.verdict.as_ref().map_or_else(String::new, |given| format!("{} ({})", given.verdict, given.by))
    }
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { closed, client } => list(closed, &client.connect().await?, output).await,
        Command::Show { review, client } => show(review, &client.connect().await?, output).await,
        Command::Close(CloseArguments { review, verdict, note, client }) => {
            let closed =
                client.connect().await?.reviews().close(review, verdict).note(note.unwrap_or_default()).await?;
            receipt::print(&closed, output)
        }
    }
}

const HEADING: [&str; 8] = ["review", "queued", "what", "facility", "who", "participant", "reason", "verdict"];

async fn list(closed: bool, client: &Client, output: Output) -> Result<(), Failure> {
    let reviews = client.reviews();
    let mut stream = if closed { reviews.closed() } else { reviews.open() };
    let mut items = Vec::new();
    while let Some(review) = stream.next().await {
        items.push(Told::from(review?));
    }
    output.list(&items, &HEADING, |one| {
        vec![
            one.review.to_string(),
            moment(one.queued_ms),
            one.kind.to_owned(),
            one.facility.clone(),
            one.actor.clone(),
            one.participant.clone(),
            one.reason.clone(),
            one.verdict(),
        ]
    })
}

async fn show(id: ReviewId, client: &Client, output: Output) -> Result<(), Failure> {
    let review = client.reviews().find(id).await?;
    let accesses = match review.emergency {
        Some(emergency) => Some(read_under(client, &review, emergency).await?),
        None => None,
    };
    let told = Told { accesses, ..Told::from(review) };
    let mut fields = vec![
        ("review", told.review.to_string()),
        ("what", told.kind.to_owned()),
        ("queued", moment(told.queued_ms)),
        ("participant", told.participant.clone()),
        ("by", format!("{}/{} through {}", told.facility, told.actor, told.application)),
        ("reason", told.reason.clone()),
    ];
    if let Some(emergency) = told.emergency {
        fields.push(("emergency", emergency.to_string()));
    }
    match &told.verdict {
        Some(given) => {
            fields.push(("verdict", format!("{} by {}, {}", given.verdict, given.by, moment(given.at_ms))));
            fields.push(("note", given.note.clone()));
        }
        None => fields.push(("verdict", "none yet: kura review close".into())),
    }
    output.thing(&told, &fields)?;
    match &told.accesses {
        Some(accesses) if !output.json => output.list(accesses, &FULL_HEADING, AccessTold::full_row),
        _ => Ok(()),
    }
}

/// What was done and tried under an emergency, oldest first. It is queued when it opens and lasts a day at most; a
/// day more on either side is for clocks.
async fn read_under(client: &Client, review: &Review, emergency: EmergencyId) -> Result<Vec<AccessTold>, ListError> {
    let day = Date::at_ms(review.queued_ms).days();
    let list = client.journal().list().participant(&review.participant);
    let mut stream = list.since(Date::from_days(day - 1)).until(Date::from_days(day + 2)).oldest_first().stream();
    let mut found = Vec::new();
    while let Some(access) = stream.next().await {
        let access: Access = access?;
        if access.episode == Some(*emergency.as_bytes()) {
            found.push(AccessTold::from(access));
        }
    }
    Ok(found)
}
