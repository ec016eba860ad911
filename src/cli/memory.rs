//! How much memory the daemon may use, and the limits of a mount that follow.
//!
//! What bounds a process: the machine; its control group and all groups above it, of version 1 and 2; `RLIMIT_AS` and
//! `RLIMIT_DATA`. The least counts. In a control group and under a resource limit a process that needs more is killed or
//! fails, so that limits which do not fit are refused before anything is mounted. The machine's memory is shared
//! with others, and swap may extend it: there only `--memory` beyond all of it is refused.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::size;
use crate::config::{Limits, MAX_FILES, MAX_WRITE, MIN_MEMORY, MailboxLimits, PAGE};
use crate::kernel::mount_table;
use crate::sys::heap;

/// Bytes that the daemon needs for itself: program, tables, heap that is free but not given back.
const OWN: u64 = 16 << 20;

/// Bytes of address space of a thread: its stack, and room for one request.
const THREAD: u64 = (2 << 20) + MAX_WRITE as u64 + (1 << 16);

/// Bytes of the buffer into which fuser reads the kernel's first request. It is freed again before the tree answers.
const HANDSHAKE: u64 = (16 << 20) + 4096;

/// Threads beside those that serve.
const OTHER_THREADS: u64 = 4;

/// `--memory` is counted twice: waiting messages, and callers that wait to send.
const RESIDENT: u64 = 2;

/// In address space a text that grows has up to twice its size, and is copied once more when it is sent.
const ADDRESSED: u64 = 4;

/// Bytes that a file or folder needs at most, and the part of the memory that all of them may use.
const FILE: u64 = 2 << 10;
const PART_FOR_FILES: u64 = 4;

/// Files and folders that any daemon has room for.
const MIN_FILES: u64 = 1000;

/// Values of version 1 that mean "no limit".
const UNLIMITED: u64 = 1 << 60;

/// A limit on this process's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    /// What sets it, as in "the memory limit of cgroup /a (memory.max)".
    what: String,
    /// How to raise it.
    raise: String,
    bytes: u64,
    /// What the daemon uses of it before the first message.
    used: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of pages in memory, segments included.
    Group,
    /// Of address space, in which segments have no part.
    Address,
}

/// What bounds the memory of a daemon.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// The machine's memory, without swap.
    machine: u64,
    swap: u64,
    bounds: Vec<Bound>,
}

impl Memory {
    /// Of this process, which will have `threads` that serve.
    pub(super) fn here(threads: usize) -> Memory {
        let info = rustix::system::sysinfo();
        let bytes = |units: u64| units.saturating_mul(u64::from(info.mem_unit));
        let mut bounds = groups();
        bounds.extend(addresses(threads));
        Memory { machine: bytes(info.totalram as u64), swap: bytes(info.totalswap as u64), bounds }
    }

    /// Bytes that the daemon may use.
    pub(super) fn total(&self) -> u64 {
        self.bounds.iter().map(|bound| bound.bytes).fold(self.machine, u64::min)
    }

    /// What sets the least limit, if it is not the machine.
    pub(super) fn least(&self) -> Option<&str> {
        let least = self.bounds.iter().min_by_key(|bound| bound.bytes)?;
        (least.bytes < self.machine).then_some(least.what.as_str())
    }

    /// The memory for messages and for segments: as demanded, or what is left of the least bound. The error says which
    /// bound it does not fit into, and what to do.
    pub(super) fn limits(&self, memory: Option<u64>, segments: Option<u64>) -> Result<Limits, String> {
        let ceiling = self.machine.saturating_add(self.swap);
        if let Some(memory) = memory.filter(|memory| *memory > ceiling) {
            return Err(format!(
                "--memory {} is more than this machine has, {} with swap\n  use --memory {} or less",
                size::show(memory),
                size::show(ceiling),
                size::show(ceiling)
            ));
        }
        let mut for_messages = self.machine / 4;
        let mut for_segments = self.machine / 2;
        let mut files = MAX_FILES;
        for bound in &self.bounds {
            let most = bound.left() / bound.factor();
            if most < MIN_MEMORY {
                let needed = bound.used.saturating_add(MIN_MEMORY * bound.factor());
                return Err(format!(
                    "{} is {}, and the daemon needs {}\n  {}",
                    bound.what,
                    size::show(bound.bytes),
                    size::show(needed.next_multiple_of(1 << 20)),
                    bound.raise
                ));
            }
            if let Some(memory) = memory.filter(|memory| *memory > most) {
                return Err(bound.too_small("--memory", memory, most));
            }
            files = files.min(bound.left() / PART_FOR_FILES / FILE).max(MIN_FILES);
            if bound.kind == Kind::Address {
                for_messages = for_messages.min(most);
                continue;
            }
            let beside = memory.map_or(0, |memory| memory.saturating_mul(RESIDENT));
            let least = MIN_MEMORY * RESIDENT;
            let most_segments = bound.left() - beside.max(least).min(bound.left());
            if let Some(segments) = segments.filter(|segments| *segments > most_segments) {
                return Err(bound.too_small("--segment-memory", segments, most_segments));
            }
            for_segments = for_segments.min(bound.left() / 2).min(most_segments.max(PAGE));
            let left = bound.left() - segments.unwrap_or(0).min(bound.left());
            for_messages = for_messages.min(bound.left() / 4).min(left / RESIDENT);
        }
        Ok(Limits {
            mailbox: MailboxLimits::default(),
            memory: memory.unwrap_or(for_messages.max(MIN_MEMORY)),
            segment_memory: segments.unwrap_or(for_segments.max(PAGE)),
            max_files: files,
            ..Limits::for_machine(self.machine)
        })
    }
}

impl Bound {
    /// Bytes for messages and segments.
    fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }

    fn factor(&self) -> u64 {
        match self.kind {
            Kind::Group => RESIDENT,
            Kind::Address => ADDRESSED,
        }
    }

    fn too_small(&self, option: &str, wanted: u64, most: u64) -> String {
        let most = size::show(most - most % PAGE);
        format!(
            "{option} {} does not fit: {} is {}, and the daemon needs some of it for itself and for callers that wait\n  \
             use {option} {most} or less; or {}",
            size::show(wanted),
            self.what,
            size::show(self.bytes),
            self.raise
        )
    }
}

/// `RLIMIT_AS` and `RLIMIT_DATA`, which the daemon leaves as they are.
fn addresses(threads: usize) -> Vec<Bound> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let now = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let own = OWN + HANDSHAKE + heap::RESERVED as u64 + (threads as u64 + OTHER_THREADS) * THREAD;
    [
        (Resource::As, "VmSize:", "the limit of address space", "ulimit -v"),
        (Resource::Data, "VmData:", "the limit of data memory", "ulimit -d"),
    ]
    .into_iter()
    .filter_map(|(resource, key, what, command)| {
        Some(Bound {
            what: format!("{what} ({command})"),
            raise: format!("raise the limit: {command} unlimited"),
            bytes: getrlimit(resource).current?,
            used: now(key) + own,
            kind: Kind::Address,
        })
    })
    .collect()
}

/// The limits of this process's control groups and those above them.
fn groups() -> Vec<Bound> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let table = mount_table::read().unwrap_or_default();
    let mut bounds = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (fstype, files): (_, &[&str]) = match controllers {
            "" => ("cgroup2", &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("cgroup", &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        let holds = |options: &str| fstype == "cgroup2" || options.split(',').any(|name| name == "memory");
        let mounts = table.iter().filter(|mount| mount.fstype == fstype && holds(&mount.options));
        for mount in mounts {
            bounds.extend(group_bounds(&mount.point, &mount.root, Path::new(path), files));
        }
    }
    bounds
}

/// The limits in the folders of a group and those above it. The file system of groups is mounted on `point`, from its
/// group `root` on: in a container that is often the container's own group.
fn group_bounds(point: &Path, root: &Path, group: &Path, files: &[&str]) -> Vec<Bound> {
    // A group beside the root is shown as `/../x`: then what is mounted is all that can be seen.
    let below = group.strip_prefix(root).unwrap_or(Path::new(""));
    let folders: Vec<PathBuf> = below.ancestors().map(|group| point.join(group)).collect();
    let mut bounds = Vec::new();
    for (folder, group) in folders.iter().zip(below.ancestors()) {
        for file in files {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let Some(bytes) = text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED) else { continue };
            bounds.push(Bound {
                what: format!("the memory limit of control group /{} ({file})", group.display()),
                raise: format!("raise {}", folder.join(file).display()),
                bytes,
                used: OWN,
                kind: Kind::Group,
            });
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn memory(bounds: &[(u64, u64, Kind)]) -> Memory {
        let bound = |(bytes, used, kind): &(u64, u64, Kind)| Bound {
            what: String::from("the test's limit"),
            raise: String::from("raise it"),
            bytes: *bytes,
            used: *used,
            kind: *kind,
        };
        Memory { machine: 8 * GIB, swap: GIB, bounds: bounds.iter().map(bound).collect() }
    }

    fn limits(memory: &Memory, messages: Option<u64>, segments: Option<u64>) -> Result<(u64, u64), String> {
        memory.limits(messages, segments).map(|limits| (limits.memory, limits.segment_memory))
    }

    #[test]
    fn a_machine_alone_gives_a_quarter_and_a_half() {
        let machine = memory(&[]);
        assert_eq!(machine.limits(None, None).unwrap(), Limits::for_machine(8 * GIB));
        assert_eq!(limits(&machine, Some(9 * GIB), Some(100 * GIB)), Ok((9 * GIB, 100 * GIB)), "as demanded");
        let refused = limits(&machine, Some(9 * GIB + 1), None).unwrap_err();
        assert!(refused.contains("more than this machine has, 9G with swap\n  use --memory 9G"), "{refused}");
        assert_eq!((machine.total(), machine.least()), (8 * GIB, None));
    }

    #[test]
    fn in_a_group_all_that_is_promised_fits() {
        let group = memory(&[(GIB, 24 * MIB, Kind::Group), (416 * MIB, 16 * MIB, Kind::Group)]);
        assert_eq!(limits(&group, None, None), Ok((100 * MIB, 200 * MIB)));
        assert_eq!(limits(&group, Some(150 * MIB), None), Ok((150 * MIB, 100 * MIB)));
        assert_eq!(limits(&group, None, Some(300 * MIB)), Ok((50 * MIB, 300 * MIB)));
        assert_eq!(limits(&group, Some(200 * MIB), None), Ok((200 * MIB, PAGE)));
        for (messages, segments, advice) in [
            (Some(201 * MIB), None, "use --memory 200M or less; or raise it"),
            (None, Some(397 * MIB), "use --segment-memory 396M or less; or raise it"),
            (Some(150 * MIB), Some(101 * MIB), "use --segment-memory 100M or less; or raise it"),
        ] {
            let refused = limits(&group, messages, segments).unwrap_err();
            assert!(refused.contains("does not fit: the test's limit is 416M"), "{refused}");
            assert!(refused.ends_with(advice), "{refused}");
        }
        assert_eq!(group.limits(None, None).unwrap().max_files, 51_200, "a quarter of what is left");
        assert_eq!((group.total(), group.least()), (416 * MIB, Some("the test's limit")));
    }

    #[test]
    fn a_limit_of_address_space_bounds_messages_and_not_segments() {
        let tight = memory(&[(140 * MIB, 40 * MIB, Kind::Address)]);
        assert_eq!(limits(&tight, None, None), Ok((25 * MIB, 4 * GIB)));
        assert_eq!(limits(&tight, Some(25 * MIB), None), Ok((25 * MIB, 4 * GIB)));
        assert!(limits(&tight, Some(26 * MIB), None).unwrap_err().contains("use --memory 25M or less"));
    }

    #[test]
    fn what_leaves_no_room_at_all_is_refused_with_what_is_needed() {
        let tiny = memory(&[(19 * MIB, 16 * MIB, Kind::Group)]);
        assert_eq!(
            limits(&tiny, None, None).unwrap_err(),
            "the test's limit is 19M, and the daemon needs 20M\n  raise it"
        );
    }

    #[test]
    fn each_group_above_counts_of_both_versions() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("a/b")).unwrap();
        let write = |file: &str, value: &str| fs::write(mount.path().join(file), value).unwrap();
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1048576\n");
        write("a/b/memory.high", "4096\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("a/memory.limit_in_bytes", "8192\n");
        let found = |root: &str, group: &str, files: &[&str]| {
            let bounds = group_bounds(mount.path(), Path::new(root), Path::new(group), files);
            bounds.into_iter().map(|bound| (bound.bytes, bound.what)).collect::<Vec<_>>()
        };
        let what = |group: &str, file: &str| format!("the memory limit of control group {group} ({file})");
        assert_eq!(
            found("/", "/a/b", &["memory.max", "memory.high"]),
            [(4096, what("/a/b", "memory.high")), (1 << 20, what("/a", "memory.max"))]
        );
        assert_eq!(
            found("/", "/a/b", &["memory.limit_in_bytes"]),
            [(8192, what("/a", "memory.limit_in_bytes"))]
        );
        // In a container: its own group is all that is mounted.
        assert_eq!(found("/pod/x", "/pod/x/a", &["memory.limit_in_bytes"]).len(), 1);
        assert_eq!(found("/", "/../other", &["memory.max"]), []);
    }

    #[test]
    fn this_process_fits() {
        let here = Memory::here(8);
        assert!(here.total() > 0 && here.total() <= here.machine);
        assert!(here.limits(None, None).unwrap().memory >= MIN_MEMORY);
    }
}
