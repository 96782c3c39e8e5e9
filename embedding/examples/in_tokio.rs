//! A reactor in tokio's runtime, by descriptor and deadline: a task among others.
//!
//! `cargo run --example in_tokio`, then `nc 127.0.0.1 8007`.

use std::future;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use torsade::prelude::*;

/// Drives `reactor` while the predicate says so: one turn after the other, and in between a
/// wait for whatever comes first. A reactor stays on its thread, so this is a local task.
pub async fn drive(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) -> Result<(), Failure> {
    let descriptor = reactor.as_fd().try_clone_to_owned()?;
    #[allow(
        deprecated,
        reason = "its unsafe successor asks for what an owned descriptor keeps: to stay open"
    )]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    loop {
        reactor.turn(Some(Duration::ZERO))?;
        if !goes_on() {
            return Ok(());
        }
        // Tokio hears of changes, and of a descriptor that stays readable it hears nothing.
        if reactor.is_work_pending() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            readable = descriptor.readable() => readable?.clear_ready(),
            () = passed(reactor.next_deadline()) => {}
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp("127.0.0.1:8007", |_: &Address| Echo)?;
    println!("listening on {}", port.address());
    drive(&reactor, || true).await
}
