//! Two workers take URLs off a shared queue, and print how long each page took; with `async`.
//!
//! `cargo run --release --example downloads_async [URL ...]`
//!
//! Without URLs, it asks a server of its own whose pages take their time. Two workers need about half
//! of what the pages take together. `downloads_callbacks` is the same with callbacks.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::protocols::http::{Client, Request};
use torsade::reactor::task::defer_later;

#[path = "common/mod.rs"]
mod common;

/// The largest page that is read: 16 MiB.
const PAGE_MAX: usize = 16 << 20;

/// How long the pages of the example's own server take, in milliseconds.
pub const DELAYS: [u64; 6] = [400, 100, 300, 200, 100, 300];

/// What a worker needs: it shares the queue with the other.
struct Worker<P> {
    name: &'static str,
    client: Client,
    reactor: Reactor,
    queue: Rc<RefCell<VecDeque<String>>>,
    print: P,
}

impl<P: Fn(&str)> Worker<P> {
    /// Fetches pages until the queue is empty.
    async fn work(self) -> Result<(), Failure> {
        loop {
            // Borrowed for this line alone: the other worker takes from it, too.
            let next = self.queue.borrow_mut().pop_front();
            let Some(url) = next else { return Ok(()) };
            let began = self.reactor.now();
            // A page that cannot be had is no reason not to fetch the others.
            let outcome = match self.client.get_bytes(&url, PAGE_MAX).await {
                Ok(page) => format!("{} bytes", page.len()),
                Err(failure) => failure.to_string(),
            };
            let took = (self.reactor.now() - began).as_millis();
            (self.print)(&format!("{}: {url}: {outcome} in {took} ms", self.name));
        }
    }
}

/// Fetches all pages with two workers. Fires when the last one is there.
pub fn downloads(
    reactor: &Reactor,
    client: &Client,
    urls: Vec<String>,
    print: impl Fn(&str) + Clone + 'static,
) -> Deferred<()> {
    let queue = Rc::new(RefCell::new(VecDeque::from(urls)));
    let workers = ["one", "two"].map(|name| Worker {
        name,
        client: client.clone(),
        reactor: reactor.clone(),
        queue: Rc::clone(&queue),
        print: print.clone(),
    });
    let reactor = reactor.clone();
    Deferred::from_future(async move {
        let began = reactor.now();
        gather_results(workers.map(|worker| Deferred::from_future(worker.work()))).await?;
        let took = (reactor.now() - began).as_millis();
        print(&format!("all of it in {took} ms"));
        Ok(())
    })
}

/// A page that takes as many milliseconds as its path says: `/300`, for instance.
pub fn slow_page(request: &Request) -> Deferred<String> {
    let path = request.path().trim_start_matches('/');
    let delay = Duration::from_millis(path.parse().unwrap_or(0));
    let text = format!("This page took {delay:?}.\n");
    defer_later(&request.reactor(), delay, move || Ok(text))
}

fn main() -> ExitCode {
    common::run("downloads_async", |reactor| {
        let mut urls: Vec<String> = std::env::args().skip(1).collect();
        if urls.is_empty() {
            let answer = |request: Request| slow_page(&request);
            let server = http::serve(reactor, "127.0.0.1:0", answer)?;
            let address = server.address();
            let page = |delay| format!("http://{address}/{delay}");
            urls.extend(DELAYS.map(page));
        }
        let client = Client::new(reactor);
        reactor.run_until(downloads(reactor, &client, urls, common::say))
    })
}
