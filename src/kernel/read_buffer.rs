//! Memory that requests are read into.
//!
//! The kernel sends most requests again that a process has read and not answered before it was killed. A FORGET is never answered and
//! never sent again. So with a history, this memory outlives the process, too: the next daemon finds the FORGET there that was read
//! and is not written down. What is written down has its number in the first word.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::request;
use crate::config::MAX_WRITE;
use crate::sys::history_file::HistoryFile;

/// Size of a buffer, in bytes: the longest request is a WRITE of the greatest size with its headers. The kernel
/// refuses to fill a smaller buffer.
const BUFFER: usize = MAX_WRITE as usize + 4096;

/// Buffers that are kept beside those of the threads that read: between two deaths, as many FORGETs can be read and not written down.
const SPARE: usize = 3;

/// Where requests begin.
const FIRST: u64 = 4096;
/// Hardly any requests but long messages are longer. A store to that memory cannot fail.
const USUAL: u64 = 64 << 10;

/// Memory for one request.
#[derive(Debug)]
pub struct ReadBuffer(Memory);

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    Kept(HistoryFile),
}

impl ReadBuffer {
    /// One that ends with the process.
    pub(super) fn new() -> ReadBuffer {
        ReadBuffer(Memory::Own(vec![0; BUFFER]))
    }

    /// Buffers for `readers` threads, that another process can keep.
    ///
    /// # Errors
    /// Those of memory files.
    pub fn to_keep(readers: usize) -> io::Result<Vec<ReadBuffer>> {
        let new = |_| {
            let file = HistoryFile::new(FIRST + BUFFER as u64)?;
            file.allocate(0, FIRST + USUAL)?;
            Ok(ReadBuffer(Memory::Kept(file)))
        };
        (0..readers + SPARE).map(new).collect()
    }

    /// One that another process has left.
    ///
    /// # Errors
    /// Those of memory files.
    pub fn left(file: OwnedFd) -> io::Result<ReadBuffer> {
        Ok(ReadBuffer(Memory::Kept(HistoryFile::of_file(file)?)))
    }

    /// The file to keep.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Memory::Own(_) => None,
            Memory::Kept(file) => Some(file.file()),
        }
    }

    /// Reads a request, and returns its length.
    pub(super) fn read(&mut self, device: impl AsFd) -> Result<usize, Errno> {
        match &mut self.0 {
            Memory::Own(bytes) => rustix::io::read(device, &mut bytes[..]),
            Memory::Kept(file) => rustix::io::read(device, file.bytes_mut(FIRST, BUFFER as u64)),
        }
    }

    /// The first bytes of what was read.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        match &self.0 {
            Memory::Own(bytes) => bytes.get(..length).unwrap_or_default(),
            Memory::Kept(file) => file.bytes(FIRST, length.min(BUFFER) as u64),
        }
    }

    /// The FORGET that was read and is not written down.
    pub(super) fn forget(&self) -> Option<&[u8]> {
        let Memory::Kept(file) = &self.0 else { return None };
        let bytes = request::forget_of(file.bytes(FIRST, BUFFER as u64))?;
        (file.word(0) != request::unique(bytes)).then_some(bytes)
    }

    /// The FORGET with this number is written down.
    pub(super) fn written(&mut self, unique: u64) {
        if let Memory::Kept(file) = &mut self.0 {
            file.set_word(0, unique);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
    use zerocopy::IntoBytes as _;

    use super::super::abi::{ForgetIn, InHeader, opcode};
    use super::super::left::{leave_out, read_again};
    use super::*;

    fn packet(opcode: u32, unique: u64) -> Vec<u8> {
        let len = (size_of::<InHeader>() + size_of::<ForgetIn>()) as u32;
        let header =
            InHeader { len, opcode, unique, nodeid: 7, uid: 0, gid: 0, pid: 0, total_extlen: 0, padding: 0 };
        [header.as_bytes(), ForgetIn { nlookup: 1 }.as_bytes()].concat()
    }

    /// The daemon dies, and another has its buffers.
    fn die(buffers: &mut Vec<ReadBuffer>) {
        let files: Vec<_> =
            buffers.iter().map(|buffer| buffer.file().unwrap().try_clone_to_owned().unwrap()).collect();
        buffers.clear();
        buffers.extend(files.into_iter().map(|file| ReadBuffer::left(file).unwrap()));
    }

    fn numbers(left: &[super::super::left::LeftRequest]) -> Vec<u64> {
        let mut numbers: Vec<u64> = left.iter().map(super::super::left::LeftRequest::place).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_forget_is_there_for_each_daemon_until_one_has_written_it_down() {
        let mut buffers = ReadBuffer::to_keep(1).unwrap();
        let (kernel, device) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let come = |opcode, unique| {
            send(&kernel, &packet(opcode, unique), SendFlags::empty()).unwrap();
        };
        let devices = [Arc::new(device)];
        come(opcode::FORGET, 2);
        assert_eq!(buffers[0].read(&devices[0]), Ok(48));
        assert!(buffers[0].forget().is_some());
        die(&mut buffers);
        // The second dies before it has written anything.
        come(opcode::BATCH_FORGET, 4);
        come(opcode::GETATTR, 6);
        let mut left = read_again(&devices, &mut buffers).unwrap();
        assert_eq!(numbers(&left), [2, 4, 6]);
        // The third writes the first down.
        die(&mut buffers);
        left = read_again(&devices, &mut buffers).unwrap();
        assert_eq!(numbers(&left), [2, 4], "another request would be sent again");
        buffers[0].written(2);
        die(&mut buffers);
        left = read_again(&devices, &mut buffers).unwrap();
        assert_eq!(numbers(&left), [4]);
        // The fourth has written the other down, and dies before it can note that.
        leave_out(&mut left, &[4].into(), &mut buffers);
        assert!(left.is_empty());
        die(&mut buffers);
        assert!(read_again(&devices, &mut buffers).unwrap().is_empty());
    }

    #[test]
    fn without_a_history_nothing_is_kept() {
        let (kernel, device) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut buffer = ReadBuffer::new();
        send(&kernel, &packet(opcode::FORGET, 2), SendFlags::empty()).unwrap();
        assert_eq!(buffer.read(&device), Ok(48));
        assert_eq!(buffer.bytes(48), packet(opcode::FORGET, 2));
        assert!(buffer.forget().is_none() && buffer.file().is_none());
    }
}
