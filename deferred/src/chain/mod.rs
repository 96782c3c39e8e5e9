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

mod link;
mod root;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::{Rc, Weak};
use std::task::Waker;

use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{ChainError, Interrupted};
use crate::links::Links;
use crate::unhandled::{self, Trail};

pub(crate) use self::link::Link;
pub(crate) use self::root::{Root, Stop};

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

    /// The waiting end was dropped, and with it goes whoever polled it. For a node that
    /// somebody else keeps alive as well: it is not to keep a result that nobody will take.
    fn forsake(&self);

    /// Whether it has its result, or will run `step` when it has.
    fn is_for(&self, step: *const ()) -> bool;
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
    #[inline]
    pub(crate) fn new(result: Result<T, E>, trail: Trail) -> Self {
        Self {
            result: Some(result),
            trail,
        }
    }

    #[inline]
    pub(crate) fn claim(mut self) -> Result<T, E> {
        let result = self.result.take();
        // Nothing is left to drop or to report.
        mem::forget(self);
        result.expect("an outcome is claimed once, by value")
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

/// What a callback returned.
pub(crate) enum Returned<T, E: ChainError> {
    Result(Result<T, E>),
    /// To be waited for, or more than its result.
    Deferred(Deferred<T, E>),
}

impl<T: 'static, E: ChainError> Returned<T, E> {
    #[inline]
    pub(crate) fn of(value: impl IntoDeferred<E, Value = T>) -> Self {
        match value.into_deferred().into_fired() {
            Ok(result) => Self::Result(result),
            Err(deferred) => Self::Deferred(deferred),
        }
    }

    /// A Deferred of it; `trail` is for a mere result.
    pub(crate) fn into_deferred(self, trail: Trail) -> Deferred<T, E> {
        match self {
            Self::Result(result) => Deferred::fired(Outcome::new(result, trail)),
            Self::Deferred(deferred) => deferred,
        }
    }
}

/// Calls back into user code; a panic becomes the failure of the chain.
///
/// It goes down the chain, to whoever waits for the result, and not up to the
/// firer, who may be a stranger: the lock that was released, the connection
/// whose data happened to complete somebody else's request.
pub(crate) fn call<I, T: 'static, E: ChainError>(
    callback: impl FnOnce(I) -> Returned<T, E>,
    input: I,
) -> Returned<T, E> {
    catch_unwind(AssertUnwindSafe(|| callback(input)))
        .unwrap_or_else(|payload| Returned::Result(Err(Interrupted::from_panic(&*payload).into())))
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

/// Whether `step` is next.
pub(crate) fn is_next(next: &Cell<Option<Rc<dyn Step>>>, step: *const ()) -> bool {
    let waiting = next.take();
    let is_it = waiting
        .as_ref()
        .is_some_and(|next| ptr::eq(Rc::as_ptr(next).cast::<()>(), step));
    next.set(waiting);
    is_it
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
