//! What may has of the tables: coroutines on one worker, that sleep, and hear of a channel.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use may::coroutine::{scope, sleep};
use may::go;
use may::sync::mpsc;

use crate::call_soon::BATCH;
use crate::from_threads::{boxed, calls_of, threads};
use crate::latency::{self, AWAKE, POSTS, heard};
use crate::timers::{Delays, check, now};
use crate::{MADE, made, measure, missing, report};

pub const NO_TIMER: &str = "a timer is a coroutine that sleeps: nothing can be taken out";
pub const NO_WATCH: &str = "it reads before it waits: no turn would be taken";

/// Runs `work` as a coroutine, on the thread on which all of them run.
fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    may::config().set_workers(1);
    go!(work).join().expect("it ends")
}

pub fn calls(count: usize) {
    // Each is dearer than a hundred of the others' calls.
    let count = count / 10;
    run(move || {
        // Its end is the end of all that were begun in it.
        let batch = || {
            scope(|scope| {
                for _ in 0..BATCH {
                    go!(scope, made);
                }
            });
        };
        batch();
        report(measure(count, || (0..count / BATCH).for_each(|_| batch())));
    });
}

pub fn fires(count: usize) {
    if count > 10_000 {
        missing("a stack each, which is two mappings: the system has 65,530");
    }
    run(move || {
        let mut delays = Delays::new();
        report(measure(count, || {
            let until = MADE.get() + count;
            for _ in 0..count {
                let delay = delays.short(count);
                let deadline = now() + delay;
                drop(go!(move || {
                    sleep(delay);
                    check(deadline);
                }));
            }
            while MADE.get() < until {
                sleep(std::time::Duration::from_millis(10));
            }
        }));
    });
}

pub fn from_threads(count: usize) {
    let (sender, receiver) = mpsc::channel();
    let poster = || {
        let sender = sender.clone();
        move |number| assert!(sender.send(boxed(number)).is_ok(), "somebody listens")
    };
    threads(count, poster, || {
        let made = run(move || {
            for _ in 0..calls_of(count) {
                receiver.recv().expect("somebody posts")();
            }
            MADE.get()
        });
        // They were made on the worker.
        MADE.set(MADE.get() + made);
    });
}

pub fn latency(busy: usize) {
    if busy == AWAKE {
        missing("what other threads post waits until its worker has nothing of its own to do");
    }
    let (sender, receiver) = mpsc::channel();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let thread = latency::poster(&made, move |posted| {
        let call = latency::boxed(posted, &count);
        assert!(sender.send(call).is_ok(), "somebody listens");
    });
    run(move || {
        for _ in 0..POSTS {
            receiver.recv().expect("somebody posts")();
        }
        heard().report();
    });
    thread.join().expect("it posts and ends");
}
