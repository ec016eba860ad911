//! The mount table, and one mount in it: found again wherever it has been moved, and detached without touching another.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::mount::UnmountFlags;

use crate::codec::{Reader, Writer};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount ID that is never reused.
const UNIQUE_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount ID, as in `/proc/PID/fdinfo`.
    pub id: u64,
    /// The ID of the parent mount.
    pub parent: u64,
    /// `major:minor` of its device, as in `/proc/PID/maps` but decimal.
    pub device: (u32, u32),
    /// The directory of the file system that is mounted: `/`, unless it is a bind mount of a part of it.
    pub root: PathBuf,
    /// The mount point.
    pub point: PathBuf,
    /// `fuse.ipcfs` if the mount is one of ipcfs.
    pub fstype: String,
    /// The mount source; for ipcfs the word `ipcfs`, unless `--source` says otherwise.
    pub source: OsString,
    /// Options of the file system, separated by commas.
    pub options: String,
}

impl Mount {
    /// Whether this program mounted it.
    pub fn is_ipcfs(&self) -> bool {
        self.fstype == "fuse.ipcfs"
            || ((self.fstype == "fuse" || self.fstype.starts_with("fuse.")) && self.source == "ipcfs")
    }

    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let mut after = after.split(' ');
        let id = before.next()?.parse().ok()?;
        let parent = before.next()?.parse().ok()?;
        let (major, minor) = before.next()?.split_once(':')?;
        let root = unescape(before.next()?).into();
        let point = unescape(before.next()?).into();
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some(Mount {
            id,
            parent,
            device,
            root,
            point,
            fstype: after.next()?.to_owned(),
            source: unescape(after.next()?),
            options: after.next().unwrap_or_default().to_owned(),
        })
    }
}

/// All mounts of this process's mount namespace, in the order of the table.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// A mount that this process made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMount {
    device: (u32, u32),
    /// `None` before Linux 5.8 if `/proc` does not tell.
    id: Option<MountId>,
}

/// Which mount a descriptor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MountId {
    /// Never reused.
    Unique(u64),
    /// May be another mount's once this one is gone.
    Reusable(u64),
}

impl OwnMount {
    /// The mount that was just made on `point`, whose requests come by `device`, a descriptor of `/dev/fuse`. Sends no
    /// request: nobody serves them yet. `None` if another file system covers it already, or `/proc` is not mounted.
    pub fn find(device: BorrowedFd<'_>, point: &Path) -> Option<OwnMount> {
        let opened = open(point)?;
        let number = mount_number(opened.as_fd())?;
        let mount = read().ok()?.into_iter().find(|mount| mount.id == number && mount.is_ipcfs())?;
        // Linux 6.11 and later tell which mount a descriptor of the device belongs to.
        let told = fdinfo(device, "fuse_connection:");
        told.is_none_or(|told| told == device_number(mount.device))
            .then(|| OwnMount { device: mount.device, id: MountId::of(opened.as_fd()) })
    }

    /// The device number of its files.
    pub(super) fn device(&self) -> (u32, u32) {
        self.device
    }

    /// As bytes, for another process.
    pub(super) fn save(&self, to: &mut Writer<'_>) {
        to.number(self.device.0).number(self.device.1);
        match self.id {
            None => to.u8(0),
            Some(MountId::Unique(id)) => to.u8(1).number(id),
            Some(MountId::Reusable(id)) => to.u8(2).number(id),
        };
    }

    /// The mount whose bytes these are.
    pub(super) fn restore(from: &mut Reader<'_>) -> Option<OwnMount> {
        let device = (from.number()?, from.number()?);
        let id = match from.u8()? {
            0 => None,
            1 => Some(MountId::Unique(from.number()?)),
            2 => Some(MountId::Reusable(from.number()?)),
            _ => return None,
        };
        Some(OwnMount { device, id })
    }

    /// Whether it lies directly over another ipcfs mount: then two were made on one directory at the same time, and
    /// this is the later one.
    pub fn is_over_another(&self) -> bool {
        let table = read().unwrap_or_default();
        let mut own = table.iter().filter(|mount| mount.device == self.device);
        own.any(|own| {
            table.iter().any(|below| below.id == own.parent && below.point == own.point && below.is_ipcfs())
        })
    }

    /// Detaches it from wherever it is now: its place may have been renamed or moved since. Nothing else is unmounted. Of a
    /// mount that another file system covers, the kernel can only reach the cover: then it is left, and this says so.
    pub fn detach(&self) -> Detached {
        let table = read().unwrap_or_default();
        let mut result = Detached::Absent;
        for mount in table.iter().filter(|mount| mount.device == self.device && mount.root == Path::new("/"))
        {
            match open(&mount.point) {
                Some(opened) if self.id.is_some() && MountId::of(opened.as_fd()) == self.id => {
                    return match unmount(opened.as_fd(), &mount.point) {
                        Ok(()) => Detached::Done,
                        Err(why) => Detached::Failed(mount.point.clone(), why),
                    };
                }
                // A bind mount of ours, which is its maker's to take away, or what covers ours.
                _ if table.iter().any(|over| over.parent == mount.id && over.point == mount.point) => {
                    result = Detached::Covered(mount.point.clone());
                }
                _ => {}
            }
        }
        result
    }
}

/// What became of a mount that was to be detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detached {
    /// It is gone.
    Done,
    /// It was not in the table.
    Absent,
    /// Another file system is mounted over it, here.
    Covered(PathBuf),
    /// It could not be unmounted, here, for this reason.
    Failed(PathBuf, String),
}

/// Detaches exactly this mount, if it is still the topmost on its mount point.
pub fn detach(mount: &Mount) -> Detached {
    let Some(opened) = open(&mount.point) else { return Detached::Absent };
    if mount_number(opened.as_fd()) != Some(mount.id) {
        return Detached::Absent;
    }
    match unmount(opened.as_fd(), &mount.point) {
        Ok(()) => Detached::Done,
        Err(why) => Detached::Failed(mount.point.clone(), why),
    }
}

/// Detaches the mount whose root is open: by the system call, which follows the mount even if its path changes
/// meanwhile, or through fusermount3 for an ordinary user.
fn unmount(root: BorrowedFd<'_>, point: &Path) -> Result<(), String> {
    let link = format!("/proc/self/fd/{}", root.as_raw_fd());
    let Err(refused) = rustix::mount::unmount(link, UnmountFlags::DETACH) else { return Ok(()) };
    let refused = io::Error::from(refused);
    if refused.kind() != io::ErrorKind::PermissionDenied {
        return Err(refused.to_string());
    }
    let arguments =
        [OsStr::new("-u"), OsStr::new("-z"), OsStr::new("-q"), OsStr::new("--"), point.as_os_str()];
    let mut command = Command::new(fusermount());
    let output = command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run fusermount3: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() { refused.to_string() } else { said })
}

/// The program that mounts and unmounts for ordinary users. It is searched in the places where fuser searches it to mount,
/// so that what could be mounted can be unmounted, whatever `PATH` is.
pub fn fusermount() -> PathBuf {
    let name = "fusermount3";
    if let Some(path) = std::env::var_os("FUSERMOUNT_PATH") {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/sbin", "/bin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// The root of the topmost mount on a directory. `O_PATH` sends no request to its daemon.
fn open(point: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(point, flags, Mode::empty()).ok()
}

impl MountId {
    fn of(opened: BorrowedFd<'_>) -> Option<MountId> {
        // Without synchronising: the daemon is not asked for the attributes.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(opened, c"", flags, UNIQUE_ID) {
            Ok(stat) if stat.stx_mask & UNIQUE_ID.bits() != 0 => Some(MountId::Unique(stat.stx_mnt_id)),
            _ => mount_number(opened).map(MountId::Reusable),
        }
    }
}

fn mount_number(opened: BorrowedFd<'_>) -> Option<u64> {
    fdinfo(opened, "mnt_id:")
}

/// A number in `/proc/self/fdinfo`.
fn fdinfo(fd: BorrowedFd<'_>, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

/// A device number as the kernel itself writes it: 12 bits major, 20 bits minor.
pub fn device_number((major, minor): (u32, u32)) -> u64 {
    u64::from(major) << 20 | u64::from(minor)
}

fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    // What is not UTF-8 is escaped here first; `unescape` restores it.
    let line = |line: &[u8]| {
        let mut text = String::with_capacity(line.len());
        for chunk in line.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
        Mount::parse(&text)
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Undoes the kernel's `\ooo`, three octal digits for a blank, tab, newline or backslash.
fn unescape(field: &str) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\').then(|| octal(tail)).flatten();
        if let Some(byte) = code {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..3)?).ok()?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        61 27 0:45 / /mnt/my\\040ipc rw,nosuid,nodev shared:7 master:1 - fuse.ipcfs ipcfs rw,user_id=0\n\
        62 27 0:46 /a\\040b /mnt/a\\134b\\011\\012 rw - fuse ipcfs rw\n\
        63 27 0:47 / /mnt/caf\xe9 rw - fuse.sshfs host: rw\n\
        64 23 0:20 / /sys/fs/fuse/connections rw - fusectl fusectl rw\n\
        65 27 0:48 / /mnt/other rw - tmpfs ipcfs\n\
        66 61 0:49 / /mnt/my\\040ipc rw - fuse.ipcfs whatever rw\n\
        broken line\n";

    #[test]
    fn lines_are_read() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 7);
        assert_eq!(
            (mounts[1].point.as_path(), mounts[1].root.as_path()),
            (Path::new("/mnt/my ipc"), Path::new("/"))
        );
        assert_eq!((mounts[1].id, mounts[1].parent, mounts[1].device), (61, 27, (0, 45)));
        assert_eq!((mounts[1].options.as_str(), mounts[5].options.as_str()), ("rw,user_id=0", ""));
        assert_eq!(
            (mounts[2].point.as_path(), mounts[2].root.as_path()),
            (Path::new("/mnt/a\\b\t\n"), Path::new("/a b"))
        );
        assert_eq!(mounts[3].point.as_os_str().as_encoded_bytes(), b"/mnt/caf\xe9");
    }

    #[test]
    fn ours_are_told_from_others() {
        let ours: Vec<u64> = parse(MOUNTINFO).iter().filter(|m| m.is_ipcfs()).map(|m| m.id).collect();
        assert_eq!(ours, [61, 62, 66]);
    }

    #[test]
    fn only_whole_escapes_are_escapes() {
        for (field, name) in
            [("\\040", " "), ("\\04", "\\04"), ("\\999", "\\999"), ("\\+12", "\\+12"), ("\\", "\\")]
        {
            assert_eq!(unescape(field), name, "{field}");
        }
    }

    #[test]
    fn the_kernels_device_numbers() {
        assert_eq!(device_number((0, 45)), 45);
        assert_eq!(device_number((254, 1)), 0x0fe0_0001);
    }
}
