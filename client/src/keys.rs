//! Custody of the cluster's keys: shares of the root key, rotation. A thin layer: replies are those of the wire.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kura_proto::v1;

use crate::client::{Client, Shared, keys};
use crate::error::{Failed, Family, OperationError};
use crate::fault::Invalid;

/// Longest share, in bytes; every share of format 1 has 44.
const SHARE_BYTES_MAX: usize = 64;

/// Custody of the keys. Made by [`Client::keys`].
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The root key: the keyring is wrapped anew. Where shares are in use, the next one waits for its own,
    /// unless `without_shares`.
    Root {
        /// Takes effect at once.
        without_shares: bool,
    },
    /// The epoch keys: new rows are sealed under new keys, old ones stay as they are.
    Epoch,
}

impl Keys {
    pub(crate) fn new(client: &Client) -> Self {
        Self { shared: Arc::clone(&client.shared) }
    }

    /// What the node in use knows of the custody. Also a sealed node answers, without a leader.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn status(&self) -> Result<v1::KeyStatusReply, OperationError> {
        let attempt =
            |channel| async move { Ok(keys(channel).key_status(v1::KeyStatusRequest {}).await?.into_inner()) };
        self.shared.call(None, attempt).await.map_err(of_read)
    }

    /// Submits a share to the node in use: to reach a certain one, configure that endpoint alone. The same
    /// share again changes nothing. The bytes are not kept.
    ///
    /// # Errors
    /// [`OperationError`]; it says what is wrong with the share, and repeats nothing of it.
    pub async fn submit_share(&self, share: &[u8]) -> Result<v1::SubmitShareReply, OperationError> {
        if share.len() > SHARE_BYTES_MAX {
            let bound = Invalid::bound("share", format!("at most {SHARE_BYTES_MAX} bytes"), share.len());
            return Err(OperationError::from_invalid(bound));
        }
        let attempt = |channel| async move {
            let ask = v1::SubmitShareRequest { share: Bytes::copy_from_slice(share) };
            Ok(keys(channel).submit_share(ask).await?.into_inner())
        };
        self.shared.call(None, attempt).await.map_err(of_read)
    }

    /// Records a split whose holders have all read their shares back (an operator). Recording the same again
    /// changes nothing but its time.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn record_shares(&self, ask: v1::RecordSharesRequest) -> Result<v1::RecordSharesReply, OperationError> {
        let attempt = |channel| {
            let ask = ask.clone();
            async move { Ok(keys(channel).record_shares(ask).await?.into_inner()) }
        };
        self.shared.call(None, attempt).await.map_err(of_write)
    }

    /// Confirms a recorded set of shares by its fingerprint (a registrar): from then on it counts.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn confirm_shares(&self, fingerprint: &[u8]) -> Result<v1::ConfirmSharesReply, OperationError> {
        let attempt = |channel| async move {
            let ask = v1::ConfirmSharesRequest { fingerprint: Bytes::copy_from_slice(fingerprint) };
            Ok(keys(channel).confirm_shares(ask).await?.into_inner())
        };
        self.shared.call(None, attempt).await.map_err(of_write)
    }

    /// Has synthetic participants stored for drills, or stored anew, under a drill key of 32 bytes (an operator). The key
    /// is not kept.
    ///
    /// # Errors
    /// [`OperationError`]; asked again, it does the same again.
    pub async fn prepare_drill(&self, drill_key: &[u8; 32]) -> Result<v1::PrepareDrillReply, OperationError> {
        let asked = crate::operations::once(&self.shared, |channel| async move {
            let ask = v1::PrepareDrillRequest { drill_key: Bytes::copy_from_slice(drill_key) };
            Ok(keys(channel).prepare_drill(ask).await?.into_inner())
        });
        asked.await
    }

    /// Asks for a rotation: an operator and a registrar ask for the same, the second one's asking carries it
    /// out. A rotation of the root key that waits for something goes on when asked for again.
    ///
    /// # Errors
    /// [`OperationError`]; after [`OperationError::InDoubt`] look at [`Self::status`] before asking again.
    pub async fn rotate(&self, what: Rotation) -> Result<v1::RotateKeysReply, OperationError> {
        let (kind, without_shares) = match what {
            Rotation::Root { without_shares } => (1, without_shares),
            Rotation::Epoch => (2, false),
        };
        let ask = v1::RotateKeysRequest { kind, without_shares };
        let asked = crate::operations::once(&self.shared, |channel| async move {
            Ok(keys(channel).rotate_keys(ask).await?.into_inner())
        });
        asked.await
    }
}

fn of_read(failed: Failed) -> OperationError {
    OperationError::from_fault(failed.fault)
}

fn of_write(failed: Failed) -> OperationError {
    crate::operations::of_write(failed)
}
