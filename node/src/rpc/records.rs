//! `kura.v1.Records`.

use bytes::Bytes;
use futures_util::future::Either;
use kura_proto::v1::records_server::Records;
use kura_proto::v1::{self, get_reply, get_several_reply, put_reply, put_request};
use tokio::sync::mpsc;
use tokio_stream::Once;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use super::role::Call;
use crate::gateway::several::Step;
use crate::gateway::stage::{Begun, Position, Repeated, Upload};
use crate::gateway::{Caller, Gateway, GatewayError};

/// Messages on their way to a client, beyond what HTTP/2 holds.
const REPLIES_WAITING_MAX: usize = 2;

/// Data of one message to a client.
const DATA_BYTES_MAX: usize = 256 << 10;

type Replies<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Records for Services {
    type PutStream = Replies<v1::PutReply>;
    type GetStream = Either<Once<Result<v1::GetReply, Status>>, Replies<v1::GetReply>>;
    type GetSeveralStream = Replies<v1::GetSeveralReply>;
    type ListStream = Replies<v1::ListReply>;

    async fn put_whole(&self, request: Request<v1::PutWholeRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Put, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.put_whole(&caller, request.into_inner()).await?))
    }

    async fn put(&self, request: Request<Streaming<v1::PutRequest>>) -> Result<Response<Self::PutStream>, Status> {
        let identity = self.admit(Call::Put, &request)?;
        let (replies, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        let gateway = self.gateway.clone();
        let mut steps = request.into_inner();
        tokio::spawn(async move {
            let result = async {
                let begin = match steps.message().await?.and_then(|m| m.step) {
                    Some(put_request::Step::Begin(begin)) => begin,
                    _ => return Err(GatewayError::invalid("step", "an upload starts with begin").into()),
                };
                let caller = Caller::parse(identity, begin.actor.as_ref())?;
                match gateway.begin_upload(&caller, begin).await? {
                    Begun::Upload(upload) => take_upload(*upload, &mut steps, &replies).await,
                    Begun::Known(repeated) => take_repeated(&gateway, *repeated, &mut steps, &replies).await,
                }
            };
            if let Err(status) = result.await {
                let _ = replies.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let caller = self.caller(Call::Get, &request, |r| r.actor.as_ref())?;
        let (header, mut reading) = self.gateway.read(&caller, request.into_inner()).await?;
        let header = Ok(v1::GetReply { step: Some(get_reply::Step::Header(header)) });
        if reading.is_whole() {
            return Ok(Response::new(Either::Left(tokio_stream::once(header))));
        }
        let (replies, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        let _ = replies.send(header).await;
        tokio::spawn(async move {
            loop {
                let mut block = match reading.next().await {
                    Ok(Some(block)) => block,
                    Ok(None) => return,
                    Err(error) => {
                        let _ = replies.send(Err(error.into())).await;
                        return;
                    }
                };
                while !block.is_empty() {
                    let data = block.split_to(block.len().min(DATA_BYTES_MAX));
                    // A client that has gone away ends the reading.
                    if replies.send(Ok(v1::GetReply { step: Some(get_reply::Step::Data(data)) })).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Either::Right(ReceiverStream::new(receiver))))
    }

    async fn get_several(
        &self,
        request: Request<v1::GetSeveralRequest>,
    ) -> Result<Response<Self::GetSeveralStream>, Status> {
        let caller = self.caller(Call::Get, &request, |r| r.actor.as_ref())?;
        let mut reading = self.gateway.read_several(&caller, request.into_inner()).await?;
        let (replies, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        tokio::spawn(async move {
            let tell = async |step| replies.send(Ok(v1::GetSeveralReply { step: Some(step) })).await.is_ok();
            loop {
                let heard = match reading.next().await {
                    Ok(Some(Step::Header(header))) => tell(get_several_reply::Step::Header(*header)).await,
                    Ok(Some(Step::Refused(refused))) => tell(get_several_reply::Step::Refused(refused)).await,
                    Ok(Some(Step::Damaged(damaged))) => tell(get_several_reply::Step::Damaged(*damaged)).await,
                    Ok(Some(Step::Data(mut block))) => {
                        let mut heard = true;
                        while heard && !block.is_empty() {
                            let data = block.split_to(block.len().min(DATA_BYTES_MAX));
                            heard = tell(get_several_reply::Step::Data(data)).await;
                        }
                        heard
                    }
                    Ok(None) => return,
                    Err(error) => {
                        let _ = replies.send(Err(error.into())).await;
                        return;
                    }
                };
                // A client that has gone away ends the reading.
                if !heard {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let caller = self.caller(Call::Get, &request, |r| r.actor.as_ref())?;
        let reply = self.gateway.list(&caller, request.into_inner()).await?;
        let (replies, receiver) = mpsc::channel(1);
        let _ = replies.send(Ok(reply)).await;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        let caller = self.caller(Call::Get, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.history(&caller, request.into_inner()).await?))
    }

    async fn open_emergency(
        &self,
        request: Request<v1::OpenEmergencyRequest>,
    ) -> Result<Response<v1::OpenEmergencyReply>, Status> {
        let caller = self.caller(Call::Emergency, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.open_emergency(&caller, request.into_inner()).await?))
    }

    async fn hide(&self, request: Request<v1::HideRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Control, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.hide(&caller, request.into_inner()).await?))
    }

    async fn narrow(&self, request: Request<v1::NarrowRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Control, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.narrow(&caller, request.into_inner()).await?))
    }

    async fn hold(&self, request: Request<v1::HoldRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Hold, &request, |_| None)?;
        Ok(Response::new(self.gateway.hold(&caller, request.into_inner()).await?))
    }

    async fn inbox(&self, request: Request<v1::InboxRequest>) -> Result<Response<v1::InboxReply>, Status> {
        let caller = self.caller(Call::OwnFacility, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.inbox(&caller, request.into_inner()).await?))
    }

    async fn outcome(&self, request: Request<v1::OutcomeRequest>) -> Result<Response<v1::OutcomeReply>, Status> {
        let identity = self.admit(Call::Outcome, &request)?;
        Ok(Response::new(self.gateway.outcome(&identity.name, request.into_inner()).await?))
    }
}

/// Waits to hear which body a request that was committed before speaks of this time.
async fn take_repeated(
    gateway: &Gateway,
    repeated: Repeated,
    steps: &mut Streaming<v1::PutRequest>,
    replies: &mpsc::Sender<Result<v1::PutReply, Status>>,
) -> Result<(), Status> {
    let tell = async |step| {
        let _ = replies.send(Ok(v1::PutReply { step: Some(step) })).await;
    };
    tell(put_reply::Step::Known(v1::PutKnown {})).await;
    while let Some(message) = steps.message().await? {
        if let Some(put_request::Step::Finish(finish)) = message.step {
            tell(put_reply::Step::Receipt(repeated.finish(gateway, &finish).await?)).await;
            return Ok(());
        }
    }
    Err(GatewayError::invalid("step", "the stream ended before finish").into())
}

/// Takes an upload's steps until it is finished; tells the client what is durable.
async fn take_upload(
    mut upload: Upload<'_>,
    steps: &mut Streaming<v1::PutRequest>,
    replies: &mpsc::Sender<Result<v1::PutReply, Status>>,
) -> Result<(), Status> {
    let content_id = Bytes::copy_from_slice(&upload.content_id().0);
    let tell = async |position: Position| {
        let position = v1::PutPosition {
            content_id: content_id.clone(),
            parts: position.parts,
            bytes: position.bytes,
            bytes_total: position.bytes_total,
        };
        // A client that does not listen any more will notice by itself.
        let _ = replies.send(Ok(v1::PutReply { step: Some(put_reply::Step::Position(position)) })).await;
    };
    tell(upload.durable()).await;
    loop {
        // The client may wait to hear what is durable before it sends more.
        let step = tokio::select! {
            step = steps.message() => step?.and_then(|m| m.step),
            position = upload.settle_one(), if upload.is_in_flight() => {
                tell(position?).await;
                continue;
            }
        };
        match step {
            Some(put_request::Step::Part(part)) => upload.part(part).await?,
            Some(put_request::Step::Data(data)) => upload.data(data).await?,
            Some(put_request::Step::Finish(finish)) => {
                let receipt = upload.finish(finish).await?;
                let _ = replies.send(Ok(v1::PutReply { step: Some(put_reply::Step::Receipt(receipt)) })).await;
                return Ok(());
            }
            Some(put_request::Step::Begin(_)) => {
                return Err(GatewayError::invalid("step", "an upload begins once").into());
            }
            None => {
                return Err(GatewayError::invalid("step", "the body ended before finish; nothing was stored").into());
            }
        }
    }
}
