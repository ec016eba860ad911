//! Descriptors that a process inherits.

#![allow(unsafe_code)]

/// Sets the close-on-exec flag of all descriptors except standard input, output and error. A daemon that inherited pipes
/// or locks of the process that started it would keep them open, and others would wait for as long as it lives.
///
/// Best effort: it takes Linux 5.11. On 5.10 the descriptors are inherited.
pub fn keep_from_children() {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC closes no descriptor and accesses no memory: it sets a flag that takes
    // effect at execve(2). No descriptor that Rust owns is invalidated.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}
