//! A directory to mount on by the command line, as a user does; whatever is mounted there ends with it.
#![allow(dead_code)] // each test program uses its part

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::common;

/// A test that makes a mount namespace holds it alone: the namespace keeps the mounts of all other tests, too, and they find out.
static NAMESPACES: RwLock<()> = RwLock::new(());

/// An empty directory, `dir`, in one that every user can enter.
pub(crate) struct Place {
    temp: tempfile::TempDir,
    dir: PathBuf,
    _turn: Turn,
}

/// What a test holds of `NAMESPACES`.
enum Turn {
    Shared { _held: RwLockReadGuard<'static, ()> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

/// What a program did: its exit code and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    /// A fresh one; `None`, after saying so, where nothing can be mounted.
    pub(crate) fn new() -> Option<Place> {
        // A test may have two.
        Place::with(|| Turn::Shared { _held: NAMESPACES.read_recursive() })
    }

    /// The same for a test that makes a mount namespace: no other test has a mount meanwhile.
    pub(crate) fn alone() -> Option<Place> {
        Place::with(|| Turn::Alone { _held: NAMESPACES.write() })
    }

    fn with(turn: fn() -> Turn) -> Option<Place> {
        common::fuse_is_here().then(|| {
            let turn = turn();
            let temp = tempfile::tempdir().unwrap();
            fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let dir = temp.path().join("mnt");
            fs::create_dir(&dir).unwrap();
            Place { temp, dir, _turn: turn }
        })
    }

    /// Where to mount.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same as text.
    pub(crate) fn name(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Background the mount point.
    pub(crate) fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Below the mount point.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.join(below)
    }

    /// `ipcfs mount OPTIONS DIR`, which must work and say nothing.
    pub(crate) fn mount(&self, options: &[&str]) {
        let outcome = self.try_mount(options);
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    }

    /// `ipcfs mount OPTIONS DIR`
    pub(crate) fn try_mount(&self, options: &[&str]) -> Outcome {
        run(common::ipcfs().arg("mount").args(options).arg(&self.dir))
    }

    /// `ipcfs SUBCOMMAND OPTIONS DIR`
    pub(crate) fn ipcfs(&self, words: &[&str]) -> Outcome {
        run(common::ipcfs().args(words).arg(&self.dir))
    }

    /// A shell script with `$DIR`, `$IPCFS` and `$T`, the directory above `$DIR`.
    pub(crate) fn script(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).env("DIR", &self.dir).env("T", self.temp.path());
        command.env("IPCFS", common::ipcfs().get_program());
        command
    }

    /// What a script that succeeds prints.
    pub(crate) fn sh(&self, script: &str) -> String {
        let outcome = run(&mut self.script(script));
        assert_eq!(outcome.code, Some(0), "{script}\n{outcome:?}");
        outcome.stdout
    }

    /// The daemon's process id, as the mount tells it.
    pub(crate) fn daemon(&self) -> u32 {
        let status = fs::read_to_string(self.path("control/status")).unwrap();
        let pid = status.lines().find_map(|line| line.strip_prefix("pid ")).unwrap();
        pid.parse().unwrap()
    }

    /// Kills the daemon, and who would start it again, and waits until the mount is dead.
    pub(crate) fn kill_daemon(&self) {
        let daemon = self.daemon();
        let supervisors = processes_with("--supervisor");
        let own = self.processes().into_iter().filter(|pid| supervisors.contains(pid));
        own.for_each(|pid| signal(pid, Signal::KILL));
        signal(daemon, Signal::KILL);
        common::wait_for("the mount to be dead", || {
            let looked = rustix::fs::stat(self.path("control/status"));
            matches!(looked, Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED))
        });
    }

    /// How often the directory is in the mount table.
    pub(crate) fn mounts(&self) -> usize {
        // Mount points of others need not be UTF-8.
        let table = fs::read("/proc/self/mountinfo").unwrap();
        let table = String::from_utf8_lossy(&table);
        table.lines().filter(|line| line.split(' ').nth(4) == Some(self.name())).count()
    }

    /// Checks that nothing is mounted and no daemon has been left behind.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.mounts(), 0, "{} is mounted", self.name());
        // One that was killed may still be on its way out.
        common::wait_for("no process to be left behind", || self.processes().is_empty());
    }

    /// See [`processes_with`].
    pub(crate) fn processes(&self) -> Vec<u32> {
        processes_with(self.name())
    }
}

/// Processes with this among their arguments.
pub(crate) fn processes_with(argument: &str) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has_it).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        // A daemon whose mount goes, ends, unless it was stopped.
        let daemons = self.processes();
        while unmount(&self.dir, UnmountFlags::DETACH).is_ok() {}
        for pid in daemons {
            let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::CONT);
        }
    }
}

/// A program that runs beside a test, and not beyond it.
pub(crate) struct Background(Option<Child>);

impl Background {
    /// Starts it, with nothing to read.
    pub(crate) fn start(command: &mut Command) -> Background {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Background(Some(command.spawn().unwrap()))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits for its end, under the watchdog.
    pub(crate) fn finish(mut self) -> Outcome {
        Outcome::from(common::output(self.0.take().unwrap()))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a program to its end, under the watchdog.
pub(crate) fn run(command: &mut Command) -> Outcome {
    Background::start(command).finish()
}

/// `ipcfs WORDS`
pub(crate) fn ipcfs(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    run(common::ipcfs().args(words))
}

/// Sends a process of ours a signal.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// True once a process runs no more, whether or not its parent has taken note.
pub(crate) fn has_ended(pid: u32) -> bool {
    matches!(common::state_of(pid), None | Some('Z' | 'X'))
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Outcome {
    /// Checks that it failed with exit code 1, printed nothing, and said what, why (with `words` in it) and, on a line
    /// of its own, what to do.
    pub(crate) fn failed(&self, what: &str, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        self.said(what, words);
    }

    /// As [`Outcome::failed`], whatever the exit code and however much was printed.
    pub(crate) fn said(&self, what: &str, words: &[&str]) {
        assert!(self.stderr.starts_with(&format!("ipcfs: {what}")), "{:?} does not say {what}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{:?} does not say {word:?}", self.stderr);
        }
        assert_eq!(self.stderr.matches("ipcfs: ").count(), 1, "said once: {:?}", self.stderr);
        assert!(self.stderr.trim_end().contains("\n  "), "{:?} gives no advice", self.stderr);
        assert!(!self.stderr.contains("(os error"), "{:?} has numbers for words", self.stderr);
    }
}
