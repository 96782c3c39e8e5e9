//! Options of sockets: set on one connection, or inherited from a port.

use std::io;
use std::time::Duration;

use torsade_reactor::{KeepAlive, SocketOption};

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
