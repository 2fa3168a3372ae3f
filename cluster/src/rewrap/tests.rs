//! Re-wrapping against a model: commands are drafted on one state and applied to a later one, in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::apply::tests::Member;
use crate::command::Outcome;
use crate::keyring::RecoveryKeys;
use crate::row::Table;
use crate::seal::Key;

const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Participants of a run.
const PARTICIPANTS: u8 = 6;

fn key(n: u8) -> Key {
    Key::from_bytes(&mut [n; 32])
}

fn pseudonym(n: u8) -> Pseudonym {
    Pseudonym([n; 16])
}

fn key_row(n: u8) -> RowKey {
    RowKey::participant_key(&pseudonym(n), 1)
}

#[derive(Debug, Clone)]
enum Step {
    /// A gateway that last looked at the keyring some rotations ago drafts an enrolment.
    Enrol { who: u8, behind: u32 },
    /// New epoch keys are drafted.
    Rotate,
    /// The destruction of a participant's keys is drafted.
    Erase { who: u8 },
    /// A batch of the sweep is drafted, from this participant on.
    Sweep { from: u8 },
    /// The end of every old epoch is drafted, if the look finds nothing wrapped under it.
    End,
    /// A draft arrives at the leader.
    Apply { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..=PARTICIPANTS, 0_u32..3).prop_map(|(who, behind)| Step::Enrol { who, behind }),
        1 => Just(Step::Rotate),
        1 => (1..=PARTICIPANTS).prop_map(|who| Step::Erase { who }),
        3 => (1..=PARTICIPANTS).prop_map(|from| Step::Sweep { from }),
        2 => Just(Step::End),
        9 => (0_usize..8).prop_map(|nth| Step::Apply { nth }),
    ]
}

/// What a draft does, once it has taken effect.
enum Does {
    Enrol(u8),
    Erase(u8),
    Nothing,
}

#[derive(Default)]
struct World {
    member: Member,
    drafts: Vec<(Command, Does)>,
    enrolled: BTreeSet<u8>,
    erased: BTreeSet<u8>,
    nonces: u64,
}

impl World {
    fn new() -> World {
        let mut world = World::default();
        let keyring = Keyring {
            epoch: 1,
            timeline: 0,
            registry: key(101),
            journal: key(102),
            command_mac: Some(key(103)),
            wrapping: Some(key(104)),
            index: key(105),
        };
        let mut first = Command::new(1);
        let row = world.wrapped(&keyring);
        first.put(&RowKey::keyring(1), row);
        assert!(matches!(world.apply(&first), Outcome::Committed(_)));
        world
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces += 1;
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&self.nonces.to_be_bytes());
        nonce
    }

    fn wrapped(&mut self, keyring: &Keyring) -> Vec<u8> {
        let recovery = RecoveryKeys { timelines: key(106), authority: key(107) };
        keyring.wrap(&key(9), &CLUSTER, &recovery, || self.nonce()).encode_to_vec()
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.member.apply_batch(&[command.encode_to_vec().into()]).remove(0)
    }

    fn rows(&self, table: Table) -> Vec<(RowKey, StoredRow)> {
        let rows = self.member.rows.0.iter().filter(|(key, _)| key[0] == table.number());
        rows.map(|(key, row)| (RowKey::from_bytes(key.clone()), row.clone())).collect()
    }

    fn keyring_rows(&self) -> Vec<KeyringRow> {
        self.rows(Table::Keyring).into_iter().map(|(_, row)| KeyringRow::decode(row.value).unwrap()).collect()
    }

    fn keyrings(&self) -> BTreeMap<u32, Arc<Keyring>> {
        let rows = self.keyring_rows();
        let opened = rows.iter().map(|row| (row.epoch, Arc::new(Keyring::unwrap(&key(9), &CLUSTER, row).unwrap())));
        opened.collect()
    }

    fn take(&mut self, step: &Step) {
        let keyrings = self.keyrings();
        let (_, newest) = keyrings.last_key_value().unwrap();
        let mut command = Command::new(1);
        let does = match step {
            Step::Enrol { who, behind } => {
                let seen = &keyrings[&newest.epoch.saturating_sub(*behind).max(1)];
                let nonce = self.nonce();
                // Refused in the gateway already.
                let Ok(row) = seen.wrap_data_key(&CLUSTER, &pseudonym(*who), 1, &key(*who), &nonce) else { return };
                expect_newest(&mut command, seen.epoch);
                command.expect(&key_row(*who), Revision::ABSENT);
                command.put(&key_row(*who), row.encode_to_vec());
                Does::Enrol(*who)
            }
            Step::Rotate => {
                let next = newest.next(0, || key(newest.epoch as u8 + 110));
                command.expect(&RowKey::keyring(next.epoch), Revision::ABSENT);
                let row = self.wrapped(&next);
                command.put(&RowKey::keyring(next.epoch), row);
                Does::Nothing
            }
            Step::Erase { who } => {
                let found = self.member.rows.0.get(key_row(*who).as_bytes());
                let Some(revision) = found.map(|row| row.header.revision) else { return };
                command.expect(&key_row(*who), revision);
                command.delete(&key_row(*who));
                Does::Erase(*who)
            }
            Step::Sweep { from } => {
                let mut rows = self.rows(Table::ParticipantKey);
                rows.retain(|(key, _)| *key >= key_row(*from));
                rows.truncate(2);
                let drafted = draft(
                    &mut command,
                    &CLUSTER,
                    newest,
                    &rows,
                    |epoch| keyrings.get(&epoch).cloned(),
                    || {
                        self.nonces += 1;
                        let mut nonce = [0; 24];
                        nonce[..8].copy_from_slice(&self.nonces.to_be_bytes());
                        nonce
                    },
                );
                assert_eq!(drafted.closed, 0, "everything opens");
                Does::Nothing
            }
            Step::End => {
                let rows = self.rows(Table::ParticipantKey);
                if rows.iter().any(|(_, row)| epoch_of(row).unwrap() < newest.epoch) {
                    return;
                }
                for row in self.keyring_rows().iter().filter(|row| row.epoch < newest.epoch && may_end(row, 0)) {
                    draft_end(&mut command, row, newest.epoch);
                }
                Does::Nothing
            }
            Step::Apply { nth } => return self.arrive(*nth),
        };
        self.drafts.push((command, does));
    }

    fn arrive(&mut self, nth: usize) {
        if nth >= self.drafts.len() {
            return;
        }
        let (command, does) = self.drafts.remove(nth);
        if !matches!(self.apply(&command), Outcome::Committed(_)) {
            return;
        }
        match does {
            // Pseudonyms are drawn: an erased one is never given again, unlike here.
            Does::Enrol(who) => {
                self.erased.remove(&who);
                self.enrolled.insert(who);
            }
            Does::Erase(who) => {
                self.enrolled.remove(&who);
                self.erased.insert(who);
            }
            Does::Nothing => {}
        }
    }

    /// Every enrolled participant's key opens and is theirs; nobody else has one.
    fn check(&self) {
        let keyrings = self.keyrings();
        let rows: BTreeMap<_, _> = self.rows(Table::ParticipantKey).into_iter().collect();
        let expected: Vec<RowKey> = self.enrolled.iter().map(|who| key_row(*who)).collect();
        assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), expected, "erased: {:?}", self.erased);
        for who in &self.enrolled {
            let row = ParticipantKeyRow::decode(rows[&key_row(*who)].value.clone()).unwrap();
            let keyring = keyrings.get(&row.epoch).expect("an epoch that is there");
            let opened = keyring.unwrap_data_key(&CLUSTER, &pseudonym(*who), &row);
            assert!(opened == Ok(key(*who)), "the key of participant {who}, under epoch {}", row.epoch);
        }
        assert!(keyrings.last_key_value().unwrap().1.wrapping.is_some(), "the newest never ends");
    }

    /// Sweeps everything, on a state that nobody changes meanwhile, and ends every old epoch.
    fn settle(&mut self) {
        self.drafts.clear();
        for from in 1..=PARTICIPANTS {
            self.take(&Step::Sweep { from });
            self.arrive(0);
            self.check();
        }
        self.take(&Step::End);
        self.arrive(0);
        self.check();
        let keyrings = self.keyrings();
        let (newest, older) = keyrings.values().next_back().map(|newest| (newest.epoch, keyrings.len() - 1)).unwrap();
        assert_eq!(keyrings.values().filter(|one| one.wrapping.is_none() && one.epoch < newest).count(), older);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn keys_are_never_lost_nor_brought_back_in_whatever_order_commands_arrive(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.settle();
    }
}

#[test]
fn what_does_not_open_stays_and_is_counted() {
    let mut world = World::new();
    world.take(&Step::Enrol { who: 1, behind: 0 });
    world.take(&Step::Enrol { who: 2, behind: 0 });
    world.take(&Step::Rotate);
    (0..3).for_each(|_| world.arrive(0));
    let mut rows = world.rows(Table::ParticipantKey);
    // Another participant's row, put in this one's place, and one that is none.
    rows[0].1 = rows[1].1.clone();
    // A synthetic one's, which no epoch wraps.
    let synthetic = drill::wrap(&key(8), &CLUSTER, &pseudonym(4), &key(4), &[4; 24]).encode_to_vec();
    let at = Revision { timeline: 0, index: 9 };
    rows.push((key_row(4), StoredRow::new(at, Revision::ABSENT, synthetic.into())));
    rows.push((key_row(3), StoredRow::new(Revision { timeline: 0, index: 9 }, Revision::ABSENT, "none".into())));
    let keyrings = world.keyrings();
    let mut command = Command::new(1);
    let drafted =
        draft(&mut command, &CLUSTER, &keyrings[&2], &rows, |epoch| keyrings.get(&epoch).cloned(), || [1; 24]);
    assert_eq!(drafted, Drafted { rewrapped: 1, closed: 2 });
    assert_eq!((command.writes.len(), command.expects.len()), (1, 2));
}

#[test]
fn an_epoch_of_a_former_timeline_does_not_end() {
    let row = KeyringRow { epoch: 1, timeline: 1, wrapping: "wrapped".into(), ..KeyringRow::default() };
    assert!(may_end(&row, 1) && !may_end(&row, 2) && !has_ended(&row));
    let mut command = Command::new(1);
    draft_end(&mut command, &row, 2);
    let ended = KeyringRow::decode(command.writes[0].value.clone()).unwrap();
    assert!(has_ended(&ended) && !may_end(&ended, 1) && ended.command_mac.is_empty());
    assert_eq!(KeyringRow { wrapping: "wrapped".into(), ..ended }, row);
}
