//! A call that is made every so often.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{
    Canceller, Clock, Deferred, Failure, Interrupted, IntoDeferred, Scheduled, Trigger, fail,
    maybe_deferred,
};

use super::grid::{Grid, MissedTicks};
use super::timekeeper::Timekeeper;

/// Makes a call every so often, until it is stopped or the call fails.
///
/// The call returns nothing, a `Result`, or a Deferred: the next call waits for it. A
/// cheap clone: another handle on the same loop; dropping a handle stops nothing.
/// Twisted's `task.LoopingCall`.
///
/// # Order
///
/// The calls are due at whole multiples of the interval from the start, however long
/// each one takes; what becomes of slots that were missed, [`MissedTicks`] says. An
/// interval of zero means once a turn.
///
/// # Failures
///
/// A call that fails ends the loop, with that failure for the Deferred of
/// [`start`](LoopingCall::start). If nobody handles it there, it is reported.
///
/// # Reentrancy
///
/// Everything may be called from inside the call, also stopping. A clone of the loop
/// kept in its own call keeps both alive for ever;
/// [`with_handle`](LoopingCall::with_handle) lends one instead.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::task::LoopingCall;
/// use torsade_reactor::testing::virtual_time_reactor;
///
/// # fn main() -> Result<(), torsade_deferred::Failure> {
/// let reactor = virtual_time_reactor();
/// let mut left = 3;
/// let countdown = LoopingCall::with_handle(&reactor, move |countdown, _count| {
///     println!("{left}");
///     left -= 1;
///     if left == 0 {
///         countdown.stop();
///     }
/// });
/// reactor.run_until(countdown.start(Duration::from_secs(1)))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LoopingCall {
    shared: Rc<Shared>,
}

impl LoopingCall {
    /// A loop that makes `call`, on `clock`. It does not run yet.
    #[track_caller]
    pub fn new<R>(
        clock: &(impl Clock + Clone + 'static),
        mut call: impl FnMut() -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<Value: 'static>,
    {
        Self::with_handle(clock, move |_looping, _count| call())
    }

    /// A loop whose call is told how many slots have passed since the last call, the
    /// present one included: 1, unless some were missed. The sum of the counts is the
    /// number of slots.
    #[track_caller]
    pub fn with_count<R>(
        clock: &(impl Clock + Clone + 'static),
        mut call: impl FnMut(u64) -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<Value: 'static>,
    {
        Self::with_handle(clock, move |_looping, count| call(count))
    }

    /// A loop whose call is lent the loop, to stop it or to change its pace, and told
    /// the count of [`with_count`](LoopingCall::with_count).
    #[track_caller]
    pub fn with_handle<R>(
        clock: &(impl Clock + Clone + 'static),
        mut call: impl FnMut(&Self, u64) -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<Value: 'static>,
    {
        let timekeeper = Timekeeper::of(clock);
        let grid = Grid::from_next(timekeeper.now(), Duration::ZERO, MissedTicks::default());
        let call: Call = Box::new(move |looping, count| {
            let result = call(looping, count).into_deferred();
            result.map(drop)
        });
        Self {
            shared: Rc::new(Shared {
                timekeeper,
                call: Cell::new(Some(call)),
                grid: RefCell::new(grid),
                missed: Cell::default(),
                run: RefCell::default(),
                last_number: Cell::default(),
                origin: Location::caller(),
            }),
        }
    }

    /// Starts: makes the first call now, before this returns, and then one every
    /// `interval`. Fires with the loop when it was stopped; then it may start again.
    ///
    /// # Errors
    ///
    /// Fails with what the call failed with, and with [`AlreadyRunning`] if the loop runs
    /// or its last call has not ended.
    ///
    /// # Cancellation
    ///
    /// Stops the loop. If a call returned a Deferred that has not fired, that is
    /// cancelled, and its answer is waited for. Fails with
    /// [`Interrupted::Cancelled`], or with a failure that the call answered.
    #[track_caller]
    pub fn start(&self, interval: Duration) -> Deferred<Self> {
        match self.begin() {
            Ok(deferred) => {
                let shared = &self.shared;
                let now = shared.timekeeper.now();
                shared
                    .grid
                    .replace(Grid::from_now(now, interval, shared.missed.get()));
                self.make_call();
                deferred
            }
            Err(error) => fail(error),
        }
    }

    /// Starts like [`start`](LoopingCall::start), but makes the first call an interval
    /// from now. Twisted's `start(interval, now=False)`.
    #[track_caller]
    pub fn start_later(&self, interval: Duration) -> Deferred<Self> {
        match self.begin() {
            Ok(deferred) => {
                let shared = &self.shared;
                let now = shared.timekeeper.now();
                shared
                    .grid
                    .replace(Grid::from_next(now, interval, shared.missed.get()));
                self.schedule_next();
                deferred
            }
            Err(error) => fail(error),
        }
    }

    /// Stops: no further call is made, and the Deferred of the start fires. If a call is
    /// being made or its Deferred has not fired, that happens when it has ended.
    ///
    /// False, and nothing else, if the loop does not run or was stopped before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn stop(&self) -> bool {
        let mut slot = self.shared.run.borrow_mut();
        let Some(run) = slot.as_mut().filter(|run| run.ending.is_none()) else {
            return false;
        };
        if !matches!(run.phase, Phase::Scheduled(_)) {
            run.ending = Some(Ending::Stopped);
            return true;
        }
        drop(slot);
        self.finish(Ok(()));
        true
    }

    /// Puts the next call off until a whole interval from now; the slots are then aligned
    /// to this moment.
    ///
    /// False, and nothing else, if no call is waiting for its time: the loop does not run,
    /// or a call is being made.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn reset(&self) -> bool {
        let shared = &self.shared;
        let scheduled = {
            let mut slot = shared.run.borrow_mut();
            let Some(run) = slot.as_mut() else {
                return false;
            };
            let Phase::Scheduled(_) = &run.phase else {
                return false;
            };
            // Its call is not missed when it goes.
            run.number = shared.next_number();
            mem::replace(&mut run.phase, Phase::Calling)
        };
        if let Phase::Scheduled(scheduled) = scheduled {
            scheduled.cancel();
        }
        let interval = shared.grid.borrow().interval();
        let grid = Grid::from_next(shared.timekeeper.now(), interval, shared.missed.get());
        shared.grid.replace(grid);
        self.schedule_next();
        true
    }

    /// Changes the interval. A call that is scheduled stays where it is; the one after it
    /// follows the new interval, counted from the start.
    pub fn set_interval(&self, interval: Duration) {
        self.shared.grid.borrow_mut().set_interval(interval);
    }

    /// The interval: that of the last start, unless it was changed. Zero before the first.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.shared.grid.borrow().interval()
    }

    /// Says what becomes of missed calls, from the next one on.
    pub fn set_missed_ticks(&self, missed: MissedTicks) {
        self.shared.missed.set(missed);
        self.shared.grid.borrow_mut().set_missed(missed);
    }

    /// Whether further calls are to come. False before the Deferred of the start fires.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let run = self.shared.run.borrow();
        run.as_ref().is_some_and(|run| run.ending.is_none())
    }

    /// Whether a start has not come to its end: it runs, or its last call does.
    pub(super) fn is_started(&self) -> bool {
        self.shared.run.borrow().is_some()
    }

    #[track_caller]
    fn begin(&self) -> Result<Deferred<Self>, AlreadyRunning> {
        let mut slot = self.shared.run.borrow_mut();
        if slot.is_some() {
            return Err(AlreadyRunning);
        }
        let (trigger, deferred) = Deferred::new();
        let shared = Rc::downgrade(&self.shared);
        trigger.forward_cancel(move || {
            if let Some(shared) = shared.upgrade() {
                Self { shared }.cancel();
            }
        });
        *slot = Some(Run {
            trigger,
            phase: Phase::Calling,
            ending: None,
            number: self.shared.next_number(),
        });
        Ok(deferred)
    }

    fn make_call(&self) {
        let shared = &self.shared;
        let count = {
            let now = shared.timekeeper.now();
            shared.grid.borrow_mut().count(now)
        };
        let Some(mut call) = shared.call.take() else {
            unreachable!("a loop makes one call at a time");
        };
        // Detach, then call: the call may stop the loop, cancel it or try to start it.
        let mut result = maybe_deferred(|| call(self, count));
        shared.call.set(Some(call));
        result = match result.into_result() {
            Ok(result) => return self.call_ended(result),
            Err(pending) => pending,
        };
        let canceller = result.canceller();
        let is_cancelled = match shared.run.borrow_mut().as_mut() {
            Some(run) => {
                run.phase = Phase::Waiting(canceller.clone());
                matches!(run.ending, Some(Ending::Cancelled))
            }
            None => false,
        };
        let this = self.clone();
        drop(result.add_both(move |result| this.call_ended(result)));
        if is_cancelled {
            canceller.cancel();
        }
    }

    fn call_ended(&self, result: Result<(), Failure>) {
        let ending = match self.shared.run.borrow_mut().as_mut() {
            Some(run) => {
                run.phase = Phase::Calling;
                run.ending
            }
            None => return,
        };
        match (result, ending) {
            (Err(failure), _) => self.finish(Err(failure)),
            (Ok(()), Some(Ending::Stopped)) => self.finish(Ok(())),
            (Ok(()), Some(Ending::Cancelled)) => self.finish(Err(Interrupted::Cancelled.into())),
            (Ok(()), None) => self.schedule_next(),
        }
    }

    fn schedule_next(&self) {
        let shared = &self.shared;
        let delay = {
            let now = shared.timekeeper.now();
            shared.grid.borrow_mut().plan(now)
        };
        let number = shared.next_number();
        if let Some(run) = shared.run.borrow_mut().as_mut() {
            run.number = number;
        }
        let due = Due {
            looping: Some(self.clone()),
            number,
        };
        let scheduled = shared
            .timekeeper
            .schedule(delay, shared.origin, move || due.come());
        // There is no run any more if the clock was gone.
        if let Some(run) = shared.run.borrow_mut().as_mut() {
            run.phase = Phase::Scheduled(scheduled);
        }
    }

    /// The Deferred of the start was cancelled.
    fn cancel(&self) {
        let mut slot = self.shared.run.borrow_mut();
        let Some(run) = slot.as_mut() else { return };
        let canceller = match &run.phase {
            Phase::Scheduled(_) => {
                drop(slot);
                return self.finish(Err(Interrupted::Cancelled.into()));
            }
            Phase::Calling => None,
            Phase::Waiting(canceller) => Some(canceller.clone()),
        };
        run.ending = Some(Ending::Cancelled);
        drop(slot);
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    }

    /// Ends the run, then says so: whoever hears of it may start again.
    fn finish(&self, result: Result<(), Failure>) {
        let Some(run) = self.shared.run.take() else {
            return;
        };
        if let Phase::Scheduled(scheduled) = run.phase {
            scheduled.cancel();
        }
        run.trigger.fire(result.map(|()| self.clone()));
    }

    fn is_expecting(&self, number: u64) -> bool {
        let run = self.shared.run.borrow();
        run.as_ref().is_some_and(|run| run.number == number)
    }
}

/// The state, and in it the call that is due next if it is known when.
impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        let state = match shared.run.borrow().as_ref() {
            None => "not running",
            Some(run) if run.ending.is_some() => "stopping",
            Some(Run { phase, .. }) => match phase {
                Phase::Scheduled(_) => "waiting for its time",
                Phase::Calling => "in its call",
                Phase::Waiting(_) => "waiting for the result of its call",
            },
        };
        write!(
            f,
            "LoopingCall(every {:?}, {state}, created at {})",
            self.interval(),
            shared.origin
        )
    }
}

/// The loop runs already, or its last call has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the looping call runs already")]
#[non_exhaustive]
pub struct AlreadyRunning;

type Call = Box<dyn FnMut(&LoopingCall, u64) -> Deferred<()>>;

/// What the handles share.
///
/// Invariant: none of it is borrowed while user code runs, and user code includes the
/// clock.
struct Shared {
    timekeeper: Timekeeper,
    /// `None` while it is being called.
    call: Cell<Option<Call>>,
    grid: RefCell<Grid>,
    missed: Cell<MissedTicks>,
    run: RefCell<Option<Run>>,
    last_number: Cell<u64>,
    origin: &'static Location<'static>,
}

impl Shared {
    fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }
}

/// From a start to its end.
struct Run {
    trigger: Trigger<LoopingCall>,
    phase: Phase,
    /// How it is to end when the call at hand has.
    ending: Option<Ending>,
    /// Of the call that is scheduled. One with another number is out of date.
    number: u64,
}

//   Calling ──returned──▶ Scheduled ──due──▶ Calling
//      └──Deferred──▶ Waiting ──fired──▶ Scheduled
enum Phase {
    Scheduled(Scheduled),
    Calling,
    Waiting(Canceller),
}

#[derive(Clone, Copy)]
enum Ending {
    Stopped,
    Cancelled,
}

/// A call in the clock's hands. A clock that goes away drops it; then the loop ends.
struct Due {
    looping: Option<LoopingCall>,
    number: u64,
}

impl Due {
    fn come(mut self) {
        if let Some(looping) = self.looping.take()
            && looping.is_expecting(self.number)
        {
            if let Some(run) = looping.shared.run.borrow_mut().as_mut() {
                run.phase = Phase::Calling;
            }
            looping.make_call();
        }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(looping) = self.looping.take()
            && looping.is_expecting(self.number)
        {
            // The trigger, dropped, tells whoever waits that nothing is left to wait for.
            drop(looping.shared.run.take());
        }
    }
}
