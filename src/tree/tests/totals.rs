//! The mount's figures are at any time the sum of its mailboxes'.

use super::*;
use crate::mailbox::Counts;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn totals(harness: &Harness) -> Counts {
    harness.tree.totals.read_all(|file, settled| file.settle(settled)).0
}

/// The counters that never fall.
fn since_start(harness: &Harness) -> Counts {
    harness.tree.totals.read_all(|file, settled| file.settle(settled)).1
}

fn sum(harness: &Harness) -> Counts {
    let mut sum = Counts::default();
    for name in NAMES {
        let root = Caller { uid: 0, gid: 0, pid: 1 };
        let found = harness.tree.names.lock().find_mailbox(name.as_bytes(), root);
        if let Ok(Inode::Mailbox(file)) = found {
            sum.add(&file.state.lock().queue.counts());
        }
    }
    sum
}

/// A mailbox that is there, open.
fn some(harness: &mut Harness, dice: &mut Dice) -> Option<(&'static str, NodeId, Fh)> {
    let name = NAMES[dice.roll(4) as usize];
    let node = harness.look_up(1, MAILBOXES, name).ok()?.node;
    let fh = harness.open(1, node, BOTH).or_else(|_| {
        let node = harness.look_up(1, MAILBOXES, name)?.node;
        harness.open(1, node, BOTH)
    });
    Some((name, node, fh.ok()?))
}

#[test]
fn whatever_happens_the_totals_are_the_sum() {
    for seed in 0..60 {
        let mut harness = Harness::with(setup(room_for(12)));
        harness.node("mailboxes");
        let mut dice = Dice(seed);
        let mut waiting = Vec::new();
        let mut before = Counts::default();
        for step in 0..400 {
            harness.late.clear();
            match dice.roll(12) {
                0 | 1 => {
                    let name = NAMES[dice.roll(4) as usize];
                    harness.ask(1, MAILBOXES, Op::Mknod { name: name.as_bytes(), mode: 0o600 });
                }
                2 => {
                    let name = NAMES[dice.roll(4) as usize];
                    harness.ask(1, MAILBOXES, Op::Unlink { name: name.as_bytes() });
                }
                3 => {
                    let (name, new_name) = (NAMES[dice.roll(4) as usize], NAMES[dice.roll(4) as usize]);
                    let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
                    let how = crate::op::RenameHow::Replace;
                    harness.ask(1, MAILBOXES, Op::Rename { name, new_parent: MAILBOXES, new_name, how });
                }
                4 => {
                    let Some((name, ..)) = some(&mut harness, &mut dice) else { continue };
                    let (from, to) =
                        (format!("control/mailboxes/{name}/messages"), NAMES[dice.roll(4) as usize]);
                    let from = harness.node(&from);
                    let Ok(to) =
                        harness.look_up(1, MAILBOXES, to).map(|_| format!("control/mailboxes/{to}/messages"))
                    else {
                        continue;
                    };
                    let new_parent = harness.node(&to);
                    for id in 1..40u64 {
                        let name = id.to_string();
                        let (name, how) = (name.as_bytes(), crate::op::RenameHow::Replace);
                        harness.ask(1, from, Op::Rename { name, new_parent, new_name: name, how });
                    }
                }
                5 => {
                    if let Some(unique) = waiting.pop() {
                        harness.ask(1, NodeId::ROOT, Op::Interrupt { unique });
                    }
                }
                6..=8 => {
                    let Some((_, node, fh)) = some(&mut harness, &mut dice) else { continue };
                    let (unique, reply) = harness.ask(1, node, write(fh, &[b'x'; LONGEST]));
                    waiting.extend(reply.is_none().then_some(unique));
                }
                _ => {
                    let Some((_, node, fh)) = some(&mut harness, &mut dice) else { continue };
                    let (unique, reply) = harness.ask(1, node, read(fh));
                    waiting.extend(reply.is_none().then_some(unique));
                }
            }
            if dice.roll(5) == 0 {
                assert_eq!(totals(&harness), sum(&harness), "seed {seed}, step {step}");
                let now = since_start(&harness);
                assert!(now.sent >= before.sent.max(totals(&harness).sent), "seed {seed}, step {step}");
                assert!(now.received >= before.received, "seed {seed}, step {step}");
                before = now;
            }
        }
        for name in NAMES {
            harness.late.clear();
            harness.ask(1, MAILBOXES, Op::Unlink { name: name.as_bytes() });
        }
        assert_eq!(totals(&harness), Counts::default(), "seed {seed}");
        let ever = since_start(&harness);
        assert!(ever.sent >= before.sent && before.sent > 0, "seed {seed}: {ever:?}");
    }
}

#[test]
fn removed_mailboxes_leave_nothing_whether_or_not_anybody_looks() {
    let mut harness = Harness::new();
    for _ in 0..1_000 {
        let (node, fh) = harness.create("mailboxes/box", BOTH);
        harness.get(node, write(fh, b"gone"));
        harness.unlink("mailboxes/box");
        harness.get(node, read(fh));
        harness.release(node, fh);
    }
    assert_eq!(harness.tree.totals.listed(), 0);
}
