//! What a Deferred has come to, for tests that know.

use std::fmt;

use torsade_deferred::{ChainError, Deferred};

/// The value of a Deferred that has fired with one. Twisted's `successResultOf`.
///
/// # Panics
///
/// It has not fired, or it has failed: the message says with what.
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Deferred, Failure};
/// use torsade_reactor::testing::{failure_of, no_result, success_of};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// let doubled = deferred.add_callback(|number| Ok(number * 2));
/// no_result(&doubled);
/// trigger.callback(21);
/// assert_eq!(success_of(doubled), 42);
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.errback(Failure::message("no such row"));
/// assert_eq!(failure_of(deferred).to_string(), "no such row");
/// ```
#[track_caller]
pub fn success_of<T: 'static, E: ChainError + fmt::Debug>(deferred: Deferred<T, E>) -> T {
    match deferred.into_result() {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("it has failed: {error:?}"),
        Err(pending) => panic!("it has not fired: {pending:?}"),
    }
}

/// The error of a Deferred that has failed; a test that knows which goes on with
/// [`Failure::trap`](torsade_deferred::Failure::trap). Twisted's `failureResultOf`.
///
/// # Panics
///
/// It has not fired, or it has fired with a value.
#[track_caller]
pub fn failure_of<T: 'static, E: ChainError>(deferred: Deferred<T, E>) -> E {
    match deferred.into_result() {
        Ok(Ok(_)) => panic!("it has fired with a value"),
        Ok(Err(error)) => error,
        Err(pending) => panic!("it has not fired: {pending:?}"),
    }
}

/// Checks that a Deferred has not fired. Twisted's `assertNoResult`.
///
/// # Panics
///
/// It has fired.
#[track_caller]
pub fn no_result<T: 'static, E: ChainError>(deferred: &Deferred<T, E>) {
    assert!(!deferred.is_fired(), "it has fired: {deferred:?}");
}
