//! TCP in a simulation: what a bad network does to connections, and what it only delays.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::{Fault, FaultKind, Host, Latency, Link, Simulation};
use torsade_reactor::{
    Address, ConnectError, KeepAlive, SocketOption, TcpClientEndpoint, Transport,
};

use crate::common::{End, Log};

const SECOND: Duration = Duration::from_secs(1);

/// A server that greets, and how many it has greeted.
fn greets(server: &Host, log: &Log) -> Rc<Cell<u32>> {
    let (greeted, log) = (Rc::new(Cell::new(0)), log.clone());
    let count = Rc::clone(&greeted);
    server.start(move |reactor| {
        let (log, count) = (log.clone(), Rc::clone(&count));
        let factory = move |_: &Address| {
            let count = Rc::clone(&count);
            End::new("server", &log).on_made(move |transport| {
                count.set(count.get() + 1);
                transport.write("hi");
            })
        };
        reactor.listen_tcp(":7", factory).expect("the port is free");
    });
    greeted
}

#[test]
fn a_lossy_link_delays_connections_and_greetings_and_destroys_none() {
    let mut connected = 0;
    for seed in 0..200 {
        let (simulation, log) = (Simulation::new(seed), Log::default());
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        let greeted = greets(&server, &log);
        let link = Link {
            loss: 0.3,
            ..Link::default()
        };
        simulation.set_link(&server, &client, link);
        simulation.set_link(&client, &server, link);
        let end = End::new("client", &log);
        let received = Rc::clone(&end.received);
        let connecting = client.reactor().connect_tcp((server.ip(), 7), |_| end);
        let outcome = client.reactor().run_until(connecting);
        simulation.run_for(SECOND * 600);
        let lines = log.lines();
        assert!(!lines.iter().any(|line| line.contains("lost")), "{lines:?}");
        if outcome.is_ok() {
            connected += 1;
            assert_eq!(greeted.get(), 1, "seed {seed}: {}", simulation.trace());
            assert_eq!(*received.borrow(), b"hi", "seed {seed}");
        }
    }
    assert!(connected > 190, "{connected} of 200");
}

#[test]
fn a_server_whose_answers_are_all_lost_accepts_nobody() {
    let (simulation, log) = (Simulation::new(1), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let greeted = greets(&server, &log);
    simulation.cut(&server, &client);
    let connecting = client
        .reactor()
        .connect_tcp((server.ip(), 7), |_| End::new("client", &Log::default()));
    let failure = client.reactor().run_until(connecting).expect_err("no way");
    assert!(failure.check::<ConnectError>(), "{failure}");
    simulation.run_for(SECOND * 60);
    assert_eq!(greeted.get(), 0, "{}", simulation.trace());
}

#[test]
fn a_server_that_is_never_told_that_its_answer_came_gives_up_without_a_word_to_its_program() {
    let (simulation, log) = (Simulation::new(1), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let greeted = greets(&server, &log);
    let link = Link::with_latency(Latency::Fixed(SECOND));
    simulation.set_link(&server, &client, link);
    simulation.set_link(&client, &server, link);
    let connecting = client
        .reactor()
        .connect_tcp((server.ip(), 7), |_| End::new("client", &Log::default()));
    simulation.run_for(SECOND * 3 / 2);
    // The answer is on its way; what tells of its arrival is lost.
    simulation.cut(&client, &server);
    let transport = client.reactor().run_until(connecting).expect("it listens");
    simulation.run_for(SECOND * 600);
    assert_eq!(greeted.get(), 0, "{}", simulation.trace());
    // Nobody there knows the connection any more: whoever uses it hears that.
    simulation.mend(&client, &server);
    transport.write("is anybody there?");
    simulation.run_for(SECOND * 600);
    assert!(!transport.is_connected());
    assert_eq!(greeted.get(), 0);
}

#[test]
fn bytes_that_come_before_the_word_that_the_answer_came_make_the_connection() {
    let (simulation, log) = (Simulation::new(1), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let greeted = greets(&server, &log);
    let link = Link::with_latency(Latency::Fixed(SECOND / 10));
    simulation.set_link(&server, &client, link);
    simulation.set_link(&client, &server, link);
    simulation.run_for(SECOND);
    let end = End::new("client", &log).on_made(|transport| transport.write("hello"));
    let connecting = client.reactor().connect_tcp((server.ip(), 7), |_| end);
    simulation.run_for(SECOND / 10 + SECOND / 20);
    simulation.cut(&client, &server);
    simulation.run_for(SECOND / 10 + SECOND / 100);
    simulation.mend(&client, &server);
    let transport = client.reactor().run_until(connecting).expect("it listens");
    // The bytes are sent again before the server asks again.
    simulation.run_for(SECOND / 2);
    assert_eq!(greeted.get(), 1, "{}", simulation.trace());
    assert!(transport.is_connected());
}

#[test]
fn a_connection_that_its_client_aborts_at_once_ends_at_the_server_too() {
    let (simulation, log) = (Simulation::new(1), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let _ = greets(&server, &log);
    let end = End::new("client", &Log::default()).on_made(Transport::abort_connection);
    let connecting = client.reactor().connect_tcp((server.ip(), 7), |_| end);
    drop(client.reactor().run_until(connecting));
    simulation.run_until_idle();
    log.check(["server made", "server lost: ConnectionReset"]);
}

#[test]
fn a_server_that_crashes_as_it_accepts_leaves_nothing_to_its_next_life() {
    for seed in 0..50 {
        for offset in 0..20 {
            let (simulation, log) = (Simulation::new(seed), Log::default());
            let (server, client) = (simulation.host("server"), simulation.host("client"));
            let greeted = greets(&server, &log);
            let link = Link::with_latency(Latency::Fixed(SECOND / 1000));
            simulation.set_link(&server, &client, link);
            simulation.set_link(&client, &server, link);
            simulation.set_faults(vec![Fault {
                at: SECOND + SECOND / 4000 * offset,
                lasts: SECOND * 3,
                what: FaultKind::Crash(0),
            }]);
            simulation.run_for(SECOND);
            let client_log = Log::default();
            let end = End::new("client", &client_log)
                .on_made(|transport| transport.write("is anybody there?"));
            let received = Rc::clone(&end.received);
            let connecting = client.reactor().connect_tcp((server.ip(), 7), |_| end);
            drop(connecting.map(drop).add_errback(|_| ()));
            simulation.run_for(SECOND * 60);
            // It has the greeting of some life, or it hears that nobody knows it.
            let ended = client_log.lines().iter().any(|line| line.contains("lost"));
            assert!(
                ended || *received.borrow() == b"hi",
                "{}",
                simulation.trace()
            );
            assert!(greeted.get() <= 1, "{}", simulation.trace());
        }
    }
}

#[test]
fn a_peer_whose_acknowledgements_are_all_lost_is_given_up() {
    let (simulation, log) = (Simulation::new(5), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let _ = greets(&server, &Log::default());
    let connecting = client.reactor().connect_tcp((server.ip(), 7), {
        let log = log.clone();
        move |_| End::new("client", &log)
    });
    let transport = client.reactor().run_until(connecting).expect("it listens");
    simulation.run_until_idle();
    simulation.cut(&server, &client);
    transport.write("do you hear me?");
    simulation.run_until_idle();
    log.check(["client made", "client lost: TimedOut"]);
}

#[test]
fn an_acknowledgement_that_was_lost_is_asked_for_again() {
    let (simulation, log) = (Simulation::new(5), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let _ = greets(&server, &Log::default());
    let connecting = client.reactor().connect_tcp((server.ip(), 7), {
        let log = log.clone();
        move |_| End::new("client", &log)
    });
    let transport = client.reactor().run_until(connecting).expect("it listens");
    simulation.run_until_idle();
    simulation.cut(&server, &client);
    transport.write("do you hear me?");
    simulation.run_for(SECOND * 10);
    simulation.mend(&server, &client);
    simulation.run_until_idle();
    log.check(["client made"]);
    assert!(transport.is_connected());
}

#[test]
fn the_trace_says_that_a_host_that_is_down_hears_nothing() {
    let simulation = Simulation::new(3);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.crash();
    let connecting = client
        .reactor()
        .connect_tcp((server.ip(), 7), |_| End::new("client", &Log::default()));
    simulation.run_for(SECOND / 2);
    let trace = simulation.trace();
    assert_eq!(trace.find("connects").count(), 1, "{trace}");
    assert_eq!(trace.find("is lost").count(), 1, "{trace}");
    drop(connecting.map(drop).add_errback(|_| ()));
}

#[test]
fn a_port_is_given_again_only_when_its_connection_is_over() {
    let (simulation, seen) = (Simulation::new(4), Rc::new(RefCell::new(Vec::new())));
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let peers = Rc::clone(&seen);
    let accept = move |peer: &Address| {
        peers.borrow_mut().push(peer.to_string());
        End::new("server", &Log::default())
    };
    let listening = server.reactor().listen_tcp(":7", accept);
    listening.expect("the port is free");
    let reactor = client.reactor();
    let connect = || {
        let connecting =
            reactor.connect_tcp((server.ip(), 7), |_| End::new("client", &Log::default()));
        reactor.run_until(connecting).expect("it listens")
    };
    let long = connect();
    simulation.run_for(SECOND / 100);
    let first = seen.borrow().first().cloned();
    for _ in 0..16_400 {
        connect().abort_connection();
    }
    simulation.run_until_idle();
    assert!(long.is_connected());
    let seen = seen.borrow();
    let same = seen.iter().filter(|peer| Some(*peer) == first.as_ref());
    assert_eq!(same.count(), 1, "{first:?}");
}

#[test]
fn who_has_taken_every_port_is_given_no_other() {
    let simulation = Simulation::new(4);
    let host = simulation.host("host");
    let reactor = host.reactor();
    let listen = || {
        let accept = |_: &Address| End::new("server", &Log::default());
        reactor.listen_tcp((host.ip(), 0), accept)
    };
    let ports: Vec<_> = (0..16_384)
        .map(|_| listen().expect("one is free"))
        .collect();
    listen().expect_err("none is free");
    drop(ports);
}

#[test]
fn a_connection_shows_the_addresses_that_linux_gives_it() {
    let simulation = Simulation::new(9);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for host in [&server, &client] {
        let peers = Rc::clone(&seen);
        let accept = move |peer: &Address| {
            peers.borrow_mut().push(peer.to_string());
            End::new("server", &Log::default())
        };
        let listening = host.reactor().listen_tcp("0.0.0.0:7", accept);
        listening.expect("the port is free");
    }
    let reactor = client.reactor();
    let connect = |from: Option<&str>, to: (IpAddr, u16)| {
        let endpoint = TcpClientEndpoint::new(to);
        let endpoint = match from {
            Some(from) => {
                endpoint.local_address((from.parse::<IpAddr>().expect("it is one"), 5000))
            }
            None => endpoint,
        };
        let end = End::new("client", &Log::default());
        let connecting = reactor.connect(&endpoint, |_: &Address| end);
        let transport = reactor.run_until(connecting).map_err(|failure| {
            let error = failure.trap::<ConnectError>().expect("it is one of those");
            error.to_string()
        })?;
        let ends = (transport.host().to_string(), transport.peer().to_string());
        transport.abort_connection();
        simulation.run_until_idle();
        Ok::<_, String>(ends)
    };
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let ends = connect(Some("127.0.0.2"), (loopback, 7)).expect("it listens");
    assert_eq!(ends, ("127.0.0.2:5000".into(), "127.0.0.1:7".into()));
    assert_eq!(*seen.borrow(), ["127.0.0.2:5000"]);
    let ends = connect(None, ([127, 0, 0, 5].into(), 7)).expect("it listens");
    assert!(ends.0.starts_with("127.0.0.1:"), "{ends:?}");
    let ends = connect(None, ([0, 0, 0, 0].into(), 7)).expect("it listens");
    assert!(ends.0.starts_with("127.0.0.1:"), "{ends:?}");
    let peers = seen.borrow();
    assert!(
        peers
            .last()
            .is_some_and(|peer| peer.starts_with("127.0.0.1:"))
    );
    let refused = connect(Some("127.0.0.1"), (server.ip(), 7)).expect_err("it does not leave");
    assert!(refused.contains("nvalid"), "{refused}");
}

const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
};

/// A connection on which the client asks now and then whether its peer is there.
fn kept_alive(seed: u64) -> (Simulation, Host, Host, Transport<End>, Log) {
    let (simulation, log) = (Simulation::new(seed), Log::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let _ = greets(&server, &Log::default());
    let end = End::new("client", &log);
    let endpoint =
        TcpClientEndpoint::new((server.ip(), 7)).option(SocketOption::KeepAlive(Some(KEEP_ALIVE)));
    let connecting = client.reactor().connect(&endpoint, |_: &Address| end);
    let transport = client.reactor().run_until(connecting).expect("it listens");
    simulation.run_until_idle();
    (simulation, server, client, transport, log)
}

#[test]
fn options_that_are_set_in_a_simulation_are_read_back_and_have_their_effect() {
    let (simulation, _, _, transport, _) = kept_alive(1);
    let socket = transport.stream().socket();
    assert_eq!(socket.keep_alive().expect("it is TCP"), Some(KEEP_ALIVE));
    let never = KeepAlive {
        idle: Duration::ZERO,
        ..KEEP_ALIVE
    };
    let refused = transport.set_option(SocketOption::KeepAlive(Some(never)));
    let refused = refused.expect_err("less than a second").kind();
    assert_eq!(refused, std::io::ErrorKind::InvalidInput);
    let off = transport.set_option(SocketOption::KeepAlive(None));
    off.expect("it is connected");
    assert_eq!(socket.keep_alive().expect("it is TCP"), None);
    for option in [
        SocketOption::SendBuffer(20_000),
        SocketOption::ReceiveBuffer(30_000),
    ] {
        transport.set_option(option).expect("it is connected");
    }
    assert_eq!(socket.buffer_sizes().expect("it is TCP"), (20_000, 30_000));
    transport.write(vec![b'x'; 50_000]);
    assert!(transport.unsent() >= 30_000, "{}", transport.unsent());
    simulation.run_until_idle();
    assert_eq!(transport.unsent(), 0);
}

#[test]
fn a_silent_peer_that_is_gone_is_given_up_by_who_asks_whether_it_is_there() {
    let (simulation, server, _, _, log) = kept_alive(2);
    let begun = simulation.now();
    server.crash();
    simulation.run_until_idle();
    log.check(["client made", "client lost: TimedOut"]);
    let taken = simulation.now() - begun;
    assert!(taken > SECOND * 119 && taken < SECOND * 121, "{taken:?}");

    let (simulation, server, _, _, log) = kept_alive(3);
    simulation.run_for(SECOND * 1000);
    server.crash();
    server.restart();
    simulation.run_for(SECOND * 61);
    log.check(["client made", "client lost: ConnectionReset"]);
}

#[test]
fn a_silent_peer_behind_a_link_that_is_cut_or_held_is_given_up_unless_it_is_mended_in_time() {
    let (simulation, server, client, transport, log) = kept_alive(4);
    type Change = fn(&Simulation, &Host, &Host);
    let changes: [(Change, Change); 3] = [
        (Simulation::partition, Simulation::heal),
        (Simulation::cut, Simulation::mend),
        (Simulation::hold, Simulation::release),
    ];
    for (stop, mend) in changes {
        stop(&simulation, &server, &client);
        // Six questions take a minute, whenever the first one is due.
        simulation.run_for(SECOND * 55);
        mend(&simulation, &server, &client);
        simulation.run_for(SECOND * 100);
        assert!(transport.is_connected());
    }
    // Where nothing is wrong, nobody asks.
    let before = simulation.now();
    simulation.run_until_idle();
    assert_eq!(simulation.now(), before);
    simulation.cut(&server, &client);
    simulation.run_until_idle();
    log.check(["client made", "client lost: TimedOut"]);
}

#[test]
fn bytes_that_are_under_way_take_the_place_of_questions_and_questions_go_on_after_them() {
    let (simulation, server, client, transport, log) = kept_alive(5);
    simulation.hold(&client, &server);
    transport.write("held");
    simulation.run_until_idle();
    log.check(["client made"]);
    simulation.release(&client, &server);
    simulation.run_for(SECOND * 10);
    simulation.cut(&client, &server);
    transport.write("lost");
    simulation.run_for(SECOND * 300);
    // As long as it sends again it waits for longer than it asks.
    assert!(transport.is_connected());
    simulation.mend(&client, &server);
    simulation.run_for(SECOND * 300);
    assert_eq!(transport.unsent(), 0);
    server.crash();
    simulation.run_until_idle();
    log.check(["client made", "client lost: TimedOut"]);
}
