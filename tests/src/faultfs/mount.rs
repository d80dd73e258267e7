//! Mounting and unmounting without a helper program, as root.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duramen_env::SimDisk;
use rustix::mount::{MountFlags, UnmountFlags};

use super::THREADS;
use super::power::Power;
use super::session::{Life, Session};

/// The kernel's name for file systems of this kind.
const KIND: &str = "fuse.duramen-faultfs";

/// Before the process id, in the name of what is mounted.
const SOURCE: &str = "faultfs-";

/// One mount of a disk, from power on to power off.
#[derive(Debug)]
pub(super) struct Mounted {
    path: PathBuf,
    life: Arc<Life>,
}

impl Mounted {
    pub(super) fn new(path: &Path, disk: &SimDisk, power: &Arc<Power>) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let owner = (rustix::process::getuid(), rustix::process::getgid());
        let options = format!(
            "fd={},rootmode=40755,user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            owner.0.as_raw(),
            owner.1.as_raw()
        );
        let source = format!("{SOURCE}{}", std::process::id());
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
        rustix::mount::mount(source, path, KIND, flags, CString::new(options)?.as_c_str())?;
        // From here on a failure must unmount.
        let life = Arc::new(Life::new(Arc::clone(power)));
        let mounted = Self { path: path.to_owned(), life: Arc::clone(&life) };
        let session = Session::new(disk.clone(), life);
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        let acl = fuser::SessionACL::Owner;
        let session = fuser::Session::from_fd(session, device.into(), acl, config)?;
        // The threads end with the last use of the mount; until then they answer, if only EIO.
        drop(session.spawn()?);
        Ok(mounted)
    }

    /// From now on every call fails.
    pub(super) fn cut(&self) {
        self.life.end();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.cut();
        if let Err(error) = unmount(&self.path) {
            crate::campaign::progress(format_args!(
                "could not unmount {}: {error}",
                self.path.display()
            ));
        }
    }
}

/// Takes the mount away from its path at once; the kernel forgets it when nobody uses it any more.
fn unmount(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
}

/// Unmounts what processes that are gone have left.
pub(super) fn sweep() -> io::Result<()> {
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        if let Some((path, process)) = left_behind(line)
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            unmount(path)?;
        }
    }
    Ok(())
}

/// The path and the process of a mount of this kind, from a line of `mountinfo`.
fn left_behind(line: &str) -> Option<(&Path, u32)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    if kind.next()? != KIND {
        return None;
    }
    let process = kind.next()?.strip_prefix(SOURCE)?.parse().ok()?;
    Some((Path::new(place.split(' ').nth(4)?), process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_this_kind_are_recognized() {
        let ours = "57 28 0:44 / /tmp/x/1 rw,nosuid,nodev - fuse.duramen-faultfs faultfs-812 rw";
        assert_eq!(left_behind(ours), Some((Path::new("/tmp/x/1"), 812)));
        let other = "58 28 0:45 / /tmp/y rw,nosuid,nodev - fuse.sshfs host:/ rw,user_id=0";
        assert_eq!(left_behind(other), None);
        assert_eq!(left_behind("22 1 254:0 / / rw,relatime - ext4 /dev/root rw"), None);
    }
}
