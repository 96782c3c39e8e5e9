//! The handle: what a program may ask of its loop.
//!
//! The loop itself, and the picture of a turn, are in `core.rs`.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use torsade_deferred::{ChainError, Clock, Deferred, Failure, IntoDeferred, Scheduled};

use crate::address::{Address, ToTcpAddress};
use crate::capability::{Capability, Unsupported};
use crate::core::{Core, Pause};
use crate::delayed_call::{Call, DelayedCall, SoonCall, SoonCallback};
use crate::descriptor::{self, Interest, Mode, Readiness, Watch, WatchError};
use crate::driver::Driver;
use crate::driver::os::{self, OsDriver};
use crate::dump::Dump;
use crate::endpoints::TcpClientEndpoint;
use crate::error::{ListenError, RunError};
use crate::hooks::{Hook, Phase, Place};
use crate::inspect::{SlowCallback, Statistics};
use crate::panics::PanicPolicy;
use crate::protocol::{Built, Factory, Seating};
use crate::remote::Remote;
use crate::sockets::{self, ListenOptions, Port};
use crate::stream::Settle;
use crate::transport::Transport;
use crate::weak_reactor::WeakReactor;

/// The event loop.
///
/// A value: a cheap clone of a handle, as many per process and per thread as you like.
/// It stays on its thread; another thread holds a [`Remote`].
///
/// When the last handle is dropped, everything it drove goes: connections are lost with
/// [`ConnectionLost::Stopped`](crate::ConnectionLost::Stopped), calls are dropped. A
/// handle kept inside a call or a protocol counts as one; there, keep a [`WeakReactor`], or
/// ask [`Transport::reactor`] when one is needed.
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
    pub(crate) owner: Rc<Owner>,
}

/// Counts the handles: when the last goes, the core winds up.
pub(crate) struct Owner {
    core: Rc<Core>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.core.lineage.is_forked() {
            // What it drives is the parent's, to whom nothing here is to be heard of: it stays
            // as it is until this process ends.
            mem::forget(Rc::clone(&self.core));
            return;
        }
        self.core.report_leaks();
        self.core.wind_up();
        if self.core.owner.borrow().strong_count() > 0 {
            // Something that went has made a handle anew, and somebody keeps it.
            self.core.mailbox.reopen();
        }
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
            core.mailbox.reopen();
            owner
        });
        Self { owner }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.owner.core
    }

    /// A handle that keeps nothing alive: for what the reactor itself keeps, such as a call
    /// or a protocol.
    #[must_use]
    pub fn downgrade(&self) -> WeakReactor {
        WeakReactor::new(self)
    }

    /// Runs until [`stop`](Reactor::stop) or [`crash`](Reactor::crash).
    ///
    /// While it runs, SIGINT and SIGTERM stop it, unless somebody else catches them or
    /// [`set_stop_on_signals`](Reactor::set_stop_on_signals) says no; what they did
    /// before is restored when it returns. A signal that is ignored when `run` begins stays
    /// ignored: a shell that is not interactive starts its background jobs deaf to SIGINT.
    /// Before `run` and after it, signals do what they always did. May be called again.
    ///
    /// One of the two that comes while the hooks [before the shutdown](Reactor::on_shutdown) are waited for, a second or more
    /// after the shutdown began, ends the wait: Ctrl-C twice for who has no time.
    ///
    /// # Errors
    ///
    /// [`RunError::AlreadyRunning`] inside one of its own callbacks; [`RunError::Io`] if
    /// the system cannot wait.
    pub fn run(&self) -> Result<(), RunError> {
        self.run_while(Pause::Wait(None), |_| true)
    }

    pub(crate) fn run_while(
        &self,
        pause: Pause,
        goes_on: impl Fn(&Core) -> bool,
    ) -> Result<(), RunError> {
        // A handle of its own: the way to it is not asked for in each turn.
        let core = &Rc::clone(self.core());
        let mut running = core.enter()?;
        core.signals.begin();
        core.start();
        let _signals = if core.stop_on_signals.get() {
            Some(core.signals.stop_on_signals(core)?)
        } else {
            None
        };
        while goes_on(core) {
            running.turn(pause)?;
            if core.leave() {
                return core.living();
            }
        }
        Ok(())
    }

    /// Runs until `deferred` fires, and gives its result. Connections and calls stay as
    /// they are, for the next run. Catches no signals.
    ///
    /// # Errors
    ///
    /// The failure of `deferred`; or, made from a [`RunError`]: the reactor runs already,
    /// was stopped (which cancels `deferred`), or cannot wait.
    #[track_caller]
    pub fn run_until<T: 'static, E>(&self, deferred: Deferred<T, E>) -> Result<T, E>
    where
        E: ChainError + From<RunError>,
    {
        let core = self.core();
        let mut running = core.enter()?;
        let result = Rc::new(Cell::new(None));
        let canceller = deferred.canceller();
        let (slot, weak) = (Rc::downgrade(&result), Rc::downgrade(core));
        drop(deferred.add_both(move |fired| {
            // Nobody waits any more: the next run is not this one's to end, and a failure is
            // nobody's but the report's.
            let Some((slot, core)) = slot.upgrade().zip(weak.upgrade()) else {
                return fired.map(drop);
            };
            slot.set(Some(fired));
            core.leave_soon();
            Ok(())
        }));
        loop {
            if let Some(result) = result.take() {
                core.leaving.set(false);
                // A stop that has begun is brought to its end.
                while core.is_stopping() && !core.leave() {
                    running.turn(Pause::Wait(None)).map_err(RunError::Io)?;
                }
                return result;
            }
            running.turn(Pause::Wait(None)).map_err(RunError::Io)?;
            let fired = result.take();
            if fired.is_some() {
                result.set(fired);
            } else if core.leave() {
                core.living()?;
                canceller.cancel();
                core.leaving.set(false);
                // What cancelling made of it, if it is a value after all.
                return result
                    .take()
                    .and_then(Result::ok)
                    .ok_or_else(|| RunError::Stopped.into());
            }
        }
    }

    /// Runs one turn. If there was no call to make in it, and no write or close from outside
    /// of callbacks to be done, it waits at most `limit` for something to happen (`None`: for
    /// ever); otherwise it only looks. For programs that have a loop of their own.
    ///
    /// # Errors
    ///
    /// As for [`run`](Reactor::run).
    pub fn turn(&self, limit: Option<Duration>) -> Result<(), RunError> {
        let core = self.core();
        let mut running = core.enter()?;
        running.turn(Pause::UnlessBusy(limit))?;
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
        self.core().leave_soon();
    }

    /// Whether the loop runs: inside its callbacks, that is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.core().running.get()
    }

    /// Has `hook` called in every turn, at this place in it. For libraries that collect
    /// work and hand it out in batches, and for hosts.
    #[track_caller]
    pub fn add_hook(&self, place: Place, hook: impl FnMut() + 'static) -> Hook {
        let hooks = match place {
            Place::Prepare => &self.core().prepare,
            Place::Check => &self.core().check,
            Place::Idle => &self.core().idle,
        };
        self.core().stir();
        hooks.add(Box::new(hook))
    }

    /// Has `hook` called once, when [`run`](Reactor::run) begins: those of
    /// [`Phase::Before`] first, and the loop starts when what they return has fired, then
    /// the others. Twisted's `addSystemEventTrigger`.
    ///
    /// `hook` returns nothing, a `Result` or a Deferred. A failure is reported as
    /// unhandled; the reactor starts all the same.
    #[track_caller]
    pub fn on_startup<R>(&self, phase: Phase, hook: impl FnOnce() -> R + 'static) -> Hook
    where
        R: IntoDeferred<Failure, Value = ()>,
    {
        self.core().startup.add(phase, hook)
    }

    /// Has `hook` called once, when the reactor stops: those of [`Phase::Before`] first;
    /// when what they return has fired, or
    /// [`set_shutdown_limit`](Reactor::set_shutdown_limit) has passed, ports and connections
    /// are lost and the others are called. Twisted's `addSystemEventTrigger`.
    ///
    /// While the reactor waits for those before, it runs as ever.
    #[track_caller]
    pub fn on_shutdown<R>(&self, phase: Phase, hook: impl FnOnce() -> R + 'static) -> Hook
    where
        R: IntoDeferred<Failure, Value = ()>,
    {
        self.core().shutdown.add(phase, hook)
    }

    /// How long the hooks before a shutdown may take in all; 30 s unless this says
    /// otherwise. Those that take longer are reported as unhandled failures, with the lines that
    /// added them.
    pub fn set_shutdown_limit(&self, limit: Duration) {
        self.core().set_shutdown_limit(limit);
    }

    /// When this reactor wants to be turned again, if nothing happens before; now, if it
    /// has something to do already, and `None` if it only waits for events.
    ///
    /// For a host that waits by itself, together with the descriptor ([`AsFd`]): if there
    /// is work, the descriptor is readable or this deadline has passed. Ask after each
    /// [`turn`](Reactor::turn): what is asked for later, outside of a turn, and is due before the
    /// deadline that was told last, makes the descriptor readable.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.core().next_deadline();
        self.core().tell_host(deadline);
        deadline
    }

    /// Whether a turn would find something to do now: the descriptor is readable, or
    /// [`next_deadline`](Reactor::next_deadline) has passed. Costs a system call.
    ///
    /// For hosts that hear of changes to the descriptor (edges), as tokio's: after a turn that
    /// left something to be fetched, nothing changes. And for those that catch up after a
    /// pause, a bounded number of turns at a time.
    #[must_use]
    pub fn is_work_pending(&self) -> bool {
        let deadline = self.core().next_deadline();
        let descriptor = self.core().driver().descriptor();
        deadline.is_some_and(|deadline| deadline <= self.now())
            || descriptor.is_some_and(os::is_readable)
    }

    /// What a host waits for, in its own poll, select or epoll: readable while the reactor has
    /// events to deliver, and when [`next_deadline`](Reactor::next_deadline) is to be asked anew,
    /// because of what was asked for outside of a turn.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] in virtual time and in a simulation, which wait for nothing.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, Unsupported> {
        let driver = self.core().driver();
        let descriptor = driver.descriptor();
        if descriptor.is_some() {
            self.core().give_descriptor_to_host();
        }
        descriptor.ok_or_else(|| driver.world().lacks(Capability::Descriptors))
    }

    /// What becomes of a panic in a callback, from the next run or turn on: of a call, a hook,
    /// a watch, a protocol. At first it is reported, and the loop goes on; a service that
    /// somebody starts again may rather [abort](PanicPolicy::Abort).
    ///
    /// A panic in a callback of a Deferred is the failure of that chain, and not meant here. If
    /// nobody handles it, the hook for unhandled failures hears of it, and
    /// [`Unhandled::is_panic`](torsade_deferred::unhandled::Unhandled::is_panic) tells.
    ///
    /// # Reentrancy
    ///
    /// From any callback: the run or the turn under way goes on as it began. A reactor that is
    /// run inside a callback of another one, and has no policy of its own, is under that one's.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_reactor::{PanicPolicy, Reactor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// reactor.set_panic_policy(PanicPolicy::Abort);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_panic_policy(&self, policy: PanicPolicy) {
        self.core().panic_policy.set(policy);
    }

    /// Has `hook` called with every callback that keeps the loop from listening for
    /// `threshold` or longer, right after it returns; without a hook of your own,
    /// [`Reactor::warn_of_slow_callbacks`] writes them to `tracing`.
    ///
    /// Costs one look at the clock a callback. `None` switches it off, as it is at first.
    pub fn watch_slow_callbacks(
        &self,
        threshold: Option<Duration>,
        hook: impl FnMut(&SlowCallback<'_>) + 'static,
    ) {
        self.core().stir();
        self.core().stop_watch.watch(threshold, Box::new(hook));
    }

    /// Writes to `tracing`, as a warning, which callback took `threshold` or longer, with
    /// the line that scheduled it.
    pub fn warn_of_slow_callbacks(&self, threshold: Duration) {
        self.watch_slow_callbacks(
            Some(threshold),
            |slow| tracing::warn!(target: "torsade", "{slow}"),
        );
    }

    /// What the loop has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core().stop_watch.statistics()
    }

    /// Everything that the reactor holds and waits for: to print when a program hangs, and
    /// to compare in tests.
    #[must_use]
    pub fn dump(&self) -> Dump {
        self.core().dump()
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

    /// The time of day, for dates that people or other programs read; it may jump. To measure,
    /// and to wait, take [`now`](Reactor::now).
    ///
    /// Where time is virtual, the program begins on 1 January 2000, 00:00 UTC, and a host's clock
    /// that runs wrong shows it here, too.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        self.core().system_time()
    }

    /// A number for what is to differ from one process to the next, or must not be guessed: jitter,
    /// keys. On the system it comes from the system's randomness, another one at each call; in a
    /// simulation from its seed; where there is nothing but virtual time, it is always the same.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.core().driver().seed()
    }

    /// Has `call` called in the next turn, after the calls that were asked for before.
    ///
    /// # Reentrancy
    ///
    /// From any callback; never called from inside this.
    #[track_caller]
    pub fn call_soon(&self, call: impl FnOnce() + 'static) -> SoonCall {
        let call = SoonCallback::new(call);
        self.core().stir();
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
        if self.is_running() && !self.core().is_starting() {
            self.call_soon(call);
        } else {
            self.core().stir();
            self.core()
                .when_running
                .borrow_mut()
                .push(SoonCallback::new(call));
        }
    }

    /// The way to this reactor from other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.core().mailbox.remote()
    }

    /// Watches a descriptor: `callback` is called, with the watch, whenever it is ready for
    /// what `interest` says.
    ///
    /// `source` is anything that has a descriptor, and is owned by the watch: a `UnixStream`,
    /// a `PipeReader`, an `Rc` of one. What is always ready, such as a regular file, is
    /// ready in every turn, and keeps the loop busy until the watch rests. When the reactor
    /// stops, its watches are removed.
    ///
    /// A panic in `callback` removes the watch.
    ///
    /// # Errors
    ///
    /// The system cannot watch it; for one, because another watch of this reactor does. The
    /// source comes back with the error.
    #[track_caller]
    pub fn watch<S: AsFd + 'static>(
        &self,
        source: S,
        interest: Interest,
        mode: Mode,
        mut callback: impl FnMut(&Watch<S>, Readiness) + 'static,
    ) -> Result<Watch<S>, WatchError<S>> {
        let callback = move |watch: &Watch<S>, change| callback(watch, watch.readiness_of(change));
        descriptor::watch(self.core(), source, interest, mode, callback)
    }

    /// Has `callback` called in every turn in which `source` is readable. Twisted's
    /// `addReader`; see [`watch`](Reactor::watch).
    ///
    /// # Errors
    ///
    /// As for [`watch`](Reactor::watch).
    #[track_caller]
    pub fn add_reader<S: AsFd + 'static>(
        &self,
        source: S,
        mut callback: impl FnMut(&Watch<S>) + 'static,
    ) -> Result<Watch<S>, WatchError<S>> {
        let callback = move |watch: &Watch<S>, _| callback(watch);
        descriptor::watch(self.core(), source, Interest::Read, Mode::Level, callback)
    }

    /// Has `callback` called in every turn in which `source` is writable. Twisted's
    /// `addWriter`; see [`watch`](Reactor::watch).
    ///
    /// # Errors
    ///
    /// As for [`watch`](Reactor::watch).
    #[track_caller]
    pub fn add_writer<S: AsFd + 'static>(
        &self,
        source: S,
        mut callback: impl FnMut(&Watch<S>) + 'static,
    ) -> Result<Watch<S>, WatchError<S>> {
        let callback = move |watch: &Watch<S>, _| callback(watch);
        descriptor::watch(self.core(), source, Interest::Write, Mode::Level, callback)
    }

    /// Lends memory for a layer to work in while a callback lasts, with bytes of former work in
    /// it: to be overwritten, not to be read. Give it back with
    /// [`return_buffer`](Reactor::return_buffer); if you do not, it is only an allocation more.
    #[must_use]
    pub fn lend_buffer(&self) -> Vec<u8> {
        self.core().buffers.take_for_work()
    }

    /// Takes back what [`lend_buffer`](Reactor::lend_buffer) lent, at whatever length: the next one
    /// need not be filled with zeros.
    pub fn return_buffer(&self, buffer: Vec<u8>) {
        self.core().buffers.return_from_work(buffer);
    }

    /// Has `layer` settled when the callback at hand has returned. For layers; to ask
    /// twice is to be called twice.
    pub fn settle_later(&self, layer: Rc<dyn Settle>) {
        self.core().settle_layer_later(layer);
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
    #[track_caller]
    pub fn listen_tcp(
        &self,
        address: impl ToTcpAddress,
        factory: impl Factory,
    ) -> Result<Port, ListenError> {
        let acceptor = Rc::new(Seating::new(factory));
        self.core().on_behalf_of(Location::caller(), || {
            sockets::listen_tcp(self.core(), &address, &ListenOptions::new(), acceptor)
        })
    }

    /// Connects to a TCP address, and seats the protocol that `build` makes on the
    /// connection. Fires with its transport, after `connection_made`.
    ///
    /// A name is looked up on another thread, and all its addresses are tried; see
    /// [`TcpClientEndpoint`], which also has options.
    ///
    /// A client whose result comes later makes the pair for it when the connection stands, so
    /// that a connection that is never made leaves no second failure behind:
    ///
    /// ```
    /// # use torsade_deferred::{Deferred, Failure, Trigger};
    /// # use torsade_reactor::{Address, ConnectionLost, Protocol, Reactor, Transport};
    /// /// Reads everything, until the peer closes.
    /// #[derive(Default)]
    /// struct Fetch {
    ///     text: Vec<u8>,
    ///     done: Option<Trigger<Vec<u8>>>,
    /// }
    ///
    /// impl Protocol for Fetch {
    ///     fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
    ///         self.text.extend_from_slice(data);
    ///     }
    ///
    ///     fn connection_lost(&mut self, _: ConnectionLost) {
    ///         if let Some(done) = self.done.take() {
    ///             done.callback(std::mem::take(&mut self.text));
    ///         }
    ///     }
    /// }
    ///
    /// fn fetch(reactor: &Reactor, address: &str) -> Deferred<Vec<u8>> {
    ///     reactor.connect_tcp(address, |_| Fetch::default()).add_callback(|transport| {
    ///         let (trigger, text) = Deferred::new();
    ///         transport.call(|fetch, _| fetch.done = Some(trigger));
    ///         text
    ///     })
    /// }
    /// # drop(fetch(&Reactor::new().unwrap(), "127.0.0.1:9").add_errback(|_| Ok(Vec::new())));
    /// ```
    ///
    /// # Errors
    ///
    /// Fails with a [`ConnectError`](crate::ConnectError), which names the address; after 30 s
    /// at the latest.
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up; `build` is not called. From inside `build` it comes too late:
    /// the connection is made, and this fires with it.
    #[track_caller]
    pub fn connect_tcp<B: Built>(
        &self,
        address: impl ToTcpAddress,
        build: impl FnOnce(&Address) -> B + 'static,
    ) -> Deferred<Transport<B::Protocol>> {
        self.connect(&TcpClientEndpoint::new(address), build)
    }
}

/// [`Reactor::descriptor`], for what wants an [`AsFd`].
///
/// # Panics
///
/// For a reactor in virtual time or in a simulation, which has no descriptor; ask
/// [`Reactor::descriptor`] where it may be one.
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor()
            .expect("who asks for the descriptor knows that there is one")
    }
}

/// The time of the reactor's own world, for the timeouts of Deferreds.
impl Clock for Reactor {
    fn now(&self) -> Instant {
        self.core().now()
    }

    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        self.schedule_for(delay, Location::caller(), call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        run: Box<dyn FnOnce()>,
    ) -> Scheduled {
        let core = self.core();
        let call = core.call_at(core.later(delay), Call::at(origin, run));
        Scheduled::new(move || {
            call.cancel();
        })
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        Some(Rc::new(self.downgrade()))
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
