//! An `async` block as a Deferred.
//!
//! # Shape
//!
//! A [`Task`] is a node like any other: it waits for the node of the Deferred
//! that its body awaits, and whoever waits for the body's result stands behind it.
//! So it resumes on the stack of whoever fires, takes no waker and no allocation to
//! do so, is cancelled through what it awaits, and any number of tasks that
//! await one another are one line, walked by one loop.
//!
//! # Wakers
//!
//! A body may await futures that are not ours; these want a waker. It is lent from
//! a small stock for the time of the poll. Only if a future kept a clone does the
//! task keep that waker and enter its thread's register, where a wake finds it.
//!
//! A wake on the task's own thread resumes it at once, or at the end of the chain that
//! is running. From another thread it must be carried home; that is the job of
//! whoever has a loop, see [`Deferred::from_future_with`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, RawWakerVTable, Wake, Waker};
use std::thread::{self, ThreadId};

use crate::chain::{self, Node, Outcome, Output, Step, Taken, Upstream};
use crate::deferred::Deferred;
use crate::error::{ChainError, Interrupted};
use crate::unhandled::{self, Trail};

/// Carries a [`Resume`] to the thread of its task; see
/// [`Deferred::from_future_with`].
pub type WakeHome = Arc<dyn Fn(Resume) + Send + Sync>;

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Runs an `async` block, whose result becomes this Deferred's.
    ///
    /// The body starts at once, inside this call, and runs up to the first Deferred
    /// that has not fired. It goes on inside the call that fires that one. A panic in
    /// it becomes the failure, as in a callback. Twisted's `Deferred.fromCoroutine`,
    /// `ensureDeferred` and `inlineCallbacks`.
    ///
    /// Dropping the Deferred does not stop the body: it runs to its end, and a failure
    /// of it is then reported.
    ///
    /// # Other futures
    ///
    /// The body may also await futures that are no Deferreds. A wake on this thread resumes
    /// it inside that wake, or at the end of the chain that is running: there is no loop here
    /// that could do so later. That is for futures which wake when all else is done. Those
    /// which wake while they hold a lock of their own, as `futures::lock::Mutex` and
    /// `event-listener` do, would have the body ask for that lock again: a deadlock of one
    /// thread. For these, and for those that are woken on other threads, there is the `spawn`
    /// of a reactor, which resumes in its next turn, or
    /// [`from_future_with`](Deferred::from_future_with).
    ///
    /// # Cancellation
    ///
    /// Cancels what the body awaits: the failure comes out of its `.await`, and the
    /// body may clean up, with further awaits, before it ends. A body that awaits no
    /// Deferred, but some other future, is dropped where it stands.
    ///
    /// A Deferred counts as awaited if it is polled with the waker of the body. Something that
    /// gives its futures wakers of its own, as `FuturesUnordered` does, is some other future:
    /// put Deferreds into it as [`cancel_on_drop`](Deferred::cancel_on_drop), and they are
    /// cancelled with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_deferred::{Deferred, Failure};
    ///
    /// let (trigger, number) = Deferred::<u32>::new();
    /// let sum = Deferred::<u32>::from_future(async move {
    ///     let number = number.await?;
    ///     Ok(number + 1)
    /// });
    /// trigger.callback(41);
    /// assert!(matches!(sum.into_result(), Ok(Ok(42))));
    /// ```
    #[track_caller]
    pub fn from_future(future: impl Future<Output = Result<T, E>> + 'static) -> Self {
        Task::start(Box::pin(future), None, Location::caller())
    }

    /// Like [`from_future`](Deferred::from_future), with a way home for wakes: for
    /// futures that are woken from anywhere.
    ///
    /// `wake_home` is called by each wake, on whatever thread it happens, also on the
    /// task's own, possibly under locks of whoever wakes. It should carry the
    /// [`Resume`] to the task's thread and have its loop run it, soon but not on the
    /// spot. A reactor passes its way of calling from a thread.
    #[track_caller]
    pub fn from_future_with(
        future: impl Future<Output = Result<T, E>> + 'static,
        wake_home: WakeHome,
    ) -> Self {
        Task::start(Box::pin(future), Some(wake_home), Location::caller())
    }
}

/// A task's wish to go on, on its way to the task's thread.
///
/// Dropped instead of run, this wake is lost and the next one sends another.
#[must_use = "the task sleeps until this is run"]
pub struct Resume {
    beacon: Arc<Beacon>,
    has_run: bool,
}

impl Resume {
    /// Polls the task, if it has not ended.
    ///
    /// # Errors
    ///
    /// Gives itself back on another thread than the task's own.
    pub fn run(mut self) -> Result<(), Self> {
        if thread::current().id() != self.beacon.thread {
            return Err(self);
        }
        if let Some(task) = self.beacon.task() {
            self.has_run = true;
            chain::run(task);
        }
        Ok(())
    }
}

impl Drop for Resume {
    fn drop(&mut self) {
        if !self.has_run {
            self.beacon.woken.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resume(a task of {:?})", self.beacon.thread)
    }
}

type Body<T, E> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// A body, or its result.
struct Task<T, E: ChainError> {
    state: Cell<TaskState<T, E>>,
    next: Cell<Option<Rc<dyn Step>>>,
    trail: Trail,
    /// The Deferreds that the body asked when it was polled last. Some of them it may have
    /// dropped or given away in the same poll; [`waits`](Task::waits) leaves those out.
    awaited: Cell<Waits>,
    /// Something that the body waits for fired while it ran.
    again: Cell<bool>,
    /// Nobody will take the result, unless there is a `next`.
    is_forsaken: Cell<bool>,
    /// The waker that is this task's own, because a future has a clone of it or because
    /// it knows the way home.
    lamp: Cell<Option<Lamp>>,
}

//   Asleep ──run──▶ Running ──▶ Done ──take──▶ Taken
//      ▲               │
//      └───── pending ─┘
enum TaskState<T, E: ChainError> {
    Asleep(Body<T, E>),
    Running,
    Done(Outcome<T, E>),
    Taken,
}

/// What a body waits for: nearly always one thing, so that one costs nothing.
#[derive(Default)]
enum Waits {
    #[default]
    Nothing,
    One(Rc<dyn Node>),
    Several(Vec<Rc<dyn Node>>),
}

/// A task, as the Deferreds see it that its body awaits.
pub(crate) trait Poller: Step {
    /// Notes that the body, which is being polled, waits for `node`.
    fn awaits(&self, node: Rc<dyn Node>);
}

impl<T: 'static, E: ChainError> Task<T, E> {
    fn start(
        body: Body<T, E>,
        wake_home: Option<WakeHome>,
        place: &'static Location<'static>,
    ) -> Deferred<T, E> {
        let task = Rc::new(Self {
            state: Cell::new(TaskState::Asleep(body)),
            next: Cell::new(None),
            trail: Trail::begin(place),
            awaited: Cell::new(Waits::Nothing),
            again: Cell::new(false),
            is_forsaken: Cell::new(false),
            lamp: Cell::new(wake_home.map(|home| Lamp::new(Some(home)))),
        });
        chain::run(Rc::clone(&task) as Rc<dyn Step>);
        match task.take() {
            Taken::Outcome(outcome) => Deferred::fired(outcome),
            _ => Deferred::waiting(task),
        }
    }

    /// Polls the body until it ends or must wait.
    fn go_on(self: &Rc<Self>, mut body: Body<T, E>) -> Option<Rc<dyn Step>> {
        loop {
            self.again.set(false);
            drop(self.awaited.take());
            body = match self.poll(body) {
                Polled::Ended(result) => {
                    self.state
                        .set(TaskState::Done(Outcome::new(result, self.trail)));
                    self.forget();
                    return self.next_or_nobody();
                }
                Polled::Pending(body) => body,
            };
            if !self.again.get() {
                break;
            }
        }
        self.state.set(TaskState::Asleep(body));
        None
    }

    fn poll(self: &Rc<Self>, mut body: Body<T, E>) -> Polled<T, E> {
        let lamp = match self.lamp.take() {
            Some(lamp) => {
                lamp.begin_poll();
                lamp
            }
            None => Lamp::lend(),
        };
        let polling = Polling::begin(Rc::clone(self) as Rc<dyn Poller>, &lamp.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = body.as_mut().poll(&mut Context::from_waker(&lamp.waker));
            match polled {
                Poll::Pending => Polled::Pending(body),
                Poll::Ready(result) => {
                    // In here, because a panic in this drop is one of the body's.
                    drop(body);
                    Polled::Ended(result)
                }
            }
        }));
        drop(polling);
        self.put_away(lamp, matches!(polled, Ok(Polled::Pending(_))));
        polled
            .unwrap_or_else(|payload| Polled::Ended(Err(Interrupted::from_panic(&*payload).into())))
    }

    /// Keeps the waker if somebody else has it as well, else puts it back.
    fn put_away(self: &Rc<Self>, lamp: Lamp, is_pending: bool) {
        if !lamp.is_cloned() {
            // Nobody will ask for this task. If its waker goes into the stock, those that
            // come are meant for the task that borrows it next.
            lamp.beacon.leave();
            return match lamp.beacon.wake_home {
                Some(_) => self.lamp.set(Some(lamp)),
                None => self.put_back(lamp, is_pending),
            };
        }
        if is_pending {
            let is_new = lamp.beacon.enter(self);
            // A wake before the register knew the task had nowhere to go but here.
            if is_new
                && lamp.beacon.wake_home.is_none()
                && lamp.beacon.woken.load(Ordering::Acquire)
            {
                chain::run_soon(Rc::clone(self) as Rc<dyn Step>);
            }
        }
        self.lamp.set(Some(lamp));
    }

    fn put_back(self: &Rc<Self>, lamp: Lamp, is_pending: bool) {
        let woken = lamp.beacon.woken.load(Ordering::Acquire);
        lamp.put_back();
        if is_pending && woken {
            chain::run_soon(Rc::clone(self) as Rc<dyn Step>);
        }
    }

    fn next_or_nobody(&self) -> Option<Rc<dyn Step>> {
        let next = self.next.take();
        if next.is_none() && self.is_forsaken.get() {
            drop(self.take());
        }
        next
    }

    /// Leaves the register, when the body has ended.
    fn forget(&self) {
        if let Some(lamp) = self.lamp.take() {
            lamp.beacon.leave();
        }
        drop(self.awaited.take());
    }

    /// The Deferreds that the body waits for.
    fn waits(&self) -> Waits {
        let this = ptr::from_ref(self).cast::<()>();
        let is_awaited = |node: &Rc<dyn Node>| node.is_for(this);
        let awaited = self.awaited.take();
        let waits = match &awaited {
            Waits::One(node) if is_awaited(node) => Waits::One(Rc::clone(node)),
            Waits::Nothing | Waits::One(_) => Waits::Nothing,
            Waits::Several(nodes) => {
                let mut nodes = nodes.iter().filter(|node| is_awaited(node)).cloned();
                match (nodes.next(), nodes.next()) {
                    (None, _) => Waits::Nothing,
                    (Some(one), None) => Waits::One(one),
                    (Some(one), Some(two)) => {
                        Waits::Several([one, two].into_iter().chain(nodes).collect())
                    }
                }
            }
        };
        self.awaited.set(awaited);
        waits
    }
}

enum Polled<T, E: ChainError> {
    Ended(Result<T, E>),
    Pending(Body<T, E>),
}

impl<T: 'static, E: ChainError> Poller for Task<T, E> {
    fn awaits(&self, node: Rc<dyn Node>) {
        self.awaited.set(match self.awaited.take() {
            Waits::Nothing => Waits::One(node),
            Waits::One(first) => Waits::Several(vec![first, node]),
            Waits::Several(mut nodes) => {
                nodes.push(node);
                Waits::Several(nodes)
            }
        });
    }
}

impl<T: 'static, E: ChainError> Step for Task<T, E> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Step>> {
        match self.state.replace(TaskState::Running) {
            TaskState::Asleep(body) => self.go_on(body),
            TaskState::Running => {
                self.again.set(true);
                None
            }
            // What a `select!` lost may fire long after the body has ended.
            ended @ (TaskState::Done(_) | TaskState::Taken) => {
                self.state.set(ended);
                None
            }
        }
    }

    fn downstream(&self) -> Option<Rc<dyn Step>> {
        chain::peek(&self.next)
    }
}

impl<T: 'static, E: ChainError> Node for Task<T, E> {
    fn upstream(&self) -> Upstream {
        let state = self.state.replace(TaskState::Taken);
        let upstream = match (&state, self.waits()) {
            (TaskState::Asleep(_), Waits::One(node)) => Upstream::Node(node),
            (TaskState::Asleep(_), Waits::Nothing | Waits::Several(_)) => Upstream::Operation,
            (TaskState::Running | TaskState::Done(_) | TaskState::Taken, _) => Upstream::Settled,
        };
        self.state.set(state);
        upstream
    }

    fn cancel(self: Rc<Self>, reason: Interrupted) {
        if let Waits::Several(nodes) = self.waits() {
            return nodes
                .into_iter()
                .for_each(|node| chain::cancel(node, reason.clone()));
        }
        let body = match self.state.replace(TaskState::Running) {
            TaskState::Asleep(body) => body,
            other => return self.state.set(other),
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(body)));
        let reason = dropped.map_or_else(|payload| Interrupted::from_panic(&*payload), |()| reason);
        self.state.set(TaskState::Done(Outcome::new(
            Err(reason.into()),
            self.trail,
        )));
        self.forget();
        if let Some(next) = self.next_or_nobody() {
            chain::run(next);
        }
    }

    fn trail(&self) -> Trail {
        self.trail
    }

    fn is_done(&self) -> bool {
        let state = self.state.replace(TaskState::Taken);
        let done = matches!(state, TaskState::Done(_));
        self.state.set(state);
        done
    }

    fn forsake(&self) {
        self.is_forsaken.set(true);
        drop(self.next.take());
        if self.is_done() {
            drop(self.take());
        }
    }

    fn is_for(&self, step: *const ()) -> bool {
        chain::is_next(&self.next, step) || self.is_done()
    }
}

impl<T: 'static, E: ChainError> Output<T, E> for Task<T, E> {
    fn take(&self) -> Taken<T, E> {
        match self.state.replace(TaskState::Taken) {
            TaskState::Done(outcome) => Taken::Outcome(outcome),
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
}

/// The task that is being polled on this thread, while this lives.
struct Polling {
    outer: Option<Current>,
}

struct Current {
    task: Rc<dyn Poller>,
    waker: *const (),
    vtable: &'static RawWakerVTable,
}

impl Polling {
    fn begin(task: Rc<dyn Poller>, waker: &Waker) -> Self {
        let polled = Current {
            task,
            waker: waker.data(),
            vtable: waker.vtable(),
        };
        Self {
            outer: POLLED
                .try_with(|current| current.replace(Some(polled)))
                .ok()
                .flatten(),
        }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let outer = self.outer.take();
        drop(POLLED.try_with(|current| current.replace(outer)));
    }
}

/// The task that is being polled, if `waker` is the one that it was polled with: then
/// what waits for that waker may as well wait for the task.
pub(crate) fn polled_with(waker: &Waker) -> Option<Rc<dyn Poller>> {
    POLLED
        .try_with(|current| {
            let polled = current.take()?;
            let is_its_own =
                ptr::eq(waker.data(), polled.waker) && ptr::eq(waker.vtable(), polled.vtable);
            let task = is_its_own.then(|| Rc::clone(&polled.task));
            current.set(Some(polled));
            task
        })
        .ok()
        .flatten()
}

thread_local! {
    static POLLED: Cell<Option<Current>> = const { Cell::new(None) };
    static STOCK: RefCell<Vec<Lamp>> = const { RefCell::new(Vec::new()) };
    /// The tasks that a waker can find, by their number.
    static REGISTER: RefCell<HashMap<u64, Rc<dyn Step>>> = RefCell::new(HashMap::new());
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// A waker, and what it does.
struct Lamp {
    beacon: Arc<Beacon>,
    waker: Waker,
}

impl Lamp {
    fn new(wake_home: Option<WakeHome>) -> Self {
        let beacon = Arc::new(Beacon {
            thread: thread::current().id(),
            number: AtomicU64::new(NOT_REGISTERED),
            woken: AtomicBool::new(false),
            stranded: AtomicBool::new(false),
            wake_home,
        });
        Self {
            waker: Waker::from(Arc::clone(&beacon)),
            beacon,
        }
    }

    fn lend() -> Self {
        let lent = STOCK
            .try_with(|stock| stock.borrow_mut().pop())
            .ok()
            .flatten();
        let lamp = lent.unwrap_or_else(|| Self::new(None));
        // Nobody else has it.
        lamp.beacon.woken.store(false, Ordering::Relaxed);
        lamp
    }

    fn put_back(self) {
        let mut lamp = Some(self);
        // A thread that is ending has no stock; the lamp is then dropped, here.
        let _ = STOCK.try_with(|stock| {
            let mut stock = stock.borrow_mut();
            if stock.len() < STOCK_MAX {
                stock.extend(lamp.take());
            }
        });
    }

    /// From here on a wake is a new one.
    fn begin_poll(&self) {
        let woken = &self.beacon.woken;
        if self.is_cloned() {
            // Takes over what was written before a wake that came second and so was none: it
            // counts on this poll to see that. A mere store would not do.
            woken.swap(false, Ordering::AcqRel);
        } else {
            woken.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a future kept a clone.
    fn is_cloned(&self) -> bool {
        // `beacon` and `waker`.
        Arc::strong_count(&self.beacon) > 2
    }
}

/// As many tasks as are usually being polled inside one another.
const STOCK_MAX: usize = 8;

const NOT_REGISTERED: u64 = 0;

/// The part of a task that every thread may touch.
struct Beacon {
    thread: ThreadId,
    /// Under which the task stands in its thread's register. Used by that thread only.
    number: AtomicU64,
    /// Since the poll began.
    woken: AtomicBool,
    /// A wake was lost, and this was reported.
    stranded: AtomicBool,
    wake_home: Option<WakeHome>,
}

impl Beacon {
    /// Registers the task, which then lives until it has ended. False if it is there.
    fn enter<T: 'static, E: ChainError>(&self, task: &Rc<Task<T, E>>) -> bool {
        if self.number.load(Ordering::Relaxed) != NOT_REGISTERED {
            return false;
        }
        let number = LAST_NUMBER.try_with(|last| {
            last.set(last.get() + 1);
            last.get()
        });
        // A thread that is ending has no register; its tasks can only be abandoned.
        let Ok(number) = number else { return false };
        let task = Rc::clone(task) as Rc<dyn Step>;
        let replaced = REGISTER.try_with(|register| register.borrow_mut().insert(number, task));
        drop(replaced);
        self.number.store(number, Ordering::Relaxed);
        true
    }

    #[inline]
    fn leave(&self) {
        let number = self.number.load(Ordering::Relaxed);
        if number != NOT_REGISTERED {
            self.leave_from(number);
        }
    }

    #[cold]
    fn leave_from(&self, number: u64) {
        self.number.store(NOT_REGISTERED, Ordering::Relaxed);
        // Dropped outside the borrow.
        drop(REGISTER.try_with(|register| register.borrow_mut().remove(&number)));
    }

    fn task(&self) -> Option<Rc<dyn Step>> {
        let number = self.number.load(Ordering::Relaxed);
        REGISTER
            .try_with(|register| register.borrow().get(&number).cloned())
            .ok()
            .flatten()
    }
}

impl Wake for Beacon {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(wake_home) = &self.wake_home {
            wake_home(Resume {
                beacon: Arc::clone(self),
                has_run: false,
            });
        } else if thread::current().id() == self.thread {
            // Not in the register while its first poll lasts; that looks at `woken`.
            if let Some(task) = self.task() {
                chain::run_soon(task);
            }
        } else if !self.stranded.swap(true, Ordering::Relaxed) {
            unhandled::report_stranded();
        }
    }
}
