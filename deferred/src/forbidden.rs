//! What the types forbid: mistakes of Twisted's users that do not compile here.
//!
//! Only doctests; each names the statements of the catalogue that it settles.

/// #22
///
/// What cannot be called is not taken.
///
/// ```compile_fail,E0277
/// use torsade_deferred::{Deferred, succeed};
///
/// let deferred: Deferred<u32> = succeed(1);
/// let next = deferred.add_callback(42);
/// ```
pub struct NotCallable;

/// #23
///
/// A failure is fired by `errback`; `callback` takes values of the chain's type.
///
/// ```compile_fail,E0308
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.callback(Failure::message("no"));
/// ```
pub struct FailureAsValue;

/// #25
///
/// There is no "exception being handled" that `errback` could pick up.
///
/// ```compile_fail,E0061
/// use torsade_deferred::Deferred;
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.errback();
/// ```
pub struct ErrbackOfNothing;

/// #28
///
/// A Deferred is no value of another chain; `chain_into` is what was meant.
///
/// ```compile_fail,E0308
/// use torsade_deferred::{Deferred, succeed};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// let other: Deferred<u32> = succeed(1);
/// trigger.callback(other);
/// ```
pub struct DeferredAsValue;

/// #38
///
/// ```compile_fail,E0382
/// use torsade_deferred::Deferred;
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.callback(1);
/// trigger.callback(2);
/// ```
pub struct ValueThenValue;

/// #39
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Interrupted};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.callback(1);
/// trigger.errback(Interrupted::Cancelled);
/// ```
pub struct ValueThenError;

/// #40
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Interrupted};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.errback(Interrupted::Cancelled);
/// trigger.errback(Interrupted::Cancelled);
/// ```
pub struct ErrorThenError;

/// #41
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Interrupted};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.errback(Interrupted::Cancelled);
/// trigger.callback(1);
/// ```
pub struct ErrorThenValue;

/// #42, #76
///
/// A trigger that a callback of its own chain holds cannot be what fires that chain, for
/// it was moved into it; nor does one that fired exist while the chain waits.
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// let next = deferred.map(move |n| trigger.callback(n));
/// trigger.callback(1);
/// ```
pub struct FiredFromInside;

/// #53
///
/// An inner Deferred is not emptied by being returned: it is gone.
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, succeed};
///
/// let (trigger, inner) = Deferred::<u32>::new();
/// let outer: Deferred<u32> = succeed(()).add_callback(move |()| inner);
/// println!("{:?}", inner.into_result());
/// ```
pub struct InnerIsEmptied;

/// #57
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, succeed};
///
/// let (trigger, inner) = Deferred::<u32>::new();
/// let outer: Deferred<u32> = succeed(()).add_callback(move |()| inner);
/// let late = inner.map(|n| n + 1);
/// ```
pub struct AddedAfterReturning;

/// #72
///
/// One Deferred has one consumer; [`share`](crate::Deferred::share) makes more.
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, succeed};
///
/// let (trigger, inner) = Deferred::<u32>::new();
/// let one: Deferred<u32> = succeed(()).add_callback(move |()| inner);
/// let two: Deferred<u32> = succeed(()).add_callback(move |()| inner);
/// ```
pub struct TwoOuters;

/// #78, #79
///
/// ```compile_fail,E0382
/// use torsade_deferred::Deferred;
///
/// let (trigger, source) = Deferred::<u32>::new();
/// let (target_trigger, target) = Deferred::<u32>::new();
/// source.chain_into(target_trigger);
/// let late = source.map(|n| n + 1);
/// ```
pub struct ChainedSourceUsed;

/// #82
///
/// ```compile_fail,E0382
/// use torsade_deferred::Deferred;
///
/// let (trigger, source) = Deferred::<u32>::new();
/// let (target_trigger, target) = Deferred::<u32>::new();
/// target_trigger.callback(1);
/// source.chain_into(target_trigger);
/// ```
pub struct ChainedIntoFired;

/// #105
///
/// Each pause ends once.
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, succeed};
///
/// let mut deferred: Deferred<u32> = succeed(1);
/// let paused = deferred.pause();
/// drop(paused);
/// drop(paused);
/// ```
pub struct UnbalancedUnpause;

/// #113
///
/// A cancellation swallows the late result; a second one cannot be fired.
///
/// ```compile_fail,E0382
/// use torsade_deferred::Deferred;
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// deferred.cancel();
/// trigger.callback(1);
/// trigger.callback(2);
/// ```
pub struct SecondLateResult;

/// #198
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, FireOn, deferred_list, succeed};
///
/// let deferred: Deferred<u32> = succeed(1);
/// let list = deferred_list([deferred, deferred], FireOn::All);
/// ```
pub struct OneInputTwice;

/// #215
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, race};
///
/// let (trigger, input) = Deferred::<u32>::new();
/// let winner = race([input]);
/// let late = input.map(|n| n + 1);
/// ```
pub struct RacedInputUsed;

/// #221, #236
///
/// Only a permit gives back, and only once.
///
/// ```compile_fail,E0382
/// use torsade_deferred::{DeferredLock, Permit};
///
/// fn release(permit: Permit) {
///     drop(permit);
///     drop(permit);
/// }
/// ```
pub struct ReleasedTwice;

/// #224
///
/// ```compile_fail,E0061
/// let run = torsade_deferred::DeferredLock::new().run();
/// ```
pub struct RunOfNothing;

/// #234
///
/// ```compile_fail,E0308
/// let none = torsade_deferred::DeferredSemaphore::new(0);
/// ```
pub struct SemaphoreOfNothing;

/// #259
///
/// A plain value is not awaited.
///
/// ```compile_fail,E0277
/// let body = async { 5_u32.await };
/// ```
pub struct PlainValueAwaited;

/// #260
///
/// A list is not waited for by accident: `gather_results` says what is wanted.
///
/// ```compile_fail,E0277
/// use torsade_deferred::{Deferred, succeed};
///
/// let list: Vec<Deferred<u32>> = vec![succeed(1)];
/// let body = async { list.await };
/// ```
pub struct ListAwaited;

/// #268
///
/// A forgotten `.await` is a type error.
///
/// ```compile_fail,E0271
/// use torsade_deferred::{Deferred, Failure, succeed};
///
/// let task: Deferred<u32> = Deferred::from_future(async { succeed::<u32, Failure>(1) });
/// ```
pub struct ForgottenAwait;

/// #270
///
/// ```compile_fail,E0277
/// use torsade_deferred::Deferred;
///
/// let task = Deferred::<u32>::from_future(|| 5);
/// ```
pub struct NotAFuture;

/// #285, #290
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, number) = Deferred::<u32>::new();
/// let one = Deferred::<u32>::from_future(async move { number.await });
/// let two = Deferred::<u32>::from_future(async move { number.await });
/// ```
pub struct TwoTasksOneDeferred;

/// #286, #287, #288, #289
///
/// Awaiting consumes: whoever wants a result twice asks for it by
/// [`share`](crate::Deferred::share).
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Failure};
///
/// async fn twice(number: Deferred<u32>) -> Result<u32, Failure> {
///     Ok(number.await? + number.await?)
/// }
/// ```
pub struct AwaitedTwice;
