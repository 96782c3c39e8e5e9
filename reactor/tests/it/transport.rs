//! One rule book for a connection: what arrives, in what order, and how it ends.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted};
use torsade_reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade_reactor::{Address, ConnectError, Limits, ListenError, Protocol, Transport};

use crate::common::{End, Log, connect, count_unhandled, reactor, run_while, small_limits};

#[test]
fn bytes_arrive_in_order_and_a_clean_end_is_done_on_both_sides() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let mut client = End::new("client", &log);
    let lost = client.fires_when_lost();
    let pair = connect(&reactor, client, server);
    pair.client.write("one ");
    pair.client.write("two ");
    pair.client.write(vec![b'x'; 300_000]);
    pair.client.lose_connection();
    pair.client.write("too late");
    assert!(!pair.client.is_connected());
    reactor.run_until(lost).unwrap();
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(received.borrow().len(), 8 + 300_000);
    assert!(received.borrow().starts_with(b"one two xxx"));
    let mut ends = log.lines().split_off(2);
    ends.sort();
    assert_eq!(ends, ["client lost: Done", "server lost: Done"]);
}

#[test]
fn abort_is_not_told_before_it_returns_and_resets_the_peer() {
    let (reactor, log) = (reactor(), Log::default());
    let seen = log.clone();
    let server = End::new("server", &log).on_data(move |transport, _| {
        transport.abort_connection();
        transport.abort_connection();
        transport.lose_connection();
        seen.add("still here");
    });
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.client.write("go");
    run_while(&reactor, || log.lines().len() < 5);
    assert_eq!(
        log.lines()[2..],
        [
            "still here",
            "server lost: Aborted",
            "client lost: ConnectionReset"
        ]
    );
}

#[test]
fn a_panic_ends_its_own_connection_and_nothing_else() {
    let (reactor, log) = (reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let broken = End::new("broken", &log).on_data(|_, _| panic!("on purpose"));
    let healthy = End::new("healthy", &log).on_data(|transport, data| transport.write(data));
    let first = connect(&reactor, End::new("first", &log), broken);
    let second_end = End::new("second", &log);
    let received = Rc::clone(&second_end.received);
    let second = connect(&reactor, second_end, healthy);
    first.client.write("boom");
    second.client.write("hello");
    run_while(&reactor, || {
        received.borrow().len() < 5 || log.lines().len() < 6
    });
    assert!(
        log.lines()
            .contains(&"broken lost: panic on purpose".to_string())
    );
    assert!(second.server.is_connected());
    assert_eq!(unhandled.get(), 1);
}

#[test]
fn a_protocol_can_give_its_own_reason() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log)
        .on_data(|transport, _| transport.lose_connection_because(Failure::message("enough")));
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.client.write("x");
    run_while(&reactor, || log.lines().len() < 4);
    assert!(log.lines().contains(&"server lost: enough".to_string()));
}

#[test]
fn half_close_lets_the_other_side_finish() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).keeps_half_open();
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let pair = connect(&reactor, client, server);
    pair.client.write("question");
    pair.client.lose_write_connection();
    pair.client.write("dropped");
    run_while(&reactor, || log.lines().len() < 3);
    pair.server.write("answer");
    pair.server.lose_connection();
    run_while(&reactor, || log.lines().len() < 5);
    assert_eq!(*received.borrow(), b"answer");
    assert_eq!(log.lines()[2], "server read lost");
    let mut ends = log.lines().split_off(3);
    ends.sort();
    assert_eq!(ends, ["client lost: Done", "server lost: Done"]);
}

#[test]
fn a_slow_reader_pauses_the_writer_and_resumes_it() {
    let (reactor, log) = (reactor(), Log::default());
    let client = End::new("client", &log).on_made(Transport::pause_reading);
    let received = Rc::clone(&client.received);
    let pair = connect(&reactor, client, End::new("server", &log));
    pair.server.set_limits(small_limits());
    // More than the system's own buffers take.
    let size = 64 << 20;
    pair.server.write(vec![7; size]);
    run_while(&reactor, || log.lines().len() < 3);
    assert_eq!(log.lines()[2], "server paused");
    assert!(pair.server.unsent() > 10_000);
    pair.client.resume_reading();
    run_while(&reactor, || received.borrow().len() < size);
    assert_eq!(log.lines()[2..], ["server paused", "server resumed"]);
}

#[test]
fn a_reader_that_never_reads_ends_the_connection_at_the_limit() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(
        &reactor,
        End::new("client", &log).on_made(Transport::pause_reading),
        End::new("server", &log),
    );
    pair.server.set_limits(small_limits());
    let writer = pair.server.clone();
    let most = Rc::new(Cell::new(0));
    while writer.is_connected() {
        writer.write([1; 65_536]);
        most.set(most.get().max(writer.unsent()));
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(most.get() <= (4 << 20) + 65_536, "{}", most.get());
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(log.lines()[3], "server lost: Overrun { limit: 4194304 }");
}

#[test]
fn one_large_write_is_no_overrun() {
    let (reactor, log) = (reactor(), Log::default());
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let pair = connect(&reactor, client, End::new("server", &log));
    pair.server.set_limits(Limits {
        unsent_max: 1000,
        ..Limits::default()
    });
    pair.server.write(vec![1; 32 << 20]);
    run_while(&reactor, || received.borrow().len() < 32 << 20);
    assert!(pair.server.is_connected());
}

#[test]
fn a_peer_that_sends_and_never_reads_is_not_read_either() {
    // An echo to a peer that never reads: the answers fill its buffers and ours, and then
    // its questions wait in the system, not in our memory.
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).on_data(|transport, data| transport.write(data));
    let received = Rc::clone(&server.received);
    let pair = connect(
        &reactor,
        End::new("client", &log).on_made(Transport::pause_reading),
        server,
    );
    let total = 64 << 20;
    pair.client.write(vec![0; total]);
    run_while(&reactor, || {
        !log.lines().contains(&"server paused".to_string())
    });
    for _ in 0..100 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(received.borrow().len() < total);
    assert!(pair.server.unsent() < 1 << 20);
    pair.client.resume_reading();
    run_while(&reactor, || received.borrow().len() < total);
}

#[test]
fn a_flush_that_takes_too_long_is_given_up() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(
        &reactor,
        End::new("client", &log).on_made(Transport::pause_reading),
        End::new("server", &log),
    );
    pair.server.set_limits(Limits {
        flush: Duration::from_millis(1),
        ..Limits::default()
    });
    pair.server.write(vec![0; 64 << 20]);
    pair.server.lose_connection();
    run_while(&reactor, || log.lines().len() < 3);
    assert!(
        log.lines()
            .iter()
            .any(|line| line.starts_with("server lost: TimedOut")),
        "{:?}",
        log.lines()
    );
}

#[test]
fn pausing_in_a_callback_stops_the_next_delivery() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).on_data(|transport, _| transport.pause_reading());
    let received = Rc::clone(&server.received);
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.client.write([1; 100]);
    run_while(&reactor, || received.borrow().is_empty());
    let so_far = received.borrow().len();
    pair.client.write([2; 100]);
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(received.borrow().len(), so_far);
    pair.server.resume_reading();
    run_while(&reactor, || received.borrow().len() < 200);
}

#[test]
fn everything_accepted_before_an_orderly_end_arrives_though_the_peer_still_sends() {
    // The peer is a plain socket that keeps sending while we close: a system that closed
    // at once would answer with a reset and throw our last bytes away.
    let reactor = reactor();
    let size = 4 << 20;
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            End::new("server", &Log::default()).on_made(move |transport| {
                transport.write(vec![9; size]);
                transport.lose_connection();
            })
        })
        .unwrap();
    let (address, remote) = (port.address().to_string(), reactor.remote());
    let peer = thread::spawn(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        let outcome = loop {
            // What it sends is of no interest to anybody.
            let _ = socket.write(&[0; 512]);
            match socket.read(&mut chunk) {
                Ok(0) => break received.len(),
                Ok(count) => received.extend_from_slice(&chunk[..count]),
                // What it sends to a socket that is closed for good is answered with a reset,
                // which it reads behind the last byte.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break received.len(),
                Err(error) => panic!("after {} bytes: {error}", received.len()),
            }
        };
        remote.stop();
        outcome
    });
    reactor.run().unwrap();
    assert_eq!(peer.join().unwrap(), size);
}

#[test]
fn a_call_to_a_busy_protocol_waits_until_it_is_free() {
    let (reactor, log) = (reactor(), Log::default());
    let seen = log.clone();
    let server = End::new("server", &log).on_data(move |transport, _| {
        for line in ["first", "second"] {
            transport.call(move |this: &mut End, transport| {
                this.log.add(line);
                transport.call(move |this, _| this.log.add(format!("{line}, inside")));
            });
        }
        seen.add("busy");
    });
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.client.write("x");
    run_while(&reactor, || log.lines().len() < 7);
    assert_eq!(
        log.lines()[2..],
        ["busy", "first", "second", "first, inside", "second, inside"]
    );
    pair.server.call(|this, _| this.log.add("at once"));
    assert_eq!(log.lines().last().unwrap(), "at once");
}

#[test]
fn a_deferred_tied_to_a_connection_comes_with_the_protocol() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let (trigger, deferred) = Deferred::<u32>::new();
    pair.server.when(deferred, |this, _, result| {
        this.log.add(format!("got {}", result.unwrap()))
    });
    trigger.callback(7);
    assert_eq!(log.lines()[2..], ["got 7"]);
}

#[test]
fn a_deferred_tied_to_a_connection_is_cancelled_with_it_quietly() {
    let (reactor, log) = (reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let (trigger, deferred) = Deferred::<u32>::new();
    let cancelled = Rc::new(Cell::new(false));
    let flag = Rc::clone(&cancelled);
    trigger.on_cancel(move || flag.set(true));
    pair.server.when(deferred, |_, _, _| {
        unreachable!("the connection is lost by then")
    });
    pair.client.lose_connection();
    run_while(&reactor, || log.lines().len() < 4);
    assert!(cancelled.get());
    drop(trigger);
    let (trigger, late) = Deferred::<u32>::new();
    pair.server.when(late, |_, _, _| {
        unreachable!("the connection is lost already")
    });
    assert!(!trigger.is_open());
    assert_eq!(unhandled.get(), 0);
}

#[test]
fn the_protocol_is_dropped_at_the_end_though_its_transport_is_kept() {
    struct Holder(#[expect(dead_code, reason = "its drop is what counts")] Rc<()>);
    impl Protocol for Holder {
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    let (reactor, held) = (reactor(), Rc::new(()));
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| {
            End::new("server", &Log::default())
        })
        .unwrap();
    let own = Rc::clone(&held);
    let transport = reactor
        .run_until(reactor.connect_tcp(port.address(), move |_| Holder(own)))
        .unwrap();
    transport.lose_connection();
    run_while(&reactor, || Rc::strong_count(&held) > 1);
    assert_eq!(transport.peer(), port.address());
}

#[test]
fn connecting_to_nobody_is_refused_by_name() {
    let reactor = reactor();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| None::<End>)
        .unwrap();
    let address = port.address();
    drop(port.stop_listening());
    let failure = reactor
        .run_until(reactor.connect_tcp(&address, |_| End::new("x", &Log::default())))
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!("cannot connect to {address}: connection refused")
    );
    assert!(failure.check::<ConnectError>());
}

#[test]
fn an_unresolvable_name_and_a_bad_address_are_named() {
    let reactor = reactor();
    let build = |_: &Address| End::new("x", &Log::default());
    // RFC 6761 §6.4: `.invalid` never resolves.
    let failure = reactor
        .run_until(reactor.connect_tcp("no-such-host.invalid:80", build))
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("cannot connect to no-such-host.invalid:80: unknown host"),
        "{failure}"
    );
    let failure = reactor
        .run_until(reactor.connect_tcp("localhost", build))
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("\"localhost\" is not an address"),
        "{failure}"
    );
    let error = reactor
        .listen_tcp("no-such-host.invalid:80", build)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot listen on no-such-host.invalid:80: unknown host"),
        "{error}"
    );
}

#[test]
fn a_name_is_resolved_and_connected() {
    let (reactor, log) = (reactor(), Log::default());
    let seen = log.clone();
    let port = reactor
        .listen_tcp("localhost:0", move |_: &Address| End::new("server", &seen))
        .unwrap();
    let number = port.address().port().unwrap();
    let connecting = reactor.connect_tcp(("localhost", number), |_| {
        End::new("client", &Log::default())
    });
    let transport = reactor.run_until(connecting).unwrap();
    assert_eq!(transport.peer().port(), Some(number));
}

#[test]
fn a_port_in_use_is_named() {
    let reactor = reactor();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| None::<End>)
        .unwrap();
    let error = reactor
        .listen_tcp(port.address(), |_: &Address| None::<End>)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {}: address already in use",
            port.address()
        )
    );
    assert!(matches!(error, ListenError::InUse { .. }));
    drop(port.stop_listening());
    assert!(
        reactor
            .listen_tcp(port.address(), |_: &Address| None::<End>)
            .is_ok()
    );
}

#[test]
fn a_cancelled_attempt_builds_nothing() {
    let reactor = reactor();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| None::<End>)
        .unwrap();
    let connecting = reactor.connect_tcp(port.address(), |_| -> End {
        unreachable!("the attempt was cancelled")
    });
    connecting.cancel();
    let failure = connecting.into_result().unwrap().unwrap_err();
    assert_eq!(failure.to_string(), "cancelled");
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_factory_refuses_with_none_and_survives_its_own_panic() {
    let (reactor, log) = (reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let mut count = 0;
    let seen = log.clone();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            count += 1;
            match count {
                1 => None,
                2 => panic!("on purpose"),
                _ => Some(End::new("server", &seen)),
            }
        })
        .unwrap();
    let ends = Rc::new(RefCell::new(Vec::new()));
    for name in ["first", "second", "third"] {
        let end = End::new(name, &log);
        ends.borrow_mut().push(
            reactor
                .run_until(reactor.connect_tcp(port.address(), move |_| end))
                .unwrap(),
        );
    }
    run_while(&reactor, || log.lines().len() < 6);
    assert!(ends.borrow()[2].is_connected() && !ends.borrow()[0].is_connected());
    assert!(log.lines().contains(&"server made".to_string()));
    assert_eq!(unhandled.get(), 1);
}

#[test]
fn cancelling_while_the_name_is_looked_up_is_cancelling_and_no_unknown_host() {
    let (reactor, log) = (reactor(), Log::default());
    let seen = log.clone();
    let attempt = reactor.connect_tcp("no-such-host.invalid:80", move |_| End::new("never", &seen));
    let canceller = attempt.canceller();
    let outcome = attempt.map(drop);
    canceller.cancel();
    let failure = outcome.into_result().unwrap().unwrap_err();
    assert!(failure.check::<Interrupted>(), "{failure}");
}

#[test]
fn what_is_tried_is_taken_at_once_or_not_at_all() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.server.pause_reading();
    let chunk = [b'x'; 64 * 1024];
    let mut taken = 0;
    // Until the system has had enough of a peer that does not read.
    let refused = (0..100_000).find_map(|_| match pair.client.try_write(chunk) {
        Ok(count) => {
            assert!((1..=chunk.len()).contains(&count));
            taken += count;
            None
        }
        Err(error) => Some(error.kind()),
    });
    assert_eq!(refused, Some(ErrorKind::WouldBlock));
    assert_eq!(pair.client.unsent(), 0, "nothing is kept");
    // What is written waits, and what is tried does not overtake it.
    pair.client.write("y");
    let overtaking = pair.client.try_write("z").map_err(|error| error.kind());
    assert_eq!(overtaking, Err(ErrorKind::WouldBlock));
    pair.server.resume_reading();
    run_while(&reactor, || received.borrow().len() <= taken);
    assert_eq!(received.borrow().len(), taken + 1);
    assert_eq!(received.borrow().last(), Some(&b'y'));
    assert_eq!(pair.client.try_write("").expect("it is nothing"), 0);
    pair.client.lose_write_connection();
    let late = pair.client.try_write("z").map_err(|error| error.kind());
    assert_eq!(late, Err(ErrorKind::NotConnected));
}

#[test]
fn what_is_tried_on_a_layer_is_taken_if_nothing_waits() {
    let memory = MemoryStream::new(&virtual_time_reactor());
    let transport = Transport::connect(End::new("end", &Log::default()), memory.clone());
    assert_eq!(transport.try_write("one").expect("nothing waits"), 3);
    memory.set_congested(true);
    let waiting = transport.try_write("two").map_err(|error| error.kind());
    assert_eq!(waiting, Err(ErrorKind::WouldBlock));
    memory.set_congested(false);
    assert_eq!(memory.take_written(), b"one");
    transport.lose_connection();
    let late = transport.try_write("three").map_err(|error| error.kind());
    assert_eq!(late, Err(ErrorKind::NotConnected));
}

#[test]
fn connections_of_a_reactor_are_numbered() {
    let (reactor, log) = (reactor(), Log::default());
    let ends = || (End::new("client", &log), End::new("server", &log));
    let pairs = [(); 2].map(|()| {
        let (client, server) = ends();
        connect(&reactor, client, server)
    });
    let mut numbers: Vec<_> = pairs
        .iter()
        .flat_map(|pair| [pair.client.session_number(), pair.server.session_number()])
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    // The end changes nothing, and no number comes again.
    let first = &pairs[0].client;
    let number = first.session_number();
    first.abort_connection();
    run_while(&reactor, || log.lines().len() < 6);
    assert_eq!(first.session_number(), number);
    let (client, server) = ends();
    let pair = connect(&reactor, client, server);
    assert!(pair.client.session_number() > 4 && pair.server.session_number() > 4);
}
