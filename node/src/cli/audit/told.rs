//! An entry of the journal, as it is printed.

use kura_client::Access;
use kura_cluster::hexadecimal;
use serde::Serialize;

use crate::cli::output::moment;

/// One entry. Fields that only auditors and facilities are told are left out where they are empty.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    journal_position: u64,
    at_ms: u64,
    actor_kind: &'static str,
    facility: String,
    actor: String,
    method: Option<&'static str>,
    application: String,
    action: String,
    record: Option<String>,
    version: u32,
    class: Option<&'static str>,
    basis: String,
    denial: String,
    purpose: Option<&'static str>,
    object: String,
    reason: String,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    range_start: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    episode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_records: Vec<Refused>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_records: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salvaged: Option<Salvaged>,
}

/// Where something that was salvaged was written first.
#[derive(Debug, Serialize)]
struct Salvaged {
    timeline: u64,
    index: u64,
    at_ms: u64,
    by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    facility: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    actor: String,
}

/// A record that was refused in an access to several.
#[derive(Debug, Serialize)]
struct Refused {
    record: String,
    denial: String,
}

/// Refused records that a table names; the rest are counted.
const REFUSED_SHOWN_MAX: usize = 4;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Heading of the table of a participant's accesses.
pub(crate) const HEADING: [&str; 8] = ["when", "facility", "who", "did", "about", "class", "basis", "through"];

/// Heading of the table of an auditor's or a facility's list.
pub(in crate::cli) const FULL_HEADING: [&str; 10] =
    ["position", "when", "facility", "who", "did", "participant", "about", "class", "basis", "through"];

impl From<Access> for Told {
    fn from(access: Access) -> Self {
        let words = |ids: Vec<kura_client::RecordId>| ids.iter().map(ToString::to_string).collect();
        Self {
            journal_position: access.journal_position,
            at_ms: access.at_ms,
            actor_kind: access.actor_kind.word(),
            facility: access.facility,
            actor: access.actor,
            method: access.method.map(|method| method.word()),
            application: access.application,
            action: access.action.to_string(),
            record: access.record.map(|record| record.to_string()),
            version: access.version,
            class: access.class.map(|class| class.word()),
            basis: access.basis,
            denial: access.denial,
            purpose: access.purpose.map(|purpose| purpose.word()),
            object: access.object,
            reason: access.reason,
            count: access.count,
            participant: access.participant.map(|number| number.reveal().to_owned()),
            gateway: access.gateway,
            request: access.request.map(|request| request.to_string()),
            range_start: access.range_start,
            episode: access.episode.map(hexadecimal),
            records: words(access.records),
            refused_records: access
                .refused_records
                .into_iter()
                .map(|refused| Refused { record: refused.record.to_string(), denial: refused.denial })
                .collect(),
            damaged_records: words(access.damaged_records),
            act: access.act.map(hexadecimal),
            salvaged: access.salvaged.map(|from| Salvaged {
                timeline: from.timeline,
                index: from.index,
                at_ms: from.at_ms,
                by: from.by,
                facility: from.facility,
                actor: from.actor,
            }),
        }
    }
}

impl Told {
    /// Position in the journal: the order of what happened.
    pub(crate) fn journal_position(&self) -> u64 {
        self.journal_position
    }

    /// The row of a participant's table.
    pub(crate) fn row(&self) -> Vec<String> {
        let who = if self.actor_kind == "participant" { "the participant".into() } else { self.actor.clone() };
        vec![
            moment(self.at_ms),
            self.facility.clone(),
            who,
            self.action.clone(),
            self.object.clone(),
            self.class.unwrap_or_default().to_owned(),
            self.ground(),
            self.application.clone(),
        ]
    }

    /// The row of an auditor's or a facility's table.
    pub(in crate::cli) fn full_row(&self) -> Vec<String> {
        let count = if self.count > 1 { format!(" (×{})", self.count) } else { String::new() };
        vec![
            self.journal_position.to_string(),
            moment(self.at_ms),
            self.facility.clone(),
            self.actor.clone(),
            format!("{}{count}", self.action),
            self.participant.clone().unwrap_or_default(),
            self.object.clone(),
            self.class.unwrap_or_default().to_owned(),
            self.ground(),
            self.application.clone(),
        ]
    }

    fn ground(&self) -> String {
        let basis = if self.denial.is_empty() { self.basis.clone() } else { format!("DENIED: {}", self.denial) };
        let ground = if self.reason.is_empty() { basis } else { format!("{basis}, {}", self.reason) };
        let salvaged = self.salvaged.as_ref().map(|from| {
            let then = [&from.facility[..], &from.actor].into_iter().filter(|word| !word.is_empty());
            let then = then.collect::<Vec<_>>().join("/");
            let asked = if then.is_empty() { String::new() } else { format!(" as asked there by {then}") };
            format!(", salvaged from timeline {}{asked}", from.timeline)
        });
        ground + &self.refused() + &self.damaged() + &salvaged.unwrap_or_default()
    }

    /// What was asked for and did not open.
    fn damaged(&self) -> String {
        match &self.damaged_records[..] {
            [] => String::new(),
            [one] => format!("; {one} does not open: damaged"),
            several => format!("; {} do not open: damaged ({})", several.len(), several.join(", ")),
        }
    }

    /// What was refused of several records while others were handed out; a denial of the whole says it itself.
    fn refused(&self) -> String {
        if self.refused_records.is_empty() || !self.denial.is_empty() {
            return String::new();
        }
        let named = self.refused_records.iter().take(REFUSED_SHOWN_MAX);
        let mut words: Vec<String> = named.map(|one| format!("{} {}", one.record, one.denial)).collect();
        if let Some(more @ 1..) = self.refused_records.len().checked_sub(REFUSED_SHOWN_MAX) {
            words.push(format!("{more} more (--json)"));
        }
        format!("; of {} refused: {}", self.records.len() + self.refused_records.len(), words.join(", "))
    }
}
