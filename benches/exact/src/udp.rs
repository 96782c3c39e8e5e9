//! Datagrams there and back: the client is a blocking socket on the same thread.

use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use torsade::prelude::*;

use crate::work::{SILENCE_MAX, number_it, turn_until};

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        transport.write_to(data, from);
        crate::work::made();
    }
}

/// So many on their way at once.
pub fn echo(depth: u64, count: u64) {
    let reactor = crate::work::turning();
    let port = reactor
        .listen_udp("127.0.0.1:0", Echo)
        .expect("a port is free");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    client
        .connect(port.host().to_string())
        .expect("it is there");
    client
        .set_read_timeout(Some(SILENCE_MAX))
        .expect("it is not zero");
    // Longer than a datagram, so that one that has grown is not cut to its size.
    let (mut datagram, mut answer) = ([7; 64], [0; 72]);
    for round in 0..count / depth {
        for number in round * depth..(round + 1) * depth {
            number_it(&mut datagram, number);
            client.send(&datagram).expect("there is room");
        }
        turn_until(&reactor, (round + 1) * depth);
        for number in round * depth..(round + 1) * depth {
            number_it(&mut datagram, number);
            let length = client.recv(&mut answer).expect("it comes back");
            assert!(answer[..length] == datagram, "another came back");
        }
    }
}

/// The same over UNIX sockets, one at a time.
pub fn echo_unix(count: u64) {
    let reactor = crate::work::turning();
    let name = format!("bench-exact-{}", std::process::id());
    let port = reactor.listen_unix_datagrams(format!("@{name}"), Echo);
    let _port = port.expect("the name is free");
    let address = |name: &str| SocketAddr::from_abstract_name(name).expect("it is short");
    let client = UnixDatagram::bind_addr(&address(&format!("{name}-client")));
    let client = client.expect("the name is free");
    client.connect_addr(&address(&name)).expect("it is there");
    client
        .set_read_timeout(Some(SILENCE_MAX))
        .expect("it is not zero");
    let (mut datagram, mut answer) = ([7; 64], [0; 72]);
    for round in 1..=count {
        number_it(&mut datagram, round);
        client.send(&datagram).expect("there is room");
        turn_until(&reactor, round);
        let length = client.recv(&mut answer).expect("it comes back");
        assert!(answer[..length] == datagram, "another came back");
    }
}
