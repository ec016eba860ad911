//! Servers that are started for a round and ended with it: ipcfs, Redis, NATS, the null FUSE server.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{Daemon, TIMEOUT};
use crate::model::Setup;
use crate::process::sure;

/// Between two looks at something that cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A mount of ipcfs.
pub struct Mount {
    daemon: Daemon,
    pub dir: PathBuf,
    /// The peer's name in the JSON.
    pub id: &'static str,
    /// How long `ipcfs mount` took.
    pub start_time: Duration,
}

impl Mount {
    /// Mounts on a new directory below `temp`.
    pub fn start(program: &Path, temp: &Path, id: &'static str, options: &[&str]) -> Result<Mount> {
        let mut command = Command::new(program);
        command.arg("mount").args(options);
        Mount::start_by(&mut command, temp, id)
    }

    /// As `start`, with one thread over /dev/fuse, and each request logged to that file.
    pub fn start_logging(program: &Path, temp: &Path, log: &Path) -> Result<Mount> {
        let mut command = Command::new(program);
        command.args(["mount", "--transport=dev", "--threads=1", "--log"]).arg(log).env("RUST_LOG", "debug");
        Mount::start_by(&mut command, temp, "ipcfs-logged")
    }

    fn start_by(command: &mut Command, temp: &Path, id: &'static str) -> Result<Mount> {
        let dir = temp.join(id);
        fs::create_dir_all(&dir)?;
        let begin = Instant::now();
        let mut start_time = Duration::ZERO;
        let daemon = Daemon::start(command.arg(&dir), &temp.join(format!("{id}.errors")), || {
            start_time = begin.elapsed();
            Ok(u32::try_from(figure(&dir.join("control/status"), "pid")?)?)
        })?;
        Ok(Mount { daemon, dir, id, start_time })
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// How the daemon runs.
    pub fn setup(&self) -> Setup {
        self.daemon.setup()
    }

    /// True until the daemon has ended.
    pub fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    /// Replaces the daemon, while the mount is in use, by another process of the same program. Returns how long that took.
    pub fn upgrade(&mut self, program: &Path) -> Result<Duration> {
        let begin = Instant::now();
        let output = Command::new(program).arg("upgrade").arg(&self.dir).output()?;
        let took = begin.elapsed();
        ensure!(output.status.success(), "ipcfs upgrade: {}", String::from_utf8_lossy(&output.stderr));
        let pid = self.figure("status", "pid")?;
        self.daemon.is_replaced(u32::try_from(pid)?)?;
        Ok(took)
    }

    /// Kills the daemon, while the mount is in use. Returns how long it takes until another one answers.
    pub fn crash(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.daemon.kill()?;
        let pid = self.figure("status", "pid")?;
        let took = begin.elapsed();
        self.daemon.follow(u32::try_from(pid)?)?;
        Ok(took)
    }

    /// Ends the daemon and waits for its end. An error if it does not end well.
    pub fn end(mut self) -> Result<()> {
        self.daemon.end()
    }

    pub fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.join("mailboxes").join(name)
    }

    pub fn control(&self, path: &str) -> PathBuf {
        self.dir.join("control").join(path)
    }

    /// A figure of a status file below `control/`.
    pub fn figure(&self, status: &str, key: &str) -> Result<u64> {
        figure(&self.control(status), key)
    }

    /// Waits until that figure is this much or more.
    pub fn wait_for(&self, status: &str, key: &str, least: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            let value = self.figure(status, key)?;
            if value >= least {
                return Ok(());
            }
            ensure!(start.elapsed() < TIMEOUT * 6, "{key} in {status} stays at {value}, not {least}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn figure(path: &Path, key: &str) -> Result<u64> {
    let text = sure(|| fs::read_to_string(path)).with_context(|| format!("reading {}", path.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no {key} in {}", path.display()))
}

/// A server on a TCP port of the loopback interface.
pub struct Listening {
    daemon: Daemon,
    pub port: u16,
}

impl Listening {
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
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

/// Redis that answers when the message is on the disk.
pub fn redis_always(dir: &Path) -> Result<Listening> {
    listen(dir, "redis-server", |command, port, dir| {
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--port", &port.to_string()])
            .arg("--dir")
            .arg(dir);
    })
}

/// NATS that answers when the message is on the disk.
pub fn nats_always(dir: &Path) -> Result<Listening> {
    let config = dir.join("nats.conf");
    let store = dir.join("jetstream");
    fs::write(
        &config,
        format!("jetstream {{ store_dir: \"{}\", sync_interval: always }}\n", store.display()),
    )?;
    listen(dir, "nats-server", |command, port, _| {
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(&config);
    })
}

/// beanstalkd that answers when the job is on the disk.
pub fn beanstalkd_always(dir: &Path) -> Result<Listening> {
    listen(dir, "beanstalkd", |command, port, dir| {
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-f", "0", "-b"]).arg(dir);
    })
}

/// Starts a server and waits until it accepts connections.
fn listen(temp: &Path, program: &str, arguments: impl Fn(&mut Command, u16, &Path)) -> Result<Listening> {
    let dir = temp.join(program);
    fs::create_dir_all(&dir)?;
    // Free now. If another program takes it before the server does, the server ends, which is noticed below.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let log = File::create(temp.join(format!("{program}.log")))?;
    let output = log.try_clone()?;
    let daemon = Daemon::start_service(program, |command| {
        arguments(command.stdout(output).stderr(log), port, &dir);
    })?;
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(daemon.is_running(), "{program} ended while it started");
        ensure!(start.elapsed() < TIMEOUT, "{program} does not listen");
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(Listening { daemon, port })
}

/// The null FUSE server, which shows what a transport costs by itself.
pub struct Null {
    daemon: Daemon,
    pub file: PathBuf,
}

impl Null {
    pub fn start(program: &Path, temp: &Path, transport: &str) -> Result<Null> {
        let dir = temp.join(format!("null-{transport}"));
        fs::create_dir_all(&dir)?;
        let pid_file = temp.join(format!("null-{transport}.pid"));
        let mut command = Command::new(program);
        command.arg(format!("--transport={transport}")).arg("--pid-file").arg(&pid_file).arg(&dir);
        let daemon = Daemon::start(&mut command, &temp.join(format!("null-{transport}.errors")), || {
            let text = fs::read_to_string(&pid_file).context("reading the process id of null-fuse")?;
            text.trim().parse().context("the process id of null-fuse")
        })?;
        Ok(Null { daemon, file: dir.join("null") })
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
