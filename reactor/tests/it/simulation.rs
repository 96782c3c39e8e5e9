//! The other world: what a program sees there, and that it is the same each time.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::env;
use std::io::{self, Write as _};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use torsade_reactor::testing::{
    Chunking, Fault, FaultKind, FaultRates, Host, Latency, Link, Simulation, Swarm, Trace,
};
use torsade_reactor::{
    Address, ConnectError, ConnectionLost, Phase, Place, Protocol, Reactor, Transport,
};

use crate::common::{End, Log};

const SECOND: Duration = Duration::from_secs(1);

/// Two hosts, and the transports of a connection between them.
struct Two {
    simulation: Simulation,
    client_host: Host,
    server_host: Host,
    client: Transport<End>,
    server: Transport<End>,
}

fn two(seed: u64, client: End, server: End) -> Two {
    let simulation = Simulation::new(seed);
    let (server_host, client_host) = (simulation.host("server"), simulation.host("client"));
    let (server, made) = (Cell::new(Some(server)), Rc::new(RefCell::new(None)));
    let accepted = Rc::clone(&made);
    server_host.start(move |reactor| {
        let (accepted, mut end) = (Rc::clone(&accepted), server.take());
        let factory = move |_: &Address| {
            let accepted = Rc::clone(&accepted);
            let keep = move |transport: &Transport<End>| {
                accepted.replace(Some(transport.clone()));
            };
            end.take().map(|end: End| end.on_made(keep))
        };
        reactor.listen_tcp(":7", factory).expect("the port is free");
    });
    let connecting = client_host
        .reactor()
        .connect_tcp((server_host.ip(), 7), |_| client);
    let client = client_host.reactor().run_until(connecting).unwrap();
    assert!(simulation.run_while(|| made.borrow().is_none()));
    let server = made.take().unwrap();
    Two {
        simulation,
        client_host,
        server_host,
        client,
        server,
    }
}

#[test]
fn bytes_arrive_after_the_latency_in_order_and_all_of_them() {
    let log = Log::default();
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let world = two(1, End::new("client", &log), server);
    let begun = world.simulation.now();
    world.client.write("one ");
    world.client.write(vec![b'x'; 1_000_000]);
    world.client.lose_connection();
    world.simulation.run_until_idle();
    assert_eq!(received.borrow().len(), 1_000_004);
    assert!(received.borrow().starts_with(b"one xxx"));
    assert!(world.simulation.now() - begun >= Duration::from_micros(500));
    let mut ends = log.lines().split_off(2);
    ends.retain(|line| line.contains("lost"));
    ends.sort();
    assert_eq!(ends, ["client lost: Done", "server lost: Done"]);
}

#[test]
fn nobody_listening_is_refused_and_an_unknown_address_has_no_way_to_it() {
    let simulation = Simulation::new(2);
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    let connect = |address: (std::net::IpAddr, u16)| {
        let log = Log::default();
        let attempt = one
            .reactor()
            .connect_tcp(address, move |_| End::new("x", &log));
        one.reactor().run_until(attempt).unwrap_err()
    };
    let refused = connect((two.ip(), 80));
    assert!(
        matches!(
            refused.trap::<ConnectError>(),
            Ok(ConnectError::Refused { .. })
        ),
        "nobody listens"
    );
    let nowhere = connect(([192, 168, 1, 1].into(), 80));
    assert!(nowhere.check::<ConnectError>(), "{nowhere}");
}

#[test]
fn a_host_that_is_down_answers_nobody_until_the_attempt_times_out() {
    let simulation = Simulation::new(3);
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    two.crash();
    let attempt = one
        .reactor()
        .connect_tcp((two.ip(), 80), |_| End::new("x", &Log::default()));
    let failure = one.reactor().run_until(attempt).unwrap_err();
    let outcome = failure.trap::<ConnectError>();
    assert!(
        matches!(outcome, Ok(ConnectError::TimedOut { .. })),
        "{outcome:?}"
    );
    assert_eq!(simulation.now(), SECOND * 30);
}

#[test]
fn a_peer_that_aborts_resets_and_unread_bytes_reset_too() {
    let log = Log::default();
    let world = two(4, End::new("client", &log), End::new("server", &log));
    world.server.abort_connection();
    world.simulation.run_until_idle();
    let lines = log.lines();
    assert_eq!(
        lines[2..],
        ["server lost: Aborted", "client lost: ConnectionReset"]
    );
}

#[test]
fn what_a_partition_loses_arrives_when_it_is_over_and_a_peer_that_stays_away_is_given_up() {
    let log = Log::default();
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let world = two(5, End::new("client", &log), server);
    world
        .simulation
        .partition(&world.client_host, &world.server_host);
    world.client.write("late");
    world.simulation.run_for(SECOND * 20);
    assert!(received.borrow().is_empty());
    world
        .simulation
        .heal(&world.client_host, &world.server_host);
    world.simulation.run_for(SECOND * 60);
    assert_eq!(*received.borrow(), b"late");

    world.simulation.cut(&world.client_host, &world.server_host);
    world.client.write("never");
    world.simulation.run_until_idle();
    assert_eq!(log.lines().last().unwrap(), "client lost: TimedOut");
    assert_eq!(*received.borrow(), b"late");
}

#[test]
fn what_is_held_arrives_in_order_when_it_is_released() {
    let log = Log::default();
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let world = two(6, End::new("client", &log), server);
    world
        .simulation
        .hold(&world.client_host, &world.server_host);
    for part in ["a", "b", "c"] {
        world.client.write(part);
        world.simulation.run_for(SECOND);
    }
    assert!(received.borrow().is_empty());
    world
        .simulation
        .release(&world.client_host, &world.server_host);
    world.simulation.run_until_idle();
    assert_eq!(*received.borrow(), b"abc");
}

#[test]
fn a_crash_tells_nobody_and_a_restart_resets_the_connections_of_the_former_life() {
    let log = Log::default();
    let world = two(7, End::new("client", &log), End::new("server", &log));
    world.server.write("unsent when the power goes");
    world.server_host.crash();
    assert!(!world.server_host.is_up());
    world.client.write("are you there?");
    world.simulation.run_for(SECOND * 2);
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
    world.server_host.restart();
    world.simulation.run_for(SECOND * 2);
    assert_eq!(log.lines()[2..], ["client lost: ConnectionReset"]);
    let again = world
        .client_host
        .reactor()
        .connect_tcp((world.server_host.ip(), 7), move |_| End::new("x", &log));
    // The program listens again, though it has no end left to give.
    drop(world.client_host.reactor().run_until(again).unwrap());
}

#[test]
fn a_crash_in_the_middle_of_a_turn_ends_the_turn() {
    let simulation = Simulation::new(8);
    let (host, calls) = (simulation.host("host"), Rc::new(Cell::new(0)));
    let (crashing, count) = (host.clone(), Rc::clone(&calls));
    host.start(move |reactor| {
        for _ in 0..3 {
            let (crashing, count) = (crashing.clone(), Rc::clone(&count));
            reactor.call_soon(move || {
                count.set(count.get() + 1);
                crashing.crash();
            });
        }
    });
    simulation.run_until_idle();
    assert_eq!(calls.get(), 1);
    host.restart();
    simulation.run_until_idle();
    assert_eq!(calls.get(), 2);
}

#[test]
fn a_crash_at_a_write_tells_its_own_protocols_nothing() {
    let log = Log::default();
    let world = two(13, End::new("client", &log), End::new("server", &log));
    let before = log.lines().len();
    let at = world.simulation.now();
    world.simulation.set_faults(vec![Fault {
        at,
        lasts: SECOND,
        what: FaultKind::CrashAtWrite(0),
    }]);
    let server = world.server.clone();
    world.server_host.reactor().call_soon(move || {
        server.write("the last words");
        server.lose_connection();
    });
    world.simulation.run_for(SECOND / 2);
    assert!(!world.server_host.is_up());
    assert_eq!(log.lines().len(), before, "{:?}", log.lines());
}

#[test]
fn hosts_keep_their_own_time() {
    let simulation = Simulation::new(9);
    let (fast, log) = (simulation.host("fast"), Log::default());
    fast.set_clock_drift(100_000);
    fast.reactor().call_later(SECOND * 11, log.adds("fast"));
    let exact = simulation.host("exact");
    exact
        .reactor()
        .call_later(SECOND * 10 + SECOND / 2, log.adds("exact"));
    simulation.run_until_idle();
    log.check(["fast", "exact"]);
    assert_eq!(simulation.now(), SECOND * 10 + SECOND / 2);
}

#[test]
fn a_host_may_be_run_by_its_reactor_and_the_others_go_on_meanwhile() {
    let simulation = Simulation::new(10);
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    let log = Log::default();
    two.reactor()
        .call_later(SECOND, log.adds("two at one second"));
    let reactor = one.reactor();
    let stopping = reactor.clone();
    reactor.call_later(SECOND * 2, move || stopping.stop());
    reactor.run().unwrap();
    log.check(["two at one second"]);
    assert_eq!(simulation.now(), SECOND * 2);
    let idle = two.reactor().run().unwrap_err();
    assert!(idle.to_string().contains("nothing is scheduled"), "{idle}");
}

/// Sends numbered messages until it is told to stop, and echoes what it gets.
fn exchange(seed: u64) -> Trace {
    let simulation = Simulation::new(seed);
    let hosts: Vec<Host> = ["a", "b", "c"].map(|name| simulation.host(name)).into();
    for host in &hosts {
        host.start(|reactor| {
            reactor
                .listen_tcp(":9", |_: &Address| {
                    End::new("echo", &Log::default())
                        .on_data(|transport, data| transport.write(data))
                })
                .expect("the port is free");
        });
    }
    simulation.inject_faults(&FaultRates::default());
    for (index, host) in hosts.iter().enumerate() {
        let peer = (hosts[(index + 1) % 3].ip(), 9);
        let reactor = host.reactor();
        let talk = move |reactor: &Reactor| {
            let connecting = reactor.connect_tcp(peer, |_| End::new("x", &Log::default()));
            let writing = connecting.add_callback(|transport| {
                for size in [1, 1000, 100_000] {
                    transport.write(vec![b'x'; size]);
                }
            });
            drop(writing.add_errback(|_| Ok(())));
            // By name, and after work on a thread: neither may bring the machine in.
            let again = reactor.clone();
            let work = reactor.defer_to_thread(|| Ok::<(), io::Error>(()));
            let asking = work.add_callback(move |()| {
                again.connect_tcp("a:9", |_| End::new("x", &Log::default()))
            });
            drop(
                asking
                    .map(|transport| transport.write("by name"))
                    .add_errback(|_| Ok(())),
            );
        };
        talk(&reactor);
        let weak = reactor.downgrade();
        reactor.call_later(SECOND * 5, move || {
            if let Some(reactor) = weak.upgrade() {
                talk(&reactor);
            }
        });
    }
    simulation.run_for(SECOND * 90);
    simulation.trace()
}

#[test]
fn a_seed_gives_the_same_trace_each_time_and_another_seed_another_one() {
    for seed in 0..20 {
        let (first, second) = (exchange(seed), exchange(seed));
        assert_eq!(first.to_string(), second.to_string(), "seed {seed}");
        assert_eq!(first, second);
        assert_ne!(first.fingerprint(), exchange(seed + 1000).fingerprint());
        assert!(first.find("-> ").count() > 20, "{first}");
    }
}

/// What the checks above and below would find: a program that takes something from the machine.
#[test]
fn a_program_that_follows_the_order_of_a_hash_gives_another_trace() {
    let exchange = || {
        let simulation = Simulation::new(1);
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        server.start(|reactor| {
            reactor
                .listen_tcp(":9", |_: &Address| End::new("x", &Log::default()))
                .expect("the port is free");
        });
        let reactor = client.reactor();
        let connecting = reactor.connect_tcp("server:9", |_| End::new("x", &Log::default()));
        let transport = reactor.run_until(connecting).expect("it listens");
        // A thousand ways to begin.
        let sizes: HashSet<usize> = (1..1000).collect();
        for size in sizes.iter().take(5) {
            transport.write(vec![b'x'; *size]);
            simulation.run_for(SECOND);
        }
        simulation.trace().fingerprint()
    };
    assert_ne!(exchange(), exchange());
}

/// Set in a second process of this binary that prints fingerprints.
const FINGERPRINTS: &str = "TORSADE_TEST_FINGERPRINTS";

/// How a line of that process begins.
const MARK: &str = "the traces of the first seeds are ";

fn fingerprints() -> String {
    let fingerprints: Vec<u64> = (0..10).map(|seed| exchange(seed).fingerprint()).collect();
    format!("{MARK}{fingerprints:?}")
}

/// The program of the next test. As a test of this process there is nothing to do.
#[test]
fn a_second_process_prints_what_its_seeds_came_to() {
    if env::var_os(FINGERPRINTS).is_some() {
        writeln!(io::stdout(), "{}", fingerprints()).expect("somebody reads it");
    }
}

#[test]
fn a_seed_gives_the_same_trace_in_another_process() {
    let tests = env::current_exe().expect("a running program has a path");
    let output = Command::new(tests)
        .env(FINGERPRINTS, "1")
        // Whatever a hash or an address could depend on.
        .env("SOMETHING_ELSE", "x".repeat(10_000))
        .args([
            "a_second_process_prints_what_its_seeds_came_to",
            "--nocapture",
        ])
        .output()
        .expect("it starts, for it runs now");
    let said = String::from_utf8_lossy(&output.stdout);
    let theirs = said
        .lines()
        .find_map(|line| line.find(MARK).map(|at| &line[at..]));
    assert_eq!(theirs, Some(fingerprints().as_str()), "{said}");
}

/// What one end of a connection did, and what it got.
#[derive(Default)]
struct Record {
    written: RefCell<Vec<u8>>,
    received: RefCell<Vec<u8>>,
    lost: RefCell<Vec<String>>,
    made: Cell<u32>,
    /// It has asked for a graceful end, and never for another.
    graceful: Cell<bool>,
    clean: Cell<bool>,
}

impl Record {
    fn forget(&self) {
        assert!(self.received.take().is_empty(), "it was never connected");
        drop((self.written.take(), self.lost.take()));
        self.made.set(0);
    }
}

struct Recorder(Rc<Record>);

impl Protocol for Recorder {
    fn connection_made(&mut self, _: &Transport<Self>) {
        self.0.made.set(self.0.made.get() + 1);
        assert!(self.0.lost.borrow().is_empty());
    }

    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        assert_eq!(self.0.made.get(), 1);
        assert!(
            self.0.lost.borrow().is_empty(),
            "nothing comes after the end"
        );
        self.0.received.borrow_mut().extend_from_slice(data);
    }

    fn read_connection_lost(&mut self, _: &Transport<Self>) {}

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.0.clean.set(reason.is_clean());
        self.0.lost.borrow_mut().push(reason.to_string());
    }
}

/// Does things to a transport at times that the seed draws.
fn act(host: &Host, transport: Transport<Recorder>, record: &Rc<Record>, mut dice: Dice) {
    let mut at = Duration::ZERO;
    for _ in 0..dice.below(8) {
        at += Duration::from_micros(dice.below(2_000_000));
        let (transport, record) = (transport.clone(), Rc::clone(record));
        let (choice, size) = (dice.below(10), dice.below(200_000) as usize);
        host.reactor().call_later(at, move || match choice {
            0..=5 => {
                if transport.is_connected() && !record.graceful.get() {
                    let data: Vec<u8> = (0..size).map(|index| index as u8).collect();
                    transport.write(&data);
                    record.written.borrow_mut().extend_from_slice(&data);
                }
            }
            6 => {
                if transport.is_connected() {
                    record.graceful.set(true);
                    transport.lose_write_connection();
                }
            }
            7 => transport.abort_connection(),
            8 => transport.pause_reading(),
            _ => transport.resume_reading(),
        });
    }
    let transport = transport.clone();
    let record = Rc::clone(record);
    host.reactor().call_later(at + SECOND * 60, move || {
        record.graceful.set(true);
        transport.resume_reading();
        transport.lose_write_connection();
        // A peer whose reset was lost will never be heard of.
        let reactor = transport.reactor();
        reactor.call_later(SECOND * 1800, move || transport.lose_connection());
    });
}

/// Numbers for a test's own choices, apart from the simulation's.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn every_connection_ends_once_and_gives_a_prefix_of_what_was_sent() {
    let command = "cargo test -p torsade-reactor --test it every_connection_ends_once";
    let rates = FaultRates::default().without_crashes();
    let connected = Cell::new(0);
    Swarm::new(command).run(|simulation| {
        connected.set(connected.get() + u32::from(connections_end_in_order(simulation, &rates)));
    });
    assert!(connected.get() > 0, "somebody was connected");
}

#[test]
fn every_connection_to_a_host_that_crashes_ends_once_and_gives_a_prefix() {
    let command = "cargo test -p torsade-reactor --test it every_connection_to_a_host";
    let rates = FaultRates {
        // Early enough to meet the connection.
        until: SECOND * 10,
        crashes: 12.0,
        mortals: vec![1],
        ..FaultRates::default()
    };
    let met = Cell::new(0);
    Swarm::new(command).run(|simulation| {
        if connections_end_in_order(simulation, &rates) {
            met.set(met.get() + simulation.trace().find("two crashes").count());
        }
    });
    assert!(
        met.get() > 0,
        "somebody crashed who was connected, or had been"
    );
}

/// Two hosts do things to a connection. It ends at both, once, unless a crash took one of them.
/// False if there was none: they were cut off from the beginning.
fn connections_end_in_order(simulation: &Simulation, rates: &FaultRates) -> bool {
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    let (records, served) = ([Rc::<Record>::default(), Rc::default()], Rc::default());
    let (record, place): (_, Rc<RefCell<Option<Transport<Recorder>>>>) =
        (Rc::clone(&records[1]), Rc::clone(&served));
    two.start(move |reactor| {
        let (record, place) = (Rc::clone(&record), Rc::clone(&place));
        let factory = move |_: &Address| {
            // A request that is sent again reaches the next life, where nothing is known of
            // what the former one did for it.
            record.forget();
            HandOver(Rc::clone(&record), Rc::clone(&place))
        };
        reactor.listen_tcp(":1", factory).expect("the port is free");
    });
    let mut dice = Dice(simulation.seed().wrapping_mul(0x9E37_79B9).max(1));
    simulation.inject_faults(rates);
    let record = Rc::clone(&records[0]);
    let connecting = one
        .reactor()
        .connect_tcp((two.ip(), 1), move |_| Recorder(record));
    let outcome = one.reactor().run_until(connecting);
    let Ok(client) = outcome else {
        // The attempt says so.
        return false;
    };
    act(
        &one,
        client,
        &records[0],
        Dice(dice.below(u64::MAX - 1) + 1),
    );
    simulation.run_while(|| served.borrow().is_none());
    if let Some(server) = served.take().filter(|_| two.is_up()) {
        act(
            &two,
            server,
            &records[1],
            Dice(dice.below(u64::MAX - 1) + 1),
        );
    }
    simulation.run_for(SECOND * 3600);
    let has_crashed = simulation.trace().find("two crashes").next().is_some();
    for (own, peer) in [(0, 1), (1, 0)] {
        // Who has crashed is told nothing.
        let is_told = own == 0 || !has_crashed;
        let (own, peer) = (&records[own], &records[peer]);
        let ends = own.lost.borrow().len();
        assert!(ends <= 1, "it ends once");
        if own.made.get() == 1 && is_told {
            assert_eq!(ends, 1, "it ends");
        }
        let (received, written) = (own.received.borrow(), peer.written.borrow());
        assert!(written.starts_with(&received), "a prefix of what was sent");
        // A crash takes what its system was still to send, after the program had ended in order;
        // a peer that had ended its own stream before never hears of that.
        if own.clean.get() && peer.clean.get() && !has_crashed {
            assert_eq!(received.len(), written.len(), "both ended in order");
        }
    }
    true
}

/// Gives its stream to a recorder, so that the test has its transport.
struct HandOver(Rc<Record>, Rc<RefCell<Option<Transport<Recorder>>>>);

impl Protocol for HandOver {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let recorder = Recorder(Rc::clone(&self.0));
        let stream = Rc::clone(transport.stream());
        self.1.replace(Some(Transport::connect(recorder, stream)));
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        unreachable!("the recorder has taken its place");
    }
}

#[test]
fn bytes_fall_into_the_pieces_that_are_asked_for() {
    let log = Log::default();
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&sizes);
    let server =
        End::new("server", &log).on_data(move |_, data: &[u8]| seen.borrow_mut().push(data.len()));
    let world = two(11, End::new("client", &log), server);
    world.simulation.set_chunking(Chunking::AtMost(2));
    world.client.write("12345");
    world.simulation.run_until_idle();
    assert_eq!(*sizes.borrow(), [2, 2, 1]);
    world.simulation.set_chunking(Chunking::Whole);
    world.client.write("12345");
    world.simulation.run_until_idle();
    assert_eq!(*sizes.borrow(), [2, 2, 1, 5]);
    assert!(world.server.is_connected());
}

#[test]
fn a_slow_link_takes_its_time_and_a_lossy_one_still_brings_everything() {
    let log = Log::default();
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let world = two(12, End::new("client", &log), server);
    let link = Link {
        bandwidth: Some(100_000),
        loss: 0.3,
        ..Link::with_latency(Latency::LongTail {
            min: Duration::from_millis(10),
            step: Duration::from_millis(10),
        })
    };
    world
        .simulation
        .set_link(&world.client_host, &world.server_host, link);
    let begun = world.simulation.now();
    world.client.write(vec![1; 1_000_000]);
    world.simulation.run_until_idle();
    assert_eq!(received.borrow().len(), 1_000_000);
    let taken = world.simulation.now() - begun;
    assert!(taken > SECOND * 10 && taken < SECOND * 100, "{taken:?}");
}

#[test]
fn connections_that_are_lost_at_the_end_of_a_simulation_may_write_to_each_other() {
    let simulation = Simulation::new(12);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let log = Log::default();
    server.start(|reactor| {
        let accept = |_: &Address| End::new("server", &Log::default());
        reactor.listen_tcp(":7", accept).expect("the port is free");
    });
    let (mut one, mut other) = (End::new("one", &log), End::new("other", &log));
    let ends = [one.fires_when_lost(), other.fires_when_lost()];
    let connect = |end: End| {
        let connecting = client.reactor().connect_tcp("server:7", |_| end);
        client.reactor().run_until(connecting).expect("it listens")
    };
    let transports = [connect(other), connect(one)];
    for (end, transport) in ends.into_iter().zip(transports) {
        drop(end.add_callback(move |()| transport.write("the other one is gone")));
    }
    drop(simulation);
    assert_eq!(log.lines().len(), 4, "{:?}", log.lines());
}

#[test]
fn the_calendar_begins_with_the_year_2000_and_shows_what_has_passed() {
    let simulation = Simulation::new(1);
    let host = simulation.host("host");
    let calendar = || {
        let since = host
            .reactor()
            .system_time()
            .duration_since(SystemTime::UNIX_EPOCH);
        since.expect("it is after 1970").as_secs()
    };
    assert_eq!(calendar(), 946_684_800);
    simulation.run_for(Duration::from_secs(86_400));
    assert_eq!(calendar(), 946_684_800 + 86_400);
}

/// Keeps its reactor, and so itself, from everywhere where a program may keep something.
fn keep_everywhere(reactor: &Reactor, token: &Rc<()>) {
    struct Sitting(
        #[expect(dead_code, reason = "it is kept, and that is all")] (Reactor, Rc<()>),
        Option<Transport<Self>>,
    );
    impl Protocol for Sitting {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            self.1 = Some(transport.clone());
        }

        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    let kept = || (reactor.clone(), Rc::clone(token));
    let for_factory = kept();
    let port = reactor.listen_tcp(":1", move |_: &Address| Sitting(for_factory.clone(), None));
    port.expect("the port is free");
    let for_timer = kept();
    reactor.call_later(Duration::from_secs(1_000_000), move || drop(for_timer));
    let for_stop = kept();
    reactor.on_shutdown(Phase::Before, move || drop(for_stop));
    let for_turns = kept();
    reactor.add_hook(Place::Prepare, move || {
        let _ = &for_turns;
    });
    let sitting = Sitting(kept(), None);
    let connecting = reactor.connect_tcp("127.0.0.1:1", move |_: &Address| sitting);
    drop(connecting.map(drop).add_errback(|_| ()));
}

#[test]
fn a_simulation_that_goes_lets_go_of_everything_that_its_programs_kept() {
    for crash in [false, true] {
        let token = Rc::new(());
        let simulation = Simulation::new(1);
        let host = simulation.host("host");
        let for_program = Rc::clone(&token);
        host.start(move |reactor| keep_everywhere(reactor, &for_program));
        simulation.run_for(Duration::from_secs(5));
        if crash {
            host.crash();
            simulation.run_for(Duration::from_secs(5));
        }
        assert!(Rc::strong_count(&token) > 1);
        drop((host, simulation));
        assert_eq!(Rc::strong_count(&token), 1, "crash: {crash}");
    }
}
