//! `apply` on any sequence of commands: it never panics, and every member comes to the same.

use bolero::check;

use super::tests::Member;
use super::*;
use crate::command::{Expect, JournalAppend, Request, Write};
use crate::digest::Digest;

/// Takes an input apart. At its end everything is zero.
struct Drawn<'a>(&'a [u8]);

impl Drawn<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn ends(&self) -> bool {
        self.0.is_empty()
    }

    /// Numbers at their edges, and small ones.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - u64::from(self.byte()),
            253 => DAY_MS * u64::from(self.byte()),
            252 => 1 << (self.byte() % 64),
            small => u64::from(small),
        }
    }

    fn bytes(&mut self, most: usize) -> Bytes {
        let length = usize::from(self.byte()) % (most + 1);
        (0..length).map(|_| self.byte()).collect::<Vec<_>>().into()
    }

    /// A row key: of few rows in every table, so that commands meet; or anything.
    fn row(&mut self) -> Bytes {
        let table = self.byte() % 32;
        let length = match self.byte() {
            254 => 0,
            255 => usize::from(self.byte()),
            small => [1, 8, 16, 32, 40][usize::from(small) % 5],
        };
        [&[table][..], &vec![self.byte() % 3; length]].concat().into()
    }

    fn request(&mut self) -> Request {
        let row = match self.byte() {
            255 => self.row(),
            n => [&[Table::Request.number()][..], &self.number().to_be_bytes(), &[n % 4; 32]].concat().into(),
        };
        Request { row, sha256: vec![self.byte() % 2; 32].into(), receipt: self.bytes(3) }
    }

    fn write(&mut self) -> Write {
        let kind = i32::from(self.byte() % 5);
        let row = self.row();
        let value = match self.byte() {
            // The cluster's own row changes limits.
            250.. => ClusterRow {
                format: crate::row::ROWS_FORMAT,
                request_window_ms: self.number(),
                key_deletions_per_day_max: u32::from(self.byte()),
                ..ClusterRow::default()
            }
            .encode_to_vec()
            .into(),
            _ => self.bytes(40),
        };
        Write { kind, row, value }
    }

    fn command(&mut self) -> Bytes {
        let shape = self.byte();
        if shape == 255 {
            return self.bytes(60);
        }
        let mut command = Command::new(self.number());
        command.valid_until_ms = if shape & 1 == 0 { 0 } else { self.number() };
        command.probe = shape & 0x12 == 0x12;
        command.request = (shape & 2 != 0).then(|| self.request());
        for _ in 0..shape >> 2 & 1 {
            let row = self.row();
            command.expects.push(Expect { row, timeline: 0, index: self.number() });
        }
        for _ in 0..self.byte() % 4 {
            let write = self.write();
            command.writes.push(write);
        }
        for _ in 0..self.byte() % 4 {
            let index = (0..self.byte() % 3).map(|_| vec![self.byte() % 3; 32].into()).collect();
            command.journal.push(JournalAppend { entry: self.bytes(4), index });
        }
        command.encode_to_vec().into()
    }
}

#[test]
fn any_commands_come_to_the_same_on_every_member() {
    check!().with_iterations(kura_fuzz::CASES).with_max_len(600).for_each(|drawn: &[u8]| {
        let mut drawn = Drawn(drawn);
        let cut = 1 + usize::from(drawn.byte()) % 7;
        let mut commands = Vec::new();
        while !drawn.ends() && commands.len() < 40 {
            commands.push(drawn.command());
        }
        let (mut one, mut other) = (Member::default(), Member::default());
        let outcomes: Vec<_> =
            commands.iter().map(|command| one.apply_batch(std::slice::from_ref(command)).remove(0)).collect();
        let batches: Vec<_> = commands.chunks(cut).flat_map(|batch| other.apply_batch(batch)).collect();
        assert_eq!(outcomes, batches);
        assert_eq!(one.summary, other.summary);
        assert_eq!(one.rows.0, other.rows.0);
        // What the summary says of the rows is what they are.
        let mut sums = [(0_u64, Digest::default()); Table::ALL.len()];
        for (key, row) in &one.rows.0 {
            let sum = &mut sums[table_of(key).expect("only rows of tables are written").place()];
            sum.0 += 1;
            sum.1.add(Digest::of_row(key, &row.header));
            assert!(key.len() <= ROW_KEY_BYTES_MAX);
        }
        let told = one.summary.tables.map(|table| (table.rows, table.digest));
        assert_eq!(told, sums);
        // The summary and the rows survive being stored.
        assert_eq!(Summary::decode(&one.summary.encode()), Ok(one.summary));
    });
}
