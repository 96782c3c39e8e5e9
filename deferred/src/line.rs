//! People in a line: triggers to be fired in the order in which their Deferreds
//! were asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::Deferred;
use crate::error::ChainError;
use crate::trigger::Trigger;

/// Whoever waits, first come, first served.
///
/// A cancelled one leaves at once. A tree, because anybody may leave from
/// anywhere, and what left must take no room. One that is merely dropped does not count,
/// and is sent off when the line has twice as many as were left the last time.
pub(crate) struct Line<T: 'static, E: ChainError> {
    waiters: RefCell<BTreeMap<u64, Trigger<T, E>>>,
    last_ticket: Cell<u64>,
    /// How long the line may be before the dropped ones are sent off.
    len_max: Cell<usize>,
}

/// The least of these lengths: shorter lines are not worth the walk.
const SWEPT_LEN_MIN: usize = 16;

impl<T: 'static, E: ChainError> Line<T, E> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            waiters: RefCell::default(),
            last_ticket: Cell::new(0),
            len_max: Cell::new(SWEPT_LEN_MIN),
        })
    }

    /// Goes to the end of the line.
    pub(crate) fn join(self: &Rc<Self>, place: &'static Location<'static>) -> Deferred<T, E> {
        let (trigger, deferred) = Deferred::new_at(place);
        let ticket = self.last_ticket.get() + 1;
        self.last_ticket.set(ticket);
        let line = Rc::downgrade(self);
        trigger.on_cancel(move || {
            let leaving = line
                .upgrade()
                .and_then(|line| line.waiters.borrow_mut().remove(&ticket));
            drop(leaving);
        });
        if self.waiters.borrow().len() >= self.len_max.get() {
            self.sweep();
        }
        self.waiters.borrow_mut().insert(ticket, trigger);
        deferred
    }

    /// Sends off who was dropped.
    fn sweep(&self) {
        let mut waiters = self.waiters.take();
        // What is dropped here has a hook of ours, and no callbacks: no user code runs.
        waiters.retain(|_, waiter| waiter.is_watched());
        self.len_max.set(SWEPT_LEN_MIN.max(2 * waiters.len()));
        self.waiters.replace(waiters);
    }

    /// The first in the line who is still interested.
    pub(crate) fn next(&self) -> Option<Trigger<T, E>> {
        loop {
            let (_, first) = self.waiters.borrow_mut().pop_first()?;
            if first.is_watched() {
                return Some(first);
            }
        }
    }

    /// Sends everybody off; those who are still interested, with their triggers.
    pub(crate) fn take(&self) -> impl Iterator<Item = Trigger<T, E>> + use<T, E> {
        self.len_max.set(SWEPT_LEN_MIN);
        let waiters = self.waiters.take().into_values();
        waiters.filter(Trigger::is_watched)
    }

    /// How many wait. Walks along the line.
    pub(crate) fn len(&self) -> usize {
        let waiters = self.waiters.borrow();
        waiters.values().filter(|it| it.is_watched()).count()
    }

    /// Whether as many wait.
    pub(crate) fn has(&self, count: usize) -> bool {
        self.waiters.borrow().len() >= count && self.len() >= count
    }

    /// Whether nobody waits, nor was dropped while waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn waits_that_are_dropped_take_no_room() {
        let line = Line::<u32, Failure>::new();
        let join = || line.join(Location::caller());
        let kept: Vec<_> = (0..20).map(|_| join()).collect();
        for _ in 0..1000 {
            drop(join());
            assert!(line.waiters.borrow().len() <= 41);
        }
        assert_eq!(line.len(), 20);
        drop(kept);
        assert_eq!(line.len(), 0);
        assert!(line.next().is_none() && line.is_empty());
    }
}
