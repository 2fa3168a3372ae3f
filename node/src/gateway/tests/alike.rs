//! Ids that differ in case or width alone are not registered side by side.

use super::*;

fn facility(id: &str) -> v1::Facility {
    v1::Facility { id: id.into(), name: "name".into(), kind: 1, status: 1, access_line: 1, ..Default::default() }
}

fn user(facility: &str, id: &str) -> v1::User {
    let (id, facility) = (id.into(), facility.into());
    v1::User { id, facility, name: "name".into(), profession: 1, status: 1, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_read_as_another_is_not_registered_beside_it() {
    let storehouse = Storehouse::new().await;
    let gateway = storehouse.gateway();
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let put_facility = async |id: &str, before: Option<v1::Facility>| {
        let facility = Some(v1::Facility { name: "another name".into(), ..facility(id) });
        let put = v1::PutFacilityRequest { request: request(), facility, before, ..Default::default() };
        gateway.put_facility(&registrar, put).await
    };
    let put_user = async |place: &str, id: &str| {
        let put = v1::PutUserRequest { request: request(), user: Some(user(place, id)), ..Default::default() };
        gateway.put_user(&registrar, put).await
    };
    let put_application = async |name: &str| {
        let application = v1::Application {
            name: name.into(),
            access_line: 1,
            facilities: vec![HOSPITAL.into()],
            status: 1,
            ..Default::default()
        };
        let put =
            v1::PutApplicationRequest { request: request(), application: Some(application), ..Default::default() };
        gateway.put_application(&registrar, put).await
    };
    let field = |answer: Result<v1::RegisterReply, GatewayError>| match answer {
        Err(GatewayError::Contradicts { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    for alike in ["HOSPITAL-01", "ｈｏｓｐｉｔａｌ-01", "Hospital-０１"] {
        assert_eq!(field(put_facility(alike, None).await), "id", "{alike}");
    }
    assert_eq!(field(put_user(HOSPITAL, "Doctor-1").await), "id");
    assert_eq!(field(put_application("ＫＡＲＴＥ").await), "name");

    // Other ids, and the same at another place.
    put_facility("hospital-02", None).await.unwrap();
    put_user("hospital-02", "Doctor-1").await.unwrap();
    put_user(HOSPITAL, "doctor-2").await.unwrap();
    put_application("karte-2").await.unwrap();
    // What is registered is changed as ever.
    let before = v1::Facility { name: "another name".into(), ..facility("hospital-02") };
    put_facility("hospital-02", Some(before)).await.unwrap();
    drop(gateway);
    storehouse.close().await;
}
