//! POSIX signals, delivered to a descriptor.
//!
//! A [`SignalWatch`] turns signals into something that a loop can wait for:
//! the kernel runs our handler on whatever thread it likes, the handler notes
//! the signal and writes to the watch's descriptor, and the loop asks
//! [`take_pending`](SignalWatch::take_pending) what came.
//!
//! # Order
//!
//! The note is written before the descriptor: whoever empties the descriptor
//! first and takes what is pending then misses nothing. Signals of one number
//! that come before that count as one, as they do in the kernel.
//!
//! When the last watch of a signal is dropped, the disposition from before the
//! first one is back; at the latest when the signal comes next.
//!
//! # Not here
//!
//! No callback, and no policy on which signals a reactor watches. Handlers of other
//! code, and of other copies of this crate, are in `pile.rs`.
//!
//! # Design
//!
//! A handler may neither lock nor allocate, and interrupts anything: so it
//! sees only a fixed table of atomics, one [`Slot`] per watch. What is
//! installed is counted under a mutex that the handler never takes.
//!
//! A handler on another thread may be at a slot while its watch is dropped,
//! and must not write to a descriptor whose number has been reused by then: it
//! counts itself in before it looks, and the drop waits until nobody is in.

mod mask;
mod pile;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread;

use libc::c_int;

use self::pile::{install, pass_on, uninstall};

pub(crate) use self::mask::with_all_signals_blocked;
pub(crate) use self::pile::{die_by, is_default};

/// Some signals, delivered to a descriptor for as long as this lives.
#[derive(Debug)]
pub(crate) struct SignalWatch {
    slot: &'static Slot,
    /// The signals that this watch has installed.
    installed: Cell<SignalSet>,
    /// What the handler writes to. The slot knows only its number: this keeps
    /// the number ours.
    _wake: Arc<OwnedFd>,
}

impl SignalWatch {
    /// Watches `signals`: from now on each of them makes `wake` readable.
    ///
    /// `wake` is an eventfd or anything else that takes writes of eight bytes.
    /// It must not block, or the handler would with it; what it has no room
    /// for is dropped, since it is readable then.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a signal that cannot be watched: `SIGKILL` and
    /// `SIGSTOP`, which the kernel keeps; those that report a fault, which
    /// would occur again when the handler returns; and numbers beyond 31.
    /// `QuotaExceeded` if the process has 64 watches.
    pub(crate) fn new(signals: &[c_int], wake: Arc<OwnedFd>) -> io::Result<Self> {
        for &signal in signals {
            check_watchable(signal)?;
        }
        let watch = Self {
            slot: Slot::claim(&SLOTS, wake.as_raw_fd())?,
            installed: Cell::new(SignalSet::EMPTY),
            _wake: wake,
        };
        for &signal in signals {
            watch.add(signal)?;
        }
        Ok(watch)
    }

    /// Watches one more signal. Does nothing if it is being watched.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub(crate) fn add(&self, signal: c_int) -> io::Result<()> {
        check_watchable(signal)?;
        let installed = self.installed.get();
        if installed.contains(signal) {
            return Ok(());
        }
        // Order: wanted before installed, or the first one is missed.
        self.slot.wanted.fetch_or(bit(signal), Ordering::SeqCst);
        if let Err(error) = install(signal) {
            self.slot.wanted.fetch_and(!bit(signal), Ordering::SeqCst);
            return Err(error);
        }
        self.installed.set(SignalSet(installed.0 | bit(signal)));
        Ok(())
    }

    /// Watches one signal less. What has come of it and was not taken is forgotten.
    pub(crate) fn remove(&self, signal: c_int) {
        let installed = self.installed.get();
        if !installed.contains(signal) {
            return;
        }
        // Order: as in `drop`.
        uninstall(signal);
        self.installed.set(SignalSet(installed.0 & !bit(signal)));
        self.slot.wanted.fetch_and(!bit(signal), Ordering::SeqCst);
        // A handler that is at work in this slot may note it once more. That is a spurious
        // event for whoever adds the signal again, no lost one.
        self.slot.pending.fetch_and(!bit(signal), Ordering::SeqCst);
    }

    /// Returns which signals have come since the last time.
    ///
    /// Empty the descriptor before, not after: a signal in between would stay
    /// pending with nothing to wake the loop.
    pub(crate) fn take_pending(&self) -> SignalSet {
        SignalSet(self.slot.pending.swap(0, Ordering::AcqRel))
    }

    /// Whether any have come. There is seldom one; looking costs less than taking.
    pub(crate) fn has_pending(&self) -> bool {
        self.slot.pending.load(Ordering::Relaxed) != 0
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        // Order: the old disposition first. What comes after that is not for
        // us, and does not get lost in a slot that nobody reads.
        for signal in self.installed.get() {
            uninstall(signal);
        }
        self.slot.release();
    }
}

/// A set of signal numbers from 1 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalSet(u32);

impl SignalSet {
    const EMPTY: Self = Self(0);

    /// Whether the signal is in the set.
    pub(crate) fn contains(self, signal: c_int) -> bool {
        (1..=SIGNAL_MAX).contains(&signal) && self.0 & bit(signal) != 0
    }
}

impl IntoIterator for SignalSet {
    type Item = c_int;
    type IntoIter = Signals;

    fn into_iter(self) -> Signals {
        Signals(self)
    }
}

/// The numbers of a [`SignalSet`], in ascending order.
#[derive(Debug)]
pub(crate) struct Signals(SignalSet);

impl Iterator for Signals {
    type Item = c_int;

    fn next(&mut self) -> Option<c_int> {
        // Asked in every turn, and mostly there is none.
        if self.0 == SignalSet::EMPTY {
            return None;
        }
        let lowest = (0..=SIGNAL_MAX).find(|&signal| self.0.contains(signal))?;
        self.0 = SignalSet(self.0.0 & !bit(lowest));
        Some(lowest)
    }
}

/// What the handler knows of a watch.
#[derive(Debug)]
struct Slot {
    /// Whether a watch has this slot. The handler does not look at it.
    claimed: AtomicBool,
    /// How many handlers are at work in this slot.
    ///
    /// Invariant: a handler reads `wanted` and all else only after it has
    /// counted itself in. `release` clears `wanted`, then waits for zero: by
    /// the single order of `SeqCst`, whoever counts in later wants nothing.
    inside: AtomicU32,
    /// The bits of the signals that the watch wants.
    wanted: AtomicU32,
    /// The bits of the signals that have come.
    pending: AtomicU32,
    /// The descriptor to write to. Ours while `wanted` is not zero.
    wake: AtomicI32,
}

impl Slot {
    const fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            inside: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            wake: AtomicI32::new(-1),
        }
    }

    /// Takes a slot that is free. It wants nothing yet.
    fn claim(slots: &'static [Self], wake: c_int) -> io::Result<&'static Self> {
        let mut slots = slots.iter();
        let free = slots.find(|slot| !slot.claimed.swap(true, Ordering::Acquire));
        let slot = free.ok_or_else(|| {
            let message = format!("the process has {WATCHES_MAX} signal watches already");
            io::Error::new(io::ErrorKind::QuotaExceeded, message)
        })?;
        slot.wake.store(wake, Ordering::SeqCst);
        Ok(slot)
    }

    /// Gives the slot back. No handler writes to the descriptor after this.
    fn release(&self) {
        self.wanted.store(0, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) != 0 {
            // A handler makes one system call, which does not block.
            thread::yield_now();
        }
        self.wake.store(-1, Ordering::SeqCst);
        self.pending.store(0, Ordering::SeqCst);
        self.claimed.store(false, Ordering::Release);
    }

    /// Notes the signal, if the watch wants it. Called by the handler.
    fn deliver(&self, signal: c_int) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) & bit(signal) != 0 {
            self.pending.fetch_or(bit(signal), Ordering::SeqCst);
            write_one(self.wake.load(Ordering::SeqCst));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How many watches a process can have. A reactor has one or two.
const WATCHES_MAX: usize = 64;

static SLOTS: [Slot; WATCHES_MAX] = [const { Slot::new() }; WATCHES_MAX];

/// Runs in place of whatever the thread was doing, at any time: only atomics,
/// `write`, `sigaction` and `raise` are allowed here, and `errno` must be as before.
///
/// `word` is the signal, as the kernel says it. A copy of this crate that calls us says more
/// in the bits above; see `pile.rs`.
extern "C" fn on_signal(word: c_int) {
    let errno = errno();
    let signal = pile::signal_of(word);
    for slot in &SLOTS {
        slot.deliver(signal);
    }
    pass_on(word);
    set_errno(errno);
}

/// Makes the descriptor readable.
fn write_one(fd: c_int) {
    let one = 1_u64.to_ne_bytes();
    // The result says at worst that there is no room: then it is readable.
    // SAFETY: `write` is on POSIX's list of async-signal-safe functions, and
    // `one` is readable for the length that is passed. The number belongs to
    // the watch's descriptor: the slot wanted the signal after this handler
    // counted itself in, so `release` has not returned, and the watch drops
    // its `Arc` only after that.
    let _ = unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// Refuses what can be watched only in theory, with the signal's name.
pub(crate) fn check_watchable(signal: c_int) -> io::Result<()> {
    let reason = match UNWATCHABLE.iter().find(|(refused, _)| *refused == signal) {
        Some((_, name)) => format!("{name} cannot be watched"),
        None if (1..=SIGNAL_MAX).contains(&signal) => return Ok(()),
        None => format!("signal {signal} cannot be watched: only 1 to {SIGNAL_MAX} can"),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Signals that the kernel delivers to no handler, and those that report a
/// fault: the thread would meet it again when the handler returns.
const UNWATCHABLE: [(c_int, &str); 7] = [
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// The last of the classic signals. Real-time signals queue, which this file
/// would not.
const SIGNAL_MAX: c_int = 31;

fn bit(signal: c_int) -> u32 {
    1 << signal
}

fn errno() -> c_int {
    let location = errno_location();
    // SAFETY: the C library returned a pointer to this thread's `errno`, which
    // lives as long as the thread.
    unsafe { *location }
}

fn set_errno(errno: c_int) {
    let location = errno_location();
    // SAFETY: as in `errno`; no reference to it exists.
    unsafe { *location = errno };
}

fn errno_location() -> *mut c_int {
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    use libc::__errno as location;
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    use libc::__errno_location as location;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    use libc::__error as location;
    // SAFETY: the function takes nothing and always succeeds.
    unsafe { location() }
}
