//! The mounts of this process's mount namespace, from `/proc/self/mountinfo`, and whether their daemons respond.
//!
//! Access to a mount sends a request to its daemon, which may be dead (`ENOTCONN` at once) or stopped (no answer ever):
//! [`ask`] does that.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::ask;
use super::text::reason;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The mount ID, as in `/proc/PID/fdinfo`.
    pub(super) id: u64,
    /// The ID of the parent mount.
    pub(super) parent: u64,
    /// `major:minor` of its device, as in `/proc/PID/maps` but decimal.
    pub(super) device: (u32, u32),
    /// The mount point.
    pub(super) point: PathBuf,
    /// `fuse.ipcfs` where fusermount3 mounted it, `fuse` where the daemon did so itself.
    pub(super) fstype: String,
    /// The mount source; for ipcfs the word `ipcfs`.
    pub(super) source: OsString,
}

/// How a mount responds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The daemon answered; this is its `control/status`.
    Live(Status),
    /// Its daemon has exited.
    Dead,
    /// It belongs to another user and was mounted without `--allow-other`: not even root may access it.
    Private,
    /// Its daemon runs but does not respond.
    Silent,
    /// The daemon answered with an error.
    Failing(String),
}

/// The lines `key value` of a status file, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status(Vec<(String, String)>);

impl Mount {
    /// Whether this program mounted it.
    pub(super) fn is_ipcfs(&self) -> bool {
        self.fstype == "fuse.ipcfs"
            || ((self.fstype == "fuse" || self.fstype.starts_with("fuse.")) && self.source == "ipcfs")
    }

    /// Asks the daemon for its status.
    pub(super) fn state(&self) -> State {
        match ask::status(&self.point) {
            None => State::Silent,
            Some(Ok(text)) => State::Live(Status::parse(&text)),
            Some(Err(error)) => match Errno::from_io_error(&error) {
                Some(Errno::NOTCONN | Errno::CONNABORTED) => State::Dead,
                Some(Errno::ACCESS) => State::Private,
                _ => State::Failing(reason(&error)),
            },
        }
    }

    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let mut after = after.split(' ');
        let id = before.next()?.parse().ok()?;
        let parent = before.next()?.parse().ok()?;
        let (major, minor) = before.next()?.split_once(':')?;
        let _root = before.next()?;
        let point = unescape(before.next()?).into();
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some(Mount {
            id,
            parent,
            device,
            point,
            fstype: after.next()?.to_owned(),
            source: unescape(after.next()?),
        })
    }
}

impl State {
    /// The word for it in tables and JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            State::Live(_) => "live",
            State::Dead => "dead",
            State::Private => "private",
            State::Silent => "silent",
            State::Failing(_) => "failing",
        }
    }
}

impl Status {
    /// Reads `key value` lines; a key without a value has an empty one.
    pub(super) fn parse(text: &str) -> Status {
        let pair = |line: &str| {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            (key.to_owned(), value.trim().to_owned())
        };
        Status(text.lines().filter(|line| !line.is_empty()).map(pair).collect())
    }

    /// The first value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, if it is a number; a fraction is cut off.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        value.split_once('.').map_or(value, |(whole, _)| whole).parse().ok()
    }
}

/// A JSON object of the keys whose value is one word, as a number if it is one. Of equal keys the first counts.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let first = self.0.iter().position(|(known, _)| known == key) == Some(index);
            if !first || value.contains(' ') {
                continue;
            }
            let decimal =
                || value.parse().ok().filter(|_: &f64| value.starts_with(|c: char| c.is_ascii_digit()));
            if let Ok(number) = value.parse::<u64>() {
                map.serialize_entry(key, &number)?;
            } else if let Some(number) = decimal() {
                map.serialize_entry(key, &number)?;
            } else {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// All mounts, in the order of the table.
pub(super) fn all() -> Result<Vec<Mount>, String> {
    let bytes = fs::read("/proc/self/mountinfo")
        .map_err(|error| format!("cannot read /proc/self/mountinfo: {}", reason(&error)))?;
    Ok(parse(&bytes))
}

/// The mount whose mount point is `dir`: the topmost, if several are stacked there. Sends a request to a daemon only if
/// the path leads through its mount.
pub(super) fn at<'a>(mounts: &'a [Mount], dir: &Path) -> Option<&'a Mount> {
    let named = |path: PathBuf| mounts.iter().rev().find(|mount| mount.point == path);
    let spelled = || std::path::absolute(dir).ok();
    spelled().and_then(named).or_else(|| named(ask::place(dir)?))
}

/// The innermost mount whose mount point is a prefix of the path. Sends no request to any daemon.
pub(super) fn around<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let path = std::path::absolute(path).ok()?;
    let holds = |mount: &&Mount| path.starts_with(&mount.point);
    mounts.iter().filter(holds).max_by_key(|mount| mount.point.as_os_str().len())
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
        62 27 0:46 / /mnt/a\\134b\\011\\012 rw - fuse ipcfs rw\n\
        63 27 0:47 / /mnt/caf\xe9 rw - fuse.sshfs host: rw\n\
        64 23 0:20 / /sys/fs/fuse/connections rw - fusectl fusectl rw\n\
        65 27 0:48 / /mnt/other rw - tmpfs ipcfs rw\n\
        66 61 0:49 / /mnt/my\\040ipc rw - fuse.ipcfs whatever rw\n\
        broken line\n";

    #[test]
    fn lines_are_read() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 7);
        assert_eq!(mounts[1].point, Path::new("/mnt/my ipc"));
        assert_eq!((mounts[1].id, mounts[1].parent, mounts[1].device), (61, 27, (0, 45)));
        assert_eq!(mounts[2].point, Path::new("/mnt/a\\b\t\n"));
        assert_eq!(mounts[3].point.as_os_str().as_encoded_bytes(), b"/mnt/caf\xe9");
    }

    #[test]
    fn ours_are_told_from_others() {
        let ours: Vec<u64> = parse(MOUNTINFO).iter().filter(|m| m.is_ipcfs()).map(|m| m.id).collect();
        assert_eq!(ours, [61, 62, 66]);
    }

    #[test]
    fn the_topmost_mount_counts() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(at(&mounts, Path::new("/mnt/my ipc/")).map(|m| m.id), Some(66));
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
    fn status_lines() {
        let status =
            Status::parse("version 0.1.0\ndepth 3\nuptime 7.25\nmost max\n\nempty\nwaiting pid 5\ndepth 4\n");
        assert_eq!(status.get("version"), Some("0.1.0"));
        assert_eq!((status.number("depth"), status.number("uptime")), (Some(3), Some(7)));
        assert_eq!(status.number("most"), None);
        assert_eq!((status.get("empty"), status.get("nothing")), (Some(""), None));
        assert_eq!(status.get("waiting"), Some("pid 5"));
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"version":"0.1.0","depth":3,"uptime":7.25,"most":"max","empty":""}"#
        );
    }

    #[test]
    fn the_innermost_mount_is_around() {
        let mounts = parse(MOUNTINFO);
        for (path, id) in [("/etc", 27), ("/mnt/my ipc/a/b", 66), ("/mnt/my ipcs", 27), ("/mnt/other", 65)] {
            assert_eq!(around(&mounts, Path::new(path)).map(|m| m.id), Some(id), "{path}");
        }
    }
}
