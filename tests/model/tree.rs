//! Random requests to a whole tree, as a kernel would send them, and as it never would.

use proptest::prelude::*;

use super::config;
use super::script::{Step, perform, perform_garbage};
use super::world::World;

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = any::<(u8, u8, u8, u8, u16)>().prop_map(|(what, who, a, b, c)| Step { what, who, a, b, c });
    prop::collection::vec(step, 1..longest)
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn every_request_is_answered_once_and_nothing_is_left_in_the_end(steps in steps(200), end in any::<bool>()) {
        let mut world = World::new();
        for step in &steps {
            perform(&mut world, *step);
        }
        world.finish(end);
    }

    #[test]
    fn a_tree_that_is_taken_over_again_and_again_goes_on_as_it_was(
        steps in steps(200),
        every in 1..20_usize,
        end in any::<bool>(),
        garbage in any::<bool>(),
    ) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            if garbage && number > steps.len() / 2 {
                perform_garbage(&mut world, *step);
            } else {
                perform(&mut world, *step);
            }
            if number % every == 0 {
                world.restart();
            }
        }
        world.finish(end);
    }

    #[test]
    fn garbage_is_answered_too(steps in steps(200), begin in 0..60_usize) {
        let mut world = World::new();
        for step in steps.iter().take(begin) {
            perform(&mut world, *step);
        }
        for step in steps.iter().skip(begin) {
            perform_garbage(&mut world, *step);
        }
        world.finish(true);
    }
}
