//! The report of a failure that nobody handled.
//!
//! A Deferred that is dropped while its result is a failure is reported here:
//! at once, once, with the places that matter. Nothing else in this crate
//! reports anything.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::error::Interrupted;
use crate::failure::Failure;

/// A failure that nobody handled, as a hook sees it.
pub struct Unhandled<'a> {
    /// What it happened in, if that was no Deferred.
    pub(crate) place: Place<'a>,
    pub(crate) trail: Trail,
    pub(crate) error: &'a dyn ErrorValue,
}

impl Unhandled<'_> {
    /// Where the chain began: the call that created its first Deferred.
    #[must_use]
    pub fn created(&self) -> &'static Location<'static> {
        self.trail.created
    }

    /// Where the last callback was added: the end that nobody watched.
    #[must_use]
    pub fn last_added(&self) -> &'static Location<'static> {
        self.trail.last_added
    }

    /// Where the error arose, if it is a [`Failure`] and so knows. Of a panic it does not: the
    /// panic's own message has told that.
    #[must_use]
    pub fn failed(&self) -> Option<&'static Location<'static>> {
        self.failure()
            .filter(|_| !self.is_panic())
            .map(Failure::origin)
    }

    /// Whether it was a panic, in a callback of a chain or in whatever else a reactor calls.
    /// For a hook that ends the process then.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        let interrupted = self.error.as_any().downcast_ref();
        let interrupted = interrupted.or_else(|| self.failure()?.downcast_ref());
        matches!(interrupted, Some(Interrupted::Panicked { .. }))
    }

    /// The error, if it is a [`Failure`].
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.error.as_any().downcast_ref()
    }

    /// The error's text.
    #[must_use]
    pub fn message(&self) -> String {
        // A Display that panics must not turn a report into a crash.
        catch_unwind(AssertUnwindSafe(|| self.error.to_string())).unwrap_or_else(|payload| {
            format!("(its Display: {})", Interrupted::from_panic(&*payload))
        })
    }
}

impl fmt::Display for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Chain => write!(f, "unhandled failure in a Deferred: {}", self.message())?,
            Place::Call => f.write_str(&self.message())?,
            Place::Named(what) => write!(f, "{what}: {}", self.message())?,
        }
        // Of a call, whoever made it says so, and that is no place to look at.
        let failed = self.failed().filter(|_| !matches!(self.place, Place::Call));
        if let Some(failed) = failed {
            write!(f, "; failed at {failed}")?;
        }
        match self.place {
            Place::Chain => write!(f, "; created at {}", self.created())?,
            _ => write!(f, "; asked for at {}", self.created())?,
        }
        if self.last_added() != self.created() {
            write!(f, "; last callback added at {}", self.last_added())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Replaces this thread's report of unhandled failures.
///
/// `hook` is called from the drop of the Deferred concerned, so it may run
/// inside any callback; it may use Deferreds itself. The hook that was there
/// before comes back when the returned guard is dropped. A panic in a hook is
/// caught, and the failure then reported the default way.
///
/// Without a hook, a failure goes to `tracing` at error level, or to standard
/// error in a program that has no `tracing` subscriber: never to nowhere.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use torsade_deferred::{Deferred, Failure, fail, unhandled};
///
/// let seen = Rc::new(Cell::new(0));
/// let counter = Rc::clone(&seen);
/// let guard = unhandled::set_hook(move |report| {
///     assert_eq!(report.message(), "disk on fire");
///     counter.set(counter.get() + 1);
/// });
/// drop(fail::<(), Failure>(Failure::message("disk on fire")));
/// assert_eq!(seen.get(), 1);
/// drop(guard);
/// ```
pub fn set_hook(hook: impl Fn(&Unhandled<'_>) + 'static) -> HookGuard {
    let previous = HOOK.with(|current| current.replace(Some(Rc::new(hook))));
    HookGuard { previous }
}

/// Brings the previous hook back when it is dropped; see [`set_hook`].
#[must_use = "dropping the guard removes the hook"]
pub struct HookGuard {
    previous: Option<Hook>,
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        let previous = self.previous.take();
        // The hook that leaves may own anything, so it is dropped outside the cell.
        let leaving = HOOK.try_with(|current| current.replace(previous));
        drop(leaving);
    }
}

impl fmt::Debug for HookGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookGuard").finish_non_exhaustive()
    }
}

type Hook = Rc<dyn Fn(&Unhandled<'_>)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Where a chain began, and where it was last added to.
#[derive(Clone, Copy)]
pub(crate) struct Trail {
    pub(crate) created: &'static Location<'static>,
    pub(crate) last_added: &'static Location<'static>,
}

impl Trail {
    pub(crate) fn begin(place: &'static Location<'static>) -> Self {
        Self {
            created: place,
            last_added: place,
        }
    }

    pub(crate) fn then(self, place: &'static Location<'static>) -> Self {
        Self {
            created: self.created,
            last_added: place,
        }
    }
}

/// An error that can be shown and recognised.
pub(crate) trait ErrorValue: fmt::Display {
    fn as_any(&self) -> &dyn Any;
}

impl<E: fmt::Display + 'static> ErrorValue for E {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a failure happened in.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Chain,
    /// A call that was asked for.
    Call,
    /// Something that has a name, such as the answer to a request.
    Named(&'a str),
}

/// Reports a failure that belongs to no Deferred but to something that was asked for there, which
/// [`Unhandled::created`] gives.
/// For reactors, which catch the panics of the calls that they make.
#[cold]
pub fn report_failure(failure: &Failure, asked_for: &'static Location<'static>) {
    report_in(Place::Call, failure, Trail::begin(asked_for));
}

/// The same, of something that has a name: `"GET /orders"`. It stands before the message.
#[cold]
pub fn report_failure_of(what: &str, failure: &Failure, asked_for: &'static Location<'static>) {
    report_in(Place::Named(what), failure, Trail::begin(asked_for));
}

#[cold]
pub(crate) fn report(error: &dyn ErrorValue, trail: Trail) {
    report_in(Place::Chain, error, trail);
}

fn report_in(place: Place<'_>, error: &dyn ErrorValue, trail: Trail) {
    let unhandled = Unhandled {
        place,
        trail,
        error,
    };
    // Detach, then call: a hook may set another hook. No hook is to be had while
    // the thread's locals are being destroyed.
    let hook = HOOK.try_with(|hook| hook.borrow().clone()).ok().flatten();
    if let Some(hook) = hook
        && catch_unwind(AssertUnwindSafe(|| hook(&unhandled))).is_ok()
    {
        return;
    }
    report_by_default(&unhandled);
}

fn report_by_default(unhandled: &Unhandled<'_>) {
    say(&unhandled.to_string());
}

/// Reports a wake that came from another thread to a task without a way home.
#[cold]
pub(crate) fn report_stranded() {
    say(
        "a task was woken from another thread and has no way home (see Deferred::from_future_with); \
         it sleeps until something wakes it on its own thread",
    );
}

fn say(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(target: "torsade", "{text}");
    } else {
        #[expect(
            clippy::print_stderr,
            reason = "with no subscriber, the alternative is silence"
        )]
        {
            eprintln!("torsade: {text}");
        }
    }
}
