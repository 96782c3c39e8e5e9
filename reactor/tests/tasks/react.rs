//! `react`: section 2.15 of the catalogue, in processes of their own where it matters.

use std::cell::Cell;
use std::env;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::Reactor;
use torsade_reactor::task::{defer_later, react, react_with, sleep};
use torsade_reactor::testing::virtual_time_reactor;

use crate::support::{Log, NoLuck, Place, SECOND, millis};

/// Set in a second process of this binary: which program it is to be.
const PROGRAM: &str = "TORSADE_TEST_REACT";

/// Runs a program of [`a_second_process_is_one_of_the_programs`] in a process of its own.
struct Outcome {
    code: Option<i32>,
    said: String,
}

fn run(program: &str) -> Outcome {
    let tests = env::current_exe().expect("a running program has a path");
    let output = Command::new(tests)
        .env(PROGRAM, program)
        .args([
            "--exact",
            "react::a_second_process_is_one_of_the_programs",
            "--nocapture",
        ])
        .output()
        .expect("it starts, for it runs now");
    Outcome {
        code: output.status.code(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The programs. As a test of this process there is nothing to do.
#[test]
fn a_second_process_is_one_of_the_programs() {
    let code = match env::var(PROGRAM).as_deref() {
        Ok("success") => react(|reactor| sleep(reactor, millis(1))),
        Ok("immediate") => react(|_reactor| ()),
        Ok("failure") => react(|_reactor| fail::<(), Failure>(NoLuck)),
        Ok("long failure") => react(|_reactor| Err::<(), _>(Failure::message("one\n  two\n"))),
        Ok("code") => react(|_reactor| Ok(ExitCode::from(7))),
        Ok("stopped") => react(|reactor| {
            let handle = reactor.clone();
            defer_later(reactor, millis(1), move || {
                handle.stop();
                sleep(&handle, 9 * SECOND)
            })
        }),
        Ok("signal") => react(|reactor| {
            reactor.call_later(millis(1), || {
                let own = rustix::process::getpid();
                let sent = rustix::process::kill_process(own, rustix::process::Signal::TERM);
                sent.expect("a process may signal itself");
            });
            sleep(reactor, 3600 * SECOND)
        }),
        _ => return,
    };
    exit_with(code);
}

/// Leaves the process as `main` does when it returns a code, which a test cannot.
fn exit_with(code: ExitCode) -> ! {
    let number = (0..=255).find(|number| code == ExitCode::from(*number));
    std::process::exit(number.map_or(-1, i32::from))
}

#[track_caller]
fn check_program(program: &str, code: i32, said: &str) {
    let outcome = run(program);
    assert_eq!((outcome.code, &*outcome.said), (Some(code), said));
}

/// What a failing program says: its name, and why.
fn complaint(text: &str) -> String {
    let tests = env::current_exe().expect("a running program has a path");
    let name = tests.file_name().expect("it is a file").to_string_lossy();
    format!("{name}: {text}\n")
}

/// #388
#[test]
fn it_runs_main_in_the_loop_until_its_deferred_has_fired() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (begin, notes) = (reactor.now(), log.clone());
    let code = react_with(&reactor, move |reactor| {
        notes.add("main");
        let (clock, seen) = (reactor.clone(), notes.clone());
        sleep(reactor, 3 * SECOND).map(move |()| {
            seen.add(format!("{:?} later", clock.now() - begin));
        })
    });
    assert_eq!(code, ExitCode::SUCCESS);
    log.check(["main", "3s later"]);
    assert!(!reactor.is_running());

    let body = react_with(&reactor, |reactor| {
        let clock = reactor.clone();
        Deferred::from_future(async move { sleep(&clock, SECOND).await })
    });
    assert_eq!(body, ExitCode::SUCCESS);
    assert_eq!(reactor.now() - begin, 4 * SECOND);
}

/// #389
#[test]
fn a_main_that_is_done_at_once_ends_the_loop_in_its_first_turn() {
    let reactor = virtual_time_reactor();
    let begin = reactor.now();
    reactor.call_later(SECOND, || unreachable!("the loop is left before"));
    assert_eq!(react_with(&reactor, |_| ()), ExitCode::SUCCESS);
    assert_eq!(react_with(&reactor, |_| Ok(())), ExitCode::SUCCESS);
    let fired = react_with(&reactor, |_| succeed::<(), Failure>(()));
    assert_eq!(fired, ExitCode::SUCCESS);
    assert_eq!(reactor.now(), begin);
    check_program("immediate", 0, "");
}

/// #390
#[test]
fn success_is_code_zero() {
    check_program("success", 0, "");
}

/// #391
#[test]
fn failure_is_code_one_and_one_line() {
    check_program("failure", 1, &complaint("no luck"));
    check_program("long failure", 1, &complaint("one two"));
}

#[test]
fn main_may_say_which_code() {
    check_program("code", 7, "");
}

/// #393
#[test]
fn a_result_that_comes_after_the_stop_stops_nothing() {
    let reactor = virtual_time_reactor();
    let place = Place::new();
    let left = place.clone();
    let code = react_with(&reactor, move |reactor| {
        reactor.stop();
        let (trigger, deferred) = Deferred::<()>::new();
        trigger.forward_cancel(|| ());
        left.put(trigger);
        deferred
    });
    assert_eq!(code, ExitCode::SUCCESS);
    place.take().callback(());
    // The next run is its own.
    let ran = Rc::new(Cell::new(false));
    let (flag, handle) = (Rc::clone(&ran), reactor.clone());
    reactor.call_later(SECOND, move || {
        flag.set(true);
        handle.stop();
    });
    reactor.run().unwrap();
    assert!(ran.get());
}

/// #394
#[test]
fn a_stop_before_main_is_done_is_code_zero() {
    check_program("stopped", 0, "");
    check_program("signal", 0, "");
}

#[test]
fn a_stop_cancels_what_main_waits_for() {
    let reactor = virtual_time_reactor();
    let log = Log::default();
    let notes = log.clone();
    let code = react_with(&reactor, move |reactor| {
        let handle = reactor.clone();
        reactor.call_later(SECOND, move || handle.stop());
        sleep(reactor, 9 * SECOND).add_errback(move |failure| {
            notes.add(&failure);
            Err(failure)
        })
    });
    assert_eq!(code, ExitCode::SUCCESS);
    log.check(["cancelled"]);

    let cleans_up_badly = react_with(&reactor, |reactor| {
        reactor.stop();
        sleep(reactor, 9 * SECOND).add_errback(|_cancelled| Err(NoLuck.into()))
    });
    assert_eq!(cleans_up_badly, ExitCode::FAILURE);
}

#[test]
fn a_program_that_was_stopped_does_not_keep_its_reactor() {
    let (reactor, held) = (virtual_time_reactor(), Rc::new(()));
    let kept = Rc::clone(&held);
    let code = react_with(&reactor, move |reactor| {
        reactor.stop();
        let (trigger, deferred) = Deferred::<()>::new();
        // It does not answer the cancellation, and waits in the reactor.
        trigger.forward_cancel(|| ());
        reactor.call_later(SECOND, move || {
            drop(kept);
            trigger.callback(());
        });
        deferred
    });
    assert_eq!(code, ExitCode::SUCCESS);
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_main_that_panics_has_failed() {
    let reactor = virtual_time_reactor();
    let code = react_with(&reactor, |_| panic!("out of luck") as ());
    assert_eq!(code, ExitCode::FAILURE);
}

#[test]
fn a_reactor_that_runs_already_is_a_failure() {
    let reactor = virtual_time_reactor();
    let (handle, code) = (reactor.clone(), Rc::new(Cell::new(ExitCode::SUCCESS)));
    let slot = Rc::clone(&code);
    reactor.call_soon(move || slot.set(react_with(&handle, |_| Ok(()))));
    reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(code.get(), ExitCode::FAILURE);
}

/// #397
#[test]
fn the_reactor_is_the_one_that_was_given() {
    let reactor = virtual_time_reactor();
    let log = Log::default();
    let seen = log.clone();
    reactor.call_soon(log.adds("a call of the given one"));
    let code = react_with(&reactor, move |given: &Reactor| {
        seen.add(format!("main {}", given.is_running()));
        sleep(given, SECOND)
    });
    assert_eq!(code, ExitCode::SUCCESS);
    log.check(["main false", "a call of the given one"]);
}

#[test]
fn react_inside_a_callback_of_its_reactor_calls_nothing_and_ends_nothing() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.call_soon(move || {
        let main = seen.clone();
        let code = react_with(&handle, move |_| main.add("called"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        let stop = handle.clone();
        handle.call_later(SECOND, move || {
            seen.add("the run went on");
            stop.stop();
        });
    });
    reactor.run().unwrap();
    log.check(["the run went on"]);
}
