//! A directory as a queue: a message is written to a file below `tmp/` and renamed into `new/`; a receiver lists
//! `new/` in order of names, and has the message whose name it is the one to unlink. If there is none it waits by
//! inotify. On tmpfs, so that no disk is measured.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::inotify;

use super::{Address, Receiver, Sender};
use crate::clock::now;

pub(super) fn make(path: PathBuf) -> Result<Address> {
    for folder in ["tmp", "new"] {
        fs::create_dir_all(path.join(folder)).context("making a directory queue")?;
    }
    Ok(Address::Folder(path))
}

pub(super) struct Writer {
    path: PathBuf,
    /// Makes names that were never used, in order.
    sent: u64,
}

impl Writer {
    pub(super) fn open(path: &Path) -> Writer {
        Writer { path: path.to_owned(), sent: 0 }
    }
}

impl Sender for Writer {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let name = format!("{:020}-{}-{}", now(), std::process::id(), self.sent);
        self.sent += 1;
        let draft = self.path.join("tmp").join(&name);
        fs::write(&draft, message).context("writing a message's file")?;
        fs::rename(draft, self.path.join("new").join(name)).context("renaming a message's file")
    }
}

pub(super) struct Reader {
    new: PathBuf,
    changes: OwnedFd,
    /// Listed, not taken yet.
    names: VecDeque<OsString>,
    received: Vec<u8>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader> {
        let new = path.join("new");
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC).context("starting inotify")?;
        inotify::add_watch(&changes, &new, inotify::WatchFlags::MOVED_TO).context("watching a directory")?;
        Ok(Reader { new, changes, names: VecDeque::new(), received: Vec::new() })
    }

    /// Lists what is there; waits until something is.
    fn list(&mut self) -> Result<()> {
        loop {
            let mut names: Vec<OsString> =
                fs::read_dir(&self.new)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
            if !names.is_empty() {
                names.sort_unstable();
                self.names = names.into();
                return Ok(());
            }
            // What came after the listing is told of; what came before it wakes once for nothing.
            let mut space = [MaybeUninit::uninit(); 16_384];
            inotify::Reader::new(&self.changes, &mut space).next().context("waiting for a change")?;
        }
    }
}

impl Receiver for Reader {
    fn receive(&mut self) -> Result<&[u8]> {
        loop {
            let Some(name) = self.names.pop_front() else {
                self.list()?;
                continue;
            };
            let path = self.new.join(name);
            let message = fs::read(&path);
            match message.and_then(|message| fs::remove_file(&path).map(|()| message)) {
                Ok(message) => {
                    self.received = message;
                    return Ok(&self.received);
                }
                // Another receiver was first.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("taking a message's file"),
            }
        }
    }
}
