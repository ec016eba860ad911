//! Several threads in one tree: no wake-up is lost and nobody is answered twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use super::*;

const ROUNDS: usize = 5000;
const FULL: [u8; LONGEST] = [b'x'; LONGEST];

/// What threads share.
struct Hall {
    tree: Tree,
    unique: AtomicU64,
    answers: Mutex<HashMap<u64, Reply>>,
}

impl Hall {
    fn new(harness: Harness) -> Hall {
        let unique = AtomicU64::new(harness.unique + 2);
        Hall { tree: harness.tree, unique, answers: Mutex::new(HashMap::new()) }
    }

    fn number(&self) -> u64 {
        self.unique.fetch_add(2, Ordering::Relaxed)
    }

    /// A request with the given number. True if it was an interrupt that is to be sent again.
    fn ask(&self, unique: u64, node: NodeId, op: Op<'_>) -> bool {
        let caller = Caller { uid: 0, gid: 0, pid: unique as u32 };
        let mut fx = Effects::new();
        let request = Request { request_id: RequestId { unique, reply_path: 0, pid: 0 }, node, caller, op };
        self.tree.handle(&request, at(unique), &mut fx);
        let mut again = false;
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => {
                    let before = self.answers.lock().unwrap().insert(request_id.unique, reply);
                    assert_eq!(before, None, "{request_id:?} is answered twice");
                }
                Effect::InterruptAgain { .. } => again = true,
                Effect::Deliver(..) | Effect::Promise(..) | Effect::Engine(_) => panic!("{effect:?}"),
                Effect::Wake(_)
                | Effect::InvalidateAttr(_)
                | Effect::Prune(_)
                | Effect::Alarm(_)
                | Effect::TrimHeap
                | Effect::Work
                | Effect::ShareReached { .. } => {}
            }
        }
        again
    }

    fn take(&self, unique: u64) -> Option<Reply> {
        self.answers.lock().unwrap().remove(&unique)
    }

    fn parked(&self) -> usize {
        self.tree.waits.since(Moment::LAST).len()
    }
}

/// In each round all memory is taken, and then freed while writers of other mailboxes come: some find memory, some wait.
/// When all calls have returned there is memory for everyone, so that whoever still waits was forgotten.
#[test]
fn memory_freed_while_writers_begin_to_wait_reaches_all_of_them() {
    const WRITERS: usize = 3;
    let mut harness = Harness::with(setup(room_for(WRITERS as u64)));
    let ballast = harness.create("mailboxes/ballast", BOTH);
    let boxes: Vec<(NodeId, Fh)> =
        (0..WRITERS).map(|number| harness.create(&format!("mailboxes/{number}"), BOTH)).collect();
    let hall = Hall::new(harness);
    let barrier = Barrier::new(WRITERS + 1);
    let forgotten = AtomicUsize::new(0);
    thread::scope(|scope| {
        for &(node, fh) in &boxes {
            let (hall, barrier, forgotten) = (&hall, &barrier, &forgotten);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    barrier.wait();
                    let unique = hall.number();
                    hall.ask(unique, node, write(fh, &FULL));
                    barrier.wait();
                    if hall.take(unique) != Some(Reply::Written(100)) {
                        forgotten.fetch_add(1, Ordering::SeqCst);
                    }
                    // Taken from the queue, or from the hands of the one who was forgotten.
                    hall.ask(hall.number(), node, read(fh));
                    barrier.wait();
                    if forgotten.load(Ordering::SeqCst) > 0 {
                        break;
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            for _ in 0..WRITERS {
                hall.ask(hall.number(), ballast.0, write(ballast.1, &FULL));
            }
            barrier.wait();
            for _ in 0..WRITERS {
                hall.ask(hall.number(), ballast.0, read(ballast.1));
            }
            barrier.wait();
            barrier.wait();
            let forgotten = forgotten.load(Ordering::SeqCst);
            assert_eq!(forgotten, 0, "writers who wait in round {round} though there is memory for all");
            hall.answers.lock().unwrap().clear();
        }
    });
    assert_eq!((hall.parked(), hall.tree.memory.used()), (0, 0));
}

/// A reader begins to wait, is interrupted, and gets a message, all at once. It is answered once; and what it did not
/// get is still there.
#[test]
fn an_interrupt_and_a_message_that_meet_are_decided_once() {
    let mut harness = Harness::new();
    let (node, both) = harness.create("mailboxes/box", BOTH);
    let hall = Hall::new(harness);
    let barrier = Barrier::new(3);
    let reading = AtomicU64::new(0);
    let (mut interrupted, mut received) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                let unique = reading.load(Ordering::SeqCst);
                hall.ask(unique, node, read(both));
                barrier.wait();
            }
        });
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                let unique = reading.load(Ordering::SeqCst);
                // As the kernel: as long as the request has no answer.
                while hall.ask(hall.number(), NodeId(0), Op::Interrupt { unique })
                    && !hall.answers.lock().unwrap().contains_key(&unique)
                {
                    thread::yield_now();
                }
                barrier.wait();
            }
        });
        for _ in 0..ROUNDS {
            let unique = hall.number();
            reading.store(unique, Ordering::SeqCst);
            barrier.wait();
            let sending = hall.number();
            hall.ask(sending, node, write(both, b"x"));
            assert_eq!(hall.take(sending), Some(Reply::Written(1)));
            barrier.wait();
            match hall.take(unique).expect("an answer") {
                Reply::Failed(Error::Interrupted) => {
                    interrupted += 1;
                    let again = hall.number();
                    hall.ask(again, node, read(both));
                    assert!(is_message(&hall.take(again).expect("the message is still there"), b"x"));
                }
                reply => {
                    received += 1;
                    assert!(is_message(&reply, b"x"), "{reply:?}");
                }
            }
            assert_eq!(hall.parked(), 0);
        }
    });
    assert_eq!(interrupted + received, ROUNDS);
    assert!(hall.answers.lock().unwrap().is_empty());
}

/// Readers and writers of several mailboxes, with memory for two messages, each of whom leaves when it has done its
/// part; then the end, which finds nobody. No more writers than messages: all may wait at once, and their messages are
/// held to the same bound.
#[test]
fn everyone_gets_through_with_memory_for_two_messages() {
    const BOXES: usize = 2;
    const EACH: usize = 2000;
    let mut harness = Harness::with(setup(room_for(2)));
    let boxes: Vec<(NodeId, Fh)> =
        (0..BOXES).map(|number| harness.create(&format!("mailboxes/{number}"), BOTH)).collect();
    let hall = Hall::new(harness);
    let failed = AtomicBool::new(false);
    // One call after the other: the next when the one before was answered, by whomever.
    let calls = |node: NodeId, op: &dyn Fn(usize) -> Op<'static>, check: &dyn Fn(&Reply) -> bool| {
        for number in 0..EACH {
            let unique = hall.number();
            hall.ask(unique, node, op(number));
            let begun = std::time::Instant::now();
            let reply = loop {
                match hall.take(unique) {
                    Some(reply) => break reply,
                    None if failed.load(Ordering::Relaxed) => return,
                    None if begun.elapsed().as_secs() > 60 => {
                        failed.store(true, Ordering::Relaxed);
                        panic!("call {number} to {node:?} waits for ever");
                    }
                    None => thread::yield_now(),
                }
            };
            assert!(check(&reply), "{reply:?}");
        }
    };
    thread::scope(|scope| {
        for &(node, fh) in &boxes {
            let calls = &calls;
            scope.spawn(move || {
                calls(node, &|number| write(fh, &FULL[..=(number % LONGEST)]), &|reply| {
                    matches!(reply, Reply::Written(_))
                });
            });
            scope.spawn(move || calls(node, &|_| read(fh), &|reply| matches!(reply, Reply::Message(_))));
        }
    });
    assert_eq!((hall.parked(), hall.tree.memory.used()), (0, 0));
}
