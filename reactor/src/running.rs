//! How the loop starts, and all the ways in which it ends.
//!
//! # Order
//!
//! A stop is a shutdown: the hooks before it, and the loop runs until what they return has
//! fired or the limit has passed; then ports and connections are lost; then the other hooks.
//! When the last handle goes there is no hook to be asked: everything is let go.
//!
//! # Not here
//!
//! The loop between the two (see `core.rs`), and who asks for all this (see `reactor.rs`).

use std::io;
use std::mem;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Failure, unhandled};

use crate::agenda::Agenda;
use crate::core::{Core, Pause};
use crate::delayed_call::DelayedCall;
use crate::driver::Events;
use crate::dump::Dump;
use crate::error::RunError;
use crate::hooks::{Phase, PhaseHooks};
use crate::panics::{self, PanicPolicy};
use crate::reactor::Reactor;
use crate::remains::crashed;
use crate::remote::Ending;
use crate::signals::Signal;
use crate::threads::Errand;

/// How long the hooks before a shutdown may take in all: as long as a connection may take
/// to send its rest.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// How long after the first another signal is meant as another one: who loses patience takes longer
/// than who sends one to a process and to its group.
const SECOND_SIGNAL: Duration = Duration::from_secs(1);

/// A shutdown that waits for its hooks.
pub(crate) struct ShuttingDown {
    /// Ends that.
    end: DelayedCall,
    begun: Instant,
}

impl Reactor {
    /// Lets go of everything now, as dropping the last handle does, and says what that was,
    /// line by line: for programs and tests that mean to leave nothing behind.
    ///
    /// Ports and connections are lost with
    /// [`ConnectionLost::Stopped`](crate::ConnectionLost::Stopped), calls are dropped; no hook
    /// is called. Other handles stay, on a reactor that is as good as new. (What is still
    /// there when the last handle is dropped without this is told to `tracing`, at debug
    /// level.)
    ///
    /// # Errors
    ///
    /// [`RunError::AlreadyRunning`] inside one of its own callbacks, [`RunError::Forked`] in a
    /// fork of its process; nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use torsade_reactor::Reactor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// reactor.call_later(Duration::from_secs(60), || println!("forgotten"));
    /// let left = reactor.close()?;
    /// assert_eq!(left.delayed_calls.len(), 1, "{left}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> Result<Dump, RunError> {
        let core = self.core();
        if core.lineage.is_forked() {
            return Err(RunError::Forked);
        }
        if core.running.get() {
            return Err(RunError::AlreadyRunning);
        }
        core.living()?;
        let left = core.dump();
        core.wind_up();
        core.mailbox.reopen();
        Ok(left)
    }
}

impl Core {
    /// The last handle is gone: tells what it leaves, where somebody wants to know.
    pub(crate) fn report_leaks(&self) {
        if !tracing::enabled!(target: "torsade", tracing::Level::DEBUG) {
            return;
        }
        let left = self.dump();
        if !left.is_empty() {
            tracing::debug!(target: "torsade", "the last handle of a reactor goes, and with it:\n{left}");
        }
    }

    /// Before the first turn of a run: the hooks of the start.
    pub(crate) fn start(self: &Rc<Self>) {
        self.run_phase(&self.startup, Phase::Before);
        self.starting.set(true);
        self.stir();
        self.go_on_starting();
    }

    pub(crate) fn run_phase(&self, hooks: &PhaseHooks, phase: Phase) {
        let owner = self.owner.borrow().clone();
        // From outside of a turn, perhaps: whoever waits in the loop's stead is to give one.
        let fired = move || {
            if let Some(owner) = owner.upgrade() {
                Reactor { owner }.core().stir();
            }
        };
        let goes_on = || !self.perished.get();
        hooks.run(phase, goes_on, fired, |origin, hook| {
            self.run_user_code(origin, hook);
        });
    }

    pub(crate) fn run_user_code(&self, origin: &'static Location<'static>, call: impl FnOnce()) {
        self.stop_watch.count_call();
        // The panic has been reported; there is nobody to tell.
        let _ = panics::catch_of(origin, call);
        self.settle();
    }

    /// The rest of the start, once the hooks before it have fired.
    pub(crate) fn go_on_starting(&self) {
        if self.starting.get() && !self.startup.is_waiting() {
            self.starting.set(false);
            self.run_phase(&self.startup, Phase::During);
            self.run_phase(&self.startup, Phase::After);
        }
    }

    /// What was to be called when the loop runs.
    #[cold]
    pub(crate) fn run_waiting_calls(&self) {
        let mut calls = self.when_running.take().into_iter();
        while !self.perished.get()
            && let Some(call) = calls.next()
        {
            self.run_call(call.origin, call.run);
        }
        // Those that a crash has left: to drop them is to run user code.
        self.when_running.borrow_mut().extend(calls);
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Result<Running<'_>, RunError> {
        // The poller of a forked process is its parent's.
        if self.lineage.is_forked() {
            return Err(RunError::Forked);
        }
        if self.running.replace(true) {
            return Err(RunError::AlreadyRunning);
        }
        self.agenda.remove(Agenda::HOSTED);
        if self.mailbox.has_ended() {
            self.begin_again()?;
        }
        self.mailbox.wake();
        if self.stop_watch.is_running() {
            self.stop_watch.enters(self.now());
        }
        let policy = self.panic_policy.get();
        let policy_before = (policy != PanicPolicy::Report).then(|| panics::set_policy(policy));
        Ok(Running {
            core: self,
            events: self.events.take(),
            policy_before,
        })
    }

    #[cold]
    fn begin_again(&self) -> Result<(), RunError> {
        if let Err(error) = self.living() {
            self.running.set(false);
            return Err(error);
        }
        self.mailbox.begin_again();
        Ok(())
    }

    /// An error, if its simulated machine has crashed.
    pub(crate) fn living(&self) -> Result<(), RunError> {
        match self.perished.get() {
            true => Err(RunError::Io(crashed())),
            false => Ok(()),
        }
    }

    pub(crate) fn stop(&self) {
        self.stir();
        self.stopping.set(true);
    }

    /// Has the loop left at the end of the turn.
    pub(crate) fn leave_soon(&self) {
        self.stir();
        self.leaving.set(true);
    }

    /// After a turn: whether the loop ends here. If it was stopped, what it drove goes,
    /// once the hooks before that have had their say.
    #[inline]
    pub(crate) fn leave(self: &Rc<Self>) -> bool {
        self.is_stirred() && self.leave_if_asked()
    }

    #[inline(never)]
    fn leave_if_asked(self: &Rc<Self>) -> bool {
        if self.stopping.take() && self.shutting_down.borrow().is_none() {
            self.begin_shutdown();
        }
        if self.is_shutdown_due() {
            self.shut_down();
            self.leaving.set(false);
            return true;
        }
        self.leaving.take() || self.perished.get()
    }

    fn begin_shutdown(self: &Rc<Self>) {
        let limit = self.shutdown_limit.get();
        let weak = Rc::downgrade(self);
        let end = self.call_later(limit, move || {
            if let Some(core) = weak.upgrade() {
                core.stop_without_hooks(&format!("within {limit:?}"));
            }
        });
        self.stir();
        let begun = self.now();
        self.shutting_down
            .replace(Some(ShuttingDown { end, begun }));
        self.run_phase(&self.shutdown, Phase::Before);
    }

    /// A signal stops the loop; a later one ends the wait for the hooks before the shutdown.
    pub(crate) fn stop_by(&self, signal: Signal) {
        let begun = self.shutting_down.borrow().as_ref().map(|it| it.begun);
        match begun {
            // One that comes twice was sent by one that wants it once: by `timeout` and by the
            // terminal to a whole group, by a wrapper that passes it on.
            Some(begun) if self.now() - begun >= SECOND_SIGNAL => {
                self.stop_without_hooks(&format!("before another {signal} came"));
            }
            Some(_) => {}
            None => self.stop(),
        }
    }

    /// The shutdown goes on without those that it waits for, which are told.
    fn stop_without_hooks(&self, when: &str) {
        let late = self.shutdown.waiting_for();
        self.stir();
        self.shutdown.give_up();
        for origin in late {
            let what = format!(
                "a hook before the shutdown has not fired {when}; the shutdown goes on without it"
            );
            unhandled::report_failure(&Failure::message(what), origin);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get() || self.shutting_down.borrow().is_some()
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.starting.get()
    }

    #[inline]
    pub(crate) fn is_shutdown_due(&self) -> bool {
        self.shutting_down.borrow().is_some() && !self.shutdown.is_waiting()
    }

    fn shut_down(&self) {
        if let Some(ShuttingDown { end, .. }) = self.shutting_down.take() {
            end.cancel();
        }
        self.lose_everything();
        self.run_phase(&self.shutdown, Phase::During);
        self.run_phase(&self.shutdown, Phase::After);
        if self.perished.get() {
            return;
        }
        self.mailbox.end(Ending::Stopped);
        // Whoever asked again meanwhile has what they asked for; and a start that was under
        // way is over.
        self.stopping.set(false);
        self.startup.give_up();
        self.starting.set(false);
    }

    pub(crate) fn set_shutdown_limit(&self, limit: Duration) {
        self.shutdown_limit.set(limit);
    }

    fn lose_everything(&self) {
        let sources: Vec<_> = self
            .sources
            .borrow()
            .iter()
            .map(|(_, registered)| Rc::clone(&registered.source))
            .collect();
        for source in sources {
            // The panic of a drop has been reported; the others go all the same.
            let _ = panics::catch(|| source.stop());
            self.settle();
        }
    }

    /// The last handle is gone: so is everything that nobody can reach any more.
    pub(crate) fn wind_up(&self) {
        if self.winding_up.replace(true) {
            return;
        }
        // What goes may bring something new, in its `connection_lost` or its drop; a few
        // rounds for that, and then it is the cycle's own fault.
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            self.lose_everything();
            // Taken out of queues that stay: a handle of one of these, or an answer to it, is not to
            // be taken for that of a later one.
            let timers =
                [&self.timers, &self.boot_timers].map(|timers| timers.borrow_mut().take_all());
            let soon = self.soon.borrow_mut().take_all();
            let (errands, threads) = self.errands.borrow_mut().take_all();
            let (starting, lookups) = (self.when_running.take(), self.lookups.take());
            let _ = panics::catch(|| self.clear_hooks());
            let _ = panics::catch(|| self.signals.clear());
            // The panics have been reported.
            let _ = panics::catch(|| drop((timers, soon)));
            let _ = panics::catch(|| errands.iter().for_each(Errand::cancel));
            let _ = panics::catch(|| drop((starting, lookups, errands, threads)));
            while let Some(post) = self.mailbox.take() {
                let _ = panics::catch(|| drop(post));
            }
            let left = !self.sources.borrow().is_empty()
                || !self.timers.borrow().is_empty()
                || !self.boot_timers.borrow().is_empty()
                || !self.soon.borrow().is_empty();
            if !left {
                break;
            }
        }
        self.forget_stops();
        self.mailbox.end(Ending::Gone);
        self.winding_up.set(false);
    }

    /// A stop that was asked for or is under way is not the next run's, nor is a start.
    pub(crate) fn forget_stops(&self) {
        for asked in [&self.stopping, &self.leaving, &self.starting] {
            asked.set(false);
        }
        // Its call is gone with the others.
        self.shutting_down.take();
        for hooks in [&self.startup, &self.shutdown] {
            hooks.give_up();
        }
    }

    fn clear_hooks(&self) {
        for hooks in [&self.prepare, &self.check, &self.idle] {
            hooks.clear();
        }
        for hooks in [&self.startup, &self.shutdown] {
            hooks.clear();
        }
        self.stop_watch.clear();
    }
}

/// Held while the loop runs.
pub(crate) struct Running<'a> {
    core: &'a Rc<Core>,
    /// Lent by the core, for as long.
    events: Events,
    /// What held on this thread, if this loop has a policy of its own.
    policy_before: Option<PanicPolicy>,
}

impl Running<'_> {
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    pub(crate) fn turn(&mut self, pause: Pause) -> io::Result<()> {
        self.core.turn(pause, &mut self.events)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.core.events.set(mem::take(&mut self.events));
        if let Some(policy) = self.policy_before {
            panics::set_policy(policy);
        }
        self.core.running.set(false);
        if self.core.stop_watch.is_running() {
            self.core.stop_watch.leaves(self.core.now());
        }
        // From here on a post makes the descriptor readable; one that is there already makes
        // the deadline pass.
        self.core.mailbox.fall_asleep();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use torsade_deferred::Deferred;

    use crate::testing::virtual_time_reactor;

    use super::*;

    #[test]
    fn a_second_signal_ends_the_wait_for_the_hooks_but_not_one_that_was_sent_twice() {
        let (reactor, reports) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
        let count = Rc::clone(&reports);
        let _guard = unhandled::set_hook(move |report| {
            let message = report.message();
            assert!(message.contains("before another SIGTERM came"), "{message}");
            count.set(count.get() + 1);
        });
        let (_trigger, never) = Deferred::<()>::new();
        reactor.on_shutdown(Phase::Before, move || never);
        for millis in [0, 1, 999, 3000, 4000] {
            let weak = reactor.downgrade();
            reactor.call_later(Duration::from_millis(millis), move || {
                let reactor = weak.upgrade().expect("it runs");
                reactor.core().stop_by(Signal::TERM);
            });
        }
        let begin = reactor.now();
        reactor.run().expect("it stops");
        assert_eq!(reactor.now() - begin, Duration::from_secs(3));
        assert_eq!(reports.get(), 1);
    }
}
