//! Descriptors that a process was started with.

#![allow(unsafe_code)]

/// Keeps what this process inherited beyond standard input, output and error from programs it starts: a daemon that
/// holds its starter's pipes and locks open would make others wait for as long as it lives.
///
/// Best effort: Linux has it from 5.11; on 5.10 they are kept.
pub fn keep_from_children() {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC closes nothing and touches no memory: it sets a flag that takes
    // effect at execve(2). No descriptor that Rust owns changes its meaning.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}
