//! Where a cluster apart stands: a network namespace and a disk for each node, and small helpers.
//!
//! Invariant: everything here is made inside the run's own namespaces and a directory of its own.

pub mod disk;
pub mod network;
pub mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use disk::Disk;
use network::Network;
use tool::{ToolError, call};

/// What shifts the wall clock of one process; the end-to-end tests have it, too.
const CLOCK_SHIM: &str = include_str!("../../node/tests/end_to_end/clock_shim.cc");

/// What cuts the power of a disk.
const POWER_CUT: &str = include_str!("site/power_cut.cc");

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The words before the command.
    pub before: Vec<String>,
    /// Its further environment.
    pub environment: Vec<(String, PathBuf)>,
}

/// The places of all nodes.
#[derive(Debug)]
pub struct Site {
    /// The nodes' network.
    pub network: Network,
    directory: PathBuf,
    disk_mib: u64,
    disks: BTreeMap<String, Disk>,
    /// The node whose wall clock can be set.
    clock_of: Option<String>,
    /// Whether backups write an archive.
    archives: bool,
    /// Where others reach a node, if that is not the node itself.
    fronts: BTreeMap<String, String>,
}

impl Site {
    /// An empty site in a directory; each node gets a disk of so many MiB.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn open(directory: &Path, disk_mib: u64) -> Result<Self, ToolError> {
        let site = Self {
            network: Network::open().await?,
            directory: directory.to_owned(),
            disk_mib,
            disks: BTreeMap::new(),
            clock_of: None,
            archives: false,
            fronts: BTreeMap::new(),
        };
        let helpers = site.helpers();
        fs::create_dir_all(&helpers)
            .map_err(|error| ToolError { command: "make a folder".into(), message: error.to_string() })?;
        build(&helpers, "power-cut", POWER_CUT, &["-O1"]).await?;
        build(&helpers, "clock-shim.so", CLOCK_SHIM, &["-O1", "-shared", "-fPIC"]).await?;
        Ok(site)
    }

    fn helpers(&self) -> PathBuf {
        self.directory.join("helpers")
    }

    /// The helper that cuts a disk's power.
    pub fn power_cut(&self) -> PathBuf {
        self.helpers().join("power-cut")
    }

    /// Makes a node's place.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn add(&mut self, node: &str, folder: &Path) -> Result<(), ToolError> {
        self.network.add(node).await?;
        let disk = Disk::create(folder, self.disk_mib).await?;
        self.disks.insert(node.to_owned(), disk);
        Ok(())
    }

    /// Has others reach a node at another address than its own, from before it is made.
    pub fn front(&mut self, node: &str, address: &str) {
        self.fronts.insert(node.to_owned(), address.to_owned());
    }

    /// Where others reach a node.
    pub fn reached_at(&self, node: &str) -> String {
        self.fronts.get(node).cloned().unwrap_or_else(|| self.network.address(node))
    }

    /// A node's disk.
    ///
    /// # Errors
    /// [`ToolError`] if it has none.
    pub fn disk(&self, node: &str) -> Result<&Disk, ToolError> {
        let missing = || ToolError { command: format!("the disk of {node}"), message: "there is none".into() };
        self.disks.get(node).ok_or_else(missing)
    }

    /// Unmounts a place's disk, which nobody uses, and removes it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn clear(&mut self, node: &str) -> Result<(), ToolError> {
        let Some(disk) = self.disks.remove(node) else { return Ok(()) };
        disk.remove().await
    }

    /// How a node is started here.
    pub fn launch(&self, node: &str) -> Launch {
        let mut launch = Launch { before: Network::enter(node), environment: Vec::new() };
        // A file at its limit of length is an error then, and not the end of the process.
        launch.before.extend(["env", "--ignore-signal=XFSZ"].map(str::to_owned));
        if self.clock_of.as_deref() == Some(node) {
            launch.environment.push(("LD_PRELOAD".into(), self.helpers().join("clock-shim.so")));
            launch.environment.push(("KURA_TEST_CLOCK".into(), self.clock()));
        }
        launch
    }

    fn clock(&self) -> PathBuf {
        self.helpers().join("clock")
    }

    /// From now on every backup that comes writes an archive, in its folder `archive`.
    pub fn give_archives(&mut self) {
        self.archives = true;
    }

    /// Whether backups write an archive.
    pub fn has_archives(&self) -> bool {
        self.archives
    }

    /// From its next start on this node's wall clock can be set.
    pub fn give_clock(&mut self, node: &str) {
        self.clock_of = Some(node.to_owned());
    }

    /// The node whose clock can be set.
    pub fn clock_of(&self) -> Option<&str> {
        self.clock_of.as_deref()
    }

    /// Sets that clock so far ahead of the machine's.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn set_clock(&self, ahead_ms: i64) -> Result<(), ToolError> {
        let path = self.clock();
        let fresh = path.with_extension("new");
        // Whole, so that no reader ever finds half a number.
        fs::write(&fresh, ahead_ms.to_string())
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|error| ToolError { command: "set the clock".into(), message: error.to_string() })
    }
}

async fn build(folder: &Path, name: &str, source: &str, how: &[&str]) -> Result<(), ToolError> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let text = folder.join(format!("{name}.cc"));
    fs::write(&text, source)
        .map_err(|error| ToolError { command: format!("write {name}.cc"), message: error.to_string() })?;
    let (out, text) = (folder.join(name), text.to_string_lossy().into_owned());
    let out = out.to_string_lossy().into_owned();
    let arguments: Vec<&str> = how.iter().copied().chain(["-o", &out, &text]).collect();
    call(&compiler, &arguments).await.map(drop)
}
