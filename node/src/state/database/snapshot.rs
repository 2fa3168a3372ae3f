//! What is read at one applied index: rows, walks and scans that later writes do not change.

use bytes::Bytes;
use kura_cluster::apply::Summary;
use kura_cluster::row::{ClusterRow, RowHeader, RowKey, StoredRow};
use prost::Message;
use rocksdb::{DB, ReadOptions};

use super::{APPLIED_KEY, Database, DatabaseError, MEMBERSHIP_KEY, SUMMARY_KEY};
use crate::raft::codec;
use crate::raft::types::{LogId, StoredMembership};

/// A consistent view of the database at one applied index.
pub struct Snapshot<'a> {
    pub(super) database: &'a Database,
    pub(super) snapshot: rocksdb::Snapshot<'a>,
}

impl Snapshot<'_> {
    /// A whole row.
    pub fn row(&self, key: &RowKey) -> Result<Option<StoredRow>, DatabaseError> {
        let family = self.database.family_of(key.as_bytes());
        let found = self.snapshot.get_cf(family, key.as_bytes()).map_err(|source| self.database.failed(source))?;
        found.map(|bytes| StoredRow::decode(&bytes.into()).map_err(|_| self.database.damaged("a row"))).transpose()
    }

    /// Last applied id, membership and summary at this view.
    pub fn progress(&self) -> Result<(Option<LogId>, StoredMembership, Summary), DatabaseError> {
        let meta = |key: &[u8]| self.snapshot.get(key).map_err(|source| self.database.failed(source));
        let form = |what| self.database.damaged(what);
        let applied = match meta(APPLIED_KEY)? {
            Some(bytes) => Some(codec::decode_log_id(&bytes).map_err(|_| form("last applied id"))?),
            None => None,
        };
        let membership = match meta(MEMBERSHIP_KEY)? {
            Some(bytes) => codec::decode_stored_membership(&bytes).map_err(|_| form("membership"))?,
            None => StoredMembership::default(),
        };
        let summary = match meta(SUMMARY_KEY)? {
            Some(bytes) => Summary::decode(&bytes).map_err(|_| form("summary"))?,
            None => Summary::default(),
        };
        Ok((applied, membership, summary))
    }

    /// The cluster's own row at this view.
    pub fn cluster_row(&self) -> Result<Option<ClusterRow>, DatabaseError> {
        let Some(row) = self.row(&RowKey::cluster())? else { return Ok(None) };
        ClusterRow::decode(row.value).map(Some).map_err(|_| self.database.damaged("the cluster's row"))
    }

    /// Hands every row with `from ≤ key < to` to `look`, in order. Both lie in one table, or `to` is the
    /// number of the next.
    pub fn walk<E: From<DatabaseError>>(
        &self,
        from: &[u8],
        to: &[u8],
        mut look: impl FnMut(&[u8], StoredRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pass(from, to, |key, header, value| look(key, StoredRow { header, value: Bytes::copy_from_slice(value) }))
    }

    /// The same, without a copy: the value is a slice of memory that lives as long as the call.
    pub fn pass<E: From<DatabaseError>>(
        &self,
        from: &[u8],
        to: &[u8],
        mut look: impl FnMut(&[u8], RowHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(from), options);
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            let (header, value) = StoredRow::split(value).map_err(|_| self.database.damaged("a row"))?;
            look(key, header, value)?;
            iterator.next();
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(())
    }

    /// Rows with `from ≤ key < to`, one after the other; as for [`Snapshot::walk`].
    pub fn cursor(&self, from: &[u8], to: &[u8]) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(from), options);
        iterator.seek(from);
        Cursor { database: self.database, iterator }
    }

    /// Last applied id at this view.
    pub fn applied(&self) -> Result<Option<LogId>, DatabaseError> {
        let found = self.snapshot.get(APPLIED_KEY).map_err(|source| self.database.failed(source))?;
        found
            .map(|bytes| codec::decode_log_id(&bytes).map_err(|_| self.database.damaged("last applied id")))
            .transpose()
    }

    /// Rows whose key begins with `prefix`, in order, from the first key after `after` (a full key)
    /// if one is given, at most `limit`.
    pub fn scan(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        self.scan_in(prefix, after, limit, false)
    }

    /// The first keys that begin with `prefix`, at most `limit`; no value is read.
    pub fn keys(&self, prefix: &RowKey, limit: usize) -> Result<Vec<RowKey>, DatabaseError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix.as_bytes().to_vec()));
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(prefix.as_bytes()), options);
        iterator.seek_to_first();
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(key) = iterator.key()
        {
            keys.push(RowKey::from_bytes(Bytes::copy_from_slice(key)));
            iterator.next();
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(keys)
    }

    /// Like [`Snapshot::scan`], from the last key (or the last before `after`) downwards.
    pub fn scan_back(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        self.scan_in(prefix, after, limit, true)
    }

    fn scan_in(
        &self,
        prefix: &RowKey,
        after: Option<&[u8]>,
        limit: usize,
        back: bool,
    ) -> Result<Vec<(RowKey, StoredRow)>, DatabaseError> {
        let prefix = prefix.as_bytes();
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix.to_vec()));
        let mut iterator = self.snapshot.raw_iterator_cf_opt(self.database.family_of(prefix), options);
        match (after, back) {
            (None, false) => iterator.seek_to_first(),
            (None, true) => iterator.seek_to_last(),
            (Some(after), false) => {
                iterator.seek(after);
                if iterator.key() == Some(after) {
                    iterator.next();
                }
            }
            (Some(after), true) => {
                iterator.seek_for_prev(after);
                if iterator.key() == Some(after) {
                    iterator.prev();
                }
            }
        }
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some((key, value)) = iterator.item()
        {
            let row = StoredRow::decode(&Bytes::copy_from_slice(value)).map_err(|_| self.database.damaged("a row"))?;
            rows.push((RowKey::from_bytes(Bytes::copy_from_slice(key)), row));
            if back { iterator.prev() } else { iterator.next() }
        }
        iterator.status().map_err(|source| self.database.failed(source))?;
        Ok(rows)
    }
}

/// Walks rows of a [`Snapshot`] at the caller's pace.
pub struct Cursor<'a> {
    database: &'a Database,
    iterator: rocksdb::DBRawIteratorWithThreadMode<'a, DB>,
}

impl Cursor<'_> {
    /// The present row's key and header; `None` at the end.
    pub fn item(&self) -> Result<Option<(Bytes, RowHeader)>, DatabaseError> {
        let Some((key, value)) = self.iterator.item() else {
            self.iterator.status().map_err(|source| self.database.failed(source))?;
            return Ok(None);
        };
        let header = StoredRow::decode_header(value).map_err(|_| self.database.damaged("a row"))?;
        Ok(Some((Bytes::copy_from_slice(key), header)))
    }

    /// The present row whole; `None` at the end.
    pub fn row(&self) -> Result<Option<StoredRow>, DatabaseError> {
        let value = self.iterator.value();
        let row = value.map(|value| StoredRow::decode(&Bytes::copy_from_slice(value)));
        row.transpose().map_err(|_| self.database.damaged("a row"))
    }

    /// Goes to the first row from this key on.
    pub fn seek(&mut self, key: &[u8]) {
        self.iterator.seek(key);
    }

    /// Goes on to the next row.
    pub fn advance(&mut self) {
        self.iterator.next();
    }
}
