//! Agreement: members that tell digests of one index tell the same.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::view::View;

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let mut digests: BTreeMap<(u64, u64), (&str, &str)> = BTreeMap::new();
    for status in &view.statuses {
        for member in status.members.iter().filter(|member| !member.digest.is_empty()) {
            let key = (status.timeline, member.digest_index);
            let (first, digest) = *digests.entry(key).or_insert((&member.name, &member.digest));
            if digest != member.digest {
                let (name, index) = (&member.name, member.digest_index);
                report.add("digest-differs", format!("{first} and {name} differ at index {index}"));
            }
        }
    }
    let mut settled = 0;
    for status in view.statuses.iter().filter(|status| status.settled) {
        settled += 1;
        let (voters, backups) = view.members_at(status.at_us);
        let all: BTreeSet<&str> = voters.iter().chain(backups).map(String::as_str).collect();
        let equal: BTreeSet<_> = status.members.iter().map(|member| (member.digest_index, &member.digest)).collect();
        let there: BTreeSet<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
        if there != all || equal.len() != 1 || equal.iter().any(|(_, digest)| digest.is_empty()) {
            report.add("digest-differs", format!("a closing check at {} µs lacks a member or a digest", status.at_us));
        }
    }
    let last_operation = view.operations.iter().map(|operation| operation.return_us).max().unwrap_or(0);
    if !view.statuses.iter().any(|status| status.settled && status.at_us >= last_operation) {
        report.add("incomplete", "no closing check of the digests followed the last operation");
    }
    report.figure("checks of all digests", settled);
}
