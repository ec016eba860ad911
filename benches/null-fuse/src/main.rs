//! A FUSE server with nothing behind it, for ipcfs to be measured against: what a request costs here is the kernel's
//! hand-over.
//!
//! `null-fuse --transport=uring|dev DIR` mounts on DIR, as root, prints `ready`, and serves until SIGTERM or until somebody
//! unmounts it. There is one file, `DIR/null`: a write is kept, a read gets what was written last. The handshake, the
//! open files' flags and the validity of names and attributes are those of an ipcfs mailbox.

mod dev;
mod protocol;
mod uring;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;

use protocol::{BUFFER, Server};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (uring, dir) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--transport=uring", dir] => (true, dir),
        ["--transport=dev", dir] => (false, dir),
        _ => return Err(io::Error::other("usage: null-fuse --transport=uring|dev DIR")),
    };
    // Before there are threads, which inherit it.
    let signals = block_signals();
    let device = Arc::new(mount(dir, uring)?);
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
    println!("ready");
    io::stdout().flush()?;
    let mut signal = 0;
    // SAFETY: both are valid for the call.
    unsafe { libc::sigwait(&signals, &mut signal) };
    let path = CString::new(dir)?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })
}

/// The first thread that has nothing to serve any more ends the server.
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

/// Mounts and shakes hands.
fn mount(dir: &str, uring: bool) -> io::Result<File> {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
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
