//! A Deferred as a future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::chain::Wake;
use crate::deferred::Deferred;
use crate::error::ChainError;

/// Awaiting a Deferred gives its result, and counts as handling it.
///
/// One that has fired is ready at the first poll and allocates nothing.
///
/// # Panics
///
/// When polled again after it was ready, as futures may.
///
/// # Cancellation
///
/// Dropping the future drops the Deferred, and that cancels nothing; keep a
/// [`canceller`](Deferred::canceller) where dropping should cancel.
impl<T: 'static, E: ChainError> Future for Deferred<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.take_outcome() {
            Ok(outcome) => Poll::Ready(outcome.claim()),
            Err(Some(node)) => {
                node.set_next(Wake::new(context.waker().clone()));
                self.wait_for(node);
                Poll::Pending
            }
            Err(None) => panic!("a Deferred was polled after it had given its result"),
        }
    }
}

// Nothing in a Deferred is ever pinned: a value is moved out of it, never polled in place.
impl<T, E: ChainError> Unpin for Deferred<T, E> {}
