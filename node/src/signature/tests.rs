//! Signatures made here, and by OpenSSL (`vectors/`, whose keys are gone).

use cms::cert::x509::Certificate;
use cms::cert::x509::attr::Attribute;
use cms::cert::x509::spki::AlgorithmIdentifierOwned;
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode, Encode, Tag};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    SigningKey,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::*;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// 2026-01-01, in milliseconds; certificates made here are valid in the year before and after it.
const NOW_MS: u64 = 1_767_225_600_000;
const YEAR_MS: u64 = 365 * 86_400_000;
const BODY: &[u8] = b"the exact bytes";

struct Ca(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Ca {
    fn new(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Ca(Issuer::new(params, key), certificate.der().clone())
    }

    fn checker(&self) -> Checker {
        Checker::against(Authorities::of(std::slice::from_ref(&self.1)).unwrap())
    }

    fn signer(&self, edit: impl FnOnce(&mut CertificateParams)) -> Signer {
        self.signer_with(KeyPair::generate().unwrap(), edit)
    }

    fn signer_with(&self, key: KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Signer {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "signer");
        let at = |ms: u64| OffsetDateTime::from_unix_timestamp(ms as i64 / 1000).unwrap();
        (params.not_before, params.not_after) = (at(NOW_MS - YEAR_MS), at(NOW_MS + YEAR_MS));
        edit(&mut params);
        Signer { certificate: params.signed_by(&key, &self.0).unwrap().der().to_vec(), key }
    }

    fn tsa(&self) -> Signer {
        self.signer(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping])
    }
}

struct Signer {
    key: KeyPair,
    certificate: Vec<u8>,
}

impl Signer {
    fn info(&self, content_type: ObjectIdentifier, content: &[u8]) -> SignerInfo {
        let certificate = Certificate::from_der(&self.certificate).unwrap();
        let attribute = |oid, value: Any| Attribute { oid, values: SetOfVec::try_from(vec![value]).unwrap() };
        let digest = OctetString::new(DigestAlgorithm::Sha512.digest(content)).unwrap();
        let attributes = SetOfVec::try_from(vec![
            attribute(CONTENT_TYPE, Any::encode_from(&content_type).unwrap()),
            attribute(MESSAGE_DIGEST, Any::encode_from(&digest).unwrap()),
        ])
        .unwrap();
        let signature = self.key.sign(&attributes.to_der().unwrap()).unwrap();
        let oid = if self.key.is_compatible(&PKCS_ED25519) { ED25519 } else { ECDSA_SHA256 };
        SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: certificate.tbs_certificate().issuer().clone(),
                serial_number: certificate.tbs_certificate().serial_number().clone(),
            }),
            digest_alg: AlgorithmIdentifierOwned { oid: SHA512, parameters: None },
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned { oid, parameters: None },
            signature: OctetString::new(signature).unwrap(),
            unsigned_attrs: None,
        }
    }

    fn signed_data(&self, content_type: ObjectIdentifier, content: &[u8], attached: bool) -> SignedData {
        let econtent = attached.then(|| Any::encode_from(&OctetString::new(content).unwrap()).unwrap());
        let certificate = Certificate::from_der(&self.certificate).unwrap();
        SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::default(),
            encap_content_info: EncapsulatedContentInfo { econtent_type: content_type, econtent },
            certificates: Some(vec![CertificateChoices::Certificate(certificate)].try_into().unwrap()),
            crls: None,
            signer_infos: SignerInfos(SetOfVec::try_from(vec![self.info(content_type, content)]).unwrap()),
        }
    }

    fn sign(&self, content: &[u8]) -> Bytes {
        encode(&self.signed_data(DATA, content, false))
    }

    /// A token over bytes, of a time.
    fn token(&self, over: &[u8], time: &str) -> Bytes {
        let imprint = [
            AlgorithmIdentifierOwned { oid: SHA512, parameters: None }.to_der().unwrap(),
            OctetString::new(DigestAlgorithm::Sha512.digest(over)).unwrap().to_der().unwrap(),
        ]
        .concat();
        let fields = [
            1_u8.to_der().unwrap(),
            ObjectIdentifier::new_unwrap("1.2.3").to_der().unwrap(),
            Any::new(Tag::Sequence, imprint).unwrap().to_der().unwrap(),
            7_u8.to_der().unwrap(),
            Any::new(Tag::GeneralizedTime, time.as_bytes()).unwrap().to_der().unwrap(),
        ]
        .concat();
        let info = Any::new(Tag::Sequence, fields).unwrap().to_der().unwrap();
        encode(&self.signed_data(TST_INFO, &info, true))
    }
}

fn encode(data: &SignedData) -> Bytes {
    let content = Any::encode_from(data).unwrap();
    ContentInfo { content_type: SIGNED_DATA, content }.to_der().unwrap().into()
}

fn check(checker: &Checker, signature: &Bytes, token: &Bytes, body: &[u8], now_ms: u64) -> SignatureCheck {
    let mut check = checker.begin(signature, token).unwrap();
    // However the bytes are cut.
    for piece in body.chunks(4) {
        check.update(piece);
    }
    check.finish(now_ms)
}

/// Result and words of a signature alone.
fn found(checker: &Checker, signature: &Bytes, body: &[u8]) -> (u32, String) {
    let check = check(checker, signature, &Bytes::new(), body, NOW_MS);
    assert_eq!((check.at_ms, check.timestamp_ms, &check.timestamp_why[..]), (NOW_MS, 0, ""));
    (check.result, check.why)
}

const VALID: u32 = SignatureResult::Valid as u32;
const INVALID: u32 = SignatureResult::Invalid as u32;
const UNTRUSTED: u32 = SignatureResult::Untrusted as u32;
const UNSUPPORTED: u32 = SignatureResult::Unsupported as u32;

#[test]
fn a_signature_is_over_these_bytes_by_a_certificate_of_a_configured_authority() {
    let ca = Ca::new("CA");
    let signer = ca.signer(|_| {});
    let signature = signer.sign(BODY);
    let told = check(&ca.checker(), &signature, &Bytes::new(), BODY, NOW_MS);
    assert_eq!((told.result, &told.why[..]), (VALID, ""));
    assert_eq!(told.signer_sha256[..], DigestAlgorithm::Sha256.digest(&signer.certificate)[..]);
    let ed = ca.signer_with(KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {});
    assert_eq!(found(&ca.checker(), &ed.sign(BODY), BODY), (VALID, String::new()));

    assert_eq!(found(&ca.checker(), &signature, b"the exact byteS"), (INVALID, "is over other bytes".into()));
    assert_eq!(found(&ca.checker(), &signature, b""), (INVALID, "is over other bytes".into()));
    // Another's certificate in the place of the signer's, by the same name and number.
    let other = ca.signer(|params| params.serial_number = Some(9.into()));
    let mut swapped = ca.signer(|params| params.serial_number = Some(9.into()));
    swapped.certificate = other.certificate;
    let forged = (INVALID, "does not verify by the certificate that it names".into());
    assert_eq!(found(&ca.checker(), &swapped.sign(BODY), BODY), forged);
    let elsewhere = Ca::new("another CA").checker();
    let untrusted = (UNTRUSTED, "is by a certificate that leads to no configured authority".into());
    assert_eq!(found(&elsewhere, &signature, BODY), untrusted);
    // Of the same name, with another key.
    assert_eq!(found(&Ca::new("CA").checker(), &signature, BODY).0, UNTRUSTED);
    assert!(Checker::default().begin(&signature, &Bytes::new()).is_none(), "without authorities nothing is checked");
    assert!(ca.checker().begin(&Bytes::new(), &Bytes::new()).is_none());
}

#[test]
fn a_certificate_was_valid_and_is_for_signing() {
    let ca = Ca::new("CA");
    let words = |edit: fn(&mut CertificateParams)| found(&ca.checker(), &ca.signer(edit).sign(BODY), BODY);
    let usage = |params: &mut CertificateParams, usage| params.extended_key_usages = vec![usage];
    let for_another = (UNTRUSTED, "is by a certificate for another use".to_owned());
    assert_eq!(words(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), for_another);
    assert_eq!(words(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping]), for_another);
    for fit in
        [ExtendedKeyUsagePurpose::EmailProtection, ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 36])]
    {
        let signer = ca.signer(|params| usage(params, fit));
        assert_eq!(found(&ca.checker(), &signer.sign(BODY), BODY).0, VALID);
    }
    assert_eq!(words(|params| params.key_usages = vec![KeyUsagePurpose::ContentCommitment]).0, VALID);
    let not_for_signing = (UNTRUSTED, "is by a certificate that is not for signing".to_owned());
    assert_eq!(words(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]), not_for_signing);

    let signature = ca.signer(|_| {}).sign(BODY);
    let at = |now_ms| check(&ca.checker(), &signature, &Bytes::new(), BODY, now_ms).why;
    assert_eq!(at(NOW_MS + 2 * YEAR_MS), "is by a certificate that had expired");
    assert_eq!(at(NOW_MS - 2 * YEAR_MS), "is by a certificate that was not valid yet");
}

#[test]
fn a_timestamp_is_over_the_bytes_or_the_signature_and_only_the_latter_tells_when_it_was_signed() {
    let ca = Ca::new("CA");
    let (signer, tsa, checker) = (ca.signer(|_| {}), ca.tsa(), ca.checker());
    let signature = signer.sign(BODY);
    let octets = signer.signed_octets(&signature);
    let (on_bytes, on_signature) = (tsa.token(BODY, "20260101000000.25Z"), tsa.token(&octets, "20260101000000Z"));
    let now = check(&checker, &signature, &on_bytes, BODY, NOW_MS);
    assert_eq!((now.result, now.timestamp_ms, &now.timestamp_why[..]), (VALID, NOW_MS + 250, ""));
    // Long after the certificate has expired.
    let later_ms = NOW_MS + 5 * YEAR_MS;
    let later = check(&checker, &signature, &on_signature, BODY, later_ms);
    assert_eq!((later.result, later.timestamp_ms), (VALID, NOW_MS), "{}", later.why);
    let later = check(&checker, &signature, &on_bytes, BODY, later_ms);
    assert_eq!(
        (later.result, later.timestamp_ms),
        (UNTRUSTED, NOW_MS + 250),
        "the bytes are old, the signature need not be"
    );

    // A token alone.
    let alone = check(&checker, &Bytes::new(), &on_bytes, BODY, NOW_MS);
    assert_eq!((alone.result, alone.timestamp_ms, &alone.why[..]), (0, NOW_MS + 250, ""));
    // Wrong ones: the signature is judged all the same.
    let wrong = [
        (tsa.token(b"other bytes", "20260101000000Z"), "is over other bytes"),
        (signer.token(BODY, "20260101000000Z"), "is by a certificate for another use"),
        (tsa.token(BODY, "20200101000000Z"), "is by a certificate that was not valid yet"),
        (tsa.token(BODY, "yesterday"), "holds no TSTInfo in DER"),
        (
            Ca::new("another CA").tsa().token(BODY, "20260101000000Z"),
            "is by a certificate that leads to no configured authority",
        ),
        (signature.clone(), "is over another type of content"),
        (Bytes::from_static(b"token"), "is not CMS SignedData in DER"),
    ];
    for (token, why) in wrong {
        let told = check(&checker, &signature, &token, BODY, NOW_MS);
        assert_eq!((told.result, told.timestamp_ms, &told.timestamp_why[..]), (VALID, 0, why));
    }
}

impl Signer {
    /// The signature's own octets.
    fn signed_octets(&self, signature: &[u8]) -> Vec<u8> {
        let info = ContentInfo::from_der(signature).unwrap();
        let data: SignedData = info.content.decode_as().unwrap();
        data.signer_infos.0.as_slice()[0].signature.as_bytes().to_vec()
    }
}

#[test]
fn what_is_of_another_form_is_said_to_be_unsupported() {
    let ca = Ca::new("CA");
    let (signer, other) = (ca.signer(|_| {}), ca.signer(|params| params.serial_number = Some(9.into())));
    let words = |edit: &dyn Fn(&mut SignedData)| {
        let mut data = signer.signed_data(DATA, BODY, false);
        edit(&mut data);
        found(&ca.checker(), &encode(&data), BODY)
    };
    let edit_info = |edit: &dyn Fn(&mut SignerInfo)| {
        words(&|data| {
            let mut info = data.signer_infos.0.as_slice()[0].clone();
            edit(&mut info);
            data.signer_infos.0 = SetOfVec::try_from(vec![info]).unwrap();
        })
    };
    assert_eq!(words(&|_| {}).0, VALID);
    let unsupported = |why: &str| (UNSUPPORTED, why.to_owned());
    let attached = encode(&signer.signed_data(DATA, BODY, true));
    assert_eq!(found(&ca.checker(), &attached, BODY), unsupported("holds its content: it is not detached"));
    let two = words(&|data| data.signer_infos.0.insert(other.info(DATA, BODY)).unwrap());
    assert_eq!(two, unsupported("has no signer, or more than one"));
    let none = edit_info(&|info| info.signed_attrs = None);
    assert_eq!(none, unsupported("has no signed attributes"));
    let sha1 = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
    let old = edit_info(&|info| info.digest_alg.oid = sha1);
    assert_eq!(old, unsupported("uses a digest other than SHA-256, SHA-384 and SHA-512"));
    let unknown = edit_info(&|info| info.signature_algorithm.oid = sha1);
    assert_eq!(unknown, unsupported("uses a signature algorithm that is not checked here"));
    let without = words(&|data| data.certificates = None);
    assert_eq!(without, (UNTRUSTED, "does not hold the signer's certificate".into()));
    // The attributes that say what was signed, taken out: the signature is over the rest.
    let fewer = edit_info(&|info| {
        let kept: Vec<_> = info.signed_attrs.take().unwrap().into_vec();
        info.signed_attrs = Some(SetOfVec::try_from(vec![kept[0].clone()]).unwrap());
    });
    assert_eq!(fewer, (INVALID, "lacks a signed attribute, or has it twice".into()));
    for text in [&b""[..], b"-----BEGIN CMS-----", &[0x30, 0x80, 0, 0], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
        let told = Signed::detached(text).err().unwrap();
        assert_eq!((told.result, told.why), (SignatureResult::Unsupported, "is not CMS SignedData in DER"));
    }
}

#[test]
fn what_openssl_made_is_judged_as_openssl_judges_it() {
    const OPENSSL_BODY: &[u8] = include_bytes!("vectors/body");
    let ca = CertificateDer::from_pem_slice(include_bytes!("vectors/ca.pem")).unwrap();
    let checker = Checker::against(Authorities::of(&[ca]).unwrap());
    // RSA, by issuer and number; by key identifier, with SHA-512 attributes.
    for signature in [&include_bytes!("vectors/sha256.p7s")[..], include_bytes!("vectors/sha512.p7s")] {
        let signature = Bytes::copy_from_slice(signature);
        assert_eq!(found(&checker, &signature, OPENSSL_BODY), (VALID, String::new()));
        assert_eq!(found(&checker, &signature, BODY).0, INVALID);
        let token = Bytes::from_static(include_bytes!("vectors/token.tst"));
        let told = check(&checker, &signature, &token, OPENSSL_BODY, NOW_MS);
        assert_eq!((told.result, &told.timestamp_why[..]), (VALID, ""));
        assert!(told.timestamp_ms > NOW_MS);
        let told = check(&checker, &signature, &token, BODY, NOW_MS);
        assert_eq!(&told.timestamp_why[..], "is over other bytes");
    }
    let pss = Bytes::from_static(include_bytes!("vectors/pss.p7s"));
    assert_eq!(found(&checker, &pss, OPENSSL_BODY).0, UNSUPPORTED);
    let attached = Bytes::from_static(include_bytes!("vectors/attached.p7m"));
    assert_eq!(found(&checker, &attached, OPENSSL_BODY).0, UNSUPPORTED);
}

#[test]
fn a_file_of_authorities_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signers.pem");
    assert!(matches!(Checker::load(&path), Err(AuthoritiesError::Read { .. })));
    std::fs::write(&path, "nothing").unwrap();
    assert!(matches!(Checker::load(&path), Err(AuthoritiesError::Empty { .. })));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, [include_str!("vectors/ca.pem"), broken].concat()).unwrap();
    let error = Checker::load(&path).unwrap_err();
    assert!(matches!(error, AuthoritiesError::Certificate { place: 2, .. }), "{error}");
    assert!(error.to_string().contains("signers.pem"));
    std::fs::write(&path, include_str!("vectors/ca.pem")).unwrap();
    assert!(Checker::load(&path).unwrap().authorities.is_some());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_nothing_else_becomes_valid_over_other_bytes(
        at in any::<prop::sample::Index>(), flip in 1_u8.., token in any::<bool>(), cut in any::<prop::sample::Index>(),
    ) {
        let vectors: [&[u8]; 2] = [include_bytes!("vectors/sha256.p7s"), include_bytes!("vectors/token.tst")];
        let mut bytes = vectors[usize::from(token)].to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        let ca = CertificateDer::from_pem_slice(include_bytes!("vectors/ca.pem")).unwrap();
        let checker = Checker::against(Authorities::of(&[ca]).unwrap());
        for bytes in [bytes.clone(), bytes[..cut.index(bytes.len())].to_vec()] {
            let (mut signature, mut timestamp) = (Bytes::from(bytes), Bytes::new());
            if token {
                std::mem::swap(&mut signature, &mut timestamp);
            }
            if let Some(check) = checker.begin(&signature, &timestamp) {
                let told = check.finish(NOW_MS);
                prop_assert!(told.result != VALID && told.timestamp_ms == 0, "over no bytes at all");
            }
        }
    }
}
