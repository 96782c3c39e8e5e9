//! A call from another thread that has an answer.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use torsade_deferred::{Failure, Interrupted, IntoDeferred, maybe_deferred};

use crate::reactor::Reactor;
use crate::remote::{BlockingCallError, Ending, Remote, RemoteFailure};

impl Remote {
    /// Has the reactor call `call` on its own thread, in its next turn, and gives a handle on
    /// what that returns: a value, a failure, or a Deferred, which is waited for, too.
    /// Python's `asyncio.run_coroutine_threadsafe`; with nothing to do meanwhile, use
    /// [`blocking_call`](Remote::blocking_call).
    ///
    /// From any thread, as for [`call_from_thread`](Remote::call_from_thread).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use torsade_reactor::{BlockingCallError, Reactor, task::sleep};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let remote = reactor.remote();
    /// let worker = thread::spawn(move || {
    ///     let nap = remote.defer_from_thread(|reactor| sleep(reactor, Duration::from_secs(60)));
    ///     nap.cancel();
    ///     let outcome = nap.wait();
    ///     remote.stop();
    ///     outcome
    /// });
    /// reactor.run()?;
    /// assert!(matches!(worker.join(), Ok(Err(BlockingCallError::Failed(_)))));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn defer_from_thread<R>(
        &self,
        call: impl FnOnce(&Reactor) -> R + Send + 'static,
    ) -> RemoteCall<R::Value>
    where
        R: IntoDeferred<Failure, Value: Send + 'static>,
    {
        let (reply, answer) = bounded(1);
        let reply = Reply { reply };
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let handle = RemoteCall {
            remote: self.clone(),
            answer,
            is_cancelled: Arc::clone(&is_cancelled),
            number: None,
        };
        let give_up = reply.clone();
        let number = match self.register(Box::new(move |ending| give_up.send(Err(ending.into())))) {
            Ok(number) => number,
            Err(ending) => {
                reply.send(Err(ending.into()));
                return handle;
            }
        };
        let remote = self.clone();
        self.call_from_thread(move |reactor| {
            // It has its answer already, if the reactor was stopped and runs again.
            if !remote.is_registered(number) {
                return;
            }
            if is_cancelled.load(Ordering::Acquire) {
                remote.unregister(number);
                return reply.send(Err(cancelled()));
            }
            let deferred = maybe_deferred(|| call(reactor));
            let mailbox = &reactor.core().mailbox;
            mailbox.add_canceller(number, deferred.canceller());
            let core = Rc::downgrade(reactor.core());
            drop(deferred.add_both(move |result: Result<R::Value, Failure>| {
                if let Some(core) = core.upgrade() {
                    core.mailbox.take_canceller(number);
                }
                remote.unregister(number);
                reply.send(result.map_err(|failure| RemoteFailure::of(&failure).into()));
            }));
        });
        RemoteCall {
            number: Some(number),
            ..handle
        }
    }

    /// Has the reactor call `call` on its own thread, and waits for what it returns: a
    /// value, a failure, or a Deferred, which is waited for, too. Twisted's
    /// `blockingCallFromThread`.
    ///
    /// For threads that have nothing else to do: this blocks until the reactor runs and
    /// answers.
    ///
    /// # Errors
    ///
    /// [`BlockingCallError::Failed`], with the failure as far as it can cross threads. To
    /// have a typed error here, make it part of the value.
    /// [`OnReactorThread`](BlockingCallError::OnReactorThread), where waiting would never
    /// end. [`Stopped`](BlockingCallError::Stopped) or
    /// [`Gone`](BlockingCallError::Gone) if the reactor ends before it answers.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use torsade_deferred::Deferred;
    /// use torsade_reactor::Reactor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let remote = reactor.remote();
    /// let worker = thread::spawn(move || {
    ///     let answer = remote.blocking_call(|reactor| {
    ///         let (trigger, deferred) = Deferred::<u32>::new();
    ///         reactor.call_later(Duration::from_millis(1), || trigger.callback(42));
    ///         deferred
    ///     });
    ///     remote.stop();
    ///     answer
    /// });
    /// reactor.run()?;
    /// assert!(matches!(worker.join(), Ok(Ok(42))));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn blocking_call<R>(
        &self,
        call: impl FnOnce(&Reactor) -> R + Send + 'static,
    ) -> Result<R::Value, BlockingCallError>
    where
        R: IntoDeferred<Failure, Value: Send + 'static>,
    {
        if self.is_reactor_thread() {
            return Err(BlockingCallError::OnReactorThread);
        }
        self.defer_from_thread(call).wait()
    }
}

/// The answer to come of a call that was made with [`Remote::defer_from_thread`]. Dropping
/// this changes nothing: the call is made all the same.
#[must_use = "for a call without an answer there is call_from_thread"]
pub struct RemoteCall<T> {
    remote: Remote,
    answer: Receiver<Result<T, BlockingCallError>>,
    is_cancelled: Arc<AtomicBool>,
    /// `None` if it was refused.
    number: Option<u64>,
}

impl<T> RemoteCall<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// As for [`Remote::blocking_call`].
    pub fn wait(self) -> Result<T, BlockingCallError> {
        match self.try_wait() {
            Some(answer) => answer,
            None if self.remote.is_reactor_thread() => Err(BlockingCallError::OnReactorThread),
            None => self.answer.recv().unwrap_or(Err(BlockingCallError::Gone)),
        }
    }

    /// The answer, if it is here. It is given once; then there is none any more.
    ///
    /// # Errors
    ///
    /// As for [`Remote::blocking_call`].
    #[must_use]
    pub fn try_wait(&self) -> Option<Result<T, BlockingCallError>> {
        // Disconnected, if it was taken before.
        self.answer.try_recv().ok()
    }

    /// Cancels: a call that has not begun is not made, and what one has returned is
    /// cancelled, on the reactor's thread. The answer is what comes of that. From any
    /// thread; after the answer it does nothing.
    #[track_caller]
    pub fn cancel(&self) {
        let Some(number) = self.number else { return };
        self.is_cancelled.store(true, Ordering::Release);
        self.remote.call_from_thread(move |reactor| {
            // Detach, then cancel.
            let canceller = reactor.core().mailbox.take_canceller(number);
            if let Some(canceller) = canceller {
                canceller.cancel();
            }
        });
    }
}

impl<T> fmt::Debug for RemoteCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_registered = self
            .number
            .is_some_and(|number| self.remote.is_registered(number));
        let state = if is_registered { "waiting" } else { "answered" };
        write!(f, "RemoteCall({state})")
    }
}

/// Where the answer goes; the first one counts.
struct Reply<T> {
    reply: Sender<Result<T, BlockingCallError>>,
}

impl<T> Reply<T> {
    fn send(&self, answer: Result<T, BlockingCallError>) {
        // Full, if there is an answer already; closed, if nobody waits.
        let _ = self.reply.try_send(answer);
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self {
            reply: self.reply.clone(),
        }
    }
}

fn cancelled() -> BlockingCallError {
    RemoteFailure::of(&Failure::from(Interrupted::Cancelled)).into()
}

/// How a caller is told that no answer will come.
pub(crate) type GiveUp = Box<dyn Fn(Ending) + Send>;
