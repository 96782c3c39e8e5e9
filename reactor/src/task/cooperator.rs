//! Long work in small steps, several at once.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, IntoDeferred};

use super::cooperative_task::{CooperativeTask, Task};
use super::rota::{Mode, Rota};

/// How long a slice of work may take before the loop has its turn.
const SLICE: Duration = Duration::from_millis(10);

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
        let rota = Rota::new(clock, mode, SLICE);
        Self {
            owner: Rc::new(Owner { rota }),
        }
    }

    /// Takes `work` into the round. The task says when it is done, and can be paused and
    /// stopped.
    ///
    /// If this was stopped, so is the task, at once, with
    /// [`TaskError::CooperatorStopped`](super::TaskError::CooperatorStopped).
    #[track_caller]
    pub fn cooperate<I>(&self, work: I) -> CooperativeTask
    where
        I: IntoIterator<Item: IntoDeferred<Value: 'static>, IntoIter: 'static>,
    {
        let (task, ended) = Task::new(&self.owner.rota, work);
        let handle = CooperativeTask::new(Rc::clone(&task), ended);
        task.begin();
        handle
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
        self.owner.rota.set_slice(time);
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
        let begin = move || Box::new(begin()) as Box<dyn FnMut() -> bool>;
        self.owner.rota.set_slice_end(Box::new(begin));
    }

    /// Begins, or begins again after [`stop`](Cooperator::stop).
    pub fn start(&self) {
        self.owner.rota.start();
    }

    /// Ends every task, those that are paused or wait as well, with
    /// [`TaskError::CooperatorStopped`](super::TaskError::CooperatorStopped); new ones end
    /// at once, until [`start`](Cooperator::start).
    pub fn stop(&self) {
        self.owner.rota.stop();
    }

    /// Whether it takes turns: between a start and a stop.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.owner.rota.mode() == Mode::Started
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rota = &self.owner.rota;
        let state = match rota.mode() {
            Mode::Unstarted => "not started",
            Mode::Started => "running",
            Mode::Stopped => "stopped",
        };
        write!(
            f,
            "Cooperator({state}, {} tasks, created at {})",
            rota.task_count(),
            rota.origin()
        )
    }
}

/// Counts the handles: tasks that wait for a start wait in vain when the last goes.
struct Owner {
    rota: Rc<Rota>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.rota.mode() == Mode::Unstarted {
            self.rota.stop();
        }
    }
}
