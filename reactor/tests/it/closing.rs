//! What a reactor that was closed has forgotten, and what it has not.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{
    ChannelEvent, Phase, Place, PoolLimits, Reactor, ThreadPool, WeakReactor, task,
};

use crate::common::{Log, is_readable, reactor};

const SECOND: Duration = Duration::from_secs(1);

/// A pool that does one job after the other.
fn one_thread() -> ThreadPool {
    let limits = PoolLimits {
        threads_max: 1,
        ..PoolLimits::default()
    };
    ThreadPool::with_limits("test", limits)
}

fn look(reactor: &Reactor) {
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn the_answer_of_a_thread_that_was_asked_before_is_nobodys() {
    let (reactor, pool) = (reactor(), one_thread());
    let (release, released) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let first = reactor.defer_to_thread_pool(&pool, move || {
        begins.send(()).expect("the test waits for it");
        let _ = released.recv();
        Ok::<_, io::Error>(1)
    });
    begun.recv().expect("the pool has a thread for it");
    reactor.close().unwrap();
    assert!(first.into_result().is_ok_and(|outcome| outcome.is_err()));
    let second = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>(2));
    // While the loop runs, so that it comes.
    reactor.call_soon(move || drop(release));
    assert_eq!(reactor.run_until(second).unwrap(), 2);
}

#[test]
fn handles_of_calls_that_were_dropped_do_nothing_to_later_ones() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let old: Vec<_> = (0..3).map(|_| reactor.call_later(SECOND, || ())).collect();
    let old_of_boot = reactor.boot_clock().unwrap().call_later(SECOND, || ());
    let old_soon: Vec<_> = (0..3).map(|_| reactor.call_soon(|| ())).collect();
    reactor.close().unwrap();
    let new: Vec<_> = (0..3)
        .map(|_| reactor.call_later(SECOND, log.adds("later")))
        .collect();
    let new_of_boot = reactor.boot_clock().unwrap();
    let new_of_boot = new_of_boot.call_later(SECOND, log.adds("boot"));
    let new_soon: Vec<_> = (0..3)
        .map(|_| reactor.call_soon(log.adds("soon")))
        .collect();
    for call in old.iter().chain([&old_of_boot]) {
        assert!(!call.is_active() && !call.reset(SECOND) && !call.cancel());
    }
    for call in &old_soon {
        assert!(!call.is_active() && !call.cancel());
    }
    assert!(
        new.iter()
            .chain([&new_of_boot])
            .all(|call| call.is_active())
    );
    assert!(new_soon.iter().all(|call| call.is_active()));
    reactor.run_until_idle().unwrap();
    assert_eq!(log.lines()[..3], ["soon"; 3]);
    assert_eq!(log.lines().len(), 7);
}

#[test]
fn messages_that_come_before_the_next_run_are_delivered_in_it() {
    let (reactor, log) = (reactor(), Log::default());
    reactor.close().unwrap();
    let seen = log.clone();
    let (sender, _channel) = reactor.channel(move |_, event| match event {
        ChannelEvent::Message(number) => seen.add(number),
        ChannelEvent::Closed => seen.add("closed"),
    });
    sender.send(1).unwrap();
    look(&reactor);
    sender.send(2).unwrap();
    look(&reactor);
    log.check(["1", "2"]);
}

#[test]
fn the_answer_of_a_thread_that_comes_before_the_next_run_is_heard_in_it() {
    let (reactor, pool) = (reactor(), one_thread());
    reactor.close().unwrap();
    let answer = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>("answer"));
    let (ends, ended) = mpsc::channel();
    // The job behind it: when it begins, the one before has answered.
    let next = reactor.defer_to_thread_pool(&pool, move || ends.send(()));
    ended.recv().expect("the pool does it");
    look(&reactor);
    assert!(answer.is_fired(), "it was lost");
    assert_eq!(reactor.run_until(answer).unwrap(), "answer");
    reactor.run_until(next).unwrap();
}

#[test]
fn what_is_posted_before_the_next_run_makes_the_descriptor_readable() {
    let (reactor, heard) = (reactor(), Arc::new(AtomicBool::new(false)));
    let remote = reactor.remote();
    // Left with post, it needs no write.
    let posts = remote.clone();
    reactor.call_soon(move || posts.call_from_thread(|_| ()));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.close().unwrap();
    assert_eq!(reactor.next_deadline(), None);
    let hears = Arc::clone(&heard);
    remote.call_from_thread(move |_| hears.store(true, Ordering::Relaxed));
    assert!(is_readable(&reactor, Some(Duration::ZERO)));
    look(&reactor);
    assert!(heard.load(Ordering::Relaxed));
}

#[test]
fn a_reactor_whose_last_handle_is_gone_takes_post_again_when_somebody_has_one_again() {
    let (reactor, heard) = (reactor(), Arc::new(AtomicBool::new(false)));
    let (_, kept) = reactor.channel(|_, _: ChannelEvent<()>| ());
    let remote = reactor.remote();
    drop(reactor);
    assert!(remote.try_call_from_thread(|_| ()).is_err());
    let reactor = kept.reactor();
    let hears = Arc::clone(&heard);
    let posted = remote.try_call_from_thread(move |_| hears.store(true, Ordering::Relaxed));
    assert!(posted.is_ok());
    look(&reactor);
    assert!(heard.load(Ordering::Relaxed));
}

#[test]
fn a_stop_that_waited_for_a_hook_is_forgotten() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (hook, hooked) = Deferred::<()>::new();
    reactor.on_shutdown(Phase::Before, move || hooked);
    reactor.stop();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.close().unwrap();
    reactor.on_shutdown(Phase::During, log.adds("stopped"));
    look(&reactor);
    log.check([]);
    reactor.stop();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["stopped"]);
    hook.callback(());
}

#[test]
fn a_stop_that_was_not_heard_and_a_start_that_waited_are_forgotten() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.stop();
    reactor.crash();
    reactor.close().unwrap();
    let (hook, hooked) = Deferred::<()>::new();
    reactor.on_startup(Phase::Before, move || hooked);
    let handle = reactor.clone();
    reactor.call_later(SECOND, move || handle.crash());
    let began = reactor.now();
    reactor.run().unwrap();
    assert_eq!(reactor.now(), began + SECOND, "it was left before");
    reactor.close().unwrap();
    let handle = reactor.clone();
    reactor.on_startup(Phase::During, log.adds("started"));
    reactor.call_when_running(move || handle.stop());
    reactor.run().unwrap();
    log.check(["started"]);
    hook.callback(());
}

struct StopsWhenDropped(WeakReactor);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        if let Some(reactor) = self.0.upgrade() {
            reactor.stop();
        }
    }
}

#[test]
fn a_stop_in_the_midst_of_a_close_is_forgotten() {
    let (reactor, turns) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
    let stops = StopsWhenDropped(reactor.downgrade());
    reactor.call_soon(move || drop(stops));
    reactor.close().unwrap();
    let count = Rc::clone(&turns);
    reactor.add_hook(Place::Check, move || {
        count.set(count.get() + 1);
    });
    reactor.run_until(task::sleep(&reactor, SECOND)).unwrap();
    assert!(turns.get() > 1, "it was left after one turn");
}
