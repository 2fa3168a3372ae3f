//! The services: each call becomes one use case of the gateway, each error one gRPC status.
//!
//! Invariants
//! - Every call is held against the table of roles ([`role`]) and against the certificate's expiry and
//!   revocation before anything is parsed.
//! - A certificate that is refused is noted for the journal.
//! - Errors map to gRPC codes in one place ([`status`]).

pub mod audit;
pub mod consents;
pub mod erasure;
pub mod keys;
pub mod operations;
pub mod peer;
pub mod records;
pub mod registry;
pub mod role;
pub mod status;

#[cfg(test)]
mod words;

use std::sync::Arc;

use kura_cluster::ClusterId;
use kura_proto::v1;
use tonic::{Request, Status};

use crate::certificates::{Identity, PeerInfo, ReloadingTls, Why};
use crate::gateway::{Caller, Gateway, GatewayError};
use crate::heads::Heads;

/// Longest message that a client may send: a whole record and its fields.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 2 << 20;

/// What the client-facing services share.
#[derive(Clone)]
pub struct Services {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Whose journal it is.
    pub cluster_id: ClusterId,
    /// What members signed.
    pub heads: Arc<Heads>,
    /// To notice certificates that were revoked while their connection stayed open.
    pub tls: Arc<ReloadingTls>,
}

impl Services {
    /// Checks certificate and role of a call.
    pub fn admit<T>(&self, call: role::Call, request: &Request<T>) -> Result<Arc<Identity>, Status> {
        admit(&self.tls, &self.gateway, call, request)
    }

    /// Checks certificate and role of a call, and parses the actor that it states.
    pub fn caller<T>(
        &self,
        call: role::Call,
        request: &Request<T>,
        actor: impl FnOnce(&T) -> Option<&v1::Actor>,
    ) -> Result<Caller, Status> {
        let identity = self.admit(call, request)?;
        Caller::parse(identity, actor(request.get_ref())).map_err(Status::from)
    }
}

/// Checks that the certificate of a connection may make a call now, and that this node is still a member: one that was
/// removed tells its status, and nothing else.
pub fn admit<T>(
    tls: &ReloadingTls,
    gateway: &Gateway,
    call: role::Call,
    request: &Request<T>,
) -> Result<Arc<Identity>, Status> {
    let peer = request.extensions().get::<PeerInfo>();
    let identity = peer.map(|peer| peer.identity.clone()).ok_or(GatewayError::Certificate { why: "none was shown" })?;
    if tls.is_revoked(&identity.serial) {
        tls.refusals().note(&identity, Why::Revoked);
        return Err(GatewayError::Certificate { why: "it was revoked; ask for a new one" }.into());
    }
    if u64::try_from(identity.not_after).unwrap_or(0).saturating_mul(1000) < crate::clock::now_ms() {
        tls.refusals().note(&identity, Why::Expired);
        return Err(GatewayError::Certificate { why: "it has expired; renew it" }.into());
    }
    if !call.allows(identity.role) {
        tls.refusals().note(&identity, Why::Role);
        return Err(GatewayError::Role { role: identity.role.to_string(), takes: call.roles() }.into());
    }
    if call != role::Call::Status {
        gateway.check_member()?;
    }
    Ok(identity)
}
