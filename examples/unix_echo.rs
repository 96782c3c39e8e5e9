//! Echo on a UNIX socket: every byte comes back, and the server knows who is there.
//!
//! `cargo run --release --example unix_echo [PATH]`, then `nc -U /tmp/torsade-echo`. A path
//! that begins with `@` is a name in Linux's abstract namespace.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;

use torsade::prelude::*;
use torsade::reactor::ListenOptions;

#[path = "common/mod.rs"]
mod common;

/// One connection. It has no state, so it is empty.
pub struct UnixEcho;

impl Protocol for UnixEcho {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        // The system vouches for this: no password is as good.
        match transport.stream().socket().peer_credentials() {
            Ok(peer) => transport.write(format!("you are {peer}\n")),
            Err(error) => transport.lose_connection_because(error),
        }
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

/// Listens, for processes of this user alone. The file goes with the port; one that an
/// earlier server has left gives way.
pub fn listen(reactor: &Reactor, path: &str) -> Result<Port, ListenError> {
    let private = ListenOptions::new().mode(0o600);
    reactor.listen_unix_with(path, &private, |_peer: &Address| UnixEcho)
}

fn main() -> ExitCode {
    common::run("unix_echo", |reactor| {
        let port = listen(reactor, &common::address_or("/tmp/torsade-echo"))?;
        common::serve(reactor, &port)
    })
}
