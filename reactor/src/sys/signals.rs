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
//! No callback, and no policy on which signals a reactor watches. A handler
//! that somebody else installed before is not called while we watch.
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
//!
//! # Other handlers, and other copies of this crate
//!
//! A plug-in that is loaded at run time has a copy of this file and its statics, and
//! so has a second version of the crate. Handlers lie on each other like plates: who
//! comes last is called by the kernel, and goes first, if all is well. If it is not:
//!
//! - A handler that is not on top cannot leave: who lies on it has its address, and
//!   will restore it one day. It stays, and remembers what lies beneath. If it is on
//!   top again, and a signal comes, then it [makes way](make_way).
//! - Copies know each other by the [mask](MARK) of their handlers, and each calls the
//!   one beneath it, so that all hear of a signal. How deep they are is told in the
//!   bits above the signal's number, and [bounded](DEPTH_MAX).
//!
//! What has watched a signal must therefore not be unloaded, unless it left from the top.

use std::cell::Cell;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use libc::c_int;

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
        let pending = &self.slot.pending;
        // Seldom anything; looking costs less than taking.
        if pending.load(Ordering::Relaxed) == 0 {
            return SignalSet::EMPTY;
        }
        SignalSet(pending.swap(0, Ordering::AcqRel))
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

/// Whether the signal has its default disposition, but for our own watches: nobody
/// else has asked for it, or for it to be ignored. False for a number that is no
/// signal.
pub(crate) fn is_default(signal: c_int) -> bool {
    // Held throughout: a watch that comes or goes changes both.
    let installed = installed();
    let Ok(action) = disposition(signal) else {
        return false;
    };
    let beneath = match installed.get(signal as usize).and_then(Installed::beneath) {
        Some(beneath) if is_ours(&action) => beneath,
        _ => &action,
    };
    beneath.sa_sigaction == libc::SIG_DFL
}

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

/// Ends the process as the signal does that nobody catches; by its number, if that ends none.
pub(crate) fn die_by(signal: c_int) -> ! {
    // It fails for those that cannot be caught, which have their default already.
    let _ = exchange_action(signal, Some(&default_action()));
    set_mask(&empty_set());
    // SAFETY: `raise` takes any number, and a handler of somebody else's cannot be reached:
    // the disposition is the default one.
    unsafe { libc::raise(signal) };
    process::exit(128_i32.wrapping_add(signal))
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
/// `word` is the signal, as the kernel says it. A copy of this crate that calls us
/// says in the bits above how many have been called before.
extern "C" fn on_signal(word: c_int) {
    let errno = errno();
    let (signal, depth) = (word & SIGNAL_MASK, word >> SIGNAL_BITS);
    for slot in &SLOTS {
        slot.deliver(signal);
    }
    if let Some(beneath) = beneath(signal) {
        if depth == 0 && LET_GO.load(Ordering::SeqCst) & bit(signal) != 0 {
            make_way(signal, beneath);
        } else if is_marked(beneath) && depth < DEPTH_MAX {
            call_copy(beneath, signal | (depth + 1) << SIGNAL_BITS);
        }
    }
    set_errno(errno);
}

/// For a signal number in the word that copies pass on.
const SIGNAL_BITS: c_int = 7;
const SIGNAL_MASK: c_int = (1 << SIGNAL_BITS) - 1;

/// How many copies of this crate are called for one signal. They could lie in a circle, if
/// somebody else shuffled them; then each is called more than once, which counts as once.
const DEPTH_MAX: c_int = 16;

/// Calls the handler of another copy of this crate.
fn call_copy(action: &libc::sigaction, word: c_int) {
    // SAFETY: the action bears our mark, and whatever bears it is an `on_signal`: this is
    // its type, in every version. It is still loaded, since it is on the pile that we are on.
    let handler =
        unsafe { mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(action.sa_sigaction) };
    handler(word);
}

/// The kernel has called us, though we want the signal no more: somebody who came after
/// us restored us. Restores what lies beneath, in our place, and has it get the signal.
fn make_way(signal: c_int, beneath: &libc::sigaction) {
    if !disposition(signal).is_ok_and(|now| is_ours(&now)) {
        // Somebody else is on top, and calls us on their own account.
        if is_marked(beneath) {
            call_copy(beneath, signal | 1 << SIGNAL_BITS);
        }
        return;
    }
    // The old disposition came from the kernel, which takes it again.
    let _ = exchange_action(signal, Some(beneath));
    if LET_GO.load(Ordering::SeqCst) & bit(signal) == 0 {
        // A watch has come meanwhile, and may have found us in place.
        let _ = exchange_action(signal, Some(&our_action()));
        return;
    }
    // It is blocked until we return, and comes then.
    // SAFETY: `raise` takes any number, and is on POSIX's list of what handlers may call.
    let _ = unsafe { libc::raise(signal) };
}

/// The signals for which our handler is somewhere in the pile without any watch.
static LET_GO: AtomicU32 = AtomicU32::new(0);

/// What our handler lies on, by signal number. Null where it lies nowhere.
static BENEATH: [AtomicPtr<libc::sigaction>; SIGNAL_MAX as usize + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SIGNAL_MAX as usize + 1];

fn beneath(signal: c_int) -> Option<&'static libc::sigaction> {
    let beneath = BENEATH.get(usize::try_from(signal).ok()?)?;
    // SAFETY: what is stored there is null, or a reference to an action that was leaked
    // and never changes.
    unsafe { beneath.load(Ordering::SeqCst).as_ref() }
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

/// Where our handler lies for a signal.
struct Installed {
    watches: u32,
    /// What was found where we were put, the oldest first: more than one if somebody
    /// covered us, we let go, and were put on top again. Our handler lies on the last.
    ///
    /// Invariant: not empty while there are watches; each is there once.
    pile: Vec<&'static libc::sigaction>,
    /// All that were ever found. They stay for ever, for a handler may be looking at
    /// them; they are few, for there are few handlers in a program.
    found: Vec<&'static libc::sigaction>,
}

impl Installed {
    const NOTHING: Self = Self {
        watches: 0,
        pile: Vec::new(),
        found: Vec::new(),
    };

    fn beneath(&self) -> Option<&libc::sigaction> {
        self.pile.last().copied()
    }

    /// Puts an action on the pile; ours is to come on it.
    fn lay(&mut self, action: libc::sigaction) {
        let known = self.found.iter().find(|found| is_same(found, &action));
        let known = known.copied().unwrap_or_else(|| {
            let leaked: &'static _ = Box::leak(Box::new(action));
            self.found.push(leaked);
            leaked
        });
        self.pile.retain(|&other| !ptr::eq(other, known));
        self.pile.push(known);
    }

    /// Tells the handler of what lies beneath.
    fn publish(&self, signal: c_int) {
        let beneath = self.beneath().map_or(ptr::null(), ptr::from_ref);
        BENEATH[signal as usize].store(beneath.cast_mut(), Ordering::SeqCst);
    }
}

/// What is installed, by signal number. Never locked by the handler.
static INSTALLED: Mutex<[Installed; SIGNAL_MAX as usize + 1]> =
    Mutex::new([Installed::NOTHING; SIGNAL_MAX as usize + 1]);

fn installed() -> MutexGuard<'static, [Installed; SIGNAL_MAX as usize + 1]> {
    // Nothing that could panic leaves the table half changed.
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one more watch of the signal, and puts our handler on top for the first.
fn install(signal: c_int) -> io::Result<()> {
    let installed = &mut installed()[signal as usize];
    if installed.watches == 0 {
        // Order: before we look whether we are on top; see `make_way`.
        let let_go = LET_GO.fetch_and(!bit(signal), Ordering::SeqCst);
        if let Err(error) = put_on_top(installed, signal) {
            LET_GO.fetch_or(let_go & bit(signal), Ordering::SeqCst);
            return Err(error);
        }
    }
    installed.watches += 1;
    Ok(())
}

fn put_on_top(installed: &mut Installed, signal: c_int) -> io::Result<()> {
    let top = disposition(signal)?;
    let is_buried = !installed.pile.is_empty();
    // Beneath a copy of this crate we hear as well as on top, and would only lie there twice.
    if is_ours(&top) || (is_buried && is_marked(&top)) {
        return Ok(());
    }
    // Order: what is beneath is to be known to the handler when the first signal comes.
    installed.lay(top);
    installed.publish(signal);
    let top = exchange_action(signal, Some(&our_action()))?;
    if !is_ours(&top) {
        // Nearly always the same as a moment ago.
        installed.lay(top);
        installed.publish(signal);
    }
    Ok(())
}

/// Counts one watch less, and restores what lies beneath after the last.
fn uninstall(signal: c_int) {
    let installed = &mut installed()[signal as usize];
    installed.watches -= 1;
    if installed.watches > 0 {
        return;
    }
    // Somebody may have covered us since: theirs stays, and ours beneath it.
    if disposition(signal).is_ok_and(|now| is_ours(&now)) {
        let beneath = installed.pile.pop().expect("we lie on something");
        let restored = exchange_action(signal, Some(beneath));
        debug_assert!(restored.is_ok(), "the kernel gave us this disposition");
    }
    if !installed.pile.is_empty() {
        LET_GO.fetch_or(bit(signal), Ordering::SeqCst);
    }
    installed.publish(signal);
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

/// Puts a mask back when dropped.
struct RestoreMask(libc::sigset_t);

impl Drop for RestoreMask {
    fn drop(&mut self) {
        set_mask(&self.0);
    }
}

/// Sets the thread's signal mask, and returns the one before.
fn set_mask(mask: &libc::sigset_t) -> libc::sigset_t {
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

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to memory for a set, which `sigemptyset` writes
    // without reading it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has initialized the set; it cannot fail.
    unsafe { set.assume_init() }
}

/// The disposition that calls [`on_signal`].
fn our_action() -> libc::sigaction {
    let mut action = default_action();
    action.sa_sigaction = on_signal as extern "C" fn(c_int) as libc::sighandler_t;
    // Restart interrupted calls: code that has nothing to do with us need not
    // know that we watch. And run on the alternative stack where a thread has
    // one: in a host of another language the usual one may be small.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    action.sa_mask = empty_set();
    for signal in MARK {
        // SAFETY: the pointer is to an initialized set that outlives the call.
        unsafe { libc::sigaddset(&mut action.sa_mask, signal) };
    }
    action
}

/// The signals that our handler has blocked while it runs, which is never for long: by this
/// set, which nobody else has a reason for, copies of this crate know each other.
const MARK: [c_int; 7] = [
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGURG,
    libc::SIGVTALRM,
    libc::SIGWINCH,
    libc::SIGSYS,
];

/// Whether it calls the handler of this crate, in this copy or another.
fn is_marked(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL
        && action.sa_sigaction != libc::SIG_IGN
        && action.sa_flags & libc::SA_SIGINFO == 0
        && (1..=SIGNAL_MAX)
            .all(|signal| has_member(&action.sa_mask, signal) == MARK.contains(&signal))
}

/// Whether it calls our own handler.
fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == our_action().sa_sigaction
}

fn is_same(one: &libc::sigaction, other: &libc::sigaction) -> bool {
    one.sa_sigaction == other.sa_sigaction
        && one.sa_flags == other.sa_flags
        && (1..=SIGNAL_MAX)
            .all(|signal| has_member(&one.sa_mask, signal) == has_member(&other.sa_mask, signal))
}

fn has_member(set: &libc::sigset_t, signal: c_int) -> bool {
    // SAFETY: the pointer is to an initialized set that outlives the call.
    unsafe { libc::sigismember(set, signal) == 1 }
}

fn default_action() -> libc::sigaction {
    // SAFETY: `sigaction` is a C struct of integers, a set of bits and
    // optional function pointers, for all of which zero is valid: it says
    // default disposition, no flags, no mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The signal's current disposition.
fn disposition(signal: c_int) -> io::Result<libc::sigaction> {
    exchange_action(signal, None)
}

/// Sets the signal's disposition to `new`, if there is one, and returns the
/// one before.
fn exchange_action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = default_action();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or points to an initialized action, and `old` to
    // one that may be written; both outlive the call. A handler in `new` is
    // `on_signal`, which does only what a handler may, or one that was
    // installed before.
    let result = unsafe { libc::sigaction(signal, new, &mut old) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(old)
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    // Dispositions belong to the process, and tests run side by side: each test
    // has signals of its own.

    fn wake() -> Arc<OwnedFd> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Arc::new(eventfd(0, flags).expect("an eventfd is to be had"))
    }

    /// Raises a signal on this thread: it is delivered before this returns.
    fn raise(signal: c_int) {
        // SAFETY: raising a signal breaks no promise; the test has a handler
        // installed for it, or it is ignored by default.
        let result = unsafe { libc::raise(signal) };
        assert_eq!(result, 0);
    }

    /// The count of the eventfd, which is reset; `None` if it is not readable.
    fn drain(wake: &OwnedFd) -> Option<u64> {
        let mut count = [0; 8];
        rustix::io::read(wake, &mut count).ok()?;
        Some(u64::from_ne_bytes(count))
    }

    fn pending(watch: &SignalWatch) -> Vec<c_int> {
        watch.take_pending().into_iter().collect()
    }

    fn is_ours(signal: c_int) -> bool {
        super::is_ours(&disposition(signal).expect("it is a signal"))
    }

    /// Has `handler` called for the signal, and gives what was done before.
    fn cover(signal: c_int, handler: extern "C" fn(c_int)) -> libc::sigaction {
        let mut action = default_action();
        action.sa_sigaction = handler as libc::sighandler_t;
        exchange_action(signal, Some(&action)).expect("it is installed")
    }

    fn restore(signal: c_int, action: &libc::sigaction) {
        exchange_action(signal, Some(action)).expect("it is restored");
    }

    fn is_blocked(signal: c_int) -> bool {
        let mut mask = empty_set();
        // SAFETY: without a new mask, `pthread_sigmask` only writes the
        // current one to `mask`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask) };
        // SAFETY: `mask` is an initialized set.
        unsafe { libc::sigismember(&mask, signal) == 1 }
    }

    #[test]
    fn signal_makes_the_descriptor_readable_and_is_pending_once() {
        let wake = wake();
        let watch = SignalWatch::new(&[libc::SIGUSR1], Arc::clone(&wake)).expect("watched");
        assert_eq!(drain(&wake), None);
        raise(libc::SIGUSR1);
        assert_eq!(drain(&wake), Some(1));
        assert_eq!(pending(&watch), [libc::SIGUSR1]);
        assert!(pending(&watch).is_empty());
        assert_eq!(drain(&wake), None);
    }

    #[test]
    fn signals_of_one_number_count_as_one_until_taken() {
        let wake = wake();
        let signals = [libc::SIGUSR2, libc::SIGALRM, libc::SIGUSR2];
        let watch = SignalWatch::new(&signals, Arc::clone(&wake)).expect("watched");
        for signal in [libc::SIGUSR2, libc::SIGUSR2, libc::SIGALRM] {
            raise(signal);
        }
        let set = watch.take_pending();
        assert!(set.contains(libc::SIGUSR2) && !set.contains(libc::SIGUSR1));
        assert!(!set.contains(0) && !set.contains(64));
        let mut expected = [libc::SIGUSR2, libc::SIGALRM];
        expected.sort_unstable();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn disposition_is_restored_with_the_last_watch() {
        let (first_wake, second_wake) = (wake(), wake());
        assert!(!is_ours(libc::SIGWINCH));
        let watch = |wake| SignalWatch::new(&[libc::SIGWINCH], wake).expect("watched");
        let first = watch(Arc::clone(&first_wake));
        let second = watch(Arc::clone(&second_wake));
        assert!(is_ours(libc::SIGWINCH));
        raise(libc::SIGWINCH);
        assert_eq!(pending(&first), [libc::SIGWINCH]);
        assert_eq!(pending(&second), [libc::SIGWINCH]);
        drop(first);
        assert!(is_ours(libc::SIGWINCH));
        raise(libc::SIGWINCH);
        assert_eq!(drain(&first_wake), Some(1));
        assert_eq!(drain(&second_wake), Some(2));
        drop(second);
        assert!(!is_ours(libc::SIGWINCH));
        raise(libc::SIGWINCH);
        assert_eq!(drain(&second_wake), None);
        // The slot that was given back remembers nothing.
        assert_eq!(pending(&watch(wake())), []);
    }

    #[test]
    fn signals_are_added_and_removed_one_by_one() {
        let wake = wake();
        let watch = SignalWatch::new(&[], Arc::clone(&wake)).expect("nothing is watched");
        watch.add(libc::SIGXCPU).expect("watched");
        watch.add(libc::SIGXCPU).expect("watched already");
        watch.add(libc::SIGXFSZ).expect("watched");
        raise(libc::SIGXCPU);
        raise(libc::SIGXFSZ);
        watch.remove(libc::SIGXCPU);
        watch.remove(libc::SIGXCPU);
        assert_eq!(pending(&watch), [libc::SIGXFSZ]);
        assert!(!is_ours(libc::SIGXCPU));
        assert!(is_ours(libc::SIGXFSZ));
        watch.add(libc::SIGKILL).expect_err("the kernel keeps it");
        drop(watch);
        assert!(!is_ours(libc::SIGXFSZ));
    }

    #[test]
    fn what_we_watch_counts_as_default_if_it_was() {
        assert!(is_default(libc::SIGTSTP));
        let watch = SignalWatch::new(&[libc::SIGTSTP], wake()).expect("watched");
        assert!(is_default(libc::SIGTSTP));
        drop(watch);
        let mut ignore = default_action();
        ignore.sa_sigaction = libc::SIG_IGN;
        exchange_action(libc::SIGTSTP, Some(&ignore)).expect("ignored");
        let watch = SignalWatch::new(&[libc::SIGTSTP], wake()).expect("watched");
        assert!(!is_default(libc::SIGTSTP));
        drop(watch);
        exchange_action(libc::SIGTSTP, Some(&default_action())).expect("default again");
        assert!(!is_default(0) && !is_default(-1) && !is_default(1000));
    }

    #[test]
    fn handler_of_somebody_else_is_replaced_and_restored() {
        static CALLED: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn somebody_else(_: c_int) {
            CALLED.fetch_add(1, Ordering::SeqCst);
        }
        let mut theirs = default_action();
        theirs.sa_sigaction = somebody_else as extern "C" fn(c_int) as libc::sighandler_t;
        exchange_action(libc::SIGURG, Some(&theirs)).expect("theirs is installed");
        let watch = SignalWatch::new(&[libc::SIGURG], wake()).expect("watched");
        raise(libc::SIGURG);
        assert_eq!(pending(&watch), [libc::SIGURG]);
        assert_eq!(CALLED.load(Ordering::SeqCst), 0);
        drop(watch);
        raise(libc::SIGURG);
        assert_eq!(CALLED.load(Ordering::SeqCst), 1);
        exchange_action(libc::SIGURG, Some(&default_action())).expect("default again");
    }

    #[test]
    fn handler_installed_after_ours_stays() {
        let watch = SignalWatch::new(&[libc::SIGIO], wake()).expect("watched");
        let mut ignore = default_action();
        ignore.sa_sigaction = libc::SIG_IGN;
        exchange_action(libc::SIGIO, Some(&ignore)).expect("ignored");
        drop(watch);
        let now = exchange_action(libc::SIGIO, Some(&default_action())).expect("default again");
        assert_eq!(now.sa_sigaction, libc::SIG_IGN);
    }

    #[test]
    fn handler_that_was_covered_makes_way_when_it_is_restored() {
        static BENEATH_US: AtomicUsize = AtomicUsize::new(0);
        static ABOVE_US: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn beneath_us(_: c_int) {
            BENEATH_US.fetch_add(1, Ordering::SeqCst);
        }
        extern "C" fn above_us(_: c_int) {
            ABOVE_US.fetch_add(1, Ordering::SeqCst);
        }
        let signal = libc::SIGQUIT;
        cover(signal, beneath_us);
        let watch = SignalWatch::new(&[signal], wake()).expect("watched");
        let ours = cover(signal, above_us);
        drop(watch);
        raise(signal);
        restore(signal, &ours);
        assert!(is_ours(signal));
        raise(signal);
        let counts = || [&BENEATH_US, &ABOVE_US].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts(), [1, 1], "the signal that found us was passed on");
        assert!(!is_ours(signal));
        raise(signal);
        assert_eq!(counts(), [2, 1]);
        restore(signal, &default_action());
    }

    #[test]
    fn watch_that_comes_back_while_covered_takes_the_signal_and_gives_all_of_it_back() {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn others(_: c_int) {
            OTHERS.fetch_add(1, Ordering::SeqCst);
        }
        let signal = libc::SIGHUP;
        let watch = || SignalWatch::new(&[signal], wake()).expect("watched");
        let first = watch();
        let ours = cover(signal, others);
        drop(first);
        let second = watch();
        raise(signal);
        assert_eq!(pending(&second), [signal]);
        assert_eq!(OTHERS.load(Ordering::SeqCst), 0);
        drop(second);
        raise(signal);
        assert_eq!(OTHERS.load(Ordering::SeqCst), 1);
        restore(signal, &ours);
        assert!(is_default(signal), "beneath us it is");
        let third = watch();
        raise(signal);
        assert_eq!(pending(&third), [signal]);
        drop(third);
        let now = disposition(signal).expect("it is a signal");
        assert_eq!(now.sa_sigaction, libc::SIG_DFL);
    }

    #[test]
    fn copy_of_this_crate_hears_of_what_its_successor_watches() {
        static WORD: AtomicI32 = AtomicI32::new(0);
        static CALLED: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn on_signal_of_a_copy(word: c_int) {
            WORD.store(word, Ordering::SeqCst);
            CALLED.fetch_add(1, Ordering::SeqCst);
        }
        let signal = libc::SIGSYS;
        let mut copy = our_action();
        copy.sa_sigaction = on_signal_of_a_copy as extern "C" fn(c_int) as libc::sighandler_t;
        assert!(is_marked(&copy) && !super::is_ours(&copy));
        restore(signal, &copy);
        let watch = SignalWatch::new(&[signal], wake()).expect("watched");
        raise(signal);
        assert_eq!(pending(&watch), [signal]);
        // Called by one that is on top of us, as deep as can be: the next is not called.
        on_signal(signal | DEPTH_MAX << SIGNAL_BITS);
        assert_eq!(pending(&watch), [signal]);
        drop(watch);
        assert_eq!(CALLED.load(Ordering::SeqCst), 1);
        assert_eq!(WORD.load(Ordering::SeqCst), signal | 1 << SIGNAL_BITS);
        let restored = exchange_action(signal, Some(&default_action())).expect("default again");
        assert_eq!(restored.sa_sigaction, copy.sa_sigaction);
    }

    #[test]
    fn signals_that_cannot_be_watched_are_refused_by_name() {
        for (signal, name) in UNWATCHABLE {
            let error = SignalWatch::new(&[libc::SIGTTIN, signal], wake()).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name), "{error}");
        }
        for signal in [-1, 0, 32, 64, 1000] {
            let error = SignalWatch::new(&[signal], wake()).expect_err("no such signal");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(
            is_default(libc::SIGTTIN),
            "nothing was installed on the way"
        );
    }

    #[test]
    fn watch_without_a_free_slot_is_refused() {
        static TABLE: [Slot; 2] = [const { Slot::new() }; 2];
        let first = Slot::claim(&TABLE, 0).expect("both are free");
        Slot::claim(&TABLE, 0).expect("one is free");
        let error = Slot::claim(&TABLE, 0).expect_err("none is free");
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        first.release();
        Slot::claim(&TABLE, 0).expect("the first is free again");
    }

    #[test]
    fn dropping_a_watch_releases_its_descriptor() {
        let wake = wake();
        let watch = SignalWatch::new(&[libc::SIGTTOU], Arc::clone(&wake)).expect("watched");
        assert_eq!(Arc::strong_count(&wake), 2);
        drop(watch);
        assert_eq!(Arc::strong_count(&wake), 1);
    }

    #[test]
    fn full_descriptor_does_not_block_the_handler() {
        let wake = wake();
        let watch = SignalWatch::new(&[libc::SIGCONT], Arc::clone(&wake)).expect("watched");
        rustix::io::write(&*wake, &(u64::MAX - 1).to_ne_bytes()).expect("the count is filled");
        raise(libc::SIGCONT);
        assert_eq!(pending(&watch), [libc::SIGCONT]);
    }

    #[test]
    fn handler_preserves_errno() {
        let wake = wake();
        let _watch = SignalWatch::new(&[libc::SIGPROF], Arc::clone(&wake)).expect("watched");
        // The handler's write will fail, with another number.
        rustix::io::write(&*wake, &(u64::MAX - 1).to_ne_bytes()).expect("the count is filled");
        set_errno(libc::EXDEV);
        on_signal(libc::SIGPROF);
        assert_eq!(errno(), libc::EXDEV);
    }

    #[test]
    fn watches_come_and_go_while_other_threads_raise() {
        let _watch = SignalWatch::new(&[libc::SIGVTALRM], wake()).expect("watched");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        raise(libc::SIGVTALRM);
                    }
                });
            }
            for _ in 0..2_000 {
                let wake = wake();
                let watch = SignalWatch::new(&[libc::SIGVTALRM], Arc::clone(&wake));
                drop(watch.expect("watched"));
                // Nobody writes any more.
                drain(&wake);
                thread::yield_now();
                assert_eq!(drain(&wake), None);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn thread_spawned_with_all_signals_blocked_inherits_the_mask() {
        let blocked = with_all_signals_blocked(|| {
            thread::spawn(|| [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD].map(is_blocked))
        });
        assert_eq!(blocked.join().expect("the thread ends"), [true; 3]);
        assert!(!is_blocked(libc::SIGTERM));
    }

    #[test]
    fn faults_are_never_blocked() {
        assert!(!with_all_signals_blocked(|| is_blocked(libc::SIGSEGV)));
    }

    #[test]
    fn mask_is_restored_after_a_panic() {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_all_signals_blocked(|| panic!("while spawning"))
        }));
        assert!(panicked.is_err());
        assert!(!is_blocked(libc::SIGTERM));
    }
}
