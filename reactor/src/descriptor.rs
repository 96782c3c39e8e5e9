//! Watching anything that has a descriptor: a pipe, an inotify, a device, another
//! library's socket.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::panic::Location;
use std::rc::Rc;

use crate::core::{Core, Source};
use crate::driver::Change;
use crate::dump::Held;
use crate::panics;
use crate::reactor::Reactor;
use crate::slab::Token;

/// What a watch is to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read, or the other end is gone.
    Read,
    /// There is room to write.
    Write,
    /// Either.
    ReadWrite,
}

impl Interest {
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// When a watch hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In every turn in which it holds. The one that cannot be used wrongly.
    #[default]
    Level,
    /// When it begins to hold, and when more comes. The callback must read or write until
    /// `WouldBlock`, or it may never hear again.
    Edge,
    /// Once; then the watch is at rest until [`Watch::enable`].
    OneShot,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read will not block: there are bytes, or the end, or an error.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The other end has ended its stream, or the descriptor is broken. Comes with the
    /// others, whatever the interest.
    pub hangup: bool,
    /// Both directions are gone, or there is an error to be asked for.
    pub(crate) broken: bool,
    /// There is urgent data, in front of which a read stops short.
    pub(crate) urgent: bool,
}

/// A descriptor that the reactor watches. Made by
/// [`Reactor::watch`](crate::Reactor::watch) and its siblings.
///
/// Cheap to clone; dropping it does not end the watch. The watch owns its source, so
/// that no descriptor is closed while it is watched; to share one beyond that, watch an
/// `Rc` or an `Arc` of it.
///
/// # Reentrancy
///
/// Everything may be called from every callback, the watch's own included, and holds at
/// once: an event that was fetched before is not delivered after.
pub struct Watch<S: AsFd + 'static> {
    watched: Rc<WatchState<S>>,
}

impl<S: AsFd + 'static> Watch<S> {
    /// The source, if the watch has not been removed.
    ///
    /// Who holds it keeps it open, also beyond the watch, and keeps
    /// [`remove`](Watch::remove) from giving it back.
    #[must_use]
    pub fn source(&self) -> Option<Rc<S>> {
        self.watched.source()
    }

    /// Changes what is heard of, and when.
    ///
    /// # Errors
    ///
    /// What the system says, for instance that it cannot tell about such a descriptor.
    /// Nothing has changed then.
    pub fn set_interest(&self, interest: Interest, mode: Mode) -> io::Result<()> {
        let watched = &self.watched;
        let before = (
            watched.interest.replace(interest),
            watched.mode.replace(mode),
        );
        if watched.state.get() != State::Enabled {
            return Ok(());
        }
        watched.register().inspect_err(|_| {
            watched.interest.set(before.0);
            watched.mode.set(before.1);
        })
    }

    /// Rests: nothing is heard until [`enable`](Watch::enable).
    pub fn disable(&self) {
        self.watched.disable();
    }

    /// Listens again after [`disable`](Watch::disable), or after a one-shot. Does nothing
    /// for a watch that was removed.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn enable(&self) -> io::Result<()> {
        match self.watched.state.get() {
            State::Enabled | State::Removed => Ok(()),
            State::Resting | State::Fired => self.watched.register(),
        }
    }

    /// Ends the watch and gives the source back; `None` if that was done before, or if
    /// somebody holds what [`source`](Watch::source) gave. The callback is dropped, at the
    /// latest when it returns.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn remove(&self) -> Option<S> {
        self.watched.remove()
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.watched.state.get() == State::Enabled
    }

    /// What a change means to this watch, which hears only of what it has an interest in.
    pub(crate) fn readiness_of(&self, change: Change) -> Readiness {
        change.of_interest(self.watched.interest.get())
    }

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this watch: not, if it is in the
    /// background. (One
    /// that does not listen does not count either.) To say so twice is to say it once. libuv's `unref`.
    pub fn set_background(&self, on: bool) {
        self.watched.background.set(on);
    }

    /// Whether it is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.watched.background.get()
    }
}

impl<S: AsFd + 'static> Clone for Watch<S> {
    fn clone(&self) -> Self {
        Self {
            watched: Rc::clone(&self.watched),
        }
    }
}

impl<S: AsFd + 'static> fmt::Debug for Watch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.watched.state.get() {
            State::Enabled => "listening",
            State::Resting => "disabled",
            State::Fired => "one-shot, fired",
            State::Removed => "removed",
        };
        write!(
            f,
            "Watch({:?}, {:?}, {state})",
            self.watched.interest.get(),
            self.watched.mode.get()
        )
    }
}

type Callback<S> = Box<dyn FnMut(&Watch<S>, Change)>;

struct WatchState<S: AsFd + 'static> {
    core: Rc<Core>,
    /// Of the last registration. Each has its own, so that an event that was fetched under
    /// an earlier one finds nobody.
    token: Cell<Option<Token>>,
    source: RefCell<Option<Rc<S>>>,
    /// Taken out while it runs.
    callback: Cell<Option<Callback<S>>>,
    interest: Cell<Interest>,
    mode: Cell<Mode>,
    state: Cell<State>,
    origin: &'static Location<'static>,
    /// The system knows the descriptor.
    registered: Cell<bool>,
    /// The system has no readiness for it, as for a regular file: it is always ready.
    always_ready: Cell<bool>,
    /// It is always ready, and has asked to be called in the next turn.
    queued: Cell<bool>,
    /// The loop may come to its end though this listens.
    background: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Enabled,
    Resting,
    /// A one-shot that has been heard.
    Fired,
    Removed,
}

/// Begins to watch `source`.
#[track_caller]
pub(crate) fn watch<S: AsFd + 'static>(
    core: &Rc<Core>,
    source: S,
    interest: Interest,
    mode: Mode,
    callback: impl FnMut(&Watch<S>, Change) + 'static,
) -> Result<Watch<S>, WatchError<S>> {
    let origin = Location::caller();
    let watched = Rc::new(WatchState {
        core: Rc::clone(core),
        token: Cell::new(None),
        source: RefCell::new(Some(Rc::new(source))),
        callback: Cell::new(Some(Box::new(callback))),
        interest: Cell::new(interest),
        mode: Cell::new(mode),
        state: Cell::new(State::Resting),
        origin,
        registered: Cell::new(false),
        always_ready: Cell::new(false),
        queued: Cell::new(false),
        background: Cell::new(false),
    });
    match watched.register() {
        Ok(()) => Ok(Watch { watched }),
        Err(error) => {
            let source = watched.remove().expect("nobody else has the watch yet");
            Err(WatchError { source, error })
        }
    }
}

/// What was watched, if nobody else holds it.
pub(crate) type Watched = Option<Box<dyn Any>>;

/// A watch that [`Reactor::remove_watches`] has ended.
#[non_exhaustive]
pub struct RemovedWatch {
    /// What it was, its line and its age.
    pub held: Held,
    /// What was watched, of the type that it had; `None` if somebody holds what
    /// [`Watch::source`] gave.
    pub source: Option<Box<dyn Any>>,
}

impl fmt::Debug for RemovedWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemovedWatch({})", self.held)
    }
}

impl Reactor {
    /// Ends every watch of a descriptor, [`AsyncFd`](crate::AsyncFd)s included, and gives
    /// what was watched. Twisted's `removeAll`.
    ///
    /// Ports, connections, channels and signals stay, and so does what wakes the loop.
    ///
    /// # Reentrancy
    ///
    /// From any callback, a watch's own included: no event that was fetched before is
    /// delivered after. Who waits for an `AsyncFd` fails with `Abandoned` from inside this.
    pub fn remove_watches(&self) -> Vec<RemovedWatch> {
        let core = self.core();
        let mut removed = Vec::new();
        for (token, held) in core.held_with_tokens() {
            // What an earlier one brought to its end is gone.
            let watch = core.source(token).and_then(|source| source.remove_watch());
            removed.extend(watch.map(|source| RemovedWatch { held, source }));
        }
        removed
    }
}

/// A descriptor cannot be watched. Gives the source back.
pub struct WatchError<S> {
    /// What was to be watched.
    pub source: S,
    /// What the system said.
    pub error: io::Error,
}

// By hand: a derive would take the field `source` for the cause, and ask it to be an error.
impl<S> Error for WatchError<S> {}

impl<S> fmt::Display for WatchError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot watch the descriptor: {}", self.error)
    }
}

impl<S> fmt::Debug for WatchError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S: AsFd + 'static> WatchState<S> {
    fn source(&self) -> Option<Rc<S>> {
        self.source.borrow().clone()
    }

    fn register(self: &Rc<Self>) -> io::Result<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        if self.always_ready.get() {
            self.state.set(State::Enabled);
            self.queue();
            return Ok(());
        }
        let (driver, interest, mode) = (self.core.driver(), self.interest.get(), self.mode.get());
        let (token, fd) = (self.new_token(), source.as_fd());
        let outcome = if self.registered.get() {
            driver.rewatch_fd(fd, token, interest, mode)
        } else {
            driver.watch_fd(fd, token, interest, mode)
        };
        match outcome {
            Ok(()) => self.registered.set(true),
            // epoll_ctl(2): EPERM, the file does not support epoll.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.always_ready.set(true);
            }
            Err(error) => {
                self.core.remove_source(token);
                return Err(error);
            }
        }
        if let Some(earlier) = self.token.replace(Some(token)) {
            self.core.remove_source(earlier);
        }
        self.state.set(State::Enabled);
        if self.always_ready.get() {
            self.queue();
        }
        Ok(())
    }

    fn new_token(self: &Rc<Self>) -> Token {
        let mut own = None;
        self.core.on_behalf_of(self.origin, || {
            self.core.add_source(|token| {
                own = Some(token);
                Rc::clone(self)
            })
        });
        own.expect("add_source calls what it is given")
    }

    /// Has an always ready source called in the next turn, once.
    #[cold]
    #[inline(never)]
    fn queue(&self) {
        if let Some(token) = self.token.get()
            && !self.queued.replace(true)
        {
            self.core.ready_again(token);
        }
    }

    fn disable(&self) {
        if matches!(self.state.get(), State::Enabled | State::Fired) {
            self.state.set(State::Resting);
            self.unregister();
        }
    }

    /// A hang-up is reported even to a watch without interest, so rest is to be unknown.
    fn unregister(&self) {
        if let Some(source) = self.source()
            && self.registered.replace(false)
        {
            self.core.driver().unwatch_fd(source.as_fd());
        }
    }

    fn remove(&self) -> Option<S> {
        self.unregister();
        self.state.set(State::Removed);
        if let Some(token) = self.token.take() {
            self.core.remove_source(token);
        }
        let source = self.source.take();
        // Detach, then drop: the callback may own anything. On the stack, it is dropped when
        // it returns. A panic has been reported, and the source is given back all the same.
        let callback = self.callback.take();
        let _ = panics::catch(|| drop(callback));
        source.and_then(Rc::into_inner)
    }

    /// Removes it, whatever its source does when it is dropped.
    fn remove_and_drop(&self) {
        let source = self.remove();
        // The panic has been reported.
        let _ = panics::catch(|| drop(source));
    }

    #[inline]
    fn call(self: Rc<Self>, change: Change) {
        if self.state.get() != State::Enabled {
            return;
        }
        if self.mode.get() == Mode::OneShot {
            self.state.set(State::Fired);
        }
        // Detach, then call: what the callback does to the watch finds none there.
        let Some(mut callback) = self.callback.take() else {
            return;
        };
        let watch = Watch { watched: self };
        let has_panicked =
            panics::catch_of(watch.watched.origin, || callback(&watch, change)).is_err();
        let watched = &watch.watched;
        if has_panicked || watched.state.get() == State::Removed {
            return watched.forget(callback);
        }
        let before = watched.callback.replace(Some(callback));
        debug_assert!(before.is_none(), "nobody else puts one there");
        // So that no code is there to drop what is not.
        mem::forget(before);
        if watched.always_ready.get() && watched.state.get() == State::Enabled {
            watched.queue();
        }
    }

    /// The callback has removed its watch, or panicked, which has been reported: it would do
    /// so in every turn.
    #[cold]
    #[inline(never)]
    fn forget(&self, callback: Callback<S>) {
        if self.state.get() == State::Removed {
            let _ = panics::catch(|| drop(callback));
        } else {
            self.callback.set(Some(callback));
            self.remove_and_drop();
        }
    }
}

impl<S: AsFd + 'static> Source for WatchState<S> {
    fn ready(self: Rc<Self>, change: Change) {
        self.call(change);
    }

    fn again(self: Rc<Self>) {
        self.queued.set(false);
        if self.always_ready.get() {
            self.call(Change::EVERYTHING);
        }
    }

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        self.remove_and_drop();
    }

    fn remove_watch(self: Rc<Self>) -> Option<Watched> {
        let source = self.remove();
        Some(source.map(|source| Box::new(source) as Box<dyn Any>))
    }

    fn is_background(&self) -> bool {
        self.background.get() || self.state.get() != State::Enabled
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interest, mode, state) = (self.interest.get(), self.mode.get(), self.state.get());
        let kind = std::any::type_name::<S>();
        write!(f, "watch of a {kind}, {interest:?}, {mode:?}, {state:?}")
    }
}

impl<S: AsFd + 'static> Drop for WatchState<S> {
    fn drop(&mut self) {
        // The source leaves the poller before it is closed.
        self.unregister();
    }
}
