//! `apply` against a naive model, and its promises one by one.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::command::{Expect, JournalAppend, Request, Write};
use crate::id::{Pseudonym, RequestId};

#[derive(Default)]
pub(crate) struct Memory(pub(crate) BTreeMap<Bytes, StoredRow>);

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

/// A member: rows and summary, applying in batches of any size.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) rows: Memory,
    pub(crate) summary: Summary,
    index: u64,
}

impl Member {
    pub(crate) fn apply_batch(&mut self, commands: &[Bytes]) -> Vec<Outcome> {
        let mut batch = Batch::new(&self.rows, self.summary.clone());
        let outcomes = commands
            .iter()
            .map(|command| {
                self.index += 1;
                let Ok(outcome) = batch.apply(self.index, command);
                outcome
            })
            .collect();
        let (summary, rows) = batch.finish();
        self.summary = summary;
        for (key, row) in rows {
            match row {
                Some(row) => self.rows.0.insert(key, row),
                None => self.rows.0.remove(&key),
            };
        }
        outcomes
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.apply_batch(&[command.encode_to_vec().into()]).remove(0)
    }

    fn revision(&self, key: &RowKey) -> Revision {
        self.rows.0.get(key.as_bytes()).map_or(Revision::ABSENT, |r| r.header.revision)
    }
}

fn participant(n: u8) -> RowKey {
    RowKey::participant(&Pseudonym([n; 16]))
}

fn request(born_ms: u64, n: u8) -> Request {
    let mut id = [n; 16];
    id[..6].copy_from_slice(&born_ms.to_be_bytes()[2..]);
    let row = RowKey::request(&RequestId(id), &[n; 32]);
    Request { row: row.as_bytes().clone(), sha256: vec![n; 32].into(), receipt: vec![n].into() }
}

fn committed(outcome: Outcome) -> Committed {
    match outcome {
        Outcome::Committed(committed) => committed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_takes_effect_only_on_what_it_expects() {
    let mut member = Member::default();
    let mut first = Command::new(1);
    first.expect(&participant(1), Revision::ABSENT);
    first.put(&participant(1), &b"one"[..]);
    let revision = committed(member.apply(&first)).revision;
    assert_eq!(revision, Revision { timeline: 0, index: 1 });
    assert_eq!(member.apply(&first), Outcome::Conflict { evaluated_at: 2 });

    let mut second = Command::new(1);
    second.expect(&participant(1), revision);
    second.expect(&participant(2), Revision::ABSENT);
    second.put(&participant(2), &b"two"[..]);
    second.delete(&participant(1));
    second.journal.push(JournalAppend { entry: "entry".into(), index: vec![vec![5; 32].into()] });
    let second = committed(member.apply(&second));
    assert_eq!((second.journal_first, second.journal_count), (0, 1));
    assert_eq!(member.revision(&participant(1)), Revision::ABSENT);
    assert_eq!(member.summary.table(Table::Participant).rows, 1);
    assert!(member.rows.0.contains_key(RowKey::journal_index(&[5; 32], 0).as_bytes()));
}

#[test]
fn a_whole_table_can_be_expected_and_deletions_count() {
    let mut member = Member::default();
    let mut put = Command::new(1);
    put.put(&participant(1), &b"x"[..]);
    let revision = committed(member.apply(&put)).revision;
    let mut expecting = Command::new(1);
    expecting.expect(&RowKey::whole_table(Table::Participant), revision);
    committed(member.apply(&expecting));
    let mut delete = Command::new(1);
    delete.delete(&participant(1));
    committed(member.apply(&delete));
    assert!(matches!(member.apply(&expecting), Outcome::Conflict { .. }));
}

#[test]
fn time_never_runs_backwards_and_ends_what_rests_on_it() {
    let mut member = Member::default();
    member.apply(&Command::new(1_000));
    let mut late = Command::new(10);
    late.valid_until_ms = 999;
    assert!(matches!(member.apply(&late), Outcome::Conflict { .. }));
    late.valid_until_ms = 1_000;
    committed(member.apply(&late));
    assert_eq!(member.summary.clock_ms, 1_000);
}

#[test]
fn a_repeated_request_is_told_again_and_runs_once() {
    let mut member = Member::default();
    let mut command = Command::new(100);
    command.request = Some(request(100, 7));
    command.put(&participant(1), &b"x"[..]);
    let first = committed(member.apply(&command));
    let again = committed(member.apply(&command));
    assert_eq!((again.revision, again.remembered, &again.receipt[..]), (first.revision, true, &[7][..]));
    assert_eq!(member.revision(&participant(1)), first.revision);

    let mut other = command.clone();
    other.request.as_mut().unwrap().sha256 = vec![8; 32].into();
    assert_eq!(member.apply(&other), Outcome::Refused(Refusal::RequestDiffers));
    let mut probe = Command::new(100);
    (probe.probe, probe.request) = (true, Some(request(100, 7)));
    assert!(committed(member.apply(&probe)).remembered);
}

#[test]
fn absent_is_final() {
    let mut member = Member::default();
    let mut probe = Command::new(100);
    (probe.probe, probe.request) = (true, Some(request(100, 7)));
    assert_eq!(member.apply(&probe), Outcome::Absent);
    let mut late = Command::new(100);
    late.request = Some(request(100, 7));
    late.put(&participant(1), &b"x"[..]);
    assert_eq!(member.apply(&late), Outcome::Refused(Refusal::RequestGivenUp));
    assert_eq!(member.revision(&participant(1)), Revision::ABSENT);
    assert_eq!(member.apply(&probe), Outcome::Absent);
}

#[test]
fn old_requests_are_forgotten_and_never_run_again() {
    let mut member = Member::default();
    for n in 0..100 {
        let mut command = Command::new(1_000);
        command.request = Some(request(1_000 + u64::from(n), n));
        committed(member.apply(&command));
    }
    assert_eq!(member.summary.table(Table::Request).rows, 100);
    let later = 2_000 + summary::REQUEST_WINDOW_DEFAULT_MS;
    let mut old = Command::new(later);
    old.request = Some(request(1_000, 0));
    assert_eq!(member.apply(&old), Outcome::Expired);
    for _ in 0..3 {
        member.apply(&Command::new(later));
    }
    assert_eq!(member.summary.table(Table::Request).rows, 0);
    assert_eq!(member.summary.table(Table::Request).digest, crate::digest::Digest::default());
}

#[test]
fn deletions_of_keys_are_capped_by_day() {
    let mut member = Member::default();
    let delete = |at_ms, from: u8, count: u8| {
        let mut command = Command::new(at_ms);
        for n in from..from + count {
            command.delete(&RowKey::participant_key(&Pseudonym([n; 16]), 1));
        }
        command
    };
    committed(member.apply(&delete(1, 0, 20)));
    assert_eq!(member.apply(&delete(2, 20, 1)), Outcome::Refused(Refusal::KeyDeletionCap));
    assert_eq!(member.apply(&delete(DAY_MS, 20, 21)), Outcome::Refused(Refusal::KeyDeletionCap));
    // Only deletions of keys count: not keys that are put, not other rows.
    let mut others = Command::new(DAY_MS);
    for n in 0..30 {
        others.put(&RowKey::participant_key(&Pseudonym([n; 16]), 2), &b"key"[..]);
        others.delete(&participant(n));
    }
    committed(member.apply(&others));
    committed(member.apply(&delete(DAY_MS, 20, 20)));
}

#[test]
fn rows_of_apply_and_malformed_commands_are_refused() {
    let mut member = Member::default();
    let refused = Outcome::Refused(Refusal::Malformed);
    assert_eq!(member.apply_batch(&["\u{ff}garbage".into()])[0], refused);
    for row in [RowKey::journal(0), RowKey::journal_index(&[1; 32], 0), RowKey::journal_tree(8, 0)] {
        let mut command = Command::new(1);
        command.put(&row, &b"x"[..]);
        assert_eq!(member.apply(&command), refused);
    }
    let mut append = Command::new(1);
    append.append(&participant(1), &b"x"[..]);
    assert_eq!(member.apply(&append), refused);
    let mut future = Command::new(1);
    future.format = 2;
    assert_eq!(member.apply(&future), refused);
    let mut long = Command::new(1);
    long.put(&RowKey::from_bytes(vec![Table::Block.number(); 90].into()), &b"x"[..]);
    assert_eq!(member.apply(&long), refused);
    let mut twice = Command::new(1);
    twice.journal.push(JournalAppend { entry: "e".into(), index: vec![vec![1; 32].into(); 2] });
    assert_eq!(member.apply(&twice), refused);
    assert_eq!(member.summary, Summary::default());
}

#[test]
fn a_command_is_taken_up_to_its_bounds_and_not_beyond() {
    let taken = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(1);
        change(&mut command);
        Member::default().apply(&command) != Outcome::Refused(Refusal::Malformed)
    };
    let hashes =
        |count: u8| JournalAppend { entry: "e".into(), index: (0..count).map(|n| vec![n; 32].into()).collect() };
    let row = |table: Table, length: usize| Bytes::from(vec![table.number(); length]);
    let expect = |row: Bytes| {
        move |command: &mut Command| command.expects.push(Expect { row: row.clone(), ..Expect::default() })
    };
    let put =
        |length: usize| move |command: &mut Command| command.put(&RowKey::from_bytes(row(Table::Block, length)), "x");

    for (count, fits) in [(COMMAND_ITEMS_MAX, true), (COMMAND_ITEMS_MAX + 1, false)] {
        assert_eq!(taken(&|c| c.journal = vec![hashes(0); count]), fits, "{count} entries");
        assert_eq!(
            taken(&|c| c.expects = vec![Expect { row: row(Table::Block, 9), ..Expect::default() }; count]),
            fits
        );
        assert_eq!(taken(&|c| (0..count).for_each(|_| put(9)(c))), fits, "{count} writes");
    }
    assert!(taken(&|c| c.journal.push(hashes(8))) && !taken(&|c| c.journal.push(hashes(9))));
    for length in [0, 31, 33] {
        let index = vec![vec![1; length].into()];
        assert!(!taken(&|c| c.journal.push(JournalAppend { entry: "e".into(), index: index.clone() })), "{length}");
    }
    // Twelve bytes are left for what an append adds.
    let longest = ROW_KEY_BYTES_MAX - 12;
    assert!(taken(&expect(row(Table::Block, 1))) && taken(&expect(row(Table::Block, longest))));
    assert!(!taken(&expect(Bytes::new())) && !taken(&expect(row(Table::Block, longest + 1))));
    assert!(!taken(&expect(vec![200; 9].into())), "no table has this number");
    assert!(taken(&put(2)) && taken(&put(longest)) && !taken(&put(1)) && !taken(&put(longest + 1)));
    for kind in [0, 4, -1] {
        assert!(!taken(&|c| c.writes.push(Write { kind, row: row(Table::Block, 9), value: Bytes::new() })), "{kind}");
    }
    let sound = || request(1, 1);
    assert!(taken(&|c| c.request = Some(sound())));
    for odd in [
        Request { row: row(Table::Block, 41), ..sound() },
        Request { row: row(Table::Request, 40), ..sound() },
        Request { row: row(Table::Request, 42), ..sound() },
        Request { sha256: vec![1; 31].into(), ..sound() },
    ] {
        assert!(!taken(&|c| c.request = Some(odd.clone())), "{odd:?}");
    }
    assert!(!taken(&|c| c.probe = true), "a probe is about a request");
    let filled = |bytes: usize| {
        let mut command = Command::new(1);
        command.put(&participant(1), vec![0; COMMAND_BYTES_MAX / 2]);
        let missing = bytes - command.encoded_len();
        command.writes[0].value = vec![0; COMMAND_BYTES_MAX / 2 + missing].into();
        assert_eq!(command.encoded_len(), bytes);
        Member::default().apply(&command) != Outcome::Refused(Refusal::Malformed)
    };
    assert!(filled(COMMAND_BYTES_MAX) && !filled(COMMAND_BYTES_MAX + 1));
}

#[test]
fn forgetting_is_bounded_and_does_not_depend_on_batches() {
    let many = 3 * FORGET_ROWS_MAX + 10;
    let later_ms = 1_000 + Summary::default().request_window_ms + 1;
    let remembered =
        (0..many).map(|n| Command { request: Some(request(1_000, u8::try_from(n).unwrap())), ..Command::new(1_000) });
    let commands: Vec<Bytes> =
        remembered.chain((0..5).map(|_| Command::new(later_ms))).map(|c| c.encode_to_vec().into()).collect();
    let (first, last) = commands.split_at(many);
    // What is remembered is durable, or lies in the same batch as what forgets it.
    let (mut one, mut other, mut third) = (Member::default(), Member::default(), Member::default());
    one.apply_batch(first);
    let kept: Vec<u64> = last
        .iter()
        .map(|command| {
            one.apply_batch(std::slice::from_ref(command));
            one.summary.table(Table::Request).rows
        })
        .collect();
    assert_eq!(kept, [138, 74, 10, 0, 0], "at most {FORGET_ROWS_MAX} at a time");
    other.apply_batch(first);
    other.apply_batch(last);
    third.apply_batch(&commands);
    for member in [&other, &third] {
        assert_eq!((&member.summary, &member.rows.0), (&one.summary, &one.rows.0));
    }
    // Then it is looked for old ones again only after a while.
    assert_eq!(one.summary.forget_next_ms, later_ms + FORGET_INTERVAL_MS);
}

#[test]
fn a_summary_of_tables_that_are_not_known_is_refused() {
    let known = Summary::default().encode();
    // Field 4, 34 bytes: a table whose own field 4, its digest, is 32 bytes long.
    let one_more = [&[4 << 3 | 2, 34, 4 << 3 | 2, 32][..], &[0; 32]].concat();
    assert!(Summary::decode(&known).is_ok());
    assert_eq!(Summary::decode(&[known, one_more].concat()), Err(SummaryError));
}

#[test]
fn what_apply_completes_nobody_puts() {
    let mut command = Command::new(1);
    command.put(&RowKey::inbox_entry(&[1; 32], 2, 0), &b"x"[..]);
    assert_eq!(Member::default().apply(&command), Outcome::Refused(Refusal::Malformed));
    let mut erased = Command::new(1);
    erased.delete(&RowKey::inbox_entry(&[1; 32], 2, 0));
    committed(Member::default().apply(&erased));
}

#[test]
fn the_last_moment_of_time_is_a_time() {
    let mut member = Member::default();
    committed(member.apply(&Command::new(u64::MAX)));
    let mut late = Command::new(1);
    late.request = Some(request(u64::MAX >> 16, 1));
    assert_eq!(member.apply(&late), Outcome::Expired);
    committed(member.apply(&Command::new(1)));
    assert_eq!(member.summary.clock_ms, u64::MAX);
}

#[test]
fn appended_rows_carry_index_and_ordinal() {
    let mut member = Member::default();
    let mut command = Command::new(1);
    command.append(&RowKey::inbox(&[1; 32]), &b"a"[..]);
    command.append(&RowKey::inbox(&[1; 32]), &b"b"[..]);
    committed(member.apply(&command));
    assert!(member.rows.0.contains_key(RowKey::inbox_entry(&[1; 32], 1, 0).as_bytes()));
    assert!(member.rows.0.contains_key(RowKey::inbox_entry(&[1; 32], 1, 1).as_bytes()));
}

#[test]
fn the_summary_comes_back_from_its_persisted_form() {
    let mut member = Member::default();
    let mut command = Command::new(77);
    command.put(&participant(1), &b"x"[..]);
    command.journal.push(JournalAppend { entry: "e".into(), index: vec![] });
    member.apply(&command);
    assert_eq!(Summary::decode(&member.summary.encode()), Ok(member.summary.clone()));
    assert_eq!(Summary::decode(b"\x08\x02"), Err(SummaryError));
    assert_eq!(Summary::decode(&[0xff; 9]), Err(SummaryError));
}

/// The same semantics, restated as plainly as possible: a map of rows and a list of rules.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    tables: BTreeMap<u8, u64>,
    requests: BTreeMap<Vec<u8>, Option<(u64, Vec<u8>)>>,
    journal: Vec<Vec<u8>>,
    clock_ms: u64,
}

impl Model {
    fn apply(&mut self, index: u64, command: &Command) -> &'static str {
        self.clock_ms = self.clock_ms.max(command.at_ms);
        if let Some(request) = &command.request {
            let born = born_ms(&request.row);
            if born + summary::REQUEST_WINDOW_DEFAULT_MS < self.clock_ms {
                return "expired";
            }
            match (self.requests.get(&request.row[..]), command.probe) {
                (Some(None), true) => return "absent",
                (Some(None), false) => return "given up",
                (Some(Some((_, sha256))), false) if sha256[..] != request.sha256[..] => return "differs",
                (Some(Some(_)), _) => return "remembered",
                (None, true) => {
                    self.requests.insert(request.row.to_vec(), None);
                    return "absent";
                }
                (None, false) => {}
            }
        }
        if command.valid_until_ms != 0 && self.clock_ms > command.valid_until_ms {
            return "conflict";
        }
        for expect in &command.expects {
            let found = match &expect.row[..] {
                [table] => self.tables.get(table).copied(),
                row => self.rows.get(row).map(|r| r.0),
            };
            if found.unwrap_or(0) != expect.index || expect.timeline != 0 {
                return "conflict";
            }
        }
        for (ordinal, write) in command.writes.iter().enumerate() {
            let mut key = write.row.to_vec();
            match write.kind() {
                WriteKind::Delete if self.rows.remove(&key).is_none() => continue,
                WriteKind::Delete => {}
                WriteKind::Append => {
                    key.extend_from_slice(&index.to_be_bytes());
                    key.extend_from_slice(&(ordinal as u32).to_be_bytes());
                    self.rows.insert(key, (index, write.value.to_vec()));
                }
                _ => {
                    self.rows.insert(key, (index, write.value.to_vec()));
                }
            }
            self.tables.insert(write.row[0], index);
        }
        self.journal.extend(command.journal.iter().map(|j| j.entry.to_vec()));
        if let Some(request) = &command.request {
            self.requests.insert(request.row.to_vec(), Some((index, request.sha256.to_vec())));
        }
        "committed"
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Committed(c) if c.remembered => "remembered",
        Outcome::Committed(_) => "committed",
        Outcome::Conflict { .. } => "conflict",
        Outcome::Expired => "expired",
        Outcome::Absent => "absent",
        Outcome::Refused(Refusal::RequestDiffers) => "differs",
        Outcome::Refused(Refusal::RequestGivenUp) => "given up",
        Outcome::Refused(_) => "refused",
    }
}

fn any_row() -> impl Strategy<Value = RowKey> {
    (0_u8..4, 0_usize..3).prop_map(|(n, table)| match table {
        0 => participant(n),
        1 => RowKey::hashed(Table::Facility, &[n; 32]),
        _ => RowKey::staging(&Pseudonym([n; 16]), &crate::id::ContentId([n; 16])),
    })
}

prop_compose! {
    fn any_command()(
        at_ms in prop_oneof![0_u64..5_000, 0_u64..8_000_000],
        valid_until_ms in prop_oneof![9 => Just(0), 1 => 0_u64..8_000_000],
        expects in proptest::collection::vec((any_row(), any::<bool>(), 0_u64..12), 0..2),
        writes in proptest::collection::vec((any_row(), 1_i32..4, proptest::collection::vec(any::<u8>(), 0..50)), 0..4),
        journal in proptest::collection::vec(any::<u8>(), 0..3),
        asked in proptest::option::weighted(0.5, (prop_oneof![0_u64..5_000, 0_u64..8_000_000], 0_u8..3, 0_u8..2)),
        probe in proptest::bool::weighted(0.1),
    ) -> Command {
        let mut command = Command::new(at_ms);
        command.valid_until_ms = valid_until_ms;
        for (row, whole, index) in expects {
            let row = if whole { RowKey::whole_table(row.table().unwrap()) } else { row };
            command.expect(&row, Revision { timeline: 0, index });
        }
        for (row, kind, value) in writes {
            let row = if kind == 3 { RowKey::inbox(&[row.as_bytes()[1]; 32]) } else { row };
            command.writes.push(Write { kind, row: row.as_bytes().clone(), value: value.into() });
        }
        command.journal = journal.into_iter().map(|n| JournalAppend { entry: vec![n].into(), index: vec![vec![n; 32].into()] }).collect();
        command.request = asked.map(|(born, n, sha)| Request { sha256: vec![sha; 32].into(), ..request(born, n) });
        command.probe = probe && command.request.is_some();
        command
    }
}

#[test]
fn the_clusters_row_takes_no_timeline_that_the_recovery_key_has_not_signed() {
    use crate::row::TimelineCertificate;
    use crate::seal::Key;
    use crate::timeline::{recovery_public_key, sign_timeline};

    let cluster = crate::ClusterId([7; 16]);
    let row = |signers: &[u8]| {
        let timelines = (0..).zip(signers).map(|(timeline, signer)| {
            let mut certificate = TimelineCertificate { timeline, ..TimelineCertificate::default() };
            sign_timeline(&Key::from_bytes(&mut [*signer; 32]), &cluster, &mut certificate);
            certificate
        });
        let key = recovery_public_key(&Key::from_bytes(&mut [6; 32]));
        ClusterRow {
            format: crate::row::ROWS_FORMAT,
            cluster_id: Bytes::copy_from_slice(&cluster.0),
            recovery_public_key: Bytes::copy_from_slice(&key),
            timelines: timelines.collect(),
            ..ClusterRow::default()
        }
    };
    let put = |row: ClusterRow| {
        let mut command = Command::new(1);
        command.put(&RowKey::cluster(), row.encode_to_vec());
        command
    };
    let refused = Outcome::Refused(Refusal::Timeline);
    let mut member = Member::default();
    assert_eq!(member.apply(&put(row(&[9]))), refused, "the first row, signed by another key");
    assert!(matches!(member.apply(&put(row(&[6]))), Outcome::Committed(_)));
    // Its limits hold from then on; 0 leaves what holds.
    let limited = ClusterRow { request_window_ms: 7, key_deletions_per_day_max: 2, ..row(&[6]) };
    for limits in [limited, row(&[6])] {
        committed(member.apply(&put(limits)));
        assert_eq!((member.summary.request_window_ms, member.summary.key_deletions_per_day_max), (7, 2));
    }
    let kept = member.rows.0.clone();
    let mut deletes = Command::new(1);
    deletes.delete(&RowKey::cluster());
    let mut elsewhere = Command::new(1);
    let key = RowKey::from_bytes(Bytes::from_static(b"\x01other"));
    elsewhere.put(&key, row(&[6]).encode_to_vec());
    let mut garbage = Command::new(1);
    garbage.put(&RowKey::cluster(), &b"\xff"[..]);
    for command in [put(row(&[6, 9])), put(row(&[])), deletes, elsewhere, garbage] {
        assert_eq!(member.apply(&command), refused);
    }
    assert_eq!(member.rows.0, kept);
    assert!(matches!(member.apply(&put(row(&[6, 6]))), Outcome::Committed(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn apply_equals_the_model_and_does_not_depend_on_batches(
        commands in proptest::collection::vec(any_command(), 1..60),
        cuts in proptest::collection::vec(1_usize..9, 60),
    ) {
        let encoded: Vec<Bytes> = commands.iter().map(|c| c.encode_to_vec().into()).collect();
        let (mut one_by_one, mut batched, mut model) = (Member::default(), Member::default(), Model::default());
        let mut outcomes = Vec::new();
        for (index, (command, bytes)) in (1..).zip(commands.iter().zip(&encoded)) {
            let outcome = one_by_one.apply_batch(std::slice::from_ref(bytes)).remove(0);
            prop_assert_eq!(word(&outcome), model.apply(index, command), "at {}", index);
            outcomes.push(outcome);
        }
        let mut rest = &encoded[..];
        let mut batched_outcomes = Vec::new();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            batched_outcomes.extend(batched.apply_batch(head));
            rest = tail;
        }
        prop_assert_eq!(outcomes, batched_outcomes);
        prop_assert_eq!(&one_by_one.rows.0, &batched.rows.0);
        prop_assert_eq!(&one_by_one.summary, &batched.summary);
        prop_assert_eq!(state_digest(&one_by_one.summary), state_digest(&batched.summary));

        let plain = |table: Table| !matches!(table, Table::Journal | Table::JournalIndex | Table::Request);
        let rows: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = batched.rows.0.iter()
            .filter(|(key, _)| plain(table_of(key).unwrap()))
            .map(|(key, row)| (key.to_vec(), (row.header.revision.index, row.value.to_vec())))
            .collect();
        prop_assert_eq!(rows, model.rows);
        prop_assert_eq!(batched.summary.journal.size(), model.journal.len() as u64);
        for table in Table::ALL {
            let mut digest = crate::digest::Digest::default();
            let mut count = 0;
            for (key, row) in batched.rows.0.iter().filter(|(key, _)| table_of(key) == Some(table)) {
                digest.add(crate::digest::Digest::of_row(key, &row.header));
                count += 1;
            }
            prop_assert_eq!(batched.summary.table(table).digest, digest);
            prop_assert_eq!(batched.summary.table(table).rows, count);
        }
    }

    #[test]
    fn any_bytes_are_refused_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut member = Member::default();
        member.apply_batch(&[bytes.into()]);
    }
}
