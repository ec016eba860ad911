//! What is measured: a list of cases, each done by all peers that can.

mod blocked;
mod daemon;
mod depth;
mod durable;
mod hosts;
mod languages;
mod lines;
mod mailboxes;
mod messages;
mod requests;
mod segments;
mod shell;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use indicatif::ProgressBar;

use crate::launch::Cost;
use crate::model::{Samples, Settings};
use crate::peers::{Address, Kind, Peer, Shape};
use crate::servers::Mount;

/// One kind of work.
pub struct Case {
    /// As in the JSON and for `--only`.
    pub id: &'static str,
    pub title: &'static str,
    /// What its figures mean.
    pub about: &'static str,
    /// Whether it is about growth, which takes long and is done in fewer rounds.
    pub growth: bool,
    pub run: fn(&Context<'_>, &mut Samples) -> Result<()>,
}

impl Case {
    pub fn rounds(&self, settings: &Settings) -> usize {
        if self.growth { settings.growth_rounds } else { settings.rounds }
    }
}

pub const CASES: &[Case] = &[
    Case {
        id: "oneway",
        title: "One way, two processes",
        about: "One process sends as fast as it can, another receives: time from the first send to the last \
                receive, divided by the messages.",
        growth: false,
        run: messages::one_way,
    },
    Case {
        id: "roundtrip",
        title: "Round trip, two processes",
        about: "A message goes to another process and comes back.",
        growth: false,
        run: messages::round_trip,
    },
    Case {
        id: "pair",
        title: "Send and receive, one process",
        about: "One process sends a message and receives it, with both ends open: what the two calls cost when nobody \
                has to be woken.",
        growth: false,
        run: messages::pair,
    },
    Case {
        id: "open",
        title: "Open, send, close; open, receive, close",
        about: "The same, opening and closing the ends for each message: the calls of `echo > box; cat box`, without \
                starting programs.",
        growth: false,
        run: messages::open,
    },
    Case {
        id: "shell",
        title: "A message from and to the shell",
        about: "The same as a shell script does it, starting a program to receive each message.",
        growth: false,
        run: shell::run,
    },
    Case {
        id: "languages",
        title: "A message from and to a programming language, 64 B",
        about: "The same with the functions that each language has for whole files. A FIFO has no end of a message: \
                a second descriptor keeps it open, and the reader reads 64 bytes. Of these languages, only Rust (by a \
                library) has POSIX queues.",
        growth: false,
        run: languages::run,
    },
    Case {
        id: "lines",
        title: "1,000 lines",
        about: "`seq` writes lines, `cat` reads them and writes them to a pipe: time for 1,000 lines. Through `stream`, \
                each line is a message.",
        growth: false,
        run: lines::run,
    },
    Case {
        id: "many",
        title: "Many senders and receivers, 64 B",
        about: "As one way, with several processes on both sides of one channel.",
        growth: false,
        run: messages::many,
    },
    Case {
        id: "cpus",
        title: "A channel on each CPU, 64 B",
        about: "A process on each CPU sends and receives in a channel of its own: time for a message of them all. With \
                two CPUs that share nothing it is half of one's.",
        growth: false,
        run: messages::cpus,
    },
    Case {
        id: "segments",
        title: "A segment, and a file in /dev/shm",
        about: "Stores and loads go to each cache line of 16 MiB in turn; the first touch is of each of their pages. A \
                segment's whole life is create, ftruncate, mmap, close, a store, unlink, munmap. `sealed`: growing was \
                sealed before the file was opened. While pages are written back every 50 ms, stores go to places at \
                random.",
        growth: false,
        run: segments::run,
    },
    Case {
        id: "handover",
        title: "A text handed over and acknowledged",
        about: "From one thread to another, which says that it has it: by two mailboxes; or copied into a segment and \
                out of it, with a word in it that says whose turn it is.",
        growth: false,
        run: segments::hand_over,
    },
    Case {
        id: "durable-stores",
        title: "Messages kept on a disk, by a library",
        about: "Threads put messages, each of which has to survive a power cut before the next; for each, the oldest of \
                1,000 is taken. All share one fdatasync(2) among those that come meanwhile. `bytes`: written to the \
                disk for each message.",
        growth: false,
        run: durable::stores,
    },
    Case {
        id: "durable",
        title: "Messages kept on a disk, by a server",
        about: "Threads send messages, each waiting until its message survives a power cut (`fsync`, `always`, `full`). \
                For comparison, a mailbox that survives the death of the daemon only (`daemon`), and one that does not \
                (`off`). `syncs`: calls of fdatasync(2) for each message. litequeue runs in one Python process.",
        growth: false,
        run: durable::services,
    },
    Case {
        id: "hosts",
        title: "Mailboxes that several hosts share",
        about: "A mailbox that NATS JetStream carries, beside a program that does the same with async-nats alone: each send \
                waits for the server's answer; each receive asks for one message, and waits until the server has the \
                acknowledgement. One server, which keeps messages in files. `way`: as one way; `trip`: as round trip.",
        growth: false,
        run: hosts::run,
    },
    Case {
        id: "daemon",
        title: "Start and stop",
        about: "From starting the server to its being ready, and from asking it to end to its being gone.",
        growth: false,
        run: daemon::run,
    },
    Case {
        id: "requests",
        title: "Requests to the daemon",
        about: "How many requests the kernel sends to the daemon for it.",
        growth: true,
        run: requests::run,
    },
    Case {
        id: "blocked",
        title: "Readers that wait",
        about: "So many threads wait for messages in one channel. Beside them one process sends and receives in \
                another (`time`); messages are sent to those who wait (`wake`); then all are killed at once (`kill`, \
                for each).",
        growth: true,
        run: blocked::run,
    },
    Case {
        id: "depth",
        title: "Messages that wait, 64 B",
        about: "So many messages wait. One more is sent and the oldest received (`time`).",
        growth: true,
        run: depth::run,
    },
    Case {
        id: "mailboxes",
        title: "Mailboxes",
        about: "So many mailboxes, or FIFOs in a directory of tmpfs, are there. More are made and removed, one is \
                used as in `open` (`time`), found, and all are listed.",
        growth: true,
        run: mailboxes::run,
    },
];

pub fn case(id: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.id == id)
}

/// What is there in a round.
pub struct Context<'a> {
    /// The program under test.
    pub program: PathBuf,
    /// On a file system of memory, where there is one.
    pub temp: PathBuf,
    pub settings: &'a Settings,
    pub peers: Vec<Peer>,
    pub mounts: Vec<Mount>,
    /// Transports that mounts can have here, as the peer's name and the option of `ipcfs mount`.
    pub transports: Vec<(&'static str, &'static str)>,
    pub round: usize,
    /// Set when the run shall end early.
    pub stop: Arc<AtomicBool>,
    pub bar: ProgressBar,
}

impl Context<'_> {
    /// Fails if the run shall end.
    pub fn go_on(&self, what: &str) -> Result<()> {
        self.bar.set_message(what.to_owned());
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// All peers, in another order each round, so that nobody always comes after the same one.
    pub fn in_turn(&self) -> impl Iterator<Item = &Peer> {
        let first = self.round % self.peers.len().max(1);
        self.peers[first..].iter().chain(&self.peers[..first])
    }

    /// Measures all peers that are fit for it. What one of them fails in is noted, and the others go on.
    fn measure(
        &self,
        (case, point, x): (&str, &str, f64),
        shape: Shape,
        samples: &mut Samples,
        work: impl Fn(&Peer) -> Result<Cost>,
    ) -> Result<()> {
        for peer in self.in_turn() {
            self.go_on(&format!("{case}, {point}: {}", crate::peers::name(peer.id)))?;
            // Which is no way to pass messages.
            if matches!(peer.kind, Kind::Null(_)) && !shape.alone {
                continue;
            }
            if let Some(why) = peer.unfit(shape) {
                samples.leave_out(&format!("{case} {point}"), peer.id, why);
                continue;
            }
            match work(peer) {
                Ok(cost) => add(samples, case, (point, x), peer.id, &cost),
                Err(error) => {
                    self.go_on("")?;
                    samples.leave_out(&format!("{case} {point}"), peer.id, format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    /// A mount of its own, for what grows: nobody else's memory is in its figures.
    fn fresh_mount(&self, id: &'static str, transport: &str) -> Result<(Mount, Peer)> {
        let temp = self.temp.join("fresh");
        std::fs::create_dir_all(&temp)?;
        let mount = Mount::start(&self.program, &temp, id, &[transport])?;
        let kind = Kind::Mailbox(mount.dir.join("mailboxes"));
        let peer = Peer { id, kind, server: Some(mount.pid()) };
        Ok((mount, peer))
    }
}

fn add(samples: &mut Samples, case: &str, point: (&str, f64), peer: &str, cost: &Cost) {
    let mut add = |metric: &str, value: f64| samples.add(case, point, peer, metric, value);
    add("time", cost.time);
    if let Some(latency) = cost.latency {
        add("p50", latency.p50 as f64 / 1e3);
        add("p99", latency.p99 as f64 / 1e3);
        add("p99.9", latency.p999 as f64 / 1e3);
        add("max", latency.max as f64 / 1e3);
    }
    add("cpu_clients", cost.cpu_clients);
    if let Some((cpu, peak)) = cost.server {
        add("cpu_server", cpu);
        add("peak", peak);
    }
}

/// Microseconds that one of so many takes.
fn timed(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// Microseconds that one takes, of as many as a quarter of the measuring time has room for.
fn repeated(settings: &Settings, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed().as_millis() < u128::from(settings.measure_ms) / 4 {
        work()?;
        count += 1;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

/// 1, 10, 100, … up to `most`.
fn decades(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n * 10)).take_while(move |n| *n <= most)
}

/// 1,000,000 rather than 1000000.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mailbox(mount: &Mount, name: &str) -> Address {
    Address::Mailbox(mount.mailbox(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own() {
        for case in CASES {
            assert_eq!(CASES.iter().filter(|other| other.id == case.id).count(), 1, "{}", case.id);
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let groups = [0, 999, 1000, 1_044_480].map(grouped);
        assert_eq!(groups, ["0", "999", "1,000", "1,044,480"]);
    }

    #[test]
    fn decades_end_with_the_last() {
        assert_eq!(decades(1000).collect::<Vec<_>>(), [1, 10, 100, 1000]);
        assert_eq!(decades(999).last(), Some(100));
    }
}
