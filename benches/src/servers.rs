//! Programs that are started for a round and ended with it: ipcfs, Redis, NATS, the null FUSE server.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a program may take to start or to end before something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at something that is awaited and tells nobody.
const PAUSE: Duration = Duration::from_millis(1);

/// A program that runs in the background, and is ended when this is dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// In a process group of its own, so that Ctrl-C reaches this program alone, which then ends it in order.
    fn start(command: &mut Command) -> Result<Server> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        if child.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            bail!("{program} is not installed");
        }
        Ok(Server { child: child.with_context(|| format!("starting {program}"))? })
    }

    /// Starts it, and waits until it says `ready`.
    fn start_ready(command: &mut Command, errors: &Path) -> Result<Server> {
        let program = command.get_program().to_string_lossy().into_owned();
        let stderr = File::create(errors).context("making a file for a server's errors")?;
        let mut server = Server::start(command.stdout(Stdio::piped()).stderr(stderr))?;
        let mut line = String::new();
        if let Some(output) = server.child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let said = fs::read_to_string(errors).unwrap_or_default();
            bail!("{program} does not start: {}", said.lines().last().unwrap_or("it says nothing"));
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn end(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(pid, Signal::TERM)?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit))? > 0;
        if !ended {
            self.child.kill()?;
        }
        self.child.wait()?;
        ensure!(ended, "a server did not end within {} s, and was killed", PATIENCE.as_secs());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("scripts/bench: {error:#}");
        }
    }
}

/// CPU time that a process has taken with all its threads, those of the kernel on its behalf included.
pub fn cpu(pid: u32) -> Duration {
    let mut time = 0;
    if let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) {
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            time += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(time)
}

/// Bytes of a figure in a process's `status`.
pub fn memory(pid: u32, key: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb * 1024.0)
}

/// Memory of its own that a process has, in bytes: what it shares with its program file aside.
pub fn own_memory(pid: u32) -> Option<f64> {
    memory(pid, "RssAnon")
}

/// Forgets the peak so far, so that `VmHWM` is that of what comes.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A mount of ipcfs.
pub struct Mount {
    server: Server,
    pub dir: PathBuf,
    /// The peer's name in the JSON.
    pub id: &'static str,
}

impl Mount {
    /// Mounts on a new directory below `temp`.
    pub fn start(program: &Path, temp: &Path, id: &'static str, options: &[&str]) -> Result<Mount> {
        let dir = temp.join(id);
        fs::create_dir_all(&dir)?;
        let mut command = Command::new(program);
        command.args(["mount", "-f", "--ready-stdout"]).args(options).arg(&dir);
        let server = Server::start_ready(&mut command, &temp.join(format!("{id}.errors")))?;
        Ok(Mount { server, dir, id })
    }

    /// As `start`, with one thread over /dev/fuse, and each request logged to that file.
    pub fn start_logging(program: &Path, temp: &Path, log: &Path) -> Result<Mount> {
        let (id, dir) = ("ipcfs-logged", temp.join("ipcfs-logged"));
        fs::create_dir_all(&dir)?;
        let mut command = Command::new(program);
        command
            .args(["mount", "-f", "--ready-stdout", "--transport=dev", "--threads=1", "--log"])
            .arg(log)
            .arg(&dir)
            .env("RUST_LOG", "debug");
        let server = Server::start_ready(&mut command, &temp.join("ipcfs-logged.errors"))?;
        Ok(Mount { server, dir, id })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends it, and waits until it is gone.
    pub fn end(mut self) -> Result<()> {
        self.server.end()
    }

    pub fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.join("mailboxes").join(name)
    }

    pub fn control(&self, path: &str) -> PathBuf {
        self.dir.join("control").join(path)
    }

    /// A figure of a status file below `control/`.
    pub fn figure(&self, status: &str, key: &str) -> Result<u64> {
        let path = self.control(status);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).with_context(|| format!("no {key} in {}", path.display()))
    }

    /// Waits until that figure is this much or more.
    pub fn wait_for(&self, status: &str, key: &str, least: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            let value = self.figure(status, key)?;
            if value >= least {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE * 6, "{key} in {status} stays at {value}, not {least}");
            std::thread::sleep(PAUSE);
        }
    }
}

/// A server on a port of the loopback interface that it has to itself.
pub struct Listening {
    server: Server,
    pub port: u16,
}

impl Listening {
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

pub fn redis(temp: &Path) -> Result<Listening> {
    listen(temp, "redis-server", |command, port, dir| {
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "20000"])
            .args(["--port", &port.to_string()])
            .arg("--dir")
            .arg(dir);
    })
}

pub fn nats(temp: &Path) -> Result<Listening> {
    listen(temp, "nats-server", |command, port, dir| {
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir);
    })
}

/// Starts a server, and waits until it takes connections.
fn listen(temp: &Path, program: &str, arguments: impl Fn(&mut Command, u16, &Path)) -> Result<Listening> {
    let dir = temp.join(program);
    fs::create_dir_all(&dir)?;
    // Free now; should somebody else take it before the server does, the server ends, which is noticed below.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut command = Command::new(program);
    arguments(&mut command, port, &dir);
    let log = File::create(temp.join(format!("{program}.log")))?;
    let mut server = Server::start(command.stdout(log.try_clone()?).stderr(log))?;
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(server.child.try_wait()?.is_none(), "{program} ended at once");
        ensure!(start.elapsed() < PATIENCE, "{program} does not listen");
        std::thread::sleep(PAUSE);
    }
    Ok(Listening { server, port })
}

/// A FUSE server that does nothing: what a transport costs by itself.
pub struct Null {
    server: Server,
    pub file: PathBuf,
}

impl Null {
    pub fn start(program: &Path, temp: &Path, transport: &str) -> Result<Null> {
        let dir = temp.join(format!("null-{transport}"));
        fs::create_dir_all(&dir)?;
        let mut command = Command::new(program);
        command.arg(format!("--transport={transport}")).arg(&dir);
        let server = Server::start_ready(&mut command, &temp.join(format!("null-{transport}.errors")))?;
        Ok(Null { server, file: dir.join("null") })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
