//! The one place where a panic in user code is caught.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use torsade_deferred::{Failure, Interrupted, unhandled};

/// Calls user code. A panic is reported as an unhandled failure, to the hook that tests
/// watch, and given back as what is left of it.
#[track_caller]
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Interrupted> {
    catch_of(Location::caller(), call)
}

/// Calls user code on behalf of what `origin` gives, if it does; it is asked after a panic
/// only.
#[track_caller]
pub(crate) fn catch_with<T>(
    origin: impl FnOnce() -> Option<&'static Location<'static>>,
    call: impl FnOnce() -> T,
) -> Result<T, Interrupted> {
    let here = Location::caller();
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let interrupted = Interrupted::from_panic(&*payload);
        let failure = Failure::from(interrupted.clone());
        unhandled::report_failure(&failure, origin().unwrap_or(here));
        interrupted
    })
}

/// Calls user code that was asked for at `origin`, which the report of a panic names.
pub(crate) fn catch_of<T>(
    origin: &'static Location<'static>,
    call: impl FnOnce() -> T,
) -> Result<T, Interrupted> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let interrupted = Interrupted::from_panic(&*payload);
        unhandled::report_failure(&Failure::from(interrupted.clone()), origin);
        interrupted
    })
}
