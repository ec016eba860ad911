//! Settings of the allocator, if it is glibc's.

#![allow(unsafe_code)]

/// Size in bytes from which a block is mapped, and unmapped when it is freed. Such blocks are tables that grow. In the heap
/// each would leave a hole behind when it grows, and memory use would depend on chance. The longest message that one write
/// sends is a little shorter: it is allocated in the heap, which avoids a system call and clearing the memory each time.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 1 << 20;

/// Bytes of free memory at the heap's end that are kept. [`trim`] releases the rest.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 8 << 20;

/// Makes all threads use one arena. Must be called before other threads start. glibc would give each thread its own arena,
/// but a message is allocated by the thread that handled its write, and freed by the one that handled its read. glibc would
/// also adjust the thresholds above by itself.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
    ] {
        // SAFETY: mallopt(3) takes two numbers, accesses no memory of this program, and no other thread runs yet.
        if unsafe { libc::mallopt(parameter, value) } != 1 {
            log::debug!("mallopt(3) refuses parameter {parameter}");
        }
    }
}

/// Returns free pages to the system. glibc does so by itself only at the heap's end.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called from any thread at any time; it releases only pages that are free.
    unsafe {
        libc::malloc_trim(0);
    }
}
