//! A Deferred as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::chain::{self, Node, Output, Step, Wake};
use crate::deferred::{Awaited, Deferred};
use crate::error::{ChainError, Interrupted};
use crate::failure::Failure;
use crate::task;

/// Awaiting a Deferred gives its result, and counts as handling it.
///
/// One that has fired is ready at the first poll and allocates nothing. In the
/// body of a [`from_future`](Deferred::from_future) neither does waiting: the
/// task itself stands behind the Deferred, and goes on inside the call that
/// fires it.
///
/// One that was awaited to its end and is polled again is
/// [`Abandoned`](crate::Interrupted::Abandoned), as is one whose task awaits its
/// own result.
///
/// # Cancellation
///
/// Dropping the future drops the Deferred, and that cancels nothing;
/// [`cancel_on_drop`](Deferred::cancel_on_drop) is the form that does.
impl<T: 'static, E: ChainError> Future for Deferred<T, E> {
    type Output = Result<T, E>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.take_outcome() {
            Awaited::Outcome(outcome) => Poll::Ready(outcome.claim()),
            Awaited::Pending(node) => {
                let Some(step) = step_behind(&node, context) else {
                    let created = node.trail().created;
                    return Poll::Ready(Err(Interrupted::Abandoned { created }.into()));
                };
                node.set_next(step);
                self.wait_for(node);
                Poll::Pending
            }
            Awaited::Gone => {
                let created = std::panic::Location::caller();
                Poll::Ready(Err(Interrupted::Abandoned { created }.into()))
            }
        }
    }
}

/// Who is to run when `node` has its result: the task that polls, if it is one of
/// ours, or else its waker. Nobody, if the task would wait for itself.
fn step_behind<T, E: ChainError>(
    node: &Rc<dyn Output<T, E>>,
    context: &Context<'_>,
) -> Option<Rc<dyn Step>> {
    let Some(task) = task::polled_with(context.waker()) else {
        return Some(Wake::step(context.waker().clone()));
    };
    let step = Rc::clone(&task) as Rc<dyn Step>;
    if chain::waits_for(node, &step) {
        return None;
    }
    task.awaits(Rc::clone(node) as Rc<dyn Node>);
    Some(step)
}

// Nothing in a Deferred is ever pinned: a value is moved out of it, never polled in place.
impl<T, E: ChainError> Unpin for Deferred<T, E> {}

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// A future of the result that cancels the Deferred when it is dropped before
    /// that: for `select!` and other places where losing means dropping.
    ///
    /// A failure that the cancellation brings is dropped quietly.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T, E> {
        CancelOnDrop {
            deferred: Some(self),
        }
    }
}

/// A Deferred that is cancelled when it is dropped; see
/// [`Deferred::cancel_on_drop`].
#[must_use = "dropping it cancels the Deferred"]
pub struct CancelOnDrop<T: 'static, E: ChainError = Failure> {
    /// `Some` until it was ready.
    deferred: Option<Deferred<T, E>>,
}

impl<T: 'static, E: ChainError> Future for CancelOnDrop<T, E> {
    type Output = Result<T, E>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(deferred) = &mut self.deferred else {
            let created = std::panic::Location::caller();
            return Poll::Ready(Err(Interrupted::Abandoned { created }.into()));
        };
        let polled = Pin::new(deferred).poll(context);
        if polled.is_ready() {
            self.deferred = None;
        }
        polled
    }
}

impl<T: 'static, E: ChainError> Drop for CancelOnDrop<T, E> {
    fn drop(&mut self) {
        if let Some(deferred) = self.deferred.take() {
            let canceller = deferred.canceller();
            // Claims the result, so that the cancellation is not reported as unhandled.
            drop(deferred.add_both(|_| ()));
            canceller.cancel();
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for CancelOnDrop<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.deferred).finish()
    }
}
