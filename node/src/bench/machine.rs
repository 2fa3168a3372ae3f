//! What the machine is and what its processes use, as Linux tells it in /proc.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// Synced writes from which the cost of one is told.
const SYNCS: usize = 200;
/// Bytes of each.
const SYNC_BYTES: usize = 4096;
/// Parts of a second in which /proc counts processor time: USER_HZ, 100 on every architecture that
/// this is built for (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine, so that figures of different ones can be compared.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Median time of appending 4 KiB to a file and syncing it, in milliseconds.
    pub synced_write_ms: f64,
}

impl Machine {
    /// Measures; blocking. The disk is the one on which the directory lies.
    ///
    /// # Errors
    /// If the disk cannot be written.
    pub fn measure(directory: &Path) -> io::Result<Self> {
        let path = directory.join("bench-sync.tmp");
        let times = sync_times(&path);
        // Measured or not, the file is of no use to anybody.
        let _ = fs::remove_file(&path);
        let mut times = times?;
        times.sort_unstable_by(f64::total_cmp);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { cores, synced_write_ms: times[SYNCS / 2] })
    }
}

fn sync_times(path: &Path) -> io::Result<Vec<f64>> {
    let mut file = File::create(path)?;
    let block = [0x6bu8; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Seconds that all processors together were busy with anything since the machine was started.
///
/// # Errors
/// If /proc/stat is not as expected.
pub(super) fn busy_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_busy(&stat).ok_or_else(|| io::Error::other("/proc/stat is not as expected"))
}

fn parse_busy(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user and nice.
    let busy = [0, 1, 2, 5, 6, 7].map(|field| ticks.get(field).copied());
    Some(busy.into_iter().sum::<Option<u64>>()? as f64 / TICKS_PER_SECOND)
}

/// What a process has used since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Processor time, user and system.
    pub cpu_seconds: f64,
    /// Bytes that it caused to be sent to disks.
    pub written_bytes: u64,
    /// Most memory that it ever held (VmHWM).
    pub memory_bytes_max: u64,
}

impl Usage {
    /// Of a process; without an id, of this one.
    ///
    /// # Errors
    /// If the process has ended or may not be looked at.
    pub fn of(process: Option<u32>) -> io::Result<Self> {
        let folder = process.map_or_else(|| "/proc/self".to_owned(), |id| format!("/proc/{id}"));
        let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
        let (stat, io, status) = (read("stat")?, read("io")?, read("status")?);
        Self::parse(&stat, &io, &status).ok_or_else(|| io::Error::other(format!("{folder} is not as expected")))
    }

    fn parse(stat: &str, io: &str, status: &str) -> Option<Self> {
        // The second field is the command in parentheses, which may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // Fields 14 and 15, counted from 1, of which two are gone.
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let number = |text: &str, key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
            written_bytes: number(io, "write_bytes:")?,
            memory_bytes_max: number(status, "VmHWM:")? * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 7 7 20 0 9 0 8124 1920124 310552 18";
        let io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 9\n";
        let status = "Name:\tkura\nVmPeak:\t  99 kB\nVmHWM:\t   12 kB\nVmRSS:\t   11 kB\n";
        let usage = Usage { cpu_seconds: 2.0, written_bytes: 4096, memory_bytes_max: 12 * 1024 };
        assert_eq!(Usage::parse(stat, io, status), Some(usage));
        assert_eq!(Usage::parse("", io, status), None);
        assert_eq!(Usage::parse(stat, "", status), None);
        assert!(Usage::of(None).unwrap().memory_bytes_max > 0);
        assert_eq!(parse_busy("cpu  100 10 20 5000 77 3 4 13 9 9\ncpu0 1 2 3\n"), Some(1.5));
        assert_eq!(parse_busy("cpu  100 10 20\n"), None);
        assert!(busy_seconds().unwrap() > 0.0);
    }

    #[test]
    fn a_sync_costs_time_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::measure(directory.path()).unwrap();
        assert!(machine.cores > 0 && machine.synced_write_ms > 0.0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(Machine::measure(Path::new("/nowhere/at/all")).is_err());
    }
}
