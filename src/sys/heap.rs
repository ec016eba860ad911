//! The allocator's habits, where it is glibc's.

#![allow(unsafe_code)]

/// Blocks from this size on come from the system and go back to it, each by itself: tables that grow with what there is
/// to keep. In the heap each would leave a hole behind when it grows, and there would be no telling how much memory the
/// same work takes. The longest message that one write sends is a little shorter: it finds its place in the heap, where
/// memory need not be asked for and cleared each time.
#[cfg(target_env = "gnu")]
const ALONE: libc::c_int = 1 << 20;

/// Free memory at the heap's end that is kept. Beside it there is [`give_back`].
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 8 << 20;

/// Lets all threads share one heap, so that what one of them freed serves the others too. To be called before there
/// are others. glibc would give each thread its own; a message is allocated by the thread that took its write, and
/// freed by the one that took its read. It would also change the sizes above as it goes.
pub fn share_one() {
    #[cfg(target_env = "gnu")]
    for (habit, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, ALONE), (libc::M_TRIM_THRESHOLD, KEPT)]
    {
        // SAFETY: mallopt(3) takes two numbers, touches none of our memory, and no other thread runs yet.
        if unsafe { libc::mallopt(habit, value) } != 1 {
            log::debug!("the allocator keeps its habit {habit}");
        }
    }
}

/// Gives the system the pages that hold nothing any more, which glibc does by itself only at the heap's end.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is safe to be called from any thread at any time; it releases only pages that are free.
    unsafe {
        libc::malloc_trim(0);
    }
}
