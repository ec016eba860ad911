//! The processes that keep a mount busy. The search sends no request to the daemon, so that a stopped daemon cannot
//! block it: `/proc` shows the mount of each descriptor and the device of each mapping.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{Mode, OFlags};

use super::mounts::Mount;
use super::text::escaped;

/// A process that uses the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its process ID.
    pub(super) pid: u32,
    /// Its name, as `ps` shows it, safe for a terminal.
    pub(super) command: String,
    /// The files it uses: open, mapped, working directory, root or executable.
    pub(super) paths: BTreeSet<PathBuf>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The processes found, in the order of their process IDs.
    pub(super) holders: Vec<Holder>,
    /// How many processes this user may not inspect.
    pub(super) hidden: usize,
}

/// Searches all processes.
pub(super) fn search(mount: &Mount) -> Search {
    let mut search = Search::default();
    let Ok(entries) = fs::read_dir("/proc") else {
        return search;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // This process inherited what it has open from a process that is listed, and is about to exit.
        if pid == process::id() {
            continue;
        }
        match held_by(&entry.path(), mount) {
            Ok(paths) if paths.is_empty() => {}
            Ok(paths) => {
                let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                search.holders.push(Holder { pid, command: escaped(command.trim_end()), paths });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => search.hidden += 1,
            // The process has exited since.
            Err(_) => {}
        }
    }
    search.holders.sort_by_key(|holder| holder.pid);
    search
}

/// One process of each other mount namespace that has the mount, as a container has that was started while it was there.
/// Such a copy keeps the daemon running. Of other users' processes, only root sees it.
pub(super) fn copies(mount: &Mount) -> Vec<Holder> {
    let mut found: BTreeMap<PathBuf, Holder> = BTreeMap::new();
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let (major, minor) = mount.device;
    let device = format!(" {major}:{minor} / ");
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(pid), Ok(namespace)) = (pid, fs::read_link(entry.path().join("ns/mnt"))) else { continue };
        if Some(&namespace) == own.as_ref() || found.contains_key(&namespace) {
            continue;
        }
        let table = fs::read(entry.path().join("mountinfo")).unwrap_or_default();
        if String::from_utf8_lossy(&table).lines().any(|line| line.contains(&device)) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let command = escaped(command.trim_end());
            found.insert(namespace, Holder { pid, command, paths: BTreeSet::new() });
        }
    }
    found.into_values().collect()
}

fn held_by(proc: &Path, mount: &Mount) -> io::Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(proc.join("fd"))? {
        let Ok(entry) = entry else { continue };
        if mount_of_descriptor(proc, &entry) == Some(mount.id) {
            paths.insert(fs::read_link(entry.path()).unwrap_or_else(|_| entry.path()));
        }
    }
    for link in ["cwd", "root", "exe"] {
        let link = proc.join(link);
        if mount_of_link(&link) == Some(mount.id) {
            paths.insert(fs::read_link(&link).unwrap_or(link));
        }
    }
    let maps = fs::read(proc.join("maps"))?;
    paths.extend(String::from_utf8_lossy(&maps).lines().filter_map(|line| mapped(line, mount.device)));
    Ok(paths)
}

fn mount_of_descriptor(proc: &Path, descriptor: &DirEntry) -> Option<u64> {
    mount_in(&fs::read_to_string(proc.join("fdinfo").join(descriptor.file_name())).ok()?)
}

/// Opening the link's target with `O_PATH` sends no request to the daemon; the descriptor's fdinfo names the mount.
fn mount_of_link(link: &Path) -> Option<u64> {
    let opened = rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    mount_in(&fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_raw_fd())).ok()?)
}

fn mount_in(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// The file of a line of `/proc/PID/maps`, if it is on the device: `start-end perms offset major:minor inode path`.
fn mapped(line: &str, device: (u32, u32)) -> Option<PathBuf> {
    let mut fields = line.splitn(6, ' ');
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    if (number(major)?, number(minor)?) != device {
        return None;
    }
    let _inode = fields.next()?;
    Some(PathBuf::from(fields.next()?.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        let line = "7f00-7f10 rw-s 00000000 00:2d 4                          /mnt/ipc/segments/my frame";
        assert_eq!(mapped(line, (0, 45)), Some(PathBuf::from("/mnt/ipc/segments/my frame")));
        assert_eq!(mapped(line, (0, 46)), None);
        assert_eq!(mapped("7f00-7f10 rw-p 00000000 00:00 0 ", (0, 45)), None);
        assert_eq!(mapped("nonsense", (0, 45)), None);
    }

    #[test]
    fn the_mount_of_a_descriptor() {
        assert_eq!(mount_in("pos:\t0\nflags:\t0100000\nmnt_id:\t61\nino:\t4\n"), Some(61));
        assert_eq!(mount_in("pos:\t0\n"), None);
    }

    #[test]
    fn this_process_holds_its_own_files() {
        let dir = fs::canonicalize(".").unwrap();
        let mounts = super::super::mounts::all().unwrap();
        let here = mount_of_link(Path::new("/proc/self/cwd")).unwrap();
        let mount = mounts.iter().find(|mount| mount.id == here).unwrap();
        assert!(held_by(Path::new("/proc/self"), mount).unwrap().contains(&dir));
        assert!(search(mount).holders.iter().all(|holder| holder.pid != process::id()));
    }
}
