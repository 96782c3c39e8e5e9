//! The smallest loop: one call, and the end.
//!
//! `cargo run --release --example hello_loop`

#![allow(unreachable_pub, reason = "the tests include this file")]

use std::process::ExitCode;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// Has `print` called with a greeting, from inside the loop, which stops then.
pub fn hello(reactor: &Reactor, print: impl Fn(&str) + 'static) {
    // A reactor is a handle: cheap to clone, and the clone goes into the callback.
    let handle = reactor.clone();
    // Nothing is called here yet; the loop does that once it runs.
    reactor.call_soon(move || {
        print("hello");
        handle.stop();
    });
}

fn main() -> ExitCode {
    common::run("hello_loop", |reactor| {
        hello(reactor, common::say);
        reactor.run()?;
        Ok(())
    })
}
