//! When the calls of a loop are due. Pure: the time is an argument.
//!
//! # Order
//!
//! The slots are at whole multiples of the interval from an anchor, so that no error
//! adds up: however long each call takes, the thousandth is due at a thousand intervals.
//! Whole nanoseconds are counted, and nothing is rounded.

use std::mem;
use std::time::{Duration, Instant};

/// What a loop does about the calls it could not make in time, because one took longer
/// than the interval or the loop was kept from running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// Leaves them out, and goes on with the next slot that is still to come: the calls
    /// stay aligned to the start. A slot that is just now counts as missed. Twisted's way.
    #[default]
    Skip,
    /// Makes them up, one per turn without a pause, until it has caught up.
    Burst,
    /// Leaves them out, and goes on a whole interval after the end of the late call: the
    /// slots are then aligned to that.
    Delay,
}

#[derive(Debug)]
pub(super) struct Grid {
    anchor: Instant,
    interval: Duration,
    missed: MissedTicks,
    /// When the last call was due, from the anchor on.
    due: Duration,
    /// Up to where the slots have been counted, from the anchor on.
    counted: Duration,
    /// Slots before the anchor that have not been counted.
    carried: u64,
}

impl Grid {
    /// A grid of which the anchor itself is the first slot.
    pub(super) fn from_now(now: Instant, interval: Duration, missed: MissedTicks) -> Self {
        Self {
            carried: 1,
            ..Self::from_next(now, interval, missed)
        }
    }

    /// A grid whose first slot is an interval after the anchor.
    pub(super) fn from_next(now: Instant, interval: Duration, missed: MissedTicks) -> Self {
        Self {
            anchor: now,
            interval,
            missed,
            due: Duration::ZERO,
            counted: Duration::ZERO,
            carried: 0,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// From the next plan on.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    pub(super) fn set_missed(&mut self, missed: MissedTicks) {
        self.missed = missed;
    }

    /// The slots since the last call, the one at hand included: never none.
    pub(super) fn count(&mut self, now: Instant) -> u64 {
        let elapsed = self.elapsed(now);
        let since = self.slots_since_counted(elapsed);
        self.counted = elapsed;
        let carried = mem::take(&mut self.carried);
        match self.missed {
            // It makes every call, so each stands for itself.
            MissedTicks::Burst => 1,
            MissedTicks::Skip | MissedTicks::Delay => since.saturating_add(carried).max(1),
        }
    }

    /// How long it is until the next call is due, when the last one has ended.
    pub(super) fn plan(&mut self, now: Instant) -> Duration {
        let elapsed = self.elapsed(now);
        if self.interval.is_zero() {
            self.due = elapsed;
            return Duration::ZERO;
        }
        let follows = self.due.saturating_add(self.interval);
        match self.missed {
            MissedTicks::Burst => {
                self.due = follows;
                follows.saturating_sub(elapsed)
            }
            MissedTicks::Delay if follows <= elapsed => {
                let carried = self
                    .carried
                    .saturating_add(self.slots_since_counted(elapsed));
                *self = Self {
                    carried,
                    ..Self::from_next(now, self.interval, self.missed)
                };
                self.due = self.interval;
                self.interval
            }
            MissedTicks::Skip | MissedTicks::Delay => {
                let delay = self.interval - remainder(elapsed, self.interval);
                self.due = elapsed.saturating_add(delay);
                delay
            }
        }
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.anchor)
    }

    fn slots_since_counted(&self, elapsed: Duration) -> u64 {
        let slots = |elapsed: Duration| match self.interval.as_nanos() {
            0 => 0,
            interval => elapsed.as_nanos() / interval,
        };
        // A `Duration` of more nanoseconds than a `u64` has takes five centuries.
        u64::try_from(slots(elapsed).saturating_sub(slots(self.counted))).unwrap_or(u64::MAX)
    }
}

fn remainder(of: Duration, interval: Duration) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let nanos = of.as_nanos() % interval.as_nanos();
    // Both fit: the remainder is below `interval`, which is a `Duration`.
    Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::os;

    const NANO: Duration = Duration::from_nanos(1);

    /// Numbers that are the same in each run.
    fn numbers(below: u64) -> impl FnMut() -> u64 {
        let mut state = 1_u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    /// Walks the slots one by one, where the grid divides.
    fn first_slot_after(elapsed: Duration, interval: Duration) -> Duration {
        let mut slot = Duration::ZERO;
        while slot <= elapsed {
            slot += interval;
        }
        slot
    }

    #[test]
    fn skip_plans_the_first_slot_to_come_as_if_it_had_walked_there() {
        let start = os::now();
        let mut number = numbers(5_000);
        for _ in 0..200 {
            let interval = Duration::from_nanos(1 + number() % 1_000);
            let mut grid = Grid::from_now(start, interval, MissedTicks::Skip);
            let mut elapsed = Duration::ZERO;
            for _ in 0..20 {
                elapsed += Duration::from_nanos(number());
                let due = elapsed + grid.plan(start + elapsed);
                assert_eq!(due, first_slot_after(elapsed, interval));
            }
        }
    }

    #[test]
    fn counts_add_up_to_the_slots_that_have_passed() {
        let start = os::now();
        let mut number = numbers(3_000);
        for missed in [MissedTicks::Skip, MissedTicks::Delay] {
            let interval = Duration::from_nanos(997);
            let mut grid = Grid::from_next(start, interval, missed);
            let (mut elapsed, mut sum) = (Duration::ZERO, 0);
            for _ in 0..500 {
                elapsed += grid.plan(start + elapsed);
                sum += grid.count(start + elapsed);
                if missed == MissedTicks::Skip {
                    let slots = elapsed.as_nanos() / interval.as_nanos();
                    assert_eq!(u128::from(sum), slots);
                }
                // The call takes this long.
                elapsed += Duration::from_nanos(number());
            }
            assert!(sum > 500, "some were missed");
        }
    }

    #[test]
    fn burst_plans_every_slot_and_delay_a_whole_interval_after_a_late_call() {
        let (start, interval) = (os::now(), 10 * NANO);
        let mut burst = Grid::from_now(start, interval, MissedTicks::Burst);
        let plans = [0, 25, 25, 25, 31].map(|elapsed| burst.plan(start + elapsed * NANO));
        assert_eq!(plans, [10, 0, 5, 15, 19].map(|nanos| nanos * NANO));
        let mut delay = Grid::from_now(start, interval, MissedTicks::Delay);
        let plans = [3, 15, 25, 45, 58].map(|elapsed| delay.plan(start + elapsed * NANO));
        assert_eq!(plans, [7, 5, 5, 10, 7].map(|nanos| nanos * NANO));
    }
}
