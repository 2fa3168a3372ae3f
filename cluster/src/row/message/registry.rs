//! Rows of the registry: facilities, their users, applications.

use bytes::Bytes;
use prost::Message;

/// A facility.
#[derive(Clone, PartialEq, Message)]
pub struct Facility {
    /// The network's id for it.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// [`crate::word::FacilityKind`].
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// [`crate::word::AccessLine`].
    #[prost(uint32, tag = "5")]
    pub access_line: u32,
    /// May use emergency access.
    #[prost(bool, tag = "6")]
    pub emergency: bool,
    /// Ten-digit institution code, or empty.
    #[prost(string, tag = "7")]
    pub institution_code: String,
}

/// A user of one facility.
#[derive(Clone, PartialEq, Message)]
pub struct User {
    /// The user's id within the facility.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The facility.
    #[prost(string, tag = "2")]
    pub facility: String,
    /// Name for people.
    #[prost(string, tag = "3")]
    pub name: String,
    /// [`crate::word::Profession`].
    #[prost(uint32, tag = "4")]
    pub profession: u32,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "5")]
    pub status: u32,
    /// SHA-256 of the credential (a physician's certificate), or empty.
    #[prost(bytes = "bytes", tag = "6")]
    pub credential_sha256: Bytes,
    /// May list the accesses of the facility's users.
    #[prost(bool, tag = "7")]
    pub lists_accesses: bool,
}

/// An application server.
#[derive(Clone, PartialEq, Message)]
pub struct Application {
    /// The name in its certificate.
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`crate::word::AccessLine`]: its one line.
    #[prost(uint32, tag = "2")]
    pub access_line: u32,
    /// The facilities for which it may speak.
    #[prost(string, repeated, tag = "3")]
    pub facilities: Vec<String>,
    /// [`crate::word::Status`].
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// Whether participants may be stated through it.
    #[prost(bool, tag = "5")]
    pub participants: bool,
}
