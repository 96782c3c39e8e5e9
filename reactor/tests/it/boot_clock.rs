//! Timers that mean the time of the world, suspensions included.

use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, Failure, Interrupted, Timeout};
use torsade_reactor::task::{LoopingCall, sleep};
use torsade_reactor::testing::{suspend, virtual_time_reactor};

use crate::common::{Log, is_readable, reactor, run_while};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn without_a_suspension_it_is_a_clock_like_the_reactors_own() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (begin, clock) = (reactor.now(), reactor.boot_clock().unwrap());
    clock.call_later(2 * SECOND, log.adds("boot"));
    reactor.call_later(2 * SECOND, log.adds("usual"));
    clock.call_at(clock.now() + SECOND, log.adds("first"));
    let handle = reactor.clone();
    clock.call_later(3 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["first", "usual", "boot"]);
    assert_eq!(reactor.now() - begin, 3 * SECOND);
}

#[test]
fn suspension_counts_for_the_boot_clock_alone() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let clock = reactor.boot_clock().unwrap();
    let (usual, boot) = (reactor.now(), clock.now());
    clock.call_later(HOUR, log.adds("lease"));
    reactor.call_later(HOUR, log.adds("timeout"));
    let late = clock.call_later(3 * HOUR, || ());
    suspend(&reactor, 2 * HOUR);
    assert_eq!(reactor.next_deadline(), Some(usual), "it is due now");
    reactor.turn(None).unwrap();
    log.check(["lease"]);
    assert_eq!(
        (reactor.now() - usual, clock.now() - boot),
        (Duration::ZERO, 2 * HOUR)
    );
    assert_eq!(late.deadline(), Some(boot + 3 * HOUR));
    assert!(format!("{late:?}").starts_with("DelayedCall(in 3600s, scheduled at "));
    reactor.turn(None).unwrap();
    reactor.turn(None).unwrap();
    log.check(["lease", "timeout"]);
}

#[test]
fn calls_of_the_boot_clock_are_cancelled_put_off_and_brought_forward() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let clock = reactor.boot_clock().unwrap();
    let cancelled = clock.call_later(SECOND, log.adds("cancelled"));
    let later = clock.call_later(SECOND, log.adds("later"));
    let sooner = clock.call_later(HOUR, log.adds("sooner"));
    assert!(cancelled.cancel() && !cancelled.cancel());
    assert!(later.delay(9 * SECOND) && sooner.reset(5 * SECOND));
    let handle = reactor.clone();
    clock.call_later(20 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["sooner", "later"]);
    assert!(!later.reset(SECOND) && !later.delay(SECOND) && !later.is_active());
}

#[test]
fn everything_that_takes_a_clock_takes_the_boot_clock_and_keeps_no_reactor() {
    let (reactor, held) = (virtual_time_reactor(), Rc::new(()));
    let clock = reactor.boot_clock().unwrap();
    let nap = sleep(&clock, HOUR);
    let limited = Deferred::<()>::new();
    let limit = limited.1.add_timeout(HOUR, &clock);
    let timeout = Timeout::new(HOUR, &clock);
    let (_trigger, moved) = Deferred::<()>::new();
    let moved = moved.add_movable_timeout(&timeout);
    let (counted, log) = (Rc::downgrade(&held), Log::default());
    let ticks = log.clone();
    let looping = LoopingCall::new(&clock, move || {
        let _ = &held;
        ticks.add("tick");
    });
    let ended = looping.start_later(HOUR);
    suspend(&reactor, HOUR);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(nap.is_fired() && limit.is_fired() && moved.is_fired());
    log.check(["tick"]);
    for timed_out in [limit, moved] {
        let failure = timed_out.into_result().unwrap().unwrap_err();
        assert_eq!(failure.downcast_ref(), Some(&Interrupted::TimedOut(HOUR)));
    }
    let weak = clock.weak_clock().unwrap();
    let now = weak.now();
    drop((reactor, clock));
    assert_eq!(weak.now(), now);
    let ended: Result<_, Failure> = ended.into_result().unwrap();
    assert!(ended.is_err());
    drop((looping, ended));
    assert_eq!(counted.strong_count(), 0);
}

#[test]
fn boot_clock_wakes_a_loop_that_has_nothing_else_to_wait_for() {
    let (reactor, log) = (reactor(), Log::default());
    let clock = reactor.boot_clock().unwrap();
    clock.call_later(Duration::from_millis(1), log.adds("first"));
    clock.call_later(Duration::from_millis(2), log.adds("second"));
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["first", "second"]);
}

/// A suspended machine's hosts wait for the descriptor: no limit of theirs has passed.
#[test]
fn descriptor_is_readable_when_the_next_call_of_the_boot_clock_is_due() {
    let (reactor, log) = (reactor(), Log::default());
    let clock = reactor.boot_clock().unwrap();
    clock.call_later(Duration::from_millis(1), log.adds("first"));
    clock.call_later(Duration::from_millis(2), log.adds("second"));
    while log.lines().len() < 2 {
        assert!(is_readable(&reactor, None));
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let cancelled = clock.call_later(Duration::from_millis(1), || ());
    cancelled.cancel();
    assert_eq!(reactor.next_deadline(), None);
}
