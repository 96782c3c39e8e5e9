//! A lock and a semaphore, whose permits come back by being dropped.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::deferred::{Deferred, IntoDeferred};
use crate::failure::Failure;
use crate::line::Line;

/// Lets one in at a time.
///
/// A cheap clone: another handle on the same lock. Twisted's `DeferredLock`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Deferred, DeferredLock};
///
/// let lock = DeferredLock::new();
/// let (trigger, slow) = Deferred::<u32>::new();
/// let first = lock.run(|| slow);
/// let second = lock.run(|| Ok(2)); // waits for `first`
/// assert!(!second.is_fired());
/// trigger.callback(1);
/// assert!(first.is_fired() && second.is_fired() && !lock.is_locked());
/// ```
#[derive(Clone)]
pub struct DeferredLock {
    semaphore: DeferredSemaphore,
}

impl DeferredLock {
    /// An open lock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            semaphore: DeferredSemaphore::new(NonZeroUsize::MIN),
        }
    }

    /// Waits for the lock, and holds it until the [`Permit`] is dropped.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit> {
        self.semaphore.acquire()
    }

    /// Waits for the lock, calls `function` with it held, and opens it when what
    /// `function` returned has fired, whichever way.
    ///
    /// # Cancellation
    ///
    /// Leaves the line, and `function` is never called; or, once it was, cancels the
    /// Deferred that it returned.
    #[track_caller]
    pub fn run<R>(&self, function: impl FnOnce() -> R + 'static) -> Deferred<R::Value>
    where
        R: IntoDeferred<Failure, Value: 'static>,
    {
        self.semaphore.run(function)
    }

    /// Says whether somebody holds it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.semaphore.free() == 0
    }

    /// How many wait for it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.semaphore.waiting()
    }
}

impl Default for DeferredLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DeferredLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_locked() { "locked" } else { "open" };
        write!(f, "DeferredLock({state}, {} waiting)", self.waiting())
    }
}

/// Lets a fixed number in at a time.
///
/// A cheap clone: another handle on the same semaphore. Twisted's
/// `DeferredSemaphore`; that the limit is not zero is the type's business.
#[derive(Clone)]
pub struct DeferredSemaphore {
    tokens: Rc<Tokens>,
}

impl DeferredSemaphore {
    /// A semaphore with all its tokens.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        let limit = limit.get();
        let (free, serving) = (Cell::new(limit), Cell::new(false));
        Self {
            tokens: Rc::new(Tokens {
                limit,
                free,
                serving,
                line: Line::new(),
            }),
        }
    }

    /// Waits for a token, and holds it until the [`Permit`] is dropped.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit> {
        if self.tokens.line.is_empty() && self.tokens.take() {
            Ok(Permit {
                tokens: Rc::clone(&self.tokens),
            })
            .into_deferred()
        } else {
            self.tokens.line.join(Location::caller())
        }
    }

    /// Waits for a token, calls `function` with it held, and gives it back when what
    /// `function` returned has fired, whichever way.
    ///
    /// # Cancellation
    ///
    /// As for [`DeferredLock::run`].
    #[track_caller]
    pub fn run<R>(&self, function: impl FnOnce() -> R + 'static) -> Deferred<R::Value>
    where
        R: IntoDeferred<Failure, Value: 'static>,
    {
        self.acquire().add_callback(move |permit| {
            function().into_deferred().add_both(move |result| {
                drop(permit);
                result
            })
        })
    }

    /// How many tokens are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.tokens.free.get()
    }

    /// How many tokens there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.tokens.limit
    }

    /// How many wait for a token.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tokens.line.len()
    }
}

impl fmt::Debug for DeferredSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeferredSemaphore({} of {} free, {} waiting)",
            self.free(),
            self.limit(),
            self.waiting()
        )
    }
}

/// The right to be inside: of a [`DeferredLock`] or a [`DeferredSemaphore`].
///
/// Dropping it gives it to the next in the line, and there is no other way to
/// give it back: not twice, and not one that was never had.
#[must_use = "dropping the permit gives it back"]
pub struct Permit {
    tokens: Rc<Tokens>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tokens.give_back();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit(one of {})", self.tokens.limit)
    }
}

struct Tokens {
    limit: usize,
    // Invariant: at most `limit`.
    free: Cell<usize>,
    /// The line is being served, further up the stack.
    serving: Cell<bool>,
    line: Rc<Line<Permit, Failure>>,
}

impl Tokens {
    fn take(&self) -> bool {
        let free = self.free.get();
        self.free.set(free.saturating_sub(1));
        free > 0
    }

    /// Serves the line while tokens are left. A permit dropped by somebody who is just
    /// being served only adds to the tokens, and the loop that is here already goes on.
    fn give_back(self: &Rc<Self>) {
        self.free.set(self.free.get() + 1);
        debug_assert!(
            self.free.get() <= self.limit,
            "each permit is given back once"
        );
        if self.serving.replace(true) {
            return;
        }
        let mut panicked = None;
        while self.free.get() > 0
            && let Some(next) = self.line.next()
        {
            self.take();
            let permit = Permit {
                tokens: Rc::clone(self),
            };
            // What became of the permit may panic when it is dropped: the line moves on first.
            let served = catch_unwind(AssertUnwindSafe(|| next.fire_soon(Ok(permit))));
            panicked = panicked.or(served.err());
        }
        self.serving.set(false);
        if let Some(payload) = panicked {
            resume_unwind(payload);
        }
    }
}
