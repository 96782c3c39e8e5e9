//! Two counters for ever, in turn, until it is enough.
//!
//! `cargo run --release --example two_counters [LINES]`

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::reactor::task::{Cooperator, TaskError};

#[path = "common/mod.rs"]
mod common;

/// Counts twice without an end, a number of the one, a number of the other, and stops
/// both after so many lines. Fires then.
pub fn two_counters(
    reactor: &Reactor,
    lines: usize,
    print: impl Fn(&str) + Clone + 'static,
) -> Deferred<()> {
    let (cooperator, left) = (Cooperator::new(reactor), Rc::new(Cell::new(lines)));
    let counters = ["one", "two"].map(|name| {
        let (print, left, everybody) = (print.clone(), Rc::clone(&left), cooperator.clone());
        // It has no end; but each step has, and then it is the other one's turn.
        let counter = (1_u64..).map(move |number| match left.get() {
            0 => everybody.stop(),
            lines => {
                print(&format!("counter {name}: {number}"));
                left.set(lines - 1);
            }
        });
        let counted = cooperator.coiterate(counter);
        // Stopping them is how this ends, so here that is no failure.
        counted.add_errback(|failure| failure.trap::<TaskError>().map(drop))
    });
    gather_results(counters).map(drop)
}

fn main() -> ExitCode {
    common::run("two_counters", |reactor| {
        let lines = common::address_or("10").parse()?;
        reactor.run_until(two_counters(reactor, lines, common::say))
    })
}
