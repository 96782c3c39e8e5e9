//! A task of three seconds, and a callback that comes meanwhile.
//!
//! `cargo run --release --example not_blocked`

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::task::defer_later;

#[path = "common/mod.rs"]
mod common;

/// Begins a task of three seconds, whose result is 42, and has something printed after
/// two. Fires when the task is done.
pub fn not_blocked(reactor: &Reactor, print: impl Fn(&str) + Clone + 'static) -> Deferred<()> {
    print("the task begins");
    // This returns at once; the result comes to the callback.
    let task = defer_later(reactor, Duration::from_secs(3), || Ok(42));
    let meanwhile = print.clone();
    reactor.call_later(Duration::from_secs(2), move || {
        meanwhile("see, I'm not blocked")
    });
    task.add_callback(move |result| print(&format!("the result is {result}")))
}

fn main() -> ExitCode {
    common::run("not_blocked", |reactor| {
        reactor.run_until(not_blocked(reactor, common::say))
    })
}
