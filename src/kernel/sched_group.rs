//! Which scheduling group the daemon belongs to, read from /proc and /sys/fs/cgroup.
//!
//! A process in the root cgroup of the CPU controller belongs to its session's autogroup, if there are autogroups
//! (`sched(7)`). Any other process belongs to the nearest cgroup that has the CPU controller (`cgroups(7)`).

use std::fs;
use std::path::{Path, PathBuf};

use super::scheduling::Group;

const CGROUPS: &str = "/sys/fs/cgroup";

/// The daemon's group. `leads_session`: whether it leads a session, or will before it is used.
pub(super) fn find(leads_session: bool) -> Group {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // PROC_CGROUP_INIT_INO in the kernel's include/linux/proc_ns.h. In another namespace the root is not the real one.
    let sees_all = fs::read_link("/proc/self/ns/cgroup")
        .is_ok_and(|namespace| namespace.as_os_str() == "cgroup:[4026531835]");
    let has_controller = |folder: &Path| folder.join("cpu.weight").exists();
    match cpu_cgroup(&cgroups, sees_all, has_controller) {
        CpuCgroup::Root if leads_session && has_autogroups() => Group::OwnSession,
        CpuCgroup::Own(folder) if is_alone(&folder) => Group::OwnCgroup,
        CpuCgroup::Root | CpuCgroup::Own(_) | CpuCgroup::Other => Group::Shared,
    }
}

/// The cgroup whose CPU time a process uses.
#[derive(Debug, PartialEq, Eq)]
enum CpuCgroup {
    /// The root.
    Root,
    /// The process's own cgroup, at this path.
    Own(PathBuf),
    /// One further up, or an unknown one.
    Other,
}

/// Finds it from `/proc/self/cgroup`. `sees_all`: the process is in the initial cgroup namespace.
fn cpu_cgroup(cgroups: &str, sees_all: bool, has_controller: impl Fn(&Path) -> bool) -> CpuCgroup {
    let mut unified = None;
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.split(',').any(|controller| controller == "cpu") {
            // Version 1. Where its folders are is not worth finding out.
            return if path == "/" && sees_all { CpuCgroup::Root } else { CpuCgroup::Other };
        }
        if controllers.is_empty() {
            unified = Some(path);
        }
    }
    let Some(unified) = unified else {
        // A kernel without cgroups has no groups of them; /proc that is not readable says nothing.
        return if cgroups.is_empty() { CpuCgroup::Other } else { CpuCgroup::Root };
    };
    let own = Path::new(CGROUPS).join(unified.trim_start_matches('/'));
    let mut folder = own.as_path();
    while folder.starts_with(CGROUPS) {
        if has_controller(folder) {
            return if folder == own { CpuCgroup::Own(own) } else { CpuCgroup::Other };
        }
        let Some(parent) = folder.parent() else { break };
        folder = parent;
    }
    if sees_all { CpuCgroup::Root } else { CpuCgroup::Other }
}

/// Whether this process is the only one in a cgroup.
fn is_alone(folder: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|text| text.lines().eq([own.as_str()]))
}

fn has_autogroups() -> bool {
    // Both are there only if the kernel has been built with autogroups.
    let enabled = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").unwrap_or_default();
    enabled.trim() == "1" && Path::new("/proc/self/autogroup").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere(_: &Path) -> bool {
        false
    }

    #[test]
    fn version_1_is_recognized() {
        let hybrid = "9:name=systemd:/\n3:cpuset:/x\n1:cpu,cpuacct:/\n0::/elsewhere\n";
        assert_eq!(cpu_cgroup(hybrid, true, nowhere), CpuCgroup::Root);
        assert_eq!(cpu_cgroup(hybrid, false, nowhere), CpuCgroup::Other);
        assert_eq!(cpu_cgroup("4:cpu:/user\n0::/\n", true, nowhere), CpuCgroup::Other);
        assert_eq!(cpu_cgroup("4:memory:/user\n", true, nowhere), CpuCgroup::Root);
    }

    #[test]
    fn version_2_is_searched_upwards() {
        let own = "0::/system.slice/a:b.service\n";
        let folder = Path::new("/sys/fs/cgroup/system.slice/a:b.service");
        assert_eq!(cpu_cgroup(own, true, |path| path == folder), CpuCgroup::Own(folder.to_owned()));
        let above = |path: &Path| Some(path) == folder.parent();
        assert_eq!(cpu_cgroup(own, true, above), CpuCgroup::Other);
        assert_eq!(cpu_cgroup(own, true, nowhere), CpuCgroup::Root);
        assert_eq!(cpu_cgroup(own, false, nowhere), CpuCgroup::Other);
    }

    #[test]
    fn the_root_of_a_container_is_a_cgroup_like_any_other() {
        let folder = Path::new("/sys/fs/cgroup");
        let found = cpu_cgroup("0::/\n", false, |path| path == folder);
        assert_eq!(found, CpuCgroup::Own(PathBuf::from("/sys/fs/cgroup/")));
    }

    #[test]
    fn nothing_is_concluded_from_nothing() {
        for text in ["", "0::/../outside\n"] {
            assert_eq!(cpu_cgroup(text, false, nowhere), CpuCgroup::Other, "{text}");
        }
        assert_ne!(find(false), Group::OwnSession);
    }
}
