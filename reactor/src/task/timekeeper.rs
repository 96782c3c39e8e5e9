//! A clock that is kept for long.

use std::any::Any;
use std::cell::Cell;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

use crate::reactor::{Core, Reactor};
use crate::testing::ManualClock;

/// The clock of a loop or a cooperator, which outlives the call that made it.
///
/// A call that waits in a clock owns its loop, and a loop owns its clock: with a reactor
/// that would be a circle, and dropping the last handle would not end it. So reactors are
/// held weakly. One that is gone drops what is scheduled, as any clock does that goes.
pub(super) enum Timekeeper {
    Reactor {
        core: Weak<Core>,
        /// The last time that was told, for when it is gone.
        now: Cell<Instant>,
    },
    /// Known here so that it can name where a call comes from.
    Manual(ManualClock),
    Other(Rc<dyn Clock>),
}

impl Timekeeper {
    pub(super) fn of(clock: &(impl Clock + Clone + 'static)) -> Self {
        let any = clock as &dyn Any;
        if let Some(reactor) = any.downcast_ref::<Reactor>() {
            return Self::Reactor {
                core: Rc::downgrade(reactor.core()),
                now: Cell::new(reactor.now()),
            };
        }
        match any.downcast_ref::<ManualClock>() {
            Some(clock) => Self::Manual(clock.clone()),
            None => Self::Other(Rc::new(clock.clone())),
        }
    }

    pub(super) fn now(&self) -> Instant {
        match self {
            Self::Reactor { core, now } => {
                if let Some(core) = core.upgrade() {
                    now.set(core.now());
                }
                now.get()
            }
            Self::Manual(clock) => clock.now(),
            Self::Other(clock) => clock.now(),
        }
    }

    /// Schedules `call`, which belongs to what was made at `origin`.
    pub(super) fn schedule(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: impl FnOnce() + 'static,
    ) -> Scheduled {
        match self {
            Self::Reactor { core, .. } => match core.upgrade() {
                Some(core) => {
                    let call = core.call_later(delay, call);
                    Scheduled::new(move || {
                        call.cancel();
                    })
                }
                None => Scheduled::new(|| ()),
            },
            Self::Manual(clock) => clock.schedule_for(delay, origin, Box::new(call)),
            Self::Other(clock) => clock.schedule(delay, Box::new(call)),
        }
    }
}
