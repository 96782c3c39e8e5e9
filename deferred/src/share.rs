//! One result for several consumers.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::deferred::{Canceller, Deferred, IntoDeferred};
use crate::error::{ChainError, Interrupted};
use crate::failure::Failure;
use crate::line::Line;
use crate::unhandled::{self, Trail};

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
            result: OnceCell::new(),
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
    /// A Deferred of the result, for one consumer. If the clone for it panics, that is its
    /// failure, and nobody else's.
    ///
    /// # Cancellation
    ///
    /// Sends this consumer away; the operation and the others go on.
    /// [`Shared::cancel`] cancels the operation.
    #[track_caller]
    pub fn wait(&self) -> Deferred<T, E> {
        match self.shared.result.get() {
            Some(kept) => kept.copy().into_deferred(),
            None => self.shared.line.join(Location::caller()),
        }
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
    result: OnceCell<Kept<T, E>>,
    line: Rc<Line<T, E>>,
}

impl<T: 'static, E: ChainError> Sharing<T, E> {
    fn is_fired(&self) -> bool {
        self.result.get().is_some()
    }
}

impl<T: Clone + 'static, E: ChainError + Clone> Sharing<T, E> {
    fn settle(&self, result: Result<T, E>, trail: Trail) {
        // Who asks from now on, also from a consumer's callback or a clone, finds the result.
        let kept = self.result.get_or_init(|| Kept {
            result,
            trail,
            is_given: Cell::new(false),
        });
        for waiter in self.line.take() {
            waiter.fire_soon(kept.copy());
        }
    }
}

/// A result that is only ever cloned.
struct Kept<T, E: ChainError> {
    result: Result<T, E>,
    trail: Trail,
    /// Somebody has had it, and a failure is theirs to handle.
    is_given: Cell<bool>,
}

impl<T: Clone, E: ChainError + Clone> Kept<T, E> {
    /// For one consumer, for whom a clone that panics is a failure.
    fn copy(&self) -> Result<T, E> {
        self.is_given.set(true);
        catch_unwind(AssertUnwindSafe(|| self.result.clone()))
            .unwrap_or_else(|payload| Err(Interrupted::from_panic(&*payload).into()))
    }
}

impl<T, E: ChainError> Drop for Kept<T, E> {
    fn drop(&mut self) {
        if let Err(error) = &self.result
            && !self.is_given.get()
        {
            unhandled::report(error, self.trail);
        }
    }
}
