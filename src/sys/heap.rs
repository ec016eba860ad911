//! The process's heap: glibc's, with its settings, and with a reserve for the moment in which the system has no more
//! memory for it.
//!
//! Rust aborts the process if an allocation fails that has no way to report it, and most have none. Here a failed
//! allocation takes its memory from a reserve first. From then on [`is_low`] is true, and requests that need memory are
//! refused with `ENOMEM` until the reserve could be made whole. What remains: an allocation that is greater than the
//! reserve itself (a table of more than some 100,000 entries that grows) still aborts if it fails, and so does one that
//! comes while the reserve is used up by requests that were under way.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

#[global_allocator]
static HEAP: Heap = Heap;

/// Size in bytes from which a block is mapped, and unmapped when it is freed. Such blocks are tables that grow. In the heap
/// each would leave a hole behind when it grows, and memory use would depend on chance. The longest message that one write
/// sends is a little shorter: it is allocated in the heap, which avoids a system call and clearing the memory each time.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 1 << 20;

/// Bytes of free memory at the heap's end that are kept. [`trim`] releases the rest.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 8 << 20;

/// Bytes of the reserve: several of the longest messages. It is never touched, so it takes address space alone.
pub const RESERVE: usize = 8 << 20;

const RESERVE_LAYOUT: Layout = match Layout::from_size_align(RESERVE, 16) {
    Ok(layout) => layout,
    Err(_) => Layout::new::<u8>(),
};

/// The reserve, or null.
static RESERVED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// The reserve was used.
static LOW: AtomicBool = AtomicBool::new(false);

/// How often it was.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, and the reserve.
struct Heap;

// SAFETY: every block comes from `System` with the layout that was asked for, and goes back to it with that layout. A
// second attempt is made only after the first has failed and so left nothing behind; a failed `realloc` leaves the old
// block as it was. Nothing here allocates or panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        or_from_reserve(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_from_reserve(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; after a failure the block is still the caller's.
        or_from_reserve(size, || unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

fn or_from_reserve(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let block = allocate();
    if !block.is_null() || size > RESERVE {
        return block;
    }
    LOW.store(true, Ordering::Relaxed);
    let reserve = RESERVED.swap(ptr::null_mut(), Ordering::AcqRel);
    if !reserve.is_null() {
        USED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: it came from `System` with this layout, and nobody else has taken it from where it was.
        unsafe { System.dealloc(reserve, RESERVE_LAYOUT) };
    }
    // Even without a reserve: another thread may have freed something, or the reserve.
    allocate()
}

/// Sets memory aside for allocations that fail. False if there is none.
pub fn set_reserve() -> bool {
    if RESERVED.load(Ordering::Acquire).is_null() {
        // SAFETY: the layout has a size other than 0.
        let reserve = unsafe { System.alloc(RESERVE_LAYOUT) };
        if reserve.is_null() {
            return false;
        }
        let kept = RESERVED.compare_exchange(ptr::null_mut(), reserve, Ordering::AcqRel, Ordering::Acquire);
        if kept.is_err() {
            // SAFETY: another thread was faster, and this block is nobody's yet.
            unsafe { System.dealloc(reserve, RESERVE_LAYOUT) };
        }
    }
    LOW.store(false, Ordering::Relaxed);
    true
}

/// Whether the reserve was used and could not be made whole since.
pub fn is_low() -> bool {
    LOW.load(Ordering::Relaxed)
}

/// How often the reserve was used.
pub fn times_low() -> usize {
    USED.load(Ordering::Relaxed)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// An allocator that fails as often as it is told to.
    fn failing(times: usize) -> impl Fn() -> *mut u8 {
        let left = std::cell::Cell::new(times);
        move || {
            if left.get() == 0 {
                return ptr::dangling_mut();
            }
            left.set(left.get() - 1);
            ptr::null_mut()
        }
    }

    #[test]
    fn the_reserve_is_used_once_and_made_whole_again() {
        assert!(set_reserve() && !is_low());
        assert!(!or_from_reserve(100, failing(0)).is_null() && !is_low(), "nothing failed");
        assert!(or_from_reserve(RESERVE + 1, failing(1)).is_null(), "more than the reserve could give");
        assert!(!RESERVED.load(Ordering::Acquire).is_null() && !is_low());

        assert!(!or_from_reserve(100, failing(1)).is_null());
        assert!(is_low() && RESERVED.load(Ordering::Acquire).is_null());
        assert!(or_from_reserve(100, failing(2)).is_null(), "there is nothing left");
        assert!(set_reserve() && !is_low());
        assert!(times_low() >= 1);
    }
}
