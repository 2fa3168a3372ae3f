//! `dev.toml`: which members there are and on which ports, so that a restart finds the same.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ports;
use super::{DevError, Layout, MEMBERS_MAX};
use crate::certificates::Role;

/// The members of a cluster on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: String,
    /// Whether the first start came to its end.
    pub complete: bool,
    /// The members, voters first.
    pub members: Vec<Member>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name: of its folder, and in its certificate.
    pub name: String,
    /// Whether it is a backup; else a voter.
    pub backup: bool,
    /// Its port for clients, operators and peers.
    pub port: u16,
    /// Its port for Prometheus.
    pub metrics_port: u16,
}

impl Member {
    /// Where clients, operators and peers reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where Prometheus reaches it.
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        if self.backup { Role::Backup } else { Role::Voter }
    }
}

impl Plan {
    /// A new plan, on free ports.
    ///
    /// # Errors
    /// [`DevError::Members`], [`DevError::Ports`].
    pub fn new(voters: u32, backups: u32, base_port: Option<u16>) -> Result<Self, DevError> {
        if voters == 0 || voters.saturating_add(backups) > MEMBERS_MAX {
            return Err(DevError::Members { voters, backups });
        }
        let names = (1..=voters).map(|i| (format!("voter-{i}"), false));
        let names = names.chain((1..=backups).map(|i| (format!("backup-{i}"), true)));
        let ports = ports::free((voters + backups) as usize * 2, base_port)?;
        let members = names
            .zip(ports.chunks(2))
            .map(|((name, backup), ports)| Member { name, backup, port: ports[0], metrics_port: ports[1] })
            .collect();
        Ok(Self { cluster: "kura-dev".into(), complete: false, members })
    }

    /// Reads the plan of a directory; nothing if there is none.
    ///
    /// # Errors
    /// [`DevError::File`], [`DevError::Plan`].
    pub fn load(layout: &Layout) -> Result<Option<Self>, DevError> {
        let path = layout.plan();
        match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map(Some).map_err(|error| DevError::Plan { path, message: error.to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DevError::file(path)(error)),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`DevError::File`].
    pub fn save(&self, layout: &Layout) -> Result<(), DevError> {
        let path = layout.plan();
        let text =
            toml::to_string(self).map_err(|error| DevError::Plan { path: path.clone(), message: error.to_string() })?;
        replace(&path, &text).map_err(DevError::file(path))
    }

    /// The voters.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.backup)
    }

    /// The backup members.
    pub fn backups(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.backup)
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        assert_eq!(Plan::load(&layout).unwrap(), None);
        let plan = Plan::new(3, 1, None).unwrap();
        plan.save(&layout).unwrap();
        assert_eq!(Plan::load(&layout).unwrap(), Some(plan.clone()));
        let names: Vec<&str> = plan.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["voter-1", "voter-2", "voter-3", "backup-1"]);
        fs::write(layout.plan(), "cluster = 1").unwrap();
        assert!(matches!(Plan::load(&layout), Err(DevError::Plan { .. })));
        for (voters, backups) in [(0, 1), (17, 0), (1, u32::MAX)] {
            assert!(matches!(Plan::new(voters, backups, None), Err(DevError::Members { .. })));
        }
    }
}
