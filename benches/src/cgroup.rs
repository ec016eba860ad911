//! A cgroup of its own for a daemon, where the machine has a cgroup v2 tree that can be written.
//!
//! Clients stay in the cgroup of this program, so that a daemon does not share a scheduling group with them, as a
//! system service does not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup that is removed when this is dropped, if its processes have ended.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    /// Whether the cpu controller works in it: only then is it a scheduling group.
    pub schedules: bool,
}

impl Cgroup {
    /// Creates a cgroup as near to the root of the tree as the cpu controller is enabled for; without such a place,
    /// below the cgroup of this program.
    pub fn create() -> Option<Cgroup> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("ipcfs-bench-{}-{number}", std::process::id());
        let (root, own) = (root(&mountinfo)?, own_path(&own)?);
        let mut parents: Vec<PathBuf> = own.ancestors().map(|path| join(&root, path)).collect();
        parents.reverse();
        let enabled = |parent: &Path| {
            fs::read_to_string(parent.join("cgroup.subtree_control"))
                .is_ok_and(|text| text.split_whitespace().any(|controller| controller == "cpu"))
        };
        let with_cpu = parents.iter().filter(|parent| enabled(parent)).map(|parent| (parent, true));
        let candidates = with_cpu.chain(parents.last().map(|parent| (parent, false)));
        candidates
            .map(|(parent, schedules)| Cgroup { dir: parent.join(&name), schedules })
            .find(|cgroup| fs::create_dir(&cgroup.dir).is_ok())
    }

    /// Moves a process with all its threads into the cgroup.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

fn join(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where the cgroup v2 tree is mounted.
fn root(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// The cgroup of this program, from `/proc/self/cgroup`. A path that begins with `/..` is outside of what is mounted.
fn own_path(cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    (!path.starts_with("/..")).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_and_the_own_cgroup_are_found() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(root(mountinfo), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root("30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
        assert_eq!(own_path("1:cpu:/\n0::/user.slice/a\n"), Some("/user.slice/a".into()));
        assert_eq!(own_path("0::/../b\n"), None);
        assert_eq!(
            join(Path::new("/sys/fs/cgroup"), Path::new("/user.slice")),
            Path::new("/sys/fs/cgroup/user.slice")
        );
    }
}
