//! What nodes need of their machines: bounded, however long a run is.

use super::Report;
use super::view::View;
use crate::history::{Action, Machine, Outcome};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let Some(bounds) = view.header.bounds else { return };
    if view.machines.is_empty() {
        return report.add("incomplete", "nobody looked at what the nodes need of their machines");
    }
    let mut written: Vec<(u64, u64)> = Vec::new();
    for operation in &view.operations {
        if let (Action::Put { body_bytes, .. }, Outcome::Committed(_) | Outcome::Unknown { .. }) =
            (&operation.action, &operation.outcome)
        {
            written.push((operation.return_us, *body_bytes));
        }
    }
    for machine in &view.machines {
        let bytes: u64 = written.iter().filter(|(at_us, _)| *at_us <= machine.at_us).map(|(_, bytes)| bytes).sum();
        let disk_max = (bounds.disk_base_mib << 20) + bounds.disk_factor * bytes;
        let node = &machine.node;
        for (what, found, most) in [
            ("MiB of memory", machine.memory_mib, bounds.memory_mib),
            ("descriptors", machine.descriptors, bounds.descriptors),
            ("bytes on disk", machine.disk_bytes, disk_max),
        ] {
            if found > most {
                report.add(
                    "needs",
                    format!("{node} needs {found} {what} at {} µs, at most {most} are right", machine.at_us),
                );
            }
        }
    }
    let most = |of: fn(&Machine) -> u64| view.machines.iter().map(|machine| of(machine)).max().unwrap_or(0);
    report.figure("most memory, MiB", most(|machine| machine.memory_mib));
    report.figure("most descriptors", most(|machine| machine.descriptors));
    report.figure("most disk, MiB", most(|machine| machine.disk_bytes >> 20));
}
