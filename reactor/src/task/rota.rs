//! Whose turn it is.
//!
//! # Order
//!
//! A slice takes who stands in front of the queue, makes a step of it, and puts it at the
//! end. Who cannot make a step is passed over when it comes to the front, so leaving the
//! round costs nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

use torsade_deferred::{Clock, Scheduled};

use super::cooperative_task::Task;
use super::timekeeper::Timekeeper;
use crate::panics;

/// How many steps a slice has at most, also where no time passes, as in a test. Steps so
/// short that ten thousand fit into 10 ms cost less than asking for the time.
const STEPS_MAX: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Unstarted,
    Started,
    Stopped,
}

pub(super) type Begin = Box<dyn FnMut() -> Box<dyn FnMut() -> bool>>;

enum Slice {
    Time(Duration),
    /// `None` while it is being called.
    Predicate(Option<Begin>),
}

/// Whose turn it is.
///
/// Invariant: none of it is borrowed while user code runs.
pub(super) struct Rota {
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
    #[track_caller]
    pub(super) fn new(
        clock: &(impl Clock + Clone + 'static),
        mode: Mode,
        slice: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            timekeeper: Timekeeper::of(clock),
            mode: Cell::new(mode),
            slice: RefCell::new(Slice::Time(slice)),
            queue: RefCell::default(),
            tasks: RefCell::default(),
            last_number: Cell::default(),
            tick: Cell::default(),
            is_ticking: Cell::default(),
            origin: Location::caller(),
        })
    }

    pub(super) fn set_slice(&self, time: Duration) {
        drop(self.slice.replace(Slice::Time(time)));
    }

    pub(super) fn set_slice_end(&self, begin: Begin) {
        drop(self.slice.replace(Slice::Predicate(Some(begin))));
    }

    pub(super) fn start(self: &Rc<Self>) {
        self.mode.set(Mode::Started);
        self.arrange_tick();
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode.get()
    }

    pub(super) fn origin(&self) -> &'static Location<'static> {
        self.origin
    }

    /// Those who have not ended.
    pub(super) fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    /// Takes a task into the books, if it is not there.
    pub(super) fn register(&self, task: &Rc<Task>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks
            .entry(task.number())
            .or_insert_with(|| Rc::downgrade(task));
    }

    pub(super) fn forget(&self, number: u64) {
        self.tasks.borrow_mut().remove(&number);
    }

    pub(super) fn enqueue(&self, task: &Rc<Task>) {
        if !task.is_queued.replace(true) {
            self.queue.borrow_mut().push_back(Rc::clone(task));
        }
    }

    /// Sees to it that there is a tick if there is work, and none if not.
    pub(super) fn arrange_tick(self: &Rc<Self>) {
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
        // Steps catch their own panics. One in the drop of what became of a task's end is
        // reported, and ends the slice.
        let _ = panics::catch_of(self.origin, || self.make_steps());
        self.is_ticking.set(false);
        self.arrange_tick();
    }

    fn make_steps(self: &Rc<Self>) {
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
                    self.enqueue(&task);
                }
            }
            if is_over() {
                break;
            }
        }
    }

    fn begin_slice(self: &Rc<Self>) -> Box<dyn FnMut() -> bool> {
        // Detach, then call: the clock may be anybody's.
        let slice = match &mut *self.slice.borrow_mut() {
            Slice::Time(time) => Ok(*time),
            Slice::Predicate(begin) => Err(begin.take()),
        };
        let mut begin = match slice {
            Ok(time) => {
                let (rota, begin) = (Rc::clone(self), self.timekeeper.now());
                return Box::new(move || rota.timekeeper.now() >= begin + time);
            }
            Err(Some(begin)) => begin,
            Err(None) => return Box::new(|| true),
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

    pub(super) fn stop(self: &Rc<Self>) {
        self.mode.set(Mode::Stopped);
        // Detach, then call: who hears of the end of a task may start this again and join.
        let tasks = self.tasks.take();
        let tasks: Vec<_> = tasks.values().filter_map(Weak::upgrade).collect();
        for task in self.queue.take() {
            task.is_queued.set(false);
        }
        for task in tasks {
            task.end_with_cooperator();
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
