//! What a reactor that stops says to the peers of its connections over TLS.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::haproxy::ProxiedServerEndpoint;
use torsade::protocols::tls::{ServerConfig, TlsStream};
use torsade::reactor::{
    ClientEndpoint, ConnectionLimits, LimitedServerEndpoint, ServerEndpoint, Stream,
    TcpServerEndpoint, TimeoutServerEndpoint,
};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker};

/// A server and a client, each on a reactor of its own.
struct Two {
    here: Reactor,
    there: Reactor,
}

impl Two {
    fn new() -> Self {
        let [here, there] = [(); 2].map(|()| Reactor::new().expect("a reactor"));
        Self { here, there }
    }

    #[track_caller]
    fn turn_until(&self, done: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if done() {
                return;
            }
            for reactor in [&self.here, &self.there] {
                reactor
                    .turn(Some(Duration::from_millis(1)))
                    .expect("a turn");
            }
        }
        panic!("it never came");
    }

    /// Connects, says hello, stops the server's reactor from inside of the callback that answers,
    /// and gives what was seen at the client and at the server.
    fn say_hello_and_stop(
        &self,
        server: &dyn ServerEndpoint,
        client: impl FnOnce(Address) -> Rc<dyn ClientEndpoint>,
        begins_with: &'static str,
    ) -> (Seen, Seen) {
        let at_server = Seen::default();
        let (seen, stopping) = (at_server.clone(), self.here.clone());
        let listening = self.here.listen(server, move |_: &Address| {
            let stopping = stopping.clone();
            let speaker = Speaker::default().on_data(move |transport, _| {
                transport.write("the last words");
                stopping.stop();
            });
            Speaker {
                seen: seen.clone(),
                ..speaker
            }
        });
        let port = self.here.run_until(listening).expect("it listens");
        let endpoint = client(port.address());
        let speaker = Speaker::default();
        let at_client = speaker.seen.clone();
        let made: Rc<RefCell<Option<Transport<Speaker>>>> = Rc::default();
        let slot = Rc::clone(&made);
        let connecting = self.there.connect(&endpoint, |_| speaker);
        drop(connecting.add_callback(move |transport| {
            transport.write(begins_with);
            transport.write("hello");
            slot.replace(Some(transport));
        }));
        self.turn_until(|| made.borrow().is_some());
        self.there.turn(Some(Duration::ZERO)).expect("a turn");
        self.here.run().expect("it runs until it is stopped");
        self.turn_until(|| at_client.reason.borrow().is_some());
        (at_client, at_server)
    }
}

fn tcp() -> TcpServerEndpoint {
    TcpServerEndpoint::new("127.0.0.1:0")
}

fn connect_to(address: &Address) -> Rc<dyn ClientEndpoint> {
    torsade::client_from_string(&format!(
        "tcp:127.0.0.1:{}",
        address.port().expect("TCP has one")
    ))
    .expect("it is well formed")
}

#[track_caller]
fn check_goodbye((at_client, at_server): (Seen, Seen)) {
    assert_eq!(at_client.text(), "the last words");
    at_client.is_lost_with("Done");
    at_server.is_lost_with("Stopped");
}

#[test]
fn peers_get_the_rest_and_a_closing_alert_when_the_reactor_stops() {
    let (authority, two) = (Authority::new(), Two::new());
    let server = TlsServerEndpoint::new(tcp(), &authority.server());
    let client = |address: Address| -> Rc<dyn ClientEndpoint> {
        let below = connect_to(&address);
        Rc::new(TlsClientEndpoint::new(
            below,
            &authority.client(),
            localhost(),
        ))
    };
    check_goodbye(two.say_hello_and_stop(&server, client, ""));
}

#[test]
fn so_they_do_from_tls_in_tls_and_through_the_layers_of_policies() {
    let (authority, two) = (Authority::new(), Two::new());
    let server = TlsServerEndpoint::new(tcp(), &authority.server());
    let server = TimeoutServerEndpoint::new(server);
    let server = TlsServerEndpoint::new(server, &authority.server());
    let server = LimitedServerEndpoint::new(server, &ConnectionLimits::new(10));
    let client = |address: Address| -> Rc<dyn ClientEndpoint> {
        let (below, config) = (connect_to(&address), authority.client());
        let first = TlsClientEndpoint::new(below, &config, localhost());
        Rc::new(TlsClientEndpoint::new(first, &config, localhost()))
    };
    check_goodbye(two.say_hello_and_stop(&server, client, ""));
}

/// Speaks lines until one of them asks for something else, which is TLS over the lines' stream.
struct HandsOver {
    config: ServerConfig,
    seen: Seen,
}

impl LineReceiver for HandsOver {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        assert_eq!(line, b"TLS");
        let below = Rc::clone(transport.stream()) as Rc<dyn Stream>;
        let speaker = Speaker::default().on_data(|transport, _| {
            transport.write("the last words");
            transport.reactor().stop();
        });
        let seen = self.seen.clone();
        let layer = TlsStream::server(below, &self.config);
        Transport::connect(Speaker { seen, ..speaker }, layer);
    }

    fn about_to_be_lost(&mut self, _: &LineTransport<Self>) {
        unreachable!("who took over is told");
    }
}

#[test]
fn so_they_do_from_a_layer_that_took_over_from_lines() {
    let (authority, two, at_server) = (Authority::new(), Two::new(), Seen::default());
    let (config, seen) = (authority.server(), at_server.clone());
    let listening = two.here.listen(&tcp(), move |_: &Address| {
        let (config, seen) = (config.clone(), seen.clone());
        Lines::new(HandsOver { config, seen })
    });
    let port = two.here.run_until(listening).expect("it listens");
    let connecting = connect_to(&port.address()).connect_stream(&two.there);
    let stream = two.there.run_until(connecting).expect("it listens");
    stream.write(b"TLS\r\n");
    let layer = TlsStream::client(stream, &authority.client(), localhost());
    let speaker = Speaker::default();
    let at_client = speaker.seen.clone();
    let client = Transport::connect(speaker, layer);
    client.write("hello");
    two.turn_until(|| at_client.reason.borrow().is_some());
    check_goodbye((at_client, at_server));
}

/// Says goodbye in a line.
struct Polite;

impl LineReceiver for Polite {
    fn line_received(&mut self, transport: &LineTransport<Self>, _: &[u8]) {
        transport.reactor().stop();
    }

    fn about_to_be_lost(&mut self, transport: &LineTransport<Self>) {
        transport.send_line("the server goes");
    }
}

#[test]
fn a_line_receiver_has_a_last_word_also_over_tls() {
    let (authority, two) = (Authority::new(), Two::new());
    let server = TlsServerEndpoint::new(tcp(), &authority.server());
    let listening = two.here.listen(&server, |_: &Address| Lines::new(Polite));
    let port = two.here.run_until(listening).expect("it listens");
    let below = connect_to(&port.address());
    let endpoint = TlsClientEndpoint::new(below, &authority.client(), localhost());
    let speaker = Speaker::default();
    let at_client = speaker.seen.clone();
    let connecting = two.there.connect(&endpoint, |_| speaker);
    drop(connecting.add_callback(|transport| transport.write("go\r\n")));
    two.turn_until(|| at_client.reason.borrow().is_some());
    assert_eq!(at_client.text(), "the server goes\\r\\n");
    at_client.is_lost_with("Done");
}

#[test]
fn a_client_whose_reactor_stops_says_goodbye_too() {
    let (authority, two) = (Authority::new(), Two::new());
    let server = TlsServerEndpoint::new(tcp(), &authority.server());
    let at_server = Seen::default();
    let seen = at_server.clone();
    let listening = two.here.listen(&server, move |_: &Address| Speaker {
        seen: seen.clone(),
        ..Speaker::default()
    });
    let port = two.here.run_until(listening).expect("it listens");
    let endpoint = TlsClientEndpoint::new(
        connect_to(&port.address()),
        &authority.client(),
        localhost(),
    );
    let service = ClientService::new(&two.there, endpoint, |_: &Address| Speaker::default());
    service.start();
    two.turn_until(|| !at_server.events.borrow().is_empty());
    two.there.stop();
    two.there.run().expect("it runs");
    two.turn_until(|| at_server.reason.borrow().is_some());
    at_server.is_lost_with("Done");
}

#[test]
fn a_handshake_under_way_is_lost_and_nothing_is_said() {
    let (authority, two) = (Authority::new(), Two::new());
    let failed = Rc::new(RefCell::new(Vec::new()));
    let failures = Rc::clone(&failed);
    let server = TlsServerEndpoint::new(tcp(), &authority.server())
        .on_failed_handshake(move |_, error| failures.borrow_mut().push(error.to_string()));
    let listening = two.here.listen(&server, |_: &Address| Speaker::default());
    let port = two.here.run_until(listening).expect("it listens");
    let stranger = Speaker::default();
    let seen = stranger.seen.clone();
    let connecting = two
        .there
        .connect(&connect_to(&port.address()), |_| stranger);
    two.there.run_until(connecting).expect("it connects");
    two.here.turn(None).expect("it accepts");
    two.here.stop();
    two.here.run().expect("it runs");
    two.turn_until(|| seen.reason.borrow().is_some());
    assert_eq!(seen.text(), "");
    assert_eq!(
        *failed.borrow(),
        ["during the handshake: connection lost: the reactor stopped"]
    );
}

#[test]
fn behind_a_proxy_it_is_the_same() {
    const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    let (authority, two) = (Authority::new(), Two::new());
    // TLS around the header: the client that is at hand writes it itself.
    let server = TlsServerEndpoint::new(tcp(), &authority.server());
    let server = ProxiedServerEndpoint::new(server);
    let client = |address: Address| -> Rc<dyn ClientEndpoint> {
        let below = connect_to(&address);
        Rc::new(TlsClientEndpoint::new(
            below,
            &authority.client(),
            localhost(),
        ))
    };
    check_goodbye(two.say_hello_and_stop(&server, client, HEADER));
}
