//! The loop: what runs when, and who may ask for it.
//!
//! # A turn
//!
//! ```text
//!        ┌──────────────────────────────────────────────────────────┐
//!   ┌───▶│ settle         writes and closes asked for outside       │
//!   │    │ begin          what is queued by now is this turn's      │
//!   │    ├──────────────────────────────────────────────────────────┤
//!   │    │ thread calls   posted through a Remote                   │
//!   │    │ due calls      call_later, call_at: by deadline          │
//!   │    │ soon calls     call_soon: in order                       │
//!   │    ├──────────────────────────────────────────────────────────┤
//!   │    │ wait           one system call; not at all if there is   │
//!   │    │                something to do already                   │
//!   │    ├──────────────────────────────────────────────────────────┤
//!   │    │ events         each socket that changed                  │
//!   │    │ left over      sockets that had more than a turn's share │
//!   │    └──────────────────────────────────────────────────────────┘
//!   └──────────── until stopped
//! ```
//!
//! # Order
//!
//! What a callback schedules with no delay runs in the next turn, after the wait: no
//! chain of calls keeps a socket from being heard. After every callback, what it wrote
//! is sent and what it closed is closed, before the next callback runs.
//!
//! # Not here
//!
//! No platform (see [`driver`](crate::driver)), no byte (see `tcp/`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{ChainError, Clock, Deferred, Scheduled};

use crate::address::{Address, ToTcpAddress};
use crate::calls::Calls;
use crate::delayed_call::{Call, DelayedCall, SoonCall};
use crate::driver::os::OsDriver;
use crate::driver::{Driver, Event, Readiness};
use crate::error::{ListenError, RunError};
use crate::panics;
use crate::protocol::{Factory, Protocol};
use crate::remote::{Mailbox, Remote};
use crate::resolver::Lookups;
use crate::slab::{Slab, Token};
use crate::tcp::{self, Port};
use crate::timers::Timers;
use crate::transport::Transport;

/// How much one read takes at most. The reactor owns one such buffer for all of its
/// connections.
pub(crate) const READ_SIZE: usize = 64 * 1024;

/// Buffers for unsent bytes that the reactor keeps for the next connection that needs
/// one, and the largest that it keeps.
const SPARE_BUFFERS: usize = 64;
const SPARE_SIZE_MAX: usize = 64 * 1024;
/// What a buffer for unsent bytes begins with: a few small messages.
const BUFFER_SIZE: usize = 4 * 1024;

/// "For ever", where a deadline is beyond the clock's range.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The event loop.
///
/// A value: a cheap clone of a handle, as many per process and per thread as you like.
/// It stays on its thread; another thread holds a [`Remote`].
///
/// When the last handle is dropped, everything it drove goes: connections are lost with
/// [`ConnectionLost::Stopped`](crate::ConnectionLost::Stopped), calls are dropped. A
/// handle kept inside a call or a protocol counts as one; there,
/// [`Transport::reactor`] gives one when it is needed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let handle = reactor.clone();
/// reactor.call_later(Duration::from_millis(1), move || handle.stop());
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Reactor {
    owner: Rc<Owner>,
}

/// Counts the handles: when the last goes, the core winds up.
struct Owner {
    core: Rc<Core>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.wind_up();
    }
}

impl Reactor {
    /// Makes a reactor of this machine's.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::over(Rc::new(OsDriver::new()?)))
    }

    /// Makes a reactor in the world of `driver`.
    pub(crate) fn over(driver: Rc<dyn Driver>) -> Self {
        Self::of(&Core::new(driver))
    }

    pub(crate) fn of(core: &Rc<Core>) -> Self {
        let living = core.owner.borrow().upgrade();
        let owner = living.unwrap_or_else(|| {
            let owner = Rc::new(Owner {
                core: Rc::clone(core),
            });
            core.owner.replace(Rc::downgrade(&owner));
            owner
        });
        Self { owner }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.owner.core
    }

    /// Runs until [`stop`](Reactor::stop) or [`crash`](Reactor::crash).
    ///
    /// While it runs, SIGINT and SIGTERM stop it, unless somebody else catches them or
    /// [`set_stop_on_signals`](Reactor::set_stop_on_signals) says no; what they did
    /// before is restored when it returns. May be called again.
    ///
    /// # Errors
    ///
    /// [`RunError::AlreadyRunning`] inside one of its own callbacks; [`RunError::Io`] if
    /// the system cannot wait.
    pub fn run(&self) -> Result<(), RunError> {
        let core = self.core();
        let _running = core.enter()?;
        let signals = if core.stop_on_signals.get() {
            Some(core.driver.watch_stop_signals()?)
        } else {
            None
        };
        loop {
            core.turn(Pause::Wait(None))?;
            if signals.as_ref().is_some_and(|signals| signals.take()) {
                core.stop();
            }
            if core.leave() {
                return Ok(());
            }
        }
    }

    /// Runs until `deferred` fires, and gives its result. Connections and calls stay as
    /// they are, for the next run. Catches no signals.
    ///
    /// # Errors
    ///
    /// The failure of `deferred`; or, made from a [`RunError`]: the reactor runs already,
    /// was stopped (which cancels `deferred`), or cannot wait.
    pub fn run_until<T: 'static, E>(&self, deferred: Deferred<T, E>) -> Result<T, E>
    where
        E: ChainError + From<RunError>,
    {
        let core = self.core();
        let _running = core.enter()?;
        let result = Rc::new(Cell::new(None));
        let canceller = deferred.canceller();
        let (slot, weak) = (Rc::clone(&result), Rc::downgrade(core));
        drop(deferred.add_both(move |fired| {
            slot.set(Some(fired));
            if let Some(core) = weak.upgrade() {
                core.leaving.set(true);
            }
        }));
        loop {
            if let Some(result) = result.take() {
                core.leaving.set(false);
                return result;
            }
            core.turn(Pause::Wait(None)).map_err(RunError::Io)?;
            let fired = result.take();
            if fired.is_some() {
                result.set(fired);
            } else if core.leave() {
                canceller.cancel();
                // What cancelling made of it, if it is a value after all.
                return result
                    .take()
                    .and_then(Result::ok)
                    .ok_or_else(|| RunError::Stopped.into());
            }
        }
    }

    /// Runs one turn. If there was no call to make in it, it waits at most `limit` for
    /// something to happen (`None`: for ever); otherwise it only looks. For programs that
    /// have a loop of their own.
    ///
    /// # Errors
    ///
    /// As for [`run`](Reactor::run).
    pub fn turn(&self, limit: Option<Duration>) -> Result<(), RunError> {
        let core = self.core();
        let _running = core.enter()?;
        core.turn(Pause::UnlessBusy(limit))?;
        core.leave();
        Ok(())
    }

    /// Stops the loop at the end of this turn: ports stop listening, connections are
    /// sent what the system takes at once and are lost with
    /// [`ConnectionLost::Stopped`](crate::ConnectionLost::Stopped), and `run` returns.
    ///
    /// Any time, from any callback; twice is once. If the loop does not run, the next run
    /// ends after one turn. Calls that were scheduled stay scheduled.
    pub fn stop(&self) {
        self.core().stop();
    }

    /// Leaves the loop at the end of this turn, and nothing else: connections and ports
    /// stay, and the next run goes on with them. Twisted's `crash`.
    pub fn crash(&self) {
        self.core().leaving.set(true);
    }

    /// Whether the loop runs: inside its callbacks, that is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.core().running.get()
    }

    /// Whether [`run`](Reactor::run) is stopped by SIGINT and SIGTERM. It is, by default.
    pub fn set_stop_on_signals(&self, on: bool) {
        self.core().stop_on_signals.set(on);
    }

    /// The reactor's time: monotonic.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core().now()
    }

    /// Has `call` called in the next turn, after the calls that were asked for before.
    ///
    /// # Reentrancy
    ///
    /// From any callback; never called from inside this.
    #[track_caller]
    pub fn call_soon(&self, call: impl FnOnce() + 'static) -> SoonCall {
        let call = Call::new(call);
        let key = self.core().soon.borrow_mut().push(call);
        SoonCall {
            core: Rc::downgrade(self.core()),
            key,
        }
    }

    /// Has `call` called once, `delay` from now, never earlier. Calls are made in the
    /// order of their deadlines, and equal ones in the order of scheduling.
    ///
    /// # Reentrancy
    ///
    /// From any callback. A delay of zero means the next turn, never now.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.core().call_later(delay, call)
    }

    /// Has `call` called once, at `deadline`, never earlier; in the next turn if that has
    /// passed.
    #[track_caller]
    pub fn call_at(&self, deadline: Instant, call: impl FnOnce() + 'static) -> DelayedCall {
        self.core().call_at(deadline, Call::new(call))
    }

    /// Has `call` called when the loop runs: in the next turn if it does, else first
    /// thing in the next run. Twisted's, but never from inside this.
    #[track_caller]
    pub fn call_when_running(&self, call: impl FnOnce() + 'static) {
        if self.is_running() {
            self.call_soon(call);
        } else {
            self.core().when_running.borrow_mut().push(Call::new(call));
        }
    }

    /// The way to this reactor from other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.core().mailbox.remote()
    }

    /// Listens on a TCP address, and seats a protocol from `factory` on every connection.
    ///
    /// `address` is `"127.0.0.1:8007"`, `":8007"` for every interface, `"localhost:8007"`,
    /// a `SocketAddr` or a pair; port 0 takes a free one. A name is looked up now, on this
    /// thread.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the address.
    pub fn listen_tcp(
        &self,
        address: impl ToTcpAddress,
        factory: impl Factory,
    ) -> Result<Port, ListenError> {
        tcp::listen(self.core(), &address, factory)
    }

    /// Connects to a TCP address, and seats the protocol that `build` makes on the
    /// connection. Fires with its transport, after `connection_made`.
    ///
    /// A name is looked up on another thread; its addresses are tried in turn.
    ///
    /// # Errors
    ///
    /// Fails with a [`ConnectError`](crate::ConnectError), which names the address. An
    /// attempt has 30 s.
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up; `build` is not called.
    pub fn connect_tcp<P: Protocol>(
        &self,
        address: impl ToTcpAddress,
        build: impl FnOnce(&Address) -> P + 'static,
    ) -> Deferred<Transport<P>> {
        tcp::connect(self.core(), &address, build)
    }
}

/// The time of the reactor's own world, for the timeouts of Deferreds.
impl Clock for Reactor {
    fn now(&self) -> Instant {
        self.core().now()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        let call = self.call_later(delay, call);
        Scheduled::new(move || {
            call.cancel();
        })
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core();
        f.debug_struct("Reactor")
            .field("running", &core.running.get())
            .field("delayed_calls", &core.timers.borrow().len())
            .field("sockets", &core.sources.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Something that events come for: a connection, a port, an attempt.
///
/// None of these is called from inside user code.
pub(crate) trait Source {
    /// The driver says that something changed.
    fn ready(self: Rc<Self>, readiness: Readiness);

    /// It asked to be called in this turn, because it had more to do.
    fn again(self: Rc<Self>);

    /// A callback has returned, in which this source was written to or closed.
    fn settle(self: Rc<Self>);

    /// The reactor stops.
    fn stop(self: Rc<Self>);
}

/// What all handles of a reactor share.
///
/// Invariant: no `RefCell` of it is borrowed while user code runs, and user code
/// includes the drop of a call, a protocol or a Deferred.
pub(crate) struct Core {
    owner: RefCell<Weak<Owner>>,
    driver: Rc<dyn Driver>,
    short_read_is_dry: bool,
    mailbox: Mailbox,
    timers: RefCell<Timers<Call>>,
    soon: RefCell<Calls<Call>>,
    when_running: RefCell<Vec<Call>>,
    sources: RefCell<Slab<Rc<dyn Source>>>,
    lookups: RefCell<Lookups>,
    /// Sources to settle when the callback at hand has returned.
    dirty: RefCell<Vec<Token>>,
    /// Sources to call again in the next turn.
    again: RefCell<Vec<Token>>,
    /// Room for the events of one wait; empty between waits.
    events: Cell<Vec<Event>>,
    read_buffer: Cell<Option<Vec<u8>>>,
    spare_buffers: RefCell<Vec<Vec<u8>>>,
    calls_made: Cell<u64>,
    running: Cell<bool>,
    stopping: Cell<bool>,
    /// The loop is to be left at the end of the turn.
    leaving: Cell<bool>,
    stop_on_signals: Cell<bool>,
    winding_up: Cell<bool>,
}

impl Core {
    fn new(driver: Rc<dyn Driver>) -> Rc<Self> {
        Rc::new(Self {
            owner: RefCell::default(),
            short_read_is_dry: driver.short_read_is_dry(),
            mailbox: Mailbox::new(driver.wake_up()),
            driver,
            timers: RefCell::new(Timers::new()),
            soon: RefCell::new(Calls::new()),
            when_running: RefCell::default(),
            sources: RefCell::new(Slab::new()),
            lookups: RefCell::default(),
            dirty: RefCell::default(),
            again: RefCell::default(),
            events: Cell::default(),
            read_buffer: Cell::new(None),
            spare_buffers: RefCell::default(),
            calls_made: Cell::new(0),
            running: Cell::new(false),
            stopping: Cell::new(false),
            leaving: Cell::new(false),
            stop_on_signals: Cell::new(true),
            winding_up: Cell::new(false),
        })
    }

    /// One turn of the loop; the module's page has the picture.
    fn turn(&self, pause: Pause) -> io::Result<()> {
        self.settle();
        let calls_before = self.calls_made.get();
        let posted = self.begin();
        self.run_thread_calls(posted);
        self.run_due_calls();
        self.run_soon_calls();
        let left_over = self.wait(match pause {
            Pause::UnlessBusy(_) if self.calls_made.get() != calls_before => Some(Duration::ZERO),
            Pause::UnlessBusy(limit) | Pause::Wait(limit) => limit,
        })?;
        self.dispatch();
        self.run_left_over(left_over);
        Ok(())
    }

    /// Fixes what this turn runs: later arrivals wait for the next.
    fn begin(&self) -> usize {
        let starting = self.when_running.take();
        for call in starting {
            self.run_call(call);
        }
        {
            let mut timers = self.timers.borrow_mut();
            if !timers.is_empty() {
                timers.take_due(self.driver.now());
            }
        }
        self.soon.borrow_mut().start_batch();
        self.mailbox.len()
    }

    fn run_thread_calls(&self, posted: usize) {
        for _ in 0..posted {
            let Some(call) = self.mailbox.take() else {
                return;
            };
            let Some(owner) = self.owner.borrow().upgrade() else {
                return;
            };
            self.run_user_code(|| call(&Reactor { owner }));
        }
    }

    fn run_due_calls(&self) {
        // Detach, then call: what an earlier call of the batch cancels is not in it any more
        // when its turn comes.
        loop {
            let Some(call) = self.timers.borrow_mut().pop_taken() else {
                return;
            };
            self.run_call(call);
        }
    }

    fn run_soon_calls(&self) {
        loop {
            let Some(call) = self.soon.borrow_mut().pop_batch() else {
                return;
            };
            self.run_call(call);
        }
    }

    fn run_call(&self, call: Call) {
        self.run_user_code(call.run);
    }

    fn run_user_code(&self, call: impl FnOnce()) {
        self.calls_made.set(self.calls_made.get() + 1);
        // The panic has been reported; there is nobody to tell.
        let _ = panics::catch(call);
        self.settle();
    }

    /// Waits for events, and gives the sources that had something left over before.
    fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<Token>> {
        let mut limit = self.sleep_limit(limit);
        if limit != Some(Duration::ZERO) && !self.mailbox.fall_asleep() {
            limit = Some(Duration::ZERO);
        }
        let mut events = self.events.take();
        let outcome = self.driver.wait(limit, &mut events);
        self.mailbox.wake();
        self.events.set(events);
        outcome?;
        Ok(self.again.take())
    }

    fn sleep_limit(&self, limit: Option<Duration>) -> Option<Duration> {
        let busy = self.stopping.get()
            || self.leaving.get()
            || !self.again.borrow().is_empty()
            || !self.soon.borrow().is_empty();
        if busy || limit == Some(Duration::ZERO) {
            return Some(Duration::ZERO);
        }
        let Some(deadline) = self.timers.borrow().next_deadline() else {
            return limit;
        };
        let due = deadline.saturating_duration_since(self.driver.now());
        Some(limit.map_or(due, |limit| limit.min(due)))
    }

    fn dispatch(&self) {
        let mut events = self.events.take();
        for event in events.drain(..) {
            // A stale token, of a source that an earlier event removed, finds nobody.
            if let Some(source) = self.source(event.token) {
                source.ready(event.readiness);
                self.settle();
            }
        }
        self.events.set(events);
    }

    fn run_left_over(&self, mut left_over: Vec<Token>) {
        for token in left_over.drain(..) {
            if let Some(source) = self.source(token) {
                source.again();
                self.settle();
            }
        }
        let mut again = self.again.borrow_mut();
        if again.is_empty() {
            // Keeps the allocation.
            *again = left_over;
        }
    }

    /// Sends and closes what the last callback asked for. Closing calls back, so this
    /// goes on until nothing is asked for any more.
    pub(crate) fn settle(&self) {
        while !self.dirty.borrow().is_empty() {
            let mut dirty = self.dirty.take();
            for token in dirty.drain(..) {
                if let Some(source) = self.source(token) {
                    source.settle();
                }
            }
            let mut next = self.dirty.borrow_mut();
            if next.is_empty() {
                *next = dirty;
            }
        }
    }

    fn enter(&self) -> Result<Running<'_>, RunError> {
        if self.running.replace(true) {
            return Err(RunError::AlreadyRunning);
        }
        Ok(Running { core: self })
    }

    fn stop(&self) {
        self.stopping.set(true);
    }

    /// After a turn: whether the loop ends here. If it was stopped, what it drove goes.
    fn leave(&self) -> bool {
        let stopping = self.stopping.take();
        if stopping {
            self.lose_everything();
        }
        self.leaving.take() || stopping
    }

    fn lose_everything(&self) {
        let sources: Vec<_> = self
            .sources
            .borrow()
            .iter()
            .map(|(_, source)| Rc::clone(source))
            .collect();
        for source in sources {
            source.stop();
            self.settle();
        }
    }

    /// The last handle is gone: so is everything that nobody can reach any more.
    fn wind_up(&self) {
        if self.winding_up.replace(true) {
            return;
        }
        // What goes may bring something new, in its `connection_lost` or its drop; a few
        // rounds for that, and then it is the cycle's own fault.
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            self.lose_everything();
            let timers = mem::replace(&mut *self.timers.borrow_mut(), Timers::new());
            let soon = mem::replace(&mut *self.soon.borrow_mut(), Calls::new());
            let starting = self.when_running.take();
            let lookups = self.lookups.take();
            // The panics have been reported.
            let _ = panics::catch(|| drop((timers, soon)));
            let _ = panics::catch(|| drop((starting, lookups)));
            while let Some(post) = self.mailbox.take() {
                let _ = panics::catch(|| drop(post));
            }
            let left = !self.sources.borrow().is_empty()
                || !self.timers.borrow().is_empty()
                || !self.soon.borrow().is_empty();
            if !left {
                break;
            }
        }
        self.winding_up.set(false);
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    pub(crate) fn timers(&self) -> &RefCell<Timers<Call>> {
        &self.timers
    }

    pub(crate) fn soon(&self) -> &RefCell<Calls<Call>> {
        &self.soon
    }

    pub(crate) fn lookups(&self) -> &RefCell<Lookups> {
        &self.lookups
    }

    pub(crate) fn short_read_is_dry(&self) -> bool {
        self.short_read_is_dry
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now()
    }

    /// The instant `delay` from now, or as good as for ever.
    pub(crate) fn later(&self, delay: Duration) -> Instant {
        let now = self.now();
        now.checked_add(delay).unwrap_or_else(|| now + FAR_FUTURE)
    }

    #[track_caller]
    pub(crate) fn call_later(
        self: &Rc<Self>,
        delay: Duration,
        call: impl FnOnce() + 'static,
    ) -> DelayedCall {
        let call = Call::new(call);
        self.call_at(self.later(delay), call)
    }

    fn call_at(self: &Rc<Self>, deadline: Instant, call: Call) -> DelayedCall {
        let key = self.timers.borrow_mut().insert(deadline, call);
        DelayedCall {
            core: Rc::downgrade(self),
            key,
        }
    }

    pub(crate) fn add_source<S: Source + 'static>(
        &self,
        make: impl FnOnce(Token) -> Rc<S>,
    ) -> Rc<S> {
        let mut made = None;
        self.sources.borrow_mut().insert_with(|token| {
            let source = make(token);
            made = Some(Rc::clone(&source));
            source
        });
        made.expect("insert_with calls what it is given")
    }

    /// Puts another source under a token: an attempt becomes a connection.
    pub(crate) fn replace_source(&self, token: Token, source: Rc<dyn Source>) {
        let replaced = self
            .sources
            .borrow_mut()
            .get_mut(token)
            .map(|place| mem::replace(place, source));
        drop(replaced);
    }

    pub(crate) fn remove_source(&self, token: Token) {
        let removed = self.sources.borrow_mut().remove(token);
        drop(removed);
    }

    fn source(&self, token: Token) -> Option<Rc<dyn Source>> {
        self.sources.borrow().get(token).cloned()
    }

    pub(crate) fn settle_later(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
    }

    pub(crate) fn ready_again(&self, token: Token) {
        self.again.borrow_mut().push(token);
    }

    pub(crate) fn take_read_buffer(&self) -> Vec<u8> {
        self.read_buffer
            .take()
            .unwrap_or_else(|| vec![0; READ_SIZE])
    }

    pub(crate) fn return_read_buffer(&self, buffer: Vec<u8>) {
        self.read_buffer.set(Some(buffer));
    }

    /// Lends memory for unsent bytes.
    pub(crate) fn lend_buffer(&self) -> Vec<u8> {
        self.spare_buffers
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_SIZE))
    }

    pub(crate) fn return_buffer(&self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > SPARE_SIZE_MAX {
            return;
        }
        let mut spare = self.spare_buffers.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// How long a turn may wait for events.
#[derive(Clone, Copy)]
enum Pause {
    Wait(Option<Duration>),
    /// Not at all, if the turn has made a call: its caller wants to hear of that.
    UnlessBusy(Option<Duration>),
}

/// Held while the loop runs.
struct Running<'a> {
    core: &'a Core,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.core.running.set(false);
    }
}
