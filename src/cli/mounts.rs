//! The mounts of this process's mount namespace, from `/proc/self/mountinfo`, and whether their daemons respond.
//!
//! Access to a mount sends a request to its daemon, which may be dead (`ENOTCONN` at once) or stopped (no answer ever):
//! [`ask`] does that.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::ask;
use super::text::reason;
use crate::kernel::mount_table;
pub(super) use crate::kernel::mount_table::Mount;

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

    /// All values of `key`.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
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
    mount_table::read().map_err(|error| format!("cannot read /proc/self/mountinfo: {}", reason(&error)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, parent: u64, point: &str) -> Mount {
        let (fstype, source) = (String::from("fuse.ipcfs"), "ipcfs".into());
        let (root, device, options) = ("/".into(), (0, id as u32), String::new());
        Mount { id, parent, device, root, point: point.into(), fstype, source, options }
    }

    fn table() -> Vec<Mount> {
        vec![
            mount(27, 1, "/"),
            mount(61, 27, "/mnt/my ipc"),
            mount(65, 27, "/mnt/other"),
            mount(66, 61, "/mnt/my ipc"),
        ]
    }

    #[test]
    fn the_topmost_mount_counts() {
        let mounts = table();
        assert_eq!(at(&mounts, Path::new("/mnt/my ipc/")).map(|m| m.id), Some(66));
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
        let mounts = table();
        for (path, id) in [("/etc", 27), ("/mnt/my ipc/a/b", 66), ("/mnt/my ipcs", 27), ("/mnt/other", 65)] {
            assert_eq!(around(&mounts, Path::new(path)).map(|m| m.id), Some(id), "{path}");
        }
    }
}
