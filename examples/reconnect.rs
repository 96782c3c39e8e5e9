//! Keeps one connection to a server that comes and goes.
//!
//! `cargo run --release --example reconnect [ENDPOINT]`
//!
//! Says what becomes of each connection, and prints what the server sends. Start it without a
//! server, start one (`nc -C -lk 8011`, or the `chat` example), end it, and watch. The endpoint is
//! text, such as `tcp:localhost:8011` or `unix:/tmp/socket`.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    reason = "the tests include this file"
)]

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// Says something.
pub type Print = Rc<dyn Fn(&str)>;

/// One connection: greets, and prints what it is told.
pub struct Reader {
    print: Print,
}

impl LineReceiver for Reader {
    fn line_received(&mut self, _transport: &LineTransport<Self>, line: &[u8]) {
        (self.print)(&format!("> {}", String::from_utf8_lossy(line)));
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        (self.print)(&format!("lost: {reason}"));
    }
}

/// A service that keeps a connection to `endpoint`, and greets the server on each before it
/// counts as connected.
pub fn keep_connected(
    reactor: &Reactor,
    endpoint: impl ClientEndpoint + 'static,
    print: Print,
) -> ClientService<Lines<Reader>> {
    let connected = Rc::clone(&print);
    ClientService::new(reactor, endpoint, move |_peer: &Address| {
        Lines::new(Reader {
            print: Rc::clone(&print),
        })
    })
    .prepare_connection(move |transport| {
        connected(&format!("connected to {}", transport.peer()));
        transport.send_line("hello");
        // Ready when the system has it; a login would wait for the answer.
        transport.flush()
    })
}

fn main() -> ExitCode {
    common::run("reconnect", |reactor| {
        let text = common::address_or("tcp:localhost:8011");
        let endpoint = torsade::client_from_string(&text)?;
        let service = keep_connected(reactor, endpoint, Rc::new(common::say)).retry_policy(
            // A random number per process would go here, so that many clients do not all
            // come in the same moment.
            Backoff::new(u64::from(std::process::id())).max(Duration::from_secs(10)),
        );
        service.start();
        drop(service.when_connected_or_failed(1).add_errback({
            let service = service.clone();
            move |failure| {
                common::say(&format!("{failure}; trying again"));
                service.when_connected()
            }
        }));
        // Ctrl-C ends it.
        reactor.run()?;
        Ok(())
    })
}
