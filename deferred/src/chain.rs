//! The nodes between a trigger and a Deferred, and the one loop that walks them.
//!
//! # Shape
//!
//! ```text
//!            next             next             next
//!   Root ───────────▶ Link ───────────▶ Link ───────────▶ Waker
//!    ▲                │  ▲              │
//!    └────────────────┘  └──────────────┘
//!          source              source
//! ```
//!
//! A node knows the one after it (`next`, to be run when the node has its
//! result) and the one before it (`source`, from which it pulls its input and
//! through which a cancellation travels up). Both links go when a node runs,
//! so a chain that fires frees itself node by node.
//!
//! A callback that leaves the types of a chain as they are is no node: it hangs on the one
//! before it, see `links.rs`.
//!
//! A callback that returns a pending Deferred makes its node a mere passage. A
//! passage is taken out of the line as soon as somebody stands after it: the
//! next node asks for the result, is told [`Taken::Moved`], and stands behind
//! the new source itself. So a chain that for ever returns itself stays as long
//! as it was.
//!
//! # Order
//!
//! Nodes run from the trigger outwards, each once, before the call that fired
//! returns. No recursion: [`run`] is a loop, and so are cancelling, adopting
//! and being dropped.
//!
//! # Invariants
//!
//! State lives in `Cell`s and is taken out while user code runs, so nothing is
//! ever borrowed there: whatever a callback does to its own chain finds the node
//! in state `Running`, in which there is nothing to cancel and nothing to take.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::rc::{Rc, Weak};
use std::task::Waker;

use crate::deferred::Deferred;
use crate::error::{ChainError, Interrupted};
use crate::links::{Driven, Links};
use crate::unhandled::{self, Trail};

/// Something that waits for the node before it.
pub(crate) trait Step {
    /// Does what was waited for, and says who is to go on.
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>>;

    /// Who waits for this one. Looks only; for the search for cycles.
    fn downstream(&self) -> Option<Rc<dyn Step>>;
}

/// Something that will have a result: what is the same whatever its type.
pub(crate) trait Node {
    fn upstream(&self) -> Upstream;

    /// Cancels the operation, if this is where the chain begins.
    fn cancel(self: Rc<Self>, reason: Interrupted);

    fn trail(&self) -> Trail;

    fn is_done(&self) -> bool;

    /// The waiting end was dropped. For a node that somebody else keeps alive as well: it
    /// is not to keep a result that nobody will take.
    fn forsake(&self) {}
}

/// Where a node gets its result from.
pub(crate) enum Upstream {
    /// From the node before it.
    Node(Rc<dyn Node>),
    /// From outside: the chain begins here, with a trigger or a task.
    Operation,
    /// It has one, but is paused.
    Held,
    /// It has one, is making one at this moment, or had one.
    Settled,
}

/// Something that will have a result of these types.
pub(crate) trait Output<T, E: ChainError>: Node {
    fn take(&self) -> Taken<T, E>;

    /// Says who is to run when the result is there. At most one waits: a second
    /// call replaces the first.
    fn set_next(&self, next: Rc<dyn Step>);

    /// Nobody waits any more: who did was moved elsewhere.
    fn clear_next(&self);

    /// Where further callbacks of the same types may hang. While that is open the result
    /// is not to be had, and who adds to it need not ask.
    fn links(&self) -> Option<&Links<T, E>> {
        None
    }
}

/// The answer of a node that was asked for its result.
pub(crate) enum Taken<T, E: ChainError> {
    Outcome(Outcome<T, E>),
    /// The result will come from there; this node is no longer needed.
    Moved(Rc<dyn Output<T, E>>),
    Pending,
}

/// A result that nobody has claimed yet. Dropped as it is, a failure is
/// reported: this is the one place that notices.
pub(crate) struct Outcome<T, E: ChainError> {
    result: Option<Result<T, E>>,
    pub(crate) trail: Trail,
}

impl<T, E: ChainError> Outcome<T, E> {
    pub(crate) fn new(result: Result<T, E>, trail: Trail) -> Self {
        Self {
            result: Some(result),
            trail,
        }
    }

    pub(crate) fn claim(mut self) -> Result<T, E> {
        self.result
            .take()
            .expect("an outcome is claimed once, by value")
    }

    pub(crate) fn peek(&self) -> &Result<T, E> {
        self.result
            .as_ref()
            .expect("an outcome is claimed once, by value")
    }
}

impl<T, E: ChainError> Drop for Outcome<T, E> {
    fn drop(&mut self) {
        if let Some(Err(error)) = &self.result {
            unhandled::report(error, self.trail);
        }
    }
}

/// Calls back into user code; a panic becomes the failure of the chain.
///
/// It goes down the chain, to whoever waits for the result, and not up to the
/// firer, who may be a stranger: the lock that was released, the connection
/// whose data happened to complete somebody else's request.
pub(crate) fn call<I, T: 'static, E: ChainError>(
    callback: impl FnOnce(I) -> Deferred<T, E>,
    input: I,
    trail: Trail,
) -> Deferred<T, E> {
    match catch_unwind(AssertUnwindSafe(|| callback(input))) {
        Ok(deferred) => deferred,
        Err(payload) => {
            let error = Interrupted::from_panic(&*payload).into();
            Deferred::fired(Outcome::new(Err(error), trail))
        }
    }
}

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
//      │  └───chain_into───▶ Linked ◀──┼─────────┐ a callback returned a Deferred
//      └───────────fire────────────────┴──▶ Done ⇄ Running; Done ──take──▶ Taken
enum RootState<T, E: ChainError> {
    /// Nobody fired; what stops the operation, if anything does.
    Pending(Option<Stop>),
    /// What stops the operation is running, and may yet fire.
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
            RootState::Pending(stop) => {
                let this = Rc::clone(&self) as Rc<dyn Step>;
                if waits_for(&source, &this) {
                    self.state.set(RootState::Pending(stop));
                    let error = Interrupted::Abandoned {
                        created: self.trail.created,
                    };
                    return self.fire(Err(error.into()));
                }
                source.set_next(this);
                self.state.set(RootState::Linked(source));
                drop(stop);
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

    /// Whether anything but the trigger, which holds it, is left of the chain.
    pub(crate) fn is_watched(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1 || !self.links.is_empty()
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
    fn drive(self: &Rc<Self>, result: Deferred<T, E>) -> Option<Rc<dyn Step>> {
        match self.links.drive(result, self, self.trail) {
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
        if self.is_done() {
            drop(self.take());
        }
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
            RootState::Done(outcome) => self.drive(Deferred::fired(outcome)),
            RootState::Linked(source) => match pull(source, &(Rc::clone(&self) as Rc<dyn Step>)) {
                Pulled::Outcome(outcome) => self.drive(Deferred::fired(outcome)),
                Pulled::Waiting(source) => {
                    self.state.set(RootState::Linked(source));
                    None
                }
            },
            _ => unreachable!("a root runs only when it was fired or waits for another node"),
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        peek(&self.next)
    }
}

/// One callback that waits for its turn.
pub(crate) struct Link<I, IE: ChainError, T, E: ChainError, F> {
    state: Cell<LinkState<I, IE, T, E, F>>,
    links: Links<T, E>,
    next: Cell<Option<Rc<dyn Step>>>,
    trail: Trail,
}

//   Input ──run──▶ Running ──▶ Done ──take──▶ Taken
//                    │           ▲
//                    └─▶ Inner ──┘     Inner ──take──▶ Taken: "moved"
enum LinkState<I, IE: ChainError, T, E: ChainError, F> {
    /// Waits for the node before it, with the callback.
    Input(Rc<dyn Output<I, IE>>, F),
    /// The callback is on the stack.
    Running,
    /// The callback returned a Deferred that is still pending.
    Inner(Rc<dyn Output<T, E>>),
    Done(Outcome<T, E>),
    Taken,
}

impl<I, IE, T, E, F> Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Deferred<T, E> + 'static,
{
    /// Puts a callback behind a pending node: the one allocation of a link.
    pub(crate) fn after(
        source: Rc<dyn Output<I, IE>>,
        place: &'static Location<'static>,
        callback: F,
    ) -> Rc<dyn Output<T, E>> {
        let trail = source.trail().then(place);
        let state = Cell::new(LinkState::Input(Rc::clone(&source), callback));
        let link = Rc::new(Self {
            state,
            links: Links::new(),
            next: Cell::new(None),
            trail,
        });
        source.set_next(Rc::clone(&link) as Rc<dyn Step>);
        link
    }

    /// Goes on with what the callback returned: through the callbacks that hang here, to
    /// whoever waits.
    fn drive(self: &Rc<Self>, returned: Deferred<T, E>) -> Option<Rc<dyn Step>> {
        match self.links.drive(returned, self, self.trail) {
            Driven::Outcome(outcome) => {
                self.state.set(LinkState::Done(outcome));
                self.next.take()
            }
            Driven::Waiting(source) => {
                self.state.set(LinkState::Inner(source));
                // Whoever waits here already is to stand behind the source itself.
                if !self.links.is_open() {
                    self.next.take()
                } else {
                    None
                }
            }
        }
    }
}

impl<I, IE, T, E, F> Node for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Deferred<T, E> + 'static,
{
    fn upstream(&self) -> Upstream {
        let state = self.state.replace(LinkState::Taken);
        let upstream = match &state {
            LinkState::Input(source, _) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            LinkState::Inner(source) => Upstream::Node(Rc::clone(source) as Rc<dyn Node>),
            LinkState::Running | LinkState::Done(_) | LinkState::Taken => Upstream::Settled,
        };
        self.state.set(state);
        upstream
    }

    fn cancel(self: Rc<Self>, _: Interrupted) {
        // A link is cancelled through its source.
    }

    fn trail(&self) -> Trail {
        self.links.trail(self.trail)
    }

    fn is_done(&self) -> bool {
        let state = self.state.replace(LinkState::Taken);
        let done = matches!(state, LinkState::Done(_));
        self.state.set(state);
        done
    }
}

impl<I, IE, T, E, F> Output<T, E> for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Deferred<T, E> + 'static,
{
    fn take(&self) -> Taken<T, E> {
        match self.state.replace(LinkState::Taken) {
            LinkState::Done(outcome) => Taken::Outcome(outcome),
            LinkState::Inner(source) if !self.links.is_open() => Taken::Moved(source),
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

impl<I, IE, T, E, F> Step for Link<I, IE, T, E, F>
where
    I: 'static,
    IE: ChainError,
    T: 'static,
    E: ChainError,
    F: FnOnce(Result<I, IE>) -> Deferred<T, E> + 'static,
{
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        let this = Rc::clone(&self) as Rc<dyn Step>;
        match self.state.replace(LinkState::Running) {
            LinkState::Input(source, callback) => match pull(source, &this) {
                // Detach, then call: the callback is on the stack, the node says so.
                Pulled::Outcome(outcome) => self.drive(call(callback, outcome.claim(), self.trail)),
                Pulled::Waiting(source) => {
                    self.state.set(LinkState::Input(source, callback));
                    None
                }
            },
            LinkState::Inner(source) => match pull(source, &this) {
                Pulled::Outcome(outcome) => self.drive(Deferred::fired(outcome)),
                Pulled::Waiting(source) => {
                    self.state.set(LinkState::Inner(source));
                    None
                }
            },
            LinkState::Running | LinkState::Done(_) | LinkState::Taken => {
                unreachable!("a node runs only while it waits for its source")
            }
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        peek(&self.next)
    }
}

/// The last step of a chain that a future waits for.
pub(crate) struct Wake {
    waker: Cell<Option<Waker>>,
}

impl Wake {
    pub(crate) fn step(waker: Waker) -> Rc<dyn Step> {
        Rc::new(Self {
            waker: Cell::new(Some(waker)),
        })
    }
}

impl Step for Wake {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        None
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        None
    }
}

pub(crate) enum Pulled<T, E: ChainError> {
    Outcome(Outcome<T, E>),
    Waiting(Rc<dyn Output<T, E>>),
}

/// Takes the source's result, or stands behind whoever will have it.
pub(crate) fn pull<T, E: ChainError>(
    mut source: Rc<dyn Output<T, E>>,
    this: &Rc<dyn Step>,
) -> Pulled<T, E> {
    loop {
        match source.take() {
            Taken::Outcome(outcome) => return Pulled::Outcome(outcome),
            Taken::Moved(further) => {
                further.set_next(Rc::clone(this));
                source = further;
            }
            Taken::Pending => return Pulled::Waiting(source),
        }
    }
}

/// Whether `source` gets its result, in the end, from `step`.
///
/// Walks up from the one and down from the other at the same time and stops at
/// the first end: a cycle has both ways the same length, and either of them alone
/// may be a million nodes long.
pub(crate) fn waits_for<T, E: ChainError>(
    source: &Rc<dyn Output<T, E>>,
    step: &Rc<dyn Step>,
) -> bool {
    let goal = Rc::as_ptr(step).cast::<()>();
    let mut up = Rc::clone(source) as Rc<dyn Node>;
    let mut down = Rc::clone(step);
    loop {
        if ptr::eq(Rc::as_ptr(&up).cast::<()>(), goal) {
            return true;
        }
        let (Upstream::Node(above), Some(below)) = (up.upstream(), down.downstream()) else {
            return false;
        };
        up = above;
        down = below;
    }
}

pub(crate) fn peek(next: &Cell<Option<Rc<dyn Step>>>) -> Option<Rc<dyn Step>> {
    let step = next.take();
    next.set(step.clone());
    step
}

/// Cancels the operation that `node` waits for: walks up to the innermost
/// Deferred that has not fired.
pub(crate) fn cancel(node: Rc<dyn Node>, reason: Interrupted) {
    if let Innermost::Operation(operation) = innermost(node) {
        operation.cancel(reason);
    }
}

/// What a chain comes down to when one asks why it has not fired.
pub(crate) enum Innermost {
    Operation(Rc<dyn Node>),
    Held,
    Settled,
}

/// Walks up to what `node` waits for in the end.
pub(crate) fn innermost(mut node: Rc<dyn Node>) -> Innermost {
    loop {
        match node.upstream() {
            Upstream::Node(above) => node = above,
            Upstream::Operation => return Innermost::Operation(node),
            Upstream::Held => return Innermost::Held,
            Upstream::Settled => return Innermost::Settled,
        }
    }
}

/// Where a chain's [`Canceller`](crate::Canceller)s find its end.
pub(crate) struct Cursor {
    end: RefCell<Option<Weak<dyn Node>>>,
}

impl Cursor {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            end: RefCell::new(None),
        })
    }

    pub(crate) fn point_to(&self, end: Option<Rc<dyn Node>>) {
        let weak = end.as_ref().map(Rc::downgrade);
        // Neither a replaced `Weak` nor `end`, which its caller still holds, runs
        // user code here.
        self.end.replace(weak);
    }

    /// Whether a canceller exists, or the caller holds the only handle.
    pub(crate) fn is_used(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }

    pub(crate) fn end(&self) -> Option<Rc<dyn Node>> {
        self.end.borrow().as_ref().and_then(Weak::upgrade)
    }
}

/// Runs a chain from here to its end, or to the first Deferred that it must
/// wait for; then whatever was put off meanwhile.
pub(crate) fn run(first: Rc<dyn Step>) {
    let _level = Level::enter();
    walk(first);
    while let Some(step) = PUT_OFF
        .try_with(|steps| steps.borrow_mut().pop_front())
        .ok()
        .flatten()
    {
        walk(step);
    }
}

/// Runs a chain: at once if none is running on this thread, else when the innermost
/// [`run`] has come to its end, before it returns.
///
/// For what this crate fires by itself (a dropped trigger, a lock handed over),
/// where one thing may lead to the next a million times.
pub(crate) fn run_soon(step: Rc<dyn Step>) {
    if !RUNNING.try_with(Cell::get).unwrap_or(false) {
        return run(step);
    }
    let mut step = Some(step);
    // While the thread's locals are being destroyed there is no queue: run at once.
    if PUT_OFF
        .try_with(|steps| steps.borrow_mut().extend(step.take()))
        .is_err()
    {
        step.into_iter().for_each(run);
    }
}

fn walk(first: Rc<dyn Step>) {
    let mut next = Some(first);
    while let Some(step) = next {
        next = step.run();
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// What the innermost [`run`] has yet to do.
    static PUT_OFF: RefCell<VecDeque<Rc<dyn Step>>> = const { RefCell::new(VecDeque::new()) };
}

/// Held by each [`run`]. One inside another has its own list of what was put off, so
/// that it has done all of it when it returns.
struct Level {
    /// Of the run around this one, if there is one.
    put_off: Option<VecDeque<Rc<dyn Step>>>,
}

impl Level {
    fn enter() -> Self {
        let is_inside = RUNNING
            .try_with(|running| running.replace(true))
            .unwrap_or(false);
        let put_off = if is_inside {
            PUT_OFF.try_with(RefCell::take).ok()
        } else {
            None
        };
        Self { put_off }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        match self.put_off.take() {
            Some(mut outer) => {
                // A drop in a value of the chain may have panicked: what is left then runs
                // with the run around this one.
                let _ = PUT_OFF.try_with(|steps| {
                    let mut steps = steps.borrow_mut();
                    outer.append(&mut steps);
                    *steps = outer;
                });
            }
            // Here it runs with the next.
            None => drop(RUNNING.try_with(|running| running.set(false))),
        }
    }
}
