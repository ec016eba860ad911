//! Many processes after the same name at once: each call succeeds or fails as if it had been alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use super::{KINDS, names};
use crate::common;
use crate::common::peer::Peer;

const PROCESSES: usize = 16;

fn crowd() -> Option<Vec<Peer>> {
    (0..PROCESSES).map(|_| Peer::start()).collect()
}

#[test]
fn of_sixteen_processes_exactly_one_creates_exclusively() {
    let Some(mount) = common::mount() else { return };
    let Some(mut peers) = crowd() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        let attempt = "def attempt(path):\n  try: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)); return 1\n  except FileExistsError: return 0";
        for peer in &mut peers {
            peer.run(&format!("exec({attempt:?})"));
        }
        for peer in &mut peers {
            peer.tell(&format!("[attempt({dir:?} + '/%d' % n) for n in range(100)]"));
        }
        let answers: Vec<String> = peers.iter_mut().map(Peer::answer).collect();
        let won: Vec<Vec<u32>> = answers
            .iter()
            .map(|answer| {
                assert!(answer.starts_with('['), "{answer}");
                answer.trim_matches(['[', ']']).split(", ").map(|number| number.parse().unwrap()).collect()
            })
            .collect();
        for n in 0..100 {
            assert_eq!(won.iter().map(|won| won[n]).sum::<u32>(), 1, "creators of {kind}/{n}");
        }
        assert_eq!(names(&dir).len(), 100);
    }
}

#[test]
fn creating_and_removing_one_name_at_once_never_fails_for_anyone() {
    let Some(mount) = common::mount() else { return };
    let Some(mut peers) = crowd() else { return };
    for kind in KINDS {
        let path = mount.path(kind).join("name");
        // `open` of a shell's `echo >`: creates the file or opens the one that is there. Removing may come too late.
        let step = "def steps(path):\n  for n in range(500):\n    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))\n    try: os.unlink(path)\n    except FileNotFoundError: pass";
        for peer in &mut peers {
            peer.run(&format!("exec({step:?})"));
        }
        for peer in &mut peers {
            peer.tell(&format!("steps({path:?})"));
        }
        for peer in &mut peers {
            assert_eq!(peer.answer(), "None", "{kind}");
        }
        assert!(!path.exists() || fs::remove_file(&path).is_ok());
    }
    assert_eq!(mount.figure("status", "mailboxes"), 0);
    assert_eq!(mount.figure("status", "segments"), 0);
}

#[test]
fn sixteen_senders_at_once_lose_nothing() {
    let Some(mount) = common::mount() else { return };
    let Some(mut peers) = crowd() else { return };
    let path = mount.make_mailbox("box", &[]);
    // Each send through an open of its own, as from a shell.
    let send =
        "def send(path, n):\n  fd = os.open(path, os.O_WRONLY)\n  os.write(fd, b'%05d' % n)\n  os.close(fd)";
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.run(&format!("exec({send:?})"));
        peer.tell(&format!("[send({path:?}, {number} * 100 + n) for n in range(100)] and None"));
    }
    for peer in &mut peers {
        assert_eq!(peer.answer(), "None");
    }
    let mut received: Vec<u32> =
        (0..1600).map(|_| fs::read_to_string(&path).unwrap().parse().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, (0..1600).collect::<Vec<_>>());
    assert_eq!(mount.figure("mailboxes/box/status", "depth"), 0);
}

/// Threads that do `work` at the same moment.
fn at_once<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<JoinHandle<T>> {
    let start = Arc::new(Barrier::new(count));
    let thread = |n| {
        let (start, work) = (Arc::clone(&start), work.clone());
        let wait = move || {
            start.wait();
            work(n)
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(wait).unwrap()
    };
    (0..count).map(thread).collect()
}

#[test]
fn hundreds_who_open_at_once_are_all_let_in() {
    const COUNT: usize = 400;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    let reading = at_once(COUNT, {
        let path = path.clone();
        move |_| fs::read_to_string(&path).unwrap()
    });
    mount.wait_for_figure("box", "waiting_readers", COUNT as u64);
    let nodes = mount.figure("status", "nodes");
    assert!(nodes < COUNT as u64 / 2, "{nodes} nodes: readers share them");
    let sending = at_once(2 * COUNT, {
        let path = path.clone();
        move |n| {
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(format!("{n:04}").as_bytes()).unwrap();
        }
    });
    let mut received: Vec<String> = reading.into_iter().map(|thread| thread.join().unwrap()).collect();
    // The mailbox is full, and those who wait keep none of these waiting.
    mount.wait_for_figure("box", "waiting_writers", COUNT as u64 - 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    File::options().write(true).truncate(true).open(&path).unwrap();
    received.extend((0..COUNT).map(|_| fs::read_to_string(&path).unwrap()));
    for thread in sending {
        thread.join().unwrap();
    }
    received.sort_unstable();
    assert_eq!(received, (0..2 * COUNT).map(|n| format!("{n:04}")).collect::<Vec<_>>());
    fs::remove_file(&path).unwrap();
}

/// Opens of one mailbox in many ways, on a machine that is busy, while others look it up and replace it.
#[test]
fn no_open_fails_though_the_machine_is_busy_and_others_look_up_and_replace_the_file() {
    const THREADS: usize = 32;
    const OPENS: usize = 300;
    let Some(mount) = common::mount() else { return };
    for kind in ["mailboxes", "segments"] {
        let path = mount.path(kind).join("name");
        File::create(&path).unwrap();
        if kind == "mailboxes" {
            let full = mount.path("control/mailboxes/config/full");
            fs::write(full, "drop-oldest").unwrap();
        }
        let running = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let meanwhile = |work: Box<dyn Fn() + Send>| {
            let running = Arc::clone(&running);
            std::thread::spawn(move || {
                while running.load(std::sync::atomic::Ordering::Relaxed) {
                    work();
                }
            })
        };
        let mut others: Vec<JoinHandle<()>> = (0..2)
            .map(|_| {
                meanwhile(Box::new(|| assert_eq!((0..1_000).map(std::hint::black_box).max(), Some(999))))
            })
            .collect();
        let looked_up = path.clone();
        others.push(meanwhile(Box::new(move || assert!(fs::metadata(&looked_up).unwrap().is_file()))));
        let (replaced, new) = (path.clone(), path.with_extension("new"));
        others.push(meanwhile(Box::new(move || {
            File::create(&new).unwrap();
            fs::rename(&new, &replaced).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        })));
        let opening = at_once(THREADS, {
            let path = path.clone();
            move |thread| {
                for n in 0..OPENS {
                    let mut options = OpenOptions::new();
                    match (thread + n) % 4 {
                        0 => options.read(true),
                        1 => options.write(true),
                        2 => options.read(true).write(true),
                        _ => options.write(true).create(true).truncate(true),
                    };
                    if let Err(error) = options.open(&path) {
                        return Some(format!("open {n} by thread {thread}: {error}"));
                    }
                }
                None
            }
        });
        let failed: Vec<String> = opening.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(failed, [""; 0], "{kind}");
    }
}
