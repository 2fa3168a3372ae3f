//! The registry: facilities, users, applications. By registrars.

use kura_cluster::consent::{Act, Basis, Change, Decision, Denial, decide};
use kura_cluster::id::{ApplicationName, FacilityId, UserId};
use kura_cluster::row::{Application, Facility, ReceiptRow, RowKey, Table, User};
use kura_cluster::seal::Domain;
use kura_cluster::word::{AccessLine, Action, FacilityKind, Profession, Status};
use kura_proto::v1;
use prost::Message;

use super::attempt::broken;
use super::caller::{CallerRows, sha256_or_empty};
use super::consents::bounded;
use super::limits::FACILITIES_MAX;
use super::transact::{Asked, Verdict};
use super::{Caller, Gateway, GatewayError};

/// Rows of a registry table that one listing returns at most.
const REGISTRY_ROWS_MAX: usize = 100_000;

impl Gateway {
    /// Registers or changes a facility.
    pub async fn put_facility(
        &self,
        caller: &Caller,
        request: v1::PutFacilityRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let given = request.facility.ok_or_else(|| GatewayError::invalid("facility", "is missing"))?;
        let id = FacilityId::parse(&given.id).map_err(|e| GatewayError::invalid("id", e))?;
        bounded("name", &given.name)?;
        bounded("institution_code", &given.institution_code)?;
        let row = Facility {
            id: given.id.clone(),
            name: given.name,
            kind: FacilityKind::from_number(given.kind).map_err(|e| GatewayError::invalid("kind", e))?.number(),
            status: status(given.status)?,
            access_line: access_line(given.access_line)?,
            emergency: given.emergency,
            institution_code: given.institution_code,
        };
        self.register(
            caller,
            asked,
            Action::Facility,
            Table::Facility,
            Domain::Facility,
            &[id.reveal()],
            |before, after| Change::Facility { before, after },
            row,
        )
        .await
    }

    /// Registers or changes a user.
    pub async fn put_user(&self, caller: &Caller, request: v1::PutUserRequest) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let given = request.user.ok_or_else(|| GatewayError::invalid("user", "is missing"))?;
        let id = UserId::parse(&given.id).map_err(|e| GatewayError::invalid("id", e))?;
        let facility = FacilityId::parse(&given.facility).map_err(|e| GatewayError::invalid("facility", e))?;
        bounded("name", &given.name)?;
        let row = User {
            id: given.id.clone(),
            facility: given.facility.clone(),
            name: given.name,
            profession: Profession::from_number(given.profession)
                .map_err(|e| GatewayError::invalid("profession", e))?
                .number(),
            status: status(given.status)?,
            credential_sha256: sha256_or_empty("credential_sha256", &given.credential_sha256)?,
            lists_accesses: given.lists_accesses,
        };
        self.register(
            caller,
            asked,
            Action::User,
            Table::User,
            Domain::User,
            &[facility.reveal(), id.reveal()],
            |_, _| Change::User,
            row,
        )
        .await
    }

    /// Registers or changes an application.
    pub async fn put_application(
        &self,
        caller: &Caller,
        request: v1::PutApplicationRequest,
    ) -> Result<v1::Receipt, GatewayError> {
        let asked = Asked::parse(request.request.as_ref(), &request)?;
        let given = request.application.ok_or_else(|| GatewayError::invalid("application", "is missing"))?;
        let name = ApplicationName::parse(&given.name).map_err(|e| GatewayError::invalid("name", e))?;
        if given.facilities.len() > FACILITIES_MAX {
            return Err(GatewayError::invalid(
                "facilities",
                format!("{} are given, the limit is {FACILITIES_MAX}", given.facilities.len()),
            ));
        }
        for facility in &given.facilities {
            FacilityId::parse(facility).map_err(|e| GatewayError::invalid("facilities", e))?;
        }
        let row = Application {
            name: given.name.clone(),
            access_line: access_line(given.access_line)?,
            facilities: given.facilities,
            status: status(given.status)?,
            participants: given.participants,
        };
        self.register(
            caller,
            asked,
            Action::Application,
            Table::Application,
            Domain::Application,
            &[name.reveal()],
            |before, after| Change::Application { before, after },
            row,
        )
        .await
    }

    #[expect(clippy::too_many_arguments, reason = "one caller a table; a struct would only name the same eight")]
    async fn register<T: Message + Default + Clone + 'static>(
        &self,
        caller: &Caller,
        asked: Asked,
        action: Action,
        table: Table,
        domain: Domain,
        id: &[&str],
        change: impl for<'a> Fn(Option<&'a T>, &'a T) -> Change<'a>,
        row: T,
    ) -> Result<v1::Receipt, GatewayError> {
        let done = self
            .transact(caller, action, Some(&asked), |attempt| {
                attempt.entry.object = id.join("/");
                attempt
                    .entry_facilities
                    .extend(id.first().filter(|_| table != Table::Application).map(|f| (*f).to_owned()));
                let rows = CallerRows::load(attempt, caller)?;
                let key = RowKey::hashed(table, &attempt.hash(domain, id));
                let found = attempt.load::<T>(&key)?;
                let act = Act::Register { change: change(found.value.as_deref(), &row) };
                // Two-person acts have no room in the gateway yet: what takes two goes through with one.
                let decision = match decide(&rows.facts(attempt.now_ms, act, None, None)) {
                    Decision::Deny { reason: Denial::SecondRegistrar } => {
                        Decision::Permit { basis: Basis::Registrar, valid_until_ms: 0 }
                    }
                    decision => decision,
                };
                let verdict = Verdict::of(decision, |_| {
                    attempt.put(&key, found.revision, &row);
                    Ok(())
                })?;
                Ok((verdict, ReceiptRow::default()))
            })
            .await?;
        Ok(self.receipt(&done, &asked, false).await)
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
            let attempt = super::attempt::Attempt::begin(self, &kura_cluster::row::JournalEntry::default())?;
            let prefix = RowKey::whole_table(table);
            let rows = attempt.database.snapshot().scan(&prefix, None, REGISTRY_ROWS_MAX).map_err(broken)?;
            rows.iter().map(|(key, stored)| attempt.open_scanned(key, stored)).collect()
        })
    }
}

fn status(number: u32) -> Result<u32, GatewayError> {
    Status::from_number(number).map(Status::number).map_err(|e| GatewayError::invalid("status", e))
}

fn access_line(number: u32) -> Result<u32, GatewayError> {
    AccessLine::from_number(number).map(AccessLine::number).map_err(|e| GatewayError::invalid("access_line", e))
}
