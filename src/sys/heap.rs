//! The allocator's habits, where it is glibc's.

#![allow(unsafe_code)]

/// Lets all threads share one heap, so that what one of them freed serves the others too. To be called before there
/// are others. glibc would give each thread its own; a message is allocated by the thread that took its write, and
/// freed by the one that took its read.
pub fn share_one() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, touches none of our memory, and no other thread runs yet.
    let done = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    #[cfg(target_env = "gnu")]
    if done != 1 {
        log::debug!("threads keep heaps of their own");
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
