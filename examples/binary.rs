//! An `async fn` that calls itself twice, and waits for both at the same time.
//!
//! `cargo run --release --example binary`

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

/// How long each call waits before it goes on.
pub const PAUSE: Duration = Duration::from_secs(1);

/// How many calls it takes to call itself twice, down to zero: 63 for 5.
///
/// Each call waits for [`PAUSE`], but those of one level do so together: six pauses in
/// all, not 63.
pub async fn binary(reactor: Reactor, depth: u32) -> Result<u32, Failure> {
    sleep(&reactor, PAUSE).await?;
    if depth == 0 {
        return Ok(1);
    }
    // A `Deferred` has begun before anybody awaits it. And it is a box, without which an
    // `async fn` cannot hold another call of itself.
    let left = Deferred::<u32>::from_future(binary(reactor.clone(), depth - 1));
    let right = Deferred::<u32>::from_future(binary(reactor, depth - 1));
    Ok(1 + left.await? + right.await?)
}

/// Prints what `binary(5)` gives.
pub fn print_binary(reactor: &Reactor, print: impl Fn(&str) + 'static) -> Deferred<()> {
    let calls = Deferred::<u32>::from_future(binary(reactor.clone(), 5));
    calls.add_callback(move |calls| print(&format!("binary(5) is {calls}")))
}

fn main() -> ExitCode {
    common::run("binary", |reactor| {
        reactor.run_until(print_binary(reactor, common::say))
    })
}
