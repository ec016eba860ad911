//! A FIFO. It keeps no messages apart: both sides must know their length.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Address, Receiver, Sender};

pub(super) fn make(path: PathBuf) -> Result<Address> {
    mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).context("making a FIFO")?;
    Ok(Address::Fifo(path))
}

/// Opened for both, so that opening waits for nobody and there is no end of file.
fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).context("opening a FIFO")
}

pub(super) struct Writer(File);

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Writer> {
        Ok(Writer(open(path)?))
    }
}

impl Sender for Writer {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.0.write_all(message).context("writing to a FIFO")
    }
}

pub(super) struct Reader {
    file: File,
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn open(path: &Path, size: usize) -> Result<Reader> {
        Ok(Reader { file: open(path)?, buffer: vec![0; size] })
    }
}

impl Receiver for Reader {
    fn receive(&mut self) -> Result<&[u8]> {
        self.file.read_exact(&mut self.buffer).context("reading from a FIFO")?;
        Ok(&self.buffer)
    }
}
