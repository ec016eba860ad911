//! A disk for tests. After a power cut it has what was synchronized, and of what was written since any sectors, some of them
//! torn.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::journal::disk::{Disk, DiskFile};
use crate::journal::{Journal, Recovered};

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, FakeFile>,
    /// No file can be made.
    full: bool,
    /// A write would wait.
    busy: bool,
    /// Calls of this kind fail.
    failing: Option<Failing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    Write,
    Sync,
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// What read(2) sees.
    cached: Vec<u8>,
    /// What is on the disk for certain.
    synced: Vec<u8>,
}

#[derive(Debug, Clone)]
struct FakeFile {
    content: Arc<Mutex<Content>>,
    disk: FakeDisk,
}

/// A source of choices.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below.max(1)
    }
}

impl Journal {
    /// On a disk for tests.
    pub(crate) fn on_fake(disk: &FakeDisk) -> (Journal, Vec<Recovered>) {
        Journal::on(Box::new(disk.clone())).unwrap()
    }
}

impl FakeDisk {
    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.0.lock().busy = busy;
    }

    pub(crate) fn set_failing(&self, failing: Option<Failing>) {
        self.0.lock().failing = failing;
    }

    /// Bytes of all files, as long as they were made.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().files.keys().cloned().collect()
    }

    /// The disk after the daemon's death: all that was written is there.
    pub(crate) fn after_kill(&self) -> FakeDisk {
        self.copy(|content| content.cached.clone())
    }

    /// The disk after a power cut.
    pub(crate) fn after_power_cut(&self, choices: &mut Choices) -> FakeDisk {
        self.copy(|content| {
            let mut bytes = content.synced.clone();
            bytes.resize(content.cached.len(), 0);
            for (at, sector) in content.cached.chunks(SECTOR).enumerate() {
                let kept = match choices.next(4) {
                    0 => 0,
                    1 => choices.next(sector.len() as u64) as usize,
                    _ => sector.len(),
                };
                bytes[at * SECTOR..at * SECTOR + kept].copy_from_slice(&sector[..kept]);
            }
            bytes
        })
    }

    /// Flips one bit of what was written. False if that was nothing.
    pub(crate) fn flip(&self, choices: &mut Choices) -> bool {
        let state = self.0.lock();
        let files: Vec<&FakeFile> = state
            .files
            .values()
            .filter(|file| file.content.lock().cached.iter().any(|byte| *byte != 0))
            .collect();
        let Some(file) = files.get(choices.next(files.len() as u64) as usize) else { return false };
        let mut content = file.content.lock();
        let written = content.cached.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let at = choices.next(written) as usize;
        content.cached[at] ^= 1 << choices.next(8);
        true
    }

    fn copy(&self, bytes: impl FnMut(&Content) -> Vec<u8>) -> FakeDisk {
        let copy = FakeDisk::default();
        let mut bytes = bytes;
        for (name, file) in &self.0.lock().files {
            let after = bytes(&file.content.lock());
            let content = Content { cached: after.clone(), synced: after };
            let file = FakeFile { content: Arc::new(Mutex::new(content)), disk: copy.clone() };
            copy.0.lock().files.insert(name.clone(), file);
        }
        copy
    }

    fn get(&self, name: &str) -> io::Result<FakeFile> {
        self.0.lock().files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        if self.0.lock().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; size as usize];
        let content = Content { cached: zeros.clone(), synced: zeros };
        let file = FakeFile { content: Arc::new(Mutex::new(content)), disk: self.clone() };
        assert!(self.0.lock().files.insert(name.to_owned(), file.clone()).is_none(), "{name} is there");
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.get(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.get(from)?;
        self.remove(from)?;
        self.0.lock().files.insert(to.to_owned(), file);
        Ok(())
    }
}

impl DiskFile for FakeFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.disk.0.lock().failing == Some(Failing::Write) {
            return Err(io::ErrorKind::Other.into());
        }
        let (mut content, offset) = (self.content.lock(), offset as usize);
        assert!(offset + bytes.len() <= content.cached.len(), "beyond the room that was made");
        content.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn write_now(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        if self.disk.0.lock().busy {
            return Ok(false);
        }
        self.write_at(bytes, offset).map(|()| true)
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.0.lock().failing == Some(Failing::Sync) {
            return Err(io::ErrorKind::Other.into());
        }
        let mut content = self.content.lock();
        content.synced = content.cached.clone();
        Ok(())
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        Ok(self.content.lock().cached.clone())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let (content, offset) = (self.content.lock(), offset as usize);
        bytes.copy_from_slice(&content.cached[offset..offset + bytes.len()]);
        Ok(())
    }
}
