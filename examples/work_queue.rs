//! Two workers share a queue, and take turns at their work, a unit at a time.
//!
//! `cargo run --release --example work_queue`

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

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::reactor::task::Cooperator;

#[path = "common/mod.rs"]
mod common;

/// How many units of work each job is.
pub const JOBS: [u32; 4] = [15, 10, 5, 2];

/// Starts two workers on one queue of [`JOBS`]. Fires when the queue is empty and both
/// are done.
pub fn work_queue(reactor: &Reactor, print: impl Fn(&str) + Clone + 'static) -> Deferred<()> {
    let queue = Rc::new(RefCell::new(VecDeque::from(JOBS)));
    // It makes a step of the one, a step of the other, and leaves the loop its time.
    let cooperator = Cooperator::new(reactor);
    let workers = ["one", "two"].map(|name| {
        let worker = Worker {
            name,
            queue: Rc::clone(&queue),
            job: 0,
            left: 0,
            print: print.clone(),
        };
        cooperator.coiterate(worker)
    });
    gather_results(workers).map(drop)
}

/// Long work as an iterator: each `next` is one unit of it, and no call is long.
struct Worker<P> {
    name: &'static str,
    queue: Rc<RefCell<VecDeque<u32>>>,
    /// How large the present job is, and how much of it is left.
    job: u32,
    left: u32,
    print: P,
}

impl<P: Fn(&str)> Iterator for Worker<P> {
    /// Nothing to wait for: the step is done when `next` returns.
    type Item = ();

    fn next(&mut self) -> Option<()> {
        let Self { name, print, .. } = self;
        if self.left == 0 {
            if self.job > 0 {
                print(&format!("worker {name}: {} units done", self.job));
            }
            // None left: this worker is through.
            self.job = self.queue.borrow_mut().pop_front()?;
            self.left = self.job;
            print(&format!("worker {name}: takes {} units", self.job));
        }
        self.left -= 1;
        Some(())
    }
}

fn main() -> ExitCode {
    common::run("work_queue", |reactor| {
        reactor.run_until(work_queue(reactor, common::say))
    })
}
