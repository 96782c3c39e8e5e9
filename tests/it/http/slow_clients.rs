//! Clients that take their responses slowly, or not at all.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{Body, Request, Site, StaticFiles};
use torsade::reactor::Factory;
use torsade::reactor::task::sleep;
use torsade::reactor::testing::{Chunks, memory_pair, virtual_time_reactor};

const LENGTH: usize = 1 << 20;

/// Counts what it gets.
#[derive(Clone, Default)]
struct Taker {
    taken: Rc<Cell<usize>>,
    is_over: Rc<Cell<bool>>,
}

impl Protocol for Taker {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.taken.set(self.taken.get() + data.len());
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.is_over.set(true);
    }
}

/// A client that takes so many bytes each second, for so long or until the connection is over: how many
/// there were, how long it took, and whether it is over.
fn take(site: &Site, request: &str, rate: usize, seconds: u64) -> (usize, u64, bool) {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    pair.pump
        .set_chunks(Chunks::Of(if rate == 0 { 10_000 } else { rate }));
    let protocol = site
        .clone()
        .build_protocol(&pair.server.socket().peer())
        .expect("nobody is refused");
    let server = Rc::clone(&pair.server);
    Transport::connect(protocol, pair.server);
    let taker = Taker::default();
    let client = Transport::connect(taker.clone(), pair.client);
    client.write(request);
    client.pause_reading();
    for second in 0..seconds {
        let slept = reactor.run_until(sleep(&reactor, Duration::from_secs(1)));
        slept.expect("nobody stops it");
        if rate > 0 {
            client.resume_reading();
            let turned = reactor.turn(Some(Duration::ZERO));
            turned.expect("it can be turned");
            client.pause_reading();
        }
        if taker.is_over.get() {
            return (taker.taken.get(), second, true);
        }
    }
    let is_over = !server.is_connected() && server.unsent() == 0;
    (taker.taken.get(), seconds, is_over)
}

fn sites(folder: &Path) -> [(&'static str, Site); 3] {
    std::fs::write(folder.join("long"), vec![b'f'; LENGTH]).expect("it can be written");
    let memory = Site::new(|_: Request| Body::from(vec![b'm'; LENGTH]));
    let stream = Site::new(|_: Request| {
        let (sender, body) = Body::channel();
        for _ in 0..LENGTH / 1024 {
            sender.write(vec![b's'; 1024]).expect("it is read");
        }
        sender.finish();
        body
    });
    [
        ("memory", memory),
        ("stream", stream),
        ("file", Site::new(StaticFiles::new(folder))),
    ]
}

#[test]
fn a_client_that_takes_a_little_at_a_time_gets_all_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, site) in sites(folder.path()) {
        for (kind, request) in [
            ("kept", "GET /long HTTP/1.1\r\nHost: a\r\n\r\n"),
            (
                "closed",
                "GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            ("1.0", "GET /long HTTP/1.0\r\n\r\n"),
        ] {
            let (taken, time, _) = take(&site, request, 2_000, 300);
            assert!(taken > LENGTH, "{name} {kind}: {taken} bytes, {time} s");
        }
    }
}

#[test]
fn a_client_that_takes_nothing_or_next_to_nothing_is_aborted() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, site) in sites(folder.path()) {
        for rate in [0, 20] {
            for end in ["keep-alive", "close"] {
                let request = format!("GET /long HTTP/1.1\r\nHost: a\r\nConnection: {end}\r\n\r\n");
                let (taken, _, is_over) = take(&site, &request, rate, 65);
                assert!(taken < LENGTH / 2, "{name} {rate}: {taken} bytes");
                assert!(is_over, "{name} {rate} {end}: {taken} bytes");
            }
        }
    }
}
