//! Running until nothing is left, and what does not count for that.
//!
//! # Design
//!
//! Nothing is counted while the loop works: whether something is left is looked up between
//! turns, by the one function that asks, and the first thing that is found ends the search.
//! Only calls in the background are noted, since a call has no room for it.

use std::cell::{Cell, RefCell};

use crate::core::{Core, Pause};
use crate::delayed_call::{DelayedCall, Time};
use crate::error::RunError;
use crate::reactor::Reactor;
use crate::timers::{TimerKey, Timers};

impl Reactor {
    /// Runs until nothing is left that could still call anything, or until
    /// [`stop`](Reactor::stop) or [`crash`](Reactor::crash); libuv's way to run. For commands
    /// that do some work and end with it.
    ///
    /// What is left are calls that are to be made, ports, connections and attempts, watches
    /// that listen, channels, watchers of signals, and work on threads. What is in the background
    /// ([`DelayedCall::set_background`] and its namesakes) does not count, nor do hooks, nor a
    /// [`Remote`](crate::Remote) (a channel does), nor a Deferred or a spawned future as such:
    /// what they wait for does.
    ///
    /// Returns with everything in its place, as after `crash`: what is in the background goes
    /// on in the next run. Otherwise as [`run`](Reactor::run).
    ///
    /// # Errors
    ///
    /// As for [`run`](Reactor::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use torsade_reactor::{Reactor, task::sleep};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let ticks = reactor.call_later(Duration::from_secs(3600), || ());
    /// ticks.set_background(true);
    /// drop(sleep(&reactor, Duration::from_millis(1)).map(|()| println!("done")));
    /// reactor.run_until_idle()?; // a millisecond, not an hour
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_until_idle(&self) -> Result<(), RunError> {
        self.run_while(Pause::UnlessIdle, |core| !core.is_idle())
    }
}

impl Core {
    /// Whether nothing is left but what is in the background.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_stopping()
            && !self.leaving.get()
            && self.soon.borrow().is_empty()
            && self.when_running.borrow().is_empty()
            && self.layers.borrow().is_empty()
            && self.mailbox.len() == 0
            && self.errands.borrow().is_empty()
            && !self.signals.has_foreground()
            && self.background.has_all(&self.timers, Time::Running)
            && self.background.has_all(&self.boot_timers, Time::Boot)
            && self.has_idle_sources()
    }

    fn has_idle_sources(&self) -> bool {
        let sources = self.sources.borrow();
        sources
            .iter()
            .all(|(_, registered)| registered.source.is_background())
    }
}

impl DelayedCall {
    /// Whether [`run_until_idle`](Reactor::run_until_idle) goes on for this call: not, if it
    /// is in the background. To say so twice is to say it once. libuv's `unref`. Nothing else
    /// changes: the call is made when it is due, if the loop runs.
    pub fn set_background(&self, on: bool) {
        if let Some(core) = self.core.upgrade() {
            core.background.set(&core, self, on);
        }
    }

    /// Whether the call is to be made, and is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.is_active()
            && self
                .core
                .upgrade()
                .is_some_and(|core| core.background.has(self))
    }
}

/// The delayed calls in the background.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// Those that were made or cancelled are swept out now and then.
    ///
    /// Invariant: none is there twice.
    calls: RefCell<Vec<(Time, TimerKey)>>,
    /// How many there were after the last sweep.
    swept: Cell<usize>,
}

/// Fewer than this are not swept.
const SWEEP_MIN: usize = 16;

impl Background {
    fn set(&self, core: &Core, call: &DelayedCall, on: bool) {
        let entry = (call.time, call.key);
        if !on {
            return self.calls.borrow_mut().retain(|other| *other != entry);
        }
        if !call.is_active() || self.has(call) {
            return;
        }
        let mut calls = self.calls.borrow_mut();
        calls.push(entry);
        if calls.len() > SWEEP_MIN && calls.len() > self.swept.get() * 2 {
            calls.retain(|(time, key)| core.timers(*time).borrow().deadline(*key).is_some());
            self.swept.set(calls.len());
        }
    }

    fn has(&self, call: &DelayedCall) -> bool {
        self.calls.borrow().contains(&(call.time, call.key))
    }

    /// Whether every call of a queue is in the background.
    fn has_all<C>(&self, timers: &RefCell<Timers<C>>, of: Time) -> bool {
        let timers = timers.borrow();
        if timers.is_empty() {
            return true;
        }
        let calls = self.calls.borrow();
        let is_there =
            |(time, key): &&(Time, TimerKey)| *time == of && timers.deadline(*key).is_some();
        calls.iter().filter(is_there).count() == timers.len()
    }
}
