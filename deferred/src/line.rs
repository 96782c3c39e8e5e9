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
/// anywhere, and what left must take no room.
pub(crate) struct Line<T: 'static, E: ChainError> {
    waiters: RefCell<BTreeMap<u64, Trigger<T, E>>>,
    last_ticket: Cell<u64>,
}

impl<T: 'static, E: ChainError> Line<T, E> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            waiters: RefCell::default(),
            last_ticket: Cell::new(0),
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
        self.waiters.borrow_mut().insert(ticket, trigger);
        deferred
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

    /// Sends everybody off, with their triggers.
    pub(crate) fn take(&self) -> impl Iterator<Item = Trigger<T, E>> + use<T, E> {
        self.waiters.take().into_values()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }
}
