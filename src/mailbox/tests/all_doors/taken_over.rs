//! The same histories, with another process that takes the mailbox over in between.

use super::*;
use crate::state::{Given, Restorer, Saved, Saver};

impl World {
    /// Saves the mailbox and all that holds charges beside it.
    fn saved(&self) -> Vec<u8> {
        let World { mailbox, memory, elsewhere, moving, .. } = self;
        let mut state = Vec::new();
        let mut to = Saver::new(&mut state);
        mailbox.save(&mut to);
        memory.save(&mut to);
        elsewhere.save(&mut to);
        moving.save(&mut to);
        assert!(to.finish().unwrap().is_empty());
        state
    }

    fn take_over(&mut self) {
        let state = self.saved();
        let used = Resource::ALL.map(|resource| self.accounts.used(resource));
        let accounts = Arc::new(Accounts::unshared(MEMORY));
        let journal = self.store.as_ref().map(|(journal, _)| Arc::clone(journal));
        let mut from = Restorer::new(&state).unwrap();
        from.give(Given {
            accounts: Arc::clone(&accounts),
            journal,
            memories: Vec::new(),
            now: at(self.now),
            longest_table: 1000,
        });
        self.mailbox = Saved::restore(&mut from).unwrap();
        self.memory = Saved::restore(&mut from).unwrap();
        self.elsewhere = Saved::restore(&mut from).unwrap();
        self.moving = Saved::restore(&mut from).unwrap();
        assert!(from.is_at_end());
        self.accounts = accounts;
        assert_eq!(Resource::ALL.map(|resource| self.accounts.used(resource)), used);
        assert!(self.saved() == state, "{:?}", self.mailbox);
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_mailbox_that_is_taken_over_answers_as_it_would_have(steps in steps(), store in any::<bool>()) {
        // Open files of the two have the same numbers as long as none is closed.
        let steps = steps.iter().filter(|step| !matches!(step, Step::Close(_)));
        let new = || if store { World::with_store() } else { World::new() };
        let (mut alone, mut taken_over) = (new(), new());
        for step in steps {
            alone.perform(step);
            alone.check();
            taken_over.take_over();
            taken_over.perform(step);
            taken_over.check();
            assert_eq!(alone.answered, taken_over.answered);
            assert_eq!(listing(&alone.mailbox), listing(&taken_over.mailbox));
            assert_eq!(alone.mailbox.counts(), taken_over.mailbox.counts());
        }
        taken_over.finish();
    }

    #[test]
    fn whatever_happens_when_it_is_taken_over_nothing_is_lost_and_nobody_waits_in_vain(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take_over();
            world.perform(step);
            world.check();
        }
        world.finish();
    }
}
