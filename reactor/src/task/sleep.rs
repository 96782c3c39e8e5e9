//! A result after a while.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, IntoDeferred, Scheduled};

/// A Deferred that fires `delay` from now.
///
/// # Cancellation
///
/// Takes the call back from the clock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_deferred::{Deferred, Failure};
/// use torsade_reactor::task::sleep;
/// use torsade_reactor::testing::virtual_time_reactor;
///
/// # fn main() -> Result<(), Failure> {
/// let reactor = virtual_time_reactor();
/// let (begin, clock) = (reactor.now(), reactor.clone());
/// reactor.run_until::<_, Failure>(Deferred::from_future(async move {
///     sleep(&clock, Duration::from_secs(60)).await?;
///     sleep(&clock, Duration::from_secs(30)).await
/// }))?;
/// assert_eq!(reactor.now() - begin, Duration::from_secs(90));
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn sleep(clock: &(impl Clock + ?Sized), delay: Duration) -> Deferred<()> {
    let (trigger, deferred) = Deferred::new();
    let scheduled = Rc::new(Cell::new(None::<Scheduled>));
    let to_cancel = Rc::clone(&scheduled);
    trigger.on_cancel(move || {
        if let Some(scheduled) = to_cancel.take() {
            scheduled.cancel();
        }
    });
    let call = clock.schedule_for(
        delay,
        Location::caller(),
        Box::new(move || trigger.callback(())),
    );
    scheduled.set(Some(call));
    deferred
}

/// Calls `call` once, `delay` from now, and fires with what it returns: nothing, a
/// `Result`, or a Deferred, for which this one then waits.
///
/// For no more than the waiting there is [`sleep`]. Twisted's `deferLater`.
///
/// # Cancellation
///
/// Before the call, it is taken back and never made. After it, what the call returned
/// is cancelled.
#[track_caller]
pub fn defer_later<R>(
    clock: &(impl Clock + ?Sized),
    delay: Duration,
    call: impl FnOnce() -> R + 'static,
) -> Deferred<R::Value>
where
    R: IntoDeferred<Value: 'static>,
{
    sleep(clock, delay).add_callback(|()| call())
}
