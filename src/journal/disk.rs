//! What the journal needs of a file system, and the real one. Tests have another that forgets what was not synchronized.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, openat, renameat, unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// A folder that one journal uses.
pub(super) trait Disk: Send + Sync + Debug {
    /// The names of its files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of `size` zeros whose room is certain. It and its name survive a power cut once this returns.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file, for certain once this returns.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// By these another process can use it, with the same lock.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// A file of the journal.
pub(super) trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` if that waits for nothing, as far as the file system can tell. False: they are to be written again.
    fn write_now(&self, bytes: &[u8], offset: u64) -> io::Result<bool>;
    /// Returns when everything written before survives a power cut.
    fn sync(&self) -> io::Result<()>;
    /// All of its bytes.
    fn read_all(&self) -> io::Result<Vec<u8>>;
    /// Reads all of `bytes`.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A folder of a file system, whatever its path means meanwhile.
#[derive(Debug)]
pub(super) struct StoreFolder {
    folder: File,
    /// Locked as long as it is open, here or in a process that has a copy.
    lock: Option<OwnedFd>,
}

const LOCK: &str = "lock";
/// How long the end of a daemon that was killed may take: its last fdatasync(2).
const END: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

fn lock(file: &File) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if start.elapsed() < END => thread::sleep(RETRY),
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a running daemon uses this store"));
            }
            other => return Ok(other?),
        }
    }
}

impl StoreFolder {
    /// Opens a folder that no other daemon uses, and makes it if it is missing. With `read_only`, it may be in use.
    pub(super) fn open(path: &Path, read_only: bool) -> io::Result<StoreFolder> {
        if !read_only
            && let Err(error) = fs::DirBuilder::new().mode(0o700).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let folder = File::open(path)?;
        let about = folder.metadata()?;
        if !about.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let own = rustix::process::geteuid().as_raw();
        if about.mode() & 0o077 != 0 || about.uid() != own {
            let why = "other users may use this folder: it must belong to you and have mode 0700";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let lock = if read_only {
            None
        } else {
            let options =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
            let file = options.open(path.join(LOCK))?;
            lock(&file)?;
            Some(file.into())
        };
        Ok(StoreFolder { folder, lock })
    }

    /// The folder of another process, which has given its [`Disk::descriptors`].
    pub(super) fn of_descriptors(folder: OwnedFd, lock: OwnedFd) -> StoreFolder {
        StoreFolder { folder: folder.into(), lock: Some(lock) }
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        openat(&self.folder, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).map(File::from)
    }
}

impl Disk for StoreFolder {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [self.folder.as_fd()].into_iter().chain(self.lock.as_ref().map(|lock| lock.as_fd())).collect()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let made = match fallocate(&file, FallocateFlags::empty(), 0, size) {
            // A file system without it: zeros take the room.
            Err(Errno::OPNOTSUPP) => write_zeros(&file, size),
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = made.and_then(|()| file.sync_all()).and_then(|()| self.folder.sync_all()) {
            let _ = unlinkat(&self.folder, name, AtFlags::empty());
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(match self.open_file(name, OFlags::RDWR) {
            // To be looked at only.
            Err(Errno::ROFS) => self.open_file(name, OFlags::RDONLY)?,
            other => other?,
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        unlinkat(&self.folder, name, AtFlags::empty())?;
        // The files go in order: one that came back without the next would bring back what that one says is gone.
        self.folder.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.folder, from, &self.folder, to)?;
        self.folder.sync_all()
    }
}

fn write_zeros(file: &File, size: u64) -> io::Result<()> {
    let zeros = [0; 1 << 12];
    let mut done = 0;
    while done < size {
        let part = (size - done).min(zeros.len() as u64) as usize;
        file.write_all_at(zeros.get(..part).unwrap_or_default(), done)?;
        done += part as u64;
    }
    Ok(())
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn write_now(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        match pwritev2(self, &[IoSlice::new(bytes)], offset, ReadWriteFlags::NOWAIT) {
            Ok(written) => Ok(written == bytes.len()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            // Not every file system can tell.
            Err(Errno::OPNOTSUPP) => self.write_all_at(bytes, offset).map(|()| true),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        if self.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "a file of the store was removed"));
        }
        Ok(())
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.metadata()?.len()).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
}
