//! Where our handler lies among those of others.
//!
//! Handlers lie on each other like plates: who comes last is called by the kernel, and goes
//! first, if all is well. A plug-in that is loaded at run time has a copy of this file and its
//! statics, and so has a second version of the crate. If all is not well:
//!
//! - A handler that is not on top cannot leave: who lies on it has its address, and
//!   will restore it one day. It stays, and remembers what lies beneath. If it is on
//!   top again, and a signal comes, then it [makes way](make_way).
//! - Copies know each other by the [mask](MARK) of their handlers, and each calls the
//!   one beneath it, so that all hear of a signal. How deep they are is told in the
//!   bits above the signal's number, and [bounded](DEPTH_MAX).
//!
//! What has watched a signal must therefore not be unloaded, unless it left from the top.
//!
//! # Strangers
//!
//! A handler of other code that lies beneath ours is not called while we watch, as with
//! `sigaction`, in asyncio, libuv and Twisted: what most handlers do is to end the program, and
//! a watcher is there to decide that. One that was put on ours, and calls what it lies on, as
//! those of tokio and of signal-hook do, calls us. To call strangers in our turn would be to
//! be called by them without an end, where such a one came between two watches of ours.

use std::io;
use std::mem::{self, MaybeUninit};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;

use super::mask::{empty_set, set_mask};
use super::{SIGNAL_MAX, bit, on_signal};

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

/// For a signal number in the word that copies pass on.
pub(super) const SIGNAL_BITS: c_int = 7;
const SIGNAL_MASK: c_int = (1 << SIGNAL_BITS) - 1;

/// Which signal a handler was called for.
pub(super) fn signal_of(word: c_int) -> c_int {
    word & SIGNAL_MASK
}

/// How many copies of this crate are called for one signal. They could lie in a circle, if
/// somebody else shuffled them; then each is called more than once, which counts as once.
pub(super) const DEPTH_MAX: c_int = 16;

/// Has the handler that lies beneath ours get a signal which ours has got, if it is a copy of
/// this crate's; the end of our handler.
pub(super) fn pass_on(word: c_int) {
    let (signal, depth) = (signal_of(word), word >> SIGNAL_BITS);
    let Some(beneath) = beneath(signal) else {
        return;
    };
    if depth == 0 && LET_GO.load(Ordering::SeqCst) & bit(signal) != 0 {
        make_way(signal, beneath);
    } else if is_marked(beneath) && depth < DEPTH_MAX {
        call_copy(beneath, signal | (depth + 1) << SIGNAL_BITS);
    }
}

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
pub(super) fn install(signal: c_int) -> io::Result<()> {
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
pub(super) fn uninstall(signal: c_int) {
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

/// The disposition that calls [`on_signal`].
pub(super) fn our_action() -> libc::sigaction {
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
pub(super) fn is_marked(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL
        && action.sa_sigaction != libc::SIG_IGN
        && action.sa_flags & libc::SA_SIGINFO == 0
        && (1..=SIGNAL_MAX)
            .all(|signal| has_member(&action.sa_mask, signal) == MARK.contains(&signal))
}

/// Whether it calls our own handler.
pub(super) fn is_ours(action: &libc::sigaction) -> bool {
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

pub(super) fn default_action() -> libc::sigaction {
    // SAFETY: `sigaction` is a C struct of integers, a set of bits and
    // optional function pointers, for all of which zero is valid: it says
    // default disposition, no flags, no mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The signal's current disposition.
pub(super) fn disposition(signal: c_int) -> io::Result<libc::sigaction> {
    exchange_action(signal, None)
}

/// Sets the signal's disposition to `new`, if there is one, and returns the
/// one before.
pub(super) fn exchange_action(
    signal: c_int,
    new: Option<&libc::sigaction>,
) -> io::Result<libc::sigaction> {
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
