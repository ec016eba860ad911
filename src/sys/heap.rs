//! The process's heap: glibc's, with its settings, and with a reserve for when the system has no more memory.
//!
//! Rust aborts the process if an allocation fails that has no way to report it, and most have none. Here a failed
//! allocation takes its memory from a reserve. While a reserve is [`missing`], requests that would keep memory are refused
//! with `ENOMEM`. Two cases remain in which a failed allocation aborts: one that is larger than all reserves (a
//! table that grows beyond some 100,000 entries), and one that comes when all reserves are used.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

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

/// Bytes of one reserve: the longest message that one write sends, and a little. It is never touched, so it takes address
/// space alone. Many small ones, because the memory of removed files is free in pieces.
const RESERVE: usize = (1 << 20) + (1 << 16);

/// How many reserves there are.
pub const RESERVES: usize = 16;

/// Bytes of address space of all reserves.
pub const RESERVED: usize = RESERVE * RESERVES;

const LAYOUT: Layout = match Layout::from_size_align(RESERVE, 16) {
    Ok(layout) => layout,
    Err(_) => Layout::new::<u8>(),
};

/// The reserves; null where one is missing.
static RESERVE_AT: [AtomicPtr<u8>; RESERVES] = [const { AtomicPtr::new(ptr::null_mut()) }; RESERVES];

/// The system's allocator, and the reserves.
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
    if !block.is_null() || size > RESERVED {
        return block;
    }
    for reserve in &RESERVE_AT {
        let reserve = reserve.swap(ptr::null_mut(), Ordering::AcqRel);
        if reserve.is_null() {
            continue;
        }
        // SAFETY: it came from `System` with this layout, and the swap made this thread its only owner.
        unsafe { System.dealloc(reserve, LAYOUT) };
        let block = allocate();
        if !block.is_null() {
            return block;
        }
    }
    // Another thread may have freed something, or a reserve.
    allocate()
}

/// Allocates the reserves that are missing, the last one first. Returns how many are still missing.
pub fn fill_reserves() -> usize {
    for reserve in RESERVE_AT.iter().rev().filter(|reserve| reserve.load(Ordering::Acquire).is_null()) {
        // SAFETY: the layout has a size other than 0.
        let block = unsafe { System.alloc(LAYOUT) };
        if block.is_null() {
            break;
        }
        let kept = reserve.compare_exchange(ptr::null_mut(), block, Ordering::AcqRel, Ordering::Acquire);
        if kept.is_err() {
            // SAFETY: another thread was faster, and this block was given to nobody.
            unsafe { System.dealloc(block, LAYOUT) };
        }
    }
    missing()
}

/// How many reserves are missing.
pub fn missing() -> usize {
    RESERVE_AT.iter().filter(|reserve| reserve.load(Ordering::Relaxed).is_null()).count()
}

/// Whether that many bytes, more than the reserve has, could be allocated at this moment.
pub fn has_room(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
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
    fn failed_allocations_use_one_reserve_after_the_other() {
        assert_eq!(fill_reserves(), 0);
        assert!(!or_from_reserve(100, failing(0)).is_null());
        assert_eq!(missing(), 0, "nothing failed");
        assert!(or_from_reserve(RESERVED + 1, failing(1)).is_null(), "more than the reserves can give");
        assert_eq!(missing(), 0);

        for used in 1..=RESERVES {
            assert!(!or_from_reserve(100, failing(1)).is_null());
            assert_eq!(missing(), used);
        }
        assert!(or_from_reserve(100, failing(2)).is_null(), "there is nothing left");
        assert_eq!(fill_reserves(), 0);
        assert!(has_room(RESERVED + 1) && !has_room(isize::MAX as usize));
        assert_eq!(missing(), 0);
    }
}
