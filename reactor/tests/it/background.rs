//! Running until nothing is left, and leaving nothing behind.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{
    Address, ChannelEvent, DelayedCall, Phase, Place, Reactor, RunError, Signal,
};

use crate::common::{End, Log, connect, count_unhandled, reactor};

const SECOND: Duration = Duration::from_secs(1);

fn end() -> End {
    End::new("end", &Log::default())
}

/// That a run is over at once, though all this is there.
#[track_caller]
fn check_idle(reactor: &Reactor) {
    let before = reactor.statistics().turns;
    reactor.run_until_idle().expect("it can run");
    assert_eq!(reactor.statistics().turns, before, "{}", reactor.dump());
}

/// That a run goes on until the call comes that ends what it waits for.
#[track_caller]
fn check_waits(reactor: &Reactor, end: impl FnOnce() + 'static) {
    let ended = Rc::new(Cell::new(false));
    let ending = Rc::clone(&ended);
    let call = reactor.call_later(Duration::from_millis(1), move || {
        ending.set(true);
        end();
    });
    // The call alone would not keep it.
    call.set_background(true);
    reactor.run_until_idle().expect("it can run");
    assert!(ended.get(), "{}", reactor.dump());
}

#[test]
fn a_run_with_nothing_to_do_is_over_at_once() {
    check_idle(&reactor());
    check_idle(&virtual_time_reactor());
}

#[test]
fn a_run_ends_when_the_last_call_has_been_made() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("soon"));
    reactor.call_when_running(log.adds("running"));
    let (handle, last) = (reactor.clone(), log.adds("last"));
    reactor.call_later(SECOND, move || {
        handle.call_later(SECOND, last);
    });
    reactor.run_until_idle().unwrap();
    log.check(["running", "soon", "last"]);
    check_idle(&reactor);
}

#[test]
fn calls_in_the_background_are_made_while_the_loop_runs_and_do_not_keep_it() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let calls = [1, 3].map(|seconds| {
        let line = log.adds(if seconds == 1 { "first" } else { "second" });
        let call = reactor.call_later(seconds * SECOND, line);
        call.set_background(true);
        call
    });
    reactor.call_later(2 * SECOND, log.adds("foreground"));
    reactor.run_until_idle().unwrap();
    log.check(["first", "foreground"]);
    assert!(!calls[0].is_background() && calls[1].is_background());
    // In the foreground again, however often it was in the background.
    calls[1].set_background(true);
    calls[1].set_background(false);
    reactor.run_until_idle().unwrap();
    log.check(["first", "foreground", "second"]);
}

#[test]
fn a_thousand_calls_come_and_go_in_the_background() {
    let reactor = virtual_time_reactor();
    let keep: Vec<DelayedCall> = (0..1_000)
        .map(|index| {
            let call = reactor.call_later(SECOND, || ());
            call.set_background(true);
            if index % 10 != 0 {
                call.cancel();
            }
            call
        })
        .collect();
    check_idle(&reactor);
    assert_eq!(keep.iter().filter(|call| call.is_background()).count(), 100);
    keep[0].set_background(false);
    let begin = reactor.now();
    reactor.run_until_idle().unwrap();
    assert_eq!(reactor.now() - begin, SECOND);
}

#[test]
fn a_call_of_the_boot_clock_keeps_the_loop_unless_it_is_in_the_background() {
    let reactor = virtual_time_reactor();
    let clock = reactor.boot_clock().unwrap();
    clock.call_later(SECOND, || ()).set_background(true);
    check_idle(&reactor);
    let begin = reactor.now();
    clock.call_later(2 * SECOND, || ());
    reactor.run_until_idle().unwrap();
    assert_eq!(reactor.now() - begin, 2 * SECOND);
}

#[test]
fn each_kind_of_source_keeps_the_loop_unless_it_is_in_the_background() {
    let reactor = reactor();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| end())
        .unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let watch = reactor.add_reader(reader, |_| ()).unwrap();
    let (_sender, channel) = reactor.channel(|_, _: ChannelEvent<u8>| ());
    let watcher = reactor.on_signal(Signal::WINCH, |_| ()).unwrap();
    let all = |on| {
        port.set_background(on);
        watch.set_background(on);
        channel.set_background(on);
        watcher.set_background(on);
    };
    all(true);
    check_idle(&reactor);
    assert!(port.is_background() && watch.is_background());
    assert!(channel.is_background() && watcher.is_background());

    port.set_background(false);
    let stopping = port.clone();
    check_waits(&reactor, move || drop(stopping.stop_listening()));
    watch.set_background(false);
    let resting = watch.clone();
    check_waits(&reactor, move || resting.disable());
    watch.enable().unwrap();
    let removed = watch.clone();
    check_waits(&reactor, move || drop(removed.remove()));
    channel.set_background(false);
    let closing = channel.clone();
    check_waits(&reactor, move || assert!(closing.remove()));
    watcher.set_background(false);
    let removed = watcher.clone();
    check_waits(&reactor, move || assert!(removed.remove()));
    check_idle(&reactor);
}

#[test]
fn a_run_waits_for_connections_and_for_work_on_threads() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let client = pair.client.clone();
    check_waits(&reactor, move || client.lose_connection());
    drop(pair);
    let answer = Rc::new(Cell::new(0));
    let answered = Rc::clone(&answer);
    drop(
        reactor
            .defer_to_thread(|| Ok::<_, io::Error>(42))
            .map(move |number| answered.set(number)),
    );
    reactor.run_until_idle().unwrap();
    assert_eq!(answer.get(), 42);
}

#[test]
fn connections_in_the_background_do_not_keep_the_loop() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.client.set_background(true);
    pair.server.set_background(true);
    check_idle(&reactor);
    pair.server.set_background(false);
    let server = pair.server.clone();
    check_waits(&reactor, move || server.lose_connection());
}

#[test]
fn hooks_and_deferreds_do_not_keep_the_loop() {
    let reactor = reactor();
    reactor.add_hook(Place::Idle, || ());
    reactor.on_shutdown(Phase::Before, || ());
    let (_trigger, never) = Deferred::<()>::new();
    let spawned = reactor.spawn(never);
    check_idle(&reactor);
    let (_unhandled, _guard) = count_unhandled();
    drop((spawned, reactor));
}

#[test]
fn a_stop_ends_a_run_until_idle_as_any_other() {
    let (reactor, log) = (reactor(), Log::default());
    let _port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| end())
        .unwrap();
    reactor.on_shutdown(Phase::After, log.adds("over"));
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run_until_idle().unwrap();
    log.check(["over"]);
    // And a stop that was asked for before it.
    reactor.on_shutdown(Phase::After, log.adds("over again"));
    reactor.stop();
    reactor.run_until_idle().unwrap();
    log.check(["over", "over again"]);
}

#[test]
fn closing_lets_everything_go_and_says_what_it_was() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let held = Rc::new(());
    let (weak, line) = (Rc::downgrade(&held), line!() + 1);
    reactor.call_later(SECOND, move || drop(held));
    let left = reactor.close().unwrap();
    assert_eq!(left.sources.len(), 2, "{left}");
    let origin = left.delayed_calls[0].origin.expect("it has a line");
    assert_eq!((origin.file(), origin.line()), (file!(), line));
    assert!(weak.upgrade().is_none() && reactor.dump().is_empty());
    assert!(!pair.client.is_connected() && !pair.server.is_connected());
    assert!(reactor.close().unwrap().is_empty());
}

#[test]
fn a_reactor_that_was_closed_is_as_good_as_new() {
    let (reactor, log) = (reactor(), Log::default());
    reactor.close().unwrap();
    let line = log.adds("posted");
    reactor.call_soon(line);
    let remote = reactor.remote();
    reactor.run_until_idle().unwrap();
    remote.call_from_thread(Reactor::stop);
    reactor.run().unwrap();
    log.check(["posted"]);
}

#[test]
fn closing_inside_a_callback_is_an_error_and_changes_nothing() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, later) = (reactor.clone(), log.adds("later"));
    reactor.call_soon(move || {
        handle.call_soon(later);
        assert!(matches!(handle.close(), Err(RunError::AlreadyRunning)));
    });
    reactor.run_until_idle().unwrap();
    log.check(["later"]);
}

#[test]
fn all_watches_are_removed_and_given_back_and_nothing_else_is() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let (reader, writer) = io::pipe().unwrap();
    let watch = reactor.add_reader(reader, |_| ()).unwrap();
    let kept = reactor.add_writer(writer, |_| ()).unwrap();
    let held = kept.source();
    let (reader, _writer) = io::pipe().unwrap();
    let awaited = reactor.async_fd(reader).unwrap();
    let abandoned = awaited.readable();
    let removed = reactor.remove_watches();
    assert_eq!(removed.len(), 3, "{removed:?}");
    let readers = removed
        .iter()
        .filter_map(|watch| watch.source.as_ref())
        .filter(|source| source.is::<io::PipeReader>());
    assert_eq!(readers.count(), 2, "{removed:?}");
    assert!(removed.iter().all(|watch| watch.held.origin.is_some()));
    assert!(!watch.is_enabled() && !kept.is_enabled());
    assert!(abandoned.is_fired());
    drop(abandoned.add_errback(|_| Ok(())));
    assert!(pair.client.is_connected());
    assert!(reactor.remove_watches().is_empty());
    // The loop still wakes.
    let remote = reactor.remote();
    let waking = std::thread::spawn(move || remote.call_from_thread(Reactor::stop));
    reactor.run().unwrap();
    waking.join().unwrap();
    drop(held);
}

#[test]
fn a_watch_that_removes_them_all_is_not_called_again() {
    let (reactor, calls) = (reactor(), Rc::new(Cell::new(0)));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (reader, writer) = io::pipe().unwrap();
            let (handle, calls) = (reactor.clone(), Rc::clone(&calls));
            drop(reactor.add_writer(writer, move |_| {
                calls.set(calls.get() + 1);
                assert_eq!(handle.remove_watches().len(), 3);
            }));
            reader
        })
        .collect();
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(calls.get(), 1);
    drop(writers);
}
