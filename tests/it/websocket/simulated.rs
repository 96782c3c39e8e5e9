//! Servers and clients on the hosts of simulated networks.

use std::cell::Cell;

use torsade::protocols::http::{Server, serve};
use torsade::protocols::websocket::{CloseCode, WebSocketClient, WebSocketLimits};
use torsade::reactor::testing::{FaultRates, Simulation, Swarm, success_of};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what comes, and counts who is there.
struct Counted {
    open: Rc<Cell<usize>>,
}

impl WebSocketProtocol for Counted {
    fn opened(&mut self, _: &WebSocketTransport<Self>) {
        self.open.set(self.open.get() + 1);
    }

    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        transport.send(message);
    }

    fn closed(&mut self, _: Closed) {
        self.open.set(self.open.get() - 1);
    }
}

/// Sends numbered messages of all lengths at its own pace, and closes when the last has come back.
struct Asking {
    lengths: Vec<usize>,
    /// Between a message that came and the next that is sent.
    pause: Duration,
    sent: usize,
    came: Rc<Cell<usize>>,
    closed: Rc<RefCell<Option<Closed>>>,
}

impl Asking {
    fn message(&self, index: usize) -> String {
        format!("{index} {}", "x".repeat(self.lengths[index]))
    }

    fn go_on(&mut self, transport: &WebSocketTransport<Self>) {
        // Up to three are under way.
        while self.sent < self.lengths.len() && self.sent < self.came.get() + 3 {
            match self.message(self.sent) {
                text if self.sent.is_multiple_of(2) => transport.send(&text),
                text => transport.send(text.as_bytes()),
            }
            self.sent += 1;
        }
        if self.came.get() == self.lengths.len() {
            transport.close(CloseCode::NORMAL, "all");
        }
    }
}

impl WebSocketProtocol for Asking {
    fn opened(&mut self, transport: &WebSocketTransport<Self>) {
        self.go_on(transport);
    }

    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        let expected = self.message(self.came.get());
        assert_eq!(
            message.as_bytes(),
            expected.as_bytes(),
            "in order, and whole"
        );
        assert_eq!(
            message.as_text().is_some(),
            self.came.get().is_multiple_of(2)
        );
        self.came.set(self.came.get() + 1);
        let (pause, transport) = (self.pause, transport.clone());
        let reactor = transport.reactor();
        reactor.call_later(pause, move || {
            transport.call(|this, transport| this.go_on(transport))
        });
    }

    fn closed(&mut self, closed: Closed) {
        self.closed.replace(Some(closed));
    }
}

/// What became of a client.
struct Outcome {
    count: usize,
    came: Rc<Cell<usize>>,
    closed: Rc<RefCell<Option<Closed>>>,
    failed: Rc<Cell<bool>>,
}

/// What is on the server's host, while it runs.
#[derive(Clone, Default)]
struct Serving {
    /// How many connections are open.
    open: Rc<Cell<usize>>,
    server: Rc<RefCell<Option<Server>>>,
}

/// A server and three clients.
fn start(simulation: &Simulation) -> (Serving, Vec<Outcome>) {
    let serving = Serving::default();
    let (counter, place) = (Rc::clone(&serving.open), Rc::clone(&serving.server));
    simulation.host("server").start(move |reactor| {
        // A machine that has crashed and come back has nobody.
        counter.set(0);
        let counter = Rc::clone(&counter);
        let sockets = WebSocketServer::new();
        let server = serve(reactor, ":80", move |request: Request| {
            let open = Rc::clone(&counter);
            sockets.accept(&request, Counted { open })
        });
        place.replace(Some(server.expect("the port is free")));
    });
    let mut number = simulation.seed();
    let mut draw = |below: u64| {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from((number >> 33) % below).expect("it is small")
    };
    let clients = (0..3).map(|index| {
        let reactor = simulation.host(&format!("client{index}")).reactor();
        let lengths: Vec<_> = (0..=draw(12))
            .map(|_| [draw(200), draw(70_000)][draw(2)])
            .collect();
        let outcome = Outcome {
            count: lengths.len(),
            came: Rc::default(),
            closed: Rc::default(),
            failed: Rc::default(),
        };
        let asking = Asking {
            lengths,
            pause: Duration::from_millis(draw(3000) as u64),
            sent: 0,
            came: Rc::clone(&outcome.came),
            closed: Rc::clone(&outcome.closed),
        };
        let failed = Rc::clone(&outcome.failed);
        let connecting = WebSocketClient::new(&reactor).connect("ws://server/", asking);
        // A connection that is not made is one of the faults.
        drop(connecting.map(drop).add_errback(move |_| failed.set(true)));
        outcome
    });
    (serving, clients.collect())
}

/// Whatever goes wrong on the way: what comes back is a beginning of what was sent, in order; where nothing goes
/// wrong, all of it, and both ends say that it is over; and in the end nobody holds a connection.
#[test]
fn in_every_seed_messages_come_back_in_order_and_every_connection_ends() {
    let command = "cargo test --test it in_every_seed_messages_come_back";
    let (whole, broken) = (Cell::new(0), Cell::new(0));
    Swarm::new(command).seeds(200).run(|simulation| {
        let (serving, clients) = start(simulation);
        let has_faults = simulation.seed() % 4 != 0;
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 20,
                lasts_max: SECOND * 5,
                partitions: 2.0,
                cuts: 2.0,
                holds: 2.0,
                degradations: 2.0,
                crashes: 0.5,
                ..Default::default()
            });
        }
        simulation.run_for(SECOND * 600);
        for outcome in clients {
            let closed = outcome.closed.borrow();
            if has_faults {
                broken.set(broken.get() + usize::from(outcome.came.get() < outcome.count));
                if closed.as_ref().is_some_and(|closed| closed.is_clean) {
                    assert_eq!(outcome.came.get(), outcome.count, "it closes at the end");
                }
                continue;
            }
            assert!(!outcome.failed.get());
            assert_eq!(outcome.came.get(), outcome.count, "nothing went wrong");
            let closed = closed.as_ref().expect("it has ended");
            assert!(closed.is_clean && closed.lost.is_clean(), "{closed:?}");
            whole.set(whole.get() + 1);
        }
        assert_eq!(serving.open.get(), 0, "who is silent is pinged, and lost");
    });
    let (whole, broken) = (whole.get(), broken.get());
    assert!(whole > 0 && broken > 0, "{whole} whole, {broken} broken");
}

/// Whenever it is stopped, and whatever goes wrong meanwhile: in the time that peers have it is over, and nobody holds a
/// connection; where nothing goes wrong, every client that has one is told 1001, or has closed itself.
#[test]
fn in_every_seed_a_server_that_stops_is_over_in_time() {
    let command = "cargo test --test it in_every_seed_a_server_that_stops";
    let told = Cell::new(0);
    Swarm::new(command).seeds(100).run(|simulation| {
        let (serving, clients) = start(simulation);
        let has_faults = simulation.seed() % 4 != 0;
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 20,
                lasts_max: SECOND * 5,
                partitions: 2.0,
                cuts: 2.0,
                holds: 2.0,
                degradations: 2.0,
                // One that has crashed stops nothing in order.
                crashes: 0.0,
                ..Default::default()
            });
        }
        let tenths = u32::try_from(simulation.seed() % 97).expect("it is small");
        simulation.run_for(SECOND * tenths / 10);
        let server = serving.server.borrow().clone().expect("it listens");
        let stopped = server.stop();
        simulation.run_for(SECOND * 120);
        success_of(stopped);
        assert_eq!((serving.open.get(), server.connections()), (0, 0));
        for outcome in clients.iter().filter(|_| !has_faults) {
            let closed = outcome.closed.borrow();
            let Some(closed) = &*closed else {
                assert!(outcome.failed.get(), "it came too late");
                continue;
            };
            assert!(closed.is_clean, "{closed:?}");
            told.set(told.get() + usize::from(closed.code == CloseCode::GOING_AWAY));
        }
    });
    assert!(told.get() > 0);
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte_masks_included() {
    let trace = |seed| {
        let simulation = Simulation::new(seed);
        let (_serving, clients) = start(&simulation);
        simulation.run_for(SECOND * 60);
        assert!(clients.iter().all(|it| it.came.get() == it.count));
        simulation.trace().to_string()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// A laptop that is shut: nobody says anything, and no packet comes back.
#[test]
fn two_ends_that_are_cut_off_from_each_other_both_notice() {
    let simulation = Simulation::new(3);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let scribe = Scribe::quiet();
    let theirs = Rc::clone(&scribe.book);
    let sockets = WebSocketServer::new().limits(WebSocketLimits {
        ping_after: Some(SECOND * 10),
        pong_within: SECOND * 5,
        ..Default::default()
    });
    let serving = serve(&server.reactor(), ":80", move |request: Request| {
        sockets.accept(&request, scribe.clone())
    });
    drop(serving.expect("the port is free"));
    let scribe = Scribe::quiet();
    let ours = Rc::clone(&scribe.book);
    let connecting = WebSocketClient::new(&client.reactor()).connect("ws://server/", scribe);
    drop(client.reactor().run_until(connecting).expect("it connects"));
    simulation.run_for(SECOND * 300);
    assert!(!ours.is_closed() && !theirs.is_closed(), "pings keep it");
    simulation.partition(&server, &client);
    simulation.run_for(SECOND * 26);
    assert!(theirs.is_closed() && !ours.is_closed());
    simulation.run_for(SECOND * 90);
    for book in [ours, theirs] {
        let closed = book.closed();
        assert_eq!((closed.code, closed.is_clean), (CloseCode::ABNORMAL, false));
    }
}
