//! Work on threads of a pool, and its results.

use std::convert::Infallible;
use std::io;
use std::num::ParseIntError;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted};
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{Address, PoolError, PoolLimits, Reactor, ThreadPool};

use crate::common::{End, Log, check_signals_are_blocked, count_unhandled, reactor, run_while};

/// A pool with at most so many threads and jobs in line.
fn pool(threads_max: usize, queued_max: usize) -> ThreadPool {
    ThreadPool::with_limits(
        "test",
        PoolLimits {
            threads_max,
            queued_max,
            ..PoolLimits::default()
        },
    )
}

/// A thread of a pool that works until the `Sender` is used or dropped.
struct Blocked {
    release: Sender<()>,
    ended: Deferred<()>,
}

fn block(reactor: &Reactor, pool: &ThreadPool) -> Blocked {
    let (release, released) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let ended = reactor.defer_to_thread_pool(pool, move || {
        begins.send(()).expect("the test waits for it");
        let _ = released.recv();
        Ok::<(), io::Error>(())
    });
    begun.recv().expect("the pool has a thread for it");
    Blocked { release, ended }
}

/// Says on a channel that it was dropped.
struct Dropped(Sender<&'static str>, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

fn dropped(name: &'static str) -> (Dropped, Receiver<&'static str>) {
    let (sender, receiver) = mpsc::channel();
    (Dropped(sender, name), receiver)
}

#[test]
fn job_runs_on_another_thread_and_its_result_arrives_on_this_one() {
    let reactor = reactor();
    let here = thread::current().id();
    let there = reactor.defer_to_thread(|| Ok::<_, io::Error>(thread::current().id()));
    let arrived = there.map(|there| (there, thread::current().id()));
    let (worked, arrived) = reactor.run_until(arrived).unwrap();
    assert_ne!(worked, here);
    assert_eq!(arrived, here);
}

#[test]
fn result_never_comes_from_inside_the_call_that_asked() {
    let reactor = reactor();
    let (release, released) = mpsc::channel();
    let deferred = reactor.defer_to_thread(move || {
        release.send(()).unwrap();
        Ok::<_, io::Error>(1)
    });
    released.recv().unwrap();
    assert!(!deferred.is_fired());
    assert_eq!(reactor.run_until(deferred).unwrap(), 1);
}

#[test]
fn error_of_a_job_is_its_failure_and_keeps_its_type() {
    let reactor = reactor();
    let deferred = reactor.defer_to_thread(|| "forty-two".parse::<u32>());
    let failure = reactor.run_until(deferred).unwrap_err();
    assert!(failure.check::<ParseIntError>(), "{failure}");
}

#[test]
fn panic_in_a_job_is_its_failure_and_the_thread_goes_on() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let panics = reactor.defer_to_thread_pool(&pool, || -> Result<(), io::Error> {
        panic!("in a job");
    });
    let next = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>("next"));
    let failure = reactor.run_until(panics).unwrap_err();
    let interrupted = failure.downcast_ref::<Interrupted>();
    assert!(
        matches!(interrupted, Some(Interrupted::Panicked { message }) if &**message == "in a job"),
        "{failure}"
    );
    assert_eq!(reactor.run_until(next).unwrap(), "next");
    assert_eq!(pool.statistics().threads, 1);
}

#[test]
fn no_thread_starts_before_there_is_work_and_none_that_is_not_needed() {
    let (reactor, pool) = (reactor(), pool(10, 10));
    assert_eq!(pool.statistics().threads, 0);
    for _ in 0..3 {
        let deferred = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>(()));
        reactor.run_until(deferred).unwrap();
        while pool.statistics().working > 0 {
            thread::yield_now();
        }
    }
    assert_eq!(pool.statistics().threads, 1);
    assert_eq!(pool.statistics().ended, 3);
}

#[test]
fn as_many_jobs_run_at_once_as_the_pool_has_threads() {
    let (reactor, pool) = (reactor(), pool(4, 10));
    let meeting = Arc::new(Barrier::new(4));
    let jobs = (0..4).map(|_| {
        let meeting = Arc::clone(&meeting);
        reactor.defer_to_thread_pool(&pool, move || {
            meeting.wait();
            Ok::<_, io::Error>(())
        })
    });
    let jobs = torsade_deferred::gather_results(jobs.collect::<Vec<_>>());
    reactor.run_until(jobs).unwrap();
}

#[test]
fn job_beyond_the_line_is_refused_and_handed_back() {
    let (reactor, pool) = (reactor(), pool(1, 2));
    let blocked = block(&reactor, &pool);
    let (done, results) = mpsc::channel();
    let job = |number| {
        let done = done.clone();
        move || done.send(number).expect("the test listens")
    };
    pool.call_in_thread(job(1)).unwrap();
    pool.call_in_thread(job(2)).unwrap();
    let refused = pool.call_in_thread(job(3)).unwrap_err();
    assert!(matches!(
        refused.reason,
        PoolError::Overloaded { queued_max: 2, .. }
    ));
    assert_eq!(pool.statistics().refused, 1);
    // It can be done here, for instance.
    (refused.job)();
    drop(blocked.release);
    assert_eq!(results.iter().take(3).collect::<Vec<_>>(), [3, 1, 2]);
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn deferred_of_a_refused_job_fails_with_the_overload() {
    let (reactor, pool) = (reactor(), pool(1, 0));
    let blocked = block(&reactor, &pool);
    let refused = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>(()));
    let Ok(Err(failure)) = refused.into_result() else {
        panic!("it fails at once");
    };
    assert!(failure.check::<PoolError>(), "{failure}");
    drop(blocked.release);
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn cancelled_job_in_line_is_taken_out_and_dropped() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let blocked = block(&reactor, &pool);
    let (held, drops) = dropped("the job");
    let queued = reactor.defer_to_thread_pool(&pool, move || -> Result<(), io::Error> {
        drop(held);
        unreachable!("it was cancelled");
    });
    assert_eq!(pool.statistics().queued, 1);
    let canceller = queued.canceller();
    canceller.cancel();
    assert_eq!(drops.try_recv(), Ok("the job"));
    assert_eq!(pool.statistics().queued, 0);
    assert_eq!(pool.statistics().cancelled, 1);
    let failure = reactor.run_until(queued).unwrap_err();
    assert_eq!(failure.downcast_ref(), Some(&Interrupted::Cancelled));
    drop(blocked.release);
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn cancelling_a_running_job_gives_its_answer_up() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let (release, released) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    let (held, drops) = dropped("the result");
    let running = reactor.defer_to_thread_pool(&pool, move || {
        begins.send(()).unwrap();
        released.recv().unwrap();
        Ok::<_, io::Error>(held)
    });
    begun.recv().unwrap();
    let canceller = running.canceller();
    canceller.cancel();
    let Ok(Err(failure)) = running.into_result() else {
        panic!("it fails at once");
    };
    assert_eq!(failure.downcast_ref(), Some(&Interrupted::Cancelled));
    release.send(()).unwrap();
    // The late result is dropped, and the thread goes on.
    run_while(&reactor, || drops.try_recv().is_err());
    let next = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>("next"));
    assert_eq!(reactor.run_until(next).unwrap(), "next");
}

#[test]
fn job_given_to_the_pool_itself_is_cancelled_only_while_it_is_in_line() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let blocked = block(&reactor, &pool);
    let job = pool
        .call_in_thread(|| unreachable!("it was cancelled"))
        .unwrap();
    assert!(job.is_queued());
    assert!(job.cancel());
    assert!(!job.cancel());
    assert!(!job.is_queued());
    let (done, result) = mpsc::channel();
    let job = pool.call_in_thread(move || done.send(()).unwrap()).unwrap();
    drop(blocked.release);
    result.recv().unwrap();
    assert!(!job.cancel());
}

#[test]
fn stop_does_not_wait_for_a_blocked_worker() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let blocked = block(&reactor, &pool);
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    assert_eq!(pool.statistics().working, 1);
    drop(blocked.release);
    // The next run gets the answer.
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn reactor_that_goes_waits_for_no_worker_and_leaves_no_job_in_line() {
    let (reactor, pool) = (reactor(), pool(1, 10));
    let blocked = block(&reactor, &pool);
    let (held, drops) = dropped("the job");
    let queued = reactor.defer_to_thread_pool(&pool, move || -> Result<(), io::Error> {
        drop(held);
        unreachable!("nobody is left who asked");
    });
    drop(reactor);
    assert_eq!(drops.try_recv(), Ok("the job"));
    for deferred in [blocked.ended, queued] {
        let Ok(Err(failure)) = deferred.into_result() else {
            panic!("nobody is left who could fire it");
        };
        assert!(
            matches!(failure.downcast_ref(), Some(Interrupted::Abandoned { .. })),
            "{failure}"
        );
    }
    assert_eq!(pool.statistics().working, 1);
    drop(blocked.release);
}

#[test]
fn pool_of_no_threads_keeps_its_work_until_it_is_adjusted() {
    let (reactor, pool) = (reactor(), pool(0, 10));
    let deferred = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>(1));
    assert_eq!(pool.statistics().queued, 1);
    assert_eq!(pool.statistics().threads, 0);
    pool.adjust(PoolLimits {
        threads_max: 2,
        ..pool.limits()
    })
    .unwrap();
    assert_eq!(reactor.run_until(deferred).unwrap(), 1);
    pool.adjust(PoolLimits {
        threads_max: 0,
        ..pool.limits()
    })
    .unwrap();
    while pool.statistics().threads > 0 {
        thread::yield_now();
    }
}

#[test]
fn pool_dropped_with_work_in_line_abandons_it_if_it_may_have_no_thread() {
    let reactor = reactor();
    let pool = pool(0, 10);
    let deferred = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>(1));
    drop(pool);
    let failure = reactor.run_until(deferred).unwrap_err();
    assert!(
        matches!(failure.downcast_ref(), Some(Interrupted::Abandoned { .. })),
        "{failure}"
    );
}

#[test]
fn pool_dropped_finishes_what_is_in_line() {
    let reactor = reactor();
    let pool = pool(1, 10);
    let blocked = block(&reactor, &pool);
    let last = reactor.defer_to_thread_pool(&pool, || Ok::<_, io::Error>("last"));
    drop(pool);
    drop(blocked.release);
    assert_eq!(reactor.run_until(last).unwrap(), "last");
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn thread_without_work_ends_when_its_time_is_over() {
    let pool = ThreadPool::with_limits(
        "test",
        PoolLimits {
            idle: Duration::ZERO,
            ..PoolLimits::default()
        },
    );
    pool.call_in_thread(|| ()).unwrap();
    while pool.statistics().threads > 0 || pool.statistics().queued > 0 {
        thread::yield_now();
    }
    assert_eq!(pool.statistics().ended, 1);
}

#[test]
fn pool_can_be_replaced_and_shared() {
    let (first, second) = (reactor(), reactor());
    let shared = ThreadPool::new("shared");
    for reactor in [&first, &second] {
        reactor.set_thread_pool(shared.clone());
        let name = reactor
            .defer_to_thread(|| Ok::<_, io::Error>(thread::current().name().map(str::to_owned)));
        let name = reactor.run_until(name).unwrap();
        assert_eq!(name.as_deref(), Some("shared"));
    }
    assert_eq!(
        first.thread_pool().statistics().threads,
        shared.statistics().threads
    );
}

#[test]
fn names_are_looked_up_while_the_pool_of_the_user_is_blocked() {
    let (reactor, log) = (reactor(), Log::default());
    let pool = pool(1, 0);
    reactor.set_thread_pool(pool.clone());
    let blocked = block(&reactor, &pool);
    let server = log.clone();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            End::new("server", &server)
        })
        .unwrap();
    let number = port.address().port().expect("TCP has numbers");
    let address = format!("localhost:{number}");
    let connected = reactor.connect_tcp(address.as_str(), move |_| End::new("client", &log));
    let client = reactor.run_until(connected).unwrap();
    client.abort_connection();
    drop(blocked.release);
    reactor.run_until(blocked.ended).unwrap();
}

#[test]
fn panic_in_call_in_thread_is_reported_on_the_reactors_thread() {
    let reactor = reactor();
    let (count, _guard) = count_unhandled();
    reactor.call_in_thread(|| panic!("in a thread"));
    run_while(&reactor, || count.get() == 0);
    let remote = reactor.remote();
    reactor.call_in_thread(move || remote.stop());
    reactor.run().unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn threads_of_a_pool_block_all_signals() {
    let reactor = reactor();
    let checked = reactor.defer_to_thread(|| {
        check_signals_are_blocked();
        Ok::<_, Infallible>(())
    });
    reactor.run_until(checked).unwrap();
}

#[test]
fn virtual_time_stands_still_while_a_thread_works() {
    let reactor = virtual_time_reactor();
    let begin = reactor.now();
    let (begun, has_begun) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let answer = reactor
        .defer_to_thread(move || {
            begun.send(()).unwrap();
            goes.recv()
        })
        .add_timeout(Duration::from_secs(1), &reactor);
    let helper = thread::spawn(move || {
        has_begun.recv().unwrap();
        // The loop waits, or soon will: in either order the answer comes in time.
        go.send(42).unwrap();
    });
    assert_eq!(reactor.run_until(answer).unwrap(), 42);
    assert_eq!(reactor.now(), begin);
    helper.join().unwrap();
}

#[test]
fn virtual_time_passes_for_a_job_that_nobody_waits_for_or_that_no_thread_will_take() {
    let reactor = virtual_time_reactor();
    let (go, goes) = mpsc::channel::<()>();
    let given_up = reactor.defer_to_thread(move || goes.recv());
    given_up.cancel();
    drop(given_up.add_errback(|_: Failure| Ok(())));
    let none = PoolLimits {
        threads_max: 0,
        ..PoolLimits::default()
    };
    let pool = ThreadPool::with_limits("never", none);
    let never = reactor
        .defer_to_thread_pool(&pool, || Ok::<(), io::Error>(()))
        .add_timeout(Duration::from_secs(1), &reactor);
    let failure = reactor.run_until(never).unwrap_err();
    assert!(failure.check::<Interrupted>());
    drop(go);
}
