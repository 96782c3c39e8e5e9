//! Long work in small steps, several at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

use torsade_deferred::{
    Canceller, Clock, Deferred, Failure, IntoDeferred, Scheduled, Shared, Trigger, maybe_deferred,
};

use super::timekeeper::Timekeeper;
use crate::panics;

/// How long a slice of work may take before the loop has its turn.
const SLICE: Duration = Duration::from_millis(10);

/// How many steps a slice has at most, also where no time passes, as in a test. Steps so
/// short that ten thousand fit into 10 ms cost less than asking for the time.
const STEPS_MAX: usize = 10_000;

/// Takes turns at iterators, a step of one, a step of the next, in slices that leave the
/// loop its time.
///
/// Work that would block the loop becomes an iterator that does a little in each `next`:
///
/// - an item `()` is a step done;
/// - an item `Err` ends the task with that failure;
/// - an item that is a Deferred is waited for, while the other tasks go on.
///
/// A cheap clone: another handle on the same tasks. Twisted's `task.Cooperator`.
///
/// # Order
///
/// One step per task and round; a new task joins at the end of the round. Nothing is
/// stepped from inside a call to this: the first step comes in a later turn. A slice is
/// one step at least, then as many as fit into 10 ms (see
/// [`set_slice`](Cooperator::set_slice)), and 10 000 at most. Nothing preempts a step.
///
/// # Reentrancy
///
/// Everything may be called from inside a step and from inside a callback of a task.
///
/// # Examples
///
/// ```
/// use torsade_deferred::gather_results;
/// use torsade_reactor::task::Cooperator;
/// use torsade_reactor::testing::virtual_time_reactor;
///
/// # fn main() -> Result<(), torsade_deferred::Failure> {
/// let reactor = virtual_time_reactor();
/// let cooperator = Cooperator::new(&reactor);
/// let odd = (1..=5).step_by(2).map(|n| println!("{n}"));
/// let even = (2..=4).step_by(2).map(|n| println!("{n}"));
/// let both = [cooperator.coiterate(odd), cooperator.coiterate(even)];
/// reactor.run_until(gather_results(both))?; // 1 2 3 4 5
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cooperator {
    owner: Rc<Owner>,
}

impl Cooperator {
    /// A cooperator that takes its turns on `clock`, from now on.
    #[track_caller]
    pub fn new(clock: &(impl Clock + Clone + 'static)) -> Self {
        Self::make(clock, Mode::Started)
    }

    /// A cooperator that keeps the tasks it is given until [`start`](Cooperator::start).
    #[track_caller]
    pub fn unstarted(clock: &(impl Clock + Clone + 'static)) -> Self {
        Self::make(clock, Mode::Unstarted)
    }

    #[track_caller]
    fn make(clock: &(impl Clock + Clone + 'static), mode: Mode) -> Self {
        let rota = Rc::new(Rota {
            timekeeper: Timekeeper::of(clock),
            mode: Cell::new(mode),
            slice: RefCell::new(Slice::Time(SLICE)),
            queue: RefCell::default(),
            tasks: RefCell::default(),
            last_number: Cell::default(),
            tick: Cell::default(),
            is_ticking: Cell::default(),
            origin: Location::caller(),
        });
        Self {
            owner: Rc::new(Owner { rota }),
        }
    }

    /// Takes `work` into the round. The task says when it is done, and can be paused and
    /// stopped.
    ///
    /// If this was stopped, so is the task, at once: [`TaskError::CooperatorStopped`].
    #[track_caller]
    pub fn cooperate<I>(&self, work: I) -> CooperativeTask
    where
        I: IntoIterator<Item: IntoDeferred<Value: 'static>, IntoIter: 'static>,
    {
        let (task, ended) = Task::new(&self.owner.rota, work);
        let ended = ended.share();
        let task = CooperativeTask {
            task,
            ended: ended.clone(),
        };
        task.task.asked.replace(Some(ended));
        task.task.begin();
        task
    }

    /// Takes `work` into the round, for a Deferred of its end.
    ///
    /// # Cancellation
    ///
    /// Stops the task, and cancels what it waits for. Twisted's goes on working.
    #[track_caller]
    pub fn coiterate<I>(&self, work: I) -> Deferred<()>
    where
        I: IntoIterator<Item: IntoDeferred<Value: 'static>, IntoIter: 'static>,
    {
        let (task, ended) = Task::new(&self.owner.rota, work);
        task.stop_when_cancelled();
        task.begin();
        ended
    }

    /// Ends a slice after this time. At least one step is made at any rate, so with
    /// `Duration::ZERO` a slice is one step.
    pub fn set_slice(&self, time: Duration) {
        let slice = Slice::Time(time);
        drop(self.owner.rota.slice.replace(slice));
    }

    /// Ends a slice when a predicate says so. `begin` is called as each slice begins, and
    /// makes the predicate, which is called after each step: true ends the slice.
    /// Twisted's `terminationPredicateFactory`.
    ///
    /// A predicate that panics has ended its slice.
    pub fn set_slice_end<P>(&self, mut begin: impl FnMut() -> P + 'static)
    where
        P: FnMut() -> bool + 'static,
    {
        let begin: Begin = Box::new(move || Box::new(begin()));
        let slice = Slice::Predicate(Some(begin));
        drop(self.owner.rota.slice.replace(slice));
    }

    /// Begins, or begins again after [`stop`](Cooperator::stop).
    pub fn start(&self) {
        let rota = &self.owner.rota;
        rota.mode.set(Mode::Started);
        rota.arrange_tick();
    }

    /// Ends every task, those that are paused or wait as well, with
    /// [`TaskError::CooperatorStopped`]; new ones end at once, until
    /// [`start`](Cooperator::start).
    pub fn stop(&self) {
        self.owner.rota.stop();
    }

    /// Whether it takes turns: between a start and a stop.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.owner.rota.mode.get() == Mode::Started
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rota = &self.owner.rota;
        let state = match rota.mode.get() {
            Mode::Unstarted => "not started",
            Mode::Started => "running",
            Mode::Stopped => "stopped",
        };
        write!(
            f,
            "Cooperator({state}, {} tasks, created at {})",
            rota.tasks.borrow().len(),
            rota.origin
        )
    }
}

/// An iterator that a [`Cooperator`] steps through.
///
/// A cheap clone. Dropping the handle changes nothing for a task that can go on; one that
/// is paused ends with its last handle, for nobody could resume it.
#[derive(Clone)]
pub struct CooperativeTask {
    task: Rc<Task>,
    ended: Shared<()>,
}

impl CooperativeTask {
    /// Holds the task back: no step is made until as many calls of
    /// [`resume`](CooperativeTask::resume). What it waits for may fire meanwhile.
    ///
    /// # Errors
    ///
    /// It has ended: [`TaskError`] says how.
    pub fn pause(&self) -> Result<(), TaskError> {
        self.task.check()?;
        let pauses = &self.task.pauses;
        pauses.set(pauses.get().saturating_add(1));
        self.task.rota.arrange_tick();
        Ok(())
    }

    /// Takes one pause back. The next step is made in a later turn, not in here.
    ///
    /// # Errors
    ///
    /// It has ended, as [`TaskError`] says, or [`TaskError::NotPaused`]. A task that was
    /// stopped while it was paused may be resumed; nothing happens.
    pub fn resume(&self) -> Result<(), TaskError> {
        let pauses = &self.task.pauses;
        let left = pauses.get().checked_sub(1);
        match (self.task.check(), left) {
            (Err(TaskError::Stopped), Some(left)) => {
                pauses.set(left);
                Ok(())
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(TaskError::NotPaused),
            (Ok(()), Some(left)) => {
                pauses.set(left);
                self.task.join();
                Ok(())
            }
        }
    }

    /// Ends the task with [`TaskError::Stopped`]. What it waits for is cancelled, for
    /// nobody else has that Deferred.
    ///
    /// # Errors
    ///
    /// It has ended already: [`TaskError`] says how.
    pub fn stop(&self) -> Result<(), TaskError> {
        self.task.check()?;
        self.task.stop();
        Ok(())
    }

    /// A Deferred of its end, a new one each time: it fires when the iterator is through,
    /// and fails with what a step failed with, or with [`TaskError::Stopped`] or
    /// [`TaskError::CooperatorStopped`]. After the end it has fired.
    ///
    /// A step's failure that nobody asks for is reported.
    ///
    /// # Cancellation
    ///
    /// Sends this consumer away; the task goes on.
    /// [`stop`](CooperativeTask::stop) stops it.
    #[track_caller]
    pub fn when_done(&self) -> Deferred<()> {
        self.ended.wait()
    }
}

impl fmt::Debug for CooperativeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.task;
        match task.check() {
            Err(error) => write!(f, "CooperativeTask({error}")?,
            Ok(()) => {
                let waiting = peek(&task.waits_for, Option::is_some);
                match (task.pauses.get(), waiting) {
                    (0, false) => f.write_str("CooperativeTask(in the round")?,
                    (0, true) => f.write_str("CooperativeTask(waiting")?,
                    (pauses, _) => write!(f, "CooperativeTask(paused {pauses} times")?,
                }
            }
        }
        write!(f, ", created at {})", task.origin)
    }
}

/// How a task ended, where that is asked or in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its iterator is through.
    #[error("the task is done")]
    Done,
    /// A step failed; [`when_done`](CooperativeTask::when_done) says with what.
    #[error("the task has failed")]
    Failed,
    /// It was stopped, by [`stop`](CooperativeTask::stop).
    #[error("the task was stopped")]
    Stopped,
    /// Its cooperator was stopped, or went with its clock.
    #[error("the cooperator was stopped")]
    CooperatorStopped,
    /// It was resumed without a pause.
    #[error("the task is not paused")]
    NotPaused,
}

/// Counts the handles: tasks that wait for a start wait in vain when the last goes.
struct Owner {
    rota: Rc<Rota>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.rota.mode.get() == Mode::Unstarted {
            self.rota.stop();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unstarted,
    Started,
    Stopped,
}

type Begin = Box<dyn FnMut() -> Box<dyn FnMut() -> bool>>;

enum Slice {
    Time(Duration),
    /// `None` while it is being called.
    Predicate(Option<Begin>),
}

/// Whose turn it is.
///
/// Invariant: none of it is borrowed while user code runs.
struct Rota {
    timekeeper: Timekeeper,
    mode: Cell<Mode>,
    slice: RefCell<Slice>,
    /// Those that can make a step, in the order of their turns, and some that had to leave
    /// the round since.
    queue: RefCell<VecDeque<Rc<Task>>>,
    /// Everybody who has not ended, in the order of joining.
    tasks: RefCell<BTreeMap<u64, Weak<Task>>>,
    last_number: Cell<u64>,
    /// Invariant: it is there if and only if this is started, somebody can make a step,
    /// and no slice is being worked.
    tick: Cell<Option<Scheduled>>,
    is_ticking: Cell<bool>,
    origin: &'static Location<'static>,
}

impl Rota {
    /// Sees to it that there is a tick if there is work, and none if not.
    fn arrange_tick(self: &Rc<Self>) {
        if self.is_ticking.get() {
            return;
        }
        let is_wanted = self.mode.get() == Mode::Started && self.has_work();
        match self.tick.take() {
            Some(tick) if is_wanted => self.tick.set(Some(tick)),
            // The tick sees that it is not lost.
            Some(tick) => {
                self.is_ticking.set(true);
                tick.cancel();
                self.is_ticking.set(false);
            }
            None if is_wanted => {
                let tick = Tick(Some(Rc::clone(self)));
                let scheduled = self
                    .timekeeper
                    .schedule(Duration::ZERO, self.origin, move || tick.come());
                // A clock that is gone has dropped the tick, and that has stopped this.
                if self.mode.get() == Mode::Started {
                    self.tick.set(Some(scheduled));
                }
            }
            None => {}
        }
    }

    /// Whether somebody can make a step. Who cannot any more leaves the queue, if he stands
    /// in front.
    fn has_work(&self) -> bool {
        loop {
            let front = {
                let mut queue = self.queue.borrow_mut();
                match queue.front() {
                    None => return false,
                    Some(task) if task.is_ready() => return true,
                    Some(_) => queue.pop_front(),
                }
            };
            // Dropped here, with nothing borrowed.
            if let Some(task) = front {
                task.is_queued.set(false);
            }
        }
    }

    fn work_a_slice(self: &Rc<Self>) {
        self.is_ticking.set(true);
        let mut is_over = self.begin_slice();
        for _ in 0..STEPS_MAX {
            if self.mode.get() != Mode::Started || !self.has_work() {
                break;
            }
            let next = self.queue.borrow_mut().pop_front();
            if let Some(task) = next {
                task.is_queued.set(false);
                task.step();
                if task.is_ready() {
                    task.enqueue();
                }
            }
            if is_over() {
                break;
            }
        }
        self.is_ticking.set(false);
        self.arrange_tick();
    }

    fn begin_slice(self: &Rc<Self>) -> Box<dyn FnMut() -> bool> {
        let mut begin = match &mut *self.slice.borrow_mut() {
            Slice::Time(time) => {
                let (rota, time, begin) = (Rc::clone(self), *time, self.timekeeper.now());
                return Box::new(move || rota.timekeeper.now() >= begin + time);
            }
            Slice::Predicate(begin) => match begin.take() {
                Some(begin) => begin,
                None => return Box::new(|| true),
            },
        };
        let predicate = panics::catch(&mut begin);
        if let Slice::Predicate(place @ None) = &mut *self.slice.borrow_mut() {
            *place = Some(begin);
        }
        match predicate {
            Ok(mut predicate) => Box::new(move || panics::catch(&mut predicate).unwrap_or(true)),
            // Reported; the slice is one step.
            Err(_) => Box::new(|| true),
        }
    }

    fn stop(self: &Rc<Self>) {
        self.mode.set(Mode::Stopped);
        // Detach, then call: who hears of the end of a task may start this again and join.
        let tasks = self.tasks.take();
        let tasks: Vec<_> = tasks.values().filter_map(Weak::upgrade).collect();
        for task in self.queue.take() {
            task.is_queued.set(false);
        }
        for task in tasks {
            task.end(End::Stopped(TaskError::CooperatorStopped));
        }
        self.arrange_tick();
    }
}

/// A slice to come, in the clock's hands. A clock that goes away drops it; then there is no
/// work any more.
struct Tick(Option<Rc<Rota>>);

impl Tick {
    fn come(mut self) {
        if let Some(rota) = self.0.take() {
            drop(rota.tick.take());
            rota.work_a_slice();
        }
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        if let Some(rota) = self.0.take()
            && !rota.is_ticking.get()
        {
            drop(rota.tick.take());
            rota.stop();
        }
    }
}

type Step = Box<dyn FnMut() -> Option<Deferred<()>>>;

struct Task {
    rota: Rc<Rota>,
    number: u64,
    /// `None` while it is being called, and after the end.
    step: Cell<Option<Step>>,
    pauses: Cell<u32>,
    /// Cancels the Deferred that the last step returned, until that fires.
    waits_for: Cell<Option<Canceller>>,
    is_queued: Cell<bool>,
    outcome: Cell<Option<TaskError>>,
    trigger: Cell<Option<Trigger<()>>>,
    /// What its handles ask for its end, if it has handles.
    asked: RefCell<Option<Shared<()>>>,
    origin: &'static Location<'static>,
}

impl Task {
    #[track_caller]
    fn new<I>(rota: &Rc<Rota>, work: I) -> (Rc<Self>, Deferred<()>)
    where
        I: IntoIterator<Item: IntoDeferred<Value: 'static>, IntoIter: 'static>,
    {
        let mut iterator = work.into_iter();
        let step: Step = Box::new(move || {
            let item = iterator.next()?;
            Some(item.into_deferred().map(drop))
        });
        let number = rota.last_number.get() + 1;
        rota.last_number.set(number);
        let (trigger, ended) = Deferred::new();
        let task = Rc::new(Self {
            rota: Rc::clone(rota),
            number,
            step: Cell::new(Some(step)),
            pauses: Cell::default(),
            waits_for: Cell::default(),
            is_queued: Cell::default(),
            outcome: Cell::default(),
            trigger: Cell::new(Some(trigger)),
            asked: RefCell::default(),
            origin: Location::caller(),
        });
        (task, ended)
    }

    fn stop_when_cancelled(self: &Rc<Self>) {
        let Some(trigger) = self.trigger.take() else {
            return;
        };
        let this = Rc::downgrade(self);
        trigger.on_cancel(move || {
            if let Some(this) = this.upgrade() {
                // Without a trigger to say `Stopped`, cancelled means `Cancelled`.
                drop(this.trigger.take());
                this.stop();
            }
        });
        self.trigger.set(Some(trigger));
    }

    fn begin(self: &Rc<Self>) {
        if self.rota.mode.get() == Mode::Stopped {
            self.end(End::Stopped(TaskError::CooperatorStopped));
        } else {
            self.join();
        }
    }

    /// Takes a place in the round, if it can make a step.
    fn join(self: &Rc<Self>) {
        let mut tasks = self.rota.tasks.borrow_mut();
        tasks
            .entry(self.number)
            .or_insert_with(|| Rc::downgrade(self));
        drop(tasks);
        if self.is_ready() {
            self.enqueue();
        }
        self.rota.arrange_tick();
    }

    fn enqueue(self: &Rc<Self>) {
        if !self.is_queued.replace(true) {
            self.rota.queue.borrow_mut().push_back(Rc::clone(self));
        }
    }

    fn is_ready(&self) -> bool {
        self.outcome.get().is_none()
            && self.pauses.get() == 0
            && peek(&self.waits_for, Option::is_none)
    }

    /// Whether it goes on, or how it ended.
    fn check(&self) -> Result<(), TaskError> {
        self.outcome.get().map_or(Ok(()), Err)
    }

    fn step(self: &Rc<Self>) {
        let Some(mut step) = self.step.take() else {
            return;
        };
        // Detach, then call: the step may pause, resume and stop its own task.
        let mut is_through = false;
        let result: Deferred<()> = maybe_deferred(|| {
            step().unwrap_or_else(|| {
                is_through = true;
                torsade_deferred::succeed(())
            })
        });
        if self.outcome.get().is_some() {
            // It ended inside its own step, and nobody waits for this.
            return forget(result);
        }
        self.step.set(Some(step));
        match result.into_result() {
            Ok(Ok(())) if is_through => self.end(End::Through),
            Ok(Ok(())) => {}
            Ok(Err(failure)) => self.end(End::Failed(failure)),
            Err(pending) => self.wait_for(pending),
        }
    }

    fn wait_for(self: &Rc<Self>, pending: Deferred<()>) {
        self.waits_for.set(Some(pending.canceller()));
        let this = Rc::clone(self);
        drop(pending.add_both(move |result| {
            // Swallowed if the task has ended: that is how it was stopped.
            if this.outcome.get().is_some() {
                return;
            }
            drop(this.waits_for.take());
            match result {
                Ok(()) => this.join(),
                Err(failure) => this.end(End::Failed(failure)),
            }
        }));
    }

    fn stop(self: &Rc<Self>) {
        self.end(End::Stopped(TaskError::Stopped));
    }

    fn end(self: &Rc<Self>, end: End) {
        let (outcome, result) = match end {
            End::Through => (TaskError::Done, Ok(())),
            End::Failed(failure) => (TaskError::Failed, Err(failure)),
            End::Stopped(reason) => (reason, Err(reason.into())),
        };
        if self.check().is_err() {
            return;
        }
        self.outcome.set(Some(outcome));
        self.rota.tasks.borrow_mut().remove(&self.number);
        let step = self.step.take();
        // A panic in its drop is reported: it must not keep the others from their turn.
        let _ = panics::catch(|| drop(step));
        if let Some(canceller) = self.waits_for.take() {
            canceller.cancel();
        }
        self.rota.arrange_tick();
        let is_its_own = matches!(outcome, TaskError::Done | TaskError::Failed);
        let trigger = self.trigger.take();
        // Who stopped it knows; that is no failure to report, if nobody asks.
        if let Some(trigger) = trigger.filter(|trigger| is_its_own || trigger.is_watched()) {
            trigger.fire(result);
        }
        let asked = self.asked.take();
        if let Some(asked) = asked.filter(|_| !is_its_own) {
            drop(asked.wait().add_both(|_| ()));
        }
    }
}

/// How a task is to end.
enum End {
    Through,
    Failed(Failure),
    Stopped(TaskError),
}

impl Drop for Task {
    fn drop(&mut self) {
        self.rota.tasks.borrow_mut().remove(&self.number);
    }
}

/// Cancels what nobody waits for, and drops what it answers.
fn forget(result: Deferred<()>) {
    let canceller = result.canceller();
    drop(result.add_both(|_| ()));
    canceller.cancel();
}

fn peek<T: Default, R>(cell: &Cell<T>, look: impl FnOnce(&T) -> R) -> R {
    let value = cell.take();
    let seen = look(&value);
    cell.set(value);
    seen
}
