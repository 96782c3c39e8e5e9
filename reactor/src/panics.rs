//! The one place where a panic in user code is caught.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::process;

use torsade_deferred::{Failure, Interrupted, unhandled};

/// What becomes of a panic in a callback; see
/// [`Reactor::set_panic_policy`](crate::Reactor::set_panic_policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It is reported as an unhandled failure is, whatever it came from is lost, and the loop
    /// goes on.
    #[default]
    Report,
    /// It is reported, and then the process aborts: no callback runs on what a panic left
    /// half done.
    Abort,
}

thread_local! {
    /// That of the loop that runs on this thread, the innermost that has one. Nothing but the
    /// end of the process depends on it.
    static POLICY: Cell<PanicPolicy> = const { Cell::new(PanicPolicy::Report) };
}

/// Has a policy hold on this thread, and gives the one before.
pub(crate) fn set_policy(policy: PanicPolicy) -> PanicPolicy {
    POLICY.replace(policy)
}

/// Tells the hook, to which a test may listen, and does what the policy says.
fn report(interrupted: &Interrupted, origin: &'static Location<'static>) {
    unhandled::report_failure(&Failure::from(interrupted.clone()), origin);
    // A thread that ends runs no loop any more.
    if POLICY.try_with(Cell::get) == Ok(PanicPolicy::Abort) {
        process::abort();
    }
}

/// Calls user code. A panic is reported as an unhandled failure, to the hook that tests
/// watch, and given back as what is left of it.
#[track_caller]
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Interrupted> {
    catch_of(Location::caller(), call)
}

/// Calls user code on behalf of what `origin` gives, if it does; it is asked after a panic
/// only.
#[track_caller]
#[inline]
pub(crate) fn catch_with<T>(
    origin: impl FnOnce() -> Option<&'static Location<'static>>,
    call: impl FnOnce() -> T,
) -> Result<T, Interrupted> {
    let here = Location::caller();
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|payload| caught(payload, origin().unwrap_or(here)))
}

/// Calls user code that was asked for at `origin`, which the report of a panic names.
pub(crate) fn catch_of<T>(
    origin: &'static Location<'static>,
    call: impl FnOnce() -> T,
) -> Result<T, Interrupted> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| caught(payload, origin))
}

/// Out of the way of what does not panic.
#[cold]
#[inline(never)]
fn caught(payload: Box<dyn Any + Send>, origin: &'static Location<'static>) -> Interrupted {
    let interrupted = Interrupted::from_panic(&*payload);
    report(&interrupted, origin);
    interrupted
}
