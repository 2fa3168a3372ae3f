//! Where everything lies under the directory.

use std::path::{Path, PathBuf};

/// A node's configuration in its folder.
pub(super) const CONFIG: &str = "config.toml";
/// The folder of the backups' archives.
pub(super) const ARCHIVES: &str = "archive";

/// The client configurations that a cluster comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientFile {
    /// An application on the IP-VPN, `application`.
    Application,
    /// An application on the SSL-VPN, `application-ssl`.
    ApplicationSsl,
    /// A registrar.
    Registrar1,
    /// Another registrar.
    Registrar2,
    /// An operator.
    Operator,
    /// An auditor.
    Auditor,
    /// Recovery staff, or a holder of a key share.
    Recovery,
}

impl ClientFile {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Application,
        Self::ApplicationSsl,
        Self::Registrar1,
        Self::Registrar2,
        Self::Operator,
        Self::Auditor,
        Self::Recovery,
    ];

    /// The name: of the files, and in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::ApplicationSsl => "application-ssl",
            Self::Registrar1 => "registrar-1",
            Self::Registrar2 => "registrar-2",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Recovery => "recovery",
        }
    }
}

/// The paths of a cluster on one machine.
#[derive(Debug, Clone)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Under a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Names, roles and ports.
    pub fn plan(&self) -> PathBuf {
        self.directory.join("dev.toml")
    }

    /// Held while a process uses the directory.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("dev.lock")
    }

    /// The CA's folder.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca")
    }

    /// The CA's certificate, the bundle of every node and client.
    pub fn authority_certificate(&self) -> PathBuf {
        self.authority().join("ca.pem")
    }

    /// All nodes' folders.
    pub fn nodes(&self) -> PathBuf {
        self.directory.join("nodes")
    }

    /// A node's folder.
    pub fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// A node's configuration.
    pub fn node_config(&self, name: &str) -> PathBuf {
        self.node(name).join(CONFIG)
    }

    /// A node's data directory.
    pub fn node_data(&self, name: &str) -> PathBuf {
        self.node(name).join("data")
    }

    /// A voter's root key.
    pub fn root_key(&self, name: &str) -> PathBuf {
        self.node(name).join("root.key")
    }

    /// All archives.
    pub fn archives(&self) -> PathBuf {
        self.directory.join(ARCHIVES)
    }

    /// The archive that a backup writes.
    pub fn archive(&self, name: &str) -> PathBuf {
        self.archives().join(name)
    }

    /// What a node and the commands for it printed.
    pub fn node_log(&self, name: &str) -> PathBuf {
        self.node(name).join("log.txt")
    }

    /// The folder of the root key's shares.
    pub fn shares(&self) -> PathBuf {
        self.directory.join("shares")
    }

    /// A holder's share.
    pub fn share(&self, holder: u8) -> PathBuf {
        self.shares().join(format!("holder-{holder}.txt"))
    }

    /// The clients' folder.
    pub fn clients(&self) -> PathBuf {
        self.directory.join("clients")
    }

    /// A client configuration.
    pub fn client(&self, file: ClientFile) -> PathBuf {
        self.clients().join(format!("{}.toml", file.name()))
    }
}
