//! An iterator and how far it is.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use torsade_deferred::{
    Canceller, Deferred, Failure, IntoDeferred, Shared, Trigger, maybe_deferred,
};

use super::rota::{Mode, Rota};
use crate::panics;

/// An iterator that a [`Cooperator`](super::Cooperator) steps through.
///
/// A cheap clone. Dropping the handle changes nothing for a task that can go on; one that
/// is paused ends with its last handle, for nobody could resume it.
#[derive(Clone)]
pub struct CooperativeTask {
    task: Rc<Task>,
    ended: Shared<()>,
}

impl CooperativeTask {
    #[track_caller]
    pub(super) fn new(task: Rc<Task>, ended: Deferred<()>) -> Self {
        let ended = ended.share();
        task.asked.replace(Some(ended.clone()));
        Self { task, ended }
    }

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

type Step = Box<dyn FnMut() -> Option<Deferred<()>>>;

pub(super) struct Task {
    rota: Rc<Rota>,
    number: u64,
    /// `None` while it is being called, and after the end.
    step: Cell<Option<Step>>,
    pauses: Cell<u32>,
    /// Cancels the Deferred that the last step returned, until that fires.
    waits_for: Cell<Option<Canceller>>,
    pub(super) is_queued: Cell<bool>,
    outcome: Cell<Option<TaskError>>,
    trigger: Cell<Option<Trigger<()>>>,
    /// What its handles ask for its end, if it has handles.
    asked: RefCell<Option<Shared<()>>>,
    origin: &'static Location<'static>,
}

impl Task {
    #[track_caller]
    pub(super) fn new<I>(rota: &Rc<Rota>, work: I) -> (Rc<Self>, Deferred<()>)
    where
        I: IntoIterator<Item: IntoDeferred<Value: 'static>, IntoIter: 'static>,
    {
        let mut iterator = work.into_iter();
        let step: Step = Box::new(move || {
            let item = iterator.next()?;
            Some(item.into_deferred().map(drop))
        });
        let (trigger, ended) = Deferred::new();
        let task = Rc::new(Self {
            rota: Rc::clone(rota),
            number: rota.next_number(),
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

    pub(super) fn stop_when_cancelled(self: &Rc<Self>) {
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

    pub(super) fn begin(self: &Rc<Self>) {
        if self.rota.mode() == Mode::Stopped {
            self.end_with_cooperator();
        } else {
            self.join();
        }
    }

    /// Takes a place in the round, if it can make a step.
    fn join(self: &Rc<Self>) {
        self.rota.register(self);
        if self.is_ready() {
            self.rota.enqueue(self);
        }
        self.rota.arrange_tick();
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_ready(&self) -> bool {
        self.outcome.get().is_none()
            && self.pauses.get() == 0
            && peek(&self.waits_for, Option::is_none)
    }

    /// Whether it goes on, or how it ended.
    fn check(&self) -> Result<(), TaskError> {
        self.outcome.get().map_or(Ok(()), Err)
    }

    pub(super) fn step(self: &Rc<Self>) {
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

    pub(super) fn end_with_cooperator(self: &Rc<Self>) {
        self.end(End::Stopped(TaskError::CooperatorStopped));
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
        self.rota.forget(self.number);
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
        self.rota.forget(self.number);
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
