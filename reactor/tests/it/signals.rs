//! Signals as calls on the loop.
//!
//! Dispositions belong to the process, and tests run side by side: each test has signals
//! of its own, and those that stop a run have a process of their own.

use std::cell::Cell;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use rustix::process::{self, getpid, kill_process};
use torsade_deferred::Interrupted;
use torsade_reactor::{Phase, Place, Reactor, Signal, SignalError, SignalWatcher, testing};

use crate::common::{Log, count_unhandled, reactor, run_while};

/// Sends a signal to this process. Whichever thread gets it, the loop hears of it.
fn send(signal: Signal) {
    let signal = process::Signal::from_named_raw(signal.number()).expect("it has a name");
    kill_process(getpid(), signal).expect("a process may signal itself");
}

/// Whether a handler is installed, whoever's.
fn is_caught(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("it is there on Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.expect("proc(5) says so").trim();
    let mask = u64::from_str_radix(mask, 16).expect("a mask is hexadecimal");
    mask & 1 << (signal.number() - 1) != 0
}

fn logged(reactor: &Reactor, signal: Signal, log: &Log, line: &'static str) -> SignalWatcher {
    let log = log.clone();
    reactor
        .on_signal(signal, move |_| log.add(line))
        .expect("it can be watched")
}

#[test]
fn signal_wakes_the_loop_and_calls_its_watcher_there() {
    let (reactor, here) = (reactor(), thread::current().id());
    let handle = reactor.clone();
    let watcher = reactor
        .on_signal(Signal::USR1, move |watcher| {
            assert_eq!(thread::current().id(), here);
            assert_eq!(watcher.signal(), Signal::USR1);
            handle.stop();
        })
        .unwrap();
    let sends = thread::spawn(|| send(Signal::USR1));
    reactor.run().unwrap();
    sends.join().unwrap();
    assert!(watcher.remove(), "it stays after a run");
}

#[test]
fn all_watchers_of_a_signal_hear_of_it_in_the_order_in_which_they_came() {
    let (first, second, log) = (reactor(), reactor(), Log::default());
    let _watchers = [
        logged(&first, Signal::USR2, &log, "one"),
        logged(&first, Signal::USR2, &log, "two"),
    ];
    let _other = logged(&second, Signal::USR2, &log, "elsewhere");
    send(Signal::USR2);
    run_while(&first, || log.lines().len() < 2);
    log.check(["one", "two"]);
    run_while(&second, || log.lines().len() < 3);
    log.check(["one", "two", "elsewhere"]);
}

#[test]
fn signals_come_in_the_order_of_their_numbers_and_many_count_as_one() {
    let (here, elsewhere, log) = (reactor(), reactor(), Log::default());
    // By default nothing comes of them, so one too many does no harm.
    let [low, high] = [process::Signal::CHILD, process::Signal::URG]
        .map(|signal| Signal::from_number(signal.as_raw()));
    let _watchers = [
        logged(&here, high, &log, "high"),
        logged(&here, low, &log, "low"),
    ];
    let delivered = Log::default();
    let _others = [low, high].map(|signal| {
        let (delivered, mut is_first) = (delivered.clone(), true);
        elsewhere
            .on_signal(signal, move |_| {
                if mem::take(&mut is_first) {
                    delivered.add(signal);
                }
            })
            .expect("it can be watched")
    });
    for signal in [high, high, low, low] {
        send(signal);
    }
    // When the other reactor has heard of both, they are there for this one, too.
    run_while(&elsewhere, || delivered.lines().len() < 2);
    here.turn(Some(Duration::ZERO)).unwrap();
    log.check(["low", "high"]);
}

#[test]
fn nothing_is_installed_unless_asked_and_the_last_watcher_restores_what_was() {
    let (first, second, log) = (reactor(), reactor(), Log::default());
    assert!(!is_caught(Signal::WINCH));
    let one = logged(&first, Signal::WINCH, &log, "");
    let two = logged(&first, Signal::WINCH, &log, "");
    let elsewhere = logged(&second, Signal::WINCH, &log, "");
    assert!(one.remove());
    assert!(!one.remove());
    assert!(two.remove());
    assert!(is_caught(Signal::WINCH));
    assert!(elsewhere.remove());
    assert!(!is_caught(Signal::WINCH));
    assert!(!elsewhere.is_active());
}

#[test]
fn watcher_of_a_reactor_that_is_gone_is_gone_too() {
    let (reactor, log) = (reactor(), Log::default());
    let watcher = logged(&reactor, Signal::CONT, &log, "");
    assert!(is_caught(Signal::CONT));
    drop(reactor);
    assert!(!is_caught(Signal::CONT));
    assert!(!watcher.is_active());
    assert!(!watcher.remove());
}

#[test]
fn watcher_for_once_is_gone_before_it_is_called() {
    let (reactor, log) = (reactor(), Log::default());
    let lines = log.clone();
    let watcher = reactor
        .on_signal_once(Signal::ALRM, move || {
            lines.add(format!("caught: {}", is_caught(Signal::ALRM)));
        })
        .unwrap();
    assert!(is_caught(Signal::ALRM));
    send(Signal::ALRM);
    run_while(&reactor, || watcher.is_active());
    log.check(["caught: false"]);
    assert!(!watcher.remove());
}

#[test]
fn signals_that_cannot_be_caught_are_refused_by_name() {
    for reactor in [reactor(), testing::virtual_time_reactor()] {
        for number in [9, 19, 11, 4, 8, 7, 0, -1, 32, 64, 1000] {
            let error = reactor.on_signal(number, |_| ()).unwrap_err();
            assert!(matches!(error, SignalError::Refused { .. }), "{error}");
        }
        let error = reactor.on_signal(9, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "SIGKILL cannot be watched");
    }
}

#[test]
fn signal_never_comes_in_virtual_time() {
    let (reactor, log) = (testing::virtual_time_reactor(), Log::default());
    let watcher = logged(&reactor, Signal::QUIT, &log, "");
    assert!(!is_caught(Signal::QUIT));
    assert!(watcher.remove());
}

#[test]
fn watcher_removed_by_one_before_it_is_not_called() {
    let (reactor, log) = (reactor(), Log::default());
    let sibling: Rc<Cell<Option<SignalWatcher>>> = Rc::default();
    let (slot, lines) = (Rc::clone(&sibling), log.clone());
    let own = reactor
        .on_signal(Signal::TSTP, move |own| {
            lines.add("first");
            assert!(slot.take().is_some_and(|sibling| sibling.remove()));
            assert!(own.remove());
            assert!(!own.remove());
        })
        .unwrap();
    sibling.set(Some(logged(&reactor, Signal::TSTP, &log, "second")));
    send(Signal::TSTP);
    run_while(&reactor, || own.is_active());
    log.check(["first"]);
    assert!(!is_caught(Signal::TSTP));
}

#[test]
fn watcher_added_by_a_watcher_waits_for_the_next_signal() {
    const IO: Signal = Signal::from_number(29);
    let (reactor, log) = (reactor(), Log::default());
    let (handle, lines) = (reactor.clone(), log.clone());
    let first = reactor
        .on_signal(IO, move |first| {
            lines.add("first");
            first.remove();
            logged(&handle, IO, &lines, "added");
        })
        .unwrap();
    send(IO);
    run_while(&reactor, || first.is_active());
    log.check(["first"]);
    send(IO);
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["first", "added"]);
    // The handle that the callback held has kept the reactor alive until here.
    reactor.stop();
}

#[test]
fn panic_in_a_watcher_is_reported_and_the_watcher_stays() {
    let (reactor, calls) = (reactor(), Rc::new(Cell::new(0)));
    let (unhandled, _guard) = count_unhandled();
    let counter = Rc::clone(&calls);
    let watcher = reactor
        .on_signal(Signal::from_number(23), move |_| {
            counter.set(counter.get() + 1);
            panic!("on a signal");
        })
        .unwrap();
    for times in 1..=2 {
        send(watcher.signal());
        run_while(&reactor, || calls.get() < times);
    }
    assert_eq!(unhandled.get(), 2);
    assert!(watcher.is_active());
}

#[test]
fn signals_come_after_the_wait_and_before_the_events_of_sockets() {
    const XCPU: Signal = Signal::from_number(24);
    let (reactor, log) = (reactor(), Log::default());
    let (always_readable, mut writer) = io::pipe().unwrap();
    writer.write_all(b"never read").unwrap();
    let _hook = reactor.add_hook(Place::Check, log.adds("wait"));
    let lines = log.clone();
    let _watch = reactor
        .add_reader(always_readable, move |_| lines.add("event"))
        .unwrap();
    let _watcher = logged(&reactor, XCPU, &log, "signal");
    send(XCPU);
    run_while(&reactor, || {
        !log.lines().iter().any(|line| line == "signal")
    });
    let lines = log.lines();
    assert_eq!(lines[lines.len() - 3..], ["wait", "signal", "event"]);
}

/// Set in the process that a test starts for itself.
const ALONE: &str = "TORSADE_TEST_ALONE";

/// Runs the test `name` in a process of its own, by its `body`.
fn alone(name: &str, body: fn()) {
    if env::var_os(ALONE).is_some() {
        return body();
    }
    let output = Command::new(env::current_exe().expect("a running program has a path"))
        .env(ALONE, "1")
        .args(["--exact", &format!("signals::{name}")])
        .output()
        .expect("it starts, for it runs now");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(" 1 passed"),
        "{said}"
    );
}

#[test]
fn run_does_not_stop_on_a_signal_that_has_a_watcher() {
    alone("run_does_not_stop_on_a_signal_that_has_a_watcher", || {
        let (reactor, log) = (reactor(), Log::default());
        let (handle, lines) = (reactor.clone(), log.clone());
        let watcher = reactor
            .on_signal(Signal::TERM, move |_| {
                lines.add("watcher");
                let (handle, lines) = (handle.clone(), lines.clone());
                handle.clone().call_later(Duration::ZERO, move || {
                    lines.add("still running");
                    handle.stop();
                });
            })
            .unwrap();
        send(Signal::TERM);
        reactor.run().unwrap();
        log.check(["watcher", "still running"]);
        watcher.remove();
        assert!(!is_caught(Signal::TERM));
    });
}

#[test]
fn watcher_for_once_leaves_the_second_signal_to_the_run() {
    alone(
        "watcher_for_once_leaves_the_second_signal_to_the_run",
        || {
            let (reactor, log) = (reactor(), Log::default());
            let lines = log.clone();
            reactor
                .on_signal_once(Signal::TERM, move || {
                    lines.add("first");
                    send(Signal::TERM);
                })
                .unwrap();
            reactor.call_soon(|| send(Signal::TERM));
            reactor.run().unwrap();
            log.check(["first"]);
            assert!(!is_caught(Signal::TERM));
        },
    );
}

#[test]
fn watcher_that_goes_during_a_run_gives_the_signal_back_to_it() {
    alone(
        "watcher_that_goes_during_a_run_gives_the_signal_back_to_it",
        || {
            let (reactor, log) = (reactor(), Log::default());
            let watcher = logged(&reactor, Signal::TERM, &log, "watcher");
            reactor.call_soon(move || {
                watcher.remove();
                send(Signal::TERM);
            });
            reactor.run().unwrap();
            log.check([]);
        },
    );
}

#[test]
fn next_signal_fires_once_and_a_cancelled_one_leaves_nothing_installed() {
    let reactor = reactor();
    // One that no other test of this process uses.
    let signal = Signal::from_number(process::Signal::PROF.as_raw());
    let waiting = reactor.next_signal(signal);
    assert!(is_caught(signal));
    send(signal);
    assert_eq!(reactor.run_until(waiting).unwrap(), signal);
    assert!(!is_caught(signal));
    let waiting = reactor.next_signal(signal);
    waiting.canceller().cancel();
    assert!(!is_caught(signal));
    let failure = reactor.run_until(waiting).unwrap_err();
    assert!(failure.check::<Interrupted>(), "{failure}");
    let refused = reactor.next_signal(Signal::from_number(process::Signal::KILL.as_raw()));
    assert!(
        reactor
            .run_until(refused)
            .unwrap_err()
            .check::<SignalError>()
    );
}

#[test]
fn run_remembers_the_signal_that_stopped_it_until_the_next_run() {
    alone(
        "run_remembers_the_signal_that_stopped_it_until_the_next_run",
        || {
            let (reactor, heard) = (reactor(), Rc::new(Cell::new(None)));
            assert_eq!(reactor.stop_signal(), None);
            let (weak, hears) = (reactor.downgrade(), Rc::clone(&heard));
            reactor.on_shutdown(Phase::Before, move || {
                hears.set(weak.upgrade().and_then(|reactor| reactor.stop_signal()));
            });
            reactor.call_soon(|| send(Signal::TERM));
            reactor.run().unwrap();
            assert_eq!(heard.get(), Some(Signal::TERM), "known to the hooks");
            assert_eq!(reactor.stop_signal(), Some(Signal::TERM));
            reactor.stop();
            reactor.run().unwrap();
            assert_eq!(reactor.stop_signal(), None);
        },
    );
}

#[test]
fn process_that_ends_by_its_stop_signal_is_seen_to_die_by_it() {
    const NAME: &str = "signals::process_that_ends_by_its_stop_signal_is_seen_to_die_by_it";
    if env::var_os(ALONE).is_some() {
        let reactor = reactor();
        reactor.call_soon(|| send(Signal::INT));
        reactor.run().unwrap();
        reactor
            .stop_signal()
            .expect("SIGINT stopped it")
            .end_process();
    }
    let status = Command::new(env::current_exe().expect("a running program has a path"))
        .env(ALONE, "1")
        .args(["--exact", NAME])
        .stdout(Stdio::null())
        .status()
        .expect("it starts, for it runs now");
    assert_eq!(status.signal(), Some(Signal::INT.number()), "{status}");
}

#[test]
fn signal_stops_every_reactor_that_runs() {
    alone("signal_stops_every_reactor_that_runs", || {
        let both_run = Arc::new(Barrier::new(2));
        let other = Arc::clone(&both_run);
        let run = |both_run: Arc<Barrier>| {
            let reactor = reactor();
            reactor.call_when_running(move || {
                if both_run.wait().is_leader() {
                    send(Signal::TERM);
                }
            });
            reactor.run().unwrap();
        };
        let thread = thread::spawn(move || run(other));
        run(both_run);
        thread.join().unwrap();
        assert!(!is_caught(Signal::TERM));
    });
}
