//! Brings what was opened offline with the root key, beside this member's data, into the journal.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::openings::{done, pending};

/// Between two looks at the notes.
const LOOK: Duration = Duration::from_secs(2);

/// Journals each note, for ever; what could not be journalled is tried again.
pub async fn follow(node: Arc<Node>) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if node.gateway.vault.load().is_none() {
            continue;
        }
        match journal(&node).await {
            Ok(()) => told.clear(),
            Err(why) if why != told => {
                tracing::warn!("what was opened offline is not in the journal yet: {why}");
                told = why;
            }
            Err(_) => {}
        }
    }
}

async fn journal(node: &Node) -> Result<(), String> {
    let data = node.config.data.clone();
    let found = tokio::task::spawn_blocking(move || pending(&data)).await.map_err(|error| error.to_string())?;
    let found = found.map_err(|error| error.to_string())?;
    for one in found {
        node.gateway.journal_opening(&one.words).await.map_err(|error| error.to_string())?;
        tracing::warn!("journalled: {}", one.words);
        let data = node.config.data.clone();
        let kept = tokio::task::spawn_blocking(move || done(&data, &one)).await.map_err(|error| error.to_string())?;
        kept.map_err(|error| error.to_string())?;
    }
    Ok(())
}
