//! Certificates: who a peer is, who may say so, and the TLS that rests on it.
//!
//! Invariants:
//! - A certificate says two things about its holder, a role and a name (`OU=voter, CN=node-1`), and
//!   nothing about rights: what a role may do is decided elsewhere. Nothing else is needed of a CA, so
//!   that an outside CA can sign our requests: a standard subject and, for nodes, a DNS name.
//! - The name of a voter or a backup is also a DNS name in its certificate; peers check it.
//! - A private key is created by the machine that uses it, readable by its owner only; no key
//!   and no certificate is ever overwritten.
//! - Certificates are checked on every handshake (there is no session resumption), revocation also on
//!   every request ([`ReloadingTls::is_revoked`]), because connections live long.
//! - There is no fetching of revocation lists and no OCSP: lists are files that an operator places.

mod authority;
mod expiry;
mod files;
mod head_signer;
mod identity;
mod incoming;
mod recovery_authority;
mod refused;
mod request;
mod revocation;
mod server_tls;
#[cfg(test)]
mod tests;

pub use authority::{Approval, Authority, AuthorityError, AuthorityFiles, DAYS_MAX, Issued};
pub use expiry::{Expiry, certificate_expiry};
pub use head_signer::HeadSigner;
pub use identity::{Identity, IdentityError, NAME_CHARACTERS_MAX, Role, Serial, check_cluster, check_name};
pub use incoming::{
    HANDSHAKE_TIMEOUT, IncomingLimits, PENDING_HANDSHAKES_MAX, PeerInfo, TlsConnection, tls_incoming, tls_incoming_with,
};
pub use recovery_authority::{RecoveryAuthorityError, certificate_pem};
pub use refused::{Refusals, RefusedCertificate, Why};
pub use request::{
    ALTERNATIVE_NAMES_MAX, RequestError, RequestFiles, RequestSummary, Subject, create_request, summarize_request,
};
pub use revocation::{Revocation, RevocationError, revocations};
pub use server_tls::{ReloadingTls, TlsLoadError, TlsStatus};
