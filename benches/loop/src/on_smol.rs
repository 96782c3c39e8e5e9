//! What smol has of the tables: tasks of a `LocalExecutor`, timers, channels, descriptors.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use smol::future::yield_now;
use smol::{Async, LocalExecutor, Timer, channel};

use crate::call_soon::batches;
use crate::from_threads::{boxed, calls_of, threads};
use crate::latency::{self, AWAKE, POSTS, heard};
use crate::timers::{self, CANCELLED, Delays, now, register, sleeper};
use crate::{MADE, made, measure, report, turn};

pub fn calls<F: Future<Output = ()> + 'static>(count: usize, mut call: impl FnMut() -> F) {
    let executor = LocalExecutor::new();
    let spawn = || executor.spawn(call()).detach();
    smol::block_on(executor.run(batches(count, spawn, yield_now)));
}

pub fn cancels(pending: usize, at_once: bool) {
    let put = |delay: Duration| {
        let mut timer = Box::pin(Timer::after(delay));
        register(timer.as_mut());
        timer
    };
    smol::block_on(async { timers::cancels((pending, CANCELLED), at_once, put, drop) });
}

pub fn fires(count: usize) {
    let executor = LocalExecutor::new();
    let mut delays = Delays::new();
    report(measure(count, || {
        smol::block_on(executor.run(async {
            let until = MADE.get() + count;
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            for _ in 0..count {
                let deadline = now() + delays.short(count);
                let task = sleeper(Timer::at(deadline), deadline, until, sender.clone());
                executor.spawn(task).detach();
            }
            receiver.recv().await.expect("the last one says so");
        }));
    }));
}

pub fn from_threads(count: usize) {
    let (sender, receiver) = channel::unbounded();
    let poster = || {
        let sender = sender.clone();
        move |number| assert!(sender.try_send(boxed(number)).is_ok(), "somebody listens")
    };
    let executor = LocalExecutor::new();
    threads(count, poster, || {
        let task = executor.spawn(async {
            for _ in 0..calls_of(count) {
                receiver.recv().await.expect("somebody posts")();
            }
        });
        smol::block_on(executor.run(task));
    });
}

pub fn latency(busy: usize) {
    let (sender, receiver) = channel::unbounded();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let thread = latency::poster(&made, move |posted| {
        let call = latency::boxed(posted, &count);
        assert!(sender.try_send(call).is_ok(), "somebody listens");
    });
    let executor = LocalExecutor::new();
    if busy == AWAKE {
        let task = executor.spawn(async {
            loop {
                yield_now().await;
            }
        });
        task.detach();
    }
    let task = executor.spawn(async {
        for _ in 0..POSTS {
            receiver.recv().await.expect("somebody posts")();
        }
    });
    smol::block_on(executor.run(task));
    thread.join().expect("it posts and ends");
    heard().report();
}

fn waits(count: usize, near: OwnedFd, mut callback: impl FnMut(&OwnedFd)) {
    let near = Async::new(near).expect("it can be watched");
    let mut turns = || {
        smol::block_on(async {
            let until = MADE.get() + count;
            while MADE.get() < until {
                near.readable().await.expect("it can be watched");
                callback(near.get_ref());
            }
        });
    };
    turns();
    report(measure(count, turns));
}

pub fn turns(count: usize) {
    waits(count, turn::always_ready(), |_| made());
}

pub fn answers(count: usize) {
    let (near, far) = turn::pair();
    waits(count, near, |near| {
        turn::answer(near, &far);
    });
}
