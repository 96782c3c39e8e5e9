//! The queue of what the system does not take, over a socket that is memory.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use torsade_reactor::testing::{MemoryDatagrams, capture_events, virtual_time_reactor};
use torsade_reactor::{
    Address, DatagramError, DatagramLimits, DatagramOptions, DatagramProtocol, DatagramTransport,
};

use torsade_reactor::Reactor;
use torsade_reactor::task::sleep;

use crate::common::Log;
use crate::udp::Diary;

const PEER: &str = "192.0.2.7:7";

fn sent(datagrams: &MemoryDatagrams) -> Vec<String> {
    let sent = datagrams.take_sent().into_iter();
    sent.map(|(data, to)| format!("{} to {to}", String::from_utf8_lossy(&data)))
        .collect()
}

#[test]
fn what_the_system_does_not_take_waits_and_leaves_in_order() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_congested(true);
    for datagram in ["one", "two", ""] {
        transport.send_to(datagram, PEER).expect("it waits");
    }
    assert_eq!(transport.unsent(), 3);
    assert!(sent(&datagrams).is_empty());
    datagrams.set_congested(false);
    transport.send_to("three", PEER).expect("it is sent");
    let expected = ["one", "two", "", "three"].map(|text| format!("{text} to {PEER}"));
    assert_eq!(sent(&datagrams), expected);
    assert_eq!(transport.unsent(), 0);
}

#[test]
fn a_writer_is_paused_at_the_high_mark_and_resumed_at_the_low_one() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let limits = DatagramLimits {
        queue_high: 1000,
        queue_low: 0,
        queue_max: 2000,
        ..DatagramLimits::default()
    };
    let options = DatagramOptions::new().limits(limits);
    let transport = datagrams.listen_with(&options, Diary::new("near", &log));
    assert_eq!(transport.limits(), limits);
    datagrams.set_congested(true);
    let turn = || reactor.turn(Some(Duration::ZERO));
    transport.write_to([0; 900], PEER);
    turn().expect("it runs");
    log.check(["near starts"]);
    transport.write_to([0; 900], PEER);
    log.check(["near starts"]);
    turn().expect("it runs");
    log.check(["near starts", "near pauses"]);
    let full = transport.send_to([0; 900], PEER);
    assert!(
        matches!(full, Err(DatagramError::QueueFull { limit: 2000 })),
        "{full:?}"
    );
    transport.write_to([0; 900], PEER);
    turn().expect("it runs");
    datagrams.set_congested(false);
    log.check([
        "near starts",
        "near pauses",
        "near hears: more than 2000 bytes wait to be sent",
        "near resumes",
    ]);
    assert_eq!(sent(&datagrams).len(), 2);
}

#[test]
fn a_writer_is_resumed_however_much_else_there_is_to_tell() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_congested(true);
    transport.write_to([0; 60_000], PEER);
    transport.write_to([0; 60_000], PEER);
    let turned = reactor.turn(Some(Duration::ZERO));
    turned.expect("it runs");
    for _ in 0..1000 {
        transport.write("to nobody");
    }
    datagrams.set_congested(false);
    let lines = log.lines();
    assert_eq!(
        lines.iter().filter(|line| line.contains("hears")).count(),
        64
    );
    assert_eq!(lines[1], "near pauses");
    assert_eq!(lines.last().map(String::as_str), Some("near resumes"));
}

#[test]
fn what_waits_is_dropped_when_the_port_stops() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_congested(true);
    transport.write_to("never", PEER);
    drop(transport.stop_listening());
    assert!(datagrams.is_closed());
    datagrams.set_congested(false);
    assert!(sent(&datagrams).is_empty());
    log.check(["near starts", "near stops"]);
}

#[test]
fn an_answer_that_comes_at_a_send_is_told_and_the_datagram_is_sent() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    transport.connect(PEER).expect("it is new");
    datagrams.fail_to_send(ErrorKind::ConnectionRefused.into());
    transport.send("hello").expect("it is sent");
    assert_eq!(sent(&datagrams), [format!("hello to {PEER}")]);
    datagrams.fail_to_send(ErrorKind::Interrupted.into());
    transport.send("again").expect("it is sent");
    assert_eq!(sent(&datagrams), [format!("again to {PEER}")]);
    log.check(["near starts"]);
    reactor.turn(Some(Duration::ZERO)).expect("it runs");
    log.check(["near starts", "near is refused"]);
    datagrams.refuse();
    log.check(["near starts", "near is refused", "near is refused"]);
}

#[test]
fn what_the_system_says_is_told_with_the_type_that_it_has() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.fail_to_send(Errno::MSGSIZE.into());
    let error = transport.send_to("12345", PEER);
    assert!(
        matches!(error, Err(DatagramError::TooLong { length: 5 })),
        "{error:?}"
    );
    datagrams.fail_to_send(Errno::PERM.into());
    let error = transport.send_to("x", PEER);
    assert!(
        matches!(error, Err(DatagramError::NotPermitted { .. })),
        "{error:?}"
    );
    datagrams.fail_to_send(Errno::NETUNREACH.into());
    let error = transport.send_to("x", PEER);
    assert!(
        matches!(&error, Err(DatagramError::Io(io)) if io.kind() == ErrorKind::NetworkUnreachable),
        "{error:?}"
    );
    // One that waited when it failed.
    datagrams.set_congested(true);
    transport.send_to("waits", PEER).expect("it waits");
    transport.send_to("next", PEER).expect("it waits");
    datagrams.fail_to_send(Errno::MSGSIZE.into());
    datagrams.set_congested(false);
    assert_eq!(sent(&datagrams), [format!("next to {PEER}")]);
    datagrams.fail(Errno::NOMEM.into());
    let lines = log.lines();
    assert_eq!(lines[1], "near hears: a datagram of 5 bytes is too long");
    assert!(lines[2].contains("memory"), "{lines:?}");
}

#[test]
fn errors_that_nobody_looks_at_are_warnings() {
    struct Silent;
    impl DatagramProtocol for Silent {
        fn datagram_received(&mut self, _: &DatagramTransport<Self>, _: &[u8], _: &Address) {}
    }
    let reactor = virtual_time_reactor();
    let datagrams = MemoryDatagrams::new(&reactor);
    let events = capture_events();
    let _transport = datagrams.listen(Silent);
    datagrams.fail(Errno::NOMEM.into());
    // Neither of these is an error.
    datagrams.refuse();
    datagrams.receive("hello", PEER);
    let events = Rc::new(events);
    assert_eq!(events.take().len(), 1);
}

#[test]
fn a_datagram_that_comes_while_the_protocol_is_busy_waits_for_it() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::new(&reactor);
    let wire = datagrams.clone();
    let diary = Diary::new("near", &log).on_datagram(move |diary, _, datagram, _| {
        if datagram == b"first" {
            wire.receive("second", PEER);
            diary.log.add("near is still in it");
        }
    });
    let _transport = datagrams.listen(diary);
    datagrams.receive("first", PEER);
    log.check([
        "near starts",
        "near gets first",
        "near is still in it",
        "near gets second",
    ]);
}

/// Lets time pass.
fn pass(reactor: &Reactor, time: Duration) {
    let slept = reactor.run_until(sleep(reactor, time));
    slept.expect("time passes");
}

#[test]
fn a_receiver_without_room_holds_up_no_other_and_is_asked_less_and_less() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_full("/run/full", true);
    for datagram in ["one", "two"] {
        transport.send_to(datagram, "/run/full").expect("it waits");
    }
    transport.send_to("other", "/run/other").expect("it leaves");
    assert_eq!(sent(&datagrams), ["other to unix:/run/other"]);
    assert_eq!(transport.unsent(), 2);
    let before = datagrams.tries();
    pass(&reactor, Duration::from_secs(1));
    // After 1, 2, 4 ... 64 ms, which is 127, and then each 100 ms.
    assert_eq!(datagrams.tries() - before, 7 + 8);
    datagrams.set_full("/run/full", false);
    transport.send_to("three", "/run/full").expect("it waits");
    assert!(sent(&datagrams).is_empty());
    pass(&reactor, Duration::from_millis(100));
    let expected = ["one", "two", "three"].map(|text| format!("{text} to unix:/run/full"));
    assert_eq!(sent(&datagrams), expected);
    transport.send_to("four", "/run/full").expect("it leaves");
    assert_eq!(sent(&datagrams), ["four to unix:/run/full"]);
    let before = datagrams.tries();
    pass(&reactor, Duration::from_secs(3600));
    assert_eq!(datagrams.tries(), before);
    log.check(["near starts"]);
}

#[test]
fn who_takes_nothing_for_long_is_given_up_with_what_waits_for_them() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_full("/run/full", true);
    transport.write_to("one", "/run/full");
    pass(&reactor, Duration::from_secs(20));
    transport.write_to("two", "/run/full");
    pass(&reactor, Duration::from_millis(9_900));
    log.check(["near starts"]);
    pass(&reactor, Duration::from_millis(300));
    let given_up = "near hears: unix:/run/full took nothing for 30s, and 2 datagrams were dropped";
    log.check(["near starts", given_up]);
    assert_eq!(transport.unsent(), 0);
    let before = datagrams.tries();
    pass(&reactor, Duration::from_secs(3600));
    assert_eq!(datagrams.tries(), before);
    drop(transport.stop_listening());
}

#[test]
fn a_peer_without_room_is_waited_for_as_an_event_and_given_up_too() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    transport.connect("/run/peer").expect("it is new");
    datagrams.set_full("/run/peer", true);
    transport.write("one");
    transport.write("two");
    let before = datagrams.tries();
    pass(&reactor, Duration::from_secs(29));
    assert_eq!(datagrams.tries(), before);
    datagrams.set_full("/run/peer", false);
    assert_eq!(sent(&datagrams).len(), 2);
    assert_eq!(reactor.dump().delayed_calls.len(), 0);
    datagrams.set_full("/run/peer", true);
    transport.write("three");
    pass(&reactor, Duration::from_secs(29));
    log.check(["near starts"]);
    pass(&reactor, Duration::from_secs(2));
    let given_up = "near hears: unix:/run/peer took nothing for 30s, and 1 datagrams were dropped";
    log.check(["near starts", given_up]);
    datagrams.set_full("/run/peer", false);
    assert!(sent(&datagrams).is_empty());
}

#[test]
fn one_receiver_may_have_a_part_of_the_queue() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    for path in ["/run/full", "/run/other"] {
        datagrams.set_full(path, true);
    }
    let fill = || (0..).take_while(|_| transport.send_to([0; 60_000], "/run/full").is_ok());
    assert_eq!(fill().count(), 4);
    let full = transport.send_to([0; 60_000], "/run/full");
    assert!(
        matches!(full, Err(DatagramError::QueueFull { limit: 262_144 })),
        "{full:?}"
    );
    transport.send_to([0; 60_000], "/run/other").expect("room");
    pass(&reactor, Duration::from_millis(1));
    log.check(["near starts", "near pauses"]);
    drop(transport.stop_listening());
}

#[test]
fn a_unix_socket_that_is_not_there_is_told_and_the_datagram_is_lost() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::NotFound] {
        datagrams.fail_to_send(kind.into());
        let refused = transport.send_to("x", "/run/gone");
        assert!(
            matches!(&refused, Err(DatagramError::Refused { source, .. }) if source.kind() == kind),
            "{refused:?}"
        );
    }
    datagrams.fail_to_send(ErrorKind::NotFound.into());
    transport.write_to("x", "/run/gone");
    transport.connect("/run/peer").expect("it is new");
    datagrams.fail_to_send(ErrorKind::ConnectionRefused.into());
    transport.write("x");
    assert!(sent(&datagrams).is_empty());
    pass(&reactor, Duration::ZERO);
    let lines = log.lines();
    assert!(
        lines[1].starts_with("near hears: nobody listens at unix:/run/gone"),
        "{lines:?}"
    );
    assert_eq!(lines[2..], ["near is refused"]);
}

#[test]
fn what_waits_goes_to_whom_it_was_sent_also_when_the_port_is_connected_to_somebody_else() {
    for unix in [false, true] {
        let (reactor, log) = (virtual_time_reactor(), Log::default());
        let (datagrams, one, two) = match unix {
            true => (MemoryDatagrams::unix(&reactor), "/run/one", "/run/two"),
            false => (MemoryDatagrams::new(&reactor), "192.0.2.7:1", "192.0.2.7:2"),
        };
        let transport = datagrams.listen(Diary::new("near", &log));
        transport.connect(one).expect("it is new");
        datagrams.set_congested(true);
        transport.write("to one");
        transport.disconnect().expect("it was connected");
        transport.connect(two).expect("it is new");
        datagrams.set_congested(false);
        pass(&reactor, Duration::from_millis(10));
        transport.write("to two");
        let places: Vec<String> = sent(&datagrams)
            .iter()
            .map(|line| line.replace("unix:", "").replace("/run/", ""))
            .collect();
        let expected = match unix {
            true => ["to one to one", "to two to two"],
            false => ["to one to 192.0.2.7:1", "to two to 192.0.2.7:2"],
        };
        assert_eq!(places, expected);
        log.check(["near starts"]);
    }
}

#[test]
fn what_waits_for_a_receiver_is_not_overtaken_when_the_port_is_connected_to_it() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    let (one, other) = ("/run/one", "/run/other");
    for path in [one, other] {
        datagrams.set_full(path, true);
        transport.write_to("first", path);
        transport.write_to("second", path);
    }
    // Once with room for what comes late, and once without.
    transport.connect(one).expect("it is new");
    transport.write("third");
    datagrams.set_full(one, false);
    transport.write("fourth");
    pass(&reactor, Duration::from_millis(200));
    let to = |path: &str, texts: &[&str]| -> Vec<String> {
        let texts = texts.iter();
        texts.map(|text| format!("{text} to unix:{path}")).collect()
    };
    let expected = to(one, &["first", "second", "third", "fourth"]);
    assert_eq!(sent(&datagrams), expected);
    transport.disconnect().expect("it was connected");
    datagrams.set_full(other, false);
    transport.connect(other).expect("it is new");
    transport.write("third");
    pass(&reactor, Duration::from_millis(200));
    assert_eq!(sent(&datagrams), to(other, &["first", "second", "third"]));
    assert_eq!(transport.unsent(), 0);
    // When it is connected no more, what waits is where it was.
    datagrams.set_full(other, true);
    transport.write("fifth");
    transport.disconnect().expect("it was connected");
    transport.write_to("sixth", other);
    datagrams.set_full(other, false);
    pass(&reactor, Duration::from_millis(200));
    assert_eq!(sent(&datagrams), to(other, &["fifth", "sixth"]));
    log.check(["near starts"]);
}

#[test]
fn what_waits_for_others_leaves_while_the_peer_has_no_room() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_full("/run/other", true);
    transport.write_to("one", "/run/other");
    transport.connect("/run/peer").expect("it is new");
    datagrams.set_full("/run/peer", true);
    transport.write("two");
    datagrams.set_full("/run/other", false);
    pass(&reactor, Duration::from_millis(200));
    assert_eq!(sent(&datagrams), ["one to unix:/run/other"]);
    assert_eq!(transport.unsent(), 1);
    log.check(["near starts"]);
}

#[test]
fn a_port_that_is_disconnected_while_its_peer_has_no_room_sends_on() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    transport.connect("/run/peer").expect("it is new");
    datagrams.set_full("/run/peer", true);
    transport.write("one");
    transport.disconnect().expect("it was connected");
    transport.write_to("two", "/run/other");
    assert_eq!(sent(&datagrams), ["two to unix:/run/other"]);
    // No event tells of that any more.
    datagrams.set_full("/run/peer", false);
    pass(&reactor, Duration::from_millis(200));
    assert_eq!(sent(&datagrams), ["one to unix:/run/peer"]);
    log.check(["near starts"]);
}

#[test]
fn one_receiver_that_takes_nothing_does_not_pause_the_writer_for_long() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let datagrams = MemoryDatagrams::unix(&reactor);
    let transport = datagrams.listen(Diary::new("near", &log));
    datagrams.set_full("/run/gone", true);
    for _ in 0..4 {
        transport.write_to([0; 60_000], "/run/gone");
    }
    // It may just be slow.
    pass(&reactor, Duration::from_millis(1));
    log.check(["near starts", "near pauses"]);
    pass(&reactor, Duration::from_millis(300));
    log.check(["near starts", "near pauses", "near resumes"]);
    // What is sent to others has the whole of its mark.
    datagrams.set_full("/run/busy", true);
    transport.write_to([0; 60_000], "/run/busy");
    pass(&reactor, Duration::from_millis(1));
    log.check(["near starts", "near pauses", "near resumes"]);
    transport.write_to([0; 10_000], "/run/busy");
    pass(&reactor, Duration::from_millis(1));
    assert_eq!(log.lines().last().map(String::as_str), Some("near pauses"));
    datagrams.set_full("/run/busy", false);
    pass(&reactor, Duration::from_millis(100));
    assert_eq!(log.lines().last().map(String::as_str), Some("near resumes"));
    drop(transport.stop_listening());
}
