//! Seeing inside.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Deferred, Timeout, Trigger, unhandled};
use torsade_reactor::task::{LoopingCall, defer_later, sleep};
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{
    Address, ChannelEvent, ClientService, Guest, Held, Phase, Place, Protocol, Signal,
    SignalWatcher, TcpClientEndpoint, TcpServerEndpoint, Transport,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::common::{End, Log, connect, count_unhandled, reactor, run_while};

#[test]
fn a_dump_names_everything_that_is_held() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &_| None::<End>)
        .unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let _watch = reactor.add_reader(reader, |_| ()).unwrap();
    reactor.call_later(Duration::from_secs(60), || ());
    reactor.call_soon(|| ());
    reactor.remote().call_from_thread(|_| ());
    pair.client.pause_reading();
    let dump = reactor.dump();
    assert_eq!(dump.delayed_calls[0].origin.unwrap().file(), file!());
    assert_eq!(
        (
            dump.delayed_calls.len(),
            dump.soon_calls.len(),
            dump.thread_calls.len()
        ),
        (1, 1, 1),
        "{dump}"
    );
    assert_eq!(dump.sources.len(), 4, "{dump}");
    let text = dump.to_string();
    for part in [
        format!("port listening on {}", port.address()),
        format!(
            "connection {} with {}, Open, 0 bytes unsent, reading paused",
            pair.client.session_number(),
            pair.client.peer()
        ),
        "watch of a std::io::pipe::PipeReader, Read, Level, Enabled, added at".to_owned(),
        "call in".to_owned(),
        "call for the next turn, scheduled at".to_owned(),
        format!("call from a thread, posted at {}", file!()),
    ] {
        assert!(text.contains(&part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_slow_callback_is_reported_with_the_line_that_scheduled_it() {
    let (reactor, reports) = (virtual_time_reactor(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&reports);
    let threshold = Duration::from_millis(100);
    reactor.watch_slow_callbacks(Some(threshold), move |slow| {
        seen.borrow_mut().push((slow.to_string(), slow.took));
    });
    reactor.call_soon(|| ());
    // In virtual time, a callback that waits in another reactor's turn is one that blocks.
    let (slow, line) = (reactor.clone(), line!() + 1);
    reactor.call_soon(move || block(&slow, Duration::from_millis(250)));
    reactor.call_soon(|| ());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].0.contains(&format!("inspection.rs:{line}")),
        "{reports:?}"
    );
    assert_eq!(reports[0].1, Duration::from_millis(250));
}

#[test]
fn a_slow_call_from_a_thread_and_one_that_panics_are_reported_with_the_line_that_posted_it() {
    let (reactor, reports) = (virtual_time_reactor(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&reports);
    reactor.watch_slow_callbacks(Some(Duration::from_millis(100)), move |slow| {
        seen.borrow_mut().push(slow.to_string());
    });
    let panics = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&panics);
    let _guard = unhandled::set_hook(move |unhandled| {
        seen.borrow_mut().push(unhandled.created().to_string());
    });
    let (remote, line) = (reactor.remote(), line!() + 1);
    remote.call_from_thread(|reactor| block(reactor, Duration::from_millis(250)));
    remote.call_from_thread(|_| panic!("a call that gives up"));
    let origins = reactor.dump().thread_calls;
    let lines: Vec<_> = origins
        .iter()
        .map(|call| call.origin.unwrap().line())
        .collect();
    assert_eq!(lines, [line, line + 1]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let place = |line: u32| format!("inspection.rs:{line}");
    let (reports, panics) = (reports.borrow(), panics.borrow());
    assert_eq!(
        (reports.len(), panics.len()),
        (1, 1),
        "{reports:?} {panics:?}"
    );
    assert!(reports[0].contains(&place(line)), "{reports:?}");
    assert!(panics[0].contains(&place(line + 1)), "{panics:?}");
}

/// Moves a virtual clock, as a callback that computes for so long would.
fn block(reactor: &torsade_reactor::Reactor, time: Duration) {
    torsade_reactor::testing::pass_time(reactor, time);
}

#[test]
fn switched_off_it_reports_nothing_and_measures_nothing() {
    let reactor = virtual_time_reactor();
    let handle = reactor.clone();
    reactor.watch_slow_callbacks(Some(Duration::ZERO), |_| {
        unreachable!("it is switched off below")
    });
    reactor.watch_slow_callbacks(None, |_| ());
    reactor.call_soon(move || block(&handle, Duration::from_secs(1)));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.statistics().busy, Duration::ZERO);
}

#[test]
fn hooks_of_the_start_and_of_the_stop_count_as_calls() {
    let reactor = virtual_time_reactor();
    for phase in [Phase::Before, Phase::During, Phase::After] {
        reactor.on_startup(phase, || ());
        reactor.on_shutdown(phase, || ());
    }
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    assert_eq!(reactor.statistics().calls, 7);
}

#[test]
fn statistics_count_turns_calls_events_and_time() {
    let (reactor, log) = (reactor(), Log::default());
    let before = reactor.statistics();
    for _ in 0..3 {
        reactor.call_soon(|| ());
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let after = reactor.statistics();
    assert_eq!(
        (after.turns - before.turns, after.calls - before.calls),
        (1, 3)
    );
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    assert!(reactor.statistics().events >= 2);
    drop(pair);

    let virtual_reactor = virtual_time_reactor();
    virtual_reactor.watch_slow_callbacks(Some(Duration::from_secs(1)), |_| ());
    let handle = virtual_reactor.clone();
    virtual_reactor.turn(Some(Duration::from_secs(4))).unwrap();
    virtual_reactor.call_soon(move || block(&handle, Duration::from_micros(3)));
    virtual_reactor.turn(Some(Duration::ZERO)).unwrap();
    let statistics = virtual_reactor.statistics();
    assert_eq!(
        (statistics.waited, statistics.busy),
        (Duration::from_secs(4), Duration::from_micros(3))
    );
    assert_eq!(statistics.lag[2], 1);
}

#[test]
fn a_hook_may_switch_the_reports_off_from_inside() {
    let (reactor, count) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
    let (handle, counter) = (reactor.clone(), Rc::clone(&count));
    reactor.watch_slow_callbacks(Some(Duration::ZERO), move |_| {
        counter.set(counter.get() + 1);
        handle.watch_slow_callbacks(None, |_| ());
    });
    for _ in 0..3 {
        reactor.call_soon(|| ());
    }
    reactor.turn(Some(Duration::from_secs(1))).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(count.get() <= 1);
    let _: Option<Instant> = reactor.next_deadline();
}

#[test]
fn the_hosts_time_between_turns_is_nobodys_slow_callback_and_no_lag() {
    let (reactor, reports) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&reports);
    reactor.watch_slow_callbacks(Some(Duration::from_millis(100)), move |_| {
        counter.set(counter.get() + 1);
    });
    let turn = || reactor.turn(Some(Duration::ZERO)).unwrap();
    turn();
    // A frame is drawn.
    block(&reactor, Duration::from_secs(1));
    let handle = reactor.clone();
    reactor.add_hook(Place::Check, move || {
        block(&handle, Duration::from_micros(2))
    });
    let handle = reactor.clone();
    reactor.call_soon(move || block(&handle, Duration::from_micros(3)));
    turn();
    block(&reactor, Duration::from_secs(1));
    turn();
    assert_eq!(reports.get(), 0);
    let statistics = reactor.statistics();
    assert_eq!(statistics.busy, Duration::from_micros(5));
    assert_eq!(statistics.waited, Duration::ZERO);
    assert_eq!(statistics.lag[..3].iter().sum::<u64>(), 3);
}

#[test]
fn a_hook_for_slow_callbacks_that_panics_is_called_again() {
    let (reactor, count) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
    let (unhandled, _guard) = count_unhandled();
    let counter = Rc::clone(&count);
    reactor.watch_slow_callbacks(Some(Duration::from_secs(1)), move |_| {
        counter.set(counter.get() + 1);
        panic!("on purpose");
    });
    for _ in 0..2 {
        let slow = reactor.clone();
        reactor.call_soon(move || block(&slow, Duration::from_secs(2)));
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!((count.get(), unhandled.get()), (2, 2));
}

#[test]
fn a_hook_for_slow_callbacks_that_holds_a_port_keeps_nothing_alive() {
    let (reactor, held) = (reactor(), Rc::new(()));
    let weak = Rc::downgrade(&held);
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &_| None::<End>)
        .unwrap();
    reactor.watch_slow_callbacks(Some(Duration::from_secs(1)), move |_| {
        let _ = (&held, &port);
    });
    drop(reactor);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn timers_made_by_tasks_and_timeouts_name_the_lines_that_asked_for_them() {
    let (reactor, seconds) = (virtual_time_reactor(), Duration::from_secs);
    let (_trigger, [first, second, third]) = pending();
    let begin = line!();
    let nap = sleep(&reactor, seconds(1));
    let later = defer_later(&reactor, seconds(2), || ());
    let looping = LoopingCall::new(&reactor, || ());
    let limited = first.add_timeout(seconds(4), &reactor);
    let hard = second.add_hard_timeout(seconds(5), &reactor);
    let timeout = Timeout::new(seconds(6), &reactor.downgrade());
    let as_clock: &dyn Clock = &reactor;
    let through = sleep(as_clock, seconds(7));
    let end = line!();
    let ended = looping.start_later(seconds(3));
    let moved = third.add_movable_timeout(&timeout);
    let dump = reactor.dump();
    let lines: Vec<u32> = dump
        .delayed_calls
        .iter()
        .map(|call| call.origin.unwrap().line())
        .collect();
    assert!(
        lines.len() == 7 && lines.is_sorted_by(|a, b| a < b),
        "{dump}"
    );
    assert!(
        lines.iter().all(|line| (begin..end).contains(line)),
        "{dump}"
    );
    drop((nap, later, ended, limited, hard, moved, through));
}

/// Three Deferreds that fire when the trigger does; never, that is.
fn pending() -> (Trigger<()>, [Deferred<()>; 3]) {
    let (trigger, deferred) = Deferred::new();
    let shared = deferred.share();
    (trigger, [shared.wait(), shared.wait(), shared.wait()])
}

/// The line of this file that a report names.
#[track_caller]
fn line_in(report: &str) -> u32 {
    let (_, rest) = report
        .split_once("inspection.rs:")
        .expect("it names this file");
    let (line, _) = rest.split_once(':').expect("a column follows");
    line.parse().expect("it is a number")
}

#[test]
fn slow_callback_after_a_sleep_is_reported_with_the_line_of_the_sleep() {
    let (reactor, reports) = (virtual_time_reactor(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&reports);
    reactor.watch_slow_callbacks(Some(Duration::from_secs(1)), move |slow| {
        seen.borrow_mut().push(slow.to_string());
    });
    let (slow, line) = (reactor.clone(), line!() + 1);
    let nap = sleep(&reactor, Duration::from_secs(1));
    let done = nap.map(move |()| block(&slow, Duration::from_secs(2)));
    reactor.turn(None).unwrap();
    reactor.turn(None).unwrap();
    assert!(done.is_fired());
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(line_in(&reports[0]), line);
}

/// The lines of this file that somebody asked from.
fn origins(held: &[Held]) -> Vec<u32> {
    let origins = held.iter().map(|held| held.origin.expect("somebody asked"));
    origins
        .inspect(|origin| assert_eq!(origin.file(), file!()))
        .map(Location::line)
        .collect()
}

#[test]
fn a_dump_names_watchers_hooks_and_channels_with_their_lines() {
    let reactor = virtual_time_reactor();
    assert!(reactor.dump().is_empty());
    let begin = line!();
    let watcher = reactor.on_signal_once(Signal::HUP, || ()).unwrap();
    let (sender, _channel) = reactor.channel(|_, _: ChannelEvent<u8>| ());
    let hook = reactor.add_hook(Place::Check, || ());
    let starts = reactor.on_startup(Phase::Before, || ());
    let stops = reactor.on_shutdown(Phase::After, || ());
    sender.send(1).unwrap();
    let dump = reactor.dump();
    assert_eq!(origins(&dump.signal_watchers), [begin + 1]);
    assert_eq!(origins(&dump.sources), [begin + 2]);
    assert_eq!(origins(&dump.hooks), [begin + 3, begin + 4, begin + 5]);
    let text = dump.to_string();
    for part in [
        "watcher of SIGHUP, added at",
        "channel of u8, 1 messages, added at",
        "hook for check, added at",
        "hook for startup, Before, added at",
        "hook for shutdown, After, added at",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(watcher.remove() && hook.remove() && starts.remove() && stops.remove());
    let dump = reactor.dump();
    assert!(dump.signal_watchers.is_empty() && dump.hooks.is_empty());
    assert!(!dump.is_empty(), "the channel is left");
}

#[test]
fn a_dump_names_the_work_of_threads_and_the_pools_that_do_it() {
    let (reactor, line) = (reactor(), line!() + 2);
    let (go, goes) = mpsc::channel::<()>();
    let answer = reactor.defer_to_thread(move || goes.recv());
    let dump = reactor.dump();
    assert_eq!(origins(&dump.thread_jobs), [line]);
    assert!(dump.thread_jobs[0].age.is_some() && !dump.is_empty());
    assert!(
        dump.thread_pools[0].starts_with("ThreadPool(\"torsade-pool\""),
        "{dump}"
    );
    go.send(()).unwrap();
    reactor.run_until(answer).unwrap();
    assert!(reactor.dump().is_empty());
}

#[test]
fn a_connection_shows_the_line_that_listened_or_connected_and_its_age() {
    let (reactor, log) = (reactor(), Log::default());
    let (server, begin) = (End::new("server", &log), line!());
    let place = Cell::new(Some(server));
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &_| place.take())
        .unwrap();
    let (client, address) = (End::new("client", &log), port.address().to_string());
    let connecting = reactor.connect_tcp(address.as_str(), move |_: &_| client);
    let transport = reactor.run_until(connecting).unwrap();
    run_while(&reactor, || reactor.dump().sources.len() < 3);
    let dump = reactor.dump();
    let mut lines = origins(&dump.sources);
    lines.sort_unstable();
    assert!(
        begin < lines[0] && lines[0] == lines[1] && lines[1] < lines[2],
        "{dump}"
    );
    assert!(dump.sources.iter().all(|held| held.age.is_some()), "{dump}");
    drop(transport);
}

#[test]
fn a_panic_in_a_protocol_is_reported_with_the_line_that_listened() {
    struct Panics;
    impl Protocol for Panics {
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
            panic!("on purpose");
        }
    }
    let (reactor, reports) = (reactor(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&reports);
    let _guard = unhandled::set_hook(move |report| {
        seen.borrow_mut().push((report.message(), report.created()));
    });
    let line = line!() + 1;
    let port = reactor.listen_tcp("127.0.0.1:0", |_: &_| Panics).unwrap();
    let (client, address) = (
        End::new("client", &Log::default()),
        port.address().to_string(),
    );
    let connecting = reactor.connect_tcp(address.as_str(), move |_: &_| client);
    let transport = reactor.run_until(connecting).unwrap();
    transport.write(b"x");
    run_while(&reactor, || reports.borrow().is_empty());
    let (message, created) = reports.borrow()[0].clone();
    assert!(message.contains("on purpose"), "{message}");
    assert_eq!((created.file(), created.line()), (file!(), line));
}

/// Each report of a failure that nobody handled, with the place that it names.
fn reports() -> (Rc<RefCell<Vec<String>>>, unhandled::HookGuard) {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&reports);
    let guard = unhandled::set_hook(move |report| seen.borrow_mut().push(report.to_string()));
    (reports, guard)
}

/// One report has come: of that panic, with that line of this file, and without a Deferred.
#[track_caller]
fn check_report(reports: &RefCell<Vec<String>>, message: &str, line: u32) {
    let reports = reports.take();
    let place = format!("; asked for at {}:{line}:", file!());
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].starts_with(&format!("a callback panicked: {message}; ")),
        "{reports:?}"
    );
    assert!(reports[0].contains(&place), "{reports:?} not at {line}");
}

#[test]
fn a_panic_is_reported_with_the_line_that_asked_for_the_call() {
    let (reactor, (reports, _guard)) = (reactor(), reports());
    let turn = || reactor.turn(Some(Duration::ZERO)).unwrap();
    let line = line!() + 1;
    reactor.call_soon(|| panic!("soon"));
    turn();
    check_report(&reports, "soon", line);
    let line = line!() + 1;
    let hook = reactor.add_hook(Place::Prepare, || panic!("prepared"));
    turn();
    hook.remove();
    check_report(&reports, "prepared", line);
    let fails = |_: &SignalWatcher| panic!("watched");
    let line = line!() + 1;
    let watcher = reactor.on_signal(Signal::WINCH, fails).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)
        .unwrap();
    run_while(&reactor, || reports.borrow().is_empty());
    watcher.remove();
    check_report(&reports, "watched", line);
    let line = line!() + 1;
    let (sender, _channel) = reactor.channel::<()>(|_, _| panic!("received"));
    sender.send(()).unwrap();
    turn();
    check_report(&reports, "received", line);
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(near);
    let line = line!() + 1;
    reactor.add_reader(far, |_| panic!("read")).unwrap();
    turn();
    check_report(&reports, "read", line);
    let line = line!() + 1;
    reactor.on_shutdown(Phase::After, || -> () { panic!("after") });
    reactor.stop();
    turn();
    check_report(&reports, "after", line);
}

#[test]
fn a_panic_in_a_factory_is_reported_with_the_line_that_listened() {
    fn fails(_: &Address) -> End {
        panic!("no protocol")
    }
    let (reactor, (reports, _guard)) = (reactor(), reports());
    let line = line!() + 1;
    let port = reactor.listen_tcp("127.0.0.1:0", fails).unwrap();
    let _peer = std::net::TcpStream::connect(port.address().to_string()).unwrap();
    run_while(&reactor, || reports.borrow().is_empty());
    check_report(&reports, "no protocol", line);
    let (endpoint, line) = (TcpServerEndpoint::new("127.0.0.1:0"), line!() + 1);
    let port = reactor.run_until(reactor.listen(&endpoint, fails)).unwrap();
    let _peer = std::net::TcpStream::connect(port.address().to_string()).unwrap();
    run_while(&reactor, || reports.borrow().is_empty());
    check_report(&reports, "no protocol", line);
}

#[test]
fn a_panic_behind_a_connection_by_name_is_reported_with_the_line_that_connected() {
    struct Panics;
    impl Protocol for Panics {
        fn connection_made(&mut self, _: &Transport<Self>) {
            panic!("on purpose");
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    let (reactor, (reports, _guard)) = (reactor(), reports());
    let listen = |_: &Address| End::new("server", &Log::default());
    let port = reactor.listen_tcp("127.0.0.1:0", listen).unwrap();
    let address = port.address().to_string();
    let number = address.rsplit(':').next().unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let to = format!("{host}:{number}");
        let line = line!() + 1;
        let connecting = reactor.connect_tcp(to.as_str(), |_: &_| Panics);
        drop(reactor.run_until(connecting));
        run_while(&reactor, || reports.borrow().is_empty());
        check_report(&reports, "on purpose", line);
        let endpoint = TcpClientEndpoint::new(to.as_str());
        let line = line!() + 1;
        let service = ClientService::new(&reactor, endpoint, |_: &_| Panics);
        service.start();
        run_while(&reactor, || reports.borrow().is_empty());
        drop(service.stop());
        check_report(&reports, "on purpose", line);
    }
}

#[test]
fn a_dump_tells_ages_without_a_look_at_the_clock_for_each_call() {
    let reactor = virtual_time_reactor();
    let seconds = Duration::from_secs;
    reactor.call_later(seconds(3600), || ());
    block(&reactor, seconds(60));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.call_later(seconds(3600), || ());
    block(&reactor, seconds(5));
    let dump = reactor.dump();
    let ages: Vec<_> = dump.delayed_calls.iter().map(|held| held.age).collect();
    assert_eq!(ages, [Some(seconds(65)), Some(seconds(5))], "{dump}");
}

#[test]
fn a_dump_names_spawned_futures_and_the_age_of_boot_clock_calls() {
    let (reactor, seconds) = (virtual_time_reactor(), Duration::from_secs);
    reactor.call_later(seconds(100), || ());
    let (trigger, awaited) = Deferred::<u32>::new();
    let line = line!() + 1;
    let spawned = reactor.spawn(awaited);
    let boot = reactor.boot_clock().expect("there is one");
    let call = boot.call_later(seconds(50), || ());
    drop(reactor.run_until(sleep(&reactor, seconds(10))));
    let dump = reactor.dump();
    assert_eq!(dump.futures.len(), 1, "{dump}");
    assert_eq!(dump.futures[0].origin.map(Location::line), Some(line));
    assert_eq!(dump.futures[0].age, Some(seconds(10)));
    assert!(dump.to_string().contains("future, spawned at"), "{dump}");
    assert!(!dump.is_empty());
    let of_boot = |dump: &torsade_reactor::Dump| {
        let mut calls = dump.delayed_calls.iter();
        calls
            .find(|call| call.what.contains("boot"))
            .map(|call| call.age)
    };
    assert_eq!(of_boot(&dump), Some(Some(seconds(10))));
    // Put off, it is young again.
    call.reset(seconds(60));
    drop(reactor.run_until(sleep(&reactor, seconds(1))));
    assert_eq!(of_boot(&reactor.dump()), Some(Some(seconds(1))));
    trigger.callback(1);
    assert_eq!(reactor.run_until(spawned).ok(), Some(1));
    assert!(reactor.dump().futures.is_empty());
}

#[test]
fn a_dump_names_the_seats_of_guests() {
    let reactor = reactor();
    let line = line!() + 1;
    let guest = Guest::new(&reactor, || ()).expect("a thread is left");
    let dump = reactor.dump();
    assert_eq!(dump.guests.len(), 1, "{dump}");
    assert_eq!(dump.guests[0].origin.map(Location::line), Some(line));
    assert!(dump.is_empty(), "it calls nothing");
    drop(guest);
    assert!(reactor.dump().guests.is_empty());
}

/// Keeps what this crate writes to `tracing`: the level and the message.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl Written {
    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").clone()
    }
}

impl Subscriber for Written {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "torsade"
    }

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 += &format!("{value:?}");
                }
            }
        }
        let mut message = Message(format!("{} ", event.metadata().level()));
        event.record(&mut message);
        let mut lines = self.0.lock().expect("nobody panicked");
        lines.push(message.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn what_is_left_when_the_last_handle_goes_is_told_with_its_lines() {
    let written = Written::default();
    let _guard = tracing::subscriber::set_default(written.clone());
    let reactor = virtual_time_reactor();
    drop(reactor);
    assert_eq!(written.lines(), [""; 0], "nothing was left");
    let reactor = virtual_time_reactor();
    let line = line!() + 1;
    reactor.call_later(Duration::from_secs(60), || ());
    drop(reactor.clone());
    assert_eq!(written.lines(), [""; 0], "a handle is left");
    drop(reactor);
    let lines = written.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("DEBUG the last handle of a reactor goes"));
    assert_eq!(line_in(&lines[0]), line);
}

#[test]
fn a_slow_callback_is_a_warning_with_its_line_where_that_is_asked_for() {
    let written = Written::default();
    let _guard = tracing::subscriber::set_default(written.clone());
    let reactor = virtual_time_reactor();
    reactor.warn_of_slow_callbacks(Duration::from_millis(100));
    for millis in [99, 100] {
        let slow = reactor.clone();
        reactor.call_soon(move || block(&slow, Duration::from_millis(millis)));
    }
    let line = line!() - 2;
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let lines = written.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN "), "{lines:?}");
    assert_eq!(line_in(&lines[0]), line);
}

#[test]
fn a_call_shows_when_it_is_due_and_where_it_was_scheduled() {
    let reactor = virtual_time_reactor();
    let (later, soon, line) = (
        reactor.call_later(Duration::from_secs(3), || ()),
        reactor.call_soon(|| ()),
        line!() - 2,
    );
    let (shows_later, shows_soon) = (format!("{later:?}"), format!("{soon:?}"));
    assert!(shows_later.starts_with("DelayedCall(in 3s, scheduled at "));
    assert!(shows_soon.starts_with("SoonCall(scheduled at "));
    assert_eq!(
        (line_in(&shows_later), line_in(&shows_soon)),
        (line, line + 1)
    );
    later.cancel();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(
        (format!("{later:?}"), format!("{soon:?}")),
        (
            "DelayedCall(made or cancelled)".to_owned(),
            "SoonCall(made or cancelled)".to_owned()
        )
    );
}
