//! Segment memory from `memfd_create(2)`: a file of tmpfs that has no name.

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
    /// An empty one. Where the kernel knows how (Linux 6.3), it can never be executed.
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

impl Memory for Memfd {
    fn set_len(&self, len: u64) -> Result<(), Error> {
        retry_on_intr(|| ftruncate(&self.fd, len)).map_err(error)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let at = offset + data.len() as u64;
            // The allocator may have given more room than was asked for; what is read into it is cut below.
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
        // This moves the file's position, which nothing else uses: reads and writes say where.
        let from = match whence {
            Whence::Data => SeekFrom::Data(offset),
            Whence::Hole => SeekFrom::Hole(offset),
        };
        retry_on_intr(|| seek(&self.fd, from)).map_err(error)
    }

    fn blocks(&self) -> u64 {
        // Cannot fail for a descriptor that is open.
        fstat(&self.fd).map_or(0, |stat| stat.st_blocks as u64)
    }

    fn seal_growth(&self) -> Result<(), Error> {
        fcntl_add_seals(&self.fd, SealFlags::GROW).map_err(error)
    }

    fn usage(&self) -> Usage {
        // fcntl(2): a lease for writing is given only to whom nobody else has the file open beside, and one for reading
        // only where nobody has it open for writing. A mapping keeps the file open that it was made through. The
        // memory file itself was never opened, so this descriptor is the only one that is not somebody else's.
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

/// Takes a lease and gives it back. Nobody can open the file meanwhile to break it: the segment is locked.
#[allow(unsafe_code)]
fn lease(file: &OwnedFd, kind: i32) -> Result<(), Errno> {
    let set = |kind: i32| {
        // SAFETY: F_SETLEASE takes a descriptor, which is borrowed here, and a number; it touches no memory.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if result == -1 {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
        } else {
            Ok(())
        }
    };
    set(kind)?;
    // Closing the descriptor would do as well.
    let _ = set(libc::F_UNLCK);
    Ok(())
}

fn error(errno: Errno) -> Error {
    match errno {
        // No descriptor for it, this process's or the system's: to its creator, one more has no room.
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
    fn reads_what_was_written_and_stops_at_the_end() {
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
    fn megabytes_go_in_one_call() {
        let memfd = Memfd::new().unwrap();
        let data: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
        memfd.write(1, &data).unwrap();
        assert_eq!(memfd.read(1, data.len()).unwrap(), data);
    }

    #[test]
    fn memory_is_taken_by_allocating_and_given_back_by_punching_and_cutting() {
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
        assert_eq!(memfd.blocks(), PAGE / 512, "what is behind the end goes even if the end stays");
        memfd.set_len(0).unwrap();
        assert_eq!(memfd.blocks(), 0);
    }

    #[test]
    fn seeks_data_and_holes() {
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
    fn tells_whether_others_have_it_open_or_mapped() {
        let memfd = Memfd::new().unwrap();
        memfd.set_len(PAGE).unwrap();
        assert_eq!(memfd.usage(), Usage::Unused);
        let path = format!("/proc/self/fd/{}", memfd.fd.as_raw_fd());
        let reader = std::fs::File::open(&path).unwrap();
        assert_eq!(memfd.usage(), Usage::Used);
        let writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(memfd.usage(), Usage::Written);
        // SAFETY: the memory file is this test's own, and keeps its length.
        let map = unsafe { memmap2::MmapMut::map_mut(&writer).unwrap() };
        drop((reader, writer));
        assert_eq!(memfd.usage(), Usage::Written, "the mapping is left");
        drop(map);
        assert_eq!(memfd.usage(), Usage::Unused);
    }

    #[test]
    fn once_sealed_nobody_can_make_it_longer() {
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
    fn what_the_kernel_refuses_is_named() {
        let memfd = Memfd::new().unwrap();
        assert_eq!(memfd.allocate(i64::MAX as u64, 1), Err(Error::TooBig));
        assert_eq!(memfd.set_len(u64::MAX), Err(Error::Io));
    }

    #[test]
    fn does_not_outlive_an_exec_and_cannot_be_executed() {
        let memfd = Memfd::new().unwrap();
        let fd = memfd.backing().unwrap();
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        // A kernel before 6.3 creates it with mode 0777.
        assert!([0o666, 0o777].contains(&(fstat(fd).unwrap().st_mode & 0o777)));
    }
}
