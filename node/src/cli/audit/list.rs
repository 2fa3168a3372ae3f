//! `kura audit list`: the participant's list, the auditor's, and a facility's own.

use clap::Args;
use kura_client::{Access, Action, Client, Date, JournalList, ListError, Listing, ParticipantNumber};

use super::told::{FULL_HEADING, HEADING, Told};
use crate::cli::acting::ActingOptions;
use crate::cli::exit::Failure;
use crate::cli::given::{day, in_order, text};
use crate::cli::number::NumberArgument;
use crate::cli::output::{Output, note};

/// Entries of the whole journal, or of a facility, that a list shows unless told otherwise.
const LIMIT_DEFAULT: u32 = 1_000;

/// Options of `kura audit list`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The participant's number; `-` reads it from standard input.
    #[arg(conflicts_with = "own_facility")]
    number: Option<NumberArgument>,
    /// The whole journal, as an auditor (with an auditor's client configuration).
    #[arg(long, conflicts_with_all = ["own_facility", "who"])]
    all: bool,
    /// What the users of one's own facility did (with --as, for a user with that right).
    #[arg(long, requires = "user")]
    own_facility: bool,
    #[command(flatten)]
    filter: FilterOptions,
    /// Only actors of this name: a user's id, a participant's number, an office's name (--all, --own-facility).
    #[arg(long, value_name = "NAME", value_parser = text)]
    actor: Option<String>,
    /// Only what was denied.
    #[arg(long)]
    denied: bool,
    /// From the oldest on.
    #[arg(long)]
    oldest_first: bool,
    /// Entries at most [default: 1000; of a participant's list: all].
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// What narrows a list.
#[derive(Debug, Args)]
pub struct FilterOptions {
    /// Only since this day in Japan, YYYY-MM-DD.
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<Date>,
    /// Only up to this day in Japan, YYYY-MM-DD.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<Date>,
    /// Only what this facility's users did, or what is about it (not with --own-facility).
    #[arg(long, value_parser = text)]
    facility: Option<String>,
    /// Only what came through this application (not with --own-facility).
    #[arg(long, value_parser = text)]
    application: Option<String>,
    /// Only this action: get, put, grant, … (not with --own-facility). Can be given more than once.
    #[arg(long)]
    action: Vec<Action>,
}

impl FilterOptions {
    /// An auditor's list, narrowed.
    pub fn list(&self, client: &Client) -> JournalList {
        let mut list = client.journal().list();
        if let Some(day) = self.since {
            list = list.since(day);
        }
        if let Some(day) = self.until {
            list = list.until(day);
        }
        if let Some(facility) = &self.facility {
            list = list.facility(facility);
        }
        if let Some(application) = &self.application {
            list = list.application(application);
        }
        self.action.iter().fold(list, |list, action| list.action(*action))
    }

    /// What cannot be meant.
    pub fn check(&self) -> Result<(), Failure> {
        in_order(self.since, self.until)
    }

    fn is_not_for_facilities(&self) -> bool {
        self.facility.is_some() || self.application.is_some() || !self.action.is_empty()
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    arguments.filter.check()?;
    if arguments.own_facility && arguments.filter.is_not_for_facilities() {
        return Err(Failure::usage("a facility's own list is not narrowed by --facility, --application or --action")
            .next("leave them out; it takes --actor USER, --denied, --since and --until"));
    }
    let number = arguments.number.as_ref().map(NumberArgument::read).transpose()?;
    if arguments.all {
        let client = arguments.acting.connection.connect().await?;
        let stream = whole(&arguments, &client, number.as_ref());
        print(stream, arguments.limit.or(Some(LIMIT_DEFAULT)), true, output).await
    } else if arguments.own_facility {
        let stream = own_facility(&arguments).await?;
        print(stream, arguments.limit.or(Some(LIMIT_DEFAULT)), true, output).await
    } else {
        let number = number.ok_or_else(|| {
            Failure::usage("whose accesses? No participant's number was given").next(
                "kura audit list NUMBER --as-participant (- reads the number from standard input); --all for the whole \
                 journal, as an auditor; --own-facility --as FACILITY/USER for one's own facility",
            )
        })?;
        if arguments.actor.is_some() {
            return Err(Failure::usage(
                "--actor: a participant's list is not narrowed by it: it shows the facility, and \
                                       the person only if a setting says so",
            )
            .next("narrow it by --facility; --all, as an auditor, takes --actor"));
        }
        let stream = own(&arguments, &number).await?;
        print(stream, arguments.limit, false, output).await
    }
}

/// The participant's own list.
async fn own(arguments: &Arguments, number: &ParticipantNumber) -> Result<Listing<Access, ListError>, Failure> {
    let FilterOptions { since, until, facility, application, action } = &arguments.filter;
    let mut list = arguments.acting.act(Some(number)).await?.accesses(number);
    if let Some(day) = since {
        list = list.since(*day);
    }
    if let Some(day) = until {
        list = list.until(*day);
    }
    if let Some(facility) = facility {
        list = list.facility(facility);
    }
    if let Some(application) = application {
        list = list.application(application);
    }
    if arguments.denied {
        list = list.denied_only();
    }
    if arguments.oldest_first {
        list = list.oldest_first();
    }
    Ok(action.iter().fold(list, |list, action| list.action(*action)).stream())
}

fn whole(arguments: &Arguments, client: &Client, number: Option<&ParticipantNumber>) -> Listing<Access, ListError> {
    let mut list = arguments.filter.list(client);
    if let Some(number) = number {
        list = list.participant(number);
    }
    if let Some(actor) = &arguments.actor {
        list = list.actor(actor);
    }
    if arguments.denied {
        list = list.denied_only();
    }
    if arguments.oldest_first {
        list = list.oldest_first();
    }
    list.stream()
}

async fn own_facility(arguments: &Arguments) -> Result<Listing<Access, ListError>, Failure> {
    let mut list = arguments.acting.act(None).await?.facility_accesses();
    if let Some(day) = arguments.filter.since {
        list = list.since(day);
    }
    if let Some(day) = arguments.filter.until {
        list = list.until(day);
    }
    if let Some(user) = &arguments.actor {
        list = list.user(user);
    }
    if arguments.denied {
        list = list.denied_only();
    }
    if arguments.oldest_first {
        list = list.oldest_first();
    }
    Ok(list.stream())
}

async fn print(
    mut stream: Listing<Access, ListError>,
    limit: Option<u32>,
    full: bool,
    output: Output,
) -> Result<(), Failure> {
    let mut kept = Vec::new();
    let mut printed = 0;
    let mut there_is_more = false;
    while let Some(access) = stream.next().await {
        let told = Told::from(access?);
        if limit == Some(printed) {
            there_is_more = true;
            break;
        }
        printed += 1;
        // A program gets each as it comes; a table needs them all to fit its columns.
        if output.json {
            output.line(&told)?;
        } else {
            kept.push(told);
        }
    }
    if !output.json {
        match full {
            true => output.list(&kept, &FULL_HEADING, Told::full_row)?,
            false => output.list(&kept, &HEADING, Told::row)?,
        }
    }
    if there_is_more {
        note("there are more: raise --limit, or narrow the list");
    }
    Ok(())
}
