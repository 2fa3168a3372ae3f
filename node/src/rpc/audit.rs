//! `kura.v1.Audit`.

use kura_proto::v1::audit_server::Audit;
use kura_proto::v1::{self};
use tonic::{Request, Response, Status};

use super::Services;
use super::role::Call;

#[tonic::async_trait]
impl Audit for Services {
    async fn head(&self, request: Request<v1::HeadRequest>) -> Result<Response<v1::HeadReply>, Status> {
        self.admit(Call::JournalProof, &request)?;
        Ok(Response::new(self.gateway.journal_head(&self.cluster_id.0, self.heads.newest_of_all())))
    }

    async fn consistency(
        &self,
        request: Request<v1::ConsistencyRequest>,
    ) -> Result<Response<v1::ConsistencyReply>, Status> {
        self.admit(Call::JournalProof, &request)?;
        Ok(Response::new(self.gateway.consistency(request.get_ref())?))
    }

    async fn inclusion(&self, request: Request<v1::InclusionRequest>) -> Result<Response<v1::InclusionReply>, Status> {
        self.admit(Call::JournalProof, &request)?;
        Ok(Response::new(self.gateway.inclusion(request.get_ref())?))
    }

    async fn sealed(&self, request: Request<v1::SealedRequest>) -> Result<Response<v1::SealedReply>, Status> {
        self.admit(Call::JournalProof, &request)?;
        Ok(Response::new(self.gateway.sealed(request.get_ref())?))
    }

    async fn list(&self, request: Request<v1::JournalRequest>) -> Result<Response<v1::JournalReply>, Status> {
        let caller = self.caller(Call::ListJournal, &request, |_| None)?;
        Ok(Response::new(self.gateway.list_journal(&caller, request.into_inner()).await?))
    }

    async fn facility_accesses(
        &self,
        request: Request<v1::FacilityAccessesRequest>,
    ) -> Result<Response<v1::JournalReply>, Status> {
        let caller = self.caller(Call::OwnFacility, &request, |r| r.actor.as_ref())?;
        Ok(Response::new(self.gateway.facility_accesses(&caller, request.into_inner()).await?))
    }

    async fn list_reviews(
        &self,
        request: Request<v1::ListReviewsRequest>,
    ) -> Result<Response<v1::ListReviewsReply>, Status> {
        let caller = self.caller(Call::Review, &request, |_| None)?;
        Ok(Response::new(self.gateway.list_reviews(&caller, request.into_inner()).await?))
    }

    async fn review(&self, request: Request<v1::ReviewRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Review, &request, |_| None)?;
        Ok(Response::new(self.gateway.review(&caller, request.into_inner()).await?))
    }
}
