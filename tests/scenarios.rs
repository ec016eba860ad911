//! What a mailbox or a segment does, told once and run twice: straight on the tree, and through a real mount. Where the
//! two differ, either the tree's answer is wrong or the kernel does not do with it what we think.
#![allow(
    unreachable_pub,
    clippy::large_stack_arrays,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)] // a test's failure is its report

mod common;
#[path = "scenarios/full.rs"]
mod full;
#[path = "scenarios/harness.rs"]
mod harness;
#[path = "scenarios/messages.rs"]
mod messages;
#[path = "scenarios/mounted.rs"]
mod mounted;
#[path = "scenarios/names.rs"]
mod names;
#[path = "scenarios/straight.rs"]
mod straight;

/// Makes of each scenario two tests, `tree::…` and `mount::…`.
macro_rules! run_by_both {
    ($($module:ident: $($scenario:ident),* $(,)?;)*) => {
        mod tree {
            $($(#[test]
            fn $scenario() {
                crate::$module::$scenario(&mut crate::straight::Straight::new());
            })*)*
        }
        mod mount {
            $($(#[test]
            fn $scenario() {
                let Some(mut harness) = crate::mounted::Mounted::new() else { return };
                crate::$module::$scenario(&mut harness);
            })*)*
        }
    };
}

run_by_both! {
    messages:
        messages_arrive_whole_in_order_and_once,
        a_short_buffer_gets_the_rest_and_then_the_end,
        a_stream_has_no_ends,
        a_descriptor_seeks_in_its_message_only,
        a_waiting_reader_gets_the_next_message,
        readers_are_served_as_they_came,
        an_interrupted_reader_takes_nothing,
        stat_tells_the_longest_message_and_the_backlog;
    full:
        a_full_mailbox_makes_its_writers_wait_in_turn,
        an_interrupted_writer_has_sent_nothing,
        what_is_too_long_is_refused_whole,
        full_may_mean_to_fail_or_to_drop,
        changed_limits_hold_at_once,
        memory_freed_in_one_mailbox_lets_a_writer_of_another_in,
        a_refused_value_changes_nothing_and_says_why;
    names:
        removal_ends_waits_and_uses,
        a_renamed_mailbox_keeps_messages_and_descriptors,
        renaming_over_a_mailbox_removes_it,
        folders_hold_mailboxes_and_control_mirrors_them,
        a_segment_is_a_file_of_memory,
        a_segment_grows_no_further_than_it_may;
}
