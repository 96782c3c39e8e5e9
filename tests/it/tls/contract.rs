//! The rule book of streams, kept by TLS over whatever lies below.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::{TlsLimits, TlsStream};
use torsade::reactor::testing::contract::{Contract, Ends};
use torsade::reactor::testing::{Chunks, MemoryStream, memory_pair, virtual_time_reactor};
use torsade::reactor::{Stream, TcpClientEndpoint, TcpServerEndpoint};

use super::authority::{Authority, localhost};

/// About what a socket on loopback holds.
const CAPACITY: usize = 64 * 1024;

/// Two streams in memory whose bytes come in these chunks, so many of which may be on the way.
fn memory(chunks: Chunks, capacity: usize) -> (Reactor, Rc<dyn Stream>, Rc<dyn Stream>) {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    pair.pump.set_chunks(chunks);
    pair.pump.set_capacity(capacity);
    (reactor, pair.client, pair.server)
}

/// Some peers of the contract never read, and so never answer a closing alert. Where time is real
/// nobody waits for them.
const PATIENCE: TlsLimits = TlsLimits {
    handshake: Duration::from_secs(60),
    shutdown: Duration::from_millis(20),
};

/// Puts TLS over two streams, which do their handshake when they are used.
fn secure(
    authority: &Authority,
    below: (Reactor, Rc<dyn Stream>, Rc<dyn Stream>),
) -> (Reactor, Rc<dyn Stream>, Rc<dyn Stream>) {
    secure_within(authority, below, TlsLimits::default())
}

fn secure_within(
    authority: &Authority,
    (reactor, client, server): (Reactor, Rc<dyn Stream>, Rc<dyn Stream>),
    limits: TlsLimits,
) -> (Reactor, Rc<dyn Stream>, Rc<dyn Stream>) {
    let config = authority.client().limits(limits);
    let client = TlsStream::client(client, &config, localhost());
    let server = TlsStream::server(server, &authority.server().limits(limits));
    (reactor, client, server)
}

/// The same after the handshake.
fn secured(
    (reactor, client, server): (Reactor, Rc<dyn Stream>, Rc<dyn Stream>),
) -> (Reactor, Rc<dyn Stream>, Rc<dyn Stream>) {
    for stream in [&client, &server] {
        let tls = stream.find::<TlsStream>().expect("there is TLS");
        reactor.run_until(tls.handshake()).expect("it is good");
    }
    (reactor, client, server)
}

/// Where the stream below knows no reset, TLS knows one that was cut short.
fn is_cut_off(reason: &ConnectionLost) -> bool {
    matches!(reason, ConnectionLost::Io(_)) || TlsError::of(reason) == Some(&TlsError::Truncated)
}

fn ends((reactor, client, server): (Reactor, Rc<dyn Stream>, Rc<dyn Stream>)) -> Ends {
    Ends::new(reactor, client, server)
}

#[test]
fn tls_over_memory_keeps_the_contract_in_every_chunking() {
    for (chunks, capacity, volume) in [
        (Chunks::Whole, CAPACITY, 200_000),
        (Chunks::Of(1), 100, 3_000),
        (Chunks::Sizes(vec![1, 5, 1000, 20_000]), 5_000, 50_000),
    ] {
        let authority = Authority::new();
        Contract::new(move || {
            ends(secured(secure(
                &authority,
                memory(chunks.clone(), capacity),
            )))
        })
        .volume(volume)
        .check();
    }
}

#[test]
fn tls_over_tcp_keeps_the_contract() {
    let authority = Authority::new();
    Contract::new(move || {
        let reactor = Reactor::new().expect("a reactor");
        let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        let server = TcpServerEndpoint::new(anywhere);
        let server = TlsServerEndpoint::new(server, &authority.server().limits(PATIENCE));
        let config = authority.client().limits(PATIENCE);
        Ends::between(&reactor, &server, |address| {
            let below = TcpClientEndpoint::new(match address {
                Address::Tcp(address) => address,
                other => unreachable!("{other} is no TCP address"),
            });
            TlsClientEndpoint::new(below, &config, localhost())
        })
    })
    .check();
}

#[test]
fn tls_over_unix_keeps_the_contract() {
    /// Gives the stream away, and stays behind on one that goes nowhere.
    struct Taken(Rc<RefCell<Option<Rc<dyn Stream>>>>);
    impl Protocol for Taken {
        fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
            let reactor = stream.socket().reactor();
            self.0.replace(Some(stream));
            MemoryStream::new(&reactor)
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    let authority = Authority::new();
    Contract::new(move || {
        let reactor = Reactor::new().expect("a reactor");
        let (first, second) = (Rc::default(), Rc::default());
        let place = |slot: &Rc<_>| Taken(Rc::clone(slot));
        reactor
            .connect_pair(|_| place(&first), |_| place(&second))
            .expect("there are descriptors left");
        let taken = |slot: Rc<RefCell<Option<_>>>| slot.take().expect("it was given away");
        let below = (reactor, taken(first), taken(second));
        ends(secured(secure_within(&authority, below, PATIENCE)))
    })
    .reset_is(is_cut_off)
    .check();
}

#[test]
fn tls_over_tls_keeps_the_contract() {
    let authority = Authority::new();
    Contract::new(move || {
        let below = secure(&authority, memory(Chunks::Whole, CAPACITY));
        ends(secured(secure(&authority, below)))
    })
    .reset_is(is_cut_off)
    .check();
}

#[test]
fn a_stream_in_the_clear_keeps_the_contract() {
    Contract::new(|| {
        let (reactor, client, server) = memory(Chunks::Whole, CAPACITY);
        let client = TlsStream::in_the_clear(client);
        Ends::new(reactor, client, TlsStream::in_the_clear(server))
    })
    .check();
}
