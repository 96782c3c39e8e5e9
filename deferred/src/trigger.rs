//! The firing end.

use std::fmt;
use std::mem;
use std::rc::Rc;

use crate::chain::{Root, Stop};
use crate::error::ChainError;
use crate::failure::Failure;

/// Fires a [`Deferred`](crate::Deferred), once: to fire consumes it.
///
/// Dropped without firing, it fails its Deferred, if that is still there, with
/// [`Interrupted::Abandoned`](crate::Interrupted::Abandoned), so that nothing waits
/// for ever. (Inside a callback of a running chain the failure is delivered when
/// that chain has come to its end.)
///
/// Firing twice, Twisted's `AlreadyCalledError`, does not compile:
///
/// ```compile_fail,E0382
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, deferred) = Deferred::<u32>::new();
/// trigger.callback(1);
/// trigger.callback(2); // error[E0382]: use of moved value: `trigger`
/// # drop::<Deferred<u32>>(deferred);
/// ```
#[must_use = "a trigger dropped without firing fails its Deferred"]
pub struct Trigger<T: 'static, E: ChainError = Failure> {
    /// `Some` until it is fired or linked.
    root: Option<Rc<Root<T, E>>>,
}

impl<T: 'static, E: ChainError> Trigger<T, E> {
    pub(crate) fn new(root: Rc<Root<T, E>>) -> Self {
        Self { root: Some(root) }
    }

    /// Fires with a value and runs the chain, now, on this stack frame.
    ///
    /// After a cancellation this does nothing, quietly.
    pub fn callback(self, value: T) {
        self.fire(Ok(value));
    }

    /// Fires with a failure and runs the chain, now, on this stack frame.
    ///
    /// After a cancellation this does nothing, quietly.
    #[track_caller]
    pub fn errback(self, error: impl Into<E>) {
        self.fire(Err(error.into()));
    }

    /// Fires with a result, whichever it is.
    pub fn fire(self, result: Result<T, E>) {
        self.into_root().fire(result);
    }

    /// Fires like [`fire`](Trigger::fire), but inside a running chain the rest waits
    /// until that chain has come to its end.
    ///
    /// Still before the call that fired that chain returns, and in the order of the calls.
    /// For places where one firing may lead to the next without end, as when a lock is
    /// handed over: the stack does not grow.
    pub fn fire_soon(self, result: Result<T, E>) {
        self.into_root().fire_soon(result);
    }

    /// Registers what stops the operation when its Deferred is cancelled.
    ///
    /// `hook` is called at most once, from inside `cancel`. It may fire this trigger,
    /// if it can reach it, or give it to
    /// [`chain_into`](crate::Deferred::chain_into); that result is then delivered instead of
    /// [`Interrupted::Cancelled`](crate::Interrupted::Cancelled), as is a panic. A
    /// second hook replaces the first. Firing drops it.
    ///
    /// The hook must not own the trigger's Deferred: the two would keep each other
    /// alive. Nor may it be the only owner of this trigger: then nobody is left who could
    /// fire or drop it, and until somebody cancels, its Deferred waits for ever.
    pub fn on_cancel(&self, hook: impl FnOnce() + 'static) {
        self.root().on_cancel(Stop::Hook(Box::new(hook)));
    }

    /// Registers what passes a cancellation on, for an operation that answers it
    /// in its own time.
    ///
    /// Unlike after [`on_cancel`](Trigger::on_cancel), the Deferred stays pending until
    /// this trigger is fired or dropped. `hook` is called from inside each `cancel` while
    /// that lasts, but never from inside itself; a panic in it becomes the failure. It
    /// replaces a hook that was there, and is dropped with the firing. A hook that cancels
    /// another Deferred with such a hook does that on this stack. What it must not own is
    /// said at [`on_cancel`](Trigger::on_cancel).
    pub fn forward_cancel(&self, hook: impl Fn() + 'static) {
        self.root().on_cancel(Stop::Forward(Rc::new(hook)));
    }

    /// Says whether somebody still waits for the result: false once it was
    /// cancelled, so that a long operation can stop early.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.root().is_open()
    }

    /// Says whether anything is left that would receive the result: the Deferred, or a
    /// callback behind it. A value fired at nobody is dropped.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.root.as_ref().is_some_and(Root::is_watched)
    }

    pub(crate) fn into_root(mut self) -> Rc<Root<T, E>> {
        let root = self.root.take();
        // Nothing is left to drop, and so it need not be looked for.
        mem::forget(self);
        root.expect("only the consuming methods take the root")
    }

    fn root(&self) -> &Root<T, E> {
        self.root
            .as_ref()
            .expect("only the consuming methods take the root")
    }
}

impl<T: 'static, E: ChainError> Drop for Trigger<T, E> {
    fn drop(&mut self) {
        // With nobody waiting, nothing was abandoned.
        if let Some(root) = self.root.take()
            && root.is_watched()
        {
            root.abandon();
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Trigger<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_open() {
            "not fired"
        } else {
            "cancelled"
        };
        write!(f, "Trigger({state}, created at {})", self.root().created())
    }
}
