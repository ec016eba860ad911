//! Signal handling that a process inherits from its parent, and the signal that ends a system call.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

use rustix::thread::Pid;

/// Unblocks all signals, and gives those that are ignored their default action again, as a shell's `trap ''`, nohup(1)
/// or a supervisor may have left them. An ignored `SIGCHLD` would hide how a child process exited, a blocked `SIGTERM`
/// would keep the daemon from unmounting.
///
/// `SIGPIPE` stays ignored: Rust's runtime does that before `main`. To be called before other threads exist, because they
/// inherit the mask of the thread that creates them.
pub fn reset() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the set that it is given; pthread_sigmask(3) reads it, and does not write
    // through a null pointer.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| *signal != libc::SIGPIPE) {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: sigaction(2) writes the structure if it returns 0, and only then is it read. The action that is set
        // is the default one, so no handler has to be safe. Where a signal has no changeable action (SIGKILL, SIGSTOP,
        // those of the C library) the call fails and changes nothing.
        unsafe {
            if libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) != 0 {
                continue;
            }
            let mut action = action.assume_init();
            if action.sa_sigaction == libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

/// The signal of [`interrupt`], which no other program sends.
fn interrupting() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

extern "C" fn ignore(_: libc::c_int) {}

/// Prepares this process for [`interrupt`].
pub fn allow_interrupting() {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros are a value of `sigaction`: no flags, so that system calls are not restarted, and no signal in the mask. The
    // handler does nothing, which is safe at any moment. sigaction(2) reads the structure.
    unsafe {
        (*action.as_mut_ptr()).sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(interrupting(), action.as_ptr(), ptr::null_mut());
    }
}

/// Ends the system call that a thread of this process is in, with EINTR, after [`allow_interrupting`].
pub fn interrupt(thread: Pid) {
    // SAFETY: tgkill(2) takes numbers only. The handler of the signal does nothing. If the thread has ended, the call fails.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.as_raw_nonzero().get(), interrupting());
    }
}
