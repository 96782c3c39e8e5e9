//! A request that waits for a result, and blocks nobody while it waits.
//!
//! `cargo run --release --example handle_request`
//!
//! The database is a stand-in that takes its time; what matters is the shape: a lookup
//! gives a `Deferred` at once, and the request goes on in its callback.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the demo and the tests include this file"
)]

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use torsade::deferred::gather_results;
use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// How long the stand-in looks for a row.
pub const LOOKUP: Duration = Duration::from_millis(100);

/// Somewhere else where rows are, and where asking takes a while.
pub struct Database;

impl Database {
    /// Finds the row of `name`. The answer comes later, as a value or as a failure.
    pub fn look_up(&self, reactor: &Reactor, name: &str) -> Deferred<u32> {
        let found = match name {
            "ann" => Ok(36),
            "bob" => Ok(41),
            _ => Err(NotFound {
                name: name.to_owned(),
            }),
        };
        // The two ends: whoever does the work fires the one, whoever asked waits with
        // the other.
        let (trigger, deferred) = Deferred::new();
        reactor.call_later(LOOKUP, move || match found {
            Ok(age) => trigger.callback(age),
            Err(error) => trigger.errback(error),
        });
        deferred
    }
}

/// There is no such row.
#[derive(Debug)]
pub struct NotFound {
    name: String,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nobody is called {:?}", self.name)
    }
}

impl std::error::Error for NotFound {}

/// Answers one request.
pub fn handle_request(reactor: &Reactor, database: &Database, name: &str) -> Deferred<String> {
    let asked = name.to_owned();
    database
        .look_up(reactor, name)
        // Called when the row is here; a failure passes by.
        .add_callback(move |age| Ok(format!("200 {asked} is {age} years old")))
        // Called for a failure. `trap` takes the error that we expect; any other stays a
        // failure, for whoever waits for the answer.
        .add_errback(|failure| {
            failure
                .trap::<NotFound>()
                .map(|error| format!("404 {error}"))
        })
}

/// The same as a server: a line is a request, a line is the answer.
pub struct Requests {
    database: Database,
}

impl LineReceiver for Requests {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let name = String::from_utf8_lossy(line);
        let answer = handle_request(&transport.reactor(), &self.database, name.trim());
        // One at a time: the next request waits, also if it has come already.
        transport.pause_reading();
        // `when` brings the answer together with `self` and the transport. Should the
        // connection be lost first, the Deferred is cancelled.
        transport.when(answer, |_this, transport, answer| {
            match answer {
                Ok(line) => transport.send_line(line),
                Err(failure) => transport.send_line(format!("500 {failure}")),
            }
            transport.resume_reading();
        });
    }
}

/// Listens for requests.
pub fn listen(reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
    reactor.listen_tcp(address, |_peer: &Address| {
        Lines::new(Requests { database: Database })
            .delimiter(Delimiter::LineFeed)
            .max_length(80)
    })
}

/// Handles two requests at the same time and prints their answers.
pub fn two_requests(reactor: &Reactor, print: impl Fn(&str) + Clone + 'static) -> Deferred<()> {
    let answers = ["ann", "nobody"].map(|name| {
        let (print, name) = (print.clone(), name.to_owned());
        print(&format!("request for {name}"));
        handle_request(reactor, &Database, &name)
            .add_callback(move |answer| print(&format!("{name}: {answer}")))
    });
    gather_results(answers).map(|_| ())
}

fn main() -> ExitCode {
    common::run("handle_request", |reactor| {
        let done = two_requests(reactor, common::say);
        // Runs the loop until the Deferred has fired, and gives its result.
        reactor.run_until(done)
    })
}
