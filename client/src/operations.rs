//! Status and membership, for operators. A thin layer: replies are those of the wire.
//!
//! Invariant: commands that change the membership have no request id, so they are sent again only
//! where the former attempt certainly did nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use kura_proto::v1;
use tokio::time::{Instant, timeout};

use crate::call::Retry;
use crate::client::{Client, Shared, operations};
use crate::error::{Failed, Family, OperationError};
use crate::fault::{Again, Failure, Invalid};
use crate::fork::Way;
use crate::limit;
use crate::pages::Listing;

/// Status and membership. Made by [`Client::operations`].
#[derive(Clone)]
pub struct Operations {
    shared: Arc<Shared>,
}

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Holds everything, votes, serves.
    Voter,
    /// Follows from outside the prefecture, without keys.
    Backup,
}

impl MemberRole {
    fn number(self) -> u32 {
        match self {
            Self::Voter => 1,
            Self::Backup => 2,
        }
    }
}

impl Operations {
    pub(crate) fn new(client: &Client) -> Self {
        Self { shared: Arc::clone(&client.shared) }
    }

    /// The status, as a member knows it. What a node says that is not among the members that it tells (it was removed and
    /// goes on running, or was not added yet) is taken only if no other answers.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn status(&self) -> Result<v1::StatusReply, OperationError> {
        self.status_in(None).await
    }

    /// The same, with a limit for all attempts together.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn status_within(&self, limit: Duration) -> Result<v1::StatusReply, OperationError> {
        self.status_in(Some(limit)).await
    }

    async fn status_in(&self, limit: Option<Duration>) -> Result<v1::StatusReply, OperationError> {
        let (attempts, outside) = (AtomicUsize::new(0), Mutex::new(None));
        let attempt = |channel| {
            let is_first_round = attempts.fetch_add(1, Ordering::Relaxed) < self.shared.pool.len();
            let told = || outside.lock().unwrap_or_else(PoisonError::into_inner);
            async move {
                // Nobody else answered: what it tells is all that there is.
                if !is_first_round && let Some(reply) = told().take() {
                    return Ok(reply);
                }
                let reply = operations(channel).status(v1::StatusRequest {}).await?.into_inner();
                if reply.members.iter().any(|member| member.name == reply.node) {
                    return Ok(reply);
                }
                let failure = Failure::not_a_member(&reply.node);
                *told() = Some(reply);
                Err(failure)
            }
        };
        let answer = self.shared.call(limit, attempt).await;
        match (answer, outside.into_inner().unwrap_or_else(PoisonError::into_inner)) {
            (Err(_), Some(reply)) => Ok(reply),
            (answer, _) => answer.map_err(of_read),
        }
    }

    /// The status, as one node of the configuration knows it. Asks once.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Invalid`] for a name that the configuration lacks.
    pub async fn status_of(&self, node: &str) -> Result<v1::StatusReply, OperationError> {
        let place = self.shared.pool.names().iter().position(|name| name == node);
        let unknown = || Invalid::because("node", "is not in the configuration");
        let place = place.ok_or_else(|| OperationError::from_invalid(unknown()))?;
        let mut client = operations(self.shared.pool.lease(place).channel);
        let failure = match timeout(self.shared.timeouts.attempt(), client.status(v1::StatusRequest {})).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => status.into(),
            Err(_) => Failure::silent(),
        };
        Err(OperationError::from_fault(failure.fault))
    }

    /// Has one node of the configuration check its own files now; its status tells how far it is. Asks once.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Invalid`] for a name that the configuration lacks.
    pub async fn scrub_member(&self, node: &str) -> Result<v1::Scrub, OperationError> {
        let place = self.shared.pool.names().iter().position(|name| name == node);
        let unknown = || Invalid::because("node", "is not in the configuration");
        let place = place.ok_or_else(|| OperationError::from_invalid(unknown()))?;
        let mut client = operations(self.shared.pool.lease(place).channel);
        let ask = v1::ScrubMemberRequest { name: node.to_owned() };
        let failure = match timeout(self.shared.timeouts.attempt(), client.scrub_member(ask)).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner().scrub.unwrap_or_default()),
            Ok(Err(status)) => status.into(),
            Err(_) => Failure::silent(),
        };
        Err(OperationError::from_fault(failure.fault))
    }

    /// Approves a member to join: its name as in its certificate, the SHA-256 of its public key
    /// (SubjectPublicKeyInfo, DER), and where it is. A voter takes an operator and a registrar, a backup an
    /// operator. An approval of another key under this name ends by it, and the reply tells so; one of the same key at
    /// another address only if it is begun `anew`.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Conflict`] if it is approved at another address.
    pub async fn approve_member(
        &self,
        name: &str,
        role: MemberRole,
        key_sha256: [u8; 32],
        address: &str,
        anew: bool,
    ) -> Result<v1::ApproveMemberReply, OperationError> {
        limit::outside_id("address", address).map_err(OperationError::from_invalid)?;
        let key_sha256 = Bytes::copy_from_slice(&key_sha256);
        let (name, address) = (name.to_owned(), address.to_owned());
        let role = role.number();
        self.approve(v1::ApproveMemberRequest { name, role, key_sha256, address, renew_key: false, anew }).await
    }

    /// Approves another public key for an approved member, to which [`Self::renew_key`] then moves it. It
    /// takes the same people as the member itself did.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn approve_next_key(
        &self,
        name: &str,
        role: MemberRole,
        key_sha256: [u8; 32],
    ) -> Result<v1::ApproveMemberReply, OperationError> {
        let key_sha256 = Bytes::copy_from_slice(&key_sha256);
        let (name, role, address) = (name.to_owned(), role.number(), String::new());
        self.approve(v1::ApproveMemberRequest { name, role, key_sha256, address, renew_key: true, anew: false }).await
    }

    async fn approve(&self, ask: v1::ApproveMemberRequest) -> Result<v1::ApproveMemberReply, OperationError> {
        limit::outside_id("name", &ask.name).map_err(OperationError::from_invalid)?;
        // Approving again changes nothing, so this one may be repeated.
        let attempt = |channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).approve_member(ask).await?.into_inner()) }
        };
        self.shared.call(None, attempt).await.map_err(of_write)
    }

    /// Adds an approved member that runs and shows its progress. The list ends with the step "done", or an error: one
    /// that is not reached within half a minute, or runs under another id, is not added.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Conflict`] if it was approved in another role.
    pub async fn add_member(
        &self,
        name: &str,
        role: MemberRole,
    ) -> Result<Listing<v1::MemberProgress, OperationError>, OperationError> {
        limit::outside_id("name", name).map_err(OperationError::from_invalid)?;
        let ask = v1::AddMemberRequest { name: name.to_owned(), role: role.number() };
        let steps = self.once(|channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).add_member(ask).await?.into_inner()) }
        });
        Ok(progress(steps.await?))
    }

    /// Moves a member to the key that was approved for it: both keys count until the member shows the new
    /// one, then that one alone. Shows its progress; asked again, it goes on where it was.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn renew_key(&self, name: &str) -> Result<Listing<v1::MemberProgress, OperationError>, OperationError> {
        limit::outside_id("name", name).map_err(OperationError::from_invalid)?;
        let ask = v1::RenewKeyRequest { name: name.to_owned() };
        let steps = self.once(|channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).renew_key(ask).await?.into_inner()) }
        });
        Ok(progress(steps.await?))
    }

    /// Replaces one member by another in one membership change, and shows its progress.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn replace_member(
        &self,
        old: &str,
        new: &str,
    ) -> Result<Listing<v1::MemberProgress, OperationError>, OperationError> {
        limit::outside_id("old", old).map_err(OperationError::from_invalid)?;
        limit::outside_id("new", new).map_err(OperationError::from_invalid)?;
        let ask = v1::ReplaceMemberRequest { old: old.to_owned(), new: new.to_owned() };
        let steps = self.once(|channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).replace_member(ask).await?.into_inner()) }
        });
        Ok(progress(steps.await?))
    }

    /// Removes a member. If fewer than three voters, or no backup, remain by it, only if that is accepted.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Invalid`] of `accept_fewer`.
    pub async fn remove_member(&self, name: &str, accept_fewer: bool) -> Result<v1::MemberProgress, OperationError> {
        limit::outside_id("name", name).map_err(OperationError::from_invalid)?;
        let ask = v1::RemoveMemberRequest { name: name.to_owned(), accept_fewer };
        let removed = self.once(|channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).remove_member(ask).await?.into_inner()) }
        });
        removed.await
    }

    /// After a recovery, serves the next step to applications: 2 emergencies, 3 reads and what restricts, 4 writes.
    /// Answers what was served before.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Invalid`] if it is not the next step.
    pub async fn open_service(&self, level: u32) -> Result<u32, OperationError> {
        let attempt = |channel| async move {
            Ok(operations(channel).open_service(v1::OpenServiceRequest { level }).await?.into_inner().former)
        };
        self.shared.call(None, attempt).await.map_err(of_write)
    }

    /// Hands leadership to another voter by name, or to the most advanced. Answers who leads.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<String, OperationError> {
        let to = to.unwrap_or_default();
        limit::outside_id_or_empty("to", to).map_err(OperationError::from_invalid)?;
        let ask = v1::TransferLeaderRequest { to: to.to_owned() };
        let handed = self.once(|channel| {
            let ask = ask.clone();
            async move { Ok(operations(channel).transfer_leader(ask).await?.into_inner().leader) }
        });
        handed.await
    }

    pub(crate) async fn once<R, F>(&self, attempt: impl Fn(Way) -> F) -> Result<R, OperationError>
    where
        F: Future<Output = Result<R, Failure>>,
    {
        once(&self.shared, attempt).await
    }
}

/// Repeats an attempt only while none may have taken effect. One attempt may take the whole call's time.
pub(crate) async fn once<R, F>(shared: &Arc<Shared>, attempt: impl Fn(Way) -> F) -> Result<R, OperationError>
where
    F: Future<Output = Result<R, Failure>>,
{
    let mut retry = Retry::call(shared, None);
    loop {
        let limit = retry.end().saturating_duration_since(Instant::now());
        let failure = match timeout(limit, attempt(retry.channel())).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::silent(),
        };
        let again = if failure.in_doubt { Again::Never } else { failure.again };
        retry.failed(Failure { again, ..failure }).await.map_err(of_write)?;
    }
}

/// How long a member may take from one sign of progress to the next.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(600);

fn progress(steps: tonic::Streaming<v1::MemberProgress>) -> Listing<v1::MemberProgress, OperationError> {
    let items = stream::unfold(Some((steps, false)), |state| async move {
        let (mut steps, done) = state?;
        let in_doubt = |failure: Failure| {
            let failed = Failed { in_doubt: failure.in_doubt, fault: failure.fault };
            Some((Err(of_write(failed)), None))
        };
        match timeout(STEP_LIMIT, steps.message()).await {
            Ok(Ok(Some(step))) => {
                let done = step.step == "done";
                Some((Ok(step), Some((steps, done))))
            }
            Ok(Ok(None)) if done => None,
            Ok(Ok(None)) => in_doubt(Failure::broken("the progress ended before it was done")),
            Ok(Err(_)) if done => None,
            Ok(Err(status)) => in_doubt(status.into()),
            Err(_) => in_doubt(Failure::silent()),
        }
    });
    Listing::from_stream(items.boxed())
}

fn of_read(failed: Failed) -> OperationError {
    OperationError::from_fault(failed.fault)
}

pub(crate) fn of_write(failed: Failed) -> OperationError {
    match OperationError::from_fault(failed.fault) {
        error if failed.in_doubt => OperationError::InDoubt { message: error.to_string() },
        error => error,
    }
}
