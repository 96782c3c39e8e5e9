//! A test that ends tidily.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use torsade_deferred::unhandled::{self, HookGuard};

use crate::reactor::Reactor;

/// Turns in which what is due, or was just closed, may still go.
const LAST_TURNS: usize = 10;

/// Checks, when the guard that it gives is dropped, that the test has left nothing behind:
/// no timer, call, port, connection, watch or work on a thread of this reactor, and no
/// failure that nobody handled on this thread.
///
/// The reactor gets a few turns of no length for that. While the guard lives it takes the
/// reports of unhandled failures, as [`unhandled::set_hook`] does. A test that is failing
/// already is not judged.
///
/// # Panics
///
/// The guard does, when it is dropped: with the [`Dump`](crate::Dump) of what is left and the
/// reports.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::testing::{leaves_nothing_behind, virtual_time_reactor};
///
/// let reactor = virtual_time_reactor();
/// let _check = leaves_nothing_behind(&reactor);
/// let call = reactor.call_later(Duration::from_secs(1), || ());
/// // Without this, the test would fail.
/// call.cancel();
/// ```
pub fn leaves_nothing_behind(reactor: &Reactor) -> LeavesNothingBehind {
    let failures = Rc::new(RefCell::new(Vec::new()));
    let reports = Rc::clone(&failures);
    let hook = unhandled::set_hook(move |failure| reports.borrow_mut().push(failure.to_string()));
    LeavesNothingBehind {
        reactor: reactor.clone(),
        failures,
        hook: Some(hook),
    }
}

/// A check that is made when it is dropped; see [`leaves_nothing_behind`].
#[must_use = "dropping the guard makes the check"]
pub struct LeavesNothingBehind {
    reactor: Reactor,
    failures: Rc<RefCell<Vec<String>>>,
    hook: Option<HookGuard>,
}

impl LeavesNothingBehind {
    /// Takes the reports of the unhandled failures so far: those that the test expects.
    #[must_use]
    pub fn take_failures(&self) -> Vec<String> {
        self.failures.take()
    }
}

impl Drop for LeavesNothingBehind {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for _ in 0..LAST_TURNS {
            // A reactor that cannot turn has what it has, and that is shown.
            if self.reactor.dump().is_empty() || self.reactor.turn(Some(Duration::ZERO)).is_err() {
                break;
            }
        }
        drop(self.hook.take());
        let dump = self.reactor.dump();
        assert!(dump.is_empty(), "the test leaves something behind:\n{dump}");
        let failures = self.failures.take();
        assert!(
            failures.is_empty(),
            "the test leaves failures unhandled:\n{}",
            failures.join("\n")
        );
    }
}

impl fmt::Debug for LeavesNothingBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.failures.borrow().len();
        write!(f, "LeavesNothingBehind({failures} unhandled so far)")
    }
}
