//! Seeing inside: what the loop has done, what it waits for, and who kept it waiting.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::panics;

/// What a reactor has done since it was made; see
/// [`Reactor::statistics`](crate::Reactor::statistics).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Turns of the loop.
    pub turns: u64,
    /// Events that the system delivered.
    pub events: u64,
    /// Calls made: delayed, soon, from threads, hooks of start and stop.
    pub calls: u64,
    /// The time spent waiting for events. Measured only while the reactor
    /// [watches for slow callbacks](crate::Reactor::watch_slow_callbacks).
    pub waited: Duration,
    /// The time spent in everything else; the same condition holds.
    pub busy: Duration,
    /// How long turns kept the loop from listening: counts of turns that were busy for less
    /// than 1 us, 2 us, 4 us, and so on, doubling; the last one counts all that took longer.
    /// The same condition holds.
    pub lag: [u64; LAG_STEPS],
}

/// From 1 us to half a second, and longer.
const LAG_STEPS: usize = 20;

/// A callback that kept the loop from listening for too long.
#[non_exhaustive]
pub struct SlowCallback<'a> {
    /// Who it was: a call, with the line that scheduled it, or a connection, a port, a watch.
    pub what: &'a dyn fmt::Display,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for SlowCallback<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slow callback: {} took {:?}", self.what, self.took)
    }
}

impl fmt::Debug for SlowCallback<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A call and the line that scheduled it, as shown in reports.
pub(crate) struct ScheduledAt(pub(crate) &'static Location<'static>);

impl fmt::Display for ScheduledAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call scheduled at {}", self.0)
    }
}

type SlowHook = Box<dyn FnMut(&SlowCallback<'_>)>;

/// The stop-watch of the loop. Reads no clock unless somebody asked for it.
#[derive(Default)]
#[repr(C)]
pub(crate) struct StopWatch {
    /// These are counted in every turn. (Side by side they would be added up as one vector, whose
    /// other half has to be fetched from afar.)
    turns: Cell<u64>,
    calls: Cell<u64>,
    events: Cell<u64>,
    threshold: Cell<Option<Duration>>,
    hook: RefCell<Option<SlowHook>>,
    /// When the loop last woke up, or the last callback ended.
    mark: Cell<Option<Instant>>,
    /// When the turn's work began.
    woke: Cell<Option<Instant>>,
    /// How long the turn's work took before the loop was left in the midst of it.
    worked: Cell<Duration>,
    /// The rest of it, which is counted only while the watch runs.
    statistics: RefCell<Statistics>,
}

impl StopWatch {
    pub(crate) fn watch(&self, threshold: Option<Duration>, hook: SlowHook) {
        self.threshold.set(threshold);
        let previous = self.hook.replace(threshold.map(|_| hook));
        drop(previous);
        self.mark.set(None);
        self.woke.set(None);
        self.worked.set(Duration::ZERO);
    }

    /// Drops the hook, which may hold anything.
    pub(crate) fn clear(&self) {
        self.threshold.set(None);
        let hook = self.hook.take();
        drop(hook);
    }

    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.threshold.get().is_some()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            turns: self.turns.get(),
            events: self.events.get(),
            calls: self.calls.get(),
            ..self.statistics.borrow().clone()
        }
    }

    #[inline]
    pub(crate) fn count_turn(&self, events: u64) {
        self.turns.set(self.turns.get() + 1);
        self.events.set(self.events.get() + events);
    }

    /// The turns that have come to their end, as far as events go.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    #[inline]
    pub(crate) fn count_call(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// The calls that were made.
    #[inline]
    pub(crate) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// The loop is entered. What its host did meanwhile is none of its work.
    pub(crate) fn enters(&self, now: Instant) {
        self.mark.set(Some(now));
        self.woke.set(Some(now));
    }

    /// The loop is left, perhaps in the midst of its work.
    pub(crate) fn leaves(&self, now: Instant) {
        if let Some(woke) = self.woke.take() {
            let worked = now.saturating_duration_since(woke);
            self.worked.set(self.worked.get() + worked);
        }
    }

    /// The loop is about to wait.
    pub(crate) fn falls_asleep(&self, now: Instant) {
        if let Some(woke) = self.woke.take() {
            let busy = self.worked.take() + now.saturating_duration_since(woke);
            let mut statistics = self.statistics.borrow_mut();
            statistics.busy += busy;
            let micros = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
            let step = (u64::BITS - micros.leading_zeros()) as usize;
            statistics.lag[step.min(LAG_STEPS - 1)] += 1;
        }
        self.mark.set(Some(now));
    }

    /// The wait is over.
    pub(crate) fn wakes(&self, now: Instant) {
        if let Some(slept) = self.mark.replace(Some(now)) {
            self.statistics.borrow_mut().waited += now.saturating_duration_since(slept);
        }
        self.woke.set(Some(now));
    }

    /// A callback has returned: gives the report that is due, if it is.
    pub(crate) fn lap(&self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.mark.replace(Some(now))?);
        self.threshold
            .get()
            .is_some_and(|threshold| took >= threshold)
            .then_some(took)
    }

    pub(crate) fn report(&self, what: &dyn fmt::Display, took: Duration) {
        // Detach, then call: a hook may set another one.
        let hook = self.hook.take();
        let Some(mut hook) = hook else {
            return;
        };
        // The panic has been reported; a hook is called again all the same.
        let _ = panics::catch(|| hook(&SlowCallback { what, took }));
        let mut place = self.hook.borrow_mut();
        if place.is_none() && self.threshold.get().is_some() {
            *place = Some(hook);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::os;

    #[test]
    fn lag_is_counted_by_powers_of_two() {
        let watch = StopWatch::default();
        let begin = os::now();
        for micros in [0, 1, 3, 1_000_000] {
            watch.wakes(begin);
            watch.falls_asleep(begin + Duration::from_micros(micros));
        }
        let lag = watch.statistics().lag;
        assert_eq!((lag[0], lag[1], lag[2], lag[LAG_STEPS - 1]), (1, 1, 1, 1));
        assert_eq!(watch.statistics().busy, Duration::from_micros(1_000_004));
    }

    #[test]
    fn a_lap_is_reported_from_the_threshold_on() {
        let watch = StopWatch::default();
        let begin = os::now();
        watch.watch(Some(Duration::from_millis(5)), Box::new(|_| ()));
        watch.wakes(begin);
        assert_eq!(watch.lap(begin + Duration::from_millis(4)), None);
        assert_eq!(
            watch.lap(begin + Duration::from_millis(9)),
            Some(Duration::from_millis(5))
        );
    }
}
