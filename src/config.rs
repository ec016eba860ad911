//! The configuration of a mount, validated once: [`Config`], and its limits: [`Limits`].

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::EngineConfig;
use crate::state::saved;

/// Unit of segment memory, in bytes: the page size of most machines.
pub const PAGE: u64 = 4096;

/// Longest message, in bytes, with pages of 4096 bytes and 256 pages in one request: a write may begin anywhere in its
/// first page, so 255 whole pages always fit.
pub const MSGSIZE_CEILING: u32 = 255 * 4096;

/// Most bytes of one WRITE request (`max_write`). Greater than any message.
pub const MAX_WRITE: u32 = 1024 * 1024;

/// Most bytes of one READ request (`max_read`): the kernel prepares that much of a reader's buffer before it asks, and asks
/// for more only after a full answer. It is just above the 128 KiB that the page cache reads at once, and a prime, so that
/// hardly any buffer ends with a piece: whether a read(2) goes on after a full piece is known only of other buffers.
pub const MAX_READ: u32 = 131_101;

/// Most names of one segment.
pub const LINK_MAX: usize = 1000;

/// Longest target of a symbolic link, in bytes: a path with its NUL has 4096.
pub const SYMLINK_MAX: usize = 4095;

/// What a time limit, a delay or a lease can last, in nanoseconds: a millisecond to ten years as humantime counts them.
pub const SPANS: RangeInclusive<u64> = 1_000_000..=10 * 31_557_600 * 1_000_000_000;

/// Longest name of a file, in bytes, as on every Linux file system.
pub const NAME_MAX: usize = 255;

/// Default of `maxmsg`: messages waiting in one mailbox.
pub const MAXMSG: u64 = 10_000;

/// Default of `maxbytes`: bytes waiting in one mailbox.
pub const MAXBYTES: u64 = 64 * 1024 * 1024;

/// Most leases of one open file (`lease.json`) at a time.
pub const LEASES_MAX: usize = 1000;

/// Leases of one open file (`lease.json`) whose messages have so many bytes are the most that it may have.
pub const LEASED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Default of `once_window`: how long a key of `once/<key>` is remembered, in nanoseconds: 2 minutes.
pub const ONCE_WINDOW: u64 = 120_000_000_000;

/// Default of `wholesize`: longest message of the `whole` door, in bytes.
pub const WHOLESIZE: u64 = 64 * 1024 * 1024;

/// Greatest `wholesize`: 1 GiB.
pub const WHOLESIZE_MAX: u64 = 1 << 30;

/// Default of `backlog`: messages waiting for one reader of a topic.
pub const BACKLOG: u64 = 1_000;

/// Highest priority of a message: the least that POSIX requires (`sysconf(_SC_MQ_PRIO_MAX)` − 1 on Linux).
pub const PRIORITY_MAX: u16 = 32_767;

/// Default of `--max-files`: files and folders in one mount. Each needs up to 2 KiB in the daemon.
pub const MAX_FILES: u64 = 1_000_000;

/// Most bytes of extended attributes, names and values, of one file.
pub const XATTR_SPACE: usize = 64 * 1024;

/// Most files open at a time in one mount.
pub const MAX_OPEN: u64 = 1_000_000;

/// Most bytes that open files of `control/` show, in one mount.
pub const MAX_TEXTS: u64 = 64 * 1024 * 1024;

/// Default of `--user-share`: part of each of the mount's limits that one user may take, in percent.
pub const USER_SHARE: u32 = 50;

/// Most byte-range locks and flocks held or awaited in one mount.
pub const MAX_LOCKS: usize = 65_536;

/// Most separate byte ranges that one owner has locked in one file: what a call replaces or a close frees at once.
pub const MAX_LOCKED_RANGES: usize = 3_000;

/// Least `--memory`, in bytes: room for one message of the greatest size, so that an empty mailbox accepts any message.
pub const MIN_MEMORY: u64 = 2 * 1024 * 1024;

/// No limit; `max` in a configuration file.
pub const NO_LIMIT: u64 = u64::MAX;

/// Limits of a new mailbox; `control/mailboxes/<name>/config/` changes them afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Longest message in bytes, 1 to [`MSGSIZE_CEILING`].
    pub msgsize: u32,
    /// Messages waiting, 1 or more, or [`NO_LIMIT`].
    pub maxmsg: u64,
    /// Bytes waiting, 1 or more, or [`NO_LIMIT`]. A longer message is refused with `EMSGSIZE`.
    pub maxbytes: u64,
}

saved!(struct MailboxLimits { msgsize, maxmsg, maxbytes });

impl Default for MailboxLimits {
    fn default() -> MailboxLimits {
        MailboxLimits { msgsize: MSGSIZE_CEILING, maxmsg: MAXMSG, maxbytes: MAXBYTES }
    }
}

/// How segments are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SegmentPath {
    /// Passthrough if it is available, otherwise cached.
    #[default]
    Auto,
    /// The kernel maps the backing memory directly: needs `CAP_SYS_ADMIN` and Linux 6.9.
    Passthrough,
    /// The kernel's page cache holds the memory.
    Cached,
}

/// How requests reach the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportKind {
    /// Over `io_uring` if it is available, otherwise over the device.
    #[default]
    Auto,
    /// Over the device, `/dev/fuse`: always available.
    Dev,
    /// Over `io_uring`: needs Linux 6.14, with FUSE over `io_uring` enabled.
    Uring,
}

/// The limits of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Limits of new mailboxes.
    pub mailbox: MailboxLimits,
    /// Bytes of all messages in all mailboxes, each counted with its overhead.
    pub memory: u64,
    /// Bytes promised to all segments.
    pub segment_memory: u64,
    /// Files and folders.
    pub max_files: u64,
    /// Part of each of these that one user may take, in percent, 1 to 100. Root and the mounting user may take all.
    pub user_share: u32,
}

saved!(struct Limits { mailbox, memory, segment_memory, max_files, user_share });

impl Limits {
    /// The defaults for a daemon that may use `total` bytes of memory: a quarter for messages, half for segments.
    pub fn for_machine(total: u64) -> Limits {
        Limits {
            mailbox: MailboxLimits::default(),
            memory: (total / 4).max(MIN_MEMORY),
            segment_memory: total / 2,
            max_files: MAX_FILES,
            user_share: USER_SHARE,
        }
    }
}

/// Everything that `ipcfs mount` was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory to mount on, absolute.
    pub dir: PathBuf,
    /// The mount's limits.
    pub limits: Limits,
    /// Users other than the mounting one may access the mount.
    pub allow_other: bool,
    /// How segments are mapped.
    pub segments: SegmentPath,
    /// How requests reach the daemon.
    pub transport: TransportKind,
    /// Threads that serve requests over the device, 1 to 64.
    pub threads: usize,
    /// Where durable mailboxes are kept, absolute. `None`: there are none.
    pub store: Option<PathBuf>,
    /// Carries mailboxes that other hosts share. `None`: there are none.
    pub engine: Option<EngineConfig>,
    /// The kernel executes no program in the mount.
    pub noexec: bool,
    /// The source that the mount table shows.
    pub source: String,
    /// The daemon starts a session of its own when the mount is ready.
    pub own_session: bool,
}

/// Parses a span of time: `10s`, `1h 30m`, or a number of seconds. `None` if it is anything else. In nanoseconds.
pub fn parse_time(text: &str) -> Option<u64> {
    let number = text.parse().ok().map(Duration::from_secs);
    let time = number.or_else(|| humantime::parse_duration(text).ok())?;
    Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Parses a size: digits, then optionally K, M, G or T (powers of 1024), then optionally `B` or `iB`.
/// `None` if it is anything else, or more than 2⁶⁴ − 1.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.strip_suffix("iB").or_else(|| suffix.strip_suffix('B')).unwrap_or(suffix) {
        "" if suffix.is_empty() || suffix == "B" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_people_type() {
        let cases =
            [("0", 0), ("17", 17), ("64K", 65536), ("1M", 1 << 20), ("1MiB", 1 << 20), ("2GB", 2 << 30)];
        for (text, number) in cases {
            assert_eq!(parse_size(text), Some(number), "{text}");
        }
        assert_eq!(parse_size("5B"), Some(5));
        for text in [
            "",
            "K",
            "-1",
            "1.5M",
            "1 M",
            "12iB",
            "1Q",
            "99999999999999999999",
            "18446744073709551615K",
            "+1",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
