//! The directory to mount on: what must hold before mounting, and the error message if it does not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::claim::Claim;
use super::machine;
use super::mounts::{self, Mount, State};
use super::text::{escaped, quoted, reason, without_number};
use crate::kernel::mount_table::{self, Detached};

/// Claims and checks the directory and returns its absolute name. A dead ipcfs mount on it is cleared, and `tell` told
/// so.
pub(super) fn prepare(dir: &Path, tell: impl FnOnce(&str)) -> Result<(PathBuf, Claim), String> {
    let claim = Claim::take(dir)?;
    // Only now, so that the mount of whoever had the claim before is among them.
    let mut all = mounts::all()?;
    if let Some(mount) = mounts::at(&all, dir).filter(|mount| mount.is_ipcfs()) {
        match mount.state() {
            State::Dead => clear(mount, tell)?,
            state => return Err(mounted_already(dir, &state)),
        }
        all = mounts::all()?;
        if let Some(mount) = mounts::at(&all, dir).filter(|mount| mount.is_ipcfs()) {
            return Err(mounted_already(dir, &mount.state()));
        }
    }
    let metadata = fs::metadata(dir).map_err(|error| cannot_stat(&all, dir, &error))?;
    if !metadata.is_dir() {
        return Err(format!(
            "cannot mount on {}: it is not a directory\n  choose an empty directory, or create one: mkdir DIR",
            quoted(dir)
        ));
    }
    let dir = fs::canonicalize(dir).map_err(|error| cannot_stat(&all, dir, &error))?;
    check_empty(&dir)?;
    if !machine::is_privileged() {
        check_owner(&dir, &metadata)?;
    }
    Ok((dir, claim))
}

/// Removes a dead mount, and no other that may be there by now.
fn clear(mount: &Mount, tell: impl FnOnce(&str)) -> Result<(), String> {
    let point = quoted(&mount.point);
    match mount_table::detach(mount) {
        Detached::Done => {
            tell(&format!("removed a dead ipcfs mount from {point}: its daemon had exited"));
            Ok(())
        }
        Detached::Failed(_, why) => Err(format!(
            "cannot remove the dead ipcfs mount from {point}: {}\n  as root: umount -l {point}",
            without_number(&why)
        )),
        // Somebody else was faster; what is there now is looked at once more.
        Detached::Absent | Detached::Covered(_) => Ok(()),
    }
}

fn mounted_already(dir: &Path, state: &State) -> String {
    let dir = quoted(dir);
    let also = match state {
        State::Silent => " (its daemon does not respond)".to_owned(),
        State::Private => " (it belongs to another user)".to_owned(),
        State::Failing(why) => format!(" (it fails: {why})"),
        State::Live(_) | State::Dead => String::new(),
    };
    let advice = match state {
        State::Silent => format!("unmount it first: ipcfs umount --lazy {dir}"),
        State::Private => {
            format!("choose another directory, or ask that user or root to unmount it: ipcfs umount {dir}")
        }
        _ => format!("unmount it first: ipcfs umount {dir}"),
    };
    format!("cannot mount on {dir}: an ipcfs mount is already there{also}\n  {advice}")
}

fn cannot_stat(all: &[Mount], dir: &Path, error: &io::Error) -> String {
    let shown = quoted(dir);
    match (Errno::from_io_error(error), fs::read_link(dir)) {
        (Some(Errno::NOENT), Ok(target)) => {
            let target = quoted(dir.parent().unwrap_or(dir).join(target));
            format!(
                "cannot mount on {shown}: it is a symbolic link to {target}, which does not exist\n  create it: mkdir -p {target}"
            )
        }
        (Some(Errno::NOENT), Err(_)) => {
            format!("cannot mount on {shown}: no such directory\n  create it: mkdir -p {shown}")
        }
        (Some(Errno::NOTCONN | Errno::CONNABORTED), _) => dead_end(all, dir),
        _ => format!(
            "cannot mount on {shown}: {}\n  choose an empty directory that you may write to",
            reason(error)
        ),
    }
}

/// A daemon has exited, but not that of an ipcfs mount on `dir` itself.
fn dead_end(all: &[Mount], dir: &Path) -> String {
    let shown = quoted(dir);
    let Some(mount) = mounts::around(all, dir) else {
        return format!(
            "cannot mount on {shown}: the path leads through a FUSE mount whose daemon has exited\n  list the mounts: findmnt -t fuse,fuse.ipcfs"
        );
    };
    let point = quoted(&mount.point);
    let clear = if mount.is_ipcfs() {
        format!("ipcfs umount {point}")
    } else {
        format!("fusermount3 -u -z {point} (or as root: umount -l {point})")
    };
    format!(
        "cannot mount on {shown}: the daemon of the {} mount on {point} has exited\n  unmount it first: {clear}",
        escaped(&mount.fstype)
    )
}

fn check_empty(dir: &Path) -> Result<(), String> {
    let shown = quoted(dir);
    let mut entries = fs::read_dir(dir).map_err(|error| {
        format!(
            "cannot mount on {shown}: cannot check that it is empty: {}\n  choose a directory that you may read and write",
            reason(&error)
        )
    })?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(format!(
            "cannot mount on {shown}: it is not empty, and a mount would hide its contents\n  \
             choose an empty directory, or create one: mkdir {}",
            quoted(dir.join("ipc"))
        )),
    }
}

/// What fusermount3 requires of a directory before it mounts there for an ordinary user.
fn check_owner(dir: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    let shown = quoted(dir);
    let uid = rustix::process::getuid().as_raw();
    let advice = "choose a directory that you own, or mount as root";
    if let Err(error) = rustix::fs::access(dir, Access::WRITE_OK) {
        let why = if error == Errno::ACCESS {
            format!("user {uid} has no write permission there")
        } else {
            reason(&error.into())
        };
        return Err(format!("cannot mount on {shown}: {why}\n  {advice}"));
    }
    if metadata.mode() & 0o1000 != 0 && metadata.uid() != uid {
        return Err(format!(
            "cannot mount on {shown}: it has the sticky bit and is not owned by user {uid}\n  {advice}"
        ));
    }
    Ok(())
}
