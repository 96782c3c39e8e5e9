//! Threads of pools in a world that has none: the loop does their work, when the time that it takes
//! has passed.
//!
//! # Order
//!
//! As in a pool: at most [`threads_max`](crate::PoolLimits::threads_max) jobs are at work, begun in
//! the order in which they were given; what is too much for the line is refused, and what has not
//! begun can be taken out of it. A thread takes a moment to wake, and its job some time.
//!
//! # Not here
//!
//! What two reactors give to one pool: each has threads of its own, as if it were alone. And news
//! of other limits: they count when the next job is given or ends.

use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::core::Core;
use crate::delayed_call::Call;
use crate::slab::Token;
use crate::thread_pool::{PoolError, ThreadPool};

/// What the threads of a reactor have to do, pool by pool.
#[derive(Default)]
pub(crate) struct VirtualThreads {
    /// Those that have something to do. There are few.
    crews: Vec<Crew>,
}

/// The threads of one pool.
struct Crew {
    pool: ThreadPool,
    /// Those that wake and those at work.
    threads: usize,
    waking: usize,
    line: VecDeque<Work>,
}

/// A job, and whose it is.
pub(crate) struct Work {
    pub(crate) token: Token,
    pub(crate) origin: &'static Location<'static>,
    pub(crate) run: Box<dyn FnOnce()>,
}

impl VirtualThreads {
    pub(crate) fn is_in_line(&self, token: Token) -> bool {
        let mut lines = self.crews.iter().flat_map(|crew| &crew.line);
        lines.any(|work| work.token == token)
    }

    /// Takes a job out of its line; `None` if it has begun.
    pub(crate) fn take_out(&mut self, token: Token) -> Option<Work> {
        self.crews.iter_mut().find_map(|crew| {
            let place = crew.line.iter().position(|work| work.token == token)?;
            crew.line.remove(place)
        })
    }

    fn crew(&mut self, pool: &ThreadPool) -> Option<&mut Crew> {
        self.crews.iter_mut().find(|crew| crew.pool.is_same(pool))
    }

    /// Puts a job in line. Says whether a thread is to wake for it, or gives it back.
    fn give(&mut self, pool: &ThreadPool, work: Work) -> Result<bool, (Work, PoolError)> {
        if self.crew(pool).is_none() {
            self.crews.push(Crew {
                pool: pool.clone(),
                threads: 0,
                waking: 0,
                line: VecDeque::new(),
            });
        }
        let crew = self.crew(pool).expect("it is there since a moment");
        let limits = pool.limits();
        let wakes = crew.line.len() >= crew.waking && crew.threads < limits.threads_max;
        // A thread that wakes is as good as a place in line.
        let waking = crew.waking + usize::from(wakes);
        if crew.line.len() >= limits.queued_max.saturating_add(waking) {
            let refused = (work, pool.overloaded());
            self.dismiss(pool);
            return Err(refused);
        }
        crew.threads += usize::from(wakes);
        crew.waking = waking;
        crew.line.push_back(work);
        Ok(wakes)
    }

    /// What a thread that is free does next; without work, or if there are too many, it ends.
    fn next(&mut self, pool: &ThreadPool) -> Option<Work> {
        let crew = self.crew(pool)?;
        let is_wanted = crew.threads <= crew.pool.limits().threads_max;
        let work = if is_wanted {
            crew.line.pop_front()
        } else {
            None
        };
        if work.is_none() {
            crew.threads -= 1;
            self.dismiss(pool);
        }
        work
    }

    /// Forgets a pool that has nothing to do.
    fn dismiss(&mut self, pool: &ThreadPool) {
        let is_done = |crew: &Crew| crew.threads == 0 && crew.line.is_empty();
        self.crews
            .retain(|crew| !crew.pool.is_same(pool) || !is_done(crew));
    }
}

impl Core {
    /// Gives a job to a thread that there is not; `time` is what such work takes.
    pub(crate) fn give_to_virtual_thread(
        self: &Rc<Self>,
        pool: &ThreadPool,
        time: Duration,
        work: Work,
    ) -> Result<(), (Work, PoolError)> {
        let origin = work.origin;
        let wakes = self.errands.borrow_mut().threads.give(pool, work)?;
        if wakes {
            let (weak, pool) = (Rc::downgrade(self), pool.clone());
            let wake = move || {
                let Some(core) = weak.upgrade() else {
                    return;
                };
                if let Some(crew) = core.errands.borrow_mut().threads.crew(&pool) {
                    crew.waking -= 1;
                }
                core.go_on_working(&pool);
            };
            // Much sooner than the work is done.
            self.call_at(self.later(time / 16), Call::at(origin, wake));
        }
        Ok(())
    }

    /// A thread is free: it begins what is next.
    fn go_on_working(self: &Rc<Self>, pool: &ThreadPool) {
        let work = self.errands.borrow_mut().threads.next(pool);
        let Some(Work { origin, run, .. }) = work else {
            return;
        };
        let time = self.driver().thread_time().unwrap_or_default();
        let (weak, pool) = (Rc::downgrade(self), pool.clone());
        let end = move || {
            // Before the work is done, which may do anything.
            if let Some(core) = weak.upgrade() {
                core.go_on_working(&pool);
            }
            run();
        };
        self.call_at(self.later(time), Call::at(origin, end));
    }
}
