//! Memory of segments from `memfd_create(2)`: unnamed files in memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fstat,
    ftruncate, memfd_create, open, seek,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::op::{Error, Whence};
use crate::segment::{Memory, Usage};

/// An anonymous file in memory. Its pages are freed with the last descriptor, mapping or backing id of it.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
}

impl Memfd {
    /// Creates an empty file. Since Linux 6.3 it can never be executed.
    ///
    /// # Errors
    /// `NoSpace` if there are too many open files, `NoMemory`, `Io`.
    pub fn new() -> Result<Memfd, Error> {
        let always = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| retry_on_intr(|| memfd_create(c"ipcfs-segment", always | flags));
        let fd = match create(MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            done => done,
        };
        Ok(Memfd { fd: fd.map_err(error)? })
    }
}

/// The file that another process has made with [`Memfd::new`].
impl From<OwnedFd> for Memfd {
    fn from(fd: OwnedFd) -> Memfd {
        Memfd { fd }
    }
}

impl Memory for Memfd {
    fn set_len(&self, len: u64) -> Result<(), Error> {
        retry_on_intr(|| ftruncate(&self.fd, len)).map_err(error)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let at = offset + data.len() as u64;
            // The vector may have more capacity than was asked for. What is read into the excess is cut off below.
            let read = retry_on_intr(|| pread(&self.fd, spare_capacity(&mut data), at)).map_err(error)?;
            if read == 0 {
                break;
            }
        }
        data.truncate(len);
        Ok(data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            match retry_on_intr(|| pwrite(&self.fd, rest, offset + done as u64)).map_err(error)? {
                0 => return Err(Error::Io),
                written => done += written,
            }
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        retry_on_intr(|| fallocate(&self.fd, FallocateFlags::KEEP_SIZE, offset, len)).map_err(error)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Error> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        retry_on_intr(|| fallocate(&self.fd, mode, offset, len)).map_err(error)
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        // This moves the file's position, which nothing else uses: reads and writes pass their offset.
        let from = match whence {
            Whence::Data => SeekFrom::Data(offset),
            Whence::Hole => SeekFrom::Hole(offset),
        };
        retry_on_intr(|| seek(&self.fd, from)).map_err(error)
    }

    fn blocks(&self) -> u64 {
        // This cannot fail for an open descriptor.
        fstat(&self.fd).map_or(0, |stat| stat.st_blocks as u64)
    }

    fn seal_growth(&self) -> Result<(), Error> {
        fcntl_add_seals(&self.fd, SealFlags::GROW).map_err(error)
    }

    fn usage(&self) -> Usage {
        // fcntl(2): a write lease is granted only if the file is not open elsewhere, and a read lease only if it is not open
        // for writing elsewhere. A mapping keeps the file open that it was made through. The descriptor of
        // memfd_create(2) does not count as an open, so the one opened here is the only one of this process.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let Ok(probe) = retry_on_intr(|| open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())) else {
            return Usage::Unknown;
        };
        match lease(&probe, libc::F_WRLCK) {
            Ok(()) => Usage::Unused,
            Err(Errno::AGAIN) => match lease(&probe, libc::F_RDLCK) {
                Ok(()) => Usage::Used,
                Err(Errno::AGAIN) => Usage::Written,
                Err(_) => Usage::Unknown,
            },
            Err(_) => Usage::Unknown,
        }
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

/// Takes a lease and releases it. Nobody can open the file meanwhile and break the lease, because the segment is locked.
#[allow(unsafe_code)]
fn lease(file: &OwnedFd, kind: i32) -> Result<(), Errno> {
    let set = |kind: i32| {
        // SAFETY: F_SETLEASE takes a descriptor, which is borrowed here, and a number. It accesses no memory.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if result == -1 {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
        } else {
            Ok(())
        }
    };
    set(kind)?;
    // If this fails, closing the descriptor releases the lease.
    let _ = set(libc::F_UNLCK);
    Ok(())
}

fn error(errno: Errno) -> Error {
    match errno {
        // Too many open files, in this process or in the system. To the caller, there is no space for one more segment.
        Errno::NOSPC | Errno::MFILE | Errno::NFILE => Error::NoSpace,
        Errno::NOMEM => Error::NoMemory,
        Errno::FBIG => Error::TooBig,
        Errno::NXIO => Error::NoSuchOffset,
        _ => Error::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    #[test]
    fn reads_stop_at_the_end() {
        let memfd = Memfd::new().unwrap();
        memfd.write(3, b"hello").unwrap();
        assert_eq!(memfd.read(0, 100).unwrap(), b"\0\0\0hello");
        assert_eq!(memfd.read(4, 2).unwrap(), b"el");
        assert_eq!(memfd.read(8, 1).unwrap(), b"");
        memfd.set_len(5).unwrap();
        memfd.set_len(7).unwrap();
        assert_eq!(memfd.read(3, 100).unwrap(), b"he\0\0");
        memfd.write(0, b"").unwrap();
    }

    #[test]
    fn megabytes_are_written_in_one_call() {
        let memfd = Memfd::new().unwrap();
        let data: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
        memfd.write(1, &data).unwrap();
        assert_eq!(memfd.read(1, data.len()).unwrap(), data);
    }

    #[test]
    fn memory_is_allocated_and_freed_by_punching_and_truncating() {
        let memfd = Memfd::new().unwrap();
        memfd.set_len(4 * PAGE).unwrap();
        assert_eq!(memfd.blocks(), 0);
        memfd.allocate(PAGE, 2 * PAGE).unwrap();
        assert_eq!(memfd.blocks(), 2 * PAGE / 512);
        memfd.allocate(4 * PAGE, PAGE).unwrap();
        assert_eq!(memfd.blocks(), 3 * PAGE / 512);
        assert_eq!(memfd.read(0, 100_000).unwrap().len() as u64, 4 * PAGE);
        memfd.punch(PAGE, PAGE).unwrap();
        assert_eq!(memfd.blocks(), 2 * PAGE / 512);
        memfd.set_len(4 * PAGE).unwrap();
        assert_eq!(
            memfd.blocks(),
            PAGE / 512,
            "memory beyond the end is freed even if the length stays the same"
        );
        memfd.set_len(0).unwrap();
        assert_eq!(memfd.blocks(), 0);
    }

    #[test]
    fn data_and_holes_are_found() {
        let memfd = Memfd::new().unwrap();
        memfd.write(2 * PAGE, b"x").unwrap();
        memfd.set_len(4 * PAGE).unwrap();
        assert_eq!(memfd.seek(0, Whence::Data), Ok(2 * PAGE));
        assert_eq!(memfd.seek(0, Whence::Hole), Ok(0));
        assert_eq!(memfd.seek(2 * PAGE, Whence::Hole), Ok(3 * PAGE));
        assert_eq!(memfd.seek(3 * PAGE, Whence::Data), Err(Error::NoSuchOffset));
        assert_eq!(memfd.seek(4 * PAGE, Whence::Hole), Err(Error::NoSuchOffset));
    }

    #[test]
    #[allow(unsafe_code)]
    fn usage_tells_whether_the_file_is_open_or_mapped() {
        let memfd = Memfd::new().unwrap();
        memfd.set_len(PAGE).unwrap();
        assert_eq!(memfd.usage(), Usage::Unused);
        let path = format!("/proc/self/fd/{}", memfd.fd.as_raw_fd());
        let reader = std::fs::File::open(&path).unwrap();
        assert_eq!(memfd.usage(), Usage::Used);
        let writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(memfd.usage(), Usage::Written);
        // SAFETY: the memory file belongs to this test, and its length does not change.
        let map = unsafe { memmap2::MmapMut::map_mut(&writer).unwrap() };
        drop((reader, writer));
        assert_eq!(memfd.usage(), Usage::Written, "it is still mapped");
        drop(map);
        assert_eq!(memfd.usage(), Usage::Unused);
    }

    #[test]
    fn a_sealed_file_cannot_grow() {
        let memfd = Memfd::new().unwrap();
        memfd.set_len(PAGE).unwrap();
        memfd.seal_growth().unwrap();
        memfd.seal_growth().unwrap();
        assert_eq!(memfd.set_len(PAGE + 1), Err(Error::Io));
        assert_eq!(pwrite(&memfd.fd, b"xy", PAGE - 1), Ok(1));
        assert_eq!(pwrite(&memfd.fd, b"x", PAGE), Err(Errno::PERM));
        memfd.set_len(0).unwrap();
    }

    #[test]
    fn errors_of_the_kernel_are_converted() {
        let memfd = Memfd::new().unwrap();
        assert_eq!(memfd.allocate(i64::MAX as u64, 1), Err(Error::TooBig));
        assert_eq!(memfd.set_len(u64::MAX), Err(Error::Io));
    }

    #[test]
    fn it_is_closed_on_exec_and_cannot_be_executed() {
        let memfd = Memfd::new().unwrap();
        let fd = memfd.backing().unwrap();
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        // Before Linux 6.3 the mode is 0777.
        assert!([0o666, 0o777].contains(&(fstat(fd).unwrap().st_mode & 0o777)));
    }
}
