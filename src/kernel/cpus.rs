//! The machine's CPUs, and the CPUs that a thread may run on.

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Where the kernel lists CPUs (`Documentation/admin-guide/cputopology.rst`).
const FOLDER: &str = "/sys/devices/system/cpu";

/// Number of CPUs that there can ever be. The kernel has a request queue for each. `None` if it cannot be read.
pub(super) fn possible() -> Option<usize> {
    read("possible").map(|cpus| cpus.len())
}

/// CPUs that are online now. `None` if they cannot be read.
pub(super) fn online() -> Option<Vec<usize>> {
    read("online")
}

/// Whether this thread may run on all of `cpus`.
pub(super) fn may_run_on(cpus: &[usize]) -> bool {
    // sched_getaffinity(2) would leave out a CPU that is just going online or offline.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.and_then(parse).is_some_and(|allowed| cpus.iter().all(|cpu| allowed.contains(cpu)))
}

/// Pins this thread to one CPU, if that CPU is online.
pub(super) fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
        // Fails if the CPU is offline. The thread then stays where it may run, and still receives its requests.
        let _ = sched_setaffinity(None, &set);
    }
}

/// Moves this thread back to `cpu` if the kernel moved it away because that CPU went offline.
pub(super) fn return_to(cpu: usize) {
    if sched_getcpu() != cpu {
        pin_to(cpu);
    }
}

/// Runs `work` on the CPU `target`, and moves this thread back to `home` afterwards. `None` if `target` is offline.
pub(super) fn on_cpu<T>(target: usize, home: usize, work: impl FnOnce() -> T) -> Option<T> {
    if sched_getcpu() == target {
        return Some(work());
    }
    pin_to(target);
    let result = (sched_getcpu() == target).then(work);
    pin_to(home);
    result
}

fn read(name: &str) -> Option<Vec<usize>> {
    parse(&std::fs::read_to_string(format!("{FOLDER}/{name}")).ok()?)
}

/// Parses a list like `0-3,8`.
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has more CPUs, so this is not a list of CPUs.
        if last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        for broken in ["", "\n", "a", "1-", "0-99999999"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_machine_has_cpus_online() {
        let online = online().unwrap();
        assert!(!online.is_empty() && online.len() <= possible().unwrap());
        assert!(may_run_on(&[sched_getcpu()]) && !may_run_on(&[usize::MAX]));
    }
}
