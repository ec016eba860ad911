//! Making what a configuration file names, through the mounted tree.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;

use super::super::config_dir;
use super::super::text::{quoted, reason};
use super::entry::{At, Entry, Kind, Wrong};

/// Makes what is not there yet, and gives all of it its settings, owners and modes. The first failure ends it.
pub(super) fn apply(entries: &[Entry], point: &Path) -> Result<(), Wrong> {
    // Each folder before what is in it: a path is longer than that of its folder.
    let mut ordered: Vec<&Entry> = entries.iter().collect();
    ordered.sort_by_key(|entry| (entry.kind != Kind::Folder, entry.path.matches('/').count()));
    for entry in &ordered {
        make(entry, point)?;
        set(entry, point, |key| key != "dead_letter")?;
    }
    // It names a mailbox, which may be a later one.
    for entry in &ordered {
        set(entry, point, |key| key == "dead_letter")?;
    }
    // What is in a folder first: the folder's new owner or mode may be in the way.
    ordered.iter().rev().try_for_each(|entry| hand_over(entry, point))
}

fn make(entry: &Entry, point: &Path) -> Result<(), Wrong> {
    let path = point.join(&entry.path);
    let folder = entry.kind == Kind::Folder;
    // The daemon's umask applies to both.
    let made = if folder {
        rustix::fs::mkdir(&path, Mode::from_raw_mode(0o777))
    } else {
        rustix::fs::mknodat(CWD, &path, FileType::RegularFile, Mode::from_raw_mode(0o666), 0)
    };
    match made {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there =
                fs::symlink_metadata(&path).map_err(|error| cannot("make", entry, entry.line, &error))?;
            if there.is_dir() != folder {
                let (is, wanted) = if folder { ("file", "folder") } else { ("folder", "file") };
                let why = format!("cannot make the {wanted} {}: a {is} has its name", quoted(&entry.path));
                return Err(Wrong::new(entry.line, &why, "choose another name"));
            }
        }
        Err(error) => return Err(cannot("make", entry, entry.line, &error.into())),
    }
    if let Some(At { line, value }) = entry.size {
        let sized = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(value));
        sized.map_err(|error| cannot("give its size to", entry, line, &error))?;
    }
    Ok(())
}

/// Writes the settings whose key is wanted.
fn set(entry: &Entry, point: &Path, wanted: fn(&str) -> bool) -> Result<(), Wrong> {
    let config = point.join("control").join(&entry.path).join("config");
    for (key, At { line, value }) in entry.settings.iter().filter(|(key, _)| wanted(key)) {
        config_dir::store(&config, key, value).map_err(|why| Wrong { line: *line, why })?;
    }
    Ok(())
}

fn hand_over(entry: &Entry, point: &Path) -> Result<(), Wrong> {
    let path = point.join(&entry.path);
    let ids = (&entry.owner, &entry.group);
    if let Some(first) = ids.0.as_ref().or(ids.1.as_ref()) {
        let value = |at: &Option<At<u32>>| at.as_ref().map(|at| at.value);
        chown(&path, value(ids.0), value(ids.1))
            .map_err(|error| cannot("change the owner of", entry, first.line, &error))?;
    }
    // After the owner: a change of that clears the set-ID bits.
    if let Some(At { line, value }) = entry.mode {
        fs::set_permissions(&path, fs::Permissions::from_mode(value))
            .map_err(|error| cannot("change the mode of", entry, line, &error))?;
    }
    Ok(())
}

fn cannot(what: &str, entry: &Entry, line: usize, error: &io::Error) -> Wrong {
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "name the folder that it is in as well: [folders.\"mailboxes/NAME\"]",
        Some(Errno::NOSPC) => "raise the limit: --max-files, --segment-memory or size_max",
        Some(Errno::PERM | Errno::ACCESS) => "mount as root to give files to other users",
        _ => "see what the daemon says: ipcfs mount -f with RUST_LOG=debug",
    };
    Wrong::new(line, &format!("cannot {what} {}: {}", quoted(&entry.path), reason(error)), advice)
}
