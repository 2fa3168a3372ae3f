//! The figures, for eyes and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::Run;
use super::machine::Machine;
use super::place::{Behind, Disk, Place, Used, disks};
use crate::cli::{Failure, Output, Progress, bytes, table};

/// A row of the nodes' table that is this process.
const OWN: &str = "bench";

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub machine: Machine,
    /// How many voters and backups, and who led at the end.
    pub voters: usize,
    pub backups: usize,
    pub leader: String,
    pub clients: usize,
    pub participants: usize,
    /// Bytes of a small body on average.
    pub body_bytes_mean: u64,
    /// Different small bodies.
    pub bodies: usize,
    pub phases: Vec<Phase>,
    pub nodes: Vec<Node>,
}

/// A phase. Sizes are of plaintext, megabytes are 1,000,000 bytes.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub phase: &'static str,
    pub clients: usize,
    pub seconds: f64,
    pub operations: u64,
    pub operations_per_second: f64,
    pub megabytes_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub errors: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Processor time for one operation, of the nodes and this process, in milliseconds; only where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms_per_operation: Option<f64>,
    /// Processors that something else on this machine kept busy: above a tenth or so, throughput and
    /// times say little; only where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_cores: Option<f64>,
    /// Plaintext of all operations, with those of the warm-up.
    pub plaintext_bytes: u64,
    /// How long the last member took afterwards to have applied everything, or how long was waited.
    pub catch_up_seconds: f64,
    /// Who had not applied everything even then.
    pub behind: Vec<Behind>,
    /// Disk bytes per plaintext byte, all members together; only where bodies were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_per_plaintext: Option<f64>,
    /// Bytes written to disks per plaintext byte, all members together; only where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_per_plaintext: Option<f64>,
    pub members: Vec<Share>,
}

/// A member's, or this process's, part in a phase.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    pub name: String,
    /// Processor time within the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Growth of its files over the phase with its warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<i64>,
    /// Bytes that it sent to disks over the phase with its warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// Most memory that it had held by the end of the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
}

/// A member, or this process.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub name: String,
    pub role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// How things were before a phase.
pub(super) struct Before {
    used: Used,
    disks: Vec<Disk>,
}

impl Before {
    pub async fn look(place: &Place, progress: &Progress) -> Result<Self, Failure> {
        place.archived(progress).await?;
        let now = place.caught_up(progress).await?;
        match now.status {
            Some(status) if now.complete => Ok(Self { used: place.used()?, disks: disks(&status) }),
            _ => {
                let who = now.behind.first().map_or_else(|| "there is no leader".to_owned(), Behind::to_string);
                Err(Failure::failed(format!("after {:.0} s {who}", now.waited.as_secs_f64())))
            }
        }
    }

    /// The figures of the phase that has ended. `writes` tells whether it wrote bodies.
    pub async fn phase(
        self,
        phase: &'static str,
        clients: usize,
        writes: bool,
        run: Run,
        place: &Place,
        progress: &Progress,
    ) -> Result<Phase, Failure> {
        let caught_up = place.caught_up(progress).await?;
        let after = place.used()?;
        let Run { done, seconds, used: (begun, ended) } = run;
        let processes = place.processes();
        let own = processes.len();
        let share = |name: String, nth: Option<usize>, disk_bytes: Option<i64>| Share {
            name,
            cpu_seconds: nth.map(|nth| ended.processes[nth].cpu_seconds - begun.processes[nth].cpu_seconds),
            disk_bytes,
            written_bytes: nth.map(|nth| after.processes[nth].written_bytes - self.used.processes[nth].written_bytes),
            memory_bytes_max: nth.map(|nth| after.processes[nth].memory_bytes_max),
        };
        let mut members: Vec<Share> = Vec::new();
        for Disk { name, bytes } in caught_up.status.as_ref().map(disks).unwrap_or_default() {
            let former = self.disks.iter().find(|former| former.name == name).map_or(0, |former| former.bytes);
            let nth = processes.iter().position(|(known, _)| *known == name);
            members.push(share(name, nth, Some(bytes as i64 - former as i64)));
        }
        let written = members.iter().map(|share| share.written_bytes).sum::<Option<u64>>();
        members.push(share(OWN.to_owned(), Some(own), None));
        let cpu = members.iter().map(|share| share.cpu_seconds).sum::<Option<f64>>();
        let plaintext = done.bytes_of_all;
        let per_plaintext =
            |bytes: Option<f64>| bytes.filter(|_| writes && plaintext > 0).map(|b| b / plaintext as f64);
        let disk: i64 = members.iter().filter_map(|share| share.disk_bytes).sum();
        Ok(Phase {
            phase,
            clients,
            seconds,
            operations: done.operations,
            operations_per_second: done.operations as f64 / seconds,
            megabytes_per_second: done.bytes as f64 / seconds / 1e6,
            p50_ms: done.latencies.within_ms(500),
            p99_ms: done.latencies.within_ms(990),
            max_ms: done.latencies.longest_ms(),
            errors: done.errors,
            first_error: done.first_error,
            cpu_ms_per_operation: cpu.filter(|_| done.operations > 0).map(|cpu| cpu * 1e3 / done.operations as f64),
            other_cores: cpu.map(|cpu| ((ended.busy_seconds - begun.busy_seconds - cpu) / seconds).max(0.0)),
            plaintext_bytes: plaintext,
            catch_up_seconds: caught_up.waited.as_secs_f64(),
            behind: caught_up.behind,
            disk_per_plaintext: per_plaintext(Some(disk as f64)),
            written_per_plaintext: per_plaintext(written.map(|bytes| bytes as f64)),
            members,
        })
    }
}

impl Report {
    /// Adds what the members are like at the end.
    pub async fn finish(&mut self, place: &Place) -> Result<(), Failure> {
        let status = place.status.operations().status().await?;
        for member in &status.members {
            let led = member.raft_id == status.leader_id;
            if led {
                self.leader = member.name.clone();
            }
            let role = match member.role {
                2 => "backup",
                _ if led => "leader",
                _ => "follower",
            };
            self.nodes.push(Node { name: member.name.clone(), role, disk_bytes: Some(member.disk_bytes) });
        }
        self.voters = status.members.iter().filter(|member| member.role != 2).count();
        self.backups = status.members.len() - self.voters;
        self.nodes.push(Node { name: OWN.to_owned(), role: "clients", disk_bytes: None });
        Ok(())
    }

    /// Who did not catch up after which phase.
    pub fn behind(&self) -> impl Iterator<Item = String> {
        let told = |phase: &Phase| {
            let after = format!("{:.0} s after {}", phase.catch_up_seconds, phase.phase);
            phase.behind.iter().map(move |behind| format!("{after} {behind}")).collect::<Vec<_>>()
        };
        self.phases.iter().flat_map(told)
    }

    /// How many operations failed.
    pub fn errors(&self) -> u64 {
        self.phases.iter().flat_map(|phase| phase.errors.values()).sum()
    }

    /// Prints everything.
    pub fn print(&self, output: Output) -> Result<(), Failure> {
        if output.json {
            return output.line(self);
        }
        output.text(&format!(
            "{} cores, a synced write of 4 KiB takes {:.2} ms; {} voters, {} backups; {} participants; {} bodies of {} bytes on average",
            self.machine.cores,
            self.machine.synced_write_ms,
            self.voters,
            self.backups,
            self.participants,
            self.bodies,
            self.body_bytes_mean,
        ))?;
        self.print_phases(output)?;
        self.print_nodes(output)
    }

    fn print_phases(&self, output: Output) -> Result<(), Failure> {
        let mut speed =
            table(&["phase", "clients", "operations/s", "MB/s", "p50 ms", "p99 ms", "max ms", "catch-up s", "errors"]);
        let mut cost = table(&["phase", "disk/plaintext", "written/plaintext", "CPU ms/operation", "other cores"]);
        let ratio = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        for phase in &self.phases {
            let errors: Vec<String> = phase.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            speed.add_row([
                phase.phase.to_owned(),
                phase.clients.to_string(),
                format!("{:.1}", phase.operations_per_second),
                format!("{:.1}", phase.megabytes_per_second),
                format!("{:.2}", phase.p50_ms),
                format!("{:.2}", phase.p99_ms),
                format!("{:.1}", phase.max_ms),
                match phase.behind.is_empty() {
                    true => format!("{:.1}", phase.catch_up_seconds),
                    false => format!("over {:.0}", phase.catch_up_seconds),
                },
                if errors.is_empty() { "0".into() } else { errors.join(", ") },
            ]);
            cost.add_row([
                phase.phase.to_owned(),
                ratio(phase.disk_per_plaintext),
                ratio(phase.written_per_plaintext),
                ratio(phase.cpu_ms_per_operation),
                ratio(phase.other_cores),
            ]);
        }
        output.table(speed)?;
        output.table(cost)
    }

    /// One row for each process and phase: its cores (processor seconds a second), its peak memory so far, and
    /// where bodies were written, disk and written bytes per plaintext byte.
    fn print_nodes(&self, output: Output) -> Result<(), Failure> {
        let mut rows =
            table(&["process", "role", "disk", "phase", "cores", "memory", "disk/plaintext", "written/plaintext"]);
        let size = |count: Option<u64>| count.map_or_else(String::new, bytes);
        let figure = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        for node in &self.nodes {
            for phase in &self.phases {
                let share = phase.members.iter().find(|share| share.name == node.name);
                let per = |count: Option<f64>| {
                    let counts = phase.disk_per_plaintext.is_some();
                    figure(count.filter(|_| counts).map(|count| count / phase.plaintext_bytes as f64))
                };
                rows.add_row([
                    node.name.clone(),
                    node.role.into(),
                    size(node.disk_bytes),
                    phase.phase.to_owned(),
                    figure(share.and_then(|share| share.cpu_seconds).map(|cpu| cpu / phase.seconds)),
                    size(share.and_then(|share| share.memory_bytes_max)),
                    per(share.and_then(|share| share.disk_bytes).map(|count| count as f64)),
                    per(share.and_then(|share| share.written_bytes).map(|count| count as f64)),
                ]);
            }
        }
        output.table(rows)
    }
}
