//! A clock that is kept for long.

use std::any::Any;
use std::cell::Cell;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

use crate::core::Core;
use crate::delayed_call::Call;
use crate::reactor::Reactor;
use crate::testing::{ManualClock, WeakManualClock};

/// The clock of a loop or a cooperator, which outlives the call that made it.
///
/// A call that waits in a clock owns its loop, and a loop has its clock: with a clock of
/// ours that would be a circle, and dropping the last handle of a reactor would not end
/// it. So ours are held weakly. One that is gone drops what is scheduled, as any clock
/// does that goes.
pub(super) struct Timekeeper {
    clock: Held,
    /// The last time that was told, for when the clock is gone.
    now: Cell<Instant>,
}

enum Held {
    Reactor(Weak<Core>),
    Manual(WeakManualClock),
    Other(Rc<dyn Clock>),
}

impl Timekeeper {
    pub(super) fn of(clock: &(impl Clock + Clone + 'static)) -> Self {
        let any = clock as &dyn Any;
        let held = if let Some(reactor) = any.downcast_ref::<Reactor>() {
            Held::Reactor(Rc::downgrade(reactor.core()))
        } else if let Some(clock) = any.downcast_ref::<ManualClock>() {
            Held::Manual(clock.downgrade())
        } else {
            Held::Other(Rc::new(clock.clone()))
        };
        Self {
            clock: held,
            now: Cell::new(clock.now()),
        }
    }

    pub(super) fn now(&self) -> Instant {
        let now = match &self.clock {
            Held::Reactor(core) => core.upgrade().map(|core| core.now()),
            Held::Manual(clock) => clock.upgrade().map(|clock| clock.now()),
            Held::Other(clock) => Some(clock.now()),
        };
        if let Some(now) = now {
            self.now.set(now);
        }
        self.now.get()
    }

    /// Schedules `call`, which belongs to what was made at `origin`.
    pub(super) fn schedule(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: impl FnOnce() + 'static,
    ) -> Scheduled {
        let scheduled = match &self.clock {
            Held::Reactor(core) => core.upgrade().map(|core| {
                let run = Box::new(call);
                let call = core.call_at(core.later(delay), Call { run, origin });
                Scheduled::new(move || {
                    call.cancel();
                })
            }),
            Held::Manual(clock) => clock
                .upgrade()
                .map(|clock| clock.schedule_for(delay, origin, Box::new(call))),
            Held::Other(clock) => Some(clock.schedule(delay, Box::new(call))),
        };
        scheduled.unwrap_or_else(|| Scheduled::new(|| ()))
    }
}
