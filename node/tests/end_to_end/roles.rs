//! Roles of certificates against every call of every service.

use std::collections::BTreeMap;

use kura_client::wire;
use kura_node::certificates::Role;
use kura_node::dev::Cluster;
use time::OffsetDateTime;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::raw::{self, CALL_LIMIT};
use super::world::{cluster, folder};

/// Which roles each call is open to. Written down here a second time, on purpose.
pub const TABLE: &[(&str, &str)] = &[
    ("Records/PutWhole", "application"),
    ("Records/Put", "application"),
    ("Records/Get", "application"),
    ("Records/GetSeveral", "application"),
    ("Records/List", "application"),
    ("Records/History", "application"),
    ("Records/OpenEmergency", "application"),
    ("Records/Hide", "application"),
    ("Records/Narrow", "application"),
    ("Records/Hold", "registrar"),
    ("Records/Inbox", "application"),
    ("Records/Outcome", "application registrar auditor"),
    ("Consents/Enrol", "application"),
    ("Consents/Link", "application"),
    ("Consents/Relink", "application"),
    ("Consents/Resolve", "application"),
    ("Consents/ReverseResolve", "application"),
    ("Consents/IssueCard", "application registrar"),
    ("Consents/ResolveCard", "application"),
    ("Consents/Alias", "registrar"),
    ("Consents/Grant", "application"),
    ("Consents/Revoke", "application"),
    ("Consents/Withdraw", "application"),
    ("Consents/Show", "application"),
    ("Consents/Accesses", "application"),
    ("Consents/Granted", "application"),
    ("Erasures/Ask", "application registrar"),
    ("Erasures/Approve", "registrar"),
    ("Erasures/Stop", "application registrar"),
    ("Erasures/Show", "application registrar auditor"),
    ("Erasures/List", "registrar auditor"),
    ("Registry/PutFacility", "registrar"),
    ("Registry/PutUser", "registrar"),
    ("Registry/PutApplication", "registrar"),
    ("Registry/ListFacilities", "registrar auditor"),
    ("Registry/ListUsers", "registrar auditor"),
    ("Registry/ListApplications", "registrar auditor"),
    ("Registry/ShowSettings", "registrar auditor"),
    ("Registry/PutSettings", "registrar"),
    ("Registry/DeclareDisaster", "registrar"),
    ("Registry/EndDisaster", "registrar"),
    ("Registry/ListActs", "registrar auditor"),
    ("Registry/ConfirmAct", "registrar"),
    ("Registry/RejectAct", "registrar"),
    ("Audit/Head", "application registrar auditor operator recovery"),
    ("Audit/Consistency", "application registrar auditor operator recovery"),
    ("Audit/Inclusion", "application registrar auditor operator recovery"),
    ("Audit/Sealed", "application registrar auditor operator recovery"),
    ("Audit/List", "auditor"),
    ("Audit/FacilityAccesses", "application"),
    ("Audit/ListReviews", "auditor"),
    ("Audit/Review", "auditor"),
    ("Operations/Status", "registrar auditor operator recovery voter backup"),
    ("Operations/ApproveMember", "registrar operator"),
    ("Operations/AddMember", "operator"),
    ("Operations/RemoveMember", "operator"),
    ("Operations/ReplaceMember", "operator"),
    ("Operations/RenewKey", "operator"),
    ("Operations/ScrubMember", "operator"),
    ("Operations/TransferLeader", "operator"),
    ("Operations/OpenService", "recovery"),
    ("Operations/Salvage", "recovery"),
    ("Keys/KeyStatus", "registrar auditor operator recovery"),
    ("Keys/SubmitShare", "recovery"),
    ("Keys/RecordShares", "operator"),
    ("Keys/ConfirmShares", "registrar"),
    ("Keys/RotateKeys", "registrar operator"),
    ("Keys/PrepareDrill", "operator"),
    ("Peer/Append", "voter"),
    ("Peer/Vote", "voter"),
    ("Peer/PreVote", "voter"),
    ("Peer/TransferLeader", "voter"),
    ("Peer/OfferSnapshot", "voter"),
    ("Peer/SendSnapshot", "voter"),
    ("Peer/InstallSnapshot", "voter"),
    ("Peer/Propose", "voter"),
    ("Peer/Hello", "voter backup"),
    ("Peer/Timeline", "voter backup"),
    ("Peer/Heads", "voter backup"),
    ("Peer/Clear", "voter"),
    ("Peer/HandRootKey", "voter"),
    ("Peer/TakeRootKey", "voter"),
    ("Peer/Join", "voter backup"),
];

/// Every call that the descriptors name.
fn every_call() -> Vec<String> {
    let files = raw::descriptors().file;
    let services = files.iter().flat_map(|file| &file.service);
    let calls = services.flat_map(|service| service.method.iter().map(move |method| (service, method)));
    calls.map(|(service, method)| format!("{}/{}", service.name(), method.name())).collect()
}

/// Makes a call with one empty message and takes all replies; empty messages name nothing, so an
/// admitted call does no harm.
async fn call(channel: &Channel, call: &str, on_behalf: bool) -> Result<(), Status> {
    let path = format!("/kura.v1.{call}");
    let mut request = Request::new(vec![Vec::new()]);
    if on_behalf {
        request.metadata_mut().insert("kura-on-behalf-of", MetadataValue::from_static("operator"));
    }
    let answered = tokio::time::timeout(CALL_LIMIT, raw::call(channel, &path, request)).await;
    answered.map_err(|_| Status::deadline_exceeded("no answer"))?.map(drop)
}

fn is_refused(status: &Status) -> bool {
    let by_role = raw::detail(status).kind == "role";
    let by_gate = ["only nodes may call", "not from a backup"].iter().any(|words| status.message().contains(words));
    status.code() == Code::PermissionDenied && (by_role || by_gate)
}

fn channels(cluster: &Cluster) -> BTreeMap<&'static str, Channel> {
    let authority = raw::authority(cluster);
    let one = |role: Role| {
        // The name of no member, and of no application.
        let (files, _) = raw::issue(cluster, &authority, (role, "somebody"), 30, OffsetDateTime::now_utc());
        (role.word(), raw::channel(files, &cluster.plan().members[0]))
    };
    Role::ALL.iter().copied().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_open_to_the_roles_of_the_table_and_to_no_other() {
    let folder = folder();
    let cluster = cluster(folder.path(), 1, 0).await;
    let channels = channels(&cluster);
    let table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    let mut wrong = Vec::new();
    let calls = every_call();
    assert_eq!(calls.len(), TABLE.len(), "{calls:?}");
    for name in &calls {
        let open_to: Vec<&str> = table[&name[..]].split(' ').collect();
        for (role, channel) in &channels {
            let answer = call(channel, name, false).await;
            let refused = answer.as_ref().is_err_and(is_refused);
            let sound = answer.as_ref().err().is_none_or(|status| {
                !matches!(status.code(), Code::Unimplemented | Code::Unknown | Code::Internal | Code::DeadlineExceeded)
            });
            if refused == open_to.contains(role) || !sound {
                wrong.push(format!("{name} by {role}: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn speaking_for_an_operator_takes_a_voter_of_the_membership() {
    let folder = folder();
    let cluster = cluster(folder.path(), 2, 0).await;
    let change = "Operations/RemoveMember";
    let mut wrong = Vec::new();
    for (role, channel) in channels(&cluster) {
        // The voter of these is none of the membership: it forwards nothing. An operator speaks for itself.
        match call(&channel, change, true).await {
            Err(status) if status.code() == Code::PermissionDenied => {}
            answer => wrong.push(format!("{role}: {answer:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // One voter forwards to the other: whichever leads, the other one's certificate may.
    let layout = cluster.layout();
    let [first, second] = &cluster.plan().members[..] else { panic!("two members") };
    for (from, to) in [(first, second), (second, first)] {
        let channel = raw::channel(raw::node_files(layout, &from.name), to);
        let status = call(&channel, change, true).await.unwrap_err();
        assert!(!is_refused(&status), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_speaks_for_its_own_facilities_and_registered_name_only() {
    let world = super::world::World::start(1, 0).await;
    let number = world.enrol(1).await;
    let member = &world.cluster.plan().members[0];
    let authority = raw::authority(&world.cluster);
    // A sound certificate of the role, but no registrar has registered the name.
    let (files, _) =
        raw::issue(&world.cluster, &authority, (Role::Application, "stranger"), 30, OffsetDateTime::now_utc());
    let stranger = raw::channel(files, member);
    let mut records = wire::records_client::RecordsClient::new(stranger);
    let status = records.put_whole(raw::put_whole("hospital-01", &number)).await.unwrap_err();
    assert_eq!((status.code(), raw::detail(&status).field.as_str()), (Code::PermissionDenied, "application-unknown"));
    // The registered one, for a facility that is not among its own.
    let mut records = wire::records_client::RecordsClient::new(raw::application(&world));
    let status = records.put_whole(raw::put_whole("elsewhere", &number)).await.unwrap_err();
    let told = raw::detail(&status).field;
    assert_eq!((status.code(), told.as_str()), (Code::PermissionDenied, "facility-unknown"));
    records.put_whole(raw::put_whole("hospital-01", &number)).await.unwrap();
}
