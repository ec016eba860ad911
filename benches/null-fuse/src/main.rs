//! A FUSE server that does nothing, as a baseline for ipcfs: what a request costs here is the kernel's share.
//!
//! `null-fuse --transport=uring|dev [--max-read=BYTES] [--pid-file FILE] DIR` mounts on DIR, as root. It returns when the
//! mount is ready and serves in the background, in a session of its own, until SIGTERM or until the mount is unmounted.
//! There is one file, `DIR/null`: a write is kept, a read returns the last write. The handshake, the flags of open files
//! and the validity of names and attributes are those of an ipcfs mailbox.

mod dev;
mod protocol;
mod uring;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::thread;

use protocol::{BUFFER, MAX_WRITE, Server};

fn main() -> io::Result<()> {
    let arguments = Arguments::parse().ok_or_else(|| {
        io::Error::other("usage: null-fuse --transport=uring|dev [--max-read=BYTES] [--pid-file FILE] DIR")
    })?;
    let Arguments { uring, dir, .. } = &arguments;
    let uring = *uring;
    // Before any thread is started: threads inherit the mask and do not survive fork(2).
    let signals = block_signals();
    let Some(ready) = fork(&arguments)? else { return Ok(()) };
    let device = Arc::new(mount(dir, uring, arguments.max_read)?);
    let server = Arc::new(Server::default());
    let cpus = thread::available_parallelism()?.get();
    for cpu in 0..cpus {
        let (server, device) = (Arc::clone(&server), Arc::clone(&device));
        if uring {
            spawn(move || uring::serve(&server, &device, cpu));
        } else {
            spawn(move || dev::serve(&server, &dev::cloned(&device)?));
        }
    }
    if uring {
        // FORGET and INTERRUPT come here.
        let (server, device) = (Arc::clone(&server), Arc::clone(&device));
        spawn(move || dev::serve(&server, &device));
    }
    // Through the kernel and back.
    std::fs::metadata(format!("{dir}/null"))?;
    leave_terminal(ready)?;
    let mut signal = 0;
    // SAFETY: both are valid for the call.
    unsafe { libc::sigwait(&signals, &mut signal) };
    let path = CString::new(dir.as_str())?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })
}

struct Arguments {
    uring: bool,
    max_read: usize,
    pid_file: Option<String>,
    dir: String,
}

impl Arguments {
    fn parse() -> Option<Arguments> {
        let mut parsed = Arguments { uring: false, max_read: MAX_WRITE, pid_file: None, dir: String::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--transport=uring" => parsed.uring = true,
                "--transport=dev" => parsed.uring = false,
                "--pid-file" => parsed.pid_file = Some(words.next()?),
                _ => match word.strip_prefix("--max-read=") {
                    Some(bytes) => parsed.max_read = bytes.parse().ok()?,
                    None => parsed.dir = word,
                },
            }
        }
        (!parsed.dir.is_empty()).then_some(parsed)
    }
}

/// Continues in a child process in a session of its own, which gets the pipe to report that it is ready. The parent
/// waits for that report and gets nothing; or an error, if the child ended without one.
fn fork(arguments: &Arguments) -> io::Result<Option<File>> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: nobody else has these descriptors.
    let (mut report, ready) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: no pointers. It cannot fail in a new process.
            unsafe { libc::setsid() };
            Ok(Some(ready))
        }
        child => {
            drop(ready);
            if report.read(&mut [0])? == 0 {
                return Err(io::Error::other("the server ended before it was ready"));
            }
            if let Some(path) = &arguments.pid_file {
                std::fs::write(path, format!("{child}\n"))?;
            }
            Ok(None)
        }
    }
}

/// Closes the standard streams, then reports that the server is ready.
fn leave_terminal(mut ready: File) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        // SAFETY: no pointers.
        check(unsafe { libc::dup2(null.as_raw_fd(), stream) }.min(0))?;
    }
    ready.write_all(b"r")
}

/// The first thread whose connection ends, ends the server.
fn spawn(work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    thread::spawn(move || match work() {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("null-fuse: {error}");
            std::process::exit(1);
        }
    });
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeroes is a set, which is then made an empty one; pointers are to locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

/// Mounts and answers the kernel's handshake.
fn mount(dir: &str, uring: bool, max_read: usize) -> io::Result<File> {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,max_read={max_read}",
        device.as_raw_fd()
    );
    let [source, path, kind, options] = ["null", dir, "fuse.null", &options].map(CString::new);
    let (source, path, kind, options) = (source?, path?, kind?, options?);
    // SAFETY: strings that end with NUL.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            path.as_ptr(),
            kind.as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV,
            options.as_ptr().cast(),
        )
    })?;
    let mut request = vec![0; BUFFER];
    let length = device.read(&mut request)?;
    let answer = protocol::handshake(&request[..length], uring)?;
    device.write_all(&answer)?;
    Ok(device)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
