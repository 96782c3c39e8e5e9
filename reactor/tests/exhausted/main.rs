//! A port without descriptors. A program of its own: it changes the limit of its process.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use torsade_reactor::{Address, Protocol, Reactor, Transport};

struct Quiet;

impl Protocol for Quiet {
    fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {}
}

#[test]
fn a_port_without_descriptors_rests_once_however_many_peers_come_and_then_goes_on() {
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| Quiet)
        .unwrap();
    let address: SocketAddr = port.address().to_string().parse().unwrap();
    let peers: Vec<_> = (0..20)
        .map(|_| socket(AddressFamily::INET, SocketType::STREAM, None).unwrap())
        .collect();
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    for peer in &peers {
        connect(peer, &address).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let calls = reactor.dump().delayed_calls;
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    // The port, and all that waited in its backlog.
    for _ in 0..100 {
        if reactor.dump().sources.len() == 1 + peers.len() {
            return;
        }
        reactor.turn(Some(Duration::from_secs(10))).unwrap();
    }
    panic!("{:#?}", reactor.dump());
}
