//! Callbacks that leave a chain's types as they are.
//!
//! A callback that turns a `Deferred<T, E>` into another `Deferred<T, E>` needs no
//! node: it hangs on the node before it, in a list, and its input is handed to it on
//! the stack instead of being stored. Errbacks are always of this kind.
//!
//! # Design
//!
//! The list is linked through the boxes of the callbacks, so that adding one is
//! exactly one allocation, a third of a node in size. What is added goes to the front;
//! it is turned round once, when its turn comes. Measured in `benches/`: a chain of a
//! million takes a third of the time that it took with a node for each callback.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;

use crate::chain::{self, Outcome, Output, Step};
use crate::deferred::Deferred;
use crate::error::{ChainError, Interrupted};
use crate::unhandled::Trail;

/// The callbacks that hang on a node and have not run, in two lists.
pub(crate) struct Links<T, E: ChainError> {
    /// In the order in which they run; all of them before those of `added`.
    ready: Cell<Option<BoxedLink<T, E>>>,
    /// The last one added first.
    added: Cell<Option<BoxedLink<T, E>>>,
    last_added: Cell<Option<&'static Location<'static>>>,
}

type BoxedLink<T, E> = Box<dyn HangingLink<T, E>>;

/// What became of a node whose callbacks ran.
pub(crate) enum Driven<T, E: ChainError> {
    /// None is left.
    Outcome(Outcome<T, E>),
    /// One returned this, which is pending; the node stands behind it now.
    Waiting(Rc<dyn Output<T, E>>),
}

impl<T: 'static, E: ChainError> Links<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            ready: Cell::new(None),
            added: Cell::new(None),
            last_added: Cell::new(None),
        }
    }

    pub(crate) fn push(
        &self,
        place: &'static Location<'static>,
        callback: impl FnOnce(Result<T, E>) -> Deferred<T, E> + 'static,
    ) {
        let next = self.added.take();
        self.added.set(Some(Box::new(Hanging { callback, next })));
        self.last_added.set(Some(place));
    }

    pub(crate) fn is_empty(&self) -> bool {
        let (ready, added) = (self.ready.take(), self.added.take());
        let is_empty = ready.is_none() && added.is_none();
        self.ready.set(ready);
        self.added.set(added);
        is_empty
    }

    /// `trail`, with where the last of these was added.
    pub(crate) fn trail(&self, trail: Trail) -> Trail {
        self.last_added
            .get()
            .map_or(trail, |place| trail.then(place))
    }

    /// Runs the callbacks one after the other, those included that are added meanwhile,
    /// until none is left or one returns a Deferred that is pending.
    ///
    /// `node` is the one that they hang on, and `result` what the first of them gets.
    pub(crate) fn drive<N>(
        &self,
        mut result: Deferred<T, E>,
        node: &Rc<N>,
        trail: Trail,
    ) -> Driven<T, E>
    where
        N: Step + 'static,
    {
        loop {
            match result.into_outcome() {
                Ok(mut outcome) => match self.pop() {
                    Some(link) => result = link.call(outcome.claim(), trail),
                    None => {
                        outcome.trail = self.trail(trail);
                        return Driven::Outcome(outcome);
                    }
                },
                Err(source) => {
                    let step = Rc::clone(node) as Rc<dyn Step>;
                    if chain::waits_for(&source, &step) {
                        let error = Interrupted::Abandoned {
                            created: trail.created,
                        }
                        .into();
                        result = Deferred::fired(Outcome::new(Err(error), trail));
                        continue;
                    }
                    source.set_next(step);
                    return Driven::Waiting(source);
                }
            }
        }
    }

    fn pop(&self) -> Option<BoxedLink<T, E>> {
        let mut first = self.ready.take().or_else(|| reversed(self.added.take()))?;
        self.ready.set(first.next().take());
        Some(first)
    }
}

/// Longest lists are dropped without recursion.
impl<T, E: ChainError> Drop for Links<T, E> {
    fn drop(&mut self) {
        for list in [self.ready.take(), self.added.take()] {
            let mut rest = list;
            while let Some(mut link) = rest {
                rest = link.next().take();
            }
        }
    }
}

fn reversed<T, E: ChainError>(mut list: Option<BoxedLink<T, E>>) -> Option<BoxedLink<T, E>> {
    let mut reversed = None;
    while let Some(mut link) = list {
        list = std::mem::replace(link.next(), reversed);
        reversed = Some(link);
    }
    reversed
}

/// A callback in the list, whatever it captured.
trait HangingLink<T, E: ChainError> {
    fn next(&mut self) -> &mut Option<BoxedLink<T, E>>;

    fn call(self: Box<Self>, input: Result<T, E>, trail: Trail) -> Deferred<T, E>;
}

struct Hanging<T, E: ChainError, F> {
    callback: F,
    next: Option<BoxedLink<T, E>>,
}

impl<T, E, F> HangingLink<T, E> for Hanging<T, E, F>
where
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<T, E>) -> Deferred<T, E>,
{
    fn next(&mut self) -> &mut Option<BoxedLink<T, E>> {
        &mut self.next
    }

    fn call(self: Box<Self>, input: Result<T, E>, trail: Trail) -> Deferred<T, E> {
        // The box goes first: the callback may be what frees the memory around it.
        let callback = self.callback;
        chain::call(callback, input, trail)
    }
}
