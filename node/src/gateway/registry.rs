//! The registry: facilities, users, applications. By registrars.

use kura_cluster::consent::{Act, Change, decide};
use kura_cluster::id::{ApplicationName, FacilityId, InstitutionCode, UserId, is_blank};
use kura_cluster::row::{Application, Facility, ReceiptRow, RowKey, Table, User};
use kura_cluster::seal::Domain;
use kura_cluster::word::{AccessLine, ActKind, Action, FacilityKind, Profession, Status};
use kura_proto::v1;
use prost::Message;

use super::attempt::{Attempt, broken};
use super::caller::{CallerRows, load_facility, sha256_or_empty};
use super::consents::bounded;
use super::limits::FACILITIES_MAX;
use super::register::{Registrable, Registration};
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// Rows of a registry table that one listing returns at most.
const REGISTRY_ROWS_MAX: usize = 100_000;

impl Registrable for Facility {
    const ACTION: Action = Action::Facility;
    const ACT: Option<ActKind> = Some(ActKind::Facility);
    const FIELD: &'static str = "id";

    fn key(&self, attempt: &Attempt<'_>) -> RowKey {
        RowKey::hashed(Table::Facility, &attempt.hash(Domain::Facility, &[&self.id]))
    }

    fn is_inactive(&self) -> bool {
        self.status != Status::Active.number()
    }

    fn object(&self) -> String {
        self.id.clone()
    }

    fn facility(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn name(&self) -> Option<(&str, &str)> {
        Some(("", &self.id))
    }

    fn change<R>(before: Option<&Self>, after: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R {
        judge(Change::Facility { before, after })
    }

    fn check(&self, _: &mut Attempt<'_>) -> Result<(), GatewayError> {
        Ok(())
    }
}

impl Registrable for User {
    const ACTION: Action = Action::User;
    const ACT: Option<ActKind> = None;
    const FIELD: &'static str = "id";

    fn key(&self, attempt: &Attempt<'_>) -> RowKey {
        RowKey::hashed(Table::User, &attempt.hash(Domain::User, &[&self.facility, &self.id]))
    }

    fn is_inactive(&self) -> bool {
        self.status != Status::Active.number()
    }

    fn object(&self) -> String {
        format!("{}/{}", self.facility, self.id)
    }

    fn facility(&self) -> Option<&str> {
        Some(&self.facility)
    }

    fn name(&self) -> Option<(&str, &str)> {
        Some((&self.facility, &self.id))
    }

    fn change<R>(_: Option<&Self>, _: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R {
        judge(Change::User)
    }

    fn check(&self, attempt: &mut Attempt<'_>) -> Result<(), GatewayError> {
        registered(attempt, &self.facility)
    }
}

impl Registrable for Application {
    const ACTION: Action = Action::Application;
    const ACT: Option<ActKind> = Some(ActKind::Application);
    const FIELD: &'static str = "name";

    fn key(&self, attempt: &Attempt<'_>) -> RowKey {
        RowKey::hashed(Table::Application, &attempt.hash(Domain::Application, &[&self.name]))
    }

    fn is_inactive(&self) -> bool {
        self.status != Status::Active.number()
    }

    fn object(&self) -> String {
        self.name.clone()
    }

    fn name(&self) -> Option<(&str, &str)> {
        Some(("", &self.name))
    }

    fn change<R>(before: Option<&Self>, after: &Self, judge: impl FnOnce(Change<'_>) -> R) -> R {
        judge(Change::Application { before, after })
    }

    fn check(&self, attempt: &mut Attempt<'_>) -> Result<(), GatewayError> {
        self.facilities.iter().try_for_each(|facility| registered(attempt, facility))
    }
}

/// Refuses a facility that is not registered, by its id: the registrar sent it. Its table is expected whole.
pub fn registered(attempt: &mut Attempt<'_>, id: &str) -> Result<(), GatewayError> {
    attempt.expect_table(Table::Facility);
    match load_facility(attempt, id)? {
        Some(_) => Ok(()),
        None => Err(GatewayError::Unregistered { id: id.to_owned() }),
    }
}

impl Gateway {
    /// Registers or changes a facility.
    pub async fn put_facility(
        &self,
        caller: &Caller,
        request: v1::PutFacilityRequest,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let row = facility(request.facility.ok_or_else(|| GatewayError::invalid("facility", "is missing"))?)?;
        let before = request.before.map(facility).transpose()?;
        // Nobody could act for it: FACILITY/USER is split at the first. Those that were registered before stay.
        if before.is_none() && row.id.contains('/') {
            return Err(GatewayError::invalid("id", "holds a slash, at which FACILITY/USER is split"));
        }
        if before.is_none() {
            unpadded("id", &row.id)?;
        }
        let warnings = institution_code_warning(&row.institution_code).into_iter().collect();
        self.register(caller, asked, Registration { row, before, reason: request.reason, warnings }).await
    }

    /// Registers or changes a user.
    pub async fn put_user(
        &self,
        caller: &Caller,
        request: v1::PutUserRequest,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let row = user(request.user.ok_or_else(|| GatewayError::invalid("user", "is missing"))?)?;
        let before = request.before.map(user).transpose()?;
        if before.is_none() {
            unpadded("id", &row.id)?;
        }
        self.register(caller, asked, Registration { row, before, reason: request.reason, warnings: Vec::new() }).await
    }

    /// Registers or changes an application.
    pub async fn put_application(
        &self,
        caller: &Caller,
        request: v1::PutApplicationRequest,
    ) -> Result<v1::RegisterReply, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let row = application(request.application.ok_or_else(|| GatewayError::invalid("application", "is missing"))?)?;
        let before = request.before.map(application).transpose()?;
        if before.is_none() {
            unpadded("name", &row.name)?;
        }
        self.register(caller, asked, Registration { row, before, reason: request.reason, warnings: Vec::new() }).await
    }

    /// All facilities, in order of their ids. Registrars and auditors only; shows nothing of participants.
    pub async fn list_facilities(&self, caller: &Caller) -> Result<Vec<Facility>, GatewayError> {
        let mut rows: Vec<Facility> = self.list_registry(caller, Table::Facility).await?;
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }

    /// All users, or those of one facility.
    pub async fn list_users(&self, caller: &Caller, facility: &str) -> Result<Vec<User>, GatewayError> {
        let mut rows: Vec<User> = self.list_registry(caller, Table::User).await?;
        rows.retain(|user| facility.is_empty() || user.facility == facility);
        rows.sort_by(|a, b| (&a.facility, &a.id).cmp(&(&b.facility, &b.id)));
        Ok(rows)
    }

    /// All applications.
    pub async fn list_applications(&self, caller: &Caller) -> Result<Vec<Application>, GatewayError> {
        let mut rows: Vec<Application> = self.list_registry(caller, Table::Application).await?;
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    async fn list_registry<T: Message + Default>(&self, caller: &Caller, table: Table) -> Result<Vec<T>, GatewayError> {
        self.transact(caller, Action::ListRegistry, None, |attempt| {
            attempt.entry.object = table.word().into();
            let rows = CallerRows::load(attempt, caller)?;
            let decision = decide(&rows.facts(attempt.now_ms, Act::ListRegistry, None, None));
            Ok((Verdict::of(decision, |_| Ok(()))?, ReceiptRow::default()))
        })
        .await?;
        tokio::task::block_in_place(|| {
            let attempt = Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
            let prefix = RowKey::whole_table(table);
            let rows = attempt.database.snapshot().scan(&prefix, None, REGISTRY_ROWS_MAX).map_err(broken)?;
            rows.iter().map(|(key, stored)| attempt.open_scanned(key, stored)).collect()
        })
    }
}

/// A facility within its bounds.
fn facility(given: v1::Facility) -> Result<Facility, GatewayError> {
    FacilityId::parse(&given.id).map_err(|e| GatewayError::invalid("id", e))?;
    named(&given.name)?;
    if !given.institution_code.is_empty() {
        InstitutionCode::parse(&given.institution_code).map_err(|e| GatewayError::invalid("institution_code", e))?;
    }
    Ok(Facility {
        id: given.id,
        name: given.name,
        kind: FacilityKind::from_number(given.kind).map_err(|e| GatewayError::invalid("kind", e))?.number(),
        status: status(given.status)?,
        access_line: access_line(given.access_line)?,
        emergency: given.emergency,
        institution_code: given.institution_code,
    })
}

/// Refuses a new id that begins or ends with a blank: in lists it looks like another, and nobody finds it by what they
/// read. Those that were registered before stay, to be looked at and ended.
fn unpadded(field: &'static str, id: &str) -> Result<(), GatewayError> {
    let blank = |character: Option<char>| character.is_some_and(|one| is_blank(one.encode_utf8(&mut [0; 4])));
    match blank(id.chars().next()) || blank(id.chars().next_back()) {
        true => Err(GatewayError::invalid(field, "begins or ends with a blank")),
        false => Ok(()),
    }
}

/// What people read in lists instead of an id.
fn named(name: &str) -> Result<(), GatewayError> {
    if name.is_empty() {
        return Err(GatewayError::invalid("name", "is missing"));
    }
    bounded("name", name)
}

/// Codes in use are not refused for their check digit; whoever enters one is told to look again.
fn institution_code_warning(code: &str) -> Option<String> {
    let doubtful = !InstitutionCode::parse(code).ok()?.check_digit_fits();
    doubtful.then(|| "institution_code: the last digit is not the check digit of the nine before it; look again".into())
}

/// A user within the bounds.
fn user(given: v1::User) -> Result<User, GatewayError> {
    UserId::parse(&given.id).map_err(|e| GatewayError::invalid("id", e))?;
    FacilityId::parse(&given.facility).map_err(|e| GatewayError::invalid("facility", e))?;
    bounded("name", &given.name)?;
    Ok(User {
        id: given.id,
        facility: given.facility,
        name: given.name,
        profession: Profession::from_number(given.profession)
            .map_err(|e| GatewayError::invalid("profession", e))?
            .number(),
        status: status(given.status)?,
        credential_sha256: sha256_or_empty("credential_sha256", &given.credential_sha256)?,
        lists_accesses: given.lists_accesses,
    })
}

/// An application within its bounds.
fn application(given: v1::Application) -> Result<Application, GatewayError> {
    ApplicationName::parse(&given.name).map_err(|e| GatewayError::invalid("name", e))?;
    if given.facilities.len() > FACILITIES_MAX {
        let why = format!("{} are given, the limit is {FACILITIES_MAX}", given.facilities.len());
        return Err(GatewayError::invalid("facilities", why));
    }
    for facility in &given.facilities {
        FacilityId::parse(facility).map_err(|e| GatewayError::invalid("facilities", e))?;
    }
    Ok(Application {
        name: given.name,
        access_line: access_line(given.access_line)?,
        facilities: given.facilities,
        status: status(given.status)?,
        participants: given.participants,
    })
}

fn status(number: u32) -> Result<u32, GatewayError> {
    Status::from_number(number).map(Status::number).map_err(|e| GatewayError::invalid("status", e))
}

fn access_line(number: u32) -> Result<u32, GatewayError> {
    AccessLine::from_number(number).map(AccessLine::number).map_err(|e| GatewayError::invalid("access_line", e))
}
