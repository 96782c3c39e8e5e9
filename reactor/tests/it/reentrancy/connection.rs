//! Everything from everywhere: what a callback may do to its own transport, to its
//! sibling's, and to the reactor, at every moment of a connection's life.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::{Address, ConnectionLost, Limits, Port, Protocol, Reactor, Transport};

use crate::common::{count_unhandled, reactor};

/// What a callback may call.
type Deed = fn(&World, &Transport<Busy>);

const DEEDS: [(&str, Deed); 20] = [
    ("write", |_, transport| transport.write("x")),
    ("write much", |_, transport| {
        transport.write(vec![0; 200_000])
    }),
    ("lose_connection", |_, transport| {
        transport.lose_connection()
    }),
    ("lose_connection_because", |_, transport| {
        transport.lose_connection_because(ConnectionLost::Done)
    }),
    ("abort_connection", |_, transport| {
        transport.abort_connection()
    }),
    ("lose_write_connection", |_, transport| {
        transport.lose_write_connection()
    }),
    ("pause_reading", |_, transport| transport.pause_reading()),
    ("resume_reading", |_, transport| transport.resume_reading()),
    ("set_limits", |_, transport| {
        transport.set_limits(Limits {
            unsent_high: 1,
            ..Limits::default()
        })
    }),
    ("set_nodelay", |_, transport| transport.set_nodelay(true)),
    ("call", |_, transport| {
        transport.call(|_, transport| transport.write("y"))
    }),
    ("call that loses", |_, transport| {
        transport.call(|_, transport| transport.abort_connection())
    }),
    ("when", |_, transport| {
        let (trigger, deferred) = Deferred::<()>::new();
        transport.when(deferred, |_, transport, _| transport.lose_connection());
        transport.reactor().call_soon(move || trigger.callback(()));
    }),
    ("when fired already", |_, transport| {
        transport.when(
            torsade_deferred::succeed::<_, torsade_deferred::Failure>(()),
            |_, transport, _| {
                transport.write("z");
            },
        );
    }),
    ("call_soon and cancel", |world, _| {
        world.reactor.call_soon(|| ()).cancel();
        world.reactor.call_later(Duration::ZERO, || ()).cancel();
    }),
    ("stop_listening", |world, _| {
        drop(world.port().stop_listening())
    }),
    ("listen and connect", |world, _| {
        let port = world
            .reactor
            .listen_tcp("127.0.0.1:0", |_: &Address| None::<Busy>)
            .unwrap();
        let connecting = world
            .reactor
            .connect_tcp(port.address(), |_| -> Busy { unreachable!("cancelled") });
        connecting.cancel();
        drop(
            connecting
                .add_errback(|_| Err(torsade_deferred::Interrupted::Cancelled.into()))
                .into_result()
                .map(drop),
        );
        drop(port.stop_listening());
    }),
    ("run", |world, _| drop(world.reactor.run().unwrap_err())),
    ("turn", |world, _| {
        drop(world.reactor.turn(Some(Duration::ZERO)).unwrap_err())
    }),
    ("look", |world, transport| {
        let texts = format!("{:?} {:?} {:?}", world.reactor, transport, world.port());
        assert!(texts.contains("127.0.0.1"));
        assert!(transport.unsent() < usize::MAX && transport.peer() != transport.host());
    }),
];

const MOMENTS: [&str; 5] = ["made", "data", "read lost", "lost", "dropped"];

struct World {
    reactor: Reactor,
    port: RefCell<Option<Port>>,
    client: RefCell<Option<Transport<Busy>>>,
    server: RefCell<Option<Transport<Busy>>>,
}

impl World {
    fn port(&self) -> Port {
        self.port.borrow().clone().expect("it listens first of all")
    }
}

/// Does one deed at one moment: to itself and to its sibling on the other side.
struct Busy {
    world: Rc<World>,
    moment: &'static str,
    deed: Option<Deed>,
    transport: Option<Transport<Self>>,
}

impl Busy {
    fn reach(&self, moment: &str) {
        if moment != self.moment {
            return;
        }
        let Some(deed) = self.deed else {
            return;
        };
        // Itself, then both ends as far as they are known: the loops above hold no borrow.
        let client = self.world.client.borrow().clone();
        let server = self.world.server.borrow().clone();
        for transport in [self.transport.clone(), client, server]
            .into_iter()
            .flatten()
        {
            deed(&self.world, &transport);
        }
    }
}

impl Protocol for Busy {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.transport = Some(transport.clone());
        if self.deed.is_some() {
            self.world.server.replace(Some(transport.clone()));
        }
        self.reach("made");
        transport.write("hello");
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        self.reach("data");
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        self.reach("read lost");
        transport.lose_connection();
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.reach("lost");
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.reach("dropped");
        // Unties the knot of the transport that knows its protocol.
        self.transport = None;
    }
}

fn check(moment: &'static str, name: &str, deed: Deed) {
    let (unhandled, _guard) = count_unhandled();
    let reactor = reactor();
    let world = Rc::new(World {
        reactor: reactor.clone(),
        port: RefCell::default(),
        client: RefCell::default(),
        server: RefCell::default(),
    });
    let busy = |deed| {
        let world = Rc::clone(&world);
        move |_: &Address| Busy {
            world: Rc::clone(&world),
            moment,
            deed,
            transport: None,
        }
    };
    let port = reactor.listen_tcp("127.0.0.1:0", busy(Some(deed))).unwrap();
    world.port.replace(Some(port.clone()));
    let connected = reactor.run_until(reactor.connect_tcp(port.address(), busy(None)));
    if let Ok(client) = connected {
        world.client.replace(Some(client.clone()));
        for round in 0..60 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            if round == 20 {
                client.write("more");
            }
            if round == 40 {
                client.lose_connection();
            }
        }
    }
    world.client.take();
    world.server.take();
    reactor.stop();
    reactor.run().unwrap();
    assert_eq!(
        unhandled.get(),
        0,
        "a panic or a lost failure: {name} when {moment}"
    );
}

#[test]
fn every_deed_is_safe_at_every_moment() {
    for moment in MOMENTS {
        for (name, deed) in DEEDS {
            check(moment, name, deed);
        }
    }
}
