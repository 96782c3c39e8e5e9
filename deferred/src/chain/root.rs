//! The beginning of a chain: what a trigger fires.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use super::{
    Node, Outcome, Output, Pulled, Returned, Step, Taken, Upstream, is_next, peek, pull, run,
    run_soon, waits_for,
};
use crate::error::{ChainError, Interrupted};
use crate::links::{Driven, Links};
use crate::unhandled::Trail;

/// The beginning of a chain: what a trigger fires.
pub(crate) struct Root<T, E: ChainError> {
    state: Cell<RootState<T, E>>,
    links: Links<T, E>,
    next: Cell<Option<Rc<dyn Step>>>,
    trail: Trail,
    /// Nobody will take the result, unless there is a `next`.
    is_forsaken: Cell<bool>,
}

//   Pending ◀─forwarded─▶ Cancelling ──┐
//      │  └───chain_into────┴──▶ Linked ◀┼───────┐ a callback returned a Deferred
//      └───────────fire────────────────┴──▶ Done ⇄ Running; Done ──take──▶ Taken
enum RootState<T, E: ChainError> {
    /// Nobody fired; what stops the operation, if anything does.
    Pending(Option<Stop>),
    /// What stops the operation is running, and may yet fire, or hand it on.
    Cancelling {
        /// Its trigger was dropped meanwhile, so nobody else ever will.
        abandoned: bool,
    },
    /// Another chain's result is to be this one's.
    Linked(Rc<dyn Output<T, E>>),
    /// A callback that hangs here is on the stack.
    Running,
    /// Fired: with the result, or with what the first callback that hangs here gets.
    Done(Outcome<T, E>),
    Taken,
}

/// What a cancellation does to an operation.
pub(crate) enum Stop {
    /// Stops it; it then fails, unless this fires it.
    Hook(Box<dyn FnOnce()>),
    /// Passes the wish on; the operation fires when it has obeyed.
    Forward(Rc<dyn Fn()>),
}

impl<T: 'static, E: ChainError> Root<T, E> {
    pub(crate) fn new(place: &'static Location<'static>) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(RootState::Pending(None)),
            links: Links::new(),
            next: Cell::new(None),
            trail: Trail::begin(place),
            is_forsaken: Cell::new(false),
        })
    }

    /// Fires, unless a cancellation was faster; then the result goes nowhere.
    pub(crate) fn fire(self: &Rc<Self>, result: Result<T, E>) {
        if let Some(next) = self.settle(result) {
            run(next);
        }
    }

    /// Fires like [`fire`](Self::fire), but inside a running chain the rest waits for
    /// that chain's end.
    pub(crate) fn fire_soon(self: &Rc<Self>, result: Result<T, E>) {
        if let Some(next) = self.settle(result) {
            run_soon(next);
        }
    }

    /// Fires because the trigger was dropped. Inside a running chain this waits
    /// for that chain's end: triggers that own triggers may be dropped to any depth.
    pub(crate) fn abandon(self: &Rc<Self>) {
        match self.state.replace(RootState::Taken) {
            RootState::Pending(stop) => {
                self.state.set(RootState::Pending(stop));
                self.fire_soon(Err(Interrupted::Abandoned {
                    created: self.trail.created,
                }
                .into()));
            }
            // The operation was stopped, and its trigger went with it: `cancel`
            // says what that means when its hook returns.
            RootState::Cancelling { .. } => {
                self.state.set(RootState::Cancelling { abandoned: true })
            }
            other => self.state.set(other),
        }
    }

    /// Makes the other chain's result this one's.
    pub(crate) fn link(self: Rc<Self>, source: Rc<dyn Output<T, E>>) {
        match self.state.replace(RootState::Taken) {
            // While what stops the operation is running, it may hand it on.
            previous @ (RootState::Pending(_) | RootState::Cancelling { .. }) => {
                let this = Rc::clone(&self) as Rc<dyn Step>;
                if waits_for(&source, &this) {
                    self.state.set(previous);
                    let error = Interrupted::Abandoned {
                        created: self.trail.created,
                    };
                    return self.fire(Err(error.into()));
                }
                source.set_next(this);
                self.state.set(RootState::Linked(source));
                // User code may run in the drop of a hook.
                drop(previous);
                // Somebody waits here already: let them stand behind the source.
                if self.links.close_if_empty()
                    && let Some(next) = self.next.take()
                {
                    run(next);
                }
            }
            other => self.state.set(other),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.replace(RootState::Taken);
        let open = matches!(state, RootState::Pending(_) | RootState::Cancelling { .. });
        self.state.set(state);
        open
    }

    /// Whether anything but the trigger, which holds it, is left of the chain. (A task may
    /// hold a node a little longer than it waits for it.)
    pub(crate) fn is_watched(self: &Rc<Self>) -> bool {
        (Rc::strong_count(self) > 1 && !self.is_forsaken.get()) || !self.links.is_empty()
    }

    pub(crate) fn created(&self) -> &'static Location<'static> {
        self.trail.created
    }

    pub(crate) fn on_cancel(&self, stop: Stop) {
        let replaced = match self.state.replace(RootState::Taken) {
            RootState::Pending(replaced) => {
                self.state.set(RootState::Pending(Some(stop)));
                replaced
            }
            other => {
                self.state.set(other);
                Some(stop)
            }
        };
        // User code may run in the drop of a hook, so it comes last.
        drop(replaced);
    }

    /// Takes the result in, and says who is to go on with it.
    fn settle(self: &Rc<Self>, result: Result<T, E>) -> Option<Rc<dyn Step>> {
        let previous = self.state.replace(RootState::Taken);
        match previous {
            RootState::Pending(_) | RootState::Cancelling { .. } => {
                self.state
                    .set(RootState::Done(Outcome::new(result, self.trail)));
                // User code may run in the drop of the hook, so it comes last.
                drop(previous);
                if self.links.close_if_empty() {
                    self.pass_on()
                } else {
                    Some(Rc::clone(self) as Rc<dyn Step>)
                }
            }
            other => {
                self.state.set(other);
                None
            }
        }
    }
}

impl<T: 'static, E: ChainError> Root<T, E> {
    fn drive(self: &Rc<Self>, outcome: Outcome<T, E>) -> Option<Rc<dyn Step>> {
        match self
            .links
            .drive(Returned::Result(outcome.claim()), self, self.trail)
        {
            Driven::Outcome(outcome) => {
                self.state.set(RootState::Done(outcome));
                self.pass_on()
            }
            Driven::Waiting(source) => {
                self.state.set(RootState::Linked(source));
                if !self.links.is_open() {
                    self.next.take()
                } else {
                    None
                }
            }
        }
    }

    /// Who takes the result that is here; if nobody ever will, it is dropped.
    fn pass_on(&self) -> Option<Rc<dyn Step>> {
        let next = self.next.take();
        if next.is_none() && self.is_forsaken.get() {
            drop(self.take());
        }
        next
    }
}

impl<T: 'static, E: ChainError> Node for Root<T, E> {
    fn upstream(&self) -> Upstream {
        let state = self.state.replace(RootState::Taken);
        let upstream = match &state {
            RootState::Pending(_) => Upstream::Operation,
            RootState::Linked(source) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            RootState::Cancelling { .. }
            | RootState::Running
            | RootState::Done(_)
            | RootState::Taken => Upstream::Settled,
        };
        self.state.set(state);
        upstream
    }

    fn cancel(self: Rc<Self>, reason: Interrupted) {
        let stop = match self
            .state
            .replace(RootState::Cancelling { abandoned: false })
        {
            RootState::Pending(stop) => stop,
            other => return self.state.set(other),
        };
        let (stopped, forward) = match stop {
            None => (Ok(()), None),
            Some(Stop::Hook(hook)) => (catch_unwind(AssertUnwindSafe(hook)), None),
            Some(Stop::Forward(forward)) => {
                (catch_unwind(AssertUnwindSafe(|| forward())), Some(forward))
            }
        };
        let reason = match (stopped, forward) {
            (Err(payload), _) => Interrupted::from_panic(&*payload),
            (Ok(()), None) => reason,
            (Ok(()), Some(forward)) => match self.state.replace(RootState::Taken) {
                RootState::Cancelling { abandoned: false } => {
                    return self
                        .state
                        .set(RootState::Pending(Some(Stop::Forward(forward))));
                }
                other => {
                    self.state.set(other);
                    reason
                }
            },
        };
        self.fire(Err(reason.into()));
    }

    fn trail(&self) -> Trail {
        self.links.trail(self.trail)
    }

    fn is_done(&self) -> bool {
        let state = self.state.replace(RootState::Taken);
        let done = matches!(state, RootState::Done(_));
        self.state.set(state);
        done && !self.links.is_open()
    }

    fn forsake(&self) {
        self.is_forsaken.set(true);
        drop(self.next.take());
        if self.is_done() {
            drop(self.take());
        }
    }

    fn is_for(&self, step: *const ()) -> bool {
        is_next(&self.next, step) || self.is_done()
    }
}

impl<T: 'static, E: ChainError> Output<T, E> for Root<T, E> {
    fn take(&self) -> Taken<T, E> {
        match self.state.replace(RootState::Taken) {
            RootState::Done(outcome) if !self.links.is_open() => Taken::Outcome(outcome),
            RootState::Linked(source) if !self.links.is_open() => Taken::Moved(source),
            other => {
                self.state.set(other);
                Taken::Pending
            }
        }
    }

    fn set_next(&self, next: Rc<dyn Step>) {
        drop(self.next.replace(Some(next)));
    }

    fn clear_next(&self) {
        drop(self.next.take());
    }

    fn links(&self) -> Option<&Links<T, E>> {
        Some(&self.links)
    }
}

impl<T: 'static, E: ChainError> Step for Root<T, E> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        match self.state.replace(RootState::Running) {
            RootState::Done(outcome) => self.drive(outcome),
            RootState::Linked(source) => match pull(source, &(Rc::clone(&self) as Rc<dyn Step>)) {
                Pulled::Outcome(outcome) => self.drive(outcome),
                Pulled::Waiting(source) => {
                    self.state.set(RootState::Linked(source));
                    None
                }
            },
            // Its turn was put off, and meanwhile its source was asked directly.
            other => {
                self.state.set(other);
                None
            }
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        peek(&self.next)
    }
}
