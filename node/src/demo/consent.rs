//! Consent at work: refused, granted, revoked, and everything in the participant's own list.

use std::collections::BTreeSet;

use kura_client::{ActingClient, Action, ActorKind, Class, Date, GetError, NewRecord, PutError, Reach};

use super::cast::{CARE, Cast, Clients, HOSPITAL, OUTSIDER, author_through};
use super::report::Report;
use super::writing::{Written, fetch};
use crate::cli::{self, Exit, Failure};
use crate::dev::{ClientFile, Cluster};

fn wrong(message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Damaged, message)
}

/// Over SSL-VPN laboratory results cannot be uploaded, whatever the participant granted.
pub(super) async fn access_line(clients: &Clients, cast: &Cast, report: &mut Report) -> Result<(), Failure> {
    report.begin("access line");
    let care = clients.author(&cast.places[CARE]);
    let record = NewRecord::new(Class::LaboratoryResult, "text/plain; charset=utf-8", Date::today());
    match care.put(&cast.people[0].number, record).bytes("HbA1c 5.6").await {
        Err(PutError::Denied(_)) => {}
        Err(other) => return Err(other.into()),
        Ok(_) => return Err(wrong("a laboratory result was taken over SSL-VPN")),
    }
    report.done("a laboratory result over SSL-VPN is refused", "1 refusal");
    Ok(())
}

/// A facility that is not named, then named, then revoked, asks for a record. Answers the record.
pub(super) async fn grant_and_revoke(
    cluster: &Cluster,
    clients: &Clients,
    cast: &Cast,
    written: &[Written],
    report: &mut Report,
) -> Result<Written, Failure> {
    let mine = written.iter().find(|one| one.participant == 0 && one.place == HOSPITAL);
    let record = mine.or_else(|| written.iter().find(|one| one.participant == 0)).or(written.first());
    let record = record.ok_or_else(|| Failure::failed("nothing was written"))?;
    let owner = &cast.people[record.participant];
    let outsider = &cast.places[OUTSIDER];

    report.begin("not permitted");
    refused(&clients.author(outsider), record, cast).await?;
    report.done("a facility that the participant did not name is refused", "1 refusal");

    report.begin("grant");
    let person = clients.person(owner);
    person.grant(&outsider.sample.id).await?;
    let found = fetch(&clients.author(outsider), &owner.number, record.record).await?;
    if found != record.print {
        return Err(wrong("the record came back with other bytes"));
    }
    report.done("the participant names it: the same read succeeds", "1 record, byte-exact");

    report.begin("revoke");
    let receipt = person.revoke(&outsider.sample.id).await?;
    let mut nodes = 0;
    for voter in cluster.plan().voters() {
        let only = cluster.client_at(ClientFile::Application, &voter.name).await?;
        refused(&author_through(&only, outsider), record, cast).await?;
        nodes += 1;
    }
    let reach = match receipt.reach() {
        Reach::BeyondPrefecture => "revocation durable beyond the prefecture",
        Reach::NotYetBeyond => "revocation durable, not yet beyond the prefecture",
        Reach::NoBackup => "revocation durable; no backup",
        Reach::NotAwaited => return Err(wrong("a revocation was acknowledged without waiting for the backup")),
    };
    report.done(
        "the participant takes it back: refused on every voter from then on",
        format!("{nodes} refusals; {reach}"),
    );
    Ok(record.clone())
}

async fn refused(acting: &ActingClient, record: &Written, cast: &Cast) -> Result<(), Failure> {
    match acting.get(&cast.people[record.participant].number, record.record).await {
        Err(GetError::Denied(_)) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(wrong("a read succeeded that no consent covers")),
    }
}

/// Accesses of the list that are printed.
const PRINTED: usize = 14;

/// The participant's own list shows all of it, with reasons.
pub(super) async fn access_list(
    clients: &Clients,
    cast: &Cast,
    record: &Written,
    report: &mut Report,
) -> Result<(), Failure> {
    report.begin("access list");
    let owner = &cast.people[record.participant];
    let mut stream = clients.person(owner).accesses().stream();
    let outsider = &cast.places[OUTSIDER].sample.id;
    let mut rows = Vec::new();
    let (mut reads, mut refusals) = (0, 0);
    let mut actions = BTreeSet::new();
    while let Some(access) = stream.next().await {
        let access = access?;
        if access.facility == *outsider && access.action == Action::Get {
            if access.denial.is_empty() { reads += 1 } else { refusals += 1 }
        }
        if access.actor_kind == ActorKind::Participant {
            actions.insert(access.action);
        }
        rows.push(cli::AccessRow::from(access));
    }
    // One refusal before the grant and one on each voter after the revocation; further ones of a
    // kind may be counted in one entry.
    if reads != 1 || refusals < 2 {
        return Err(wrong(format!("the list shows {reads} reads and {refusals} refusals of that facility")));
    }
    if !actions.contains(&Action::Grant) || !actions.contains(&Action::Revoke) {
        return Err(wrong("the list lacks the participant's own grant or revocation"));
    }
    rows.sort_by_key(cli::AccessRow::journal_position);
    if !report.output().json {
        let mut table = cli::table(&cli::ACCESS_HEADING);
        for row in &rows[rows.len().saturating_sub(PRINTED)..] {
            table.add_row(row.row());
        }
        let shown = cli::shown(table);
        report.print_now(&format!("Who accessed the participant's records (the last of {}):\n{shown}", rows.len()))?;
    }
    report.done(
        "the participant sees who read, who was refused and why, and what they changed themselves",
        format!("{} entries, {reads} read and {refusals} refusals of that facility", rows.len()),
    );
    Ok(())
}
