//! Generators inside generators: squares then cubes, three times over.
//!
//! `cargo run --release --example nested_generators`
//!
//! An `async fn` is a generator that yields where it awaits and returns at its end. One
//! that calls another awaits it, and gets what it returned.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::task::sleep;

#[path = "common/mod.rs"]
mod common;

/// Where the numbers go.
struct Output<P> {
    reactor: Reactor,
    print: P,
}

impl<P: Fn(&str)> Output<P> {
    /// Gives a number out and leaves the loop its turn, as `yield` does elsewhere.
    async fn give(&self, number: u32) -> Result<(), Failure> {
        (self.print)(&number.to_string());
        sleep(&self.reactor, Duration::ZERO).await
    }
}

async fn squares(output: &Output<impl Fn(&str)>) -> Result<&'static str, Failure> {
    for n in 1..=4_u32 {
        output.give(n.pow(2)).await?;
    }
    Ok("no more squares")
}

async fn cubes(output: &Output<impl Fn(&str)>) -> Result<&'static str, Failure> {
    for n in 1..=4_u32 {
        output.give(n.pow(3)).await?;
    }
    Ok("no more cubes")
}

async fn squares_and_cubes(output: &Output<impl Fn(&str)>) -> Result<&'static str, Failure> {
    for _ in 0..3 {
        let closing = squares(output).await?;
        (output.print)(closing);
        let closing = cubes(output).await?;
        (output.print)(closing);
    }
    Ok("three times is enough")
}

/// Prints it all. Fires when the last number is out.
pub fn nested_generators(reactor: &Reactor, print: impl Fn(&str) + 'static) -> Deferred<()> {
    let reactor = reactor.clone();
    Deferred::from_future(async move {
        let output = Output { reactor, print };
        let closing = squares_and_cubes(&output).await?;
        (output.print)(closing);
        Ok(())
    })
}

fn main() -> ExitCode {
    common::run("nested_generators", |reactor| {
        reactor.run_until(nested_generators(reactor, common::say))
    })
}
