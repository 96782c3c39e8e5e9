//! A proxy: what comes to it goes on to another address, and back.
//!
//! `cargo run --release --example proxy tcp:8008 tcp:127.0.0.1:8007`, with any two endpoints. It
//! says how much each connection carried.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::reactor::{Carried, Stream, tunnel};

#[path = "common/mod.rs"]
mod common;

/// Where it listens, unless it is told.
pub const FRONT: &str = "tcp:8008:interface=127.0.0.1";

/// Where it connects, unless it is told.
pub const BACK: &str = "tcp:127.0.0.1:8007";

/// What all connections did so far.
#[derive(Default)]
pub struct Statistics {
    /// Connections that stand.
    pub open: Cell<usize>,
    /// Connections that are over.
    pub finished: Cell<usize>,
    /// Clients for whom nobody could be reached.
    pub refused: Cell<usize>,
    /// Bytes from clients, of connections that are over.
    pub forth: Cell<u64>,
    /// Bytes to clients, of connections that are over.
    pub back: Cell<u64>,
}

/// Listens at `front`, and connects each that comes to `back`.
pub fn listen(
    reactor: &Reactor,
    front: &impl ServerEndpoint,
    back: impl ClientEndpoint + 'static,
    statistics: &Rc<Statistics>,
) -> Deferred<Port> {
    let (statistics, weak) = (Rc::clone(statistics), reactor.downgrade());
    front.listen_streams(
        reactor,
        Rc::new(move |client: Rc<dyn Stream>| {
            let Some(reactor) = weak.upgrade() else {
                return;
            };
            forward(client, back.connect_stream(&reactor), &statistics);
        }),
    )
}

/// The client waits meanwhile: a stream without a receiver reads nothing, and loses nothing.
fn forward(
    client: Rc<dyn Stream>,
    connecting: Deferred<Rc<dyn Stream>>,
    statistics: &Rc<Statistics>,
) {
    let peer = client.socket().peer();
    let (at_start, at_end) = (Rc::clone(statistics), Rc::clone(statistics));
    let refused = Rc::clone(&client);
    let done = connecting.add_callback(move |server| {
        at_start.open.set(at_start.open.get() + 1);
        tunnel(client, server).add_callback(move |carried| {
            at_start.open.set(at_start.open.get() - 1);
            Ok(carried)
        })
    });
    // Dropped: both outcomes end here.
    drop(done.add_callbacks(
        move |Carried { forth, back }| {
            at_end.finished.set(at_end.finished.get() + 1);
            at_end.forth.set(at_end.forth.get() + forth);
            at_end.back.set(at_end.back.get() + back);
            common::say(&format!("{peer}: {forth} bytes forth, {back} back"));
            Ok(())
        },
        {
            let statistics = Rc::clone(statistics);
            move |failure| {
                statistics.refused.set(statistics.refused.get() + 1);
                common::say(&format!("{failure}"));
                refused.abort_connection(ConnectionLost::Failed(failure));
                Ok(())
            }
        },
    ));
}

fn main() -> ExitCode {
    common::run("proxy", |reactor| {
        let mut arguments = std::env::args().skip(1);
        let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
        let front = torsade::server_from_string(&argument(FRONT))?;
        let back = torsade::client_from_string(&argument(BACK))?;
        let statistics = Rc::default();
        let port = reactor.run_until(listen(reactor, &front, back, &statistics))?;
        common::serve(reactor, &port)?;
        let (finished, refused) = (statistics.finished.get(), statistics.refused.get());
        let (forth, back) = (statistics.forth.get(), statistics.back.get());
        common::say(&format!(
            "{finished} connections carried {forth} bytes forth and {back} back; {refused} refused"
        ));
        Ok(())
    })
}
