//! The Prometheus endpoint: what an operator's alarms need, and nothing of any participant.

use std::sync::Arc;

use kura_proto::point::KNOWN;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::custody::Known;
use crate::heads::Agreement;
use crate::raft::types::MemberRole;
use crate::serve::removed::newest_membership;
use crate::serve::{Node, heads, majority, own_hello};

/// Serves `/metrics` until the node stops.
pub async fn serve(address: String, node: Arc<Node>) {
    let listener = match TcpListener::bind(&address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%address, %error, "the metrics endpoint cannot listen"),
    };
    let metrics = move || {
        let node = node.clone();
        async move { text(&node) }
    };
    let app = axum::Router::new().route("/metrics", axum::routing::get(metrics));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "the metrics endpoint has ended");
    }
}

/// All gauges in the Prometheus text format.
pub fn text(node: &Node) -> String {
    let own = own_hello(node);
    let published = node.store.published();
    let membership = newest_membership(node);
    let backups = membership.membership().nodes().filter(|(_, member)| member.role == MemberRole::Backup);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let gauges = [
        ("kura_applied_index", "Last applied log index", number(own.applied_index)),
        ("kura_synced_index", "Last log index synced here", number(own.synced_index)),
        ("kura_term", "Raft term", number(own.term)),
        ("kura_is_leader", "1 if this node leads", i64::from(node.leads())),
        ("kura_has_leader", "1 if there is a leader that a majority follows", i64::from(majority::is_led(node))),
        ("kura_unsealed", "1 if this node has its keys", i64::from(own.unsealed)),
        ("kura_trouble", "1 if this node reports trouble", i64::from(!own.trouble.is_empty())),
        (
            "kura_key_alarms",
            "What people have to do about shares of the root key and rotations",
            Known::read(&node.store.database()).map_or(1, |known| known.alarms().len() as i64),
        ),
        (
            "kura_data_keys_closed",
            "Participants' data keys that did not open when they were to be re-wrapped; the leader's",
            number(own.closed_data_keys),
        ),
        ("kura_disk_bytes", "Bytes of state and log", number(own.disk_bytes)),
        ("kura_disk_free_bytes", "Bytes free", number(own.disk_free_bytes)),
        (
            "kura_certificate_not_after_ms",
            "Expiry of this node's certificate, ms since 1970",
            number(own.certificate_not_after_ms),
        ),
        (
            "kura_clock_offset_ms",
            "Offset from the voters' median clock",
            // Before it was compared there is none to tell.
            match node.gateway.clock_offset_ms.load(std::sync::atomic::Ordering::Relaxed) {
                crate::clock::NOT_COMPARED => 0,
                offset_ms => offset_ms,
            },
        ),
        (
            "kura_voters",
            "Voters that vote, in the newest membership known here",
            membership.membership().voter_ids().count() as i64,
        ),
        ("kura_backups", "Backups in it", backups.count() as i64),
        ("kura_journal_entries", "Entries in the journal", number(published.summary.journal.size())),
        ("kura_log_syncs", "Syncs of the Raft log since the start", number(node.log.wal_syncs())),
    ];
    let unopened = node.gateway.unopened.count(&node.store.database()).values().sum::<usize>();
    let unopened = [(
        "kura_rows_unopened",
        "Stored rows that are whole and did not open when they were read since the start, 100 and more as 100",
        unopened as i64,
    )];
    let agreements = heads::agreements(node);
    let count = |is: fn(&Agreement) -> bool| agreements.values().filter(|agreement| is(agreement)).count() as i64;
    let compared = [
        ("kura_head_index", "Log index of this node's newest head", number(node.heads.newest())),
        (
            "kura_members_equal",
            "Other members whose signed digest is this node's at the same log index",
            count(|agreement| matches!(agreement, Agreement::Equal { .. })),
        ),
        (
            "kura_members_different",
            "Other members whose signed digest is not this node's at the same log index",
            count(|agreement| matches!(agreement, Agreement::Different { .. })),
        ),
        (
            "kura_members_unknown",
            "Other members with whom no digest could be compared lately",
            count(|agreement| matches!(agreement, Agreement::Unknown { .. })),
        ),
    ];
    let archive = node.archive.as_ref().map(|archive| {
        let point = archive.point();
        let check = archive.check().clone();
        [
            ("kura_archive_known", "1 if it is known how far the archive is", i64::from(point.is_some())),
            ("kura_archive_index", "Last archived log index", point.map_or(0, |point| number(point.index))),
            (
                "kura_archive_behind_entries",
                "Applied entries that the archive lacks",
                point.map_or(0, |point| number(own.applied_index.saturating_sub(point.index))),
            ),
            (
                "kura_archive_written_ms",
                "When its newest manifest was written, ms since 1970",
                point.map_or(0, |point| number(point.at_ms)),
            ),
            ("kura_archive_trouble", "1 if the archive cannot be written", i64::from(archive.trouble().is_some())),
            (
                "kura_archive_foreign",
                "1 if what is there was written by nobody whom the cluster knows",
                i64::from(archive.foreign().is_some()),
            ),
            (
                "kura_archive_unchecked_since_ms",
                "Since when a check has not found the archive whole, ms since 1970: the last such check, or the first start",
                number(check.unchecked_since_ms),
            ),
            ("kura_archive_damaged", "1 if its last check found damage", i64::from(check.result == 2)),
            (
                "kura_archive_check_overdue",
                "1 if it was not found whole for three intervals of checks",
                i64::from(!check.overdue.is_empty()),
            ),
        ]
    });
    let lag = node.lag.told().map(|points| {
        let point = points.replication;
        let known = point.state == KNOWN;
        [
            ("kura_lag_alarms", "Lags beyond their limits or unknown", points.alarms.len() as i64),
            ("kura_replication_known", "1 if it is known how far the backup is behind", i64::from(known)),
            (
                "kura_replication_index",
                "Log index up to which the backup is known to have everything: the replication point",
                if known { number(point.index) } else { 0 },
            ),
            ("kura_replication_behind_entries", "Entries that the backup lacks", number(point.entries_behind)),
            ("kura_replication_behind_bytes", "Bytes of commands that it lacks", number(point.bytes_behind)),
            (
                "kura_replication_behind_ms",
                "What was acknowledged longer ago is there",
                number(point.milliseconds_behind),
            ),
        ]
    });
    let scrub = own.scrub.clone().unwrap_or_default();
    let damaged = scrub.result == 2 || !scrub.damage.is_empty();
    let files = [
        ("kura_files_damaged", "1 if files of this member are damaged", i64::from(damaged)),
        (
            "kura_files_damaged_goes_on",
            "1 if it goes on in spite of that, as the others are not enough without it",
            i64::from(!scrub.goes_on_because.is_empty()),
        ),
        (
            "kura_files_checked_ms",
            "When its files were last found whole, ms since 1970",
            if scrub.result == 1 { number(scrub.ended_ms) } else { 0 },
        ),
    ];
    let overdue = [
        (
            "kura_files_unchecked_since_ms",
            "Since when its files were not found whole, ms since 1970: the last such check, or the first start",
            number(scrub.unchecked_since_ms),
        ),
        (
            "kura_files_check_overdue",
            "1 if that is three intervals of checks ago",
            i64::from(!scrub.overdue.is_empty()),
        ),
    ];
    let compared = compared.into_iter().chain(unopened).chain(files).chain(overdue).chain(lag.into_iter().flatten());
    let mut registry = Registry::default();
    for (name, help, value) in gauges.into_iter().chain(compared).chain(archive.into_iter().flatten()) {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let mut out = String::new();
    match encode(&mut out, &registry) {
        Ok(()) => out,
        Err(_) => String::new(),
    }
}
