//! The client against a pretended cluster: real HTTP/2 over loopback, connections that are really
//! cut, and a store that acknowledges an upload block by block as the real one does.

mod calls;
mod cluster;
mod downloads;
mod forks;
mod journal;
mod several;
mod uploads;

use crate::word::Method;
use crate::{ActingClient, Class, Date, NewRecord, ParticipantNumber, User};

const NUMBER: &str = "0043001234567890";

fn number() -> ParticipantNumber {
    NUMBER.parse().unwrap()
}

fn doctor(client: &crate::Client) -> ActingClient {
    client.act(User::at("F0012", "u-0007").authenticated(Method::Card, 1))
}

fn image() -> NewRecord {
    NewRecord::new(Class::Image, "application/dicom", Date::from_days(20_000))
}

/// Bytes that differ everywhere, so that a shifted or doubled stretch is noticed.
fn body(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}
