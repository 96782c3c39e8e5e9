//! A handle that keeps no reactor alive.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, Failure, Interrupted, Timeout};
use torsade_reactor::task::{LoopingCall, sleep};
use torsade_reactor::testing::virtual_time_reactor;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn weak_handle_in_a_call_does_not_keep_the_reactor() {
    let (reactor, held) = (virtual_time_reactor(), Rc::new(()));
    let (weak, seen) = (reactor.downgrade(), Rc::downgrade(&held));
    let copy = weak.clone();
    reactor.call_later(SECOND, move || drop((held, copy)));
    assert!(
        weak.upgrade()
            .is_some_and(|again| again.now() == reactor.now())
    );
    assert!(format!("{weak:?}").starts_with("WeakReactor(Reactor {"));
    drop(reactor);
    assert_eq!(seen.strong_count(), 0, "the call went with the reactor");
    assert!(weak.upgrade().is_none());
    assert_eq!(format!("{weak:?}"), "WeakReactor(gone)");
}

#[test]
fn weak_handle_does_not_come_back_while_the_reactor_goes() {
    let (reactor, came_back) = (virtual_time_reactor(), Rc::new(Cell::new(None)));
    let (weak, says) = (reactor.downgrade(), Rc::clone(&came_back));
    let last = OnDrop(Some(Box::new(move || {
        says.set(Some(weak.upgrade().is_some()))
    })));
    reactor.call_later(SECOND, move || drop(last));
    drop(reactor);
    assert_eq!(came_back.get(), Some(false));
}

struct OnDrop(Option<Box<dyn FnOnce()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

#[test]
fn weak_handle_is_a_clock_that_stands_still_when_the_reactor_is_gone() {
    let reactor = virtual_time_reactor();
    let weak = reactor.downgrade();
    reactor.run_until(sleep(&weak, SECOND)).unwrap();
    let now = weak.now();
    assert_eq!(now, reactor.now());
    drop(reactor);
    assert_eq!(weak.now(), now);
    let nap = sleep(&weak, SECOND).into_result().unwrap();
    assert!(
        matches!(
            nap.unwrap_err().downcast_ref(),
            Some(Interrupted::Abandoned { .. })
        ),
        "what is scheduled is dropped"
    );
}

#[test]
fn neither_a_loop_nor_a_timeout_keeps_the_reactor_that_is_its_clock() {
    let (reactor, held) = (virtual_time_reactor(), Rc::new(()));
    let (weak, counted) = (reactor.downgrade(), Rc::downgrade(&held));
    let looping = LoopingCall::new(&reactor, move || {
        let _ = &held;
    });
    let ended = looping.start(SECOND);
    let timeout = Timeout::new(SECOND, &reactor);
    let (_trigger, waiting) = Deferred::<()>::new();
    let waiting = waiting.add_movable_timeout(&timeout);
    drop(reactor);
    assert!(weak.upgrade().is_none());
    let ended: Result<_, Failure> = ended.into_result().unwrap();
    assert!(ended.is_err());
    drop(looping);
    assert_eq!(counted.strong_count(), 0);
    assert!(!waiting.is_fired());
}
