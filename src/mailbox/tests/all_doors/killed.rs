//! The same histories, with a daemon that is killed now and then: what is left is what its mailbox had recorded, and the kernel, which
//! presents each call again that is not answered.

use std::os::fd::OwnedFd;

use super::*;
use crate::op::{ANSWER, WAKE};
use crate::state::{Given, Restorer};
use crate::sys::state_memory::{Slot, StateMemory};

/// Calls that wait, as they came.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Receive(Receive),
    Send { handle: HandleId, body: Vec<u8>, caller: Caller },
}

fn memory() -> &'static StateMemory {
    StateMemory::new(1 << 20).unwrap()
}

fn can_be_recorded(step: &Step) -> bool {
    match step {
        // A run of lines that is recovered twice is not found the second time.
        Step::Open(Door::Stream, mode) => *mode == Mode::Receive,
        // Between two calls a message on its way is nowhere.
        Step::MoveOut(_) | Step::MoveIn { .. } => false,
        _ => true,
    }
}

impl World {
    fn recorded() -> World {
        let mut world = World::new();
        world.mailbox = world.mailbox.with_records(Ino(20), memory());
        world.call(|_, _| {});
        world
    }

    /// The daemon is killed, and another one takes its place. Returns the effects that it finds recorded.
    fn kill(&mut self) -> Vec<Effect> {
        let memory = self.mailbox.state_memory().unwrap();
        let file: OwnedFd = memory.file().try_clone_to_owned().unwrap();
        let used = self.accounts.used(Resource::Memory);
        // Nothing ends as it would in a daemon that lives.
        std::mem::forget(std::mem::replace(&mut self.mailbox, Mailbox::new(LIMITS, FileTime::default())));
        std::mem::forget(self.fx.take_records());
        memory.let_go();
        let (memory, slots) = StateMemory::take_over(file).unwrap();
        let (decided, slots): (Vec<Slot>, _) =
            slots.into_iter().partition(|slot| matches!(slot.kind(), ANSWER | WAKE));
        let accounts = Arc::new(Accounts::unshared(MEMORY));
        let mut from = Restorer::of_values(Given {
            accounts: Arc::clone(&accounts),
            journal: None,
            memories: Vec::new(),
            now: at(self.now),
            longest_table: 1000,
        });
        let effect = |slot: &Slot| match slot.kind() {
            WAKE => Effect::Wake(PollHandle(slot.word(0))),
            _ => Effect::Reply(request_id(slot.word(0)), from.alone(slot.bytes()).unwrap()),
        };
        let decided: Vec<Effect> = decided.iter().map(effect).collect();
        let (mailbox, polls) = Mailbox::of_records(slots, memory, &mut from).unwrap();
        self.mailbox = mailbox;
        let elsewhere = self.elsewhere.take().map_or(0, |charge| charge.amount());
        self.elsewhere = Some(accounts.of(1).charge_regardless(Resource::Memory, elsewhere));
        assert_eq!(accounts.used(Resource::Memory), used);
        let ids = Memory::new(Arc::clone(&accounts));
        ids.skip_ids(self.memory.allocate_ids(1) - 1);
        (self.memory, self.accounts) = (ids, accounts);
        self.woken.extend(polls.iter().map(|poll| poll.0 as usize));
        let is_decided = |unique: u64| {
            decided.iter().any(|effect| matches!(effect, Effect::Reply(id, _) if id.unique == unique))
        };
        // In the order in which they came.
        let waits = std::mem::take(&mut self.waits);
        let (decided_waits, waits): (BTreeMap<_, _>, BTreeMap<_, _>) =
            waits.into_iter().partition(|(unique, _)| is_decided(*unique));
        for wait in waits {
            self.present_again(wait);
        }
        self.waits.extend(decided_waits);
        decided
    }

    /// If the daemon is to die when it has decided something: the next one does what that one has decided.
    pub(super) fn killed_before(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let current = self.calls;
        let answers = |effect: &Effect| matches!(effect, Effect::Reply(id, _) if id.unique == current);
        let records = self.fx.take_records();
        // A call that waits is not known yet. If nothing was decided but answers, the calls come again.
        let is_known = effects.iter().any(answers) || self.answered.contains_key(&current);
        if !self.dies || records.is_empty() || !is_known {
            return effects;
        }
        std::mem::forget(records);
        self.dies = false;
        let mut found = self.kill();
        self.dies = true;
        for effect in &effects {
            let at = found.iter().position(|found| found == effect);
            found.swap_remove(at.unwrap_or_else(|| panic!("{effect:?} is lost: {found:?}")));
        }
        assert_eq!(found, []);
        effects
    }

    fn finish_recorded(mut self) {
        self.dies = false;
        let memory = self.mailbox.state_memory().unwrap();
        self.finish();
        memory.let_go();
    }

    fn present_again(&mut self, (unique, (_, handle, reads)): (u64, (WaitId, usize, bool))) {
        let request_id = request_id(unique);
        self.waits.insert(unique, (WaitId(0), handle, reads));
        let call = self.calls_made.get(&unique).cloned().unwrap();
        let id = match &call {
            Call::Receive(call) => {
                let call = Receive { request_id, ..*call };
                self.call(|mailbox, cx| mailbox.receive(call, cx))
            }
            Call::Send { handle, body, caller } => {
                let (handle, caller) = (*handle, *caller);
                let call = Send { request_id, handle, body, continues: false, nonblock: false, caller };
                let resumed = self.call(|mailbox, _| mailbox.resume_write(request_id, false));
                resumed.or_else(|| self.call(|mailbox, cx| mailbox.send(call, cx)))
            }
        };
        match id {
            Some(id) if self.waits.contains_key(&unique) => {
                self.waits.insert(unique, (id, handle, reads));
            }
            // Something is due that the clock has not seen to; or the limits have been lowered, and while it waited, it could wait on.
            _ => assert!(self.answered.contains_key(&unique)),
        }
    }
}

/// Performs the same on two mailboxes, one of which is recorded. `between` comes before each step.
fn compare(steps: &[Step], mut killed: World, between: impl Fn(&mut World)) {
    let mut alone = World::new();
    // A call that comes again finds what is due, and does not wait for the clock.
    (alone.on_time, killed.on_time) = (true, true);
    for step in steps.iter().filter(|step| can_be_recorded(step)) {
        let compared = match step {
            // Open files of the two have the same numbers as long as none is closed.
            Step::Close(_) => false,
            // A call that comes again is decided by what holds then.
            Step::Limits(_) | Step::Rules(_) => alone.waits.is_empty(),
            _ => true,
        };
        if compared {
            alone.perform(step);
            alone.check();
            between(&mut killed);
            killed.perform(step);
            killed.check();
            assert_eq!(alone.answered, killed.answered);
            assert_eq!(listing(&alone.mailbox), listing(&killed.mailbox));
            assert_eq!(alone.mailbox.counts(), killed.mailbox.counts());
        }
    }
    killed.finish_recorded();
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_mailbox_whose_daemon_is_killed_answers_as_it_would_have(steps in steps()) {
        compare(&steps, World::recorded(), |world| assert_eq!(world.kill(), [], "all was done"));
    }

    #[test]
    fn what_is_decided_when_it_is_killed_is_done_once(steps in steps()) {
        let dying = World { dies: true, ..World::recorded() };
        compare(&steps, dying, |_| {});
    }

    #[test]
    fn whenever_it_is_killed_nothing_is_lost_and_nobody_waits_in_vain(steps in steps()) {
        let mut world = World::recorded();
        for step in steps.iter().filter(|step| can_be_recorded(step)) {
            assert_eq!(world.kill(), [], "all was done");
            world.perform(step);
            world.check();
        }
        world.finish_recorded();
    }
}
