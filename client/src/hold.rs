//! Legal hold: put on a record by a registrar, released by another.

use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kura_proto::v1;

use crate::client::{Shared, records};
use crate::error::{ChangeError, Family, WriteFamily};
use crate::fault::Invalid;
use crate::id::{ParticipantNumber, RecordId, RequestId};
use crate::limit;
use crate::receipt::Receipt;
use crate::registry::Registry;

/// A legal hold to be put or released, made by [`Registry::hold`] and [`Registry::release`]; `.await` runs it.
#[must_use = "nothing is changed until it is awaited"]
pub struct Hold {
    shared: Arc<Shared>,
    number: ParticipantNumber,
    record: RecordId,
    hold: bool,
    evidence: String,
    request: RequestId,
}

impl Registry {
    /// Puts a legal hold on a record: until it is released, its participant is not erased. What can be read
    /// and written stays as it was. Needs [evidence](Hold::evidence).
    pub fn hold(&self, number: &ParticipantNumber, record: RecordId) -> Hold {
        Hold::new(self, number, record, true)
    }

    /// Releases a legal hold; by another registrar than the one who put it. Needs [evidence](Hold::evidence).
    pub fn release(&self, number: &ParticipantNumber, record: RecordId) -> Hold {
        Hold::new(self, number, record, false)
    }
}

impl Hold {
    fn new(registry: &Registry, number: &ParticipantNumber, record: RecordId, hold: bool) -> Self {
        let shared = Arc::clone(&registry.shared);
        Self { shared, number: *number, record, hold, evidence: String::new(), request: RequestId::new() }
    }

    /// Reference to the order, or to what lifts it; journalled.
    pub fn evidence(mut self, text: impl Into<String>) -> Self {
        self.evidence = text.into();
        self
    }

    /// Repeats an earlier request.
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    fn check(&self) -> Result<(), Invalid> {
        limit::record("record_id", self.record)?;
        limit::text("evidence", &self.evidence)
    }

    async fn run(self) -> Result<Receipt, ChangeError> {
        self.check().map_err(ChangeError::from_invalid)?;
        let shared = &self.shared;
        let attempt = |channel| {
            let ask = v1::HoldRequest {
                request: self.request.wire(),
                participant: self.number.reveal().to_owned(),
                record_id: self.record.to_wire(),
                hold: self.hold,
                evidence: self.evidence.clone(),
            };
            async move { shared.receipt(records(channel).hold(ask).await?.into_inner()) }
        };
        shared.call(None, attempt).await.map_err(|failed| ChangeError::from_failed(failed, self.request))
    }
}

impl IntoFuture for Hold {
    type Output = Result<Receipt, ChangeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}
