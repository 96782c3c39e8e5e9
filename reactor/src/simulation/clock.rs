//! A host's clock: the simulation's time, faster or slower.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Converts between the time of the simulation and what a host's clock shows.
pub(super) struct HostClock {
    begin: Instant,
    /// When the rate was last changed, in both times.
    set_at: Cell<(Duration, Instant)>,
    /// How much it is too fast, in millionths.
    drift_ppm: Cell<i32>,
    /// The same, as the test has set it, and as faults say that last. The newest counts.
    own_drift_ppm: Cell<i32>,
    planned_ppm: RefCell<Vec<i32>>,
}

impl HostClock {
    /// A clock that shows `begin` at the beginning of the simulation.
    pub(super) fn new(begin: Instant) -> Self {
        Self {
            begin,
            set_at: Cell::new((Duration::ZERO, begin)),
            drift_ppm: Cell::new(0),
            own_drift_ppm: Cell::new(0),
            planned_ppm: RefCell::default(),
        }
    }

    /// From `now` on it runs so much too fast, unless a fault says otherwise.
    pub(super) fn set_drift(&self, now: Duration, drift_ppm: i32) {
        self.own_drift_ppm.set(drift_ppm);
        self.drift_changed(now);
    }

    /// A fault lets it run wrong, or no longer does.
    pub(super) fn set_planned_drift(&self, now: Duration, drift_ppm: i32, begins: bool) {
        let mut planned = self.planned_ppm.borrow_mut();
        if begins {
            planned.push(drift_ppm);
        } else if let Some(place) = planned.iter().position(|other| *other == drift_ppm) {
            planned.remove(place);
        }
        drop(planned);
        self.drift_changed(now);
    }

    fn drift_changed(&self, now: Duration) {
        let planned = self.planned_ppm.borrow().last().copied();
        let drift_ppm = planned.unwrap_or_else(|| self.own_drift_ppm.get());
        self.set_at.set((now, self.at(now)));
        self.drift_ppm.set(drift_ppm.clamp(-900_000, 900_000));
    }

    fn rate_ppm(&self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.drift_ppm.get())).unwrap_or(1)
    }

    /// What it shows at a time.
    pub(super) fn at(&self, now: Duration) -> Instant {
        let (set_at, shown) = self.set_at.get();
        let passed = now.saturating_sub(set_at);
        if self.drift_ppm.get() == 0 {
            return shown + passed;
        }
        shown + nanos(passed.as_nanos() * self.rate_ppm() / 1_000_000)
    }

    /// How much has passed by this clock.
    pub(super) fn passed(&self, now: Duration) -> Duration {
        self.at(now) - self.begin
    }

    /// The earliest time at which it shows `instant`, or later.
    pub(super) fn when(&self, instant: Instant) -> Duration {
        let (set_at, shown) = self.set_at.get();
        let passed = instant.saturating_duration_since(shown);
        if self.drift_ppm.get() == 0 {
            return set_at.saturating_add(passed);
        }
        let nanos_passed = (passed.as_nanos() * 1_000_000).div_ceil(self.rate_ppm());
        set_at.saturating_add(nanos(nanos_passed))
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use crate::driver::os;

    use super::*;

    #[test]
    fn what_a_clock_shows_and_when_agree_and_it_never_goes_back() {
        let clock = HostClock::new(os::now());
        let mut last = clock.at(Duration::ZERO);
        for (second, drift) in [(1, 0), (2, 50_000), (3, -50_000), (4, 7), (5, 0)] {
            let now = Duration::from_secs(second);
            clock.set_drift(now, drift);
            for step in 0..100 {
                let now = now + Duration::from_nanos(step * 9_999_991);
                let shown = clock.at(now);
                assert!(shown >= last);
                last = shown;
                let when = clock.when(shown);
                assert!(when <= now && clock.at(when) >= shown, "{drift}");
            }
        }
    }
}
