//! What Twisted's `IConnector` is for, with what there is in its place: each row of the table in
//! docs/coming-from-twisted.md. And what its `ReconnectingClientFactory` is for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Interrupted;
use torsade_reactor::testing::Simulation;
use torsade_reactor::{
    Address, Backoff, ClientService, ConnectError, ConnectionLost, Port, Protocol, Reactor,
    ServiceState, TcpClientEndpoint, Transport,
};

use crate::common::{End, Log, reactor, run_while};

fn listen(reactor: &Reactor, log: &Log) -> Port {
    let log = log.clone();
    let listening = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| End::new("server", &log));
    listening.expect("loopback can listen")
}

#[test]
fn stop_connecting_is_to_cancel_and_to_cancel_what_is_connected_is_nothing() {
    let (reactor, log) = (reactor(), Log::default());
    let port = listen(&reactor, &log);
    let stopped = reactor.connect_tcp(port.address(), |_| -> End { unreachable!("stopped") });
    stopped.cancel();
    let failure = stopped.into_result().expect("it has fired");
    assert!(failure.expect_err("stopped").check::<Interrupted>());

    let connecting = reactor.connect_tcp(port.address(), |_| End::new("client", &Log::default()));
    let canceller = connecting.canceller();
    let client = reactor.run_until(connecting).expect("it connects");
    // Twisted's NotConnectingError.
    canceller.cancel();
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
    assert!(client.is_connected());
}

#[test]
fn disconnect_is_to_lose_the_connection() {
    let (reactor, log) = (reactor(), Log::default());
    let port = listen(&reactor, &Log::default());
    let end = End::new("client", &log);
    let connecting = reactor.connect_tcp(port.address(), move |_| end);
    let client = reactor.run_until(connecting).expect("it connects");
    client.lose_connection();
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["client made", "client lost: Done"]);
}

#[test]
fn the_destination_is_the_callers_and_the_peers_and_in_every_error() {
    let (reactor, log) = (reactor(), Log::default());
    let port = listen(&reactor, &log);
    let address = port.address();
    let connecting = reactor.connect_tcp(&address, |_| End::new("client", &Log::default()));
    let client = reactor.run_until(connecting).expect("it connects");
    assert_eq!(client.peer(), address);
    drop(port.stop_listening());
    let again = reactor.connect_tcp(&address, |_| End::new("client", &Log::default()));
    let failure = reactor.run_until(again).expect_err("nobody listens");
    assert!(failure.check::<ConnectError>());
    assert!(
        failure.to_string().contains(&address.to_string()),
        "{failure}"
    );
}

#[test]
fn the_state_is_the_deferreds_and_the_transports() {
    let reactor = reactor();
    let port = listen(&reactor, &Log::default());
    let log = Log::default();
    let end = End::new("client", &log);
    let connecting = reactor.connect_tcp(port.address(), move |_| end);
    assert!(!connecting.is_fired(), "connecting");
    let client = reactor.run_until(connecting).expect("it connects");
    assert!(client.is_connected(), "connected");
    client.lose_connection();
    run_while(&reactor, || log.lines().len() < 2);
    assert!(!client.is_connected(), "disconnected");
}

/// Connects again when its connection is lost, as often as there is left.
struct Again {
    left: usize,
    to: Address,
    reactor: Reactor,
    log: Log,
    kept: Rc<RefCell<Vec<Transport<Self>>>>,
}

impl Again {
    fn connect(self) {
        let (endpoint, reactor) = (TcpClientEndpoint::new(&self.to), self.reactor.clone());
        let kept = Rc::clone(&self.kept);
        let connecting = reactor.connect(&endpoint, move |_: &Address| self);
        drop(connecting.map(move |transport| kept.borrow_mut().push(transport)));
    }
}

impl Protocol for Again {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.log.add("made");
        transport.lose_connection();
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.log.add("lost");
        if self.left > 0 {
            let next = Self {
                left: self.left - 1,
                to: self.to.clone(),
                reactor: self.reactor.clone(),
                log: self.log.clone(),
                kept: Rc::clone(&self.kept),
            };
            next.connect();
        }
    }
}

#[test]
fn to_connect_again_from_connection_lost_is_to_call_connect_again() {
    let (reactor, log) = (reactor(), Log::default());
    let port = listen(&reactor, &Log::default());
    let again = Again {
        left: 2,
        to: port.address(),
        reactor: reactor.clone(),
        log: log.clone(),
        kept: Rc::default(),
    };
    again.connect();
    run_while(&reactor, || log.lines().len() < 6);
    log.check(["made", "lost", "made", "lost", "made", "lost"]);
}

/// Connections that are lost as soon as they are made, to a port that ends with the second; then
/// nobody is there.
#[test]
fn a_reconnecting_client_stops_trying_after_so_many_failures_and_a_connection_begins_anew() {
    const MAX_RETRIES: usize = 3;
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let served = Rc::new(Cell::new(0));
    let (count, place) = (Rc::clone(&served), Rc::new(RefCell::new(None::<Port>)));
    let port = Rc::clone(&place);
    let listening = server.reactor().listen_tcp(":7", move |_: &Address| {
        count.set(count.get() + 1);
        if count.get() == 2
            && let Some(port) = port.take()
        {
            drop(port.stop_listening());
        }
        End::new("server", &Log::default()).on_made(Transport::lose_connection)
    });
    place.replace(Some(listening.expect("it is free")));
    let waits = Rc::new(RefCell::new(Vec::new()));
    let stops: Rc<RefCell<Option<ClientService<End>>>> = Rc::default();
    let (noted, stop) = (Rc::clone(&waits), Rc::clone(&stops));
    let endpoint = TcpClientEndpoint::new((server.ip(), 7));
    let end = |_: &Address| End::new("client", &Log::default());
    let service = ClientService::new(&client.reactor(), endpoint, end)
        .retry_policy(Backoff::new(1).jitter(Duration::ZERO).factor(2.0))
        .on_failed_attempt(move |_, wait| {
            noted.borrow_mut().push(wait.as_secs());
            if noted.borrow().len() == MAX_RETRIES {
                let service = stop.borrow().clone();
                drop(service.map(|service| service.stop()));
            }
        });
    stops.replace(Some(service.clone()));
    service.start();
    simulation.run_until_idle();
    assert_eq!(served.get(), 2);
    // After 1 s for the connection that was lost; without it, the first would be 1, too.
    assert_eq!(*waits.borrow(), [2, 4, 8]);
    assert_eq!(service.state(), ServiceState::Stopped);
    stops.take();
}
