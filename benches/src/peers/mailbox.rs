//! A mailbox of ipcfs: a file. The null FUSE server's one file is used the same way.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{Address, Receiver, Sender};

pub(super) fn make(path: PathBuf) -> Result<Address> {
    File::create(&path).context("making a mailbox")?;
    Ok(Address::Mailbox(path))
}

pub(super) struct Writer(File);

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Writer> {
        Ok(Writer(OpenOptions::new().write(true).open(path).context("opening a mailbox to send")?))
    }
}

impl Sender for Writer {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let sent = self.0.write(message).context("sending to a mailbox")?;
        ensure!(sent == message.len(), "a mailbox took {sent} bytes of {}", message.len());
        Ok(())
    }
}

pub(super) struct Reader {
    file: File,
    buffer: Vec<u8>,
}

impl Reader {
    /// For both, as programs do that receive in a loop: no end of file after each message.
    pub(super) fn open(path: &Path, size: usize) -> Result<Reader> {
        let file = OpenOptions::new().read(true).write(true).open(path).context("opening a mailbox")?;
        Ok(Reader { file, buffer: vec![0; size] })
    }

    /// For reading alone: each message has an end of file behind it, which is received as one of no bytes.
    pub(super) fn open_to_read(path: &Path, size: usize) -> Result<Reader> {
        let file = File::open(path).context("opening a mailbox to receive")?;
        Ok(Reader { file, buffer: vec![0; size] })
    }
}

impl Receiver for Reader {
    fn receive(&mut self) -> Result<&[u8]> {
        let length = self.file.read(&mut self.buffer).context("receiving from a mailbox")?;
        Ok(&self.buffer[..length])
    }
}
