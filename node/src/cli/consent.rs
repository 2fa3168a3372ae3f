//! `kura consent …`: what participants consent to.

use clap::{Args, Subcommand};
use kura_client::{ConsentChange, Consents, Date, Link};
use serde::Serialize;

use super::acting::ActingOptions;
use super::exit::Failure;
use super::given::{day_so_far, text};
use super::number::NumberArgument;
use super::output::{Output, moment, note, table};
use super::receipt;

/// `kura consent …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enter that a participant names a facility.
    Grant(FacilityArguments),
    /// Enter that a participant takes back a grant: no read that starts later succeeds.
    Revoke(FacilityArguments),
    /// Enter that a participant leaves: ends all reads and writes.
    Withdraw(WithdrawArguments),
    /// What a participant consents to.
    Show(ShowArguments),
}

/// Options of `kura consent grant` and `revoke`.
#[derive(Debug, Args)]
pub struct FacilityArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// The facility.
    #[arg(value_parser = text)]
    facility: String,
    /// Reference to the evidence; a facility's user must give one.
    #[arg(long, value_parser = text)]
    evidence: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Options of `kura consent withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// Reference to the evidence; a facility's user must give one.
    #[arg(long, value_parser = text)]
    evidence: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Options of `kura consent show` and `kura participant show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The participant's number; `-` reads it from standard input.
    number: NumberArgument,
    /// As it was at the beginning of this day in Japan, YYYY-MM-DD.
    #[arg(long, value_name = "DAY", value_parser = day_so_far)]
    as_of: Option<Date>,
    #[command(flatten)]
    acting: ActingOptions,
}

/// Runs it.
pub async fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Grant(FacilityArguments { number, facility, evidence, acting }) => {
            let number = number.read()?;
            change(acting.act(Some(&number)).await?.grant(&number, facility), evidence, output).await
        }
        Command::Revoke(FacilityArguments { number, facility, evidence, acting }) => {
            let number = number.read()?;
            change(acting.act(Some(&number)).await?.revoke(&number, facility), evidence, output).await
        }
        Command::Withdraw(WithdrawArguments { number, evidence, acting }) => {
            let number = number.read()?;
            change(acting.act(Some(&number)).await?.withdraw(&number), evidence, output).await
        }
        Command::Show(arguments) => show(arguments, output).await,
    }
}

async fn change(change: ConsentChange, evidence: Option<String>, output: Output) -> Result<(), Failure> {
    receipt::print(&change.evidence(evidence.unwrap_or_default()).await?, output)
}

/// Consents, as they are printed.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    signed_on: Date,
    proxy: String,
    proxy_relation: String,
    evidence: String,
    entered_ms: u64,
    entered_by: String,
    withdrawn_ms: Option<u64>,
    withdrawn_by: String,
    withdrawal_evidence: String,
    grants: Vec<Grant>,
    local_ids: Vec<String>,
    links: Vec<Link>,
    alias_of: Option<String>,
    journal_position: u64,
}

#[derive(Debug, Serialize)]
struct Grant {
    facility: String,
    granted_ms: u64,
    revoked_ms: Option<u64>,
    entered_by: String,
    by_beneficiary: bool,
    evidence: String,
    revoked_by: String,
    revocation_evidence: String,
    confirmed_ms: Option<u64>,
    under: Option<String>,
}

/// Runs `kura consent show` and `kura participant show`.
pub async fn show(arguments: ShowArguments, output: Output) -> Result<(), Failure> {
    let number = arguments.number.read()?;
    let acting = arguments.acting.act(Some(&number)).await?;
    let as_of_ms = arguments.as_of.map_or(0, Date::begins_ms);
    let told = Told::from(acting.consents_as_of(&number, as_of_ms).await?);
    let status = match told.withdrawn_ms {
        Some(at_ms) if told.withdrawn_by.is_empty() => format!("withdrew {}", moment(at_ms)),
        Some(at_ms) => {
            let Told { withdrawn_by, withdrawal_evidence, .. } = &told;
            format!("withdrew {}, entered by {withdrawn_by} on {withdrawal_evidence}", moment(at_ms))
        }
        None => "takes part".into(),
    };
    let mut fields = vec![("participant", status), ("consent signed on", told.signed_on.to_string())];
    if let Some(stays) = &told.alias_of {
        fields.push(("alias of", stays.clone()));
    }
    if !told.proxy.is_empty() {
        fields.push(("by proxy", format!("{} ({})", told.proxy, told.proxy_relation)));
    }
    fields.push(("evidence", told.evidence.clone()));
    fields.push(("entered", moment(told.entered_ms)));
    if !told.local_ids.is_empty() {
        fields.push(("own ids", told.local_ids.join(", ")));
    }
    output.thing(&told, &fields)?;
    if output.json {
        return Ok(());
    }
    if told.grants.is_empty() {
        note("no facility is named");
        return Ok(());
    }
    let by = |facility: &str| if facility.is_empty() { "the participant".to_owned() } else { facility.to_owned() };
    let mut grants = table(&["facility", "granted", "entered by", "evidence", "ended", "ended by", "note"]);
    for grant in &told.grants {
        grants.add_row([
            grant.facility.clone(),
            moment(grant.granted_ms),
            by(&grant.entered_by),
            grant.evidence.clone(),
            grant.revoked_ms.map_or_else(String::new, moment),
            grant.revoked_ms.map_or_else(String::new, |_| by(&grant.revoked_by)),
            remark(grant),
        ]);
    }
    output.table(grants)
}

/// What else there is to say of a grant.
fn remark(grant: &Grant) -> String {
    let by_itself = grant.by_beneficiary.then(|| "by the facility itself".to_owned());
    let confirmed = grant.confirmed_ms.map(|at_ms| format!("confirmed {}", moment(at_ms)));
    let under = grant.under.as_ref().map(|number| format!("under {number}"));
    [by_itself, confirmed, under].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl From<Consents> for Told {
    fn from(consents: Consents) -> Self {
        let Consents {
            consent,
            entered_ms,
            entered_by,
            withdrawn_ms,
            withdrawn_by,
            withdrawal_evidence,
            grants,
            local_ids,
            links,
            alias_of,
            journal_position,
        } = consents;
        let grant = |grant: kura_client::Grant| Grant {
            facility: grant.facility,
            granted_ms: grant.granted_ms,
            revoked_ms: grant.revoked_ms,
            entered_by: grant.entered_by,
            by_beneficiary: grant.by_beneficiary,
            evidence: grant.evidence,
            revoked_by: grant.revoked_by,
            revocation_evidence: grant.revocation_evidence,
            confirmed_ms: grant.confirmed_ms,
            under: grant.under.map(|number| number.reveal().to_owned()),
        };
        Self {
            signed_on: consent.signed_on,
            proxy: consent.proxy,
            proxy_relation: consent.proxy_relation,
            evidence: consent.evidence,
            entered_ms,
            entered_by,
            withdrawn_ms,
            withdrawn_by,
            withdrawal_evidence,
            grants: grants.into_iter().map(grant).collect(),
            local_ids,
            links,
            alias_of: alias_of.map(|number| number.reveal().to_owned()),
            journal_position,
        }
    }
}
