//! Calls from other threads.

use std::cell::Cell;
use std::sync::mpsc;
use std::thread;

use torsade_reactor::{Reactor, Remote};

use crate::common::reactor;

#[test]
fn a_call_from_a_thread_wakes_the_sleeping_loop() {
    let reactor = reactor();
    let remote = reactor.remote();
    let thread = thread::spawn(move || remote.call_from_thread(Reactor::stop));
    reactor.run().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_call_posted_before_running_is_made_when_it_runs() {
    let reactor = reactor();
    reactor.remote().stop();
    reactor.run().unwrap();
}

#[test]
fn calls_of_four_threads_all_arrive_each_threads_in_order() {
    const EACH: usize = 25_000;
    thread_local! {
        static NEXT: Cell<[usize; 4]> = const { Cell::new([0; 4]) };
    }
    let reactor = reactor();
    let threads: Vec<_> = (0..4)
        .map(|index: usize| {
            let remote = reactor.remote();
            thread::spawn(move || {
                for number in 0..EACH {
                    remote.call_from_thread(move |reactor| {
                        let mut next = NEXT.get();
                        assert_eq!(next[index], number, "of thread {index}");
                        next[index] += 1;
                        NEXT.set(next);
                        if next == [EACH; 4] {
                            reactor.stop();
                        }
                    });
                }
            })
        })
        .collect();
    reactor.run().unwrap();
    assert_eq!(NEXT.get(), [EACH; 4]);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_call_from_a_call_waits_for_the_next_turn() {
    let reactor = reactor();
    let (done, finished) = mpsc::channel();
    fn again(remote: Remote, left: usize, done: mpsc::Sender<()>) {
        let next = remote.clone();
        remote.call_from_thread(move |_| match left {
            0 => done.send(()).unwrap(),
            _ => again(next, left - 1, done),
        });
    }
    again(reactor.remote(), 3, done);
    for _ in 0..3 {
        reactor.turn(None).unwrap();
        assert!(finished.try_recv().is_err());
    }
    reactor.turn(None).unwrap();
    assert!(finished.try_recv().is_ok());
}

#[test]
fn posting_to_a_reactor_that_is_gone_does_nothing() {
    let remote = reactor().remote();
    remote.call_from_thread(|_| unreachable!("there is nobody to call"));
    remote.stop();
}

#[test]
fn remote_crosses_threads_and_reactor_does_not() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Remote>();
}
