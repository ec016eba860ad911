//! What the daemon holds, as anybody can see it: `control/status`, what users are charged, memory, descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::common::{OTHER, PATIENCE, USER};
use crate::place::Place;

/// Lines of `control/status` that need not come back to what they were: they count since the start, or tell something else.
const PASSING: [&str; 12] = [
    "pid",
    "scheduling",
    "uptime",
    "sent",
    "received",
    "dropped",
    "redelivered",
    "expired",
    "discarded",
    "store_size",
    "store_live",
    "store_syncs",
];

/// By how much the daemon's heap may have grown, in KiB.
const SLACK: u64 = 16 << 10;

/// What the daemon holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// The lines of `control/status`, without the number of nodes.
    status: BTreeMap<String, String>,
    /// Inodes that the kernel may use.
    nodes: u64,
    /// Lines of `control/users/<uid>` of both users that say that something is held for them.
    charged: Vec<String>,
    /// What it has open, files of its threads in /proc aside, which it opens when it first needs them.
    descriptors: Vec<PathBuf>,
    heap: u64,
}

impl Held {
    pub(crate) fn of(place: &Place) -> Held {
        let text = fs::read_to_string(place.path("control/status")).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let pairs = lines.map(|(key, value)| (String::from(key), String::from(value)));
        let mut status: BTreeMap<String, String> =
            pairs.filter(|(key, _)| !PASSING.contains(&key.as_str())).collect();
        let nodes = status.remove("nodes").unwrap().parse().unwrap();
        let charged = [USER, OTHER].iter().flat_map(|user| charged(place, *user)).collect();
        let daemon = place.daemon();
        let all = fs::read_dir(format!("/proc/{daemon}/fd")).unwrap();
        let targets = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let descriptors = targets.filter(|target| !target.starts_with("/proc")).collect();
        Held { status, nodes, charged, descriptors, heap: heap(daemon) }
    }

    /// Waits until the daemon holds no more than this: files of a killed process are closed a little later.
    pub(crate) fn wait_for(&self, place: &Place) {
        let start = Instant::now();
        loop {
            drop_caches();
            let now = Held::of(place);
            if now.status == self.status
                && now.nodes <= self.nodes
                && now.charged.is_empty()
                && now.descriptors.len() <= self.descriptors.len()
                && now.heap <= self.heap + SLACK
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "held: {now:#?}\nand at the start: {self:#?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// What a process has allocated, in KiB. The memory of rings is in a file, and not in this.
fn heap(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn charged(place: &Place, user: u32) -> Vec<String> {
    let text = fs::read_to_string(place.path(format!("control/users/{user}"))).unwrap_or_default();
    let holds = |line: &&str| line.split_once("_used ").is_some_and(|(_, held)| held != "0");
    text.lines().filter(holds).map(|line| format!("{user}: {line}")).collect()
}

/// Has the kernel forget names and inodes that nobody uses: cached ones keep nodes of the daemon alive, with their memory.
pub(crate) fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "2").is_ok()
}
