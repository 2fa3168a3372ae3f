//! Shares of the root key of a cluster on one machine, so that what needs holders can be tried there. They lie in
//! files, beside the root key itself: for playing, never the way for people (`kura key split`).

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use kura_client::wire;
use kura_cluster::ClusterId;
use kura_cluster::share::{Share, split};

use super::DevError;
use super::cluster::Cluster;
use super::layout::ClientFile;
use crate::{random, vault};

/// Shares that restore the key, and holders.
const THRESHOLD: u8 = 2;
const HOLDERS: u8 = 3;

/// Splits the root key, writes a file for each holder, and records the set as an operator and a registrar.
pub(super) async fn make(cluster: &Cluster) -> Result<(), DevError> {
    let refused = |what: &'static str| move |error| DevError::refused(what, &error);
    let Some(first) = cluster.plan().voters().next() else { return Ok(()) };
    let path = cluster.layout().root_key(&first.name);
    let unreadable = |error: String| DevError::Plan { path: path.clone(), message: error };
    let root = vault::read_root_key(&path).map_err(|error| unreadable(error.to_string()))?;
    let root = root.ok_or_else(|| unreadable("there is no root key".into()))?;
    let operator = cluster.client(ClientFile::Operator).await?.keys();
    let status = operator.status().await.map_err(refused("shares"))?;
    let id = ClusterId::from_slice(&status.cluster_id).map_err(|error| unreadable(error.to_string()))?;
    let split = split(&root, &id, THRESHOLD, HOLDERS, random::fill);
    let (set, shares) = split.map_err(|error| unreadable(error.to_string()))?;
    shares.iter().try_for_each(|share| write(cluster, share))?;
    let ask = wire::RecordSharesRequest {
        threshold: u32::from(set.threshold),
        root_check_value: set.root_check_value.to_vec().into(),
        share_check_values: set.share_check_values.iter().map(|value| value.to_vec().into()).collect(),
        proof: set.proof(&id, &root).to_vec().into(),
    };
    let recorded = operator.record_shares(ask).await.map_err(refused("recording shares"))?;
    let registrar = cluster.client(ClientFile::Registrar1).await?.keys();
    registrar.confirm_shares(&recorded.fingerprint).await.map_err(refused("confirming shares"))?;
    Ok(())
}

fn write(cluster: &Cluster, share: &Share) -> Result<(), DevError> {
    let path = cluster.layout().share(share.index);
    let folder = cluster.layout().shares();
    fs::create_dir_all(&folder).map_err(DevError::file(folder))?;
    // A first start that was cut off may have left one.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(DevError::file(path)(error)),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let words = share.to_words();
    file.and_then(|mut file| file.write_all(words.as_bytes()).and_then(|()| file.write_all(b"\n")))
        .map_err(DevError::file(path))
}
