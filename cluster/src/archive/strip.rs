//! Leaving the values of key rows out of commands.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::Payload;
use crate::apply;

/// A command as a segment holds it.
///
/// One that puts no key row stays as it is, byte by byte. From the others the values of key rows are left
/// out and their hashes kept. One that `apply` refuses as malformed, whatever it holds, is kept as a hash: it
/// changes nothing.
pub fn strip(command: &Bytes) -> Payload {
    let Some(mut decoded) = apply::decode(command) else {
        return Payload::Refused(Sha256::digest(command).into());
    };
    let mut value_sha256s = Vec::new();
    for write in decoded.writes.iter_mut().filter(|write| apply::puts_key(write)) {
        value_sha256s.push(Sha256::digest(&write.value).into());
        write.value = Bytes::new();
    }
    match value_sha256s.is_empty() {
        true => Payload::Command(command.clone()),
        false => Payload::Stripped { command: decoded.encode_to_vec().into(), value_sha256s },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::apply::{Batch, Summary, View};
    use crate::command::{Command, Request};
    use crate::row::{RowHeader, RowKey, StoredRow, Table};
    use crate::{Pseudonym, Revision};

    #[derive(Default)]
    struct Memory(BTreeMap<Bytes, StoredRow>);

    impl View for Memory {
        type Error = Infallible;

        fn header(&self, row: &[u8]) -> Result<Option<RowHeader>, Infallible> {
            Ok(self.0.get(row).map(|r| r.header))
        }

        fn row(&self, row: &[u8]) -> Result<Option<StoredRow>, Infallible> {
            Ok(self.0.get(row).cloned())
        }

        fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, Infallible> {
            let range = Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to);
            Ok(self.0.range(range).take(limit).map(|(key, _)| key.clone()).collect())
        }
    }

    fn key_row(n: u8) -> RowKey {
        RowKey::participant_key(&Pseudonym([n; 16]), 1)
    }

    /// Puts, deletes and expectations over few rows of key tables and others, so that they meet.
    fn command() -> impl Strategy<Value = Bytes> {
        let write = (0_u8..3, 0_u8..4, any::<[u8; 4]>(), 0_u8..4);
        (proptest::collection::vec(write, 0..5), any::<bool>(), 0_u8..8).prop_map(|(writes, asks, request)| {
            let mut command = Command::new(1_000);
            for (kind, n, value, expect) in writes {
                let row = if kind == 0 { RowKey::participant(&Pseudonym([n; 16])) } else { key_row(n) };
                match kind {
                    2 => command.delete(&row),
                    _ => command.put(&row, value.repeat(20)),
                }
                if expect == 0 {
                    command.expect(&row, Revision::ABSENT);
                }
            }
            if asks {
                let mut row = vec![Table::Request.number()];
                row.extend_from_slice(&1_000_u64.to_be_bytes());
                row.extend_from_slice(&[request; 32]);
                let sha256 = Bytes::from(vec![request; 32]);
                command.request = Some(Request { row: row.into(), sha256, receipt: Bytes::new() });
            }
            // Some are refused by their form.
            if request == 7 {
                command.format = 9;
            }
            command.encode_to_vec().into()
        })
    }

    proptest! {
        #[test]
        fn a_replay_of_what_was_stripped_has_the_same_outcomes_and_digests(
            commands in proptest::collection::vec(command(), 1..30),
        ) {
            let (whole, lacking) = (Memory::default(), Memory::default());
            let mut one = Batch::new(&whole, Summary::default());
            let mut two = Batch::new(&lacking, Summary::default());
            for (index, command) in (1..).zip(&commands) {
                let Ok(expected) = one.apply(index, command);
                let Ok(outcome) = match strip(command) {
                    Payload::Command(bytes) => two.apply(index, &bytes),
                    Payload::Stripped { command, value_sha256s } => {
                        two.apply_stripped(index, &command, &value_sha256s)
                    }
                    Payload::Refused(_) => two.apply(index, &Bytes::from_static(&[0xff])),
                    Payload::Blank | Payload::Membership(_) => unreachable!(),
                };
                prop_assert_eq!(outcome, expected);
                prop_assert_eq!(one.summary(), two.summary());
            }
            let (_, rows) = two.finish();
            for (key, row) in rows {
                let holds_keys = RowKey::from_bytes(key).table().is_some_and(Table::holds_keys);
                prop_assert!(row.is_none_or(|row| row.is_stripped() == holds_keys));
            }
        }
    }

    #[test]
    fn nothing_of_a_key_stays_in_a_stripped_command() {
        let secret = [0x5a; 81];
        let mut command = Command::new(1);
        command.put(&key_row(1), secret.to_vec());
        command.put(&RowKey::keyring(1), secret.to_vec());
        command.put(&RowKey::participant(&Pseudonym([1; 16])), &b"stays"[..]);
        let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        let whole = Bytes::from(command.encode_to_vec());
        assert!(has(&whole, &secret[..8]));
        let Payload::Stripped { command: lacking, value_sha256s } = strip(&whole) else { panic!() };
        assert!(!has(&lacking, &secret[..8]) && has(&lacking, b"stays"));
        assert_eq!(value_sha256s, [<[u8; 32]>::from(Sha256::digest(secret)); 2]);
        // Refused by its form, which a replay need not tell from another such.
        command.format = 2;
        assert!(matches!(strip(&command.encode_to_vec().into()), Payload::Refused(_)));
    }

    #[test]
    fn hashes_must_be_as_many_as_keys_are_put() {
        let memory = Memory::default();
        let mut command = Command::new(1);
        command.put(&key_row(1), Bytes::new());
        let encoded = Bytes::from(command.encode_to_vec());
        for count in [0, 2] {
            let mut batch = Batch::new(&memory, Summary::default());
            let Ok(outcome) = batch.apply_stripped(1, &encoded, &vec![[1; 32]; count]);
            assert_eq!(outcome, crate::Outcome::Refused(crate::command::Refusal::Malformed));
            assert_eq!(*batch.summary(), Summary::default());
        }
    }
}
