//! Futures on the loop: spawning them, and awaiting descriptors.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use torsade_deferred::{ChainError, Deferred, Trigger};

use crate::descriptor::{Interest, Mode, Readiness, Watch, WatchError};
use crate::dump::{Kind, Listed};
use crate::reactor::Reactor;

impl Reactor {
    /// Runs a future on this loop; its result becomes the Deferred's.
    ///
    /// It starts at once, inside this call, and runs up to what it must wait for. It may
    /// await Deferreds, which resume it on the stack of whoever fires them, and any other
    /// future, whose waker works from every thread and resumes it in the next turn. It need
    /// not be `Send`.
    ///
    /// Dropping the Deferred does not stop it; cancelling does, through what it awaits. See
    /// [`Deferred::from_future`], which does the same without a reactor, for bodies that await
    /// Deferreds.
    ///
    /// One that waits for something other than this reactor outlives a
    /// [`close`](Reactor::close), and goes on when that wakes it and the reactor runs again.
    /// Cancel it, if it should not.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use torsade_deferred::{Deferred, Failure};
    /// use torsade_reactor::testing::virtual_time_reactor;
    ///
    /// let reactor = virtual_time_reactor();
    /// let (trigger, ready) = Deferred::<u32>::new();
    /// reactor.call_later(Duration::from_secs(1), move || trigger.callback(41));
    /// let sum = reactor.spawn(async move { Ok::<_, Failure>(ready.await? + 1) });
    /// assert_eq!(reactor.run_until(sum).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn spawn<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + 'static,
    ) -> Deferred<T, E>
    where
        T: 'static,
        E: ChainError,
    {
        let remote = self.remote();
        let wake_home = move |resume: torsade_deferred::Resume| {
            remote.call_from_thread(move |_| {
                // It fails on another thread than the task's, and this is the task's.
                let _ = resume.run();
            });
        };
        let on_the_list = Listed::add(self.core(), Kind::Future);
        let future = async move {
            let _on_the_list = on_the_list;
            future.await
        };
        Deferred::from_future_with(future, Arc::new(wake_home))
    }

    /// Watches a descriptor for `readable().await` and `writable().await`.
    ///
    /// # Errors
    ///
    /// As for [`Reactor::watch`].
    pub fn async_fd<S: AsFd + 'static>(&self, source: S) -> Result<AsyncFd<S>, WatchError<S>> {
        let waiting = Rc::new(RefCell::new(Waiting::default()));
        let woken = AbandonedWhenDropped(Rc::clone(&waiting));
        let watch = self.watch(
            source,
            Interest::Read,
            Mode::OneShot,
            move |watch, readiness| {
                wake(watch, &woken.0, readiness);
            },
        )?;
        // Nobody waits yet.
        watch.disable();
        Ok(AsyncFd { watch, waiting })
    }
}

/// A descriptor whose readiness can be awaited. Made by [`Reactor::async_fd`]; dropping it
/// ends the watch.
///
/// Try the operation first; if it says `WouldBlock`, await, and try again.
pub struct AsyncFd<S: AsFd + 'static> {
    watch: Watch<S>,
    waiting: Rc<RefCell<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    readers: Vec<Trigger<(), io::Error>>,
    writers: Vec<Trigger<(), io::Error>>,
}

impl Waiting {
    fn interest(&self) -> Option<Interest> {
        match (self.readers.is_empty(), self.writers.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Interest::Read),
            (true, false) => Some(Interest::Write),
            (false, false) => Some(Interest::ReadWrite),
        }
    }
}

/// Who waits, as the watch's callback holds them. It is dropped when the watch ends: nothing
/// will ever be ready then.
struct AbandonedWhenDropped(Rc<RefCell<Waiting>>);

impl Drop for AbandonedWhenDropped {
    fn drop(&mut self) {
        // Detach, then drop: who is abandoned may do anything.
        let waiting = self.0.take();
        drop(waiting);
    }
}

impl<S: AsFd + 'static> AsyncFd<S> {
    /// Fires when a read will not block. Any number may wait.
    ///
    /// # Errors
    ///
    /// What the system says of the descriptor; `Abandoned` when the reactor stops.
    #[must_use]
    pub fn readable(&self) -> Deferred<(), io::Error> {
        self.wait(|waiting| &mut waiting.readers)
    }

    /// Fires when a write will not block. Any number may wait.
    ///
    /// # Errors
    ///
    /// As for [`readable`](AsyncFd::readable).
    #[must_use]
    pub fn writable(&self) -> Deferred<(), io::Error> {
        self.wait(|waiting| &mut waiting.writers)
    }

    /// The source, unless the reactor has stopped. May be held across an `await`; who holds
    /// it keeps it open.
    #[must_use]
    pub fn source(&self) -> Option<Rc<S>> {
        self.watch.source()
    }

    /// Ends the watch and gives the source back; `None` if the reactor has stopped, or if
    /// somebody holds what [`source`](AsyncFd::source) gave. Who still waits fails with
    /// `Abandoned`.
    #[must_use]
    pub fn into_source(self) -> Option<S> {
        self.watch.remove()
    }

    fn wait(
        &self,
        line: impl FnOnce(&mut Waiting) -> &mut Vec<Trigger<(), io::Error>>,
    ) -> Deferred<(), io::Error> {
        let (trigger, deferred) = Deferred::new();
        {
            let mut waiting = self.waiting.borrow_mut();
            let line = line(&mut waiting);
            // Who was cancelled or dropped waits no longer: a loop of waits that are given up
            // stays small.
            line.retain(|it| it.is_open() && it.is_watched());
            line.push(trigger);
        }
        arm(&self.watch, &self.waiting);
        deferred
    }
}

impl<S: AsFd + 'static> Drop for AsyncFd<S> {
    fn drop(&mut self) {
        self.watch.remove();
        // The callback does the same, but it may be on the stack.
        let waiting = self.waiting.take();
        drop(waiting);
    }
}

impl<S: AsFd + 'static> fmt::Debug for AsyncFd<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.borrow();
        write!(
            f,
            "AsyncFd({} read, {} write)",
            waiting.readers.len(),
            waiting.writers.len()
        )
    }
}

/// Has the watch listen for whoever waits.
fn arm<S: AsFd + 'static>(watch: &Watch<S>, waiting: &Rc<RefCell<Waiting>>) {
    let Some(interest) = waiting.borrow().interest() else {
        return;
    };
    let armed = watch
        .set_interest(interest, Mode::OneShot)
        .and_then(|()| watch.enable());
    if let Err(error) = armed {
        let failed = waiting.take();
        for trigger in failed.readers.into_iter().chain(failed.writers) {
            trigger.errback(io::Error::from(error.kind()));
        }
    } else if watch.source().is_none() {
        // The reactor has stopped: nothing will ever be ready.
        let abandoned = waiting.take();
        drop(abandoned);
    }
}

fn wake<S: AsFd + 'static>(watch: &Watch<S>, waiting: &Rc<RefCell<Waiting>>, readiness: Readiness) {
    let (readers, writers) = {
        let mut waiting = waiting.borrow_mut();
        let readable = readiness.readable || readiness.hangup;
        let writable = readiness.writable || readiness.hangup;
        (
            if readable {
                mem::take(&mut waiting.readers)
            } else {
                Vec::new()
            },
            if writable {
                mem::take(&mut waiting.writers)
            } else {
                Vec::new()
            },
        )
    };
    // Detach, then call.
    for trigger in readers.into_iter().chain(writers) {
        trigger.callback(());
    }
    arm(watch, waiting);
}
