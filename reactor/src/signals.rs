//! Signals as calls on the loop.
//!
//! # Order
//!
//! The callbacks are called in a phase of the turn of their own, right after the wait and
//! its hooks, before the events of sockets: signals in the order of their numbers, the
//! watchers of one signal in the order in which they came. Signals of one number that
//! come before that count as one, as they do in the kernel.
//!
//! # What is installed
//!
//! Nothing, until somebody asks. A reactor that has watchers holds one entry of the table
//! in `sys/signals/`; the disposition from before the process's first watcher of a
//! signal is back when its last has gone.
//!
//! # Not here
//!
//! No child is waited for: SIGCHLD is a signal like any other. See `children.rs`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};

use torsade_deferred::{Deferred, fail};

use crate::core::Core;
use crate::driver::SignalSource;
use crate::dump::Held;
use crate::panics;
use crate::reactor::Reactor;
use crate::sys::signals::{self, check_watchable};

/// A signal, by its number on this system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone; to daemons, "read your configuration again".
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// Whatever the program makes of it.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// Whatever the program makes of it.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// A write to a pipe without a reader. Rust programs ignore it.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// The timer of `alarm`.
    pub const ALRM: Self = Self(libc::SIGALRM);
    /// "End, please".
    pub const TERM: Self = Self(libc::SIGTERM);
    /// A child ended or stopped.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Goes on after a stop.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Ctrl-Z.
    pub const TSTP: Self = Self(libc::SIGTSTP);
    /// The terminal has another size.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// The signal of a number, whatever that is.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Ends this process the way this signal would if nobody caught it, so that whoever
    /// started it sees by what it died: what a program owes its shell after Ctrl-C, once it
    /// has cleaned up. See [`Reactor::stop_signal`].
    ///
    /// Nothing is dropped and no buffer is flushed. A signal that ends no process, such as
    /// SIGCHLD, makes it exit with status 128 and the number, as shells write it.
    pub fn end_process(self) -> ! {
        signals::die_by(self.0)
    }

    fn name(self) -> Option<&'static str> {
        let known = NAMES.iter().find(|(signal, _)| *signal == self);
        known.map(|(_, name)| *name)
    }
}

const NAMES: [(Signal, &str); 14] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALRM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::CHLD, "SIGCHLD"),
    (Signal::CONT, "SIGCONT"),
    (Signal::TSTP, "SIGTSTP"),
    (Signal::WINCH, "SIGWINCH"),
    (Signal(libc::SIGKILL), "SIGKILL"),
    (Signal(libc::SIGSTOP), "SIGSTOP"),
];

impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a signal is not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// It cannot be caught, or not in any useful way: SIGKILL and SIGSTOP, which the
    /// kernel keeps; those that report a fault; real-time signals, and numbers that are
    /// none.
    #[error("{signal} cannot be watched")]
    Refused {
        /// The signal.
        signal: Signal,
    },
    /// The process has as many reactors that watch signals as there is room for.
    #[error("{signal} cannot be watched: too many reactors of this process watch signals")]
    TooManyReactors {
        /// The signal.
        signal: Signal,
    },
    /// The system refused.
    #[error("{signal} cannot be watched: {source}")]
    Io {
        /// The signal.
        signal: Signal,
        /// What the system said.
        source: io::Error,
    },
}

impl SignalError {
    fn new(signal: Signal, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidInput => Self::Refused { signal },
            io::ErrorKind::QuotaExceeded => Self::TooManyReactors { signal },
            _ => Self::Io { signal, source },
        }
    }
}

impl Reactor {
    /// Has `callback` called on this thread when the process gets `signal`, for as long as
    /// the watcher that it is given is not removed.
    ///
    /// Called in a turn right after the wait, before the events of sockets; once for
    /// signals that come before that. A signal may have many watchers, in this reactor and
    /// in others, also of other copies of this crate, as a plug-in has one. While it has one,
    /// it does nothing else: what it did before is restored with the last.
    ///
    /// That goes for handlers of other code as well, as with `sigaction`: one that was there
    /// before the first watcher is silent until the last has gone, so that the watcher
    /// decides. One that is installed later decides in its turn; those of tokio and of
    /// signal-hook pass the signal on to the watchers. A program that wants both watches
    /// here first.
    ///
    /// SIGINT and SIGTERM stop [`run`](Reactor::run), but not while this reactor has a
    /// watcher for them: then the watcher decides.
    ///
    /// # Errors
    ///
    /// [`SignalError::Refused`] for what cannot be caught, such as SIGKILL;
    /// [`SignalError::TooManyReactors`] where 64 do so already.
    ///
    /// # Reentrancy
    ///
    /// From any callback. A watcher may be removed from any, its own included, and then
    /// hears nothing more, not even of a signal that has come. A panic in `callback` is
    /// reported; the watcher stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_reactor::{Reactor, Signal};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let watcher = reactor.on_signal(Signal::HUP, |_| println!("the configuration, again"))?;
    /// assert!(watcher.is_active());
    /// watcher.remove(); // SIGHUP ends the program, as before
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn on_signal(
        &self,
        signal: impl Into<Signal>,
        callback: impl FnMut(&SignalWatcher) + 'static,
    ) -> Result<SignalWatcher, SignalError> {
        watch(
            self.core(),
            signal.into(),
            Callback::Each(Box::new(callback)),
        )
    }

    /// Has `callback` called once. The watcher goes right before that: a second Ctrl-C
    /// does what it did before, which is to stop [`run`](Reactor::run) or, without that, to
    /// end the program.
    ///
    /// # Errors
    ///
    /// As for [`on_signal`](Reactor::on_signal).
    #[track_caller]
    pub fn on_signal_once(
        &self,
        signal: impl Into<Signal>,
        callback: impl FnOnce() + 'static,
    ) -> Result<SignalWatcher, SignalError> {
        watch(
            self.core(),
            signal.into(),
            Callback::Once(Box::new(callback)),
        )
    }

    /// Fires when the process gets `signal`, once: `reactor.next_signal(Signal::INT)` is
    /// Ctrl-C as a result, and a reactor that waits for it is not stopped by it.
    ///
    /// # Errors
    ///
    /// Fails with a [`SignalError`]; with `Abandoned` when the reactor goes.
    ///
    /// # Cancellation
    ///
    /// Removes the watcher.
    #[track_caller]
    #[must_use]
    pub fn next_signal(&self, signal: impl Into<Signal>) -> Deferred<Signal> {
        let signal = signal.into();
        let (trigger, deferred) = Deferred::new();
        let watcher = Rc::new(RefCell::new(None::<SignalWatcher>));
        let to_cancel = Rc::clone(&watcher);
        trigger.on_cancel(move || {
            let watcher = to_cancel.take();
            if let Some(watcher) = watcher {
                watcher.remove();
            }
        });
        match self.on_signal_once(signal, move || trigger.callback(signal)) {
            Ok(added) => {
                watcher.replace(Some(added));
                deferred
            }
            Err(error) => fail(error),
        }
    }

    /// The signal that stopped [`run`](Reactor::run), or stops it at the moment; `None` if
    /// something else did. Until the next run begins. Twisted's `_exitSignal`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let reactor = torsade_reactor::Reactor::new()?;
    /// reactor.run()?;
    /// if let Some(signal) = reactor.stop_signal() {
    ///     signal.end_process(); // the shell's loop ends, too
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stop_signal(&self) -> Option<Signal> {
        self.core().signals.stopped_by.get()
    }
}

/// A callback that waits for a signal. Dropping this changes nothing; the callback stays
/// until it is removed, or its reactor is gone.
#[derive(Clone)]
pub struct SignalWatcher {
    core: Weak<Core>,
    watcher: Weak<Watcher>,
    signal: Signal,
}

impl SignalWatcher {
    /// Ends the watch. The callback is dropped, at the latest when it returns. False if
    /// that was done before, or it was for once.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn remove(&self) -> bool {
        let (Some(core), Some(watcher)) = (self.core.upgrade(), self.watcher.upgrade()) else {
            return false;
        };
        let was_there = core.signals.remove(&watcher);
        // Detach, then drop: the callback may own anything. On the stack, it drops itself.
        let callback = watcher.callback.take();
        drop(callback);
        was_there
    }

    /// Whether the callback still waits.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.watcher
            .upgrade()
            .is_some_and(|watcher| !watcher.removed.get())
    }

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this
    /// watcher: not, if it is in the
    /// background. To say so twice is to say it once. libuv's `unref`.
    pub fn set_background(&self, on: bool) {
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.background.set(on);
        }
    }

    /// Whether it is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.watcher
            .upgrade()
            .is_some_and(|watcher| watcher.background.get())
    }

    /// The signal.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }
}

impl fmt::Debug for SignalWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_active() { "" } else { ", removed" };
        write!(f, "SignalWatcher({}{state})", self.signal)
    }
}

enum Callback {
    Each(Box<dyn FnMut(&SignalWatcher)>),
    Once(Box<dyn FnOnce()>),
}

struct Watcher {
    signal: Signal,
    origin: &'static Location<'static>,
    /// Taken out while it runs.
    callback: Cell<Option<Callback>>,
    removed: Cell<bool>,
    /// The loop may come to its end though this waits.
    background: Cell<bool>,
}

/// The watchers of a reactor, and what stops it.
#[derive(Default)]
pub(crate) struct Watchers {
    /// Invariant: no list is empty.
    by_signal: RefCell<BTreeMap<Signal, Vec<Rc<Watcher>>>>,
    /// The signals that stop the run under way.
    stops: RefCell<Vec<Signal>>,
    /// The first that did.
    stopped_by: Cell<Option<Signal>>,
    /// There while there is a watcher, or a signal that stops. One for both, so that a
    /// signal comes to both at the same moment.
    ///
    /// Invariant: it watches exactly the signals of the two above.
    source: RefCell<Option<Rc<dyn SignalSource>>>,
    /// Whether there is one.
    is_catching: Cell<bool>,
}

/// While this lives, SIGINT and SIGTERM stop the reactor.
pub(crate) struct StopOnSignals<'a> {
    watchers: &'a Watchers,
}

impl Drop for StopOnSignals<'_> {
    fn drop(&mut self) {
        for signal in self.watchers.stops.take() {
            self.watchers.release(signal);
        }
    }
}

#[track_caller]
fn watch(
    core: &Rc<Core>,
    signal: Signal,
    callback: Callback,
) -> Result<SignalWatcher, SignalError> {
    let watcher = Rc::new(Watcher {
        signal,
        origin: Location::caller(),
        callback: Cell::new(Some(callback)),
        removed: Cell::new(false),
        background: Cell::new(false),
    });
    core.signals
        .add(core, &watcher)
        .map_err(|source| SignalError::new(signal, source))?;
    Ok(SignalWatcher {
        core: Rc::downgrade(core),
        watcher: Rc::downgrade(&watcher),
        signal,
    })
}

impl Watchers {
    fn add(&self, core: &Core, watcher: &Rc<Watcher>) -> io::Result<()> {
        let signal = watcher.signal;
        check_watchable(signal.number())?;
        self.claim(core, signal)?;
        let mut by_signal = self.by_signal.borrow_mut();
        by_signal
            .entry(signal)
            .or_default()
            .push(Rc::clone(watcher));
        Ok(())
    }

    /// False if it was removed before. Its callback is left to the caller.
    fn remove(&self, watcher: &Rc<Watcher>) -> bool {
        if watcher.removed.replace(true) {
            return false;
        }
        let signal = watcher.signal;
        let mut by_signal = self.by_signal.borrow_mut();
        let Some(watchers) = by_signal.get_mut(&signal) else {
            return false;
        };
        watchers.retain(|other| !Rc::ptr_eq(other, watcher));
        if watchers.is_empty() {
            by_signal.remove(&signal);
            drop(by_signal);
            self.release(signal);
        }
        true
    }

    /// A run begins, which nothing has stopped.
    pub(crate) fn begin(&self) {
        self.stopped_by.set(None);
    }

    /// Lets SIGINT and SIGTERM stop the reactor, where nobody but reactors catches them
    /// and they are not ignored.
    pub(crate) fn stop_on_signals(&self, core: &Core) -> io::Result<StopOnSignals<'_>> {
        let guard = StopOnSignals { watchers: self };
        for signal in [Signal::INT, Signal::TERM] {
            if core.driver().is_signal_default(signal.number()) {
                self.claim(core, signal)?;
                self.stops.borrow_mut().push(signal);
            }
        }
        Ok(guard)
    }

    /// Has the source watch a signal.
    fn claim(&self, core: &Core, signal: Signal) -> io::Result<()> {
        let there = self.source.borrow().clone();
        let source = match there {
            Some(source) => source,
            None => core.driver().watch_signals()?,
        };
        source.add(signal.number())?;
        self.source.replace(Some(source));
        self.is_catching.set(true);
        Ok(())
    }

    /// Has the source watch a signal no longer, if nobody wants it.
    fn release(&self, signal: Signal) {
        let stops = self.stops.borrow();
        let is_wanted = self.is_watched(signal) || stops.contains(&signal);
        if !is_wanted && let Some(source) = &*self.source.borrow() {
            source.remove(signal.number());
        }
        if stops.is_empty() && self.by_signal.borrow().is_empty() {
            self.is_catching.set(false);
            self.source.take();
        }
    }

    /// Whether this reactor has a watcher for it.
    fn is_watched(&self, signal: Signal) -> bool {
        self.by_signal.borrow().contains_key(&signal)
    }

    /// Whether the loop goes on for one of them.
    pub(crate) fn has_foreground(&self) -> bool {
        let by_signal = self.by_signal.borrow();
        let mut watchers = by_signal.values().flatten();
        watchers.any(|watcher| !watcher.background.get())
    }

    pub(crate) fn dump(&self) -> Vec<Held> {
        let by_signal = self.by_signal.borrow();
        let watchers = by_signal.values().flatten();
        watchers
            .map(|watcher| {
                let what = format!("watcher of {}, added", watcher.signal);
                Held::new(what, Some(watcher.origin), None)
            })
            .collect()
    }

    /// Whether any signal is watched. Asked in every turn.
    #[inline]
    pub(crate) fn is_catching(&self) -> bool {
        self.is_catching.get()
    }

    /// Whether `run` has something to do.
    pub(crate) fn have_come(&self) -> bool {
        let source = self.source.borrow();
        source.as_ref().is_some_and(|source| source.has_some())
    }

    /// Calls those whose signals have come, each with `call`, which is given the line that asked
    /// for it, too; and stops the reactor for signals that nobody else wants.
    pub(crate) fn run(
        &self,
        core: &Rc<Core>,
        call: impl Fn(&'static Location<'static>, &mut dyn FnMut()),
    ) {
        let Some(source) = self.source.borrow().clone() else {
            return;
        };
        for number in source.take() {
            let signal = Signal(number);
            // Detach, then call: a watcher that comes meanwhile waits for the next signal, and
            // one that goes has no callback any more.
            let watchers = self.by_signal.borrow().get(&signal).cloned();
            if watchers.is_none() && self.stops.borrow().contains(&signal) {
                self.stopped_by.set(self.stopped_by.get().or(Some(signal)));
                core.stop_by(signal);
            }
            for watcher in watchers.into_iter().flatten() {
                let callback = watcher.callback.take();
                let Some(callback) = callback.filter(|_| !watcher.removed.get()) else {
                    continue;
                };
                let handle = SignalWatcher {
                    core: Rc::downgrade(core),
                    watcher: Rc::downgrade(&watcher),
                    signal,
                };
                match callback {
                    Callback::Once(callback) => {
                        self.remove(&watcher);
                        let mut callback = Some(callback);
                        call(watcher.origin, &mut || {
                            if let Some(callback) = callback.take() {
                                callback();
                            }
                        });
                    }
                    Callback::Each(mut callback) => {
                        call(watcher.origin, &mut || callback(&handle));
                        let left = Callback::Each(callback);
                        if watcher.removed.get() {
                            // The panic of its drop has been reported.
                            let _ = panics::catch(|| drop(left));
                        } else {
                            watcher.callback.set(Some(left));
                        }
                    }
                }
            }
        }
    }

    /// The reactor is gone: so are its watchers.
    pub(crate) fn clear(&self) {
        let watchers = self.by_signal.take();
        for (signal, watchers) in watchers {
            for watcher in &watchers {
                watcher.removed.set(true);
            }
            self.release(signal);
            drop(watchers);
        }
    }
}
