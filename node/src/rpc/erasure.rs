//! `kura.v1.Erasures`.

use kura_proto::v1::erasures_server::Erasures;
use kura_proto::v1::{self};
use tonic::{Request, Response, Status};

use super::Services;
use super::role::Call;

#[tonic::async_trait]
impl Erasures for Services {
    async fn ask(&self, request: Request<v1::AskErasureRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::AskErasure, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.ask_erasure(&caller, request.into_inner()).await?))
    }

    async fn approve(&self, request: Request<v1::ApproveErasureRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::ApproveErasure, &request, |_| None)?;
        Ok(Response::new(self.gateway.approve_erasure(&caller, request.into_inner()).await?))
    }

    async fn stop(&self, request: Request<v1::StopErasureRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::AskErasure, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.stop_erasure(&caller, request.into_inner()).await?))
    }

    async fn show(&self, request: Request<v1::ShowErasureRequest>) -> Result<Response<v1::ShowErasureReply>, Status> {
        let caller = self.caller(Call::ShowErasure, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.show_erasure(&caller, request.into_inner()).await?))
    }

    async fn list(&self, request: Request<v1::ListErasuresRequest>) -> Result<Response<v1::ListErasuresReply>, Status> {
        let caller = self.caller(Call::ListErasures, &request, |_| None)?;
        Ok(Response::new(self.gateway.list_erasures(&caller, request.into_inner()).await?))
    }
}
