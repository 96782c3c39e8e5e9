//! Names to addresses, on threads of their own.
//!
//! # Bounds
//!
//! At most [`LOOKUPS_AT_ONCE`] threads, which end soon after the last lookup; further
//! lookups wait in line, each for at most [`LOOKUP_LIMIT`] with its answer. They share
//! nothing with any other pool: a slow name server delays names and nothing else.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Deferred;

use crate::core::Core;
use crate::reactor::Reactor;
use crate::thread_pool::{PoolLimits, ThreadPool};

/// Lookups that may block at the same time.
const LOOKUPS_AT_ONCE: usize = 4;

/// How long a name server has, and the line before it: a connecting peer's 30 s.
pub(crate) const LOOKUP_LIMIT: Duration = Duration::from_secs(30);

/// The reactor's pool for lookups, once there has been one.
#[derive(Default)]
pub(crate) struct Lookups {
    pool: Option<ThreadPool>,
}

/// Looks a name up. Cancelling gives the answer up; a thread that asks already cannot
/// be interrupted, its answer is thrown away.
///
/// Fails with the resolver's `io::Error`; with an [`Interrupted::TimedOut`](torsade_deferred::Interrupted::TimedOut) after
/// [`LOOKUP_LIMIT`]; with a [`PoolError`](crate::PoolError) if there is no thread for it.
#[track_caller]
pub(crate) fn resolve(core: &Rc<Core>, host: &str, port: u16) -> Deferred<Vec<SocketAddr>> {
    let pool = core.lookups().borrow_mut().pool();
    let (names, host) = (core.driver().names(), host.to_owned());
    let reactor = Reactor::of(core);
    reactor
        .defer_to_thread_pool(&pool, move || names.resolve(&host, port))
        .add_timeout(LOOKUP_LIMIT, &reactor)
}

impl Lookups {
    pub(crate) fn dump(&self) -> Option<String> {
        self.pool.as_ref().map(|pool| format!("{pool:?}"))
    }

    fn pool(&mut self) -> ThreadPool {
        let pool = self.pool.get_or_insert_with(|| {
            let limits = PoolLimits {
                threads_max: LOOKUPS_AT_ONCE,
                ..PoolLimits::default()
            };
            ThreadPool::with_limits("torsade-resolver", limits)
        });
        pool.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use torsade_deferred::Interrupted;

    use crate::testing;
    use crate::thread_pool::PoolError;

    use super::*;

    /// Looks a name up with a pool that never comes to it, and room for so many.
    #[track_caller]
    fn check_unanswered<E: Error + 'static>(queued_max: usize) {
        let reactor = testing::virtual_time_reactor();
        let limits = PoolLimits {
            threads_max: 0,
            queued_max,
            ..PoolLimits::default()
        };
        let pool = ThreadPool::with_limits("never", limits);
        reactor.core().lookups().borrow_mut().pool = Some(pool.clone());
        let begun = reactor.now();
        let answer = reactor.run_until(resolve(reactor.core(), "host", 7));
        let failure = answer.expect_err("nobody answers");
        assert!(failure.check::<E>(), "{failure}");
        let passed = reactor.now() - begun;
        assert_eq!(passed >= LOOKUP_LIMIT, queued_max > 0);
        assert_eq!(pool.statistics().queued, 0, "it is not left in line");
    }

    #[test]
    fn lookup_without_an_answer_fails_at_its_deadline_and_leaves_the_line() {
        check_unanswered::<Interrupted>(1);
    }

    #[test]
    fn lookup_beyond_the_line_fails_at_once() {
        check_unanswered::<PoolError>(0);
    }
}
