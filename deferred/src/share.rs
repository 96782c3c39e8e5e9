//! One result for several consumers.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::chain::Outcome;
use crate::deferred::{Canceller, Deferred, IntoDeferred};
use crate::error::ChainError;
use crate::failure::Failure;
use crate::line::Line;
use crate::unhandled::Trail;

impl<T: Clone + 'static, E: ChainError + Clone> Deferred<T, E> {
    /// Makes the result available to any number of consumers, each of whom gets a
    /// clone of it by [`Shared::wait`].
    ///
    /// A failure that no consumer ever asked for is reported when the last handle is
    /// gone; one that a consumer got is that consumer's to handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_deferred::{Deferred, Failure};
    ///
    /// let (trigger, connected) = Deferred::<u32>::new();
    /// let shared = connected.share();
    /// let (a, b) = (shared.wait(), shared.wait().map(|n| n * 2));
    /// trigger.callback(21);
    /// assert!(matches!((a.into_result(), b.into_result()), (Ok(Ok(21)), Ok(Ok(42)))));
    /// assert!(shared.wait().is_fired());
    /// ```
    #[track_caller]
    pub fn share(self) -> Shared<T, E> {
        let place = Location::caller();
        let canceller = self.canceller();
        let shared = Rc::new(Sharing {
            state: Cell::new(SharingState::Pending),
            line: Line::new(),
        });
        let settled = Rc::clone(&shared);
        drop(self.add_both(move |result| settled.settle(result, Trail::begin(place))));
        Shared { shared, canceller }
    }
}

/// A result that several wait for; see [`Deferred::share`].
///
/// A cheap clone: another handle on the same result.
pub struct Shared<T: 'static, E: ChainError = Failure> {
    shared: Rc<Sharing<T, E>>,
    canceller: Canceller,
}

impl<T: Clone + 'static, E: ChainError + Clone> Shared<T, E> {
    /// A Deferred of the result, for one consumer.
    ///
    /// # Cancellation
    ///
    /// Sends this consumer away; the operation and the others go on.
    /// [`Shared::cancel`] cancels the operation.
    #[track_caller]
    pub fn wait(&self) -> Deferred<T, E> {
        let (result, copy) = match self.shared.state.replace(SharingState::Pending) {
            SharingState::Pending => return self.shared.line.join(Location::caller()),
            SharingState::New(outcome) => copied(outcome.claim()),
            SharingState::Given(result) => copied(result),
        };
        self.shared.state.set(SharingState::Given(result));
        copy.into_deferred()
    }
}

impl<T: 'static, E: ChainError> Shared<T, E> {
    /// Cancels the operation, for everybody.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// Says whether the result is here.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        self.shared.is_fired()
    }
}

impl<T: 'static, E: ChainError> Clone for Shared<T, E> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
            canceller: self.canceller.clone(),
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Shared<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_fired() { "fired" } else { "pending" };
        write!(f, "Shared({state}, {} waiting)", self.shared.line.len())
    }
}

struct Sharing<T: 'static, E: ChainError> {
    state: Cell<SharingState<T, E>>,
    line: Rc<Line<T, E>>,
}

enum SharingState<T, E: ChainError> {
    Pending,
    /// Here, and nobody has had it.
    New(Outcome<T, E>),
    Given(Result<T, E>),
}

impl<T: 'static, E: ChainError> Sharing<T, E> {
    fn is_fired(&self) -> bool {
        let state = self.state.replace(SharingState::Pending);
        let is_fired = !matches!(state, SharingState::Pending);
        self.state.set(state);
        is_fired
    }
}

impl<T: Clone + 'static, E: ChainError + Clone> Sharing<T, E> {
    fn settle(&self, result: Result<T, E>, trail: Trail) {
        if self.line.is_empty() {
            self.state
                .set(SharingState::New(Outcome::new(result, trail)));
            return;
        }
        let (result, mut copy) = copied(result);
        // Detach, then call: who asks from now on, also from a consumer's callback, finds
        // the result.
        let waiters = self.line.take();
        self.state.set(SharingState::Given(result));
        for waiter in waiters {
            let (next, mine) = copied(copy);
            copy = next;
            waiter.fire_soon(mine);
        }
    }
}

/// A result, twice. `Result::clone` would ask for both at any rate; this says so once.
fn copied<T: Clone, E: Clone>(result: Result<T, E>) -> (Result<T, E>, Result<T, E>) {
    let copy = result.clone();
    (result, copy)
}
