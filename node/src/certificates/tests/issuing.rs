//! From a request to a certificate.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// The PEM text with one bit in its last bytes, which are the signature's, turned over.
pub(super) fn with_damaged_signature(pem: &str) -> String {
    let mut text = pem.trim_end().as_bytes().to_vec();
    let end = text.windows(5).rposition(|part| part == b"-----").unwrap();
    let footer = text[..end].windows(5).rposition(|part| part == b"-----").unwrap();
    let place = text[..footer].iter().rposition(u8::is_ascii_alphanumeric).unwrap() - 12;
    let place = text[..=place].iter().rposition(u8::is_ascii_alphanumeric).unwrap();
    text[place] = if text[place] == b'A' { b'B' } else { b'A' };
    String::from_utf8(text).unwrap() + "\n"
}

fn request(house: &House, role: Role, name: &str, names: &[&str]) -> PathBuf {
    let files = RequestFiles { private_key: house.path("new.key"), request: house.path("new.csr") };
    let _ = std::fs::remove_file(&files.private_key);
    let _ = std::fs::remove_file(&files.request);
    let subject = Subject { role, name: name.into(), cluster: Some("test cluster".into()) };
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    create_request(&files, &subject, &names).unwrap();
    files.request
}

#[tokio::test]
async fn a_requested_certificate_serves_under_all_its_names() {
    let house = House::new();
    let path = request(&house, Role::Voter, "node-1", &["10.1.2.3", "node-1.example"]);
    let mode = std::fs::metadata(house.path("new.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let summary = summarize_request(&path).unwrap();
    assert_eq!(summary.name.as_deref(), Some("node-1"));
    assert_eq!(summary.role, Some(Role::Voter));
    assert_eq!(summary.alternative_names, ["node-1", "10.1.2.3", "node-1.example"]);

    let mut wanted = approval(Role::Voter, "node-1", 30);
    wanted.alternative_names = vec!["10.1.2.3".into(), "node-1.example".into()];
    let issued = house.authority.issue(&path, &wanted, now()).unwrap();
    assert_eq!(issued.identity.serial.number.len(), 16);
    issued.create_file(&house.path("new.pem")).unwrap();
    assert!(matches!(issued.create_file(&house.path("new.pem")), Err(AuthorityError::Write { .. })));

    let server = Server::start(&ReloadingTls::load(house.tls_files("new")).unwrap()).await;
    let client = house.client("app");
    for name in ["node-1", "node-1.example"] {
        call(&server.channel(&client, name)).await.unwrap();
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let house = House::new();
    request(&house, Role::Application, "app", &[]);
    let before = std::fs::read(house.path("new.key")).unwrap();
    let files = RequestFiles { private_key: house.path("new.key"), request: house.path("other.csr") };
    let subject = Subject { role: Role::Application, name: "app".into(), cluster: None };
    let error = create_request(&files, &subject, &[]).unwrap_err();
    assert!(error.to_string().contains("new.key"), "{error}");
    assert_eq!(std::fs::read(house.path("new.key")).unwrap(), before);
    assert!(!files.request.exists());
    let error = Authority::create(&authority_files(house.directory.path()), None, 1, now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Write { .. }));
    Authority::open(&authority_files(house.directory.path())).unwrap();
}

#[test]
fn a_request_with_a_bad_signature_is_refused() {
    let house = House::new();
    let path = request(&house, Role::Application, "app", &[]);
    house.authority.issue(&path, &approval(Role::Application, "app", 1), now()).unwrap();
    let damaged = with_damaged_signature(&std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, damaged).unwrap();
    let error = house.authority.issue(&path, &approval(Role::Application, "app", 1), now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Request(RequestError::Signature { .. })), "{error:?}");
    for bad in ["", "garbage", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(summarize_request(&path), Err(RequestError::NotARequest { .. })), "{bad}");
    }
}

#[test]
fn what_was_approved_counts_and_not_what_was_requested() {
    let house = House::new();
    let path = request(&house, Role::Application, "app", &[]);
    let issue = |approval: &Approval| house.authority.issue(&path, approval, now());
    for (role, name, attribute) in
        [(Role::Operator, "app", "role"), (Role::Application, "other", "name"), (Role::Voter, "app", "role")]
    {
        match issue(&approval(role, name, 1)) {
            Err(AuthorityError::SubjectDiffers { attribute: found, .. }) => assert_eq!(found, attribute),
            other => panic!("{other:?}"),
        }
    }
    let stranger = tempfile::tempdir().unwrap();
    let stranger = Authority::create(&authority_files(stranger.path()), Some("another"), 9, now()).unwrap();
    assert!(matches!(
        stranger.issue(&path, &approval(Role::Application, "app", 1), now()),
        Err(AuthorityError::SubjectDiffers { attribute: "cluster", .. })
    ));
}

#[test]
fn a_node_gets_no_name_that_nobody_approved() {
    let house = House::new();
    let path = request(&house, Role::Voter, "node-2", &["node-1"]);
    let mut wanted = approval(Role::Voter, "node-2", 1);
    match house.authority.issue(&path, &wanted, now()) {
        Err(AuthorityError::NameNotApproved { name, .. }) => assert_eq!(name, "node-1"),
        other => panic!("{other:?}"),
    }
    wanted.accept_requested_names = true;
    house.authority.issue(&path, &wanted, now()).unwrap();
}

#[test]
fn names_that_no_peer_could_check_are_refused() {
    let house = House::new();
    let files = AuthorityFiles { certificate: house.path("x.pem"), private_key: house.path("x.key") };
    let issue = |role, name: &str, names: &[&str]| {
        let mut wanted = approval(role, name, 1);
        wanted.alternative_names = names.iter().map(|name| (*name).to_owned()).collect();
        match house.authority.issue_with_key(&files, &wanted, now()) {
            Err(AuthorityError::Request(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for name in ["10.0.0.1", "a..b", ".a", "a-", "1"] {
        assert!(matches!(issue(Role::Voter, name, &[]), RequestError::NodeName { .. }), "{name}");
    }
    for name in ["*.example", "a b", "", "10.0.0.0/8"] {
        assert!(matches!(issue(Role::Voter, "a", &[name]), RequestError::AlternativeName { .. }), "{name}");
    }
    assert!(matches!(issue(Role::Operator, "a", &["b"]), RequestError::NamesWithoutNode { .. }));
    assert!(matches!(issue(Role::Voter, "a b", &[]), RequestError::Subject(IdentityError::Name)));
    let many: Vec<String> = (0..ALTERNATIVE_NAMES_MAX).map(|number| format!("n{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(issue(Role::Voter, "a", &many), RequestError::TooManyNames));
    assert!(!files.certificate.exists() && !files.private_key.exists());
}

#[test]
fn no_certificate_outlives_its_ca() {
    let house = House::new();
    let path = request(&house, Role::Application, "app", &[]);
    let issue = |days| house.authority.issue(&path, &approval(Role::Application, "app", days), now());
    assert!(issue(399).is_ok());
    assert!(matches!(issue(401), Err(AuthorityError::OutlivesAuthority { days_left: 399, .. })));
    for days in [0, DAYS_MAX + 1, u32::MAX] {
        assert!(matches!(issue(days), Err(AuthorityError::Days { .. })), "{days}");
    }
}

#[test]
fn only_a_ca_with_its_own_key_signs() {
    let (house, other) = (House::new(), House::new());
    let open = |certificate, private_key| match Authority::open(&AuthorityFiles { certificate, private_key }) {
        Err(AuthorityError::NotAnAuthority { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(open(house.path("ca.pem"), other.path("ca.key")).contains("another"));
    house.issue(Role::Voter, "node-1");
    assert!(open(house.path("node-1.pem"), house.path("node-1.key")).contains("not a CA"));
    assert!(open(house.path("ca.pem"), house.path("ca.pem")).contains("key"));
}

#[test]
fn revocations_add_up() {
    let (house, other) = (House::new(), House::new());
    let path = house.path("revoked.pem");
    let update = |numbers: &[Vec<u8>]| house.authority.update_revocation_list(&path, numbers, 30, now());
    assert_eq!(update(&[vec![0x80, 1]]).unwrap(), 1);
    assert_eq!(update(&[vec![7], vec![0, 0x80, 1]]).unwrap(), 2);
    assert_eq!(update(&[]).unwrap(), 2);
    let numbers: Vec<Vec<u8>> = revocations(&path).unwrap().into_iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [vec![0x80, 1], vec![7]]);

    let before = std::fs::read(&path).unwrap();
    assert!(matches!(update(&[vec![]]), Err(AuthorityError::SerialNumber)));
    assert!(matches!(update(&[vec![1; 21]]), Err(AuthorityError::SerialNumber)));
    assert!(matches!(
        other.authority.update_revocation_list(&path, &[], 30, now()),
        Err(AuthorityError::Revocation(RevocationError::UnknownAuthority { .. }))
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn days_left_are_whole_days_of_the_weakest_certificate() {
    let house = House::new();
    let issued = house.issue_at(Role::Voter, "node-1", 10, now());
    let path = house.path("node-1.pem");
    let end = OffsetDateTime::from_unix_timestamp(issued.identity.not_after).unwrap();
    let left = |at| certificate_expiry(&path, at).unwrap().days_left;
    assert_eq!(left(end - time::Duration::days(10)), 10);
    assert_eq!(left(end - time::Duration::seconds(1)), 0);
    assert_eq!(left(end + time::Duration::seconds(1)), -1);
    let chain = [std::fs::read(house.path("ca.pem")).unwrap(), std::fs::read(&path).unwrap()].concat();
    std::fs::write(house.path("chain.pem"), chain).unwrap();
    let expiry = certificate_expiry(&house.path("chain.pem"), now()).unwrap();
    assert_eq!(expiry.not_after, issued.identity.not_after);
    let error = certificate_expiry(&house.path("node-1.key"), now()).unwrap_err();
    assert!(error.to_string().contains("node-1.key"), "{error}");
}
