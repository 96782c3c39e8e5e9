//! Something that has happened, or not yet.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::{Deferred, IntoDeferred};
use crate::failure::Failure;
use crate::line::Line;

/// A flag that one can wait for.
///
/// A cheap clone: another handle on the same event. asyncio's `Event`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::DeferredEvent;
///
/// let ready = DeferredEvent::new();
/// let waiting = ready.wait();
/// assert!(!waiting.is_fired());
/// ready.set();
/// assert!(waiting.is_fired() && ready.wait().is_fired());
/// ```
#[derive(Clone)]
pub struct DeferredEvent {
    flag: Rc<Flag>,
}

struct Flag {
    is_set: Cell<bool>,
    line: Rc<Line<(), Failure>>,
}

impl DeferredEvent {
    /// An event that has not happened.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flag: Rc::new(Flag {
                is_set: Cell::new(false),
                line: Line::new(),
            }),
        }
    }

    /// Lets everybody go on who waits, in the order in which they came, and whoever comes
    /// after.
    pub fn set(&self) {
        self.flag.is_set.set(true);
        for waiter in self.flag.line.take() {
            waiter.fire_soon(Ok(()));
        }
    }

    /// Makes those wait who come from now on.
    pub fn clear(&self) {
        self.flag.is_set.set(false);
    }

    /// Says whether it has happened.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.is_set.get()
    }

    /// Fires when the event has happened; at once if it has.
    #[track_caller]
    pub fn wait(&self) -> Deferred<()> {
        if self.is_set() {
            ().into_deferred()
        } else {
            self.flag.line.join(Location::caller())
        }
    }

    /// How many wait for it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.flag.line.len()
    }
}

impl Default for DeferredEvent {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DeferredEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_set() { "set" } else { "not set" };
        write!(f, "DeferredEvent({state}, {} waiting)", self.waiting())
    }
}
