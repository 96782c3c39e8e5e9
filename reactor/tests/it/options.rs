//! Options of sockets: set on one connection, or inherited from a port.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, socket_with};
use torsade_reactor::testing::Simulation;
use torsade_reactor::{
    Address, KeepAlive, ListenError, ListenOptions, Port, Reactor, SocketOption, TcpClientEndpoint,
    TcpServerEndpoint,
};

use crate::common::{End, Log, connect, reactor, run_while};

const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(7),
    interval: Duration::from_secs(3),
    count: 4,
};

#[test]
fn options_can_be_set_and_read_back() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let transport = &pair.client;
    let socket = transport.stream().socket();
    assert!(socket.nodelay().unwrap(), "on by default");
    transport.set_option(SocketOption::NoDelay(false)).unwrap();
    assert!(!socket.nodelay().unwrap());
    assert_eq!(socket.keep_alive().unwrap(), None);
    transport
        .set_option(SocketOption::KeepAlive(Some(KEEP_ALIVE)))
        .unwrap();
    assert_eq!(socket.keep_alive().unwrap(), Some(KEEP_ALIVE));
    transport.set_option(SocketOption::KeepAlive(None)).unwrap();
    assert_eq!(socket.keep_alive().unwrap(), None);
    transport
        .set_option(SocketOption::SendBuffer(20_000))
        .unwrap();
    transport
        .set_option(SocketOption::ReceiveBuffer(30_000))
        .unwrap();
    let (to_send, received) = socket.buffer_sizes().unwrap();
    assert!((20_000..=40_000).contains(&to_send), "{to_send}");
    assert!((30_000..=60_000).contains(&received), "{received}");
    let copy = socket.duplicate().unwrap();
    transport.set_option(SocketOption::TimeToLive(17)).unwrap();
    transport
        .set_option(SocketOption::TrafficClass(0x10))
        .unwrap();
    transport.set_option(SocketOption::QuickAck(false)).unwrap();
    use rustix::net::sockopt;
    assert_eq!(sockopt::ip_ttl(&copy).unwrap(), 17);
    assert_eq!(sockopt::ip_tos(&copy).unwrap(), 0x10);
    assert!(!sockopt::tcp_quickack(&copy).unwrap());
}

#[test]
fn an_option_that_the_system_refuses_is_an_error_and_the_connection_goes_on() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let never = KeepAlive {
        idle: Duration::ZERO,
        ..KEEP_ALIVE
    };
    let refused = pair
        .client
        .set_option(SocketOption::KeepAlive(Some(never)))
        .expect_err("less than a second");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    let device = SocketOption::Device(Some("no-such-device".into()));
    pair.client.set_option(device).expect_err("no such device");
    let long = SocketOption::Device(Some("lo-and-a-longer-name".into()));
    let refused = pair.client.set_option(long).expect_err("it is not cut off");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert!(pair.client.is_connected());
}

#[test]
fn options_after_the_end_say_that_there_is_no_connection() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.client.abort_connection();
    run_while(&reactor, || log.lines().len() < 4);
    let late = pair.client.set_option(SocketOption::NoDelay(true));
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::NotConnected);
    pair.client.set_nodelay(true);
}

#[test]
fn reset_on_close_makes_every_end_a_reset() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.client
        .set_option(SocketOption::ResetOnClose(true))
        .unwrap();
    pair.client.lose_connection();
    run_while(&reactor, || log.lines().len() < 4);
    let lines = log.lines();
    assert_eq!(
        lines[2..],
        ["client lost: Done", "server lost: ConnectionReset"]
    );
}

/// A port on `address` that refuses every connection, unless the address is in use.
fn listen(reactor: &Reactor, address: &str, options: &ListenOptions) -> Result<Port, ()> {
    let endpoint = TcpServerEndpoint::new(address).options(options.clone());
    let listening = reactor.listen(&endpoint, |_: &Address| None::<End>);
    let listening = reactor.run_until(listening);
    listening.map_err(|failure| {
        let refused = failure.downcast_ref::<ListenError>();
        let in_use = matches!(refused, Some(ListenError::InUse { .. }));
        assert!(in_use, "{failure}");
    })
}

fn number(port: &Port) -> u16 {
    let Address::Tcp(address) = port.address() else {
        unreachable!("it is TCP");
    };
    address.port()
}

#[test]
fn several_ports_share_an_address_if_all_of_them_say_so() {
    let simulation = Simulation::new(1);
    let host = simulation.host("host");
    for reactor in [reactor(), host.reactor()] {
        let shared = ListenOptions::new().reuse_port(true);
        let first = listen(&reactor, "127.0.0.1:0", &shared).unwrap();
        let same = first.address().to_string();
        assert!(listen(&reactor, &same, &ListenOptions::new()).is_err());
        let second = listen(&reactor, &same, &shared).unwrap();
        assert_eq!(first.address(), second.address());
        drop((first.stop_listening(), second.stop_listening()));
        let alone = listen(&reactor, &same, &ListenOptions::new()).unwrap();
        assert!(listen(&reactor, &same, &shared).is_err());
        drop(alone.stop_listening());
    }
}

#[test]
fn a_port_on_every_ipv6_address_takes_ipv4_unless_it_is_told_not_to() {
    if TcpListener::bind("[::1]:0").is_err() {
        let said = writeln!(io::stderr(), "SKIPPED: this machine has no IPv6");
        return said.expect("somebody reads");
    }
    let simulation = Simulation::new(1);
    let host = simulation.host("host");
    for reactor in [reactor(), host.reactor()] {
        for only_v6 in [false, true] {
            let options = ListenOptions::new().only_v6(only_v6);
            let endpoint = TcpServerEndpoint::new("[::]:0").options(options);
            let seen = Log::default();
            let peers = seen.clone();
            let listening = reactor.listen(&endpoint, move |peer: &Address| {
                peers.add(peer);
                None::<End>
            });
            let port = reactor.run_until(listening).expect("there is IPv6");
            let number = number(&port);
            let v4 = listen(
                &reactor,
                &format!("0.0.0.0:{number}"),
                &ListenOptions::new(),
            );
            assert_eq!(v4.is_ok(), only_v6);
            for (ip, looks_like) in [("127.0.0.1", "[::ffff:127.0.0.1]:"), ("::1", "[::1]:")] {
                let before = seen.lines().len();
                let peer: (IpAddr, u16) = (ip.parse().expect("it is one"), number);
                let connecting = reactor.connect_tcp(peer, |_| End::new("x", &Log::default()));
                let transport = reactor.run_until(connecting).expect("somebody listens");
                if only_v6 && ip == "127.0.0.1" {
                    continue;
                }
                run_while(&reactor, || seen.lines().len() == before);
                assert!(
                    seen.lines()[before].starts_with(looks_like),
                    "{:?}",
                    seen.lines()
                );
                drop(transport);
            }
            drop((port.stop_listening(), v4.map(|port| port.stop_listening())));
        }
    }
}

#[test]
fn a_port_on_every_ipv4_address_leaves_ipv6_alone() {
    let simulation = Simulation::new(1);
    let host = simulation.host("host");
    for reactor in [reactor(), host.reactor()] {
        let port = listen(&reactor, "0.0.0.0:0", &ListenOptions::new()).unwrap();
        let v6: (IpAddr, u16) = ("::1".parse().expect("it is one"), number(&port));
        let connecting = reactor.connect_tcp(v6, |_| End::new("x", &Log::default()));
        reactor.run_until(connecting).expect_err("nobody listens");
        drop(port.stop_listening());
    }
}

#[test]
fn no_more_connections_wait_to_be_accepted_than_the_backlog_says() {
    const PEERS: usize = 8;
    let reactor = reactor();
    for (backlog, at_most) in [(2, PEERS - 1), (1024, PEERS)] {
        let options = ListenOptions::new().backlog(backlog);
        let port = listen(&reactor, "127.0.0.1:0", &options).unwrap();
        let Address::Tcp(address) = port.address() else {
            unreachable!("it is TCP");
        };
        // Nobody accepts: the loop does not turn. On loopback a connection is made at once,
        // or is still being made.
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                let flags = SocketFlags::NONBLOCK;
                let peer = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
                let peer = peer.unwrap();
                let begun = net::connect(&peer, &address);
                assert_eq!(begun, Err(Errno::INPROGRESS));
                peer
            })
            .collect();
        let made = peers.iter().filter(|peer| net::getpeername(peer).is_ok());
        let made = made.count();
        if at_most == PEERS {
            assert_eq!(made, PEERS);
        } else {
            assert!((1..=at_most).contains(&made), "{made} of {PEERS}");
        }
        drop(port.stop_listening());
    }
}

#[test]
fn what_a_port_accepts_has_the_options_of_the_port() {
    let (reactor, log) = (reactor(), Log::default());
    let options = ListenOptions::new()
        .option(SocketOption::KeepAlive(Some(KEEP_ALIVE)))
        .option(SocketOption::NoDelay(false));
    let endpoint = TcpServerEndpoint::new("127.0.0.1:0").options(options);
    let (seen, note) = (Rc::new(Cell::new(None)), Log::default());
    let slot = Rc::clone(&seen);
    let listening = reactor.listen(&endpoint, move |_: &Address| {
        let slot = Rc::clone(&slot);
        End::new("server", &note).on_made(move |transport| {
            let socket = transport.stream().socket();
            slot.set(Some((
                socket.nodelay().unwrap(),
                socket.keep_alive().unwrap(),
            )));
        })
    });
    let port = reactor.run_until(listening).unwrap();
    // And what connects has its own.
    let slow = SocketOption::NoDelay(false);
    let endpoint = TcpClientEndpoint::new(port.address()).option(slow);
    let client = reactor.connect(&endpoint, move |_: &Address| End::new("client", &log));
    let client = reactor.run_until(client).unwrap();
    run_while(&reactor, || seen.get().is_none());
    assert_eq!(seen.get(), Some((false, Some(KEEP_ALIVE))));
    assert!(!client.stream().socket().nodelay().unwrap());
    drop(port.stop_listening());
}

#[test]
fn a_port_that_stopped_listens_again_on_the_same_number_while_its_connections_go_on() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let same = pair.server.host().to_string();
    let again = listen(&reactor, &same, &ListenOptions::new()).unwrap();
    assert_eq!(again.address().to_string(), same);
    assert!(pair.client.is_connected() && pair.server.is_connected());
    drop(again.stop_listening());
}
