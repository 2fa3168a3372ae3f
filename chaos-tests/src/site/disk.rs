//! One file system for each node's data directory: ext4 in a file, mounted over a loop device.
//!
//! It can be filled, and cut off from power: the file system stops at once, without writing its
//! journal, so that exactly what was synced is there after the next mount.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::tool::{ToolError, call};

/// What fills the disk.
const BALLAST: &str = "ballast";

/// A node's disk.
#[derive(Debug, Clone)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

fn failed(what: &str, path: &Path) -> impl Fn(io::Error) -> ToolError {
    let command = format!("{what} {}", path.display());
    move |error| ToolError { command: command.clone(), message: error.to_string() }
}

impl Disk {
    /// Makes and mounts one in a node's folder. The image is sparse.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn create(folder: &Path, mib: u64) -> Result<Self, ToolError> {
        let disk = Self { image: folder.join("disk.ext4"), mount: folder.join("disk") };
        fs::create_dir_all(&disk.mount).map_err(failed("make", &disk.mount))?;
        let image = File::create(&disk.image).map_err(failed("make", &disk.image))?;
        image.set_len(mib << 20).map_err(failed("make", &disk.image))?;
        call("mkfs.ext4", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), disk.image.as_os_str()]).await?;
        disk.mount().await?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn mount(&self) -> Result<(), ToolError> {
        call("mount", &["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.mount.as_os_str()]).await.map(drop)
    }

    /// Unmounts it. Nobody may use it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn unmount(&self) -> Result<(), ToolError> {
        call("umount", &[&self.mount]).await.map(drop)
    }

    /// Unmounts it and removes what is on it.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn remove(self) -> Result<(), ToolError> {
        self.unmount().await?;
        fs::remove_file(&self.image).map_err(failed("remove", &self.image))
    }

    /// Cuts the power of the disk. What was not synced is lost, and every use fails until it was
    /// unmounted and mounted again.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn cut_power(&self, helper: &Path) -> Result<(), ToolError> {
        call(&helper.to_string_lossy(), &[&self.mount]).await.map(drop)
    }

    /// Takes all free space.
    ///
    /// # Errors
    /// [`ToolError`] if some is left.
    pub fn fill(&self) -> Result<(), ToolError> {
        let path = self.mount.join(BALLAST);
        let told = failed("fill", &path);
        let file = File::create(&path).map_err(&told)?;
        let mut length = 0;
        // What a file system calls free shrinks unevenly: half of it at a time, while there is any.
        loop {
            let space = fstatvfs(&file).map_err(|error| told(error.into()))?;
            let free = space.f_bavail * space.f_frsize;
            if free < 64 << 10 {
                return Ok(());
            }
            let step = (free / 2).max(32 << 10);
            match fallocate(&file, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(rustix::io::Errno::NOSPC) if free < 4 << 20 => return Ok(()),
                Err(error) => return Err(told(error.into())),
            }
        }
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn empty(&self) -> Result<(), ToolError> {
        let path = self.mount.join(BALLAST);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Lets every write wait, until what is answered is thawed or dropped.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn freeze(&self) -> Result<Frozen, ToolError> {
        call("fsfreeze", &["--freeze".as_ref(), self.mount.as_os_str()]).await?;
        Ok(Frozen(Some(self.mount.clone())))
    }

    /// Bytes that are used.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn used(&self) -> Result<u64, ToolError> {
        let told = failed("look at", &self.mount);
        let space = rustix::fs::statvfs(&self.mount).map_err(|error| told(error.into()))?;
        Ok((space.f_blocks - space.f_bfree) * space.f_frsize)
    }
}

/// A file system that stands still. It must not stay so when the run ends, or the kernel would keep it.
#[derive(Debug)]
pub struct Frozen(Option<PathBuf>);

impl Frozen {
    /// Lets it go on.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn thaw(mut self) -> Result<(), ToolError> {
        let Some(mount) = self.0.take() else { return Ok(()) };
        call("fsfreeze", &["--unfreeze".as_ref(), mount.as_os_str()]).await.map(drop)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(mount) = &self.0 {
            // The run ends with an error of its own.
            let _ = std::process::Command::new("fsfreeze").arg("--unfreeze").arg(mount).status();
        }
    }
}
