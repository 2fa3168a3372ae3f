//! CMS SignedData (RFC 5652 §5) of one signer with signed attributes.

use bytes::Bytes;
use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::cert::x509::ext::pkix::SubjectKeyIdentifier;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedAttributes, SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

use super::Wrong;
use super::digests::{DigestAlgorithm, Digests};

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");

/// Certificates that may come with a signature.
const CERTIFICATES_MAX: usize = 32;

/// A signature, parsed: what was signed, by which certificate, with which others.
#[derive(Clone)]
pub struct Signed {
    /// With what the content was digested.
    pub digest: DigestAlgorithm,
    message_digest: Vec<u8>,
    /// DER of the signed attributes, as a SET: what the signature is over.
    attributes: Vec<u8>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    signature: Vec<u8>,
    /// The signer's certificate, if it came along.
    pub signer: Option<(Certificate, CertificateDer<'static>)>,
    /// The others.
    pub others: Vec<CertificateDer<'static>>,
}

impl Signed {
    /// A detached signature over data.
    pub fn detached(bytes: &[u8]) -> Result<Signed, Wrong> {
        let (signed, content) = Signed::parse(bytes, ID_DATA)?;
        match content {
            None => Ok(signed),
            Some(_) => Err(Wrong::unsupported("holds its content: it is not detached")),
        }
    }

    /// A signature over content of a type, and the content if it holds it.
    pub fn parse(bytes: &[u8], content_type: ObjectIdentifier) -> Result<(Signed, Option<Vec<u8>>), Wrong> {
        let unreadable = |_| Wrong::unsupported("is not CMS SignedData in DER");
        let info = ContentInfo::from_der(bytes).map_err(unreadable)?;
        if info.content_type != ID_SIGNED_DATA {
            return Err(Wrong::unsupported("is CMS, but not SignedData"));
        }
        let data: SignedData = info.content.decode_as().map_err(unreadable)?;
        if data.encap_content_info.econtent_type != content_type {
            return Err(Wrong::unsupported("is over another type of content"));
        }
        let content = match data.encap_content_info.econtent {
            Some(content) => Some(content.decode_as::<OctetString>().map_err(unreadable)?.into_bytes().into()),
            None => None,
        };
        let [signer] = data.signer_infos.0.as_slice() else {
            return Err(Wrong::unsupported("has no signer, or more than one"));
        };
        let certificates = data.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
        if certificates.len() > CERTIFICATES_MAX {
            return Err(Wrong::unsupported("has too many certificates"));
        }
        let (mut found, mut others) = (None, Vec::new());
        for certificate in certificates {
            let CertificateChoices::Certificate(certificate) = certificate else { continue };
            let encoded = CertificateDer::from(certificate.to_der().map_err(unreadable)?);
            match found.is_none() && names(&signer.sid, &certificate) {
                true => found = Some((certificate, encoded)),
                false => others.push(encoded),
            }
        }
        let (digest, algorithms) = algorithms(signer)?;
        let attributes = signer.signed_attrs.as_ref();
        let attributes = attributes.ok_or(Wrong::unsupported("has no signed attributes"))?;
        let signed_type: ObjectIdentifier = only(attributes, CONTENT_TYPE)?;
        if signed_type != content_type {
            return Err(Wrong::invalid("was made over another type of content"));
        }
        let message_digest = only::<OctetString>(attributes, MESSAGE_DIGEST)?.into_bytes().into();
        let signed = Signed {
            digest,
            message_digest,
            attributes: attributes.to_der().map_err(unreadable)?,
            algorithms,
            signature: signer.signature.as_bytes().to_vec(),
            signer: found,
            others,
        };
        Ok((signed, content))
    }

    /// SHA-256 of the signer's certificate; empty if it did not come along.
    pub fn signer_sha256(&self) -> Bytes {
        let hash = |(_, encoded): &(Certificate, CertificateDer<'static>)| Sha256::digest(encoded).to_vec();
        self.signer.as_ref().map(hash).unwrap_or_default().into()
    }

    /// The signature's own octets: what a timestamp of the signature is over.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether it is over these bytes, by the certificate that it names.
    pub fn verify(&self, digests: &Digests) -> Result<(), Wrong> {
        self.verify_over(&digests.of(self.digest))
    }

    /// The same, over content of this digest.
    pub fn verify_over(&self, digest: &[u8]) -> Result<(), Wrong> {
        if self.message_digest != digest {
            return Err(Wrong::invalid("is over other bytes"));
        }
        let (_, encoded) = self.signer.as_ref().ok_or(Wrong::untrusted("does not hold the signer's certificate"))?;
        let certificate = EndEntityCert::try_from(encoded);
        let certificate =
            certificate.map_err(|_| Wrong::unsupported("has a signer's certificate of an unknown form"))?;
        let verifies = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            certificate.verify_signature(*algorithm, &self.attributes, &self.signature).is_ok()
        };
        match self.algorithms.iter().any(verifies) {
            true => Ok(()),
            false => Err(Wrong::invalid("does not verify by the certificate that it names")),
        }
    }
}

fn names(signer: &SignerIdentifier, certificate: &Certificate) -> bool {
    let certificate = certificate.tbs_certificate();
    match signer {
        SignerIdentifier::IssuerAndSerialNumber(named) => {
            named.issuer == *certificate.issuer() && named.serial_number == *certificate.serial_number()
        }
        SignerIdentifier::SubjectKeyIdentifier(named) => certificate
            .get_extension::<SubjectKeyIdentifier>()
            .is_ok_and(|found| found.is_some_and(|(_, found)| found == *named)),
    }
}

/// The one value of an attribute that stands there once.
fn only<T>(attributes: &SignedAttributes, oid: ObjectIdentifier) -> Result<T, Wrong>
where
    T: for<'a> der::Choice<'a> + for<'a> der::DecodeValue<'a>,
{
    let wrong = Wrong::invalid("lacks a signed attribute, or has it twice");
    let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
    let (Some(attribute), None) = (found.next(), found.next()) else { return Err(wrong) };
    let [value] = attribute.values.as_slice() else { return Err(wrong) };
    value.decode_as().map_err(|_| wrong)
}

/// How the content was digested, and the algorithms with which the signature may verify: the first that fits the
/// certificate's key does.
fn algorithms(
    signer: &SignerInfo,
) -> Result<(DigestAlgorithm, &'static [&'static dyn SignatureVerificationAlgorithm]), Wrong> {
    use webpki::ring::{
        ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    };
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
    const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
    const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
    const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    static RSA_256: [&dyn SignatureVerificationAlgorithm; 1] = [RSA_PKCS1_2048_8192_SHA256];
    static RSA_384: [&dyn SignatureVerificationAlgorithm; 1] = [RSA_PKCS1_2048_8192_SHA384];
    static RSA_512: [&dyn SignatureVerificationAlgorithm; 1] = [RSA_PKCS1_2048_8192_SHA512];
    static ECDSA_256: [&dyn SignatureVerificationAlgorithm; 2] = [ECDSA_P256_SHA256, ECDSA_P384_SHA256];
    static ECDSA_384: [&dyn SignatureVerificationAlgorithm; 2] = [ECDSA_P384_SHA384, ECDSA_P256_SHA384];
    static ED: [&dyn SignatureVerificationAlgorithm; 1] = [ED25519];
    let digest = DigestAlgorithm::of(&signer.digest_alg.oid);
    let digest = digest.ok_or(Wrong::unsupported("uses a digest other than SHA-256, SHA-384 and SHA-512"))?;
    let algorithms: &'static [&'static dyn SignatureVerificationAlgorithm] =
        match (signer.signature_algorithm.oid, digest) {
            (RSA_SHA256, _) | (RSA, DigestAlgorithm::Sha256) => &RSA_256,
            (RSA_SHA384, _) | (RSA, DigestAlgorithm::Sha384) => &RSA_384,
            (RSA_SHA512, _) | (RSA, DigestAlgorithm::Sha512) => &RSA_512,
            (ECDSA_SHA256, _) => &ECDSA_256,
            (ECDSA_SHA384, _) => &ECDSA_384,
            (ID_ED25519, _) => &ED,
            _ => return Err(Wrong::unsupported("uses a signature algorithm that is not checked here")),
        };
    Ok((digest, algorithms))
}
