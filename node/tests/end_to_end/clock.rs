//! A wall clock that can be set, for real processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use kura_node::dev::Layout;
use tempfile::TempDir;

use super::world::{KURA, folder};

/// Its source rides in the test: a cached test binary may come from a checkout that is gone.
const SHIM: &str = include_str!("clock_shim.cc");

/// A clock that can be set.
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// Builds what shifts a process's clock, with the C++ compiler that RocksDB needs as well.
    pub fn new() -> Clock {
        let clock = Clock { folder: folder() };
        clock.set(0);
        fs::write(clock.path("shim.cc"), SHIM).expect("the shim's source is written");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let mut build = Command::new(&compiler);
        build.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.path("shim.so")).arg(clock.path("shim.cc"));
        let built = build.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the clock so far ahead of the machine's.
    pub fn set(&self, ahead_ms: i64) {
        // Whole, so that no reader ever finds half a number.
        fs::write(self.path("new"), ahead_ms.to_string()).unwrap();
        fs::rename(self.path("new"), self.path("ahead")).unwrap();
    }

    /// Says on a node's machine, by this clock, that it is right.
    pub fn say_right(&self, layout: &Layout, node: &str) {
        let mut say = Command::new(self.path("kura"));
        let said = say
            .args(["node", "clock-is-right", "--config"])
            .arg(layout.node_config(node))
            .current_dir(layout.node(node))
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// An executable that is `kura`, and for the nodes of this name (`*`: all of them) `kura` by this clock.
    pub fn kura(&self, node: &str) -> PathBuf {
        let (shim, ahead) = (self.path("shim.so"), self.path("ahead"));
        let script = format!(
            "#!/bin/sh\ncase \"$PWD\" in */{node}) export LD_PRELOAD='{}' KURA_TEST_CLOCK='{}' ;; esac\n\
             exec '{KURA}' \"$@\"\n",
            shim.display(),
            ahead.display()
        );
        let path = self.path("kura");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}
