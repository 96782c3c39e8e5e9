//! A clock that is kept for long.

use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

/// The clock of a loop or a cooperator, which outlives the call that made it.
///
/// A call that waits in a clock owns its loop, and a loop has its clock: that would be a
/// circle, and dropping the last handle of a reactor would not end it. So a clock is held
/// weakly where it can be.
pub(super) struct Timekeeper {
    clock: Rc<dyn Clock>,
}

impl Timekeeper {
    pub(super) fn of(clock: &(impl Clock + Clone + 'static)) -> Self {
        let weak = clock.weak_clock();
        Self {
            clock: weak.unwrap_or_else(|| Rc::new(clock.clone())),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Schedules `call`, which belongs to what was made at `origin`.
    pub(super) fn schedule(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: impl FnOnce() + 'static,
    ) -> Scheduled {
        self.clock.schedule_for(delay, origin, Box::new(call))
    }
}
