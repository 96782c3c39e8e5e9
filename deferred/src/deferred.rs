//! The waiting end: a result that is here or will come, and what to do with it.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::mem;
use std::panic::Location;
use std::rc::Rc;

use crate::chain::{self, Cursor, Innermost, Link, Node, Outcome, Output, Returned, Root, Taken};
use crate::error::{ChainError, Interrupted};
use crate::failure::{Failure, into_type};
use crate::links::Links;
use crate::pause::{Gate, Paused};
use crate::trigger::Trigger;
use crate::unhandled::Trail;

/// A result that will come, and the chain of callbacks that waits for it.
///
/// Made together with its firing end by [`Deferred::new`]. Each `add_*` method
/// consumes the Deferred and gives the one that stands for the result of the
/// callback just added; the chain itself lives on whether that one is kept or
/// dropped.
///
/// # Order
///
/// Callbacks run in the order in which they were added, on the stack of the call
/// that fired, before it returns; added to a Deferred that has fired already,
/// they run at once, inside the `add_*` call. A callback that returns another
/// Deferred makes the rest of the chain wait for that one.
///
/// # Failures
///
/// A callback's `Err` skips to the next errback. A failure that nobody handled
/// is reported when its Deferred is dropped, see [`unhandled`](crate::unhandled).
/// A panic in a callback becomes the failure
/// [`Interrupted::Panicked`](crate::Interrupted::Panicked) of its chain; whoever
/// fired does not see it.
///
/// # Reentrancy
///
/// Everything may be called from inside a callback, also on the chain that is
/// running: a callback added then runs in its turn, a cancellation finds
/// nothing to cancel.
///
/// Twisted's `twisted.internet.defer.Deferred`.
pub struct Deferred<T, E: ChainError = Failure> {
    state: State<T, E>,
    /// Where this chain's cancellers look, once there is one.
    cursor: OnceCell<Rc<Cursor>>,
}

enum State<T, E: ChainError> {
    /// Here already: no node, no allocation.
    Fired(Outcome<T, E>),
    /// To come from this node, which may have fired since.
    Waiting(Rc<dyn Output<T, E>>),
    /// Given away by `await`.
    Taken,
}

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Makes the two ends of a result: the one that fires and the one that waits.
    #[track_caller]
    pub fn new() -> (Trigger<T, E>, Self) {
        Self::new_at(Location::caller())
    }

    pub(crate) fn new_at(place: &'static Location<'static>) -> (Trigger<T, E>, Self) {
        let root = Root::new(place);
        let deferred = Self::waiting(Rc::clone(&root) as Rc<dyn Output<T, E>>);
        (Trigger::new(root), deferred)
    }

    /// Adds a callback for a value; a failure passes it by.
    ///
    /// `callback` returns nothing, a `Result`, or another Deferred, for which the
    /// chain then waits; see [`IntoDeferred`]. For a plain value there is
    /// [`map`](Deferred::map).
    #[track_caller]
    pub fn add_callback<R>(self, callback: impl FnOnce(T) -> R + 'static) -> Deferred<R::Value, E>
    where
        R: IntoDeferred<E, Value: 'static>,
    {
        let place = Location::caller();
        self.chain(place, move |result| match result {
            Ok(value) => Returned::of(callback(value)),
            Err(error) => Returned::Result(Err(error)),
        })
    }

    /// Adds an errback: a callback for a failure; a value passes it by.
    ///
    /// What it returns is the result from here on: a value of the chain's type
    /// ends the failure, `Err` (the same one or another) keeps it.
    #[track_caller]
    pub fn add_errback<R>(self, errback: impl FnOnce(E) -> R + 'static) -> Self
    where
        R: IntoDeferred<E, Value = T>,
    {
        let place = Location::caller();
        self.chain(place, move |result| match result {
            Ok(value) => Returned::Result(Ok(value)),
            Err(error) => Returned::of(errback(error)),
        })
    }

    /// Adds a callback and an errback of which exactly one runs: the errback does
    /// not see a failure of its own callback.
    #[track_caller]
    pub fn add_callbacks<R, S>(
        self,
        callback: impl FnOnce(T) -> R + 'static,
        errback: impl FnOnce(E) -> S + 'static,
    ) -> Deferred<R::Value, E>
    where
        R: IntoDeferred<E, Value: 'static>,
        S: IntoDeferred<E, Value = R::Value>,
    {
        self.chain(Location::caller(), move |result| match result {
            Ok(value) => Returned::of(callback(value)),
            Err(error) => Returned::of(errback(error)),
        })
    }

    /// Adds a callback that sees the result whichever way it went.
    #[track_caller]
    pub fn add_both<R>(
        self,
        callback: impl FnOnce(Result<T, E>) -> R + 'static,
    ) -> Deferred<R::Value, E>
    where
        R: IntoDeferred<E, Value: 'static>,
    {
        self.chain(Location::caller(), move |result| {
            Returned::of(callback(result))
        })
    }

    /// Turns the value into another, plainly: no failure, no waiting.
    #[track_caller]
    pub fn map<U: 'static>(self, convert: impl FnOnce(T) -> U + 'static) -> Deferred<U, E> {
        self.chain(Location::caller(), move |result| {
            Returned::Result(result.map(convert))
        })
    }

    /// Turns the error into another, also one of another type.
    #[track_caller]
    pub fn map_err<F: ChainError>(self, convert: impl FnOnce(E) -> F + 'static) -> Deferred<T, F> {
        self.chain(Location::caller(), move |result| {
            Returned::Result(result.map_err(convert))
        })
    }

    /// Turns the error into one that can be made from it, as `?` does.
    #[track_caller]
    pub fn err_into<F: ChainError + From<E>>(self) -> Deferred<T, F> {
        self.chain(Location::caller(), move |result| {
            Returned::Result(result.map_err(F::from))
        })
    }

    /// Fires `trigger` with this result, when it comes.
    ///
    /// The Deferred of `trigger` then waits for this one: cancelling it cancels
    /// this one. Twisted's `chainDeferred`, whose target does not forward a
    /// cancellation.
    pub fn chain_into(self, trigger: Trigger<T, E>) {
        let root = trigger.into_root();
        match self.into_outcome() {
            Ok(outcome) => root.fire(outcome.claim()),
            Err(source) => root.link(source),
        }
    }

    /// Cancels the operation whose result this is.
    ///
    /// Reaches the innermost Deferred that the chain waits for, and calls its
    /// trigger's [`on_cancel`](Trigger::on_cancel) hook; if that does not fire it,
    /// it fails with [`Interrupted::Cancelled`](crate::Interrupted::Cancelled). The
    /// failure runs down the chain like any other, and may be handled there.
    ///
    /// # Reentrancy
    ///
    /// Does nothing once the Deferred has fired, nor inside one of the chain's own
    /// callbacks. It never panics: a panic in the hook becomes the failure.
    pub fn cancel(&self) {
        if let State::Waiting(node) = &self.state {
            chain::cancel(Rc::clone(node) as Rc<dyn Node>, Interrupted::Cancelled);
        }
    }

    /// A handle that cancels this chain after the Deferred has been given away.
    ///
    /// It goes with the chain: callbacks added later, and what they wait for, are
    /// within its reach. It keeps nothing alive.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        let cursor = self.cursor.get_or_init(|| {
            let cursor = Cursor::new();
            cursor.point_to(self.node());
            cursor
        });
        Canceller {
            cursor: Rc::clone(cursor),
        }
    }

    /// Says whether the result is here.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        match &self.state {
            State::Fired(_) => true,
            State::Waiting(node) => node.is_done(),
            State::Taken => false,
        }
    }

    /// Takes the result if it is here, and gives the Deferred back if not.
    ///
    /// # Errors
    ///
    /// The Deferred itself, when it has not fired.
    pub fn into_result(mut self) -> Result<Result<T, E>, Self> {
        match self.take_outcome() {
            Awaited::Outcome(outcome) => Ok(outcome.claim()),
            Awaited::Pending(source) => {
                self.wait_for(source);
                Err(self)
            }
            Awaited::Gone => Err(self),
        }
    }

    /// Stops the chain at this point until the guard is dropped.
    ///
    /// What was added before runs; the result then waits here, and with it
    /// whatever is added after. Pauses nest: the chain goes on when the last guard
    /// is gone. A failure that is dropped while paused is reported at once. Twisted's
    /// `pause`, whose `unpause` is the drop of the guard and so cannot be unbalanced.
    ///
    /// # Cancellation
    ///
    /// Reaches what the chain waits for; its failure then waits here as well. A result
    /// that is here already cannot be cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_deferred::{Deferred, succeed};
    ///
    /// let mut deferred: Deferred<u32> = succeed(1);
    /// let paused = deferred.pause();
    /// let sum = deferred.map(|n| n + 1);
    /// assert!(!sum.is_fired());
    /// drop(paused);
    /// assert!(matches!(sum.into_result(), Ok(Ok(2))));
    /// ```
    pub fn pause(&mut self) -> Paused {
        let gate = match self.take_outcome() {
            Awaited::Outcome(outcome) => Gate::holding(outcome),
            Awaited::Pending(source) => Gate::closed(source),
            Awaited::Gone => return Paused::nothing(),
        };
        let paused = Paused::new(&gate);
        self.wait_for(gate);
        paused
    }

    pub(crate) fn fired(outcome: Outcome<T, E>) -> Self {
        Self {
            state: State::Fired(outcome),
            cursor: OnceCell::new(),
        }
    }

    pub(crate) fn waiting(node: Rc<dyn Output<T, E>>) -> Self {
        Self {
            state: State::Waiting(node),
            cursor: OnceCell::new(),
        }
    }

    /// The result if it is here, else the node that it will come from. For a Deferred
    /// that is given into another chain: cancellers of this one stay of use.
    pub(crate) fn into_outcome(mut self) -> Result<Outcome<T, E>, Rc<dyn Output<T, E>>> {
        match self.take_outcome() {
            Awaited::Outcome(outcome) => Ok(outcome),
            Awaited::Pending(source) => Err(self.anchored(source)),
            // Nothing is left to wait for, as when a trigger is dropped.
            Awaited::Gone => {
                let root = Root::new(Location::caller());
                root.abandon();
                Err(root)
            }
        }
    }

    /// The same result, beyond the reach of the cancellers that there are: what is added from
    /// here on is another chain's.
    #[cold]
    fn apart(mut self) -> Self {
        match self.take_outcome() {
            Awaited::Outcome(outcome) => Self::fired(outcome),
            Awaited::Pending(source) => Self::waiting(self.anchored(source)),
            Awaited::Gone => self,
        }
    }

    /// `source`, with a place before it where this chain's cancellers, if any, stay.
    #[inline]
    fn anchored(&mut self, source: Rc<dyn Output<T, E>>) -> Rc<dyn Output<T, E>> {
        match self.cursor.take() {
            Some(cursor) if cursor.is_used() => Gate::anchored(source, cursor),
            _ => source,
        }
    }

    /// Takes what is there to take, and leaves the Deferred empty; [`wait_for`](Self::wait_for)
    /// undoes that.
    pub(crate) fn take_outcome(&mut self) -> Awaited<T, E> {
        match mem::replace(&mut self.state, State::Taken) {
            State::Fired(outcome) => Awaited::Outcome(outcome),
            State::Taken => Awaited::Gone,
            State::Waiting(mut node) => loop {
                match node.take() {
                    Taken::Outcome(outcome) => return Awaited::Outcome(outcome),
                    Taken::Moved(source) => {
                        source.clear_next();
                        node = source;
                    }
                    Taken::Pending => return Awaited::Pending(node),
                }
            },
        }
    }

    /// Waits for `node`, which [`take_outcome`](Self::take_outcome) gave out or which stands
    /// behind what it gave out.
    pub(crate) fn wait_for(&mut self, node: Rc<dyn Output<T, E>>) {
        self.state = State::Waiting(node);
        self.point_cursor();
    }

    #[inline]
    fn chain<U, F, C>(self, place: &'static Location<'static>, callback: C) -> Deferred<U, F>
    where
        U: 'static,
        F: ChainError,
        C: FnOnce(Result<T, E>) -> Returned<U, F> + 'static,
    {
        let (state, cursor) = self.into_parts();
        // A callback that leaves the types as they are hangs on the node that is there. The
        // compiler knows which kind this is, and keeps one of the two branches. What is moved
        // here is the node alone: a whole Deferred has room for a result, and to move that
        // took longer than all the rest.
        let state = match state {
            State::Waiting(node) => {
                if let Some(links) = node.links()
                    && links.is_open()
                    && let Some(links) = (links as &dyn Any).downcast_ref::<Links<U, F>>()
                {
                    links.push(place, callback);
                    let state = State::Waiting(same_type(node));
                    return Deferred { state, cursor };
                }
                State::Waiting(node)
            }
            other => other,
        };
        Self { state, cursor }.chain_anyhow(place, callback)
    }

    /// Adds a callback, whatever there is to add it to.
    #[inline(never)]
    fn chain_anyhow<U, F, C>(
        mut self,
        place: &'static Location<'static>,
        callback: C,
    ) -> Deferred<U, F>
    where
        U: 'static,
        F: ChainError,
        C: FnOnce(Result<T, E>) -> Returned<U, F> + 'static,
    {
        match self.take_outcome() {
            Awaited::Outcome(outcome) => self.go_on(outcome, place, callback),
            Awaited::Pending(source) => {
                if let Some(links) = source.links()
                    && let Some(links) = (links as &dyn Any).downcast_ref::<Links<U, F>>()
                {
                    links.push(place, callback);
                    self.wait_for(source);
                    return same_type(self);
                }
                Deferred::waiting(Link::after(source, place, callback)).with_cursor_of(&mut self)
            }
            Awaited::Gone => {
                let (trigger, rest) = Self::new_at(place);
                drop(trigger);
                rest.chain_anyhow(place, callback)
            }
        }
    }

    /// Calls back at once.
    fn go_on<U, F, C>(
        mut self,
        outcome: Outcome<T, E>,
        place: &'static Location<'static>,
        callback: C,
    ) -> Deferred<U, F>
    where
        U: 'static,
        F: ChainError,
        C: FnOnce(Result<T, E>) -> Returned<U, F> + 'static,
    {
        self.point_cursor();
        let trail = outcome.trail.then(place);
        let mut next = chain::call(callback, outcome.claim()).into_deferred(trail);
        if next.cursor.get().is_some() {
            next = next.apart();
        }
        if let State::Fired(outcome) = &mut next.state {
            outcome.trail = trail;
        }
        next.with_cursor_of(&mut self)
    }

    /// The result, if it is here and nobody but the caller has to do with this Deferred.
    #[inline]
    pub(crate) fn into_fired(self) -> Result<Result<T, E>, Self> {
        match self.into_parts() {
            (State::Fired(outcome), cursor) if cursor.get().is_none() => Ok(outcome.claim()),
            (state, cursor) => Err(Self { state, cursor }),
        }
    }

    /// What it is made of. Its drop is not for these.
    #[inline]
    fn into_parts(mut self) -> (State<T, E>, OnceCell<Rc<Cursor>>) {
        let parts = (
            mem::replace(&mut self.state, State::Taken),
            mem::take(&mut self.cursor),
        );
        // Nothing is left to drop, and so it need not be looked for.
        mem::forget(self);
        parts
    }

    /// Takes over the cancellers of what this one stands behind.
    fn with_cursor_of<U, F: ChainError>(mut self, before: &mut Deferred<U, F>) -> Self {
        if let Some(cursor) = before.cursor.take() {
            self.cursor = OnceCell::from(cursor);
            self.point_cursor();
        }
        self
    }

    /// The node that the result will come from, unless it is here.
    pub(crate) fn node(&self) -> Option<Rc<dyn Node>> {
        match &self.state {
            State::Waiting(node) => Some(Rc::clone(node) as Rc<dyn Node>),
            State::Fired(_) | State::Taken => None,
        }
    }

    fn point_cursor(&self) {
        if let Some(cursor) = self.cursor.get() {
            cursor.point_to(self.node());
        }
    }
}

/// Moves a value from a type to itself, by its other name.
fn same_type<From: 'static, To: 'static>(value: From) -> To {
    into_type(value).unwrap_or_else(|_| unreachable!("the caller compared the types"))
}

/// What [`Deferred::take_outcome`] found.
pub(crate) enum Awaited<T, E: ChainError> {
    Outcome(Outcome<T, E>),
    Pending(Rc<dyn Output<T, E>>),
    /// `await` took it before.
    Gone,
}

impl<T, E: ChainError> Drop for Deferred<T, E> {
    fn drop(&mut self) {
        if let State::Waiting(node) = &self.state {
            node.forsake();
        }
    }
}

impl<T, E: ChainError> fmt::Debug for Deferred<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = match &self.state {
            State::Fired(outcome) => {
                let (which, place) = match outcome.peek() {
                    Ok(_) => ("a value", outcome.trail.created),
                    Err(_) => ("a failure", outcome.trail.created),
                };
                return write!(f, "Deferred(fired with {which}, created at {place})");
            }
            State::Taken => return f.write_str("Deferred(awaited to its end)"),
            State::Waiting(node) => node,
        };
        let trail = node.trail();
        if node.is_done() {
            return write!(f, "Deferred(fired, created at {})", trail.created);
        }
        write!(f, "Deferred(pending, created at {}", trail.created)?;
        match chain::innermost(Rc::clone(node) as Rc<dyn Node>) {
            Innermost::Held => f.write_str(", paused with a result")?,
            Innermost::Settled => f.write_str(", in a running callback")?,
            Innermost::Operation(awaited) => {
                let created = awaited.trail().created;
                if created != trail.created {
                    write!(f, ", waiting on the Deferred created at {created}")?;
                }
            }
        }
        f.write_str(")")
    }
}

/// Cancels a chain whose Deferred has been given away; see
/// [`Deferred::canceller`].
#[derive(Clone)]
pub struct Canceller {
    cursor: Rc<Cursor>,
}

impl Canceller {
    /// Does what [`Deferred::cancel`] does, to the chain as it is now. Nothing, if it
    /// has fired or is gone.
    pub fn cancel(&self) {
        if let Some(end) = self.cursor.end() {
            chain::cancel(end, Interrupted::Cancelled);
        }
    }

    /// Says whether the chain is there and has not fired.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.cursor.end().is_some_and(|end| !end.is_done())
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cursor.end().filter(|end| !end.is_done()) {
            Some(end) => write!(
                f,
                "Canceller(of the Deferred created at {})",
                end.trail().created
            ),
            None => f.write_str("Canceller(nothing left to cancel)"),
        }
    }
}

/// What a callback may return: nothing, a `Result`, or another Deferred.
///
/// Implemented for these three alone, so that type inference finds the error
/// type of a closure even through `?`.
#[diagnostic::on_unimplemented(
    message = "a callback cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it returns `()`, a `Result` or another `Deferred`, with the chain's own error; for a plain value there is `map`",
    note = "`?` makes the chain's error of another one: `Ok(text.parse()?)`; of a text, `Failure::message`"
)]
pub trait IntoDeferred<E: ChainError = Failure> {
    /// What the next callback of the chain gets.
    type Value;

    /// Makes a Deferred of the return value; a fired one, unless it is one already.
    fn into_deferred(self) -> Deferred<Self::Value, E>;
}

impl<E: ChainError> IntoDeferred<E> for () {
    type Value = ();

    #[track_caller]
    fn into_deferred(self) -> Deferred<(), E> {
        succeed(())
    }
}

impl<T: 'static, E: ChainError> IntoDeferred<E> for Result<T, E> {
    type Value = T;

    #[track_caller]
    fn into_deferred(self) -> Deferred<T, E> {
        Deferred::fired(Outcome::new(self, Trail::begin(Location::caller())))
    }
}

impl<T: 'static, E: ChainError> IntoDeferred<E> for Deferred<T, E> {
    type Value = T;

    fn into_deferred(self) -> Self {
        self
    }
}

/// A Deferred that has fired with `value`. Allocates nothing.
#[track_caller]
pub fn succeed<T: 'static, E: ChainError>(value: T) -> Deferred<T, E> {
    Ok(value).into_deferred()
}

/// A Deferred that has failed with `error`. Allocates nothing of its own.
#[track_caller]
pub fn fail<T: 'static, E: ChainError>(error: impl Into<E>) -> Deferred<T, E> {
    Err(error.into()).into_deferred()
}

/// Calls `function` now and makes a Deferred of whatever it returns; a panic
/// becomes a failure, as in a callback.
#[track_caller]
pub fn maybe_deferred<R, E>(function: impl FnOnce() -> R) -> Deferred<R::Value, E>
where
    R: IntoDeferred<E, Value: 'static>,
    E: ChainError,
{
    let trail = Trail::begin(Location::caller());
    chain::call(|()| Returned::Deferred(function().into_deferred()), ()).into_deferred(trail)
}
