//! Operations that succeed together or not at all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::rc::Rc;

use crate::combine::FailureGroup;
use crate::deferred::{Canceller, Deferred};
use crate::error::{ChainError, Interrupted};
use crate::failure::Failure;
use crate::trigger::Trigger;

/// A group of operations that are waited for together; the first failure cancels
/// the others.
///
/// Nothing outlives its group: [`finish`](TaskGroup::finish) waits for all, and a
/// group dropped before that cancels all. asyncio's `TaskGroup`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Deferred, Failure, TaskGroup, succeed};
///
/// let (trigger, slow) = Deferred::<u32>::new();
/// let group = TaskGroup::<u32, Failure>::new();
/// group.add(slow);
/// group.spawn(async { Ok(succeed::<u32, Failure>(1).await? + 1) });
/// let all = group.finish();
/// trigger.callback(1);
/// assert!(matches!(all.into_result(), Ok(Ok(values)) if values == [1, 2]));
/// ```
pub struct TaskGroup<T: 'static, E: ChainError + From<FailureGroup<E>> = Failure> {
    members: Rc<Members<T, E>>,
    /// `Some` until it is asked for.
    result: Option<Deferred<Vec<T>, E>>,
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> TaskGroup<T, E> {
    /// An empty group.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let (trigger, result) = Deferred::new_at(Location::caller());
        let members = Rc::new(Members {
            values: RefCell::default(),
            cancellers: RefCell::default(),
            failures: RefCell::default(),
            left: Cell::new(0),
            phase: Cell::new(Phase::Open),
            is_cancelled: Cell::new(false),
            trigger: Cell::new(None),
        });
        let group = Rc::downgrade(&members);
        trigger.forward_cancel(move || {
            if let Some(members) = group.upgrade() {
                members.cancel();
            }
        });
        members.trigger.set(Some(trigger));
        Self {
            members,
            result: Some(result),
        }
    }

    /// Takes an operation in. If one has failed before, this one is cancelled at once.
    pub fn add(&self, operation: Deferred<T, E>) {
        self.members.add(operation);
    }

    /// Takes an `async` block in, which starts at once.
    #[track_caller]
    pub fn spawn(&self, future: impl Future<Output = Result<T, E>> + 'static) {
        self.add(Deferred::from_future(future));
    }

    /// Cancels all that are left.
    pub fn cancel(&self) {
        self.members.cancel();
    }

    /// How many have not ended.
    #[must_use]
    pub fn left(&self) -> usize {
        self.members.left.get()
    }

    /// Fires when all have ended: with their values, in the order in which they were
    /// added, or with their failures, in the order in which they happened.
    ///
    /// Those who ended with [`Interrupted::Cancelled`] because of another's failure are
    /// not among the failures, where the error type lets that be seen.
    ///
    /// # Cancellation
    ///
    /// Cancels all, and waits for their answers.
    #[must_use = "dropping the result leaves failures unhandled"]
    pub fn finish(mut self) -> Deferred<Vec<T>, E> {
        let result = self.result.take();
        self.members.phase.set(Phase::Finishing);
        self.members.look();
        result.unwrap_or_else(|| unreachable!("only `finish`, which consumes the group, takes it"))
    }
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> Default for TaskGroup<T, E> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            // A failure of before goes to nobody, and is reported as such. What comes of the
            // cancellation was asked for.
            self.members.phase.set(Phase::Dropped);
            if !self.members.failures.borrow().is_empty() {
                self.members.end();
            }
            drop(result);
            self.members.cancel();
        }
    }
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = if self.members.is_cancelled.get() {
            ", cancelled"
        } else {
            ""
        };
        write!(f, "TaskGroup({} left{cancelled})", self.left())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Finishing,
    Dropped,
}

struct Members<T: 'static, E: ChainError> {
    values: RefCell<Vec<Option<T>>>,
    /// Of the members that have not ended; in step with `values`.
    cancellers: RefCell<Vec<Option<Canceller>>>,
    failures: RefCell<Vec<(usize, E)>>,
    left: Cell<usize>,
    phase: Cell<Phase>,
    is_cancelled: Cell<bool>,
    trigger: Cell<Option<Trigger<Vec<T>, E>>>,
}

impl<T: 'static, E: ChainError + From<FailureGroup<E>>> Members<T, E> {
    fn add(self: &Rc<Self>, operation: Deferred<T, E>) {
        let canceller = operation.canceller();
        let index = self.values.borrow().len();
        self.values.borrow_mut().push(None);
        self.cancellers.borrow_mut().push(Some(canceller.clone()));
        self.left.set(self.left.get() + 1);
        let group = Rc::clone(self);
        drop(operation.add_both(move |result| group.ended(index, result)));
        if self.is_cancelled.get() {
            canceller.cancel();
        }
    }

    fn ended(&self, index: usize, result: Result<T, E>) {
        drop(self.cancellers.borrow_mut()[index].take());
        self.left.set(self.left.get() - 1);
        match result {
            Ok(value) => {
                if let Some(place) = self.values.borrow_mut().get_mut(index) {
                    *place = Some(value);
                }
            }
            // Asked for.
            Err(_) if self.phase.get() == Phase::Dropped => {}
            Err(error) if self.is_cancelled.get() && is_cancelled(&error) => {}
            Err(error) => {
                self.failures.borrow_mut().push((index, error));
                if !self.is_cancelled.get() {
                    self.cancel();
                }
            }
        }
        self.look();
    }

    fn cancel(&self) {
        self.is_cancelled.set(true);
        // Detach, then call: each may end, or add another.
        let cancellers = mem::take(&mut *self.cancellers.borrow_mut());
        self.cancellers
            .borrow_mut()
            .resize_with(cancellers.len(), || None);
        for canceller in cancellers.iter().flatten() {
            canceller.cancel();
        }
        // Who has not obeyed may be cancelled again.
        let mut kept = self.cancellers.borrow_mut();
        for (kept, canceller) in kept.iter_mut().zip(cancellers) {
            if let Some(canceller) = canceller.filter(Canceller::is_pending) {
                *kept = Some(canceller);
            }
        }
    }

    fn look(&self) {
        if self.left.get() == 0 && self.phase.get() == Phase::Finishing {
            self.end();
        }
    }

    fn end(&self) {
        let Some(trigger) = self.trigger.take() else {
            return;
        };
        let failures = self.failures.take();
        let values = self.values.take().into_iter().collect::<Option<Vec<T>>>();
        trigger.fire_soon(match values {
            Some(values) if failures.is_empty() => Ok(values),
            _ if failures.is_empty() => Err(Interrupted::Cancelled.into()),
            _ => Err(FailureGroup::new(failures).into()),
        });
    }
}

fn is_cancelled<E: 'static>(error: &E) -> bool {
    Interrupted::seen_in(error) == Some(&Interrupted::Cancelled)
}
