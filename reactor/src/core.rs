//! The loop: what runs when.
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
//!   │    │ signals        each watcher whose signal came            │
//!   │    │ events         each socket that changed                  │
//!   │    │ left over      channels, and sockets that had more than  │
//!   │    │                a turn's share                            │
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
//! No platform (see [`driver`](crate::driver)), no byte (see `sockets/`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::agenda::Agenda;
use crate::background::Background;
use crate::buffers::Buffers;
use crate::calls::Calls;
use crate::delayed_call::{Call, DelayedCall, SoonCallback, Time};
use crate::descriptor::Watched;
use crate::driver::{Change, Driver, Events};
use crate::dump::{Ages, Listed};
use crate::hooks::{PhaseHooks, TurnHooks};
use crate::host::Host;
use crate::inspect::{ScheduledAt, StopWatch};
use crate::panics::{self, PanicPolicy};
use crate::reactor::{Owner, Reactor};
use crate::remote::Mailbox;
use crate::resolver::Lookups;
use crate::running::{SHUTDOWN_LIMIT, ShuttingDown};
use crate::signals::Watchers;
use crate::slab::{Slab, Token};
use crate::sources::Registered;
use crate::stream::Settle;
use crate::sys::fork::Lineage;
use crate::sys::poller::Poller;
use crate::thread_pool::ThreadPool;
use crate::threads::Errands;
use crate::timers::Timers;

/// "For ever", where a deadline is beyond the clock's range.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Something that events come for: a connection, a port, an attempt.
///
/// None of these is called from inside user code.
pub(crate) trait Source {
    /// The driver says that something changed.
    fn ready(self: Rc<Self>, change: Change);

    /// It asked to be called in this turn, because it had more to do.
    fn again(self: Rc<Self>);

    /// A callback has returned, in which this source was written to or closed.
    fn settle(self: Rc<Self>);

    /// The reactor stops.
    fn stop(self: Rc<Self>);

    /// The machine crashes: from here on it tells nobody anything.
    fn halt(&self) {}

    /// The machine has crashed, some time ago: lets go of whoever listens, and tells nobody.
    fn vanish(self: Rc<Self>) {}

    /// Ends a watch, and gives what was watched; `None` for everything else.
    fn remove_watch(self: Rc<Self>) -> Option<Watched> {
        None
    }

    /// Whether the loop may come to its end though this is there.
    fn is_background(&self) -> bool {
        false
    }

    /// What it is, for reports.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl fmt::Display for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

/// What all handles of a reactor share.
///
/// What each event touches comes first, and lies together: after a sleep each line of memory is
/// one that the processor fetches anew.
///
/// Invariant: no `RefCell` of it is borrowed while user code runs, and user code
/// includes the drop of a call, a protocol or a Deferred.
#[repr(C)]
pub(crate) struct Core {
    pub(crate) agenda: Agenda,
    short_read_is_dry: bool,
    /// What the driver waits with, where that is epoll.
    poller: Option<Rc<Poller>>,
    pub(crate) mailbox: Mailbox,
    pub(crate) signals: Watchers,
    pub(crate) sources: RefCell<Slab<Registered>>,
    /// Where somebody asked for what is being done: new sources are registered under it.
    pub(crate) origin: Cell<Option<&'static Location<'static>>>,
    pub(crate) stop_watch: StopWatch,
    pub(crate) buffers: Buffers,
    /// Sources to settle when the callback at hand has returned.
    dirty: RefCell<Vec<Token>>,
    /// Layers to settle before that.
    pub(crate) layers: RefCell<Vec<Rc<dyn Settle>>>,
    pub(crate) timers: RefCell<Timers<Call>>,
    pub(crate) owner: RefCell<Weak<Owner>>,
    driver: Rc<dyn Driver>,
    /// Those that are due by the time that passes in a suspension, too.
    pub(crate) boot_timers: RefCell<Timers<Call>>,
    /// Whether there has been one: most loops have none, and look no further.
    has_boot_timers: Cell<bool>,
    pub(crate) soon: RefCell<Calls<SoonCallback>>,
    pub(crate) when_running: RefCell<Vec<SoonCallback>>,
    pub(crate) prepare: TurnHooks,
    pub(crate) check: TurnHooks,
    pub(crate) idle: TurnHooks,
    pub(crate) startup: PhaseHooks,
    pub(crate) shutdown: PhaseHooks,
    pub(crate) shutdown_limit: Cell<Duration>,
    /// Ends the wait for the hooks before a shutdown; there while they are waited for.
    pub(crate) shutting_down: RefCell<Option<ShuttingDown>>,
    /// When delayed calls were scheduled.
    pub(crate) ages: Ages,
    /// The same for those of the boot clock.
    pub(crate) boot_ages: Ages,
    pub(crate) listed: Listed,
    pub(crate) lookups: RefCell<Lookups>,
    /// What threads of a pool work on.
    pub(crate) errands: RefCell<Errands>,
    pub(crate) thread_pool: RefCell<Option<ThreadPool>>,
    /// Sources to call again in the next turn.
    again: RefCell<Vec<Token>>,
    /// Ports for which the process had no descriptor.
    pub(crate) starving: RefCell<Vec<Token>>,
    /// Room for the events of a wait, while the loop does not run.
    pub(crate) events: Cell<Events>,
    /// Connections so far.
    sessions: Cell<u64>,
    pub(crate) running: Cell<bool>,
    /// The hooks of the start have begun and not come to their end.
    pub(crate) starting: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    /// The loop is to be left at the end of the turn.
    pub(crate) leaving: Cell<bool>,
    pub(crate) stop_on_signals: Cell<bool>,
    pub(crate) panic_policy: Cell<PanicPolicy>,
    pub(crate) background: Background,
    /// The process that it was made in.
    pub(crate) lineage: Lineage,
    pub(crate) winding_up: Cell<bool>,
    pub(crate) host: Host,
    /// Its simulated machine has crashed: nothing of it is called any more.
    pub(crate) perished: Cell<bool>,
}

impl Core {
    pub(crate) fn new(driver: Rc<dyn Driver>) -> Rc<Self> {
        let begin = driver.now();
        let mailbox = Mailbox::new(driver.wake_up());
        Rc::new(Self {
            owner: RefCell::default(),
            short_read_is_dry: driver.short_read_is_dry(),
            mailbox,
            poller: driver.poller(),
            driver,
            timers: RefCell::new(Timers::new()),
            boot_timers: RefCell::new(Timers::new()),
            has_boot_timers: Cell::new(false),
            soon: RefCell::new(Calls::new()),
            when_running: RefCell::default(),
            prepare: TurnHooks::default(),
            check: TurnHooks::default(),
            idle: TurnHooks::default(),
            startup: PhaseHooks::default(),
            shutdown: PhaseHooks::default(),
            shutdown_limit: Cell::new(SHUTDOWN_LIMIT),
            shutting_down: RefCell::default(),
            sources: RefCell::new(Slab::new()),
            origin: Cell::new(None),
            ages: Ages::new(begin),
            boot_ages: Ages::new(begin),
            listed: Listed::new(),
            lookups: RefCell::default(),
            errands: RefCell::default(),
            thread_pool: RefCell::default(),
            agenda: Agenda::new(),
            dirty: RefCell::default(),
            layers: RefCell::default(),
            again: RefCell::default(),
            starving: RefCell::default(),
            events: Cell::default(),
            buffers: Buffers::default(),
            stop_watch: StopWatch::default(),
            sessions: Cell::new(0),
            running: Cell::new(false),
            starting: Cell::new(false),
            stopping: Cell::new(false),
            leaving: Cell::new(false),
            stop_on_signals: Cell::new(true),
            panic_policy: Cell::default(),
            signals: Watchers::default(),
            background: Background::default(),
            lineage: Lineage::here(),
            winding_up: Cell::new(false),
            host: Host::default(),
            perished: Cell::new(false),
        })
    }

    /// One turn of the loop; the module's page has the picture.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    pub(crate) fn turn(self: &Rc<Self>, pause: Pause, events: &mut Events) -> io::Result<()> {
        match pause {
            Pause::Wait(limit) | Pause::UnlessBusy(limit) if self.awaits_events_only(limit) => {
                self.turn_for_events(limit, events)
            }
            _ => self.turn_in_full(pause, events),
        }
    }

    #[inline(never)]
    fn turn_in_full(self: &Rc<Self>, pause: Pause, events: &mut Events) -> io::Result<()> {
        // Who asked for it outside wants to hear of what came of it, as of a call.
        let has_settled = self.agenda.has(Agenda::UNSETTLED);
        self.settle();
        let calls_before = self.stop_watch.calls();
        let posted = self.begin();
        self.run_thread_calls(posted);
        self.run_due_calls();
        if self.is_stirred() {
            self.run_soon_calls();
            self.run_hooks(&self.idle);
            self.run_hooks(&self.prepare);
            if self.is_calm() {
                self.agenda.remove(Agenda::STIRRED);
            }
        }
        let limit = match pause {
            Pause::UnlessBusy(_) if has_settled || self.stop_watch.calls() != calls_before => {
                Some(Duration::ZERO)
            }
            Pause::UnlessIdle if self.is_idle() => Some(Duration::ZERO),
            Pause::UnlessIdle => None,
            Pause::UnlessBusy(limit) | Pause::Wait(limit) => limit,
        };
        let left_over = self.wait(limit, events)?;
        self.run_hooks(&self.check);
        self.run_signal_calls();
        self.dispatch(events);
        self.run_left_over(left_over);
        Ok(())
    }

    /// Whether all that a turn finds to do, in full, would be to wait. Then the loop may sleep.
    #[inline]
    fn awaits_events_only(&self, limit: Option<Duration>) -> bool {
        self.agenda.is_empty()
            && if limit == Some(Duration::ZERO) {
                !self.mailbox.has_post()
            } else {
                self.mailbox.fall_asleep_in_a_turn()
            }
    }

    /// The lower half of a turn, where there is nothing in the upper one: most turns of a busy
    /// server are such.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    fn turn_for_events(
        self: &Rc<Self>,
        limit: Option<Duration>,
        events: &mut Events,
    ) -> io::Result<()> {
        debug_assert!(self.is_calm() && self.timers.borrow().is_empty());
        let outcome = self.wait_for_events(limit, events);
        self.mailbox.wake();
        outcome?;
        // A signal wakes the loop: who was not woken need not look.
        if self.signals.is_catching() && (self.poller.is_none() || events.may_tell_of_signals()) {
            self.run_signal_calls();
        }
        self.dispatch(events);
        Ok(())
    }

    /// Fixes what this turn runs: later arrivals wait for the next.
    fn begin(&self) -> usize {
        if self.is_stirred() {
            self.go_on_starting();
            if !self.starting.get() && !self.when_running.borrow().is_empty() {
                self.run_waiting_calls();
            }
            self.soon.borrow_mut().start_batch();
        }
        {
            let mut timers = self.timers.borrow_mut();
            if !timers.is_empty() {
                let now = self.driver.now();
                self.ages.mark(now, timers.next_sequence());
                timers.take_due(now);
            } else if !self.has_boot_timers.get() {
                self.agenda.remove(Agenda::TIMED);
            }
        }
        if self.has_boot_timers.get() {
            let mut timers = self.boot_timers.borrow_mut();
            timers.take_due(self.driver.boot_now());
        }
        self.mailbox.len()
    }

    /// To be called by whatever makes that there is something to do; see `stirred`.
    #[inline]
    pub(crate) fn stir(&self) {
        self.put_on_agenda(Agenda::STIRRED);
    }

    /// Whether more than events, delayed calls and threads may have something to do.
    #[inline]
    pub(crate) fn is_stirred(&self) -> bool {
        let stirred = self.agenda.has(Agenda::STIRRED);
        debug_assert!(stirred || self.is_calm(), "somebody did not stir");
        stirred
    }

    /// Whether there is nothing to do but what events, delayed calls and threads bring, and
    /// to send.
    fn is_calm(&self) -> bool {
        !(self.starting.get()
            || self.stopping.get()
            || self.leaving.get()
            || self.shutting_down.borrow().is_some()
            || self.stop_watch.is_running())
            && self.when_running.borrow().is_empty()
            && self.soon.borrow().is_at_rest()
            && self.again.borrow().is_empty()
            && self.idle.has_none()
            && self.prepare.has_none()
            && self.check.has_none()
            && self.errands.borrow().is_empty()
    }

    fn run_thread_calls(&self, posted: usize) {
        for _ in 0..posted {
            if self.perished.get() {
                return;
            }
            let Some(post) = self.mailbox.take() else {
                return;
            };
            let Some(owner) = self.owner.borrow().upgrade() else {
                return;
            };
            let call = post.call;
            self.run_call(post.origin, || call.call(&Reactor { owner }));
        }
    }

    fn run_due_calls(&self) {
        self.run_calls_of(&self.timers);
        if self.has_boot_timers.get() {
            self.run_calls_of(&self.boot_timers);
            self.timers_changed(Time::Boot);
        }
    }

    /// Makes the calls that were taken as due.
    #[inline]
    fn run_calls_of(&self, timers: &RefCell<Timers<Call>>) {
        if timers.borrow().has_taken() {
            self.run_some_calls_of(timers);
        }
    }

    #[inline(never)]
    fn run_some_calls_of(&self, timers: &RefCell<Timers<Call>>) {
        // Detach, then call: what an earlier call of the batch cancels is not in it any more
        // when its turn comes.
        loop {
            let Some(call) = timers.borrow_mut().pop_taken() else {
                return;
            };
            self.run_call(call.origin, || call.run.call(&()));
        }
    }

    fn run_soon_calls(&self) {
        loop {
            let Some(call) = self.soon.borrow_mut().pop_batch() else {
                return;
            };
            self.run_call(call.origin, call.run);
        }
    }

    #[inline]
    fn run_hooks(&self, hooks: &TurnHooks) {
        if !hooks.has_none() {
            self.run_some_hooks(hooks);
        }
    }

    #[inline(never)]
    fn run_some_hooks(&self, hooks: &TurnHooks) {
        hooks.run(|origin, hook| {
            if !self.perished.get() {
                // The panic has been reported; a hook is called again all the same.
                let _ = panics::catch_of(origin, hook);
                self.settle();
            }
        });
    }

    #[inline]
    fn run_signal_calls(self: &Rc<Self>) {
        if self.signals.is_catching() && self.signals.have_come() {
            self.run_some_signal_calls();
        }
    }

    #[inline(never)]
    fn run_some_signal_calls(self: &Rc<Self>) {
        self.signals.run(self, |origin, call| {
            self.run_user_code(origin, call);
            self.lap(&"a watcher of a signal");
        });
    }

    #[inline]
    pub(crate) fn run_call(&self, origin: &'static Location<'static>, run: impl FnOnce()) {
        self.stop_watch.count_call();
        // The panic has been reported; there is nobody to tell.
        let _ = panics::catch_of(origin, run);
        self.settle();
        self.lap(&ScheduledAt(origin));
    }

    /// A callback has returned: says so, if it took too long and somebody wants to know.
    #[inline]
    pub(crate) fn lap(&self, what: &dyn fmt::Display) {
        if self.stop_watch.is_running() {
            self.lap_measured(what);
        }
    }

    #[inline(never)]
    fn lap_measured(&self, what: &dyn fmt::Display) {
        if let Some(took) = self.stop_watch.lap(self.driver.now()) {
            // A hook that has been replaced is dropped there; the panic has been reported.
            let _ = panics::catch(|| self.stop_watch.report(what, took));
        }
    }

    /// Waits for events, and gives the sources that had something left over before.
    fn wait(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<Vec<Token>> {
        let mut limit = self.sleep_limit(limit);
        if limit != Some(Duration::ZERO) && !self.mailbox.fall_asleep_in_a_turn() {
            limit = Some(Duration::ZERO);
        }
        if !self.is_stirred() {
            let outcome = self.wait_for_events(limit, events);
            self.mailbox.wake();
            return outcome.map(|()| Vec::new());
        }
        if self.stop_watch.is_running() {
            self.stop_watch.falls_asleep(self.driver.now());
        }
        // In virtual time an hour would pass before a thread has as much as begun.
        let has_waited = limit != Some(Duration::ZERO)
            && self.errands.borrow().are_under_way()
            && self.driver.wait_for_threads();
        let outcome = if has_waited {
            events.clear();
            Ok(())
        } else {
            self.wait_for_events(limit, events)
        };
        self.mailbox.wake();
        if self.stop_watch.is_running() {
            self.stop_watch.wakes(self.driver.now());
        }
        outcome?;
        if self.again.borrow().is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.again.take())
    }

    #[inline]
    fn wait_for_events(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<()> {
        events.clear();
        match &self.poller {
            // The same, without the way there.
            Some(poller) => poller.wait_by_epoll(limit, events),
            None => self.driver.wait(limit, events),
        }
    }

    fn sleep_limit(&self, limit: Option<Duration>) -> Option<Duration> {
        let busy = self.agenda.has(Agenda::UNSETTLED) || (self.is_stirred() && self.is_busy());
        if busy || limit == Some(Duration::ZERO) {
            return Some(Duration::ZERO);
        }
        if self.timers.borrow().is_empty() && !self.has_boot_timers.get() {
            return limit;
        }
        let Some(due) = self.next_due() else {
            return limit;
        };
        Some(limit.map_or(due, |limit| limit.min(due)))
    }

    /// Whether the next turn has something to do already.
    fn is_busy(&self) -> bool {
        self.stopping.get()
            || self.leaving.get()
            || !self.again.borrow().is_empty()
            || !self.soon.borrow().is_empty()
            || (self.starting.get() && !self.startup.is_waiting())
            || (!self.starting.get() && !self.when_running.borrow().is_empty())
            || (!self.idle.has_none() && !self.idle.is_empty())
            || self.is_shutdown_due()
    }

    /// How long it is to the next delayed call.
    fn next_due(&self) -> Option<Duration> {
        let running = {
            let timers = self.timers.borrow();
            timers.next_deadline().map(|deadline| {
                let now = self.driver.now();
                self.ages.mark(now, timers.next_sequence());
                deadline.saturating_duration_since(now)
            })
        };
        if !self.has_boot_timers.get() {
            return running;
        }
        let boot = self.boot_timers.borrow().next_deadline();
        let boot = boot.map(|at| at.saturating_duration_since(self.driver.boot_now()));
        match (running, boot) {
            (Some(running), Some(boot)) => Some(running.min(boot)),
            (running, boot) => running.or(boot),
        }
    }

    fn run_left_over(&self, mut left_over: Vec<Token>) {
        if left_over.is_empty() {
            return;
        }
        for token in left_over.drain(..) {
            self.call_source(token, Source::again);
        }
        let mut again = self.again.borrow_mut();
        if again.is_empty() {
            // Keeps the allocation.
            *again = left_over;
        }
    }

    /// Sends and closes what the last callback asked for. Closing calls back, so this
    /// goes on until nothing is asked for any more.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.agenda.has(Agenda::UNSETTLED) {
            self.settle_all();
        }
    }

    #[inline(never)]
    fn settle_all(&self) {
        loop {
            self.settle_layers();
            if self.dirty.borrow().is_empty() {
                self.agenda.remove(Agenda::UNSETTLED);
                return;
            }
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

    /// Layers write to those below, which then want to be settled in their turn.
    fn settle_layers(&self) {
        while !self.layers.borrow().is_empty() {
            let mut layers = self.layers.take();
            for layer in layers.drain(..) {
                if self.perished.get() {
                    continue;
                }
                // The panic has been reported; the layer's own state is the layer's.
                let _ = panics::catch(|| layer.settle());
            }
            let mut next = self.layers.borrow_mut();
            if next.is_empty() {
                *next = layers;
            }
        }
    }

    /// When there will be something to do, as far as the loop knows by itself; now, if
    /// there is already.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.sleep_limit(None) {
            Some(limit) if limit.is_zero() => Some(self.now()),
            _ if self.mailbox.len() > 0 => Some(self.now()),
            _ if self.boot_timers.borrow().is_empty() => self.timers.borrow().next_deadline(),
            _ => self.next_due().map(|due| self.later(due)),
        }
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    pub(crate) fn timers(&self, time: Time) -> &RefCell<Timers<Call>> {
        match time {
            Time::Running => &self.timers,
            Time::Boot => &self.boot_timers,
        }
    }

    /// The next deadline may be another one: says so, where the system must know.
    pub(crate) fn timers_changed(&self, time: Time) {
        if time == Time::Boot {
            let deadline = self.boot_timers.borrow().next_deadline();
            self.driver.set_boot_alarm(deadline);
        }
    }

    /// The number of a new connection: 1 for the first.
    pub(crate) fn next_session_number(&self) -> u64 {
        let number = self.sessions.get() + 1;
        self.sessions.set(number);
        number
    }

    pub(crate) fn short_read_is_dry(&self) -> bool {
        self.short_read_is_dry
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now()
    }

    pub(crate) fn system_time(&self) -> SystemTime {
        self.driver.system_time()
    }

    pub(crate) fn time(&self, time: Time) -> Instant {
        match time {
            Time::Running => self.driver.now(),
            Time::Boot => self.driver.boot_now(),
        }
    }

    /// The instant `delay` from now, or as good as for ever.
    pub(crate) fn later(&self, delay: Duration) -> Instant {
        self.later_by(Time::Running, delay)
    }

    pub(crate) fn later_by(&self, time: Time, delay: Duration) -> Instant {
        let now = self.time(time);
        now.checked_add(delay).unwrap_or_else(|| now + FAR_FUTURE)
    }

    #[track_caller]
    pub(crate) fn call_soon(&self, call: impl FnOnce() + 'static) {
        let call = SoonCallback::new(call);
        self.stir();
        self.soon.borrow_mut().push(call);
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

    #[inline]
    pub(crate) fn call_at(self: &Rc<Self>, deadline: Instant, call: Call) -> DelayedCall {
        self.call_at_time(Time::Running, deadline, call)
    }

    #[inline]
    pub(crate) fn call_at_time(
        self: &Rc<Self>,
        time: Time,
        deadline: Instant,
        call: Call,
    ) -> DelayedCall {
        if time == Time::Boot {
            self.has_boot_timers.set(true);
        }
        self.expect_turn_at(deadline);
        self.note_age(time);
        let key = self.timers(time).borrow_mut().insert(deadline, call);
        self.timers_changed(time);
        DelayedCall {
            core: Rc::downgrade(self),
            key,
            time,
        }
    }

    /// A call is about to be put into a queue, or to another place in it.
    pub(crate) fn note_age(&self, time: Time) {
        // There are few of the boot clock's, so that each may look at the usual one.
        if time == Time::Boot {
            let next = self.boot_timers.borrow().next_sequence();
            self.boot_ages.mark(self.now(), next);
        }
    }

    /// Whether anything is to be settled.
    #[inline]
    pub(crate) fn has_unsettled(&self) -> bool {
        self.agenda.has(Agenda::UNSETTLED)
    }

    /// Has a source settled before those that are to be settled already.
    #[cold]
    pub(crate) fn settle_first(&self, token: Token) {
        debug_assert!(self.has_unsettled(), "it is not alone");
        self.dirty.borrow_mut().insert(0, token);
    }

    pub(crate) fn settle_later(&self, token: Token) {
        self.put_on_agenda(Agenda::UNSETTLED);
        self.dirty.borrow_mut().push(token);
    }

    pub(crate) fn settle_layer_later(&self, layer: Rc<dyn Settle>) {
        self.put_on_agenda(Agenda::UNSETTLED);
        self.layers.borrow_mut().push(layer);
    }

    pub(crate) fn ready_again(&self, token: Token) {
        self.stir();
        self.again.borrow_mut().push(token);
    }
}

/// How long a turn may wait for events.
#[derive(Clone, Copy)]
pub(crate) enum Pause {
    Wait(Option<Duration>),
    /// Not at all, if the turn has made a call: its caller wants to hear of that.
    UnlessBusy(Option<Duration>),
    /// Not at all, if nothing is left to wait for; otherwise for ever.
    UnlessIdle,
}
