//! A fuzz target of the requests that change something: decoded and looked at as far as is possible without any row.

use std::sync::Arc;

use kura_fuzz::target;
use kura_proto::v1;
use prost::Message;

use super::caller::Caller;
use super::new_record::NewRecord;
use super::transact::Asked;
use crate::certificates::{Identity, Role, Serial};

fn application() -> Arc<Identity> {
    Arc::new(Identity {
        role: Role::Application,
        name: "ehr".into(),
        cluster: None,
        fingerprint: [2; 32],
        key_sha256: [3; 32],
        not_after: i64::MAX,
        serial: Serial { issuer: [4; 32], number: vec![5] },
    })
}

fn id() -> Option<v1::RequestId> {
    Some(v1::RequestId { id: vec![1; 16].into() })
}

fn actor() -> Option<v1::Actor> {
    let (facility, name) = ("F0001".into(), "d0001".into());
    Some(v1::Actor { kind: 1, facility, name, method: 1, authenticated_ms: 1, ..Default::default() })
}

/// What is asked does not depend on when and how the actor was authenticated; whoever states a bad actor is refused.
macro_rules! acted {
    ($bytes:expr, $($nth:literal => $request:ident),+) => {
        match $bytes {
            $([$nth, bytes @ ..] => {
                let Ok(mut request) = v1::$request::decode(bytes) else { return };
                let stated = Caller::parse(application(), request.actor.as_ref());
                let Ok(asked) = Asked::parse(request.request.as_ref(), &request) else { return };
                if let (Ok(caller), Some(actor)) = (stated, request.actor.as_mut()) {
                    let row = caller.journalled();
                    assert!(row.name.len() <= 128 && row.facility.len() <= 128);
                    (actor.authenticated_ms, actor.method) = (actor.authenticated_ms ^ 1, actor.method ^ 1);
                    let again = Asked::parse(request.request.as_ref(), &request).expect("the same id");
                    assert_eq!(again.sha256, asked.sha256);
                }
            })+
            _ => {}
        }
    };
}

/// The same of requests of offices, which state no actor.
macro_rules! asked {
    ($bytes:expr, $($nth:literal => $request:ident),+) => {
        match $bytes {
            $([$nth, bytes @ ..] => {
                let Ok(request) = v1::$request::decode(bytes) else { return };
                if let Ok(asked) = Asked::parse(request.request.as_ref(), &request) {
                    assert_eq!(asked.id.0[..], request.request.expect("it was parsed").id[..]);
                }
            })+
            _ => {}
        }
    };
}

target!(
    /// First byte: which request.
    fuzz_requests,
    {
        let participant = || "0043001234567890".to_owned();
        let grant = v1::GrantRequest { request: id(), actor: actor(), participant: participant(), ..Default::default() };
        let revoke = v1::RevokeRequest { request: id(), actor: actor(), participant: participant(), ..Default::default() };
        let enrol = v1::EnrolRequest { request: id(), actor: actor(), ..Default::default() };
        let hold = v1::HoldRequest { request: id(), ..Default::default() };
        let user = v1::PutUserRequest { request: id(), ..Default::default() };
        let whole = v1::PutWholeRequest { request: id(), actor: actor(), participant: participant(), ..Default::default() };
        vec![
            [vec![4], grant.encode_to_vec()].concat(),
            [vec![5], revoke.encode_to_vec()].concat(),
            [vec![0], enrol.encode_to_vec()].concat(),
            [vec![21], hold.encode_to_vec()].concat(),
            [vec![13], user.encode_to_vec()].concat(),
            [vec![12], whole.encode_to_vec()].concat(),
        ]
    },
    |bytes| {
        if let [12, rest @ ..] = bytes
            && let Ok(request) = v1::PutWholeRequest::decode(rest)
            && let Ok(record) = NewRecord::parse(&request.participant, request.record.as_ref())
        {
            assert!(record.media_type.len() <= 1024 && record.signature.len() <= 1 << 20);
        }
        acted!(
            bytes,
            0 => EnrolRequest,
            1 => LinkRequest,
            2 => RelinkRequest,
            3 => IssueCardRequest,
            4 => GrantRequest,
            5 => RevokeRequest,
            6 => WithdrawRequest,
            7 => HideRequest,
            8 => NarrowRequest,
            9 => OpenEmergencyRequest,
            10 => AskErasureRequest,
            11 => StopErasureRequest,
            12 => PutWholeRequest
        );
        asked!(
            bytes,
            13 => PutUserRequest,
            14 => PutFacilityRequest,
            15 => PutApplicationRequest,
            16 => PutSettingsRequest,
            17 => DeclareDisasterRequest,
            18 => EndDisasterRequest,
            19 => ConfirmActRequest,
            20 => RejectActRequest,
            21 => HoldRequest,
            22 => AliasRequest,
            23 => ReviewRequest,
            24 => ApproveErasureRequest
        );
    }
);
