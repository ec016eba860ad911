//! The machine's CPUs, and which of them a thread runs on.

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Where the kernel lists CPUs.
const FOLDER: &str = "/sys/devices/system/cpu";

/// CPUs that there can be, counted: the kernel has a queue for each.
pub(super) fn possible() -> Option<usize> {
    read("possible").map(|cpus| cpus.len())
}

/// CPUs that there are now.
pub(super) fn online() -> Option<Vec<usize>> {
    read("online")
}

/// Whether this thread may run on all of `cpus`.
pub(super) fn may_run_on(cpus: &[usize]) -> bool {
    // Not by sched_getaffinity(2), which leaves out a CPU that is just coming or going.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.and_then(parse).is_some_and(|allowed| cpus.iter().all(|cpu| allowed.contains(cpu)))
}

/// Keeps this thread on one CPU, if that is there.
pub(super) fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
        // Refused where the CPU is offline: the thread stays where it may be, and requests come to it all the same.
        let _ = sched_setaffinity(None, &set);
    }
}

/// Goes back to `cpu`, from which this thread was driven if that went offline.
pub(super) fn return_to(cpu: usize) {
    if sched_getcpu() != cpu {
        stay_on(cpu);
    }
}

/// Does something on CPU `there`, and is back on `home` afterwards. `None` if that CPU is offline.
pub(super) fn on_cpu<T>(there: usize, home: usize, work: impl FnOnce() -> T) -> Option<T> {
    if sched_getcpu() == there {
        return Some(work());
    }
    stay_on(there);
    let result = (sched_getcpu() == there).then(work);
    stay_on(home);
    result
}

fn read(name: &str) -> Option<Vec<usize>> {
    parse(&std::fs::read_to_string(format!("{FOLDER}/{name}")).ok()?)
}

/// `0-3,8`
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has more; what says so is not a list of CPUs.
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
    fn lists() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        for broken in ["", "\n", "a", "1-", "0-99999999"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_machine_has_cpus() {
        let online = online().unwrap();
        assert!(!online.is_empty() && online.len() <= possible().unwrap());
        assert!(may_run_on(&[sched_getcpu()]) && !may_run_on(&[usize::MAX]));
    }
}
