//! Key rows in the archive: the ledger, which holds them whole and is replaced, and their headers, which every
//! base holds so that a replay knows what it lacks.
//!
//! The ledger is a list of buckets ([`Ledger`]), each an object of its own ([`Bucket`]): a change of a few keys
//! rewrites a few buckets. The key of an object in it is in no manifest; a manifest names the ledger by its
//! hash.
//!
//! Headers ([`KeyHeader`]) follow `kura-key-headers-1`, the cluster id (16) and the number of rows (8): length
//! of the row key (1), row key, revision (16), revision that it replaced (16), SHA-256 of the value (32).
//! Ascending by row key.

use bytes::{BufMut, Bytes};
use prost::Message;

use super::{Sha256Hash, take};
use crate::digest::Digest;
use crate::id::{ClusterId, Revision};
use crate::row::{ROW_KEY_BYTES_MAX, RowHeader, StoredRow, Table};

const FORMAT: u32 = 1;
const HEADERS_TAG: &[u8] = b"kura-key-headers-1";

/// Buckets of participants' keys, by the first twelve bits of the pseudonym. The keyring has one more.
pub const PARTICIPANT_BUCKETS: u32 = 4096;

/// Bytes of an encoded ledger, at most.
pub const LEDGER_BYTES_MAX: usize = 4 << 20;

/// Bytes of an encoded bucket, at most.
pub const BUCKET_BYTES_MAX: usize = 256 << 20;

/// Why bytes are no ledger, bucket or headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not of a known form, or not in its one encoding.
    #[error("it is not of a known form")]
    Form,
    /// A row that belongs elsewhere, or twice the same.
    #[error("it holds a row that does not belong there")]
    Place,
}

/// The bucket of a row; `None` if the row holds no key.
pub fn bucket_of(row_key: &[u8]) -> Option<u32> {
    match Table::from_number(*row_key.first()?)? {
        Table::Keyring => Some(0),
        Table::ParticipantKey => {
            let [high, low] = row_key.get(1..3)?.try_into().ok()?;
            Some(1 + (u32::from(high) << 4 | u32::from(low) >> 4))
        }
        _ => None,
    }
}

/// The row keys of a bucket: from the first (inclusive) to the second (exclusive).
pub fn bucket_range(bucket: u32) -> Option<(Vec<u8>, Vec<u8>)> {
    let table = |table: Table, bits: u32| {
        // Behind the last bucket comes the next table.
        match u16::try_from(bits << 4) {
            Ok(prefix) => [&[table.number()][..], &prefix.to_be_bytes()].concat(),
            Err(_) => vec![table.number() + 1],
        }
    };
    match bucket {
        0 => Some((vec![Table::Keyring.number()], vec![Table::Keyring.number() + 1])),
        1..=PARTICIPANT_BUCKETS => {
            Some((table(Table::ParticipantKey, bucket - 1), table(Table::ParticipantKey, bucket)))
        }
        _ => None,
    }
}

/// A bucket that the ledger names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRef {
    /// Which one.
    pub number: u32,
    /// Rows in it, at least 1.
    pub rows: u64,
    /// Length of its object.
    pub bytes: u64,
    /// SHA-256 of its object.
    pub sha256: Sha256Hash,
}

/// Every wrapped key of the cluster at a log index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its fence number.
    pub timeline: u64,
    /// Log index of the state.
    pub index: u64,
    /// The buckets that hold anything, ascending by number.
    pub buckets: Vec<BucketRef>,
}

impl Ledger {
    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bucket = |bucket: &BucketRef| BucketRefMessage {
            number: bucket.number,
            rows: bucket.rows,
            bytes: bucket.bytes,
            sha256: Bytes::copy_from_slice(&bucket.sha256),
        };
        LedgerMessage {
            format: FORMAT,
            cluster_id: Bytes::copy_from_slice(&self.cluster_id.0),
            timeline: self.timeline,
            index: self.index,
            buckets: self.buckets.iter().map(bucket).collect(),
        }
        .encode_to_vec()
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn decode(bytes: &[u8]) -> Result<Ledger, KeysError> {
        let message = canonical::<LedgerMessage>(bytes, LEDGER_BYTES_MAX)?;
        let bucket = |bucket: &BucketRefMessage| {
            let sha256 = bucket.sha256[..].try_into().map_err(|_| KeysError::Form)?;
            let known = bucket.number <= PARTICIPANT_BUCKETS && bucket.rows > 0;
            let read = BucketRef { number: bucket.number, rows: bucket.rows, bytes: bucket.bytes, sha256 };
            if known { Ok(read) } else { Err(KeysError::Form) }
        };
        let buckets = message.buckets.iter().map(bucket).collect::<Result<Vec<_>, _>>()?;
        if message.format != FORMAT || !buckets.is_sorted_by(|a, b| a.number < b.number) {
            return Err(KeysError::Form);
        }
        Ok(Ledger {
            cluster_id: ClusterId(message.cluster_id[..].try_into().map_err(|_| KeysError::Form)?),
            timeline: message.timeline,
            index: message.index,
            buckets,
        })
    }
}

/// The key rows of a bucket, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Row keys and rows, ascending by key.
    pub rows: Vec<(Bytes, StoredRow)>,
}

impl Bucket {
    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let row = |(key, row): &(Bytes, StoredRow)| KeyRowMessage {
            key: key.clone(),
            stored: [&row.prefix()[..], &row.value].concat().into(),
        };
        BucketMessage { format: FORMAT, rows: self.rows.iter().map(row).collect() }.encode_to_vec()
    }

    /// Reads an object, which the ledger names as this bucket.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn decode(bytes: &[u8], number: u32) -> Result<Bucket, KeysError> {
        let message = canonical::<BucketMessage>(bytes, BUCKET_BYTES_MAX)?;
        if message.format != FORMAT {
            return Err(KeysError::Form);
        }
        let row = |row: &KeyRowMessage| {
            let stored = StoredRow::decode(&row.stored).map_err(|_| KeysError::Form)?;
            match bucket_of(&row.key) == Some(number) && row.key.len() <= ROW_KEY_BYTES_MAX && !stored.is_stripped() {
                true => Ok((row.key.clone(), stored)),
                false => Err(KeysError::Place),
            }
        };
        let rows = message.rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.is_sorted_by(|a, b| a.0 < b.0) { Ok(Bucket { rows }) } else { Err(KeysError::Place) }
    }

    /// Adds its rows to the counts and digests of the key tables: keyring and participant keys.
    pub fn add_to(&self, sums: &mut KeySums) {
        for (key, row) in &self.rows {
            sums.add(key, &row.header);
        }
    }
}

/// Rows and digests of the key tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeySums {
    /// Of the keyring.
    pub keyring: (u64, Digest),
    /// Of participants' keys.
    pub participant_keys: (u64, Digest),
}

impl KeySums {
    /// Adds a row.
    pub fn add(&mut self, row_key: &[u8], header: &RowHeader) {
        let sum = match row_key.first().and_then(|number| Table::from_number(*number)) {
            Some(Table::Keyring) => &mut self.keyring,
            Some(Table::ParticipantKey) => &mut self.participant_keys,
            _ => return,
        };
        sum.0 += 1;
        sum.1.add(Digest::of_row(row_key, header));
    }

    /// Rows and digest of a key table; nothing for others.
    pub fn of(&self, table: Table) -> Option<(u64, Digest)> {
        match table {
            Table::Keyring => Some(self.keyring),
            Table::ParticipantKey => Some(self.participant_keys),
            _ => None,
        }
    }
}

/// What a base keeps of a key row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHeader {
    /// The row key.
    pub row_key: Bytes,
    /// Revisions, and the value's hash.
    pub header: RowHeader,
}

/// Headers of key rows, as a base holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHeaders;

impl KeyHeaders {
    /// What an object begins with.
    pub fn begin(cluster_id: &ClusterId, rows: u64) -> Vec<u8> {
        [HEADERS_TAG, &cluster_id.0, &rows.to_be_bytes()].concat()
    }

    /// Appends a row. Row keys are at most [`ROW_KEY_BYTES_MAX`] long.
    pub fn put(out: &mut Vec<u8>, row_key: &[u8], header: &RowHeader) {
        out.put_u8(u8::try_from(row_key.len()).unwrap_or(u8::MAX));
        out.put_slice(row_key);
        out.put_slice(&header.revision.to_bytes());
        out.put_slice(&header.replaced.to_bytes());
        out.put_slice(&header.value_sha256);
    }

    /// Bytes that [`KeyHeaders::begin`] makes.
    pub const BEGIN_BYTES: usize = HEADERS_TAG.len() + 16 + 8;

    /// Bytes of one row, at most.
    pub const ROW_BYTES_MAX: usize = 1 + ROW_KEY_BYTES_MAX + 16 + 16 + 32;

    /// Reads the beginning: the number of rows.
    ///
    /// # Errors
    /// [`KeysError::Form`], also for another cluster's.
    pub fn read_begin(mut bytes: &[u8], cluster_id: &ClusterId) -> Result<u64, KeysError> {
        let rest = &mut bytes;
        *rest = rest.strip_prefix(HEADERS_TAG).ok_or(KeysError::Form)?;
        let cluster: [u8; 16] = take(rest).ok_or(KeysError::Form)?;
        let rows = take(rest).map(u64::from_be_bytes).ok_or(KeysError::Form)?;
        if cluster == cluster_id.0 && rest.is_empty() { Ok(rows) } else { Err(KeysError::Form) }
    }

    /// Reads a row, taking its bytes off; `None` if there are too few of them yet.
    ///
    /// # Errors
    /// [`KeysError::Place`] for a row that holds no key.
    pub fn read(bytes: &mut &[u8]) -> Result<Option<KeyHeader>, KeysError> {
        let mut rest = *bytes;
        let Some([length]) = take(&mut rest) else { return Ok(None) };
        let Some((row_key, mut rest)) = rest.split_at_checked(usize::from(length)) else { return Ok(None) };
        let mut revision = || {
            let timeline = u64::from_be_bytes(take(&mut rest)?);
            Some(Revision { timeline, index: u64::from_be_bytes(take(&mut rest)?) })
        };
        let (Some(revision), Some(replaced)) = (revision(), revision()) else { return Ok(None) };
        let Some(value_sha256) = take(&mut rest) else { return Ok(None) };
        if bucket_of(row_key).is_none() || row_key.len() > ROW_KEY_BYTES_MAX {
            return Err(KeysError::Place);
        }
        *bytes = rest;
        let header = RowHeader { revision, replaced, value_sha256 };
        Ok(Some(KeyHeader { row_key: Bytes::copy_from_slice(row_key), header }))
    }
}

fn canonical<M: Message + Default>(bytes: &[u8], bytes_max: usize) -> Result<M, KeysError> {
    if bytes.len() > bytes_max {
        return Err(KeysError::Form);
    }
    let message = M::decode(bytes).map_err(|_| KeysError::Form)?;
    if message.encode_to_vec() == bytes { Ok(message) } else { Err(KeysError::Form) }
}

#[derive(Clone, PartialEq, Message)]
struct LedgerMessage {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "bytes", tag = "2")]
    cluster_id: Bytes,
    #[prost(uint64, tag = "3")]
    timeline: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(message, repeated, tag = "5")]
    buckets: Vec<BucketRefMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketRefMessage {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(bytes = "bytes", tag = "4")]
    sha256: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct BucketMessage {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    rows: Vec<KeyRowMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyRowMessage {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    stored: Bytes,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hexadecimal;
    use crate::id::Pseudonym;
    use crate::row::RowKey;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn row(key: RowKey, value: &'static [u8]) -> (Bytes, StoredRow) {
        let revision = Revision { timeline: 1, index: 3 };
        (key.as_bytes().clone(), StoredRow::new(revision, Revision::ABSENT, Bytes::from_static(value)))
    }

    #[test]
    fn every_key_row_has_one_bucket_and_the_bucket_holds_it() {
        for first in 0..=u16::MAX {
            let mut pseudonym = [0xab; 16];
            pseudonym[..2].copy_from_slice(&first.to_be_bytes());
            let key = RowKey::participant_key(&Pseudonym(pseudonym), 1);
            let bucket = bucket_of(key.as_bytes()).unwrap();
            let (from, to) = bucket_range(bucket).unwrap();
            assert!(from[..] <= key.as_bytes()[..] && key.as_bytes()[..] < to[..], "{first}");
        }
        assert_eq!(bucket_of(RowKey::keyring(1).as_bytes()), Some(0));
        assert_eq!(bucket_of(RowKey::participant(&Pseudonym([1; 16])).as_bytes()), None);
        assert_eq!(bucket_of(&[]), None);
        assert_eq!(bucket_range(PARTICIPANT_BUCKETS + 1), None);
        assert_eq!(bucket_range(PARTICIPANT_BUCKETS).unwrap().1, [10]);
    }

    #[test]
    fn ledgers_and_buckets_are_frozen() {
        let bucket = Bucket { rows: vec![row(RowKey::keyring(1), b"wrapped")] };
        let encoded = bucket.encode();
        let stored = format!("01{:016x}{:016x}{}", 1, 3, hexadecimal(b"wrapped"));
        assert_eq!(hexadecimal(&encoded), format!("080112210a050200000001{}{stored}", "1218"));
        assert_eq!(Bucket::decode(&encoded, 0), Ok(bucket));
        assert_eq!(Bucket::decode(&encoded, 1), Err(KeysError::Place));
        let buckets = vec![BucketRef { number: 0, rows: 1, bytes: 37, sha256: [9; 32] }];
        let ledger = Ledger { cluster_id: CLUSTER, timeline: 1, index: 3, buckets };
        let expected = format!("08011210{}180120032a2610011825{}{}", "07".repeat(16), "2220", "09".repeat(32));
        assert_eq!(hexadecimal(ledger.encode()), expected);
        assert_eq!(Ledger::decode(&ledger.encode()), Ok(ledger));
    }

    #[test]
    fn malformed_ledgers_and_buckets_are_refused() {
        let bucket = |number| BucketRef { number, rows: 1, bytes: 1, sha256: [1; 32] };
        let ledger = |buckets| Ledger { cluster_id: CLUSTER, timeline: 0, index: 1, buckets }.encode();
        assert!(Ledger::decode(&ledger(vec![bucket(1), bucket(2)])).is_ok());
        for wrong in [vec![bucket(2), bucket(1)], vec![bucket(1); 2], vec![bucket(4097)]] {
            assert_eq!(Ledger::decode(&ledger(wrong)), Err(KeysError::Form));
        }
        let one = row(RowKey::participant_key(&Pseudonym([0; 16]), 1), b"a");
        let two = row(RowKey::participant_key(&Pseudonym([0; 16]), 2), b"b");
        let stranger = row(RowKey::participant(&Pseudonym([0; 16])), b"c");
        let bucket = |rows: &[&(Bytes, StoredRow)]| {
            let rows = rows.iter().map(|row| (*row).clone()).collect();
            Bucket::decode(&Bucket { rows }.encode(), 1)
        };
        assert!(bucket(&[&one, &two]).is_ok());
        for wrong in [bucket(&[&two, &one]), bucket(&[&one, &one]), bucket(&[&stranger])] {
            assert_eq!(wrong, Err(KeysError::Place));
        }
        assert_eq!(Ledger::decode(&[8, 2]), Err(KeysError::Form));
    }

    #[test]
    fn headers_come_back_also_in_pieces() {
        let rows = [row(RowKey::keyring(1), b"one"), row(RowKey::participant_key(&Pseudonym([1; 16]), 1), b"two")];
        let begin = KeyHeaders::begin(&CLUSTER, 2);
        assert_eq!(begin.len(), KeyHeaders::BEGIN_BYTES);
        assert_eq!(hexadecimal(&begin), format!("6b7572612d6b65792d686561646572732d31{}{:016x}", "07".repeat(16), 2));
        assert_eq!(KeyHeaders::read_begin(&begin, &CLUSTER), Ok(2));
        assert_eq!(KeyHeaders::read_begin(&begin, &ClusterId([8; 16])), Err(KeysError::Form));
        let mut bytes = Vec::new();
        rows.iter().for_each(|(key, row)| KeyHeaders::put(&mut bytes, key, &row.header));
        let whole = 1 + 5 + 16 + 16 + 32;
        for end in 0..whole {
            assert_eq!(KeyHeaders::read(&mut &bytes[..end]), Ok(None));
        }
        let mut rest = &bytes[..];
        for (key, row) in &rows {
            let read = KeyHeaders::read(&mut rest).unwrap().unwrap();
            assert_eq!((&read.row_key, read.header), (key, row.header));
        }
        assert!(rest.is_empty());
        assert_eq!(KeyHeaders::read(&mut &[&[1, 8][..], &[0; 64]].concat()[..]), Err(KeysError::Place));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ledger::decode(&bytes);
            let _ = Bucket::decode(&bytes, 1);
            let _ = KeyHeaders::read(&mut &bytes[..]);
            let _ = KeyHeaders::read_begin(&bytes, &CLUSTER);
        }
    }
}
