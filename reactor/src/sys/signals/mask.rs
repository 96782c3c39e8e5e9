//! Which signals a thread has blocked.

use std::mem::MaybeUninit;

use super::UNWATCHABLE;

/// Runs `spawn` with all signals blocked, so that a thread started by it is
/// never the one that runs a handler.
///
/// The caller's mask is restored afterwards, also if `spawn` panics. Signals
/// that report a fault stay open: the kernel kills a process that blocks them,
/// without the standard library's message about an overflowed stack.
///
/// A child process started by such a thread inherits the mask, and would not
/// notice a `SIGTERM`: start children from the loop's thread.
pub(crate) fn with_all_signals_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    let _restore = RestoreMask(set_mask(&all_but_faults()));
    spawn()
}

/// Puts a mask back when dropped.
struct RestoreMask(libc::sigset_t);

impl Drop for RestoreMask {
    fn drop(&mut self) {
        set_mask(&self.0);
    }
}

/// Sets the thread's signal mask, and returns the one before.
pub(super) fn set_mask(mask: &libc::sigset_t) -> libc::sigset_t {
    let mut old = empty_set();
    // SAFETY: both pointers are to initialized sets that outlive the call.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &mut old) };
    debug_assert_eq!(error, 0, "SIG_SETMASK is a valid way to set a mask");
    old
}

fn all_but_faults() -> libc::sigset_t {
    let mut set = empty_set();
    // SAFETY: the pointer is to a set that outlives the call.
    unsafe { libc::sigfillset(&mut set) };
    for (signal, _) in UNWATCHABLE {
        // SAFETY: as above; the constants of libc are valid signal numbers.
        unsafe { libc::sigdelset(&mut set, signal) };
    }
    set
}

pub(super) fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to memory for a set, which `sigemptyset` writes
    // without reading it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has initialized the set; it cannot fail.
    unsafe { set.assume_init() }
}
