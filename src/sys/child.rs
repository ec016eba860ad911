//! Starting a program without taking memory, and signals as events.

#![allow(unsafe_code)]

use std::ffi::{CString, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::ptr;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, WaitOptions, waitpid};

/// The descriptor under which a program finds the socket that it is started with.
pub const SOCKET: i32 = 3;

/// A program's arguments and environment, ready to be started any number of times.
#[derive(Debug)]
pub struct Arguments {
    /// What the pointers point to.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// What the program has in `/proc/self/oom_score_adj`, as this process had it.
    oom_score_adj: Option<Vec<u8>>,
}

const OOM_SCORE_ADJ: &std::ffi::CStr = c"/proc/self/oom_score_adj";

impl Arguments {
    /// These arguments, the first of which is the program's name, and the environment of this process.
    ///
    /// # Errors
    /// If an argument contains NUL.
    pub fn new(arguments: Vec<OsString>) -> io::Result<Arguments> {
        let arguments = arguments.into_iter().map(|argument| CString::new(argument.into_vec()));
        let arguments: Vec<CString> = arguments.collect::<Result<_, _>>()?;
        let variable = |(name, value): (OsString, OsString)| {
            CString::new([name.into_vec(), value.into_vec()].join(&b'='))
        };
        let environment: Vec<CString> = std::env::vars_os().map(variable).collect::<Result<_, _>>()?;
        let pointers = |strings: &[CString]| {
            strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>()
        };
        let oom_score_adj = std::fs::read("/proc/self/oom_score_adj").ok();
        Ok(Arguments {
            argv: pointers(&arguments),
            envp: pointers(&environment),
            _strings: arguments.into_iter().chain(environment).collect(),
            oom_score_adj,
        })
    }

    /// Starts `program` with no signal blocked. It has `socket` as descriptor [`SOCKET`], and what is not closed when a program is
    /// executed.
    ///
    /// # Errors
    /// Those of `fork(2)`. If the program cannot be executed, it ends with status 127.
    pub fn start(&self, program: BorrowedFd<'_>, socket: Option<BorrowedFd<'_>>) -> io::Result<Pid> {
        // SAFETY: the child calls functions only that are safe after fork(2) in a process with several threads, and takes no memory.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => self.execute(program, socket),
            pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::Other.into()),
        }
    }

    /// In the child.
    fn execute(&self, program: BorrowedFd<'_>, socket: Option<BorrowedFd<'_>>) -> ! {
        // SAFETY: open(2), write(2), close(2), dup(2), dup2(2), fcntl(2), sigemptyset(3), sigprocmask(2), execveat(2) and _exit(2) are
        // safe after fork(2). The pointers lead to strings that end with NUL, and the lists of them end with a null pointer: `new`
        // made them, and `self` has them all.
        unsafe {
            if let Some(score) = &self.oom_score_adj {
                let file = libc::open(OOM_SCORE_ADJ.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                libc::write(file, score.as_ptr().cast(), score.len());
                libc::close(file);
            }
            // `program` may be where the socket has to be.
            let program = libc::fcntl(program.as_raw_fd(), libc::F_DUPFD_CLOEXEC, SOCKET + 1);
            if let Some(socket) = socket {
                // A copy of itself would be closed by execve(2).
                if socket.as_raw_fd() == SOCKET {
                    libc::fcntl(SOCKET, libc::F_SETFD, 0);
                } else {
                    libc::dup2(socket.as_raw_fd(), SOCKET);
                }
            }
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            libc::syscall(
                libc::SYS_execveat,
                program,
                c"".as_ptr(),
                self.argv.as_ptr(),
                self.envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(127)
        }
    }
}

/// Starts a process that asks for the attributes of `path` on each of `cpus`. It ends with status 0 if it got them each time, otherwise
/// with the number of an error. It is no thread of this process, because this one could not be killed while such a call waits for it.
///
/// # Errors
/// Those of `fork(2)`; if the path contains NUL.
pub fn call_on_cpus(cpus: &[usize], path: &Path) -> io::Result<Pid> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the child calls functions only that are safe after fork(2) in a process with several threads, and takes no memory.
    // close_range(2) closes its own copies of all descriptors, which nothing in it uses. statx(2) reads the path, which ends with NUL, and
    // writes the structure, which nobody reads; __errno_location(3) points to the thread's own number.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // Nothing of the mount must live on with it.
                libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                let mut failed = 0;
                let mut answer = MaybeUninit::<libc::statx>::uninit();
                for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
                    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
                    libc::CPU_SET(*cpu, &mut set);
                    libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
                    let flags = libc::AT_STATX_FORCE_SYNC;
                    let (here, wanted) = (libc::AT_FDCWD, libc::STATX_MODE);
                    if libc::statx(here, path.as_ptr(), flags, wanted, answer.as_mut_ptr()) != 0 {
                        failed = *libc::__errno_location();
                    }
                }
                libc::_exit(failed)
            }
            pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::Other.into()),
        }
    }
}

/// Waits until a process of [`call_on_cpus`] has ended.
///
/// # Errors
/// That of its calls; those of `waitpid(2)`.
pub fn result_of(child: Pid) -> io::Result<()> {
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error)),
        None => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Opens `path` as a place only (`O_PATH`). Another process does so, because this one could not be killed while the call waits for it.
///
/// # Errors
/// Those of `open(2)`, `fork(2)` and `socketpair(2)`; if the path contains NUL.
pub fn open_place(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the child calls functions only that are safe after fork(2) in a process with several threads, and takes no memory:
    // sendmsg(2) and open(2) are, and what `send` fills is on the stack. dup2(2) and close_range(2) concern its own copies of
    // descriptors: all but the socket are closed, and nothing in it uses them. open(2) reads the path, which ends with NUL.
    let child = unsafe {
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                // Nothing of the mount must live on with it.
                libc::dup2(other.as_raw_fd(), 0);
                libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
                let place = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                if place < 0 {
                    libc::_exit(*libc::__errno_location());
                }
                send(BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(place));
                libc::_exit(0)
            }
            pid => Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?,
        }
    };
    drop(other);
    let received = receive(&own);
    result_of(child)?;
    received?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn send(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    rights.push(SendAncillaryMessage::ScmRights(&descriptors));
    let _ = sendmsg(socket, &[IoSlice::new(&[0])], &mut rights, SendFlags::NOSIGNAL);
}

fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut some) => some.next(),
        _ => None,
    }))
}

/// Blocks signals in this thread, and returns a descriptor from which [`next_signal`] reads them. No other thread may exist that does
/// not block them.
///
/// # Errors
/// Those of `signalfd(2)`.
pub fn signals(numbers: &[i32]) -> io::Result<OwnedFd> {
    let set = block(numbers);
    // SAFETY: signalfd(2) reads the set.
    let file = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if file == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// Blocks signals in the calling thread. Returns the set of them.
pub(crate) fn block(numbers: &[i32]) -> MaybeUninit<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the set, sigaddset(3) changes it, and fails if there is no such signal; pthread_sigmask(3)
    // reads it, and does not write through a null pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), *number);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
    set
}

/// The next signal that came, if any.
pub fn next_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut bytes[..])).ok()?;
    // The number is the first field.
    let number = bytes.first_chunk().filter(|_| read == bytes.len())?;
    Some(u32::from_ne_bytes(*number) as i32)
}

/// Processes that this one's children leave behind become its children.
pub fn adopt_orphans() {
    // SAFETY: prctl(2) with PR_SET_CHILD_SUBREAPER takes a number.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// The socket that this process was started with by [`Arguments::start`], if it was. To be called once.
pub fn inherited_socket() -> Option<OwnedFd> {
    // SAFETY: fcntl(2) with F_GETFD takes numbers.
    if unsafe { libc::fcntl(SOCKET, libc::F_GETFD) } == -1 {
        return None;
    }
    // SAFETY: whoever starts this process so gives it this descriptor for this purpose, and nothing else in it uses the number.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET) };
    // Programs that this one starts do not get it.
    let closed = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
    closed.ok().map(|()| socket)
}

/// The program that `command` starts begins with these signals blocked.
#[cfg(test)]
pub(crate) fn start_with_blocked(command: &mut std::process::Command, numbers: &'static [i32]) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: what is called in the child is safe after fork(2) and takes no memory.
    unsafe {
        command.pre_exec(|| {
            block(numbers);
            Ok(())
        })
    };
}

/// The program that `command` starts has `socket` as descriptor [`SOCKET`].
pub fn start_with_socket(command: &mut std::process::Command, socket: BorrowedFd<'_>) {
    use std::os::unix::process::CommandExt as _;
    let socket = socket.as_raw_fd();
    let give = move || {
        // SAFETY: fcntl(2) and dup2(2) are safe after fork(2), and take numbers.
        unsafe {
            if socket == SOCKET {
                libc::fcntl(SOCKET, libc::F_SETFD, 0)
            } else {
                libc::dup2(socket, SOCKET)
            };
        }
        Ok(())
    };
    // SAFETY: it takes no memory.
    unsafe { command.pre_exec(give) };
}
