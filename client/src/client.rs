//! The client, and the clients that act for someone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kura_proto::v1;
use kura_proto::v1::audit_client::AuditClient;
use kura_proto::v1::consents_client::ConsentsClient;
use kura_proto::v1::erasures_client::ErasuresClient;
use kura_proto::v1::keys_client::KeysClient;
use kura_proto::v1::operations_client::OperationsClient;
use kura_proto::v1::records_client::RecordsClient;
use kura_proto::v1::registry_client::RegistryClient;
use tokio::sync::Mutex;

use crate::actor::{Actor, Stated};
use crate::call::REPLY_BYTES_MAX;
use crate::config::{Config, Timeouts};
use crate::erasure::Erasures;
use crate::error::{ConnectError, Family, OutcomeError, Unreached};
use crate::fault::Failure;
use crate::fork::Way;
use crate::id::{ParticipantNumber, RequestId};
use crate::journal::Kept;
use crate::keys::Keys;
use crate::operations::Operations;
use crate::pool::{Pool, TlsDial};
use crate::receipt::Outcome;
use crate::registry::Registry;
use crate::tls::{self, ChannelOptions, ClientTls, TlsFiles};

/// How long a client that connects waits for the endpoints that it does not need.
const OTHERS_LIMIT: Duration = Duration::from_millis(250);

pub(crate) struct Shared {
    pub pool: Pool,
    pub timeouts: Timeouts,
    pub application: Option<String>,
    timeline: AtomicU64,
    pub journal: Mutex<Kept>,
}

impl Shared {
    pub fn new(pool: Pool, timeouts: Timeouts, application: Option<String>) -> Self {
        Self { pool, timeouts, application, timeline: AtomicU64::new(0), journal: Mutex::default() }
    }

    pub fn with_journal(self, kept: Kept) -> Self {
        Self { journal: Mutex::new(kept), ..self }
    }

    /// Follows the cluster to higher timelines and refuses replies of lower ones: those come from
    /// nodes that a take-over has left behind.
    pub fn follow(&self, told: u64) -> Result<(), Failure> {
        let known = self.timeline.fetch_max(told, Ordering::Relaxed);
        if told < known { Err(Failure::stale(told, known)) } else { Ok(()) }
    }
}

pub(crate) fn records(channel: Way) -> RecordsClient<Way> {
    RecordsClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn consents(channel: Way) -> ConsentsClient<Way> {
    ConsentsClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn registry(channel: Way) -> RegistryClient<Way> {
    RegistryClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn erasures(channel: Way) -> ErasuresClient<Way> {
    ErasuresClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn operations(channel: Way) -> OperationsClient<Way> {
    OperationsClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn keys(channel: Way) -> KeysClient<Way> {
    KeysClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

pub(crate) fn audit(channel: Way) -> AuditClient<Way> {
    AuditClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}

/// A connection to a cluster: all its endpoints, one of them in use. Cheap to clone; clones share
/// everything.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.shared.pool.names()).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificate files and connects to the first node that answers. Later calls fail
    /// over to any other; changed certificate files are noticed while the client is in use.
    ///
    /// # Errors
    /// [`ConnectError`]: a setting or file at fault by name, or why no node could be connected to.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let client = Self::connect_lazily(config).await?;
        client.reach().await?;
        // Two clusters of one id, if there are, are to be noticed before anything is asked of one of them.
        let _ = tokio::time::timeout(OTHERS_LIMIT, client.shared.pool.greet_others()).await;
        Ok(client)
    }

    /// Like [`Client::connect`], but dials only with the first call.
    ///
    /// # Errors
    /// [`ConnectError`], if a setting or file is at fault.
    pub async fn connect_lazily(config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let Config { application, ca, certificate, key, revocation_lists, endpoints, timeouts, journal_head } = config;
        let kept = Kept::open(journal_head)?;
        let files =
            TlsFiles { certificate, private_key: key, authorities: ca, authorities_more: None, revocation_lists };
        let tls = ClientTls::load(files)?;
        let names = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        let endpoints = endpoints
            .into_iter()
            .map(|endpoint| tls::Endpoint { name: endpoint.name, address: endpoint.address })
            .collect();
        let options = ChannelOptions { connect_timeout: timeouts.connect(), ..ChannelOptions::default() };
        let pool = Pool::new(Box::new(TlsDial { tls, endpoints, options }), names)?;
        Ok(Self { shared: Arc::new(Shared::new(pool, timeouts, application).with_journal(kept)) })
    }

    /// Finds an endpoint that answers and makes it the current one.
    pub(crate) async fn reach(&self) -> Result<(), ConnectError> {
        let pool = &self.shared.pool;
        let first = pool.current();
        let mut nodes = Vec::new();
        for place in (first..first + pool.len()).map(|place| place % pool.len()) {
            match greet(pool.lease(place).channel, self.shared.timeouts.connect()).await {
                Ok(()) => {
                    pool.set_current(place);
                    return Ok(());
                }
                Err((message, may_retry)) => {
                    nodes.push(Unreached { name: pool.names()[place].clone(), message, may_retry });
                }
            }
        }
        Err(ConnectError::NoNode { nodes })
    }

    /// A client that acts for someone: an [`ActingClient`] for an [`Actor`] (a facility's user, a
    /// registrar, …), a [`Person`] for a participant.
    pub fn act<S: Stated>(&self, who: S) -> S::Client {
        who.acting(self)
    }

    /// The registry of facilities, users and applications; needs a registrar's certificate.
    pub fn registry(&self) -> Registry {
        Registry::new(self)
    }

    /// Erasures; needs a registrar's certificate, to show and list them also an auditor's.
    pub fn erasures(&self) -> Erasures {
        Erasures::new(self)
    }

    /// Status and membership; needs an operator's certificate for all but the status.
    pub fn operations(&self) -> Operations {
        Operations::new(self)
    }

    /// Custody of the keys: shares of the root key, rotation.
    pub fn keys(&self) -> Keys {
        Keys::new(self)
    }

    /// What became of a write of this application. An answer is final, except that
    /// [`Receipt::reach`](crate::Receipt::reach) may still grow. It tells nothing of what another certificate wrote, and
    /// takes nothing from it: each has requests of its own.
    ///
    /// The cluster remembers writes for the window of the setting `request-window`; before and
    /// after it the answer is [`Outcome::Forgotten`]. Asking for a write that is not there makes
    /// sure that it never will be.
    ///
    /// # Errors
    /// [`OutcomeError`].
    pub async fn outcome(&self, request: RequestId) -> Result<Outcome, OutcomeError> {
        let ask = v1::OutcomeRequest { request: request.wire() };
        let shared = &self.shared;
        let attempt = |channel| {
            let ask = ask.clone();
            async move {
                let reply = records(channel).outcome(ask).await?.into_inner();
                match (reply.kind, reply.receipt) {
                    (1, Some(receipt)) => Ok(Outcome::Committed(shared.receipt(receipt)?)),
                    (2, _) => Ok(Outcome::Absent),
                    (3, _) => Ok(Outcome::Forgotten),
                    _ => Err(Failure::broken("an outcome that is none")),
                }
            }
        };
        shared.call(None, attempt).await.map_err(|failed| OutcomeError::from_fault(failed.fault))
    }

    /// The highest timeline of the cluster that was seen; 0 before the first reply.
    pub fn timeline(&self) -> u64 {
        self.shared.timeline.load(Ordering::Relaxed)
    }

    /// Refuses replies of timelines lower than this one, which was seen in an earlier run
    /// (in a stored receipt, say).
    pub fn expect_timeline(&self, timeline: u64) {
        self.shared.timeline.fetch_max(timeline, Ordering::Relaxed);
    }

    /// The application that the configuration names.
    pub fn application(&self) -> Option<&str> {
        self.shared.application.as_deref()
    }

    /// The nodes of the configuration, by name.
    pub fn nodes(&self) -> &[String] {
        self.shared.pool.names()
    }
}

/// [`Way::greet`], within a limit; else why not, and whether it may be tried again.
async fn greet(way: Way, limit: Duration) -> Result<(), (String, bool)> {
    match tokio::time::timeout(limit, way.greet()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(status)) => Err(match tls::connect_error(&status) {
            Some(error) => (error.to_string(), error.may_retry()),
            None => (status.message().to_owned(), true),
        }),
        Err(_) => Err(("no answer within the connect time limit".into(), true)),
    }
}

/// A client that acts for one actor: every request states it, and the cluster journals it as stated.
/// Cheap to clone.
#[derive(Clone)]
pub struct ActingClient {
    pub(crate) shared: Arc<Shared>,
    pub(crate) actor: Arc<Actor>,
}

impl fmt::Debug for ActingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActingClient").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl ActingClient {
    pub(crate) fn new(client: &Client, actor: Actor) -> Self {
        Self { shared: Arc::clone(&client.shared), actor: Arc::new(actor) }
    }

    /// The actor that is stated.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }
}

/// A client that acts for a participant, on their own records and consents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Person {
    pub(crate) acting: ActingClient,
    pub(crate) number: ParticipantNumber,
}

impl Person {
    pub(crate) fn new(acting: ActingClient, number: ParticipantNumber) -> Self {
        Self { acting, number }
    }

    /// The same actor with every operation, naming the participant each time.
    pub fn acting(&self) -> &ActingClient {
        &self.acting
    }
}
