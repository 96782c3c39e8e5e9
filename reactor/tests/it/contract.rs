//! Every transport keeps the rule book of streams.

use std::cell::RefCell;
use std::rc::Rc;

use torsade_reactor::testing::contract::{Contract, Ends};
use torsade_reactor::testing::{Chunking, Chunks, MemoryStream, memory_pair, virtual_time_reactor};
use torsade_reactor::{Protocol, Stream, TcpClientEndpoint, TcpServerEndpoint, Transport};

use crate::common::{reactor, simulated_ends};
use crate::veil::Veil;

#[test]
fn tcp_keeps_the_contract() {
    Contract::new(|| {
        let loopback = TcpServerEndpoint::new("127.0.0.1:0");
        Ends::between(&reactor(), &loopback, TcpClientEndpoint::new)
    })
    .check();
}

#[test]
fn memory_keeps_the_contract_in_every_chunking() {
    for (chunks, capacity, volume) in [
        (Chunks::Whole, 64 * 1024, 200_000),
        (Chunks::Of(1), 100, 12_000),
        (Chunks::Sizes(vec![1, 1000, 7]), 5_000, 50_000),
    ] {
        let ends = move || {
            let reactor = virtual_time_reactor();
            let pair = memory_pair(&reactor);
            pair.pump.set_chunks(chunks.clone());
            pair.pump.set_capacity(capacity);
            Ends::new(reactor, pair.client, pair.server)
        };
        Contract::new(ends).volume(volume).check();
    }
}

#[test]
fn memory_keeps_the_contract_on_the_systems_own_reactor() {
    Contract::new(|| {
        let reactor = reactor();
        let pair = memory_pair(&reactor);
        pair.pump.set_delay(1);
        Ends::new(reactor, pair.client, pair.server)
    })
    .check();
}

#[test]
fn a_layer_keeps_the_contract() {
    Contract::new(|| {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        pair.pump.set_chunks(Chunks::Sizes(vec![100, 1, 5000]));
        Ends::new(reactor, Veil::over(pair.client), Veil::over(pair.server))
    })
    .check();
}

#[test]
fn unix_keeps_the_contract() {
    /// Gives the stream away before anybody receives from it, and stays behind on one that
    /// goes nowhere.
    struct Taken(Rc<RefCell<Option<Rc<dyn Stream>>>>);
    impl Protocol for Taken {
        fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
            let reactor = stream.socket().reactor();
            self.0.replace(Some(stream));
            MemoryStream::new(&reactor)
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    Contract::new(|| {
        let (reactor, first, second) = (reactor(), Rc::default(), Rc::default());
        let place = |slot: &Rc<_>| Taken(Rc::clone(slot));
        reactor
            .connect_pair(|_| place(&first), |_| place(&second))
            .expect("there are descriptors left");
        let taken = |slot: Rc<RefCell<Option<_>>>| slot.take().expect("it was given away");
        Ends::new(reactor, taken(first), taken(second))
    })
    .without_resets()
    .check();
}

#[test]
fn simulated_hosts_keep_the_contract_in_every_chunking() {
    for (seed, chunking) in [
        (1, Chunking::Drawn),
        (2, Chunking::Whole),
        (3, Chunking::AtMost(1000)),
        (4, Chunking::Drawn),
    ] {
        Contract::new(move || simulated_ends(seed, chunking)).check();
    }
}
