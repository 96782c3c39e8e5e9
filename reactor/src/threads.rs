//! Work on threads of a pool, whose results come back to the loop.
//!
//! # Order
//!
//! The results of two jobs arrive in the order in which the jobs end.
//!
//! # Ending
//!
//! A job that blocks delays no [`run`](Reactor::run) that was stopped. What has not begun
//! when its reactor goes is not begun.
//!
//! Where the world has no threads, as in a simulation, the loop does the work: see
//! `virtual_threads.rs`.
//!
//! # Design
//!
//! A [`Trigger`] stays on its thread, so it waits in a table of the reactor under a
//! token, and only the token travels.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger};

use crate::core::Core;
use crate::dump::Held;
use crate::reactor::Reactor;
use crate::remote::Remote;
use crate::slab::{Slab, Token};
use crate::thread_pool::{Job, Refused, ThreadPool};
use crate::virtual_threads::{VirtualThreads, Work};

impl Reactor {
    /// Calls `job` on a thread of the reactor's pool, and fires with what it returns, on
    /// the reactor's own thread. Twisted's `deferToThread`.
    ///
    /// # Errors
    ///
    /// Fails with the error of `job`; with [`Interrupted::Panicked`] if it panics; with
    /// [`PoolError`](crate::PoolError) if the pool does not take it.
    ///
    /// # Cancellation
    ///
    /// A job in line is taken out and dropped. One that runs cannot be stopped: its answer
    /// is given up, and dropped when it comes.
    ///
    /// # Reentrancy
    ///
    /// From any callback; the Deferred fires in a later turn, unless the job is refused.
    #[track_caller]
    pub fn defer_to_thread<T, E>(
        &self,
        job: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Deferred<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        self.defer_to_thread_pool(&self.thread_pool(), job)
    }

    /// The same on a thread of `pool`. Twisted's `deferToThreadPool`.
    ///
    /// # Errors
    ///
    /// As for [`defer_to_thread`](Reactor::defer_to_thread).
    ///
    /// # Cancellation
    ///
    /// As for [`defer_to_thread`](Reactor::defer_to_thread).
    #[track_caller]
    pub fn defer_to_thread_pool<T, E>(
        &self,
        pool: &ThreadPool,
        job: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Deferred<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let (trigger, deferred) = Deferred::new();
        let core = self.core();
        let token = Errands::insert(core, trigger);
        let answer = Answer {
            remote: Some(self.remote()),
            token,
        };
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(job));
            answer.give::<T, E>(outcome.map_err(|payload| Interrupted::from_panic(&*payload)));
        };
        let refused = if let Some(time) = core.driver().thread_time() {
            let (origin, run) = (Location::caller(), Box::new(work));
            let work = Work { token, origin, run };
            let given = core.give_to_virtual_thread(pool, time, work);
            given.err().map(|(work, reason)| {
                drop(work);
                reason
            })
        } else {
            match pool.call_in_thread(work) {
                Ok(job) => {
                    core.errands.borrow_mut().begun(token, job);
                    None
                }
                Err(Refused { job, reason }) => {
                    drop(job);
                    Some(reason)
                }
            }
        };
        if let Some(reason) = refused {
            let trigger = core.errands.borrow_mut().take::<T>(token);
            if let Some(trigger) = trigger {
                trigger.errback(reason);
            }
        }
        deferred
    }

    /// Calls `job` on a thread of the reactor's pool, and nothing more. A panic in it, or
    /// that the pool does not take it, is reported here as an unhandled failure. Twisted's
    /// `callInThread`.
    #[track_caller]
    pub fn call_in_thread(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.defer_to_thread(move || {
            job();
            Ok::<(), Infallible>(())
        }));
    }

    /// The reactor's pool.
    #[must_use]
    pub fn thread_pool(&self) -> ThreadPool {
        let mut pool = self.core().thread_pool.borrow_mut();
        pool.get_or_insert_with(|| ThreadPool::new("torsade-pool"))
            .clone()
    }

    /// Gives the reactor another pool, from the next job on. What the old one has taken,
    /// it does.
    pub fn set_thread_pool(&self, pool: ThreadPool) {
        let replaced = self.core().thread_pool.borrow_mut().replace(pool);
        drop(replaced);
    }
}

/// What the reactor has asked of threads: the triggers, by token.
pub(crate) struct Errands {
    pending: Slab<Errand>,
    /// Where the world has no threads: what they would have to do.
    pub(crate) threads: VirtualThreads,
}

pub(crate) struct Errand {
    /// A `Trigger<T>`; who holds the token knows the `T`.
    trigger: Box<dyn Any>,
    job: Option<Job>,
    origin: &'static Location<'static>,
    since: Instant,
}

impl Default for Errands {
    fn default() -> Self {
        Self {
            pending: Slab::new(),
            threads: VirtualThreads::default(),
        }
    }
}

impl Errands {
    #[track_caller]
    fn insert<T: 'static>(core: &Rc<Core>, trigger: Trigger<T>) -> Token {
        let weak = Rc::downgrade(core);
        let (origin, since) = (Location::caller(), core.now());
        core.stir();
        let mut errands = core.errands.borrow_mut();
        errands.pending.insert_with(|token| {
            trigger.on_cancel(move || {
                if let Some(core) = weak.upgrade() {
                    give_up(&core.errands, token);
                }
            });
            Errand {
                trigger: Box::new(trigger),
                job: None,
                origin,
                since,
            }
        })
    }

    fn begun(&mut self, token: Token, job: Job) {
        if let Some(errand) = self.pending.get_mut(token) {
            errand.job = Some(job);
        }
    }

    fn take<T: 'static>(&mut self, token: Token) -> Option<Trigger<T>> {
        self.take_with_origin(token).map(|(trigger, _)| trigger)
    }

    fn take_with_origin<T: 'static>(
        &mut self,
        token: Token,
    ) -> Option<(Trigger<T>, &'static Location<'static>)> {
        let Errand {
            trigger, origin, ..
        } = self.pending.remove(token)?;
        trigger.downcast().ok().map(|trigger| (*trigger, origin))
    }

    pub(crate) fn dump(&self, now: Instant) -> Vec<Held> {
        let held = self.pending.iter().map(|(token, errand)| {
            let is_queued = match &errand.job {
                Some(job) => job.is_queued(),
                None => self.threads.is_in_line(token),
            };
            let state = if is_queued { "in line" } else { "begun" };
            let what = format!("result of a thread's work, {state}, asked for");
            let age = now.saturating_duration_since(errand.since);
            Held::new(what, Some(errand.origin), Some(age))
        });
        held.collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether an answer will come without anything else happening.
    pub(crate) fn are_under_way(&self) -> bool {
        let mut jobs = self.pending.iter().map(|(_, errand)| &errand.job);
        jobs.any(|job| job.as_ref().is_some_and(Job::is_under_way))
    }

    /// Lets go of all of them, for a reactor that goes. An answer to one of them finds nobody, whatever
    /// is asked for later.
    pub(crate) fn take_all(&mut self) -> (Vec<Errand>, VirtualThreads) {
        (self.pending.take_all(), mem::take(&mut self.threads))
    }
}

impl Errand {
    /// Takes the job out of line, if it has not begun.
    pub(crate) fn cancel(&self) {
        if let Some(job) = &self.job {
            job.cancel();
        }
    }
}

/// Nobody waits for this one any more.
fn give_up(errands: &RefCell<Errands>, token: Token) {
    let (errand, work) = {
        let mut errands = errands.borrow_mut();
        (
            errands.pending.remove(token),
            errands.threads.take_out(token),
        )
    };
    // Detach, then drop: the job and the trigger may own anything.
    if let Some(errand) = &errand {
        errand.cancel();
    }
    drop((errand, work));
}

/// The way back of one job. Dropped without an answer, it gives the errand up, so that
/// nothing waits for a job that its pool has dropped.
struct Answer {
    /// `Some` until it has answered.
    remote: Option<Remote>,
    token: Token,
}

impl Answer {
    fn give<T, E>(mut self, outcome: Result<Result<T, E>, Interrupted>)
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let Some(remote) = self.remote.take() else {
            return;
        };
        let token = self.token;
        remote.call_from_thread(move |reactor| {
            let core = reactor.core();
            let errand = core.errands.borrow_mut().take_with_origin::<T>(token);
            // It is gone if nobody waits any more; the late result is dropped.
            let Some((trigger, origin)) = errand else {
                return;
            };
            core.on_behalf_of(origin, || match outcome {
                Ok(result) => trigger.fire(result.map_err(Into::into)),
                Err(interrupted) => trigger.errback(interrupted),
            });
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(remote) = self.remote.take() {
            let token = self.token;
            remote.call_from_thread(move |reactor| give_up(&reactor.core().errands, token));
        }
    }
}
