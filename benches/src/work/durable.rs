//! Messages that survive a power cut: what each send costs, with few and many senders.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;

use super::Context;
use crate::model::Samples;
use crate::peers::{Address, Channel};
use crate::servers::{self, Listening, Mount};
use crate::stores;

const SENDERS: [usize; 3] = [1, 8, 64];
const SIZES: [usize; 2] = [64, 4096];

/// So many times the measuring time of other cases: fdatasync(2) takes longer, and how long differs more.
const LONGER: u32 = 3;

/// What so many senders have done.
struct Sent {
    elapsed: Duration,
    /// Of each send, in nanoseconds.
    latency: Histogram<u64>,
}

/// Sends a message, and returns when it survives what it shall survive.
type Send = Box<dyn FnMut(&[u8]) -> Result<()>>;

/// Has a thread for each sender send as fast as it can, until the time is over.
fn send_all(
    count: usize,
    size: usize,
    limit: Duration,
    sender: impl Fn(usize) -> Result<Send> + Sync,
) -> Result<Sent> {
    let start_line = Barrier::new(count + 1);
    let body = vec![b'x'; size];
    let mut latency = Histogram::new(3)?;
    let start = thread::scope(|scope| -> Result<Instant> {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (start_line, body, sender) = (&start_line, &body, &sender);
                scope.spawn(move || -> Result<Histogram<u64>> {
                    let opened = sender(number).and_then(|mut send| send(body).map(|()| send));
                    start_line.wait();
                    let mut send = opened?;
                    let (mut times, begin) = (Histogram::new(3)?, Instant::now());
                    while begin.elapsed() < limit {
                        let before = Instant::now();
                        send(body)?;
                        times.record(before.elapsed().as_nanos() as u64)?;
                    }
                    Ok(times)
                })
            })
            .collect();
        start_line.wait();
        let start = Instant::now();
        for thread in threads {
            latency.add(thread.join().map_err(|_| anyhow!("a sender has panicked"))??)?;
        }
        Ok(start)
    })?;
    Ok(Sent { elapsed: start.elapsed(), latency })
}

fn add(samples: &mut Samples, case: &str, point: (&str, f64), peer: &str, sent: &Sent) {
    let count = sent.latency.len() as f64;
    samples.add(case, point, peer, "time", sent.elapsed.as_secs_f64() * 1e6 / count);
    for (metric, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        samples.add(case, point, peer, metric, sent.latency.value_at_quantile(quantile) as f64 / 1e3);
    }
}

/// A folder on a disk: temporary files may be in memory.
fn on_disk() -> Result<tempfile::TempDir> {
    const TMPFS: i64 = 0x0102_1994;
    let here = std::env::current_dir()?;
    let dirs = [Path::new("/var/tmp"), &here];
    let is_disk = |dir: &&&Path| rustix::fs::statfs(**dir).is_ok_and(|about| about.f_type != TMPFS);
    let dir =
        dirs.iter().find(is_disk).context("no folder on a disk: neither /var/tmp nor the current one")?;
    Ok(tempfile::tempdir_in(dir)?)
}

/// Bytes that a process has had written to disks.
fn written(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(value.context("no write_bytes")?.parse()?)
}

fn points() -> impl Iterator<Item = (usize, usize, String)> {
    let point = |size: usize, count: usize| {
        let size = if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
        let senders = if count == 1 { "sender" } else { "senders" };
        format!("{size}, {count} {senders}")
    };
    SIZES.into_iter().flat_map(move |size| SENDERS.map(|count| (size, count, point(size, count))))
}

/// The journal beside libraries.
pub(super) fn stores(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    const CASE: &str = "durable-stores";
    let limit = Duration::from_millis(context.settings.measure_ms) * LONGER;
    let first = context.round % stores::STORES.len();
    let names = stores::STORES[first..].iter().chain(&stores::STORES[..first]);
    for (size, count, point) in points() {
        for name in names.clone() {
            context.go_on(&format!("{CASE}, {point}: {name}"))?;
            let dir = on_disk()?;
            let store: Arc<dyn stores::Store> =
                stores::open(name, dir.path(), count, &vec![b'x'; size])?.into();
            let before = written(std::process::id())?;
            let sent = send_all(count, size, limit, |sender| {
                let store = Arc::clone(&store);
                Ok(Box::new(move |body| store.put(sender, body)))
            })?;
            let bytes = written(std::process::id())?.saturating_sub(before) as f64;
            let point = (&*point, count as f64);
            add(samples, CASE, point, name, &sent);
            samples.add(CASE, point, name, "bytes", bytes / sent.latency.len() as f64);
        }
    }
    Ok(())
}

/// One who can be sent to from several threads.
enum Service {
    Mailbox(Mount),
    Redis(Listening),
    Nats(Listening),
    Beanstalkd(Listening),
    /// The folder of its database.
    Litequeue(PathBuf),
}

const SERVICES: [(&str, &str); 8] = [
    ("ipcfs-uring-fsync", "--transport=uring"),
    ("ipcfs-dev-fsync", "--transport=dev"),
    ("ipcfs-uring-daemon", "--transport=uring"),
    ("ipcfs-uring-off", "--transport=uring"),
    ("redis-always", ""),
    ("nats-always", ""),
    ("beanstalkd-always", ""),
    ("litequeue-full", ""),
];

impl Service {
    fn start(context: &Context<'_>, id: &'static str, transport: &str, dir: &Path) -> Result<Service> {
        Ok(match id {
            "redis-always" => Service::Redis(servers::redis_always(dir)?),
            "nats-always" => Service::Nats(servers::nats_always(dir)?),
            "beanstalkd-always" => Service::Beanstalkd(servers::beanstalkd_always(dir)?),
            "litequeue-full" => {
                let found =
                    Command::new("python3").args(["-c", "import litequeue"]).stderr(Stdio::null()).status();
                ensure!(found?.success(), "the Python package litequeue is not installed");
                Service::Litequeue(dir.to_owned())
            }
            _ => {
                let store = format!("--store={}", dir.join("store").display());
                let mount = Mount::start(&context.program, &context.temp, id, &[transport, &store])?;
                let durable = id.rsplit('-').next().unwrap_or_default();
                for name in ["maxmsg", "maxbytes"] {
                    fs::write(mount.control(&format!("mailboxes/config/{name}")), "max")?;
                }
                fs::write(mount.control("mailboxes/config/durable"), durable)?;
                Service::Mailbox(mount)
            }
        })
    }

    fn run(&self, size: usize, count: usize, limit: Duration) -> Result<Sent> {
        let name = format!("durable-{size}-{count}");
        let sender = |address: Address| -> Result<Send> {
            let mut sender = address.sender()?;
            Ok(Box::new(move |body| sender.send(body)))
        };
        match self {
            Service::Mailbox(mount) => {
                let channel = Channel::mailbox(mount.mailbox(&name))?;
                send_all(count, size, limit, |_| sender(channel.address.clone()))
            }
            Service::Redis(server) => {
                send_all(count, size, limit, |_| sender(Address::RedisList(server.port, name.clone())))
            }
            Service::Nats(server) => {
                let channel = Channel::nats_file(server.port, &name)?;
                send_all(count, size, limit, |_| sender(channel.address.clone()))
            }
            Service::Beanstalkd(server) => send_all(count, size, limit, |_| beanstalk(server.port)),
            Service::Litequeue(dir) => litequeue(&dir.join(name), size, count, limit),
        }
    }
}

/// A connection to beanstalkd. A `put` is answered when the job is in its log.
fn beanstalk(port: u16) -> Result<Send> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("connecting to beanstalkd")?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    Ok(Box::new(move |body| {
        let mut request = format!("put 0 0 60 {}\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request)?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        ensure!(answer.starts_with("INSERTED"), "beanstalkd answers {answer:?}");
        Ok(())
    }))
}

/// Threads of one Python process, each with its own connection to the database. Prints the times of all `put`s.
const LITEQUEUE: &str = "
import sys, threading, time, litequeue
path, size, count, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
body, times, ready = 'x' * size, [], threading.Barrier(count)
def send():
    queue = litequeue.LiteQueue(path, timeout=60)
    queue.conn.execute('PRAGMA synchronous = FULL')
    queue.put(body)
    ready.wait()
    begin = time.monotonic()
    while time.monotonic() - begin < limit:
        before = time.monotonic_ns()
        queue.put(body)
        times.append(time.monotonic_ns() - before)
litequeue.LiteQueue(path)
threads = [threading.Thread(target=send) for _ in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*times, sep='\\n')
";

fn litequeue(path: &Path, size: usize, count: usize, limit: Duration) -> Result<Sent> {
    let seconds = limit.as_secs_f64();
    let words = [&size.to_string(), &count.to_string(), &seconds.to_string()];
    let out = Command::new("python3").args(["-c", LITEQUEUE]).arg(path).args(words).output()?;
    let error = String::from_utf8_lossy(&out.stderr);
    ensure!(
        out.status.success() && error.is_empty(),
        "litequeue: {}",
        error.lines().last().unwrap_or_default()
    );
    let mut latency = Histogram::new(3)?;
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        latency.record(line.parse()?)?;
    }
    Ok(Sent { elapsed: limit, latency })
}

/// ipcfs beside others that keep messages on the disk.
pub(super) fn services(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    const CASE: &str = "durable";
    let limit = Duration::from_millis(context.settings.measure_ms) * LONGER;
    let mut running = Vec::new();
    for (id, transport) in SERVICES {
        let dir = on_disk()?;
        match Service::start(context, id, transport, dir.path()) {
            Ok(service) => running.push((id, service, dir)),
            Err(error) => samples.leave_out(CASE, id, format!("{error:#}")),
        }
    }
    let first = context.round % running.len().max(1);
    for (size, count, point) in points() {
        for (id, service, _) in running[first..].iter().chain(&running[..first]) {
            context.go_on(&format!("{CASE}, {point}: {id}"))?;
            let syncs = || match service {
                Service::Mailbox(mount) => mount.figure("status", "store_syncs").ok(),
                _ => None,
            };
            let before = syncs();
            match service.run(size, count, limit) {
                Ok(sent) => {
                    add(samples, CASE, (&point, count as f64), id, &sent);
                    if let (Some(before), Some(after)) = (before, syncs()) {
                        let each = (after - before) as f64 / sent.latency.len() as f64;
                        samples.add(CASE, (&point, count as f64), id, "syncs", each);
                    }
                }
                Err(error) => samples.leave_out(&format!("{CASE} {point}"), id, format!("{error:#}")),
            }
        }
    }
    Ok(())
}
