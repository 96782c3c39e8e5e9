//! Echo: every byte comes back.
//!
//! `cargo run --release --example echo [ADDRESS]`, then `nc 127.0.0.1 8007`.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the demo and the tests include this file"
)]

use std::process::ExitCode;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// One connection. It has no state, so it is empty.
pub struct Echo;

impl Protocol for Echo {
    // Called whenever bytes have come, in whatever pieces the network made of them.
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        // Never blocks. If the peer does not read, the reactor stops reading from it.
        transport.write(data);
    }
}

/// Listens; the closure builds an `Echo` for each connection.
pub fn listen(reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
    reactor.listen_tcp(address, |_peer: &Address| Echo)
}

fn main() -> ExitCode {
    common::run("echo", |reactor| {
        let port = listen(reactor, &common::address_or("127.0.0.1:8007"))?;
        common::serve(reactor, &port)
    })
}
