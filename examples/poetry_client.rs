//! Fetches poems from many servers at once, and says who sent what and when.
//!
//! `cargo run --release --example poetry_client ADDRESS...`
//!
//! All are fetched together, so that it takes as long as the slowest, not as long as all
//! in a row. What a server refuses or breaks off is reported, and the rest is printed.
//! The exit status is 0 if every poem came, 1 if one did not.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    reason = "the tests include this file"
)]

use std::fmt;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::deferred::gather_results;
use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// More than any poem. Whatever a peer can make grow has a limit.
const POEM_MAX: usize = 1 << 20;

/// One connection to a poet.
struct Reader {
    poem: Vec<u8>,
    /// Fires when the poem is over; `None` after that.
    trigger: Option<Trigger<String>>,
}

impl Protocol for Reader {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.poem.extend_from_slice(data);
        if self.poem.len() > POEM_MAX {
            transport.abort_connection();
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        let Some(trigger) = self.trigger.take() else {
            return;
        };
        // Nothing else says that a poem is over: so the connection must have ended well,
        // and a poem ends with the end of a line.
        if reason.is_clean() && self.poem.ends_with(b"\n") {
            trigger.callback(String::from_utf8_lossy(&self.poem).into_owned());
        } else {
            trigger.errback(BrokenOff {
                received: self.poem.len(),
                reason,
            });
        }
    }
}

/// A poem did not come to its end.
#[derive(Debug)]
pub struct BrokenOff {
    received: usize,
    reason: ConnectionLost,
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "broke off after {} bytes: {}",
            self.received, self.reason
        )
    }
}

impl std::error::Error for BrokenOff {}

/// Fetches one poem.
pub fn fetch(reactor: &Reactor, address: &str) -> Deferred<String> {
    reactor
        .connect_tcp(address, |_peer: &Address| Reader {
            poem: Vec::new(),
            trigger: None,
        })
        .add_callback(|transport| {
            let (trigger, poem) = Deferred::new();
            // The protocol is in its seat; `call` leads to it.
            transport.call(|reader, _| reader.trigger = Some(trigger));
            // A callback that returns a Deferred makes the chain wait for it.
            poem
        })
}

/// What came of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many poems came.
    pub poems: usize,
    /// How many servers were asked.
    pub asked: usize,
    /// From the first question to the last answer.
    pub took: Duration,
}

/// Prints each poem when it comes, or why it does not, and at the end the total.
pub fn report(
    reactor: &Reactor,
    fetches: impl IntoIterator<Item = (String, Deferred<String>)>,
    print: impl Fn(&str) + 'static,
) -> Deferred<Summary> {
    let (began, print) = (reactor.now(), Rc::new(print));
    let reports: Vec<_> = fetches
        .into_iter()
        .map(|(address, poem)| {
            let (reactor, print) = (reactor.clone(), Rc::clone(&print));
            // Whichever way it goes, it is printed, and that is no failure any more.
            poem.add_both(move |outcome| {
                let took = seconds(reactor.now() - began);
                match &outcome {
                    Ok(poem) => {
                        print(&format!(
                            "{address} sent {} bytes after {took}:",
                            poem.len()
                        ));
                        print(poem.trim_end());
                    }
                    Err(failure) => print(&format!("{address} failed after {took}: {failure}")),
                }
                Ok(outcome.is_ok())
            })
        })
        .collect();
    let reactor = reactor.clone();
    gather_results(reports).map(move |came: Vec<bool>| {
        let poems = came.iter().filter(|came| **came).count();
        let summary = Summary {
            poems,
            asked: came.len(),
            took: reactor.now() - began,
        };
        print(&format!(
            "{} of {} poems in {}",
            poems,
            summary.asked,
            seconds(summary.took)
        ));
        summary
    })
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Fetches from all of these at once.
pub fn fetch_all(
    reactor: &Reactor,
    addresses: impl IntoIterator<Item = String>,
    print: impl Fn(&str) + 'static,
) -> Deferred<Summary> {
    let fetches: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let poem = fetch(reactor, &address);
            (address, poem)
        })
        .collect();
    report(reactor, fetches, print)
}

fn main() -> ExitCode {
    common::run("poetry_client", |reactor| {
        let addresses: Vec<_> = std::env::args().skip(1).collect();
        if addresses.is_empty() {
            return Err(Failure::message("which servers? say ADDRESS..."));
        }
        let summary = reactor.run_until(fetch_all(reactor, addresses, common::say))?;
        if summary.poems < summary.asked {
            let missing = summary.asked - summary.poems;
            return Err(Failure::message(format!(
                "{missing} of the poems did not come"
            )));
        }
        Ok(())
    })
}
