//! A handle that keeps no reactor alive.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

use crate::core::Core;
use crate::reactor::Reactor;

/// A handle on a [`Reactor`] that does not keep it alive. Made by [`Reactor::downgrade`].
///
/// A call or a protocol that holds a `Reactor` is held by that reactor in turn, and then
/// dropping the last handle outside ends nothing; one that holds this is fine. It is a
/// [`Clock`], too: that of a reactor that is gone stands still, and drops what is scheduled.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::new()?;
/// let weak = reactor.downgrade();
/// reactor.call_later(Duration::from_secs(60), move || {
///     if let Some(reactor) = weak.upgrade() {
///         reactor.stop();
///     }
/// });
/// drop(reactor); // and the call with it
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WeakReactor {
    core: Weak<Core>,
    /// The last time that was told, for when the reactor is gone.
    last_told: Cell<Instant>,
}

impl WeakReactor {
    pub(crate) fn new(reactor: &Reactor) -> Self {
        Self {
            core: Rc::downgrade(reactor.core()),
            last_told: Cell::new(reactor.core().now()),
        }
    }

    /// The reactor, as long as somebody holds a [`Reactor`].
    #[must_use]
    pub fn upgrade(&self) -> Option<Reactor> {
        let core = self.core.upgrade()?;
        let owner = core.owner.borrow().upgrade()?;
        Some(Reactor { owner })
    }
}

impl Clock for WeakReactor {
    fn now(&self) -> Instant {
        if let Some(core) = self.core.upgrade() {
            self.last_told.set(core.now());
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
            Some(reactor) => reactor.schedule_for(delay, origin, call),
            None => Scheduled::new(|| ()),
        }
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        Some(Rc::new(self.clone()))
    }
}

impl fmt::Debug for WeakReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.upgrade() {
            Some(reactor) => write!(f, "WeakReactor({reactor:?})"),
            None => f.write_str("WeakReactor(gone)"),
        }
    }
}
