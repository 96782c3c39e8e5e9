//! The contract of drivers, as rules that the operating system's keeps, whichever way it
//! waits, and the simulation's.
//!
//! Each rule is one test, and runs on all of them. It connects a driver to itself: what lies
//! between two hosts of a simulation is looked at by the contract of streams.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::address::Address;
use crate::capability::{Unsupported, WorldKind};
use crate::descriptor::Readiness;
use crate::driver::events::Event;
use crate::driver::os::{self, OsDriver};
use crate::driver::{AnySocket, Driver, Events, ListeningSocket};
use crate::simulation::Simulation;
use crate::slab::Token;
use crate::sockets::{ConnectOptions, ListenOptions, SocketOption};

/// Longer than anything here takes; only what is wrong waits so long.
const LONG: Duration = Duration::from_secs(3600);

/// Waits that a rule takes at most.
const WAITS_MAX: usize = 100_000;

/// Different seeds give different orders and chunkings.
const SEEDS: u64 = 8;

#[expect(clippy::print_stderr, reason = "a rule that is broken says where")]
fn on_every_driver(rule: impl Fn(&Bench<'_>)) {
    let [fast, portable] = [OsDriver::new(), OsDriver::portable()];
    eprintln!("on the system's driver");
    rule(&Bench::new(&fast.expect("there are descriptors left")));
    eprintln!("on the portable wait");
    rule(&Bench::new(&portable.expect("there are descriptors left")));
    for seed in 0..SEEDS {
        eprintln!("in a simulation, seed {seed}");
        let simulation = Simulation::new(seed);
        let reactor = simulation.host("host").reactor();
        rule(&Bench::new(reactor.core().driver()));
    }
}

/// A driver, and what it has reported that nobody has asked for yet.
struct Bench<'a> {
    driver: &'a dyn Driver,
    last_token: Cell<u64>,
    reported: RefCell<Vec<Event>>,
}

impl<'a> Bench<'a> {
    fn new(driver: &'a dyn Driver) -> Self {
        Self {
            driver,
            last_token: Cell::default(),
            reported: RefCell::default(),
        }
    }

    fn token(&self) -> Token {
        self.last_token.set(self.last_token.get() + 1);
        Token::from_u64(self.last_token.get())
    }

    fn wait(&self, limit: Duration) {
        let mut events = Events::default();
        let outcome = self.driver.wait(Some(limit), &mut events);
        outcome.expect("the driver can wait");
        self.reported.borrow_mut().extend(events.iter());
    }

    /// Waits until this is reported under the token, and forgets what was before.
    #[track_caller]
    fn wait_for(&self, token: Token, is_it: impl Fn(Readiness) -> bool) -> Readiness {
        for _ in 0..WAITS_MAX {
            let mut reported = self.reported.borrow_mut();
            let mut found = None;
            reported.retain(|event| {
                let readiness = Readiness::from(event.change);
                if event.token == token && is_it(readiness) {
                    found = Some(readiness);
                }
                event.token != token
            });
            drop(reported);
            if let Some(found) = found {
                return found;
            }
            let before = self.driver.now();
            self.wait(LONG);
            assert!(self.driver.now() - before < LONG, "it was not reported");
        }
        panic!("many events, and not this one");
    }

    #[track_caller]
    fn readable(&self, token: Token) -> Readiness {
        self.wait_for(token, |readiness| readiness.readable)
    }

    /// What is reported under a token, when nothing is left to happen.
    fn reports_of(&self, token: Token) -> usize {
        for _ in 0..20 {
            self.wait(Duration::from_micros(100));
        }
        let mut reported = self.reported.borrow_mut();
        let before = reported.len();
        reported.retain(|event| event.token != token);
        before - reported.len()
    }

    fn listen(&self) -> (Box<dyn ListeningSocket>, Token, SocketAddr) {
        let listener = self
            .driver
            .listen(&loopback(0), &ListenOptions::new())
            .expect("loopback can listen");
        let token = self.token();
        listener.watch(token).expect("it can be watched");
        let address = ip(&listener.address());
        (listener, token, address)
    }

    fn connect(&self, to: SocketAddr) -> End<'_> {
        let socket = self
            .driver
            .connect(&to.into(), &ConnectOptions::new())
            .expect("it can begin to connect");
        self.end(socket)
    }

    fn end(&self, socket: AnySocket) -> End<'_> {
        let token = self.token();
        socket.watch(token).expect("it can be watched");
        End {
            bench: self,
            socket,
            token,
        }
    }

    /// The two ends of a connection.
    fn connected(&self) -> [End<'_>; 2] {
        let (listener, listening, address) = self.listen();
        let client = self.connect(address);
        self.readable(listening);
        let (server, _) = listener.accept().expect("somebody has connected");
        self.wait_for(client.token, |readiness| readiness.writable);
        client.socket.take_error().expect("it is connected");
        [client, self.end(server)]
    }
}

fn loopback(port: u16) -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

fn ip(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        other => panic!("{other} is no address of TCP"),
    }
}

/// One end of a connection.
struct End<'a> {
    bench: &'a Bench<'a>,
    socket: AnySocket,
    token: Token,
}

impl End<'_> {
    /// Reads so many bytes, whenever there are some.
    #[track_caller]
    fn read(&self, count: usize) -> Vec<u8> {
        let mut data = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.socket.read(&mut data[filled..]) {
                Ok(0) => panic!("the stream ends after {filled} bytes of {count}"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.bench.readable(self.token);
                }
                Err(error) => panic!("{error} after {filled} bytes of {count}"),
            }
        }
        data
    }

    /// What comes of a read that gives no byte.
    #[track_caller]
    fn read_end(&self) -> io::Result<()> {
        loop {
            match self.socket.read(&mut [0; 1000]) {
                Ok(0) => return Ok(()),
                Ok(count) => panic!("{count} bytes more"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.bench.readable(self.token);
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[track_caller]
    fn write(&self, data: &[u8]) {
        let written = self.socket.write(data).expect("there is room");
        assert_eq!(written, data.len(), "there is room");
    }

    /// Reads until nothing is there.
    fn read_dry(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut buffer = [0; 1000];
        while let Ok(count @ 1..) = self.socket.read(&mut buffer) {
            data.extend_from_slice(&buffer[..count]);
        }
        data
    }
}

#[track_caller]
fn check_kind<T>(outcome: io::Result<T>, kinds: &[ErrorKind]) {
    let error = outcome.err().expect("it fails");
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

#[test]
fn time_never_goes_back_and_a_wait_takes_no_less_than_its_limit() {
    on_every_driver(|bench| {
        for micros in [0, 1, 300, 2500, 0] {
            let (before, limit) = (bench.driver.now(), Duration::from_micros(micros));
            bench.wait(limit);
            assert!(bench.driver.now() - before >= limit);
        }
        assert!(bench.reported.borrow().is_empty());
    });
}

#[test]
fn a_wake_up_ends_the_next_wait_and_many_may_count_as_one() {
    on_every_driver(|bench| {
        let short = Duration::from_millis(1);
        for threads in [1, 3] {
            let wakers = (0..threads).map(|_| {
                let wake_up = bench.driver.wake_up();
                thread::spawn(move || wake_up.wake_up())
            });
            for waker in wakers {
                waker.join().expect("it does not panic");
            }
            let before = bench.driver.now();
            bench.wait(LONG);
            assert!(bench.driver.now() - before < LONG);
            // What counted once is not there any more.
            let before = bench.driver.now();
            bench.wait(short);
            assert!(bench.driver.now() - before >= short);
        }
    });
}

#[test]
fn a_wake_up_ends_a_wait_that_has_begun() {
    on_every_driver(|bench| {
        if bench.driver.world() != WorldKind::System {
            // There a wait has no length in which anything could be done from outside.
            return;
        }
        let wake_up = bench.driver.wake_up();
        let waker = thread::spawn(move || wake_up.wake_up());
        bench
            .driver
            .wait(None, &mut Events::default())
            .expect("it can wait");
        waker.join().expect("it does not panic");
    });
}

#[test]
fn an_alarm_ends_a_wait_whatever_its_limit_unless_it_is_taken_back() {
    on_every_driver(|bench| {
        let driver = bench.driver;
        driver
            .begin_boot_time()
            .expect("there are descriptors left");
        let deadline = driver.boot_now() + Duration::from_millis(2);
        driver.set_boot_alarm(Some(deadline));
        while driver.boot_now() < deadline {
            let before = driver.now();
            bench.wait(LONG);
            assert!(driver.now() - before < LONG);
        }
        let (before, limit) = (driver.now(), Duration::from_millis(4));
        driver.set_boot_alarm(Some(driver.boot_now() + Duration::from_millis(1)));
        driver.set_boot_alarm(None);
        // It may have been about to ring.
        while driver.now() - before < limit {
            bench.wait(limit);
        }
        let before = driver.now();
        bench.wait(limit);
        assert!(driver.now() - before >= limit);
    });
}

#[test]
fn events_that_wait_to_be_fetched_make_the_descriptor_readable_where_there_is_one() {
    on_every_driver(|bench| {
        let Some(descriptor) = bench.driver.descriptor() else {
            return assert_eq!(bench.driver.world(), WorldKind::Simulation);
        };
        let [client, server] = bench.connected();
        bench.reports_of(server.token);
        assert!(!os::is_readable(descriptor));
        client.write(b"news");
        while !os::is_readable(descriptor) {
            thread::yield_now();
        }
        bench.readable(server.token);
    });
}

#[test]
fn a_connection_is_an_event_at_both_ends_which_know_each_others_addresses() {
    on_every_driver(|bench| {
        let (listener, listening, address) = bench.listen();
        check_kind(listener.accept(), &[ErrorKind::WouldBlock]);
        assert_ne!(address.port(), 0);
        for _ in 0..2 {
            // The second is an event, too: an edge after nobody was left.
            let client = bench.connect(address);
            bench.readable(listening);
            let (server, peer) = listener.accept().expect("somebody has connected");
            check_kind(listener.accept(), &[ErrorKind::WouldBlock]);
            bench.wait_for(client.token, |readiness| readiness.writable);
            client.socket.take_error().expect("it is connected");
            let of_client = client.socket.local_address().expect("it is connected");
            assert_eq!(peer, of_client);
            let of_server = server.local_address().expect("it is connected");
            assert_eq!(ip(&of_server), address);
        }
    });
}

#[test]
fn who_connects_to_nobody_is_refused_by_an_event_and_not_at_once() {
    on_every_driver(|bench| {
        let (listener, _, address) = bench.listen();
        drop(listener);
        let client = bench.connect(address);
        bench.wait_for(client.token, |readiness| {
            readiness.writable || readiness.broken || readiness.hangup
        });
        check_kind(client.socket.take_error(), &[ErrorKind::ConnectionRefused]);
    });
}

#[test]
fn a_listener_that_is_dropped_resets_who_waits_and_refuses_the_next() {
    on_every_driver(|bench| {
        let (listener, listening, address) = bench.listen();
        let client = bench.connect(address);
        bench.readable(listening);
        bench.wait_for(client.token, |readiness| readiness.writable);
        drop(listener);
        check_kind(client.read_end(), &[ErrorKind::ConnectionReset]);
    });
}

#[test]
fn what_was_there_before_it_was_watched_is_reported() {
    on_every_driver(|bench| {
        let options = ListenOptions::new();
        let listener = bench.driver.listen(&loopback(0), &options);
        let listener = listener.expect("loopback can listen");
        let client = bench.connect(ip(&listener.address()));
        bench.wait_for(client.token, |readiness| readiness.writable);
        let listening = bench.token();
        listener.watch(listening).expect("it can be watched");
        bench.readable(listening);
        let (server, _) = listener.accept().expect("somebody has connected");
        client.write(b"early");
        client
            .socket
            .shutdown(Shutdown::Write)
            .expect("it is connected");
        for _ in 0..20 {
            bench.wait(Duration::from_micros(100));
        }
        let server = bench.end(server);
        let announces_ends = bench.driver.short_read_is_dry();
        bench.wait_for(server.token, |readiness| {
            let is_right = readiness.hangup || !announces_ends;
            readiness.readable && readiness.writable && is_right
        });
        assert_eq!(server.read(5), b"early");
        server.read_end().expect("the end is in order");
    });
}

#[test]
fn whatever_comes_after_nothing_was_left_is_reported_each_time() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        for (from, to) in [(&client, &server), (&server, &client)] {
            for round in 0..5_u8 {
                check_kind(to.socket.read(&mut [0; 10]), &[ErrorKind::WouldBlock]);
                from.write(&[round; 3]);
                bench.readable(to.token);
                assert_eq!(to.read(3), [round; 3]);
            }
        }
    });
}

#[test]
fn a_short_read_means_that_nothing_is_left_where_the_driver_says_so() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        for _ in 0..20 {
            client.write(b"0123456789");
            bench.readable(server.token);
            let count = server
                .socket
                .read(&mut [0; 100])
                .expect("there is something");
            if bench.driver.short_read_is_dry() {
                assert_eq!(count, 10);
                check_kind(server.socket.read(&mut [0; 10]), &[ErrorKind::WouldBlock]);
            } else {
                server.read(10 - count);
            }
        }
    });
}

#[test]
fn the_end_of_the_peers_stream_is_announced_and_stays() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        client.write(b"last");
        client
            .socket
            .shutdown(Shutdown::Write)
            .expect("it is connected");
        if bench.driver.short_read_is_dry() {
            // Or the end would be found by nobody.
            bench.wait_for(server.token, |readiness| readiness.hangup);
        }
        assert_eq!(server.read(4), b"last");
        server.read_end().expect("the end is in order");
        server.read_end().expect("it is still the end");
        // The other direction goes on.
        server.write(b"answer");
        assert_eq!(client.read(6), b"answer");
        check_kind(client.socket.write(b"more"), &[ErrorKind::BrokenPipe]);
    });
}

#[test]
fn who_finds_no_room_is_told_when_there_is_some_and_every_byte_arrives_in_order() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        let pattern: Vec<u8> = (0..50_000_u32).map(|place| (place % 251) as u8).collect();
        let (mut sent, mut full) = (Vec::new(), 0);
        while full < 3 {
            let (first, second) = pattern.split_at(1000);
            // In one piece and in two, in turn.
            let outcome = match sent.len() % 2 {
                0 => client.socket.write_two(first, second),
                _ => client.socket.write(&pattern),
            };
            match outcome {
                Ok(count) => sent.extend_from_slice(&pattern[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    full += 1;
                    // What has come by now, until there is room.
                    let mut received = Vec::new();
                    while received.len() < sent.len() {
                        received.extend(server.read_dry());
                        if received.len() < sent.len() {
                            bench.readable(server.token);
                        }
                    }
                    assert!(received == sent, "other bytes, or another order");
                    sent.clear();
                    bench.wait_for(client.token, |readiness| readiness.writable);
                }
            }
        }
    });
}

#[test]
fn a_socket_that_is_dropped_still_brings_what_was_written() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        client.write(b"the last words");
        drop(client);
        assert_eq!(server.read(14), b"the last words");
        server.read_end().expect("the end is in order");
    });
}

#[test]
fn a_socket_that_is_to_reset_or_has_something_unread_resets() {
    on_every_driver(|bench| {
        for unread in [false, true] {
            let [client, server] = bench.connected();
            if unread {
                server.write(b"nobody reads this");
                bench.readable(client.token);
            } else {
                client.socket.reset_on_drop();
            }
            let token = client.token;
            drop(client);
            check_kind(server.read_end(), &[ErrorKind::ConnectionReset]);
            check_kind(
                server.socket.write(b"more"),
                &[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset],
            );
            assert!(server.socket.shutdown(Shutdown::Write).is_err());
            // What was fetched before may still be there; there is nothing new.
            bench.reports_of(token);
            assert_eq!(bench.reports_of(token), 0);
        }
    });
}

#[test]
fn a_socket_that_is_dropped_reports_nothing_new() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        let gone = server.token;
        server
            .socket
            .shutdown(Shutdown::Write)
            .expect("it is connected");
        drop(server);
        bench.reports_of(gone);
        // It is answered by a reset.
        client.write(b"to nobody");
        assert_eq!(bench.reports_of(gone), 0);
    });
}

#[test]
fn what_was_written_counts_as_delivered_when_the_peer_has_it_and_nothing_is_unread_here() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        assert!(client.socket.is_delivered() && server.socket.is_delivered());
        let unacknowledged = || client.socket.unacknowledged().expect("it is known");
        assert_eq!(unacknowledged(), 0);
        client.write(b"question");
        assert!(unacknowledged() <= 8);
        bench.readable(server.token);
        while !client.socket.is_delivered() {
            assert!(unacknowledged() > 0 || client.socket.is_delivered());
            bench.wait(Duration::from_micros(100));
        }
        assert_eq!(unacknowledged(), 0);
        assert!(!server.socket.is_delivered(), "it has not read");
        server.read(8);
        assert!(server.socket.is_delivered());
    });
}

#[test]
fn an_address_is_taken_by_one_listener_and_free_again_when_it_is_gone() {
    on_every_driver(|bench| {
        let options = ListenOptions::new();
        let (listener, _, address) = bench.listen();
        let again = || bench.driver.listen(&address.into(), &options);
        check_kind(again().map(drop), &[ErrorKind::AddrInUse]);
        drop(listener);
        drop(again().expect("it is free again"));
        // RFC 5737: nobody's.
        let foreign = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 80));
        let listening = bench.driver.listen(&foreign.into(), &options);
        check_kind(listening.map(drop), &[ErrorKind::AddrNotAvailable]);
        let from = ConnectOptions::new().local_address(foreign);
        let connecting = bench.driver.connect(&address.into(), &from);
        check_kind(connecting.map(drop), &[ErrorKind::AddrNotAvailable]);
    });
}

#[test]
fn an_address_of_no_network_of_the_world_is_said_to_be_so() {
    on_every_driver(|bench| {
        let named = Address::Named("nobody looks this up".into());
        let listening = bench.driver.listen(&named, &ListenOptions::new());
        check_kind(listening.map(drop), &[ErrorKind::Unsupported]);
        let connecting = bench.driver.connect(&named, &ConnectOptions::new());
        check_kind(connecting.map(drop), &[ErrorKind::Unsupported]);
    });
}

#[test]
fn names_have_addresses_with_the_port_that_was_asked_for() {
    on_every_driver(|bench| {
        let names = bench.driver.names();
        for name in ["localhost", "127.0.0.1"] {
            let found = names.resolve(name, 80).expect("it is known everywhere");
            let is_right =
                |address: &SocketAddr| address.ip().is_loopback() && address.port() == 80;
            assert!(!found.is_empty() && found.iter().all(is_right), "{found:?}");
        }
        // RFC 1035 §2.3.4: no label is so long, so nobody is asked.
        let unknown = "x".repeat(64);
        assert!(names.resolve(&unknown, 80).is_err());
    });
}

#[test]
fn addresses_have_names_and_who_has_none_is_told_so() {
    on_every_driver(|bench| {
        let names = bench.driver.names();
        let name = names.reverse_lookup([127, 0, 0, 1].into());
        assert!(!name.expect("it is known everywhere").is_empty());
        // Real name servers are not asked by tests: what they answer is no rule of ours.
        if bench.driver.world() == WorldKind::Simulation {
            let nobody = names.reverse_lookup([192, 0, 2, 1].into());
            check_kind(nobody.map(drop), &[ErrorKind::NotFound]);
        }
    });
}

#[test]
fn small_writes_leave_at_once_unless_the_program_says_otherwise() {
    on_every_driver(|bench| {
        let [client, server] = bench.connected();
        assert!(client.socket.nodelay().expect("it is TCP"));
        let delayed = SocketOption::NoDelay(false);
        server.socket.set_option(&delayed).expect("it is TCP");
        assert!(!server.socket.nodelay().expect("it is TCP"));
        let options = ListenOptions::new().option(delayed);
        let listener = bench.driver.listen(&loopback(0), &options);
        let listener = listener.expect("loopback can listen");
        let _client = bench.connect(ip(&listener.address()));
        let listening = bench.token();
        listener.watch(listening).expect("it can be watched");
        bench.readable(listening);
        let (inherited, _) = listener.accept().expect("somebody has connected");
        assert!(!inherited.nodelay().expect("it is TCP"));
        let (unsent, unread) = inherited.buffer_sizes().expect("it has buffers");
        assert!(unsent > 0 && unread > 0);
    });
}

#[test]
fn descriptors_are_given_out_where_there_are_some_and_otherwise_it_is_said() {
    on_every_driver(|bench| {
        let [client, _server] = bench.connected();
        match client.socket.duplicate() {
            Ok(_) => assert_eq!(bench.driver.world(), WorldKind::System),
            Err(error) => {
                assert_eq!(bench.driver.world(), WorldKind::Simulation);
                assert!(Unsupported::find(&error).is_some(), "{error:?}");
            }
        }
    });
}

#[test]
fn no_signal_comes_that_nobody_has_sent() {
    on_every_driver(|bench| {
        let signals = bench.driver.watch_signals().expect("they can be watched");
        // SIGWINCH: no terminal changes its size here.
        signals.add(28).expect("it is a signal");
        bench.wait(Duration::ZERO);
        assert!(signals.take().is_empty());
        signals.remove(28);
    });
}
