//! The client, against servers that are made of a test, and against our own.

mod bodies;
mod caching;
mod examples;
mod forms;
mod interim;
mod limits;
mod peers;
mod pool;
mod programs;
mod redirects;
mod requests;
mod secure;
mod simulated;
mod timeouts;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    Client, ClientError, ClientErrorKind, Handler, Origin, Response, Site,
};
use torsade::reactor::task::sleep;
use torsade::reactor::testing::{MemoryStream, memory_pair, success_of, virtual_time_reactor};
use torsade::reactor::{ClientEndpoint, Factory, Stream};

/// A client whose connections end in the hands of the test.
struct Net {
    reactor: Reactor,
    client: Client,
    dialled: Rc<Dialled>,
}

#[derive(Default)]
struct Dialled {
    streams: RefCell<Vec<Rc<MemoryStream>>>,
    origins: RefCell<Vec<String>>,
    /// Connections are not made at once, but when the test says so.
    slow: Cell<bool>,
    /// Connections are refused, at once.
    refusing: Cell<bool>,
    waiting: RefCell<Vec<Attempt>>,
}

/// A connection that is not made yet.
type Attempt = (Trigger<Rc<dyn Stream>>, Rc<MemoryStream>);

struct Dial {
    dialled: Rc<Dialled>,
    origin: String,
}

impl ClientEndpoint for Dial {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let stream = MemoryStream::new(reactor);
        self.dialled.origins.borrow_mut().push(self.origin.clone());
        if self.dialled.refusing.get() {
            return fail(Failure::message("refused"));
        }
        if self.dialled.slow.get() {
            let (trigger, deferred) = Deferred::new();
            self.dialled.waiting.borrow_mut().push((trigger, stream));
            return deferred;
        }
        self.dialled.streams.borrow_mut().push(Rc::clone(&stream));
        succeed(stream as Rc<dyn Stream>)
    }
}

impl Net {
    fn new() -> Self {
        Self::with(|client| client)
    }

    /// With a client that is set up.
    fn with(set_up: impl FnOnce(Client) -> Client) -> Self {
        let reactor = virtual_time_reactor();
        let dialled = Rc::<Dialled>::default();
        let endpoints = Rc::clone(&dialled);
        let client = Client::new(&reactor).connector(move |origin: &Origin| Dial {
            dialled: Rc::clone(&endpoints),
            origin: origin.to_string(),
        });
        let client = set_up(client);
        Self {
            reactor,
            client,
            dialled,
        }
    }

    /// How many connections there have been.
    fn connections(&self) -> usize {
        self.dialled.streams.borrow().len()
    }

    fn stream(&self, index: usize) -> Rc<MemoryStream> {
        Rc::clone(&self.dialled.streams.borrow()[index])
    }

    /// What was asked for on a connection since the last time, without what every request has.
    fn asked(&self, index: usize) -> String {
        let text = self.stream(index).take_written();
        let text = String::from_utf8(text).expect("these requests are text");
        let lines = text.split_inclusive("\r\n");
        let usual = ["user-agent: torsade/", "accept: ", "accept-encoding: "];
        lines
            .filter(|line| !usual.iter().any(|usual| line.starts_with(usual)))
            .collect()
    }

    /// The server says this.
    fn say(&self, index: usize, text: impl AsRef<[u8]>) {
        self.stream(index).receive(text.as_ref());
    }

    fn is_open(&self, index: usize) -> bool {
        self.stream(index).is_connected()
    }

    /// Connections that were given up come to their end.
    fn settle(&self) {
        self.turn();
        let streams = self.dialled.streams.borrow().clone();
        for stream in streams {
            if let Some(reason) = stream.take_reason() {
                stream.end_because(reason);
            }
        }
        self.turn();
    }

    /// Turns the reactor until everything that was asked for soon has happened.
    fn turn(&self) {
        for _ in 0..5 {
            let turned = self.reactor.turn(Some(Duration::ZERO));
            turned.expect("it can be turned");
        }
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        let slept = self.reactor.run_until(sleep(&self.reactor, time));
        slept.expect("nobody stops it");
        self.settle();
    }
}

/// A client of a site, over streams in memory.
fn client_of(reactor: &Reactor, handler: impl Handler) -> Client {
    let site = Site::new(handler);
    struct ToSite(Site);
    impl ClientEndpoint for ToSite {
        fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
            let pair = memory_pair(reactor);
            let protocol = self.0.clone().build_protocol(&pair.server.socket().peer());
            Transport::connect(protocol.expect("nobody is refused"), pair.server);
            succeed(pair.client)
        }
    }
    Client::new(reactor).connector(move |_: &Origin| ToSite(site.clone()))
}

/// The response of a Deferred that has fired: its status, and its body if that is there.
#[track_caller]
fn shown(response: Deferred<Response>) -> String {
    let response = success_of(response);
    let status = response.status();
    let body = success_of(response.into_body().read_text(1 << 20));
    format!("{status}: {body}")
}

/// What went wrong.
#[track_caller]
fn error<T: 'static>(deferred: Deferred<T>) -> ClientError {
    let failure = torsade::reactor::testing::failure_of(deferred);
    failure.trap().expect("a client's error")
}

#[track_caller]
fn kind<T: 'static>(deferred: Deferred<T>) -> String {
    error(deferred).kind().to_string()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
