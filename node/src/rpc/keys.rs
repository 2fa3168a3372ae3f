//! `kura.v1.Keys`: custody of the root key. Shows no key and no record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kura_cluster::row::Table;
use kura_proto::v1::keys_server::Keys;
use kura_proto::v1::{self};
use tonic::{Request, Response, Status};

use super::admit;
use super::role::Call;
use crate::custody::{Known, SubmitError, data_keys_by_epoch};
use crate::gateway::{Caller, GatewayError};
use crate::serve::{Node, rotation};

/// See the module.
#[derive(Clone)]
pub struct KeysService(pub Arc<Node>);

impl KeysService {
    fn caller<T>(&self, call: Call, request: &Request<T>) -> Result<Caller, Status> {
        Caller::parse(admit(&self.0.tls, &self.0.gateway, call, request)?, None).map_err(Status::from)
    }
}

fn broken(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("the state of this node cannot be read: {error}"))
}

#[tonic::async_trait]
impl Keys for KeysService {
    async fn key_status(&self, request: Request<v1::KeyStatusRequest>) -> Result<Response<v1::KeyStatusReply>, Status> {
        admit(&self.0.tls, &self.0.gateway, Call::KeyStatus, &request)?;
        Ok(Response::new(tokio::task::block_in_place(|| status(&self.0))?))
    }

    async fn submit_share(
        &self,
        request: Request<v1::SubmitShareRequest>,
    ) -> Result<Response<v1::SubmitShareReply>, Status> {
        let holder = admit(&self.0.tls, &self.0.gateway, Call::SubmitShare, &request)?;
        let node = &self.0;
        let share = request.into_inner().share;
        let submitted = node.custody.submit(&share, &holder.name, &node.store.database());
        let submitted = submitted.map_err(|error| {
            tracing::warn!(holder = %holder.name, %error, "a share was refused");
            refused(error)
        })?;
        tracing::warn!(
            holder = %holder.name, held = submitted.held, needed = submitted.threshold, "a share was taken"
        );
        Ok(Response::new(v1::SubmitShareReply {
            held: submitted.held.into(),
            needed: submitted.threshold.into(),
            complete: submitted.complete,
        }))
    }

    async fn record_shares(
        &self,
        request: Request<v1::RecordSharesRequest>,
    ) -> Result<Response<v1::RecordSharesReply>, Status> {
        let caller = self.caller(Call::RecordShares, &request)?;
        let next = self.0.custody.next();
        let next = next.as_ref().map(|next| &*next.key);
        Ok(Response::new(self.0.gateway.record_shares(&caller, request.into_inner(), next).await?))
    }

    async fn confirm_shares(
        &self,
        request: Request<v1::ConfirmSharesRequest>,
    ) -> Result<Response<v1::ConfirmSharesReply>, Status> {
        let caller = self.caller(Call::ConfirmShares, &request)?;
        Ok(Response::new(self.0.gateway.confirm_shares(&caller, request.into_inner()).await?))
    }

    async fn prepare_drill(
        &self,
        request: Request<v1::PrepareDrillRequest>,
    ) -> Result<Response<v1::PrepareDrillReply>, Status> {
        let caller = self.caller(Call::PrepareDrill, &request)?;
        Ok(Response::new(self.0.gateway.prepare_drill(&caller, request.into_inner()).await?))
    }

    async fn rotate_keys(
        &self,
        request: Request<v1::RotateKeysRequest>,
    ) -> Result<Response<v1::RotateKeysReply>, Status> {
        let caller = self.caller(Call::RotateKeys, &request)?;
        let (node, request) = (self.0.clone(), request.into_inner());
        // In a task of its own: a caller who goes away does not cut it in two.
        let rotating = tokio::spawn(async move { rotation::rotate(&node, &caller, &request).await });
        Ok(Response::new(rotating.await.map_err(broken)??))
    }
}

fn refused(error: SubmitError) -> Status {
    match error {
        SubmitError::NotNeeded(_) => Status::failed_precondition(error.to_string()),
        SubmitError::State(error) => broken(error),
        error => GatewayError::invalid("share", error).into(),
    }
}

fn status(node: &Node) -> Result<v1::KeyStatusReply, Status> {
    let known = Known::read(&node.store.database()).map_err(broken)?;
    let cluster = node.identity.cluster_id;
    let summary = node.store.published().summary.clone();
    let timeline = summary.timeline;
    let data_keys = summary.table(Table::ParticipantKey).rows.saturating_sub(known.synthetic);
    // Where there is but one epoch that wraps, all of them are under it.
    let by_epoch = match known.has_older_epochs() {
        true => data_keys_by_epoch(&node.store.database()).map_err(broken)?,
        false => BTreeMap::from([(known.epoch, data_keys)]),
    };
    let epochs = known.epochs.iter().map(|one| {
        let data_keys = by_epoch.get(&one.epoch).copied().unwrap_or_default();
        let needed_by = known.needed_by(one, data_keys, timeline).into_iter().map(str::to_owned).collect();
        v1::KeyEpoch { epoch: one.epoch, timeline: one.timeline, ended: one.has_ended, data_keys, needed_by }
    });
    let newest = known.epochs.last();
    let (held, needed) = node.custody.gathered().unwrap_or_default();
    let sets = known.sets.iter().map(|one| v1::ShareSet {
        fingerprint: Bytes::copy_from_slice(&one.set.fingerprint(&cluster)),
        threshold: one.row.threshold,
        root_check_value: one.row.root_check_value.clone(),
        share_check_values: one.row.share_check_values.clone(),
        split_ms: one.row.split_ms,
        operator: one.row.operator.clone(),
        registrar: one.row.registrar.clone(),
        confirmed_ms: one.row.confirmed_ms,
        present: known.root_check_value == Some(one.set.root_check_value),
    });
    let rotation = known.rotation.as_ref().map(|row| v1::KeyRotation {
        kind: row.kind,
        operator: row.operator.clone(),
        registrar: row.registrar.clone(),
        asked_ms: row.asked_ms,
        without_shares: row.without_shares,
        next_check_value: row.next_check_value.clone(),
    });
    Ok(v1::KeyStatusReply {
        node: node.config.name.clone(),
        cluster_id: Bytes::copy_from_slice(&cluster.0),
        unsealed: node.gateway.vault.load().is_some(),
        provider: node.custody.provider().map(|provider| provider.word().to_owned()).unwrap_or_default(),
        shares_held: held.into(),
        shares_needed: needed.into(),
        root_check_value: known.root_check_value.map(|value| Bytes::copy_from_slice(&value)).unwrap_or_default(),
        epoch: known.epoch,
        sets: sets.collect(),
        rotation,
        alarms: known.alarms(),
        root_key_is_of_timeline: known.root_timeline == timeline,
        epoch_is_of_timeline: newest.is_some_and(|newest| newest.timeline == timeline),
        data_keys,
        data_keys_under_older_epochs: by_epoch.range(..known.epoch).map(|(_, count)| count).sum(),
        epochs: epochs.collect(),
    })
}
