//! Every transport keeps the rule book of streams.

use torsade_reactor::testing::contract::{Contract, Ends};
use torsade_reactor::testing::{Chunks, memory_pair, virtual_time_reactor};
use torsade_reactor::{TcpClientEndpoint, TcpServerEndpoint};

use crate::common::reactor;
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
