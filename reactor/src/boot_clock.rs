//! The reactor's clock that goes on while the machine is suspended.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

use crate::delayed_call::{Call, DelayedCall, Time};
use crate::reactor::Reactor;
use crate::weak_reactor::WeakReactor;

impl Reactor {
    /// The clock that goes on while the machine is suspended, for timers that mean the time
    /// of the world: leases, sessions, what is to be done at night.
    ///
    /// The reactor's own clock stands still then, as the system's monotonic clock does on
    /// Linux: an hour is an hour of running. That is right for timeouts of a connection and
    /// wrong for a lease. So the choice is each timer's: everything that takes a [`Clock`]
    /// takes this one.
    ///
    /// Calls that fell due in a suspension are made as soon as the machine runs again, in a
    /// turn after the delayed calls of the usual clock; one descriptor of the system's does
    /// the waking. On systems without such a clock it is the usual one.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use torsade_reactor::testing::{suspend, virtual_time_reactor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = virtual_time_reactor();
    /// let lease = reactor.boot_clock()?.call_later(Duration::from_secs(3600), || ());
    /// let timeout = reactor.call_later(Duration::from_secs(3600), || ());
    /// suspend(&reactor, Duration::from_secs(7200)); // the lid is closed
    /// reactor.turn(Some(Duration::ZERO))?;
    /// assert!(!lease.is_active() && timeout.is_active());
    /// # Ok(())
    /// # }
    /// ```
    pub fn boot_clock(&self) -> io::Result<BootClock> {
        self.core().driver().begin_boot_time()?;
        Ok(BootClock {
            reactor: self.clone(),
        })
    }
}

/// The clock of a [`Reactor`] that goes on while the machine is suspended. Made by
/// [`Reactor::boot_clock`].
///
/// Its instants can be compared with each other, not with those of the reactor. A cheap
/// clone; it counts as a handle of the reactor.
#[derive(Clone)]
pub struct BootClock {
    reactor: Reactor,
}

impl BootClock {
    /// The time by this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.reactor.core().time(Time::Boot)
    }

    /// Has `call` called once, `delay` from now, suspensions included; otherwise as
    /// [`Reactor::call_later`].
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        let core = self.reactor.core();
        core.call_at_time(
            Time::Boot,
            core.later_by(Time::Boot, delay),
            Call::new(call),
        )
    }

    /// Has `call` called once, at `deadline` by this clock; otherwise as
    /// [`Reactor::call_at`].
    #[track_caller]
    pub fn call_at(&self, deadline: Instant, call: impl FnOnce() + 'static) -> DelayedCall {
        let core = self.reactor.core();
        core.call_at_time(Time::Boot, deadline, Call::new(call))
    }
}

impl Clock for BootClock {
    fn now(&self) -> Instant {
        self.now()
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
        let core = self.reactor.core();
        let deadline = core.later_by(Time::Boot, delay);
        let call = core.call_at_time(Time::Boot, deadline, Call::at(origin, run));
        Scheduled::new(move || {
            call.cancel();
        })
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        Some(Rc::new(WeakBootClock {
            reactor: self.reactor.downgrade(),
            last_told: Cell::new(self.now()),
        }))
    }
}

impl fmt::Debug for BootClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootClock({:?})", self.reactor)
    }
}

/// The clock of a reactor that may be gone.
struct WeakBootClock {
    reactor: WeakReactor,
    /// For when it is.
    last_told: Cell<Instant>,
}

impl WeakBootClock {
    fn upgrade(&self) -> Option<BootClock> {
        let reactor = self.reactor.upgrade()?;
        Some(BootClock { reactor })
    }
}

impl Clock for WeakBootClock {
    fn now(&self) -> Instant {
        if let Some(clock) = self.upgrade() {
            self.last_told.set(clock.now());
        }
        self.last_told.get()
    }

    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        self.schedule_for(delay, Location::caller(), call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        match self.upgrade() {
            Some(clock) => clock.schedule_for(delay, origin, call),
            None => Scheduled::new(|| ()),
        }
    }
}
