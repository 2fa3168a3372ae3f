//! The last drill on this machine, as its report tells it: another process writes that (`kura drill`).

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::drill::Report;

/// Between two looks at the report.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Takes up each new report.
pub async fn follow(node: Arc<Node>) {
    let mut told = String::new();
    loop {
        let data = node.config.data.clone();
        match tokio::task::spawn_blocking(move || Report::read(&data)).await {
            Ok(Ok(report)) => node.drill.store(report.map(Arc::new)),
            Ok(Err(error)) => {
                // Unknown, not the one before.
                node.drill.store(None);
                let error = error.to_string();
                if told != error {
                    tracing::warn!(%error, "the last drill's report");
                    told = error;
                }
            }
            Err(_) => return,
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
