//! A pool of threads for work that blocks.
//!
//! # Bounds
//!
//! At most [`PoolLimits::threads_max`] threads and [`PoolLimits::queued_max`] jobs in
//! line; what is more is refused, with the job handed back. Threads start when there is
//! work for them, and end when there has been none for a while.
//!
//! # Order
//!
//! Jobs are begun in the order in which they were given.
//!
//! # Ending
//!
//! The threads are detached: nothing of a reactor, a pool or a program waits for one. A
//! job that blocks for ever ends with the process.
//!
//! # Not here
//!
//! No reactor, and no result: see `threads.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::panics;
use crate::sys::signals;

/// Threads for work that blocks.
///
/// Every reactor makes itself one when it needs it
/// ([`defer_to_thread`](crate::Reactor::defer_to_thread)); another takes its place with
/// [`set_thread_pool`](crate::Reactor::set_thread_pool). A cheap clone of a handle, for any
/// thread, and for as many reactors as you like. When the last handle is dropped, the
/// threads finish what is in line and end.
///
/// All signals are blocked in its threads: the kernel delivers them elsewhere. A child
/// process that such a thread starts would inherit that; start children from the
/// reactor's thread.
///
/// # Examples
///
/// ```
/// use torsade_reactor::{PoolLimits, Reactor, ThreadPool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let files = ThreadPool::with_limits("files", PoolLimits { threads_max: 2, ..PoolLimits::default() });
/// let manifest = reactor.defer_to_thread_pool(&files, || std::fs::read_to_string("Cargo.toml"));
/// let length = manifest.map(|text| text.len());
/// assert!(reactor.run_until(length).is_ok_and(|length| length > 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    handle: Arc<Handle>,
}

/// What a pool may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Threads that stay when they have nothing to do: 0. They, too, start only when
    /// there is work.
    pub threads_min: usize,
    /// Threads at the same time: 10, Twisted's. With 0 the work waits in line.
    pub threads_max: usize,
    /// Jobs that wait for a thread: 1024. Further ones are refused.
    pub queued_max: usize,
    /// How long a thread stays without work: 10 s.
    pub idle: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            threads_min: 0,
            threads_max: 10,
            // A hundred times as many as there are threads: more is not a line but a leak.
            queued_max: 1024,
            // tokio's: long enough to bridge the gaps of a busy program.
            idle: Duration::from_secs(10),
        }
    }
}

/// What a pool does at this moment, and has done; see [`ThreadPool::statistics`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Threads, working and idle.
    pub threads: usize,
    /// Jobs at work.
    pub working: usize,
    /// Jobs in line.
    pub queued: usize,
    /// Jobs that have ended, by a panic or otherwise.
    pub ended: u64,
    /// Jobs that were cancelled before they began.
    pub cancelled: u64,
    /// Jobs that were refused.
    pub refused: u64,
}

impl ThreadPool {
    /// Makes a pool with the usual limits. `name` is what the system calls its threads.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_limits(name, PoolLimits::default())
    }

    /// Makes a pool with limits of its own. No thread starts before there is work.
    #[must_use]
    pub fn with_limits(name: impl Into<String>, limits: PoolLimits) -> Self {
        let shared = Arc::new(Shared {
            name: name.into(),
            state: Mutex::new(State::new(limits)),
            work: Condvar::new(),
        });
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Has `job` called on a thread of the pool, when one is free. Twisted's
    /// `callInThread`.
    ///
    /// From any thread. A panic in `job` is reported, and its thread goes on with the
    /// next.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the job in it: the line is full, or no thread can be had.
    pub fn call_in_thread<F>(&self, job: F) -> Result<Job, Refused<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        Shared::submit(&self.handle.shared, job)
    }

    /// Sets other limits, at once. Threads that are too many end when they have nothing
    /// to do; what is too long in line stays there. Twisted's `adjustPoolsize`.
    ///
    /// # Errors
    ///
    /// A thread for work in line cannot be started.
    pub fn adjust(&self, limits: PoolLimits) -> io::Result<()> {
        let shared = &self.handle.shared;
        let mut state = shared.state();
        state.limits = limits;
        // Those that are to end must look.
        shared.work.notify_all();
        while state.wants_thread(0) {
            shared.start_thread(&mut state)?;
        }
        Ok(())
    }

    /// The limits as they are.
    #[must_use]
    pub fn limits(&self) -> PoolLimits {
        self.handle.shared.state().limits
    }

    /// What the pool does and has done.
    #[must_use]
    pub fn statistics(&self) -> PoolStatistics {
        let state = self.handle.shared.state();
        PoolStatistics {
            threads: state.threads,
            working: state.threads - state.idle,
            queued: state.queue.len(),
            ended: state.ended,
            cancelled: state.cancelled,
            refused: state.refused,
        }
    }
}

impl ThreadPool {
    /// Whether this is a handle of the same pool.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle.shared, &other.handle.shared)
    }

    /// What one is told whose job the line has no room for.
    pub(crate) fn overloaded(&self) -> PoolError {
        self.handle.shared.overloaded(&self.limits())
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, statistics) = (&self.handle.shared.name, self.statistics());
        write!(
            f,
            "ThreadPool({name:?}, {} threads, {} jobs at work, {} in line)",
            statistics.threads, statistics.working, statistics.queued
        )
    }
}

/// A job that was given to a [`ThreadPool`]. Dropping this changes nothing.
#[derive(Clone)]
pub struct Job {
    shared: Weak<Shared>,
    number: u64,
}

impl Job {
    /// Takes the job out of the line, and drops it. False if it has begun: what runs
    /// cannot be stopped.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn cancel(&self) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let taken = {
            let mut state = shared.state();
            let taken = state.queue.remove(&self.number);
            state.cancelled += u64::from(taken.is_some());
            taken
        };
        // Detach, then drop: the job may own anything.
        taken.is_some()
    }

    /// Whether the job is still in line.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.shared
            .upgrade()
            .is_some_and(|shared| shared.state().queue.contains_key(&self.number))
    }
}

impl Job {
    /// Whether it has begun, or will by itself: its pool has threads.
    pub(crate) fn is_under_way(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| {
            let state = shared.state();
            state.limits.threads_max > 0 || !state.queue.contains_key(&self.number)
        })
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_queued() {
            "in line"
        } else {
            "begun or cancelled"
        };
        write!(f, "Job({state})")
    }
}

/// A pool did not take a job. Gives it back.
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct Refused<F> {
    /// What was to be done.
    pub job: F,
    /// Why it will not be.
    #[source]
    pub reason: PoolError,
}

impl<F> fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Why a pool did not take a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The line is full: come back later, or drop what was asked of you.
    #[error("the thread pool {pool:?} is overloaded: {queued_max} jobs are in line")]
    Overloaded {
        /// The name of the pool.
        pool: String,
        /// [`PoolLimits::queued_max`].
        queued_max: usize,
    },
    /// The pool has no thread, and the system gives none.
    #[error("the thread pool {pool:?} cannot start a thread: {source}")]
    NoThread {
        /// The name of the pool.
        pool: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Counts the handles of a pool: when the last goes, the threads end.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.work.notify_all();
    }
}

struct Shared {
    name: String,
    state: Mutex<State>,
    /// Something for an idle thread: a job, or the order to end.
    work: Condvar,
}

type Work = Box<dyn FnOnce() + Send>;

struct State {
    limits: PoolLimits,
    /// What has not begun, in the order of submission.
    queue: BTreeMap<u64, Work>,
    next_number: u64,
    threads: usize,
    /// Threads that wait for work, those included that have been woken and have not
    /// looked yet.
    ///
    /// Invariant: a job in line has an idle thread, or there are `threads_max` threads.
    idle: usize,
    closed: bool,
    ended: u64,
    cancelled: u64,
    refused: u64,
}

impl State {
    fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            next_number: 0,
            threads: 0,
            idle: 0,
            closed: false,
            ended: 0,
            cancelled: 0,
            refused: 0,
        }
    }

    /// Whether there is work for one more thread, with `arriving` more jobs.
    fn wants_thread(&self, arriving: usize) -> bool {
        self.queue.len() + arriving > self.idle && self.threads < self.limits.threads_max
    }

    /// Whether there is no room for another job. A thread without work is as good as a
    /// place in line.
    fn is_full(&self) -> bool {
        let surplus = self.threads > self.limits.threads_max;
        let free = if surplus { 0 } else { self.idle };
        self.queue.len() >= self.limits.queued_max.saturating_add(free)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit<F>(shared: &Arc<Self>, job: F) -> Result<Job, Refused<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let mut state = shared.state();
        let started = if state.wants_thread(1) {
            shared.start_thread(&mut state)
        } else {
            Ok(())
        };
        if let Err(source) = started
            && state.threads == 0
        {
            state.refused += 1;
            let pool = shared.name.clone();
            let reason = PoolError::NoThread { pool, source };
            return Err(Refused { job, reason });
        }
        if state.is_full() {
            state.refused += 1;
            let reason = shared.overloaded(&state.limits);
            return Err(Refused { job, reason });
        }
        let number = state.next_number;
        state.next_number += 1;
        state.queue.insert(number, Box::new(job));
        shared.work.notify_one();
        Ok(Job {
            shared: Arc::downgrade(shared),
            number,
        })
    }

    fn overloaded(&self, limits: &PoolLimits) -> PoolError {
        PoolError::Overloaded {
            pool: self.name.clone(),
            queued_max: limits.queued_max,
        }
    }

    /// Starts one more thread. It begins as an idle one.
    fn start_thread(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name(self.name.clone());
        // The loop's thread takes the signals, not this one.
        signals::with_all_signals_blocked(|| builder.spawn(move || shared.work()))?;
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if state.threads <= state.limits.threads_max
                && let Some((_, job)) = state.queue.pop_first()
            {
                state.idle -= 1;
                drop(state);
                // The panic has been reported; the thread goes on.
                let _ = panics::catch(job);
                state = self.state();
                state.idle += 1;
                state.ended += 1;
                continue;
            }
            if state.threads > state.limits.threads_max || state.closed {
                break;
            }
            let idle = state.limits.idle;
            let (next, outcome) = self
                .work
                .wait_timeout(state, idle)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            let spare = state.threads > state.limits.threads_min;
            if outcome.timed_out() && spare && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        state.idle -= 1;
    }
}
