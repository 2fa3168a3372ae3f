//! `kura.v1.Consents`.

use kura_proto::v1::consents_server::Consents;
use kura_proto::v1::{self};
use tonic::{Request, Response, Status};

use super::Services;
use super::role::Call;

macro_rules! calls {
    ($($name:ident => $case:ident: $call:ident, $request:ident -> $reply:ident;)+) => {
        #[tonic::async_trait]
        impl Consents for Services {
            $(async fn $name(&self, request: Request<v1::$request>) -> Result<Response<v1::$reply>, Status> {
                let caller = self.caller(Call::$call, &request, |r| r.actor.as_ref())?;
                Ok(Response::new(self.gateway.$case(&caller, request.into_inner()).await?))
            })+

            async fn alias(&self, request: Request<v1::AliasRequest>) -> Result<Response<v1::RegisterReply>, Status> {
                let caller = self.caller(Call::Alias, &request, |_| None)?;
                Ok(Response::new(self.gateway.alias(&caller, request.into_inner()).await?))
            }
        }
    };
}

calls! {
    enrol => enrol: Consent, EnrolRequest -> Receipt;
    link => link: Consent, LinkRequest -> Receipt;
    relink => relink: Consent, RelinkRequest -> Receipt;
    resolve => resolve: Consent, ResolveRequest -> ResolveReply;
    reverse_resolve => reverse_resolve: OwnFacility, ReverseResolveRequest -> ReverseResolveReply;
    issue_card => issue_card: IssueCard, IssueCardRequest -> Receipt;
    resolve_card => resolve_card: Consent, ResolveCardRequest -> ResolveReply;
    grant => grant: Consent, GrantRequest -> Receipt;
    revoke => revoke: Consent, RevokeRequest -> Receipt;
    withdraw => withdraw: Consent, WithdrawRequest -> Receipt;
    show => show_consent: Consent, ShowRequest -> ShowReply;
    accesses => accesses: Accesses, AccessesRequest -> AccessesReply;
    granted => granted: OwnFacility, GrantedRequest -> GrantedReply;
}
