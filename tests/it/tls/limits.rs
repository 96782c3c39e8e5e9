//! Limits and timeouts are the same over TLS as without it: each case runs both ways, between two
//! hosts of a simulation, and what is seen is compared.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::{TlsError, TlsLimits};
use torsade::reactor::testing::{Host, Simulation};
use torsade::reactor::{
    ClientEndpoint, ConnectionLimits, LimitedServerEndpoint, ServerEndpoint, TcpClientEndpoint,
    TcpServerEndpoint, TimeoutServerEndpoint,
};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker};

const SECOND: Duration = Duration::from_secs(1);

/// Two hosts, and how they speak.
struct World {
    simulation: Simulation,
    server: Host,
    client: Host,
    /// For TLS.
    authority: Option<Authority>,
}

impl World {
    /// One without TLS, and one with it.
    fn both() -> [Self; 2] {
        [None, Some(Authority::new())].map(|authority| {
            let simulation = Simulation::new(7);
            Self {
                server: simulation.host("server"),
                client: simulation.host("client"),
                simulation,
                authority,
            }
        })
    }

    /// TLS over `below`, if that is how they speak.
    fn secured(&self, below: impl ServerEndpoint + 'static) -> Rc<dyn ServerEndpoint> {
        match &self.authority {
            None => Rc::new(below),
            Some(authority) => Rc::new(TlsServerEndpoint::new(below, &authority.server())),
        }
    }

    fn connect(&self, speaker: Speaker) -> Deferred<Transport<Speaker>> {
        let below = TcpClientEndpoint::new("server:7");
        let endpoint: Rc<dyn ClientEndpoint> = match &self.authority {
            None => Rc::new(below),
            Some(authority) => {
                let config = authority.client();
                Rc::new(TlsClientEndpoint::new(below, &config, localhost()))
            }
        };
        self.client.reactor().connect(&endpoint, |_| speaker)
    }

    /// Listens at `endpoint` with `speaker`, who is built once for each connection.
    fn listen(
        &self,
        endpoint: &dyn ServerEndpoint,
        mut speaker: impl FnMut() -> Speaker + 'static,
    ) {
        let reactor = self.server.reactor();
        let listening = reactor.listen(endpoint, move |_: &Address| speaker());
        reactor.run_until(listening).expect("the port is free");
    }

    /// Connects a speaker, and gives what it sees.
    fn connected(&self, speaker: Speaker) -> (Transport<Speaker>, Seen) {
        let seen = speaker.seen.clone();
        let connecting = self.connect(speaker);
        let transport = self.client.reactor().run_until(connecting);
        (transport.expect("it connects"), seen)
    }

    /// Goes on until this connection is lost: how long that took, and why it was.
    fn lost(&self, seen: &Seen) -> (Duration, String) {
        let begin = self.simulation.now();
        let is_lost = || seen.reason.borrow().is_some();
        assert!(self.simulation.run_while(|| !is_lost()), "it is never lost");
        let reason = format!("{:?}", seen.reason.borrow().as_ref().expect("it is lost"));
        (self.simulation.now() - begin, reason)
    }
}

fn tcp() -> TcpServerEndpoint {
    TcpServerEndpoint::new(":7")
}

/// A speaker whose transport and whose end can be looked at.
fn server(
    seen: &Seen,
    own: &Rc<RefCell<Option<Transport<Speaker>>>>,
) -> impl FnMut() -> Speaker + use<> {
    let (seen, own) = (seen.clone(), Rc::clone(own));
    move || {
        let own = Rc::clone(&own);
        let speaker = Speaker::default().on_data(move |transport, _| {
            own.replace(Some(transport.clone()));
        });
        Speaker {
            seen: seen.clone(),
            ..speaker
        }
    }
}

#[track_caller]
fn check_same<T: PartialEq + std::fmt::Debug>(check: impl Fn(&World) -> T) -> T {
    let [plain, secured] = World::both();
    let (plain, secured) = (check(&plain), check(&secured));
    assert_eq!(plain, secured, "with TLS it is otherwise than without");
    plain
}

#[test]
fn an_attempt_to_connect_has_the_same_limit() {
    let (time, error) = check_same(|world| {
        world.server.crash();
        let begin = world.simulation.now();
        let connecting = world.connect(Speaker::default());
        let failure = world.client.reactor().run_until(connecting);
        let failure = failure.expect_err("nobody is there");
        let error = failure.downcast_ref::<ConnectError>();
        let error = format!("{:?}", error.expect("it says why"));
        (world.simulation.now() - begin, error)
    });
    assert_eq!(time, 30 * SECOND);
    assert!(error.contains("no answer within 30s"), "{error}");
}

#[test]
fn the_rest_before_the_end_has_the_same_limit() {
    let lost = check_same(|world| {
        let (seen, own) = (Seen::default(), Rc::default());
        world.listen(&world.secured(tcp()), server(&seen, &own));
        let (client, _) = world.connected(Speaker::default());
        client.write("hello");
        client.pause_reading();
        assert!(world.simulation.run_while(|| own.borrow().is_none()));
        let transport = own.take().expect("it is there");
        transport.set_limits(Limits {
            flush: 11 * SECOND,
            ..Limits::default()
        });
        transport.write(vec![b'x'; 4 << 20]);
        transport.lose_connection();
        world.lost(&seen)
    });
    let (time, reason) = lost;
    let expected = "TimedOut { waiting_for: \"sending the rest before closing\", limit: 11s }";
    assert_eq!(reason, expected);
    // It begins when the client has what was on the way, and is looked at now and then.
    assert!(
        time >= 11 * SECOND && time <= 11 * SECOND * 9 / 8,
        "{time:?}"
    );
}

#[test]
fn a_cap_on_what_is_unsent_is_the_same() {
    let (written, reason) = check_same(|world| {
        let (seen, own) = (Seen::default(), Rc::default());
        world.listen(&world.secured(tcp()), server(&seen, &own));
        let (client, _) = world.connected(Speaker::default());
        client.write("hello");
        client.pause_reading();
        assert!(world.simulation.run_while(|| own.borrow().is_none()));
        let transport = own.take().expect("it is there");
        transport.set_limits(Limits {
            unsent_max: 1 << 20,
            ..Limits::default()
        });
        let mut written = 0;
        while seen.reason.borrow().is_none() && written < 100 {
            transport.write(vec![b'x'; 100_000]);
            written += 1;
            world.simulation.run_for(SECOND);
        }
        (written, world.lost(&seen).1)
    });
    assert!(written < 20, "{written} pieces");
    assert_eq!(reason, "Overrun { limit: 1048576 }");
}

#[test]
fn a_silent_connection_is_lost_above_tls_and_below_it() {
    for above in [true, false] {
        let (at_server, at_client) = check_same(|world| {
            let (seen, own) = (Seen::default(), Rc::default());
            let timed = |below| TimeoutServerEndpoint::new(below).timeout(9 * SECOND);
            let endpoint: Rc<dyn ServerEndpoint> = match above {
                true => Rc::new(timed(world.secured(tcp()))),
                false => world.secured(timed(Rc::new(tcp()) as Rc<dyn ServerEndpoint>)),
            };
            world.listen(&endpoint, server(&seen, &own));
            let (client, at_client) = world.connected(Speaker::default());
            world.simulation.run_for(5 * SECOND);
            // A sign of life.
            client.write("hello");
            assert!(world.simulation.run_while(|| own.borrow().is_none()));
            let (time, reason) = world.lost(&seen);
            assert_eq!(time.as_secs(), 9, "{time:?}");
            (reason, world.lost(&at_client).1)
        });
        let expected = "TimedOut { waiting_for: \"a sign of life\", limit: 9s }";
        assert_eq!(at_server, expected, "above: {above}");
        assert_eq!(at_client, "Done", "above: {above}");
    }
}

#[test]
fn one_connection_too_many_is_turned_away_above_tls_and_below_it() {
    for above in [true, false] {
        check_same(|world| {
            let (seen, own) = (Seen::default(), Rc::default());
            let limits = ConnectionLimits::new(2);
            let limited = |below| LimitedServerEndpoint::new(below, &limits);
            let endpoint: Rc<dyn ServerEndpoint> = match above {
                true => Rc::new(limited(world.secured(tcp()))),
                false => world.secured(limited(Rc::new(tcp()) as Rc<dyn ServerEndpoint>)),
            };
            world.listen(&endpoint, server(&seen, &own));
            let first = world.connected(Speaker::default());
            let (_second, _) = world.connected(Speaker::default());
            world.simulation.run_for(SECOND);
            assert_eq!(limits.count(), 2);
            let third = Speaker::default();
            let at_third = third.seen.clone();
            // Below TLS it does not come to a handshake.
            let connecting = world.connect(third);
            let connected = world.client.reactor().run_until(connecting);
            if connected.is_ok() {
                world.lost(&at_third);
            }
            assert_eq!(limits.count(), 2);
            first.0.lose_connection();
            world.lost(&first.1);
            world.simulation.run_for(SECOND);
            assert_eq!(limits.count(), 1);
            let (_fourth, _) = world.connected(Speaker::default());
            world.simulation.run_for(SECOND);
            assert_eq!(limits.count(), 2);
        });
    }
}

/// Sends what it has, one byte at a time.
fn drip(reactor: &Reactor, transport: Transport<Speaker>, mut bytes: Vec<u8>, pause: Duration) {
    if bytes.is_empty() || !transport.is_connected() {
        return;
    }
    transport.write([bytes.remove(0)]);
    let next = reactor.clone();
    reactor.call_later(pause, move || drip(&next, transport, bytes, pause));
}

/// The first message of a client that speaks TLS.
fn hello(authority: &Authority) -> Vec<u8> {
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let ear = Speaker::default();
    let heard = ear.seen.clone();
    let mut ear = Some(ear);
    let listening = server
        .reactor()
        .listen_tcp(":7", move |_: &Address| ear.take());
    listening.expect("the port is free");
    let below = TcpClientEndpoint::new("server:7");
    let endpoint = TlsClientEndpoint::new(below, &authority.client(), localhost());
    let connecting = client.reactor().connect(&endpoint, |_| Speaker::default());
    simulation.run_for(SECOND);
    connecting.cancel();
    drop(
        connecting
            .add_errback(|_| Err(Failure::message("given up")))
            .add_both(|_| ()),
    );
    let data = heard.data.borrow().clone();
    assert_eq!(data.first(), Some(&22), "a handshake message");
    data
}

#[test]
fn a_handshake_that_comes_byte_by_byte_has_the_limit_of_all_handshakes() {
    let authority = Authority::new();
    let hello = hello(&authority);
    let simulation = Simulation::new(7);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let failed = Rc::new(RefCell::new(Vec::new()));
    let failures = Rc::clone(&failed);
    let limit = 20 * SECOND;
    let limits = TlsLimits {
        handshake: limit,
        ..TlsLimits::default()
    };
    let counted = ConnectionLimits::new(10);
    let below = LimitedServerEndpoint::new(tcp(), &counted);
    let endpoint = TlsServerEndpoint::new(below, &authority.server().limits(limits))
        .on_failed_handshake(move |_, error| failures.borrow_mut().push(error.clone()));
    let built = Rc::new(Cell::new(0));
    let count = Rc::clone(&built);
    let listening = server.reactor().listen(&endpoint, move |_: &Address| {
        count.set(count.get() + 1);
        Speaker::default()
    });
    server
        .reactor()
        .run_until(listening)
        .expect("the port is free");
    let loris = Speaker::default();
    let seen = loris.seen.clone();
    let connecting = client.reactor().connect_tcp("server:7", |_| loris);
    let transport = client.reactor().run_until(connecting).expect("it listens");
    let begin = simulation.now();
    // Something comes all the time, and never all of it.
    let pause = 2 * limit / u32::try_from(hello.len()).expect("it is short");
    drip(&client.reactor(), transport, hello, pause);
    simulation.run_for(limit / 2);
    assert_eq!(counted.count(), 1);
    assert!(simulation.run_while(|| seen.reason.borrow().is_none()));
    assert!(simulation.now() - begin < limit + SECOND);
    assert_eq!(*failed.borrow(), [TlsError::HandshakeTimedOut { limit }]);
    assert_eq!((counted.count(), built.get()), (0, 0));
}

#[test]
fn a_handshake_whose_last_byte_comes_in_time_is_as_good_as_any() {
    let [_, world] = World::both();
    let (seen, own) = (Seen::default(), Rc::default());
    world.listen(&world.secured(tcp()), server(&seen, &own));
    world
        .simulation
        .set_chunking(torsade::reactor::testing::Chunking::AtMost(1));
    let (client, _) = world.connected(Speaker::default());
    client.write("hello");
    assert!(world.simulation.run_while(|| own.borrow().is_none()));
    // The limit of the handshake is over with it.
    world.simulation.run_for(200 * SECOND);
    assert!(client.is_connected());
    assert_eq!(seen.text(), "hello");
}
