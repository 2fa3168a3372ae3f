//! `kura.v1.Registry`.

use kura_cluster::row;
use kura_proto::v1::registry_server::Registry;
use kura_proto::v1::{self};
use tonic::{Request, Response, Status};

use super::Services;
use super::role::Call;

#[tonic::async_trait]
impl Registry for Services {
    async fn put_facility(
        &self,
        request: Request<v1::PutFacilityRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.put_facility(&caller, request.into_inner()).await?))
    }

    async fn list_facilities(
        &self,
        request: Request<v1::ListRegistryRequest>,
    ) -> Result<Response<v1::ListFacilitiesReply>, Status> {
        let caller = self.caller(Call::ListRegistry, &request, |_| None)?;
        let facilities = self.gateway.list_facilities(&caller).await?.into_iter().map(facility).collect();
        Ok(Response::new(v1::ListFacilitiesReply { facilities }))
    }

    async fn put_user(&self, request: Request<v1::PutUserRequest>) -> Result<Response<v1::RegisterReply>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.put_user(&caller, request.into_inner()).await?))
    }

    async fn list_users(
        &self,
        request: Request<v1::ListRegistryRequest>,
    ) -> Result<Response<v1::ListUsersReply>, Status> {
        let caller = self.caller(Call::ListRegistry, &request, |_| None)?;
        let users =
            self.gateway.list_users(&caller, &request.get_ref().facility).await?.into_iter().map(user).collect();
        Ok(Response::new(v1::ListUsersReply { users }))
    }

    async fn put_application(
        &self,
        request: Request<v1::PutApplicationRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.put_application(&caller, request.into_inner()).await?))
    }

    async fn list_applications(
        &self,
        request: Request<v1::ListRegistryRequest>,
    ) -> Result<Response<v1::ListApplicationsReply>, Status> {
        let caller = self.caller(Call::ListRegistry, &request, |_| None)?;
        let applications = self.gateway.list_applications(&caller).await?.into_iter().map(application).collect();
        Ok(Response::new(v1::ListApplicationsReply { applications }))
    }

    async fn show_settings(
        &self,
        request: Request<v1::ShowSettingsRequest>,
    ) -> Result<Response<v1::ShowSettingsReply>, Status> {
        let caller = self.caller(Call::ListRegistry, &request, |_| None)?;
        Ok(Response::new(self.gateway.show_settings(&caller).await?))
    }

    async fn put_settings(
        &self,
        request: Request<v1::PutSettingsRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.put_settings(&caller, request.into_inner()).await?))
    }

    async fn declare_disaster(
        &self,
        request: Request<v1::DeclareDisasterRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.declare_disaster(&caller, request.into_inner()).await?))
    }

    async fn end_disaster(&self, request: Request<v1::EndDisasterRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.end_disaster(&caller, request.into_inner()).await?))
    }

    async fn list_acts(&self, request: Request<v1::ListActsRequest>) -> Result<Response<v1::ListActsReply>, Status> {
        let caller = self.caller(Call::ListRegistry, &request, |_| None)?;
        Ok(Response::new(self.gateway.list_acts(&caller, request.into_inner()).await?))
    }

    async fn confirm_act(&self, request: Request<v1::ConfirmActRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.confirm_act(&caller, request.into_inner()).await?))
    }

    async fn reject_act(&self, request: Request<v1::RejectActRequest>) -> Result<Response<v1::Receipt>, Status> {
        let caller = self.caller(Call::Register, &request, |_| None)?;
        Ok(Response::new(self.gateway.reject_act(&caller, request.into_inner()).await?))
    }
}

fn facility(row: row::Facility) -> v1::Facility {
    v1::Facility {
        id: row.id,
        name: row.name,
        kind: row.kind,
        status: row.status,
        access_line: row.access_line,
        emergency: row.emergency,
        institution_code: row.institution_code,
    }
}

fn user(row: row::User) -> v1::User {
    v1::User {
        id: row.id,
        facility: row.facility,
        name: row.name,
        profession: row.profession,
        status: row.status,
        credential_sha256: row.credential_sha256,
        lists_accesses: row.lists_accesses,
    }
}

fn application(row: row::Application) -> v1::Application {
    v1::Application {
        name: row.name,
        access_line: row.access_line,
        facilities: row.facilities,
        status: row.status,
        participants: row.participants,
    }
}
