//! What mounted tests share: a mount of their own that ends with them, and waiting for conditions under a watchdog.
#![allow(dead_code, unreachable_pub)] // each test program uses its part

pub mod peer;

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};
use signal_hook::flag;

/// How long anything may take before a test gives up. Far more than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long any mount may last, in seconds: `MOUNT_SECONDS`, or 300. A call into a daemon that does not answer would last forever;
/// its end ends the call.
pub fn lifetime() -> u64 {
    std::env::var("MOUNT_SECONDS").map_or(300, |seconds| seconds.parse().unwrap())
}

/// An ordinary user of the tests' own making. No entry in /etc/passwd is needed to be one, except to mount: fusermount3
/// wants a name.
pub const USER: u32 = 4711;
/// Another one.
pub const OTHER: u32 = 4712;

/// A mounted ipcfs on a fresh directory, unmounted when dropped, whatever happened.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    daemon: Child,
    // Dropping it tells the watchdog that all is well.
    _alive: Sender<()>,
    // Dropped after the mount has ended.
    _temp: tempfile::TempDir,
}

/// Mounts with default options; `None`, after saying so, where this machine has no FUSE (a failure if `REQUIRE_FUSE=1`).
pub fn mount() -> Option<Mount> {
    mount_with(&[])
}

/// As [`mount`], with options of `ipcfs mount`.
pub fn mount_with(options: &[&str]) -> Option<Mount> {
    fuse_is_here().then(|| Mount::start(options, None, None))
}

/// As [`mount_with`], with a variable in the environment of the daemon.
pub fn mount_in(variable: (&str, &Path), options: &[&str]) -> Option<Mount> {
    fuse_is_here().then(|| Mount::start(options, None, Some(variable)))
}

/// As [`mount_with`], as an ordinary user.
pub fn mount_as(user: u32, options: &[&str]) -> Option<Mount> {
    fuse_is_here().then(|| Mount::start(options, Some(user), None))
}

/// The program under test.
pub fn ipcfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ipcfs"))
}

/// The program under test, run by an ordinary user, also from a folder that is its owner's alone: by a descriptor, which no
/// folder's rights concern.
pub fn ipcfs_as(user: u32) -> Command {
    static PROGRAM: OnceLock<fs::File> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| fs::File::open(env!("CARGO_BIN_EXE_ipcfs")).unwrap());
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("ipcfs").uid(user).gid(user);
    command
}

/// False, said aloud, where there is no FUSE; a failure where it must be there.
pub fn fuse_is_here() -> bool {
    take_signals();
    let here = Path::new("/dev/fuse").exists() && is_root();
    if !here {
        assert!(
            std::env::var_os("REQUIRE_FUSE").is_none(),
            "REQUIRE_FUSE is set, but /dev/fuse or root is missing"
        );
        eprintln!("SKIP: needs /dev/fuse and root");
    }
    here
}

/// Signals that this process ignores (nohup, `&`) would be ignored by its children, too (execve(2)), and so by those to whom a
/// test sends them. A handler is not inherited. This process itself goes on as before.
fn take_signals() {
    static TAKEN: Once = Once::new();
    TAKEN.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        for signal in [SIGHUP, SIGINT, SIGQUIT] {
            let heeded = ignored & (1 << (signal - 1)) == 0;
            flag::register_conditional_default(signal, Arc::new(AtomicBool::new(heeded))).unwrap();
        }
    });
}

/// How requests reach the daemons of this test run: what `IPCFS_TRANSPORT` says, otherwise what the machine offers.
pub fn transport() -> String {
    let offered =
        fs::read_to_string("/sys/module/fuse/parameters/enable_uring").is_ok_and(|on| on.trim() == "Y");
    let wanted = std::env::var("IPCFS_TRANSPORT").ok().filter(|wanted| wanted != "auto");
    wanted.unwrap_or_else(|| String::from(if offered { "uring" } else { "dev" }))
}

/// True for root, who can become other users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says something also if the test passes. What macros print is shown only if it fails.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Says aloud that something is not tested, and why.
pub fn skip(why: &str) {
    say(&format!("SKIP: {why}"));
}

/// False, said aloud, where a program is not installed; a failure where CI wants all of them.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !here {
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none(),
            "REQUIRE_TOOLS is set, but {program} is missing"
        );
        skip(&format!("{program} is not installed"));
    }
    here
}

/// False, said aloud, where ordinary users cannot mount and unmount: without fusermount3, or without the table that it looks into.
pub fn have_fusermount() -> bool {
    let table = Path::new("/etc/mtab").exists();
    if !table {
        skip("/etc/mtab does not exist");
    }
    table && have("fusermount3")
}

impl Mount {
    fn start(options: &[&str], user: Option<u32>, variable: Option<(&str, &Path)>) -> Mount {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("mnt");
        fs::create_dir(&dir).unwrap();
        let mut command = user.map_or_else(ipcfs, ipcfs_as);
        command.arg("mount").arg("-f").arg("--ready-stdout").args(options).arg(&dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.envs(variable);
        if let Some(user) = user {
            let path = CString::new(dir.as_os_str().as_bytes()).unwrap();
            fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(Path::new(path.to_str().unwrap()), Some(user), Some(user)).unwrap();
        }
        let mut daemon = command.spawn().unwrap();
        let lifetime = Duration::from_secs(lifetime());
        let (alive, ended) = mpsc::channel();
        let pid = rustix::process::Pid::from_child(&daemon);
        let daemon_fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        std::thread::spawn({
            let dir = dir.clone();
            move || {
                if ended.recv_timeout(lifetime) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("{} does not come to its end: killed\n{}", dir.display(), process_table());
                    let _ = rustix::process::pidfd_send_signal(daemon_fd, rustix::process::Signal::KILL);
                }
            }
        });
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the mount did not get ready");
        Mount { dir, daemon, _alive: alive, _temp: temp }
    }

    /// The mount point.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below the mount point.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// `mailboxes/<name>`
    pub fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.join("mailboxes").join(name)
    }

    /// A mailbox that exists, with some of its `config/` set.
    pub fn make_mailbox(&self, name: &str, config: &[(&str, &str)]) -> PathBuf {
        let path = self.mailbox(name);
        fs::File::create(&path).unwrap();
        for (key, value) in config {
            fs::write(self.path(&format!("control/mailboxes/{name}/config/{key}")), value).unwrap();
        }
        path
    }

    /// `segments/<name>`
    pub fn segment(&self, name: &str) -> PathBuf {
        self.dir.join("segments").join(name)
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Memory of its own that the daemon has, in bytes: without the pages of its program file. Rings are in a memory file.
    pub fn memory(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let of = |key: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        of("Anonymous:") + of("Pss_Shmem:")
    }

    /// A number in a `status` file below `control/`.
    pub fn figure(&self, status: &str, key: &str) -> u64 {
        let text = fs::read_to_string(self.path("control").join(status)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
    }

    /// Waits until a figure of a mailbox's status is as wanted.
    pub fn wait_for_figure(&self, mailbox: &str, key: &str, wanted: u64) {
        let status = format!("mailboxes/{mailbox}/status");
        wait_for(&format!("{key} of {mailbox} to be {wanted}"), || self.figure(&status, key) == wanted);
    }

    /// Waits until no message has any memory. Of one that was read, the open file keeps it until it is closed, and close(2)
    /// does not wait for the daemon.
    pub fn wait_for_free_memory(&self) {
        wait_for("all memory to be free", || self.figure("status", "memory_used") == 0);
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the daemon to end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("the daemon to end", || self.daemon.try_wait().unwrap().is_some());
        self.daemon.wait().unwrap().code()
    }

    /// True while the mount point is in the mount table.
    pub fn in_table(&self) -> bool {
        let table = fs::read("/proc/self/mountinfo").unwrap();
        String::from_utf8_lossy(&table).contains(&format!(" {} ", self.dir.display()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.daemon.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(rustix::process::Signal::TERM);
            let start = Instant::now();
            while self.daemon.try_wait().is_ok_and(|ended| ended.is_none()) && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = rustix::mount::unmount(&self.dir, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Waits for a condition; a watchdog fails the test, with the state of all its processes, if it never holds.
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_long_for(what, 1, condition);
}

/// As [`wait_for`], for what consists of so many things of which each may take a while.
pub fn wait_long_for(what: &str, things: u32, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() <= things * PATIENCE, "waited in vain for {what}\n{}", process_table());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a process to end, under the watchdog. A process that cannot be killed fails the test.
pub fn reap(child: &mut Child) -> std::process::ExitStatus {
    let pid = child.id();
    wait_for(&format!("process {pid} to end"), || child.try_wait().unwrap().is_some());
    child.wait().unwrap()
}

/// Waits for a process to end, under the watchdog; what it printed.
pub fn output(child: Child) -> Output {
    let mut child = child;
    let status = reap(&mut child);
    let mut out = Output { status, stdout: Vec::new(), stderr: Vec::new() };
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut out.stdout).unwrap();
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut out.stderr).unwrap();
    }
    out
}

/// Runs a shell script with `sh -c`; its output, after checking that it succeeded.
pub fn sh(script: &str) -> String {
    let child = Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = output(child);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{script}\n{}{stderr}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

/// The letter of a process's state in /proc, `D` for one beyond the reach of signals.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn process_table() -> String {
    let mut table = String::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline").replace('\0', " ");
        if !command.is_empty() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let state = pid.parse().ok().and_then(state_of).unwrap_or('?');
            let _ = writeln!(table, "{pid} {state} {} {command}", read("wchan"));
        }
    }
    table
}
