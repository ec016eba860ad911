//! Daemons that run in the background as users' daemons do: in a session of their own, and in a cgroup of their own where
//! that is possible.
//!
//! The scheduler treats processes of one session as a group (autogroup), and processes of one cgroup with the cpu
//! controller. A daemon that shared a group with its clients would be measured in a set-up that users do not have.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use crate::cgroup::Cgroup;
use crate::model::Setup;
use crate::process::session;

/// How long a daemon may take to start or to end before something is wrong.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A daemon. It is ended when this is dropped.
pub struct Daemon {
    pid: u32,
    process: OwnedFd,
    /// Waited for with the process that started it, where this program did so itself.
    child: Option<Child>,
    /// The process that starts it again if it is killed.
    supervisor: Option<Pid>,
    ended: bool,
    /// Removed after the daemon has ended.
    cgroup: Option<Cgroup>,
}

impl Daemon {
    /// Runs a command that starts a daemon in the background and returns when it is ready, as `ipcfs mount DIR` does.
    /// `pid` finds the daemon.
    pub fn start(command: &mut Command, errors: &Path, pid: impl FnOnce() -> Result<u32>) -> Result<Daemon> {
        // A daemon in the background is an orphan. As its new parent, this program can wait for its end.
        nix::sys::prctl::set_child_subreaper(true).context("becoming the parent of daemons")?;
        let program = command.get_program().to_string_lossy().into_owned();
        let stderr = File::create(errors).context("creating a file for the errors of a daemon")?;
        // A process group of its own: Ctrl-C reaches this program alone, which then ends the daemon.
        let starter = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let status = spawn(starter, &program)?.wait()?;
        if !status.success() {
            let text = fs::read_to_string(errors).unwrap_or_default();
            bail!("{program} does not start: {}", text.lines().last().unwrap_or("no error message"));
        }
        Daemon::new(pid()?, None)
    }

    /// Starts a program that stays in the foreground, as a service manager does.
    pub fn start_service(program: &str, arguments: impl FnOnce(&mut Command)) -> Result<Daemon> {
        // setsid(1) becomes the program, with the same process id, unless it leads a process group.
        ensure!(is_installed(program), "{program} is not installed");
        let mut command = Command::new("setsid");
        arguments(command.arg(program).stdin(Stdio::null()));
        let child = spawn(&mut command, "setsid")?;
        Daemon::new(child.id(), Some(child))
    }

    fn new(pid: u32, child: Option<Child>) -> Result<Daemon> {
        let id = Pid::from_raw(pid as i32).context("a daemon without a process id")?;
        let process = pidfd_open(id, PidfdFlags::empty()).context("opening the daemon's process")?;
        let supervisor = supervisor_of(pid);
        let mut daemon = Daemon { pid, process, child, supervisor, ended: false, cgroup: None };
        daemon.cgroup = Cgroup::create().filter(|cgroup| cgroup.add(pid).is_ok());
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its place has been taken by another process, which it has started, and it ends.
    pub fn is_replaced(&mut self, pid: u32) -> Result<()> {
        ensure!(self.wait(TIMEOUT)?, "a daemon that was replaced does not end");
        let status = waitpid(Pid::from_raw(self.pid as i32), WaitOptions::empty())?;
        ensure!(
            status.is_some_and(|(_, status)| status.exit_status() == Some(0)),
            "a daemon that was replaced did not end well: {status:?}"
        );
        self.follow(pid)
    }

    /// Kills it. Its supervisor starts another one, which is to be [followed](Daemon::follow).
    pub fn kill(&self) -> Result<()> {
        ensure!(self.supervisor.is_some(), "nobody starts the daemon again");
        pidfd_send_signal(&self.process, Signal::KILL)?;
        ensure!(self.wait(TIMEOUT)?, "a daemon does not end after SIGKILL");
        Ok(())
    }

    /// Its place has been taken by another process.
    pub fn follow(&mut self, pid: u32) -> Result<()> {
        let id = Pid::from_raw(pid as i32).context("a daemon without a process id")?;
        self.process = pidfd_open(id, PidfdFlags::empty()).context("opening the new daemon's process")?;
        self.pid = pid;
        Ok(())
    }

    pub fn is_running(&self) -> bool {
        !self.wait(Duration::ZERO).unwrap_or(true)
    }

    /// How it runs, seen from here: clients run in the session and in the cgroup of this program.
    pub fn setup(&self) -> Setup {
        let own = |pid| session(pid).is_some_and(|id| Some(id) != session(std::process::id()));
        let autogroup = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled");
        Setup {
            background: self.child.is_none(),
            own_session: own(self.pid),
            autogroup: autogroup.is_ok_and(|text| text.trim() == "1"),
            own_cgroup: self.cgroup.is_some(),
            cpu_controller: self.cgroup.as_ref().is_some_and(|cgroup| cgroup.schedules),
        }
    }

    /// Waits so long for its end; true if it has ended.
    fn wait(&self, limit: Duration) -> Result<bool> {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        Ok(poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&limit))? > 0)
    }

    /// Ends it with SIGTERM and waits until it has ended. An error if it fails or has to be killed.
    pub fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        // Fails if it has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        let ended = self.wait(TIMEOUT)?;
        if !ended {
            pidfd_send_signal(&self.process, Signal::KILL)?;
        }
        let code = if let Some(child) = &mut self.child {
            child.wait()?.code()
        } else {
            // A supervisor ends with its daemon's status.
            let process = self.supervisor.or(Pid::from_raw(self.pid as i32));
            let status = waitpid(process, WaitOptions::empty());
            status.context("waiting for a daemon")?.and_then(|(_, status)| status.exit_status())
        };
        self.cgroup = None;
        ensure!(ended, "a daemon did not end within {} s, and was killed", TIMEOUT.as_secs());
        // A service may report the signal as its end.
        ensure!(self.child.is_some() || code == Some(0), "a daemon did not end well: exit code {code:?}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("scripts/bench: {error:#}");
        }
    }
}

fn supervisor_of(pid: u32) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    Pid::from_raw(parent).filter(|_| name == "ipcfs-keeper\n")
}

fn spawn(command: &mut Command, program: &str) -> Result<Child> {
    match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{program} is not installed"),
        other => other.with_context(|| format!("starting {program}")),
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
