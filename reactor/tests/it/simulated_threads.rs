//! Work on threads where there are none: in a simulation.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use torsade_deferred::{Deferred, Interrupted};
use torsade_reactor::testing::Simulation;
use torsade_reactor::{BlockingCallError, PoolError, PoolLimits, Reactor, ThreadPool};

const SECOND: Duration = Duration::from_secs(1);

/// What jobs did, in order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<u32>>>);

impl Done {
    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock().expect("no job panics"))
    }

    /// Gives a job to a pool.
    fn give(&self, reactor: &Reactor, pool: &ThreadPool, number: u32) -> Deferred<()> {
        let done = Arc::clone(&self.0);
        reactor.defer_to_thread_pool(pool, move || {
            done.lock().expect("no job panics").push(number);
            Ok::<_, Infallible>(())
        })
    }
}

fn pool(threads_max: usize, queued_max: usize) -> ThreadPool {
    let limits = PoolLimits {
        threads_max,
        queued_max,
        ..PoolLimits::default()
    };
    ThreadPool::with_limits("test", limits)
}

#[test]
fn one_thread_does_one_job_after_the_other_in_every_seed_and_several_in_any_order() {
    let mut orders = HashSet::new();
    for seed in 0..50 {
        let (simulation, done) = (Simulation::new(seed), Done::default());
        let reactor = simulation.host("host").reactor();
        let one = pool(1, 10);
        for number in 0..5 {
            drop(done.give(&reactor, &one, number));
        }
        simulation.run_until_idle();
        assert_eq!(done.take(), [0, 1, 2, 3, 4]);
        let took = simulation.now();
        assert!(took > SECOND / 1000 && took < SECOND / 5, "{took:?}");
        let two = pool(2, 10);
        for number in 0..3 {
            drop(done.give(&reactor, &two, number));
        }
        simulation.run_until_idle();
        let order = done.take();
        assert_ne!(order[0], 2, "two were begun before it");
        orders.insert(order);
    }
    assert!(orders.len() > 2, "{orders:?}");
}

#[test]
fn a_line_takes_as_many_as_it_may_and_refuses_the_rest() {
    let (simulation, done) = (Simulation::new(1), Done::default());
    let reactor = simulation.host("host").reactor();
    let small = pool(1, 1);
    let other = pool(1, 1);
    let [first, second, third, elsewhere] = [(0, &small), (1, &small), (2, &small), (3, &other)]
        .map(|(number, pool)| done.give(&reactor, pool, number));
    assert!(third.is_fired() && !second.is_fired());
    let failure = reactor.run_until(third).expect_err("the line is full");
    assert!(failure.check::<PoolError>(), "{failure}");
    assert!(
        failure.to_string().contains("\"test\" is overloaded: 1"),
        "{failure}"
    );
    for given in [first, second, elsewhere] {
        reactor.run_until(given).expect("it was taken");
    }
    let mut all = done.take();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 3]);
    // There is room again.
    reactor
        .run_until(done.give(&reactor, &small, 4))
        .expect("there is room");
}

#[test]
fn a_job_that_is_cancelled_in_line_is_not_done_and_one_that_has_begun_is() {
    let (mut done_late, mut not_done_late) = (0, 0);
    for seed in 0..50 {
        let (simulation, done) = (Simulation::new(seed), Done::default());
        let reactor = simulation.host("host").reactor();
        let one = pool(1, 10);
        let [first, second, third] = [0, 1, 2].map(|number| done.give(&reactor, &one, number));
        for given in [&first, &second] {
            given.canceller().cancel();
        }
        for given in [first, second] {
            let failure = reactor.run_until(given).expect_err("it is cancelled");
            assert!(failure.check::<Interrupted>(), "{failure}");
        }
        reactor.run_until(third).expect("nobody cancelled it");
        assert_eq!(done.take(), [2]);
        // At some time or other after it was given: it has begun, or not.
        let late = done.give(&reactor, &one, 3);
        simulation.run_for(SECOND / 2000);
        late.cancel();
        simulation.run_until_idle();
        match *done.take() {
            [] => not_done_late += 1,
            _ => done_late += 1,
        }
        drop(late.add_errback(|_| Ok(())));
    }
    assert!(done_late > 0 && not_done_late > 0);
}

#[test]
fn a_pool_of_no_threads_keeps_its_work_until_it_has_some_and_is_given_more() {
    let (simulation, done) = (Simulation::new(1), Done::default());
    let reactor = simulation.host("host").reactor();
    let none = pool(0, 10);
    let kept = done.give(&reactor, &none, 0);
    simulation.run_for(SECOND);
    assert!(!kept.is_fired() && done.take().is_empty());
    let jobs = format!("{:?}", reactor.dump().thread_jobs);
    assert!(jobs.contains("in line"), "{jobs}");
    none.adjust(PoolLimits::default())
        .expect("no thread is started");
    drop(done.give(&reactor, &none, 1));
    reactor.run_until(kept).expect("there are threads now");
    simulation.run_until_idle();
    assert_eq!(none.statistics().threads, 0, "none is a real one");
    assert_eq!(done.take().len(), 2);
}

#[test]
fn threads_go_down_with_their_host_and_its_next_life_has_its_own() {
    let (simulation, done) = (Simulation::new(1), Done::default());
    let host = simulation.host("host");
    let one = pool(1, 10);
    drop(done.give(&host.reactor(), &one, 0));
    drop(done.give(&host.reactor(), &one, 1));
    host.crash();
    host.restart();
    let reactor = host.reactor();
    let given = done.give(&reactor, &one, 2);
    reactor.run_until(given).expect("its thread is free");
    simulation.run_until_idle();
    assert_eq!(done.take(), [2]);
}

#[test]
fn a_blocking_call_in_a_job_fails_where_it_would_wait_for_itself() {
    let simulation = Simulation::new(1);
    let reactor = simulation.host("host").reactor();
    let remote = reactor.remote();
    let asked = reactor.defer_to_thread(move || remote.blocking_call(|_| ()));
    let failure = reactor
        .run_until(asked)
        .expect_err("it is the loop's own thread");
    let error = failure.downcast_ref::<BlockingCallError>();
    assert!(
        matches!(error, Some(BlockingCallError::OnReactorThread)),
        "{failure}"
    );
}
