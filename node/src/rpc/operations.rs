//! `kura.v1.Operations`: status and membership. Shows and touches no record.

mod add;
mod keys;
mod salvage;
mod status;
mod strength;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kura_proto::v1::operations_client::OperationsClient;
use kura_proto::v1::operations_server::Operations;
use kura_proto::v1::{self};
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::admit;
use super::role::Call;
use crate::certificates::{Identity, Role, check_name};
use crate::gateway::{Caller, GatewayError};
use crate::raft::channels::{Lane, PeerChannels};
use crate::raft::types::{MemberRole, NodeId};
use crate::serve::{Node, majority, most_advanced};

/// Between two looks at who leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a handover of leadership may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// Metadata by which a voter says for whom it forwards a call to the leader.
const ON_BEHALF: &str = "kura-on-behalf-of";

/// See the module.
#[derive(Clone)]
pub struct OperationsService(pub Arc<Node>);

type Progress = ReceiverStream<Result<v1::MemberProgress, Status>>;

impl OperationsService {
    fn caller<T>(&self, call: Call, request: &Request<T>) -> Result<Caller, Status> {
        let identity = match request.metadata().get(ON_BEHALF).and_then(|name| name.to_str().ok()) {
            Some(operator) => self.forwarded_by_a_voter(request, operator)?,
            None => admit(&self.0.tls, &self.0.gateway, call, request)?,
        };
        Caller::parse(identity, None).map_err(Status::from)
    }

    /// A call that a current voter has admitted and forwards: the operator is who it says.
    fn forwarded_by_a_voter<T>(&self, request: &Request<T>, operator: &str) -> Result<Arc<Identity>, Status> {
        let voter = admit(&self.0.tls, &self.0.gateway, Call::Forward, request)?;
        let membership = self.0.raft.metrics().borrow_watched().membership_config.clone();
        let membership = membership.membership();
        let is_member = membership
            .voter_ids()
            .filter_map(|id| membership.get_node(&id))
            .any(|m| m.is_shown_by(&voter.name, &voter.key_sha256));
        if !is_member || check_name(operator).is_err() {
            return Err(GatewayError::Role {
                role: "voter (of no present member)".into(),
                takes: Role::Voter.to_string(),
            }
            .into());
        }
        Ok(Arc::new(Identity { role: Role::Operator, name: operator.to_owned(), ..(*voter).clone() }))
    }

    /// A client of the leader, if that is another node.
    fn leader(&self) -> Result<Option<OperationsClient<tonic::transport::Channel>>, Status> {
        let node = &self.0;
        let no_leader = || Status::from(GatewayError::NoLeader { why: "none is known".into() });
        // Raft goes on naming a leader that is gone.
        let leader = node.leader().filter(|_| majority::is_led(node)).ok_or_else(no_leader)?;
        if leader == node.id() {
            return if majority::leads(node) { Ok(None) } else { Err(no_leader()) };
        }
        let member = node.member(leader).ok_or_else(no_leader)?;
        let channel = node.channels.channel(&member, Lane::Control).map_err(|_| no_leader())?;
        Ok(Some(OperationsClient::new(channel)))
    }

    fn id_of(&self, name: &str) -> Result<NodeId, Status> {
        let membership = self.0.raft.metrics().borrow_watched().membership_config.clone();
        let found = membership.membership().nodes().find(|(_, member)| member.name == name).map(|(id, _)| *id);
        found.ok_or_else(|| Status::not_found(format!("{name} is not a member")))
    }
}

async fn say(
    tell: &mpsc::Sender<Result<v1::MemberProgress, Status>>,
    step: &str,
    raft_id: NodeId,
    matched_index: u64,
    target_index: u64,
) -> Result<(), Status> {
    say_why(tell, step, raft_id, (matched_index, target_index), "").await
}

/// The same, and what is in the way.
async fn say_why(
    tell: &mpsc::Sender<Result<v1::MemberProgress, Status>>,
    step: &str,
    raft_id: NodeId,
    (matched_index, target_index): (u64, u64),
    why: &str,
) -> Result<(), Status> {
    let progress = v1::MemberProgress { step: step.into(), raft_id, matched_index, target_index, why: why.into() };
    tell.send(Ok(progress)).await.map_err(|_| Status::cancelled("the caller has gone"))
}

fn refused(error: &impl std::fmt::Display) -> Status {
    Status::failed_precondition(format!("the membership was not changed: {error}"))
}

fn forwarded<T>(message: T, caller: &Caller) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(name) = caller.identity.name.parse() {
        request.metadata_mut().insert(ON_BEHALF, name);
    }
    request
}

/// Runs a membership change in its own task, so that a caller who goes away does not cut it in two.
fn in_background<F>(run: impl FnOnce(mpsc::Sender<Result<v1::MemberProgress, Status>>) -> F) -> Response<Progress>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (tell, progress) = mpsc::channel(16);
    let work = run(tell.clone());
    tokio::spawn(async move {
        if let Err(status) = work.await {
            let _ = tell.send(Err(status)).await;
        }
    });
    Response::new(ReceiverStream::new(progress))
}

fn relay(mut stream: tonic::Streaming<v1::MemberProgress>) -> Response<Progress> {
    let (tell, progress) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            match stream.message().await {
                Ok(Some(step)) => {
                    if tell.send(Ok(step)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    let _ = tell.send(Err(status)).await;
                    return;
                }
            }
        }
    });
    Response::new(ReceiverStream::new(progress))
}

#[tonic::async_trait]
impl Operations for OperationsService {
    type AddMemberStream = Progress;
    type ReplaceMemberStream = Progress;
    type RenewKeyStream = Progress;
    type SalvageStream = ReceiverStream<Result<v1::SalvageReply, Status>>;

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        admit(&self.0.tls, &self.0.gateway, Call::Status, &request)?;
        Ok(Response::new(status::status(&self.0).await))
    }

    async fn approve_member(
        &self,
        request: Request<v1::ApproveMemberRequest>,
    ) -> Result<Response<v1::ApproveMemberReply>, Status> {
        let identity = admit(&self.0.tls, &self.0.gateway, Call::ApproveMember, &request)?;
        let caller = Caller::parse(identity, None)?;
        Ok(Response::new(self.0.gateway.approve_member(&caller, request.into_inner()).await?))
    }

    async fn add_member(&self, request: Request<v1::AddMemberRequest>) -> Result<Response<Progress>, Status> {
        let caller = self.caller(Call::ChangeMembership, &request)?;
        let request = request.into_inner();
        if let Some(mut leader) = self.leader()? {
            return Ok(relay(leader.add_member(forwarded(request, &caller)).await?.into_inner()));
        }
        // Nothing is journalled of what is refused.
        let (_, member) = self.approved(&request.name).await?;
        add::check_role(&member, request.role)?;
        self.0.gateway.journal_membership(&caller, &format!("add {}", request.name)).await?;
        let service = self.clone();
        Ok(in_background(|tell| async move { service.add(&request.name, None, &tell).await }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::MemberProgress>, Status> {
        let caller = self.caller(Call::ChangeMembership, &request)?;
        let request = request.into_inner();
        if let Some(mut leader) = self.leader()? {
            return leader.remove_member(forwarded(request, &caller)).await;
        }
        let changing = self.0.changing_members.clone().lock_owned().await;
        let id = self.id_of(&request.name)?;
        let membership = self.0.raft.metrics().borrow_watched().membership_config.clone();
        let voters: BTreeSet<NodeId> = membership.membership().voter_ids().collect();
        if voters == BTreeSet::from([id]) {
            return Err(Status::failed_precondition("the last voter cannot be removed"));
        }
        strength::check_removal(membership.membership(), id, request.accept_fewer)?;
        self.0.gateway.end_approval(&caller, &request.name, &format!("remove {}", request.name)).await?;
        let service = self.clone();
        let change = tokio::spawn(async move {
            let _changing = changing;
            let raft = &service.0.raft;
            if voters.contains(&id) {
                let rest = voters.into_iter().filter(|voter| *voter != id).collect();
                raft.change_membership(ChangeMembers::ReplaceAllVoters(rest), true)
                    .await
                    .map_err(|error| refused(&error))?;
            }
            raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false)
                .await
                .map_err(|error| refused(&error))
        });
        change.await.map_err(|error| refused(&error))??;
        Ok(Response::new(v1::MemberProgress { step: "done".into(), raft_id: id, ..v1::MemberProgress::default() }))
    }

    async fn replace_member(&self, request: Request<v1::ReplaceMemberRequest>) -> Result<Response<Progress>, Status> {
        let caller = self.caller(Call::ChangeMembership, &request)?;
        let request = request.into_inner();
        if let Some(mut leader) = self.leader()? {
            return Ok(relay(leader.replace_member(forwarded(request, &caller)).await?.into_inner()));
        }
        self.0.gateway.journal_membership(&caller, &format!("replace {} by {}", request.old, request.new)).await?;
        let service = self.clone();
        Ok(in_background(|tell| async move { service.add(&request.new, Some((&request.old, &caller)), &tell).await }))
    }

    async fn renew_key(&self, request: Request<v1::RenewKeyRequest>) -> Result<Response<Progress>, Status> {
        let caller = self.caller(Call::ChangeMembership, &request)?;
        let request = request.into_inner();
        if let Some(mut leader) = self.leader()? {
            return Ok(relay(leader.renew_key(forwarded(request, &caller)).await?.into_inner()));
        }
        let service = self.clone();
        Ok(in_background(
            |tell| async move { keys::renew(&service.0, &caller, service.id_of(&request.name)?, &tell).await },
        ))
    }

    async fn open_service(
        &self,
        request: Request<v1::OpenServiceRequest>,
    ) -> Result<Response<v1::OpenServiceReply>, Status> {
        let caller = self.caller(Call::OpenService, &request)?;
        let former = self.0.gateway.open_service(&caller, request.into_inner().level).await?;
        Ok(Response::new(v1::OpenServiceReply { former: former.number() }))
    }

    async fn salvage(
        &self,
        request: Request<tonic::Streaming<v1::SalvageRequest>>,
    ) -> Result<Response<Self::SalvageStream>, Status> {
        let identity = admit(&self.0.tls, &self.0.gateway, Call::Salvage, &request)?;
        if self.leader()?.is_some() {
            let why = "this node does not lead, and a salvage is the leader's to serve: ask the others".into();
            return Err(GatewayError::Unavailable { why }.into());
        }
        let caller = Caller::parse(identity, None)?;
        Ok(salvage::serve(self.0.clone(), caller, request.into_inner()))
    }

    async fn scrub_member(
        &self,
        request: Request<v1::ScrubMemberRequest>,
    ) -> Result<Response<v1::ScrubMemberReply>, Status> {
        admit(&self.0.tls, &self.0.gateway, Call::ChangeMembership, &request)?;
        if request.get_ref().name != self.0.config.name {
            let why = format!("this is {}, not the member that was named", self.0.config.name);
            return Err(GatewayError::invalid("name", why).into());
        }
        let asked = self.0.scrubbing.ask(self.0.config.scrub.asked_minutes);
        let scrub = asked.map_err(|why| GatewayError::Unavailable { why })?;
        Ok(Response::new(v1::ScrubMemberReply { scrub: Some(scrub) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let caller = self.caller(Call::ChangeMembership, &request)?;
        let request = request.into_inner();
        if let Some(mut leader) = self.leader()? {
            return leader.transfer_leader(forwarded(request, &caller)).await;
        }
        let node = &self.0;
        let to = match request.to.is_empty() {
            true => most_advanced(node).ok_or_else(|| Status::failed_precondition("there is no other voter"))?,
            false => self.id_of(&request.to)?,
        };
        if node.member(to).is_none_or(|member| member.role != MemberRole::Voter) {
            return Err(Status::failed_precondition("a backup member can never lead"));
        }
        node.gateway
            .journal_membership(&caller, &format!("lead {}", node.member(to).map(|m| m.name).unwrap_or_default()))
            .await?;
        node.raft.trigger().transfer_leader(to).await.map_err(|error| refused(&error))?;
        let deadline = Instant::now() + TRANSFER_TIMEOUT;
        while node.leader() != Some(to) {
            if Instant::now() > deadline {
                return Err(GatewayError::Unavailable {
                    why: "the handover did not finish in time; look at the status".into(),
                }
                .into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(Response::new(v1::TransferLeaderReply { leader: node.member(to).map(|m| m.name).unwrap_or_default() }))
    }
}
