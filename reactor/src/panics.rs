//! The one place where a panic in user code is caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use torsade_deferred::{Deferred, Failure, Interrupted, fail};

/// Calls user code. A panic is reported as an unhandled failure, and given back as
/// what is left of it.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Interrupted> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let interrupted = Interrupted::from_panic(&*payload);
        // A failed Deferred that is dropped is reported to the hook that tests watch.
        let unhandled: Deferred<()> = fail(Failure::from(interrupted.clone()));
        drop(unhandled);
        interrupted
    })
}
