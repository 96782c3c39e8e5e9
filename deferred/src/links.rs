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
//! million takes half the time that it took with a node for each callback.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
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
    /// Whether a callback that is added now has its turn here: until the node has its
    /// result, or passes on somebody else's.
    is_open: Cell<bool>,
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
            is_open: Cell::new(true),
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

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Closes, if nothing hangs here: what comes now goes elsewhere. Says whether it did.
    pub(crate) fn close_if_empty(&self) -> bool {
        if self.is_empty() {
            self.is_open.set(false);
        }
        !self.is_open.get()
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
    pub(crate) fn drive<N>(&self, first: Deferred<T, E>, node: &Rc<N>, trail: Trail) -> Driven<T, E>
    where
        N: Step + 'static,
    {
        let mut result = None;
        let mut pending = settle(first, &mut result);
        loop {
            if let Some(source) = pending.take() {
                let step = Rc::clone(node) as Rc<dyn Step>;
                if !chain::waits_for(&source, &step) {
                    source.set_next(step);
                    self.close_if_empty();
                    return Driven::Waiting(source);
                }
                result = Some(Err(Interrupted::Abandoned {
                    created: trail.created,
                }
                .into()));
            }
            match self.ready.take().or_else(|| reversed(self.added.take())) {
                Some(link) => pending = link.call(self, &mut result),
                None => {
                    self.is_open.set(false);
                    let result = result.expect("what is not pending has left its result");
                    return Driven::Outcome(Outcome::new(result, self.trail(trail)));
                }
            }
        }
    }
}

/// Leaves the result of a Deferred in `slot`, or says where it will come from.
#[inline(always)]
fn settle<T: 'static, E: ChainError>(
    mut deferred: Deferred<T, E>,
    slot: &mut Option<Result<T, E>>,
) -> Option<Rc<dyn Output<T, E>>> {
    // What a callback has just made is seen through here, and never stored.
    if let Some(outcome) = deferred.take_fired() {
        *slot = Some(outcome.claim());
        return None;
    }
    match deferred.into_outcome() {
        Ok(outcome) => {
            *slot = Some(outcome.claim());
            None
        }
        Err(source) => Some(source),
    }
}

/// A list of any length is dropped without recursion.
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

    /// Calls back with what is in `result` and leaves there what comes of it, or says
    /// where that will come from. What is behind this one is ready then.
    fn call(
        self: Box<Self>,
        links: &Links<T, E>,
        result: &mut Option<Result<T, E>>,
    ) -> Option<Rc<dyn Output<T, E>>>;
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

    fn call(
        self: Box<Self>,
        links: &Links<T, E>,
        result: &mut Option<Result<T, E>>,
    ) -> Option<Rc<dyn Output<T, E>>> {
        // The box goes first: the callback may be what frees the memory around it.
        let Self { callback, next } = *self;
        links.ready.set(next);
        let called = catch_unwind(AssertUnwindSafe(|| {
            settle(callback(result.take()?), result)
        }));
        called.unwrap_or_else(|payload| {
            *result = Some(Err(Interrupted::from_panic(&*payload).into()));
            None
        })
    }
}
