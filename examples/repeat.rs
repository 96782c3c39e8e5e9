//! Something again and again, until it is enough.
//!
//! `cargo run --release --example repeat`

#![allow(
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// Greets at once and then every second, for two and a half.
pub fn repeat(reactor: &Reactor, print: impl Fn(&str) + 'static) -> Result<(), RunError> {
    let print: Rc<dyn Fn(&str)> = Rc::new(print);
    greet(reactor.clone(), Rc::clone(&print));

    let handle = reactor.clone();
    reactor.call_later(Duration::from_millis(2500), move || handle.stop());

    print("starting event loop");
    reactor.run()?;
    print("loop stopped");
    Ok(())
}

/// Greets in the next turn, and asks for the next time.
fn greet(reactor: Reactor, print: Rc<dyn Fn(&str)>) {
    let again = reactor.clone();
    reactor.call_soon(move || {
        print("hello");
        let reactor = again.clone();
        // This is not recursion: `call_later` returns at once, and the loop calls.
        again.call_later(Duration::from_secs(1), move || greet(reactor, print));
    });
}

fn main() -> ExitCode {
    common::run("repeat", |reactor| {
        repeat(reactor, common::say)?;
        Ok(())
    })
}
