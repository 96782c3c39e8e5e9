//! What a protocol may still say when others have decided that its connection ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{self, AddressFamily, SocketType};
use torsade_reactor::testing::Simulation;
use torsade_reactor::{Address, ConnectionLost, Port, Protocol, Reactor, Transport};

use crate::common::{End, Log, reactor, run_while, simulated_streams};

/// Says goodbye when it is told to, and reads nothing if it is asked for that.
struct Farewell {
    log: Log,
    is_deaf: bool,
}

impl Protocol for Farewell {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.log.add("made");
        if self.is_deaf {
            transport.pause_reading();
        }
    }

    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.log.add(data.escape_ascii());
    }

    fn about_to_be_lost(&mut self, transport: &Transport<Self>) {
        self.log.add("about to be lost");
        assert!(transport.is_connected());
        transport.write("goodbye");
        transport.lose_connection();
        // It is on its way out already.
        transport.reactor().stop();
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.log.add(format!("lost: {reason:?}"));
    }
}

/// A server on the system's own network, and a client that is no part of the reactor.
fn server(is_deaf: bool) -> (Reactor, TcpStream, Log) {
    let (reactor, log) = (reactor(), Log::default());
    let to_log = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| Farewell {
        log: to_log.clone(),
        is_deaf,
    });
    let client = connect_to(&port.expect("loopback can listen"));
    run_while(&reactor, || log.lines().is_empty());
    (reactor, client, log)
}

fn connect_to(port: &Port) -> TcpStream {
    let number = port.address().port().expect("TCP has one");
    let client = net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let client = client.expect("there are descriptors");
    set_socket_recv_buffer_size(&client, 16 * 1024).expect("it is a socket");
    net::connect(&client, &SocketAddr::from(([127, 0, 0, 1], number))).expect("it listens");
    let client = TcpStream::from(client);
    // So that a mistake is a failure, and no standstill.
    let patience = Some(Duration::from_secs(30));
    client.set_read_timeout(patience).expect("it is no zero");
    client
}

/// All that comes up to the end, which must be no reset.
#[track_caller]
fn read_to_end(mut client: TcpStream) -> String {
    let mut text = String::new();
    let read = client.read_to_string(&mut text);
    read.expect("the end is in order");
    text
}

#[test]
fn a_protocol_has_a_last_word_when_the_reactor_stops() {
    let (reactor, client, log) = server(false);
    reactor.stop();
    reactor.run().expect("it runs");
    log.check(["made", "about to be lost", "lost: Stopped"]);
    assert_eq!(read_to_end(client), "goodbye");
}

#[test]
fn so_it_has_in_a_simulation() {
    let simulation = Simulation::new(1);
    let (client, server) = simulated_streams(&simulation);
    let [here, there] = [(); 2].map(|()| Log::default());
    let [client, _server] = [(client, &here), (server, &there)].map(|(stream, log)| {
        let farewell = Farewell {
            log: log.clone(),
            is_deaf: false,
        };
        Transport::connect(farewell, stream)
    });
    client.reactor().stop();
    client.reactor().run().expect("it runs");
    simulation.run_until_idle();
    here.check(["made", "about to be lost", "lost: Stopped"]);
    there.check(["made", "goodbye", "lost: Done"]);
}

#[test]
fn a_last_word_reaches_a_peer_whose_own_were_never_read() {
    let (reactor, mut client, log) = server(true);
    client.write_all(&[b'x'; 10_000]).expect("there is room");
    // It is there when the reactor stops: what is sent on loopback has arrived.
    reactor.turn(Some(Duration::ZERO)).expect("it can look");
    reactor.stop();
    reactor.run().expect("it runs");
    log.check(["made", "about to be lost", "lost: Stopped"]);
    assert_eq!(read_to_end(client), "goodbye");
}

#[test]
fn what_is_on_the_way_after_an_orderly_end_survives_a_stop() {
    /// More than the client's system takes for it while it does not read.
    const ANSWER: usize = 100_000;
    let (reactor, log) = (reactor(), Log::default());
    let to_log = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| {
        End::new("server", &to_log).on_data(|transport, _| {
            transport.write(vec![b'x'; ANSWER]);
            transport.lose_connection();
        })
    });
    let mut client = connect_to(&port.expect("loopback can listen"));
    client.write_all(b"question").expect("there is room");
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Done"]);
    // It comes too late, and no turn reads it any more.
    client.write_all(b"question").expect("there is room");
    let left = reactor.close().expect("it does not run");
    assert_eq!(left.sources.len(), 2, "the port, and what lingers: {left}");
    assert_eq!(read_to_end(client).len(), ANSWER);
}
