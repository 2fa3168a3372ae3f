//! Emergencies: a physician reads a participant's records for a while without being named by them.

use std::fmt;
use std::future::IntoFuture;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{ActingClient, records};
use crate::error::{EmergencyError, Family, ListError, WriteFamily};
use crate::fault::{Failure, Invalid};
use crate::get::{Get, GetSeveral};
use crate::id::{EmergencyId, ParticipantNumber, RecordId, RequestId};
use crate::limit::{self, PAGE_ITEMS_MAX};
use crate::list::List;
use crate::receipt::Receipt;
use crate::record::Listed;

impl ActingClient {
    /// Opens an emergency: the actor, a physician of a facility flagged for it, reads the participant's
    /// records until it expires, whoever the participant named. The reason (1 to 512 bytes) is shown to
    /// the participant, and auditors look at each emergency afterwards.
    ///
    /// A physician acts with the registered credential ([`crate::Actor::credential`]), unless the network's
    /// settings say otherwise.
    ///
    /// ```no_run
    /// # async fn example(doctor: kura_client::ActingClient, number: kura_client::ParticipantNumber) -> Result<(), Box<dyn std::error::Error>> {
    /// // Opened, and the records listed, allergies first.
    /// let (emergency, records) = doctor.open_emergency(&number, "unconscious, ambulance 3").and_list().await?;
    /// for listed in &records {
    ///     match listed {
    ///         kura_client::Listed::Record(record) => println!("{} of {}", record.class, record.clinical_date),
    ///         kura_client::Listed::Damaged(damaged) => println!("{damaged:?} is stored and does not open"),
    ///     }
    /// }
    /// if let Some(first) = records.first() {
    ///     println!("{} bytes", emergency.get(first.record()).await?.bytes().await?.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_emergency(&self, number: &ParticipantNumber, reason: impl Into<String>) -> OpenEmergency {
        OpenEmergency { acting: self.clone(), number: *number, reason: reason.into(), request: RequestId::new() }
    }

    /// Goes on under an emergency that the same user opened before, through the same application.
    pub fn emergency(&self, number: &ParticipantNumber, emergency: EmergencyId) -> Emergency {
        Emergency { acting: self.clone(), number: *number, id: emergency, opened: None }
    }
}

/// An emergency to be opened, made by [`ActingClient::open_emergency`]; `.await` opens it, and
/// [`OpenEmergency::and_list`] lists what there is as well.
///
/// A [`EmergencyError::Denied`] tells by its [reason](crate::Denial::reason) what is in the way:
/// `emergency-facility` (not one for emergencies), `emergency-profession` (not a physician), `credential`
/// (not the registered one, or none is registered), `no-reason`, `emergency-cap` (too many in the window), or
/// nothing for the uniform refusal.
#[must_use = "nothing is opened until it is awaited"]
pub struct OpenEmergency {
    acting: ActingClient,
    number: ParticipantNumber,
    reason: String,
    request: RequestId,
}

impl OpenEmergency {
    /// Repeats an earlier request: it is told the same emergency.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    /// Opens it and lists the records that it shows, allergies first, at most 1,000;
    /// [`Emergency::list`] goes through all of them.
    ///
    /// # Errors
    /// [`EmergencyError`]; [`EmergencyError::NotListed`] if it is open but could not be listed.
    pub async fn and_list(self) -> Result<(Emergency, Vec<Listed>), EmergencyError> {
        let emergency = self.run().await?;
        match emergency.list().stream().take(PAGE_ITEMS_MAX as usize).await {
            Ok(records) => Ok((emergency, records)),
            Err(error) => Err(EmergencyError::NotListed { emergency: emergency.id, source: Box::new(error) }),
        }
    }

    fn wire(&self) -> Result<v1::OpenEmergencyRequest, Invalid> {
        limit::text("reason", &self.reason)?;
        if self.reason.trim().is_empty() {
            return Err(Invalid::because("reason", "is empty: say why, for the participant and the auditors"));
        }
        Ok(v1::OpenEmergencyRequest {
            actor: Some(self.acting.actor.to_wire()?),
            request: self.request.wire(),
            participant: self.number.reveal().to_owned(),
            reason: self.reason.clone(),
        })
    }

    async fn run(self) -> Result<Emergency, EmergencyError> {
        let ask = self.wire().map_err(EmergencyError::from_invalid)?;
        let (shared, request) = (&self.acting.shared, self.request);
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let reply = records(channel).open_emergency(ask).await?.into_inner();
                let id = EmergencyId::from_wire(&reply.episode_id);
                let id = id.ok_or_else(|| Failure::broken("an emergency's id of a wrong length"))?;
                let receipt = reply.receipt.ok_or_else(|| Failure::broken("an emergency without a receipt"))?;
                Ok((id, Opened { expires_ms: reply.expires_ms, receipt: shared.receipt(receipt)? }))
            }
        };
        let opened = shared.call(None, attempt).await;
        let (id, opened) = opened.map_err(|failed| EmergencyError::from_failed(failed, request))?;
        Ok(Emergency { acting: self.acting, number: self.number, id, opened: Some(opened) })
    }
}

impl IntoFuture for OpenEmergency {
    type Output = Result<Emergency, EmergencyError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

#[derive(Clone)]
struct Opened {
    expires_ms: u64,
    receipt: Receipt,
}

/// An emergency under which a participant's records are read. Every access under it is an entry of its own
/// in the journal, with the reason. Cheap to clone.
///
/// When it has expired, reads are denied with the reason `emergency-expired`: open another.
#[derive(Clone)]
pub struct Emergency {
    acting: ActingClient,
    number: ParticipantNumber,
    id: EmergencyId,
    opened: Option<Opened>,
}

impl fmt::Debug for Emergency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emergency").field("expires_ms", &self.expires_ms()).finish_non_exhaustive()
    }
}

impl Emergency {
    /// What to hand to [`ActingClient::emergency`] to go on under it.
    pub fn id(&self) -> EmergencyId {
        self.id
    }

    /// From then on (milliseconds since 1970-01-01 UTC) nothing is read under it; none if it was opened
    /// before and only gone on with.
    pub fn expires_ms(&self) -> Option<u64> {
        self.opened.as_ref().map(|opened| opened.expires_ms)
    }

    /// The receipt of its opening; none if it was opened before and only gone on with.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.opened.as_ref().map(|opened| &opened.receipt)
    }

    /// The participant's records, allergies first.
    pub fn list(&self) -> List {
        self.acting.list(&self.number).under(self.id)
    }

    /// Reads a record.
    pub fn get(&self, record: RecordId) -> Get {
        self.acting.get(&self.number, record).under(self.id)
    }

    /// Reads several records under one entry of the journal.
    pub fn get_several(&self, records: impl IntoIterator<Item = RecordId>) -> GetSeveral {
        self.acting.get_several(&self.number, records).under(self.id)
    }

    /// The versions of a record, oldest first.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn history(&self, record: RecordId) -> Result<Vec<Listed>, ListError> {
        self.acting.history_under(&self.number, record, self.id).await
    }
}
