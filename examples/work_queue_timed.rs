//! Two workers share a queue, and wait at the same time: 17 seconds of work, not 32.
//!
//! `cargo run --release --example work_queue_timed`
//!
//! The same as `work_queue`, but a unit takes a second of waiting. While one worker
//! waits, the other works.

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
use std::time::{Duration, Instant};

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::reactor::task::{Cooperator, sleep};

#[path = "common/mod.rs"]
mod common;

/// How many units of work each job is.
pub const JOBS: [u32; 4] = [15, 10, 5, 2];

/// How long a unit takes.
pub const UNIT: Duration = Duration::from_secs(1);

/// Starts two workers on one queue of [`JOBS`]. Fires when the queue is empty and both
/// are done.
pub fn work_queue(reactor: &Reactor, print: impl Fn(&str) + Clone + 'static) -> Deferred<()> {
    let queue = Rc::new(RefCell::new(VecDeque::from(JOBS)));
    let cooperator = Cooperator::new(reactor);
    let workers = ["one", "two"].map(|name| {
        let worker = Worker {
            name,
            reactor: reactor.clone(),
            begun: reactor.now(),
            queue: Rc::clone(&queue),
            job: 0,
            left: 0,
            print: print.clone(),
        };
        cooperator.coiterate(worker)
    });
    let (clock, begun) = (reactor.clone(), reactor.now());
    gather_results(workers).map(move |_| {
        let seconds = (clock.now() - begun).as_secs();
        print(&format!("both are done after {seconds} s"));
    })
}

struct Worker<P> {
    name: &'static str,
    reactor: Reactor,
    begun: Instant,
    queue: Rc<RefCell<VecDeque<u32>>>,
    /// How large the present job is, and how much of it is left.
    job: u32,
    left: u32,
    print: P,
}

impl<P: Fn(&str)> Iterator for Worker<P> {
    /// The cooperator waits for it before the next step of this worker, and goes on with
    /// the other one meanwhile.
    type Item = Deferred<()>;

    fn next(&mut self) -> Option<Deferred<()>> {
        let Self { name, print, .. } = self;
        let seconds = (self.reactor.now() - self.begun).as_secs();
        if self.left == 0 {
            if self.job > 0 {
                print(&format!(
                    "{seconds:2} s  worker {name}: {} units done",
                    self.job
                ));
            }
            // None left: this worker is through.
            self.job = self.queue.borrow_mut().pop_front()?;
            self.left = self.job;
            print(&format!(
                "{seconds:2} s  worker {name}: takes {} units",
                self.job
            ));
        }
        self.left -= 1;
        Some(sleep(&self.reactor, UNIT))
    }
}

fn main() -> ExitCode {
    common::run("work_queue_timed", |reactor| {
        reactor.run_until(work_queue(reactor, common::say))
    })
}
