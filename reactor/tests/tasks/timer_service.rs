//! A periodic call as a service: statements of `twisted.application.internet.TimerService`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, Trigger, unhandled};
use torsade_reactor::task::TimerService;
use torsade_reactor::testing::ManualClock;

use crate::support::{Log, NoLuck, SECOND, value};

#[test]
fn it_calls_at_its_start_and_then_every_step_until_it_is_stopped() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let service = TimerService::new(SECOND, &clock, log.adds("call"));
    assert!(!service.is_running() && service.stop().is_fired());
    service.start().unwrap();
    assert!(service.is_running() && service.start().is_err());
    log.check(["call"]);
    clock.pump([SECOND, SECOND]);
    log.check(["call"; 3]);
    value::<(), _>(service.stop());
    assert!(clock.pending().is_empty() && !service.is_running());
}

#[test]
fn stop_waits_for_a_call_in_progress() {
    let (clock, pending) = (
        ManualClock::new(),
        Rc::new(RefCell::new(None::<Trigger<()>>)),
    );
    let begins = Rc::clone(&pending);
    let service = TimerService::new(SECOND, &clock, move || {
        let (trigger, deferred) = Deferred::<()>::new();
        begins.replace(Some(trigger));
        deferred
    });
    service.start().unwrap();
    let (stopped, also) = (service.stop(), service.stop());
    assert!(!stopped.is_fired() && !service.is_running());
    assert!(service.start().is_err(), "the last call has not ended");
    also.cancel();
    pending.take().unwrap().callback(());
    value::<(), _>(stopped);
    service.start().unwrap();
    assert!(service.is_running());
}

#[test]
fn call_that_fails_ends_the_calls_and_is_reported_with_the_line_of_the_start() {
    let (clock, left) = (ManualClock::new(), Rc::new(Cell::new(2)));
    let counts = Rc::clone(&left);
    let service = TimerService::new(SECOND, &clock, move || {
        counts.set(counts.get() - 1);
        if counts.get() == 0 {
            Err(Failure::from(NoLuck))
        } else {
            Ok(())
        }
    });
    let reports = Log::default();
    let notes = reports.clone();
    let _guard = unhandled::set_hook(move |report| {
        assert!(
            report
                .failure()
                .is_some_and(|failure| failure.check::<NoLuck>())
        );
        notes.add(report.created());
    });
    let line = line!() + 1;
    service.start().unwrap();
    clock.advance(SECOND);
    assert!(!service.is_running() && clock.pending().is_empty());
    let created = format!("{}:{line}:13", file!());
    reports.check([&created]);
    value::<(), _>(service.stop());
}

#[test]
fn stop_from_inside_the_call_fires_when_that_has_returned() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let own = Rc::new(RefCell::new(None::<TimerService>));
    let (finds, says) = (Rc::clone(&own), log.clone());
    let service = TimerService::new(SECOND, &clock, move || {
        if let Some(service) = &*finds.borrow() {
            let fires = says.clone();
            drop(service.stop().add_callback(move |()| fires.add("stopped")));
            says.add("call");
        }
    });
    own.replace(Some(service.clone()));
    service.start().unwrap();
    log.check(["call", "stopped"]);
    own.take();
}
