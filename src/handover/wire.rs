//! Bytes and descriptors over a socket between two processes of one mount.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors in one message. The kernel takes 253 (`SCM_MAX_FD`).
const MOST: usize = 128;
/// Longest text.
const LONGEST: u32 = 64 * 1024;

/// Sends bytes.
pub(super) fn send(mut socket: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    socket.write_all(&length.to_le_bytes())?;
    socket.write_all(bytes)
}

/// Receives bytes that [`send`] has sent.
pub(super) fn receive(mut socket: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sends descriptors.
pub(super) fn send_descriptors(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &(descriptors.len() as u64).to_le_bytes())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    for some in descriptors.chunks(MOST) {
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(some));
        retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&[0])], &mut rights, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives descriptors that [`send_descriptors`] has sent.
pub(super) fn receive_descriptors(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let count = receive(socket)?.try_into().map(u64::from_le_bytes);
    let count = count.map_err(|_| io::ErrorKind::InvalidData)?;
    let mut descriptors = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    while (descriptors.len() as u64) < count {
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut rights, flags))?;
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        // A process that may not have so many gets some of them only.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("this process may not have so many open files"));
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn bytes_and_many_descriptors_arrive() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let sent = vec![file.as_fd(); 2 * MOST + 1];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(&one, b"hello").unwrap();
                send_descriptors(&one, &sent).unwrap();
                send_descriptors(&one, &[]).unwrap();
                send(&one, b"").unwrap();
            });
            assert_eq!(receive(&other).unwrap(), b"hello");
            let received = receive_descriptors(&other).unwrap();
            assert_eq!(received.len(), sent.len());
            let number = |file: File| file.metadata().unwrap().rdev();
            let expected = number(File::open("/dev/null").unwrap());
            assert!(received.into_iter().all(|fd| number(File::from(fd)) == expected));
            assert!(receive_descriptors(&other).unwrap().is_empty());
            assert_eq!(receive(&other).unwrap(), b"");
        });
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(send(&one, &vec![0; LONGEST as usize + 1]).is_err());
        (&one).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive(&other).is_err());
        drop(one);
        assert_eq!(receive(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
