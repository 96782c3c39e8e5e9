//! Proxies, between clients and servers that are made of a test.

mod at_hand;
mod bodies;
mod examples;
mod forward;
mod gone;
mod interims;
mod programs;
mod reverse;
mod simulated;
mod smuggling;
mod upgrades;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{Client as Asking, ClientLimits, Handler, Origin, Site};
use torsade::reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade::reactor::{ClientEndpoint, Stream};

use super::Client;

/// A proxy, a client in front of it and the servers behind it.
struct Between {
    front: Client,
    asking: Asking,
    dialled: Rc<Dialled>,
}

#[derive(Default)]
struct Dialled {
    streams: RefCell<Vec<Rc<MemoryStream>>>,
    origins: RefCell<Vec<String>>,
    /// Whom nobody can connect to.
    refusing: RefCell<Vec<&'static str>>,
    /// Connections are made soon, and not at once.
    late: Cell<bool>,
    /// Connections are not made at all, but begun.
    hanging: Cell<bool>,
}

struct Dial {
    dialled: Rc<Dialled>,
    origin: String,
}

impl ClientEndpoint for Dial {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        self.dialled.origins.borrow_mut().push(self.origin.clone());
        if self.dialled.refusing.borrow().contains(&&*self.origin) {
            return fail(Failure::message("refused"));
        }
        if self.dialled.hanging.get() {
            let (trigger, deferred) = Deferred::new();
            // It never fires; who cancels it ends it.
            let trigger = Rc::new(Cell::new(Some(trigger)));
            let kept = Rc::clone(&trigger);
            reactor.call_later(std::time::Duration::from_secs(10_000), move || drop(kept));
            return deferred;
        }
        let stream = MemoryStream::new(reactor);
        if self.dialled.late.get() {
            let (trigger, deferred) = Deferred::new();
            let made = Rc::clone(&stream);
            reactor.call_soon(move || trigger.callback(made as Rc<dyn Stream>));
            self.dialled.streams.borrow_mut().push(stream);
            return deferred;
        }
        self.dialled.streams.borrow_mut().push(Rc::clone(&stream));
        succeed(stream as Rc<dyn Stream>)
    }
}

impl Between {
    fn with<H: Handler>(proxy: impl FnOnce(&Asking) -> H) -> Self {
        Self::within(ClientLimits::default(), |asking| Site::new(proxy(asking)))
    }

    fn within(limits: ClientLimits, site: impl FnOnce(&Asking) -> Site) -> Self {
        let reactor = virtual_time_reactor();
        let dialled = Rc::<Dialled>::default();
        let endpoints = Rc::clone(&dialled);
        let asking = Asking::new(&reactor)
            .limits(limits)
            .connector(move |origin: &Origin| Dial {
                dialled: Rc::clone(&endpoints),
                origin: origin.to_string(),
            });
        Self {
            front: Client::at(&reactor, &site(&asking)),
            asking,
            dialled,
        }
    }

    /// How many connections there have been to servers.
    fn connections(&self) -> usize {
        self.dialled.streams.borrow().len()
    }

    fn server(&self, index: usize) -> Rc<MemoryStream> {
        Rc::clone(&self.dialled.streams.borrow()[index])
    }

    /// What a server was asked since the last time, the fields in order, but for those that a test does not
    /// look at.
    fn asked(&self, index: usize) -> String {
        let text = self.asked_in_full(index);
        let usual = ["via: ", "forwarded: ", "x-forwarded-"];
        let lines = text.split_inclusive("\r\n");
        lines
            .filter(|line| !usual.iter().any(|usual| line.starts_with(usual)))
            .collect()
    }

    fn asked_in_full(&self, index: usize) -> String {
        let text = self.server(index).take_written();
        String::from_utf8(text).expect("these requests are text")
    }

    /// A server says this.
    fn say(&self, index: usize, text: impl AsRef<[u8]>) {
        self.server(index).receive(text.as_ref());
    }

    fn is_open(&self, index: usize) -> bool {
        self.server(index).is_connected()
    }

    /// The client asks for this, and a server answers with that: what does the client get?
    fn exchange(&self, request: &str, response: &str) -> String {
        self.front.send(request);
        self.say(self.connections() - 1, response);
        self.front.turn();
        self.front.answers()
    }
}

/// The first line of an answer.
fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

/// The lines of a head, in whatever order its fields are: that means nothing.
fn sorted(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.lines().collect();
    lines.sort_unstable();
    lines
}

/// What follows the head.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
