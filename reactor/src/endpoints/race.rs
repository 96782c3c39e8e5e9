//! Attempts that race each other, and the first that succeeds.
//!
//! The rim of [`Eyeballs`]: it has the timers, and begins and cancels what that says.
//!
//! # Cancellation
//!
//! However it ends, with a winner, without one, at its deadline or cancelled: the attempts
//! that still go on are cancelled, and no timer is left.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{Canceller, Deferred, Trigger};

use super::eyeballs::Eyeballs;
use crate::connect_error::ConnectError;
use crate::core::Core;
use crate::delayed_call::{Call, DelayedCall};

/// What is being connected to, and how long it may take.
pub(crate) struct Terms {
    /// As the user wrote it, for errors.
    pub(crate) address: String,
    /// What the user set.
    pub(crate) limit: Duration,
    /// The limit's end: it began with the lookup.
    pub(crate) deadline: Instant,
}

/// Tries addresses with `dial`, each at the time that [`Eyeballs`] says, until one succeeds,
/// all have failed, or the deadline has passed.
pub(crate) fn race<T: 'static>(
    core: &Rc<Core>,
    eyeballs: Eyeballs,
    terms: Terms,
    dial: impl Fn(SocketAddr) -> Deferred<T, ConnectError> + 'static,
) -> Deferred<T> {
    let (trigger, deferred) = Deferred::new();
    let deadline = terms.deadline;
    let origin = core.origin().unwrap_or_else(Location::caller);
    let race = Rc::new_cyclic(|weak: &Weak<Race<T>>| {
        let weak = weak.clone();
        trigger.on_cancel(move || {
            if let Some(race) = weak.upgrade() {
                drop(race.end());
            }
        });
        Race {
            core: Rc::clone(core),
            origin,
            terms,
            dial: Box::new(dial),
            eyeballs: RefCell::new(eyeballs),
            running: RefCell::default(),
            begun: Cell::new(0),
            failures: RefCell::default(),
            delay: Cell::new(None),
            limit: Cell::new(None),
            trigger: Cell::new(Some(trigger)),
            advancing: Cell::new(false),
        }
    });
    let weak = Rc::downgrade(&race);
    let limit = race.call_at(deadline, move || {
        if let Some(race) = weak.upgrade() {
            race.timed_out();
        }
    });
    race.limit.set(Some(limit));
    race.advance();
    deferred
}

/// Kept alive by the callbacks of its attempts.
struct Race<T: 'static> {
    core: Rc<Core>,
    /// The line that connects, for reports.
    origin: &'static Location<'static>,
    terms: Terms,
    dial: Box<dyn Fn(SocketAddr) -> Deferred<T, ConnectError>>,
    eyeballs: RefCell<Eyeballs>,
    /// The attempts that go on, by their numbers.
    running: RefCell<Vec<(usize, Canceller)>>,
    begun: Cell<usize>,
    failures: RefCell<Vec<ConnectError>>,
    delay: Cell<Option<DelayedCall>>,
    limit: Cell<Option<DelayedCall>>,
    /// `None` when it has ended.
    trigger: Cell<Option<Trigger<T>>>,
    /// The loop in `advance` is on the stack: what fails at once does not nest.
    advancing: Cell<bool>,
}

impl<T: 'static> Race<T> {
    /// Begins what is to be begun now, and sees whether anything is left to hope for.
    fn advance(self: &Rc<Self>) {
        if self.advancing.replace(true) {
            return;
        }
        while !self.is_over() {
            let next = self.eyeballs.borrow_mut().poll_attempt(self.core.now());
            match next {
                Some(peer) => self.attempt(peer),
                None => break,
            }
        }
        self.advancing.set(false);
        if self.is_over() {
            return;
        }
        if self.eyeballs.borrow().is_exhausted() {
            return self.fail();
        }
        self.wait_for_next();
    }

    fn attempt(self: &Rc<Self>, peer: SocketAddr) {
        let number = self.begun.get();
        self.begun.set(number + 1);
        let attempt = self.core.on_behalf_of(self.origin, || (self.dial)(peer));
        let canceller = attempt.canceller();
        self.running.borrow_mut().push((number, canceller));
        let race = Rc::clone(self);
        // Dropped: both ways are handled.
        drop(attempt.add_both(move |outcome| {
            race.attempt_ended(number, outcome);
            Ok::<_, ConnectError>(())
        }));
    }

    fn attempt_ended(self: &Rc<Self>, number: usize, outcome: Result<T, ConnectError>) {
        // Detach, then drop.
        let ended = {
            let mut running = self.running.borrow_mut();
            let place = running.iter().position(|(other, _)| *other == number);
            place.map(|place| running.remove(place))
        };
        drop(ended);
        match outcome {
            // A second winner finds no trigger, and is dropped: so it is lost.
            Ok(winner) => {
                if let Some(trigger) = self.end() {
                    trigger.callback(winner);
                }
            }
            // Ended by us, or by the reactor when it stops: then nothing further is tried.
            Err(interrupted @ ConnectError::Interrupted(_)) => {
                if let Some(trigger) = self.end() {
                    trigger.errback(interrupted);
                }
            }
            Err(error) if !self.is_over() => {
                self.failures.borrow_mut().push(error);
                self.eyeballs.borrow_mut().attempt_failed();
                self.advance();
            }
            Err(_) => {}
        }
    }

    fn call_at(&self, deadline: Instant, call: impl FnOnce() + 'static) -> DelayedCall {
        self.core.call_at(deadline, Call::at(self.origin, call))
    }

    fn wait_for_next(self: &Rc<Self>) {
        let deadline = self.eyeballs.borrow().deadline();
        let call = deadline.map(|deadline| {
            let weak = Rc::downgrade(self);
            self.call_at(deadline, move || {
                if let Some(race) = weak.upgrade() {
                    race.advance();
                }
            })
        });
        if let Some(outdated) = self.delay.replace(call) {
            outdated.cancel();
        }
    }

    fn fail(&self) {
        let failures = self.failures.take();
        if let Some(trigger) = self.end() {
            trigger.errback(ConnectError::of_attempts(&self.terms.address, failures));
        }
    }

    fn timed_out(&self) {
        let others = self.failures.take();
        if let Some(trigger) = self.end() {
            trigger.errback(ConnectError::TimedOut {
                address: self.terms.address.clone(),
                limit: self.terms.limit,
                others,
            });
        }
    }

    /// Ends everything; the trigger is the caller's to fire, or to drop.
    fn end(&self) -> Option<Trigger<T>> {
        let trigger = self.trigger.take();
        for call in [self.delay.take(), self.limit.take()].into_iter().flatten() {
            call.cancel();
        }
        // Detach, then call.
        let losers = mem::take(&mut *self.running.borrow_mut());
        for (_, loser) in losers {
            loser.cancel();
        }
        trigger
    }

    fn is_over(&self) -> bool {
        let trigger = self.trigger.take();
        let over = trigger.is_none();
        self.trigger.set(trigger);
        over
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use torsade_deferred::Interrupted;

    use crate::reactor::Reactor;
    use crate::testing;

    use super::*;

    const DELAY: Duration = Duration::from_millis(250);
    const LIMIT: Duration = Duration::from_secs(30);

    /// An attempt that goes on, by its port.
    type Pending = (u16, Trigger<u16, ConnectError>);

    /// What the world does with the attempts, and what it saw of them.
    #[derive(Clone, Default)]
    struct World {
        log: Rc<RefCell<Vec<String>>>,
        pending: Rc<RefCell<Vec<Pending>>>,
    }

    impl World {
        /// Races ports from 1 upwards. Port 7 fails at once, 8 succeeds at once.
        fn race(&self, reactor: &Reactor, ports: &[u16]) -> Deferred<u16> {
            let addresses = ports
                .iter()
                .map(|port| SocketAddr::from(([127, 0, 0, 1], *port)));
            let terms = Terms {
                address: "name:1".into(),
                limit: LIMIT,
                deadline: reactor.now() + LIMIT,
            };
            let (world, begin) = (self.clone(), reactor.now());
            let clock = reactor.downgrade();
            race(
                reactor.core(),
                Eyeballs::new(addresses, DELAY),
                terms,
                move |peer| {
                    let now = clock.upgrade().map_or(begin, |reactor| reactor.now());
                    world.add(format!("{} at {:?}", peer.port(), now - begin));
                    let (trigger, attempt) = Deferred::new();
                    let (port, seen) = (peer.port(), world.clone());
                    trigger.on_cancel(move || seen.add(format!("{port} cancelled")));
                    match port {
                        7 => trigger.errback(refused(port)),
                        8 => trigger.callback(port),
                        _ => world.pending.borrow_mut().push((port, trigger)),
                    }
                    attempt
                },
            )
        }

        fn add(&self, line: String) {
            self.log.borrow_mut().push(line);
        }

        fn fire(&self, port: u16, outcome: Result<u16, ConnectError>) {
            let trigger = {
                let mut pending = self.pending.borrow_mut();
                let place = pending.iter().position(|(other, _)| *other == port);
                pending.remove(place.expect("it has begun")).1
            };
            trigger.fire(outcome);
        }

        #[track_caller]
        fn check<const N: usize>(&self, expected: [&str; N]) {
            assert_eq!(*self.log.borrow(), expected);
        }
    }

    fn refused(port: u16) -> ConnectError {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        ConnectError::of_system(port.to_string(), error, None)
    }

    fn no_route(port: u16) -> ConnectError {
        let error = io::Error::from(io::ErrorKind::NetworkUnreachable);
        ConnectError::of_system(port.to_string(), error, None)
    }

    /// Lets virtual time pass.
    fn pass(reactor: &Reactor, time: Duration) {
        let (trigger, over) = Deferred::<()>::new();
        reactor.call_later(time, move || trigger.callback(()));
        reactor.run_until(over).expect("the call is made");
    }

    #[track_caller]
    fn nothing_is_left(reactor: &Reactor) {
        assert!(
            reactor.dump().delayed_calls.is_empty(),
            "{}",
            reactor.dump()
        );
    }

    #[test]
    fn the_first_success_wins_and_the_others_are_cancelled() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 2, 3]);
        pass(&reactor, 2 * DELAY);
        world.fire(2, Ok(2));
        assert!(matches!(winner.into_result(), Ok(Ok(2))));
        world.check([
            "1 at 0ns",
            "2 at 250ms",
            "3 at 500ms",
            "1 cancelled",
            "3 cancelled",
        ]);
        nothing_is_left(&reactor);
    }

    #[test]
    fn a_failure_begins_the_next_attempt_at_once() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 7, 7, 8]);
        pass(&reactor, Duration::from_millis(10));
        world.fire(1, Err(no_route(1)));
        assert!(matches!(winner.into_result(), Ok(Ok(8))));
        world.check(["1 at 0ns", "7 at 10ms", "7 at 10ms", "8 at 10ms"]);
        nothing_is_left(&reactor);
    }

    #[test]
    fn when_all_fail_the_most_telling_error_is_reported_with_the_others() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 2, 3]);
        world.fire(1, Err(no_route(1)));
        world.fire(2, Err(refused(2)));
        world.fire(3, Err(no_route(3)));
        let failure = winner.into_result().expect("it ended").expect_err("badly");
        assert_eq!(
            failure.to_string(),
            "cannot connect to name:1 (2): connection refused; 1: network unreachable; \
             3: network unreachable"
        );
        let error = failure.trap::<ConnectError>().expect("it is one");
        assert!(matches!(&error, ConnectError::Refused { others, .. } if others.len() == 2));
        assert_eq!(error.attempts().count(), 3);
        nothing_is_left(&reactor);
    }

    #[test]
    fn cancelling_cancels_the_attempts_and_the_delay() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 2, 3]);
        pass(&reactor, DELAY);
        winner.cancel();
        world.check(["1 at 0ns", "2 at 250ms", "1 cancelled", "2 cancelled"]);
        nothing_is_left(&reactor);
        let failure = winner.into_result().expect("it ended").expect_err("badly");
        assert!(failure.check::<Interrupted>(), "{failure}");
    }

    #[test]
    fn the_deadline_ends_it_and_tells_what_failed_before() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[7, 1]);
        let failure = reactor.run_until(winner).expect_err("nobody answers");
        assert_eq!(
            failure.to_string(),
            "cannot connect to name:1: no answer within 30s; 7: connection refused"
        );
        world.check(["7 at 0ns", "1 at 0ns", "1 cancelled"]);
        nothing_is_left(&reactor);
    }

    #[test]
    fn an_attempt_that_the_reactor_ends_is_the_last() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 2]);
        world.fire(1, Err(Interrupted::Cancelled.into()));
        let failure = winner.into_result().expect("it ended").expect_err("badly");
        assert!(failure.check::<ConnectError>(), "{failure}");
        world.check(["1 at 0ns"]);
        nothing_is_left(&reactor);
    }

    #[test]
    fn ten_thousand_addresses_that_fail_at_once_use_constant_stack() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[7; 10_000]);
        let failure = winner.into_result().expect("it ended").expect_err("badly");
        let error = failure.trap::<ConnectError>().expect("it is one");
        assert_eq!(error.attempts().count(), 10_000);
    }

    #[test]
    fn a_race_that_is_over_in_the_winners_callback_is_left_in_peace() {
        let (reactor, world) = (testing::virtual_time_reactor(), World::default());
        let winner = world.race(&reactor, &[1, 8]);
        let canceller = winner.canceller();
        let again = winner.map(move |port| {
            canceller.cancel();
            port
        });
        let won = reactor.run_until(again).expect("8 succeeds at once");
        assert_eq!(won, 8);
        world.check(["1 at 0ns", "8 at 250ms", "1 cancelled"]);
        nothing_is_left(&reactor);
    }
}
