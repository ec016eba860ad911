//! Mailboxes by plain system calls, and threads and processes that wait for them under the watchdog.
#![allow(dead_code)] // each test program uses its part

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::common::{self, wait_for};

pub(crate) const READ: OFlags = OFlags::RDONLY;
pub(crate) const WRITE: OFlags = OFlags::WRONLY;
pub(crate) const BOTH: OFlags = OFlags::RDWR;
pub(crate) const NOWAIT: OFlags = OFlags::NONBLOCK;
pub(crate) const APPEND: OFlags = OFlags::APPEND;
pub(crate) const TRUNC: OFlags = OFlags::TRUNC;

/// The longest message of a new mailbox, in bytes.
pub(crate) const LONGEST: usize = 1_044_480;

/// open(2)
pub(crate) fn open(path: &Path, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// One message, without waiting.
pub(crate) fn try_send(path: &Path, body: &[u8]) -> Result<usize, Errno> {
    rustix::io::write(open(path, WRITE | NOWAIT), body)
}

/// One message, for which there must be room.
pub(crate) fn send(path: &Path, body: &[u8]) {
    assert_eq!(try_send(path, body), Ok(body.len()));
}

/// The next message, without waiting.
pub(crate) fn try_receive(path: &Path) -> Result<Vec<u8>, Errno> {
    read(open(path, READ | NOWAIT), LONGEST)
}

/// The next message, which must be there.
pub(crate) fn receive(path: &Path) -> Vec<u8> {
    try_receive(path).unwrap()
}

/// As [`receive`], for messages that are text.
pub(crate) fn receive_text(path: &Path) -> String {
    String::from_utf8(receive(path)).unwrap()
}

/// One read(2) of up to `size` bytes.
pub(crate) fn read(file: impl AsFd, size: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; size];
    let length = rustix::io::read(file, &mut buffer[..])?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Bytes of every value, in no order that begins again at a page or at a power of two.
pub(crate) fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Sets a file of a mailbox's `config/`.
pub(crate) fn set(mount: &common::Mount, mailbox: &str, key: &str, value: &str) {
    fs::write(mount.path(&format!("control/mailboxes/{mailbox}/config/{key}")), value).unwrap();
}

/// The processes that wait on a mailbox as `role`, in the order they came.
pub(crate) fn waiting(mount: &common::Mount, mailbox: &str, role: &str) -> Vec<Pid> {
    let text = fs::read_to_string(mount.path(&format!("control/mailboxes/{mailbox}/status"))).unwrap();
    let prefix = format!("waiting {role} pid ");
    let pids = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(' ').next());
    pids.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

/// Work that may wait, in a thread of its own. If the test fails meanwhile, the thread ends with the mount.
pub(crate) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

/// Waits, under the watchdog, for work set aside.
pub(crate) fn finish<T>(what: &str, work: JoinHandle<T>) -> T {
    wait_for(what, || work.is_finished());
    work.join().unwrap()
}

/// Does at once what must not wait, under the watchdog.
pub(crate) fn promptly<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    finish(what, aside(work))
}

/// A shell that runs `script` on `$1`, quietly.
pub(crate) fn shell(script: &str, path: impl AsRef<OsStr>) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg("sh").arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs `script` on `$1`, in a process of its own under the watchdog; what it printed. It must succeed.
pub(crate) fn run(script: &str, path: impl AsRef<OsStr>) -> String {
    let out = common::output(shell(script, path));
    assert!(out.status.success(), "{script}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// This test program once more, as a process of its own: it runs the test `name` alone, which plays [`role`].
pub(crate) fn again(name: &str, role: &str) -> Command {
    // Not by its path: an ordinary user may not search the folders on the way.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("IPCFS_TEST_ROLE", role);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The role given to [`again`]; `None` in the test program that was started by hand.
pub(crate) fn role() -> Option<String> {
    std::env::var("IPCFS_TEST_ROLE").ok()
}
