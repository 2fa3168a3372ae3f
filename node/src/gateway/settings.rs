//! The network's settings and the declared disaster: shown, changed, declared, ended.

use kura_cluster::consent::{Act, Change, Settings, SettingsError, decide, is_in_force};
use kura_cluster::id::FacilityId;
use kura_cluster::row::{ActorRow, DisasterRow, ProfessionClasses, ReceiptRow, RowKey, SettingsRow};
use kura_cluster::word::{ActKind, Action};
use kura_proto::v1;

use super::acts::actor;
use super::attempt::Attempt;
use super::caller::CallerRows;
use super::consents::bounded;
use super::limits::{FACILITIES_MAX, PROFESSIONS_MAX};
use super::register::{Registrable, Registration};
use super::registry::registered;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// Name of the settings' row, and of what a registrar changes in it.
const NETWORK: &str = "network";
/// Name of the disaster's row.
const DISASTER: &str = "disaster";

impl Registrable for SettingsRow {
    const ACTION: Action = Action::Setting;
    const ACT: Option<ActKind> = Some(ActKind::Settings);
    const FIELD: &'static str = "settings";

    fn key(&self, _: &Attempt<'_>) -> RowKey {
        RowKey::setting(NETWORK)
    }

    fn object(&self) -> String {
        NETWORK.into()
    }

    fn absent() -> Option<Self> {
        Some(Settings::default().to_row())
    }

    fn change<R>(before: Option<&Self>, after: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R {
        let before = before.map_or_else(Settings::default, Settings::from_row);
        judge(Change::Settings { before: &before, after: &Settings::from_row(after) })
    }

    fn check(&self, _: &mut Attempt<'_>) -> Result<(), GatewayError> {
        Settings::check(self).map_err(out_of_bounds)
    }
}

impl Registrable for DisasterRow {
    const ACTION: Action = Action::Disaster;
    const ACT: Option<ActKind> = Some(ActKind::Disaster);
    const FIELD: &'static str = "disaster";

    fn key(&self, _: &Attempt<'_>) -> RowKey {
        RowKey::setting(DISASTER)
    }

    fn object(&self) -> String {
        DISASTER.into()
    }

    fn change<R>(_: Option<&Self>, _: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R {
        judge(Change::Disaster)
    }

    fn check(&self, attempt: &mut Attempt<'_>) -> Result<(), GatewayError> {
        let settings = attempt.settings()?;
        settings.check_disaster(self).map_err(|error| match error {
            SettingsError::OutOfBounds { field: field @ "until_ms", given, .. } => {
                let hours = |ms: u64| ms as f64 / 3_600_000.0;
                let (given, most) = (hours(given.saturating_sub(self.from_ms)), hours(settings.disaster_ms_max));
                GatewayError::invalid(
                    field,
                    format!("is {given:.1} h after the beginning; at most {most:.1} h are permitted (disaster_ms_max)"),
                )
            }
            error => out_of_bounds(error),
        })?;
        if self.until_ms <= attempt.now_ms {
            return Err(GatewayError::invalid("until_ms", "has passed"));
        }
        self.facilities.iter().try_for_each(|facility| registered(attempt, facility))
    }

    fn confirmed(self, proposed_by: Option<&ActorRow>, confirmed_by: &ActorRow) -> Self {
        Self { proposed_by: proposed_by.cloned(), confirmed_by: Some(confirmed_by.clone()), ended_by: None, ..self }
    }
}

impl Gateway {
    /// The settings, nothing left to a default, and the disaster declared last.
    pub async fn show_settings(&self, caller: &Caller) -> Result<v1::ShowSettingsReply, GatewayError> {
        let done = self
            .transact(caller, Action::ListRegistry, None, |attempt| {
                attempt.entry.object = "setting".into();
                let rows = CallerRows::load(attempt, caller)?;
                let disaster = attempt.disaster()?;
                let decision = decide(&rows.facts(attempt.now_ms, Act::ListRegistry, None, None));
                let verdict = Verdict::of(decision, |_| {
                    Ok(v1::ShowSettingsReply {
                        settings: Some(settings_told(rows.settings().to_row())),
                        disaster_in_force: disaster.as_ref().is_some_and(|row| is_in_force(row, attempt.now_ms)),
                        disaster: disaster.as_deref().map(disaster_told),
                        journal_position: 0,
                    })
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        let journal_position = done.committed.journal_first;
        Ok(v1::ShowSettingsReply { journal_position, ..done.value.ok_or(GatewayError::Unknown)? })
    }

    /// Changes the settings: by one registrar if nothing becomes wider.
    pub async fn put_settings(
        &self,
        caller: &Caller,
        request: v1::PutSettingsRequest,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let row = settings(request.settings.ok_or_else(|| GatewayError::invalid("settings", "is missing"))?)?;
        let before = request.before.ok_or_else(|| GatewayError::invalid("before", "is missing"))?;
        let before = Some(settings(before)?);
        self.register(caller, asked, Registration { row, before, reason: request.reason, warnings: Vec::new() }).await
    }

    /// Proposes a disaster to a second registrar.
    pub async fn declare_disaster(
        &self,
        caller: &Caller,
        request: v1::DeclareDisasterRequest,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let given = request.disaster.ok_or_else(|| GatewayError::invalid("disaster", "is missing"))?;
        let row = disaster(given, self.now_ms()?)?;
        // What was declared last is replaced, whatever it was: only that it has not changed is confirmed.
        let before = self.disaster_now()?;
        self.register(caller, asked, Registration { row, before, reason: request.reason, warnings: Vec::new() }).await
    }

    fn disaster_now(&self) -> Result<Option<DisasterRow>, GatewayError> {
        let mut attempt = Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
        Ok(attempt.disaster()?.as_deref().cloned())
    }

    /// Ends the declared disaster before its time.
    pub async fn end_disaster(
        &self,
        caller: &Caller,
        request: v1::EndDisasterRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        bounded("reason", &request.reason)?;
        let done = self
            .transact(caller, Action::EndDisaster, Some(&asked), |attempt| {
                attempt.entry.reason = request.reason.clone();
                let rows = CallerRows::load(attempt, caller)?;
                let key = RowKey::setting(DISASTER);
                let found = attempt.load::<DisasterRow>(&key)?;
                let decision = decide(&rows.facts(attempt.now_ms, Act::EndDisaster, None, None));
                let verdict = Verdict::of(decision, |_| {
                    let row = found.value.as_deref().ok_or(GatewayError::Damaged { what: "setting" })?;
                    attempt.entry.object = row.name.clone();
                    let ended = DisasterRow { ended_by: Some(caller.journalled()), ..row.clone() };
                    attempt.put(&key, found.revision, &ended);
                    Ok(())
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
    }
}

fn out_of_bounds(error: SettingsError) -> GatewayError {
    let field = match error {
        SettingsError::OutOfBounds { field, .. }
        | SettingsError::Unknown { field, .. }
        | SettingsError::Twice { field, .. } => field,
    };
    let words = error.to_string();
    // The error's words begin with the field, and so will this error's.
    let why = words.strip_prefix(field).map_or(&words[..], str::trim_start).to_owned();
    GatewayError::invalid(field, why)
}

/// Settings within their bounds, as a row with nothing left to a default: what it holds is what is decided by.
fn settings(given: v1::Settings) -> Result<SettingsRow, GatewayError> {
    if given.professions.len() > PROFESSIONS_MAX {
        let why = format!("{} are given, the limit is {PROFESSIONS_MAX}", given.professions.len());
        return Err(GatewayError::invalid("professions", why));
    }
    let classes = |of: v1::ProfessionClasses| ProfessionClasses { profession: of.profession, classes: of.classes };
    let row = SettingsRow {
        professions: given.professions.into_iter().map(classes).collect(),
        emergency_ms: given.emergency_ms,
        emergency_window_ms: given.emergency_window_ms,
        emergency_user_max: given.emergency_user_max,
        emergency_facility_max: given.emergency_facility_max,
        emergency_application_max: given.emergency_application_max,
        emergency_credential: given.emergency_credential,
        disaster_ms_max: given.disaster_ms_max,
        erasure_grace_ms: given.erasure_grace_ms,
        erasures_day_max: given.erasures_day_max,
        act_ms: given.act_ms,
        own_grants_max: given.own_grants_max,
        own_grants_window_ms: given.own_grants_window_ms,
        participants_read: given.participants_read,
        accesses_show_person: given.accesses_show_person,
    };
    Settings::check(&row).map_err(out_of_bounds)?;
    Ok(Settings::from_row(&row).to_row())
}

fn settings_told(row: SettingsRow) -> v1::Settings {
    let classes = |of: ProfessionClasses| v1::ProfessionClasses { profession: of.profession, classes: of.classes };
    v1::Settings {
        professions: row.professions.into_iter().map(classes).collect(),
        emergency_ms: row.emergency_ms,
        emergency_window_ms: row.emergency_window_ms,
        emergency_user_max: row.emergency_user_max,
        emergency_facility_max: row.emergency_facility_max,
        emergency_application_max: row.emergency_application_max,
        emergency_credential: row.emergency_credential,
        disaster_ms_max: row.disaster_ms_max,
        erasure_grace_ms: row.erasure_grace_ms,
        erasures_day_max: row.erasures_day_max,
        act_ms: row.act_ms,
        own_grants_max: row.own_grants_max,
        own_grants_window_ms: row.own_grants_window_ms,
        participants_read: row.participants_read,
        accesses_show_person: row.accesses_show_person,
    }
}

/// A disaster as it is declared. Its length and what it names are checked with the settings.
fn disaster(given: v1::Disaster, now_ms: u64) -> Result<DisasterRow, GatewayError> {
    if given.name.is_empty() {
        return Err(GatewayError::invalid("name", "is missing"));
    }
    bounded("name", &given.name)?;
    if given.facilities.len() > FACILITIES_MAX {
        let why = format!("{} are given, the limit is {FACILITIES_MAX}", given.facilities.len());
        return Err(GatewayError::invalid("facilities", why));
    }
    for facility in &given.facilities {
        FacilityId::parse(facility).map_err(|e| GatewayError::invalid("facilities", e))?;
    }
    Ok(DisasterRow {
        name: given.name,
        from_ms: if given.from_ms == 0 { now_ms } else { given.from_ms },
        until_ms: given.until_ms,
        professions: given.professions,
        facility_kinds: given.facility_kinds,
        facilities: given.facilities,
        caps_factor: given.caps_factor,
        ..DisasterRow::default()
    })
}

fn disaster_told(row: &DisasterRow) -> v1::Disaster {
    v1::Disaster {
        name: row.name.clone(),
        from_ms: row.from_ms,
        until_ms: row.until_ms,
        professions: row.professions.clone(),
        facility_kinds: row.facility_kinds.clone(),
        facilities: row.facilities.clone(),
        caps_factor: row.caps_factor,
        proposed_by: row.proposed_by.as_ref().map(actor),
        confirmed_by: row.confirmed_by.as_ref().map(actor),
        ended_by: row.ended_by.as_ref().map(actor),
    }
}
