//! The contenders, doing the same work.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::thread;

use bench_rounds::cpu_time;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::task::LocalSpawnExt;
use torsade_deferred::Deferred;

/// How many links a chain has: three, a thousand, a hundred thousand, a million.
pub const LINKS: [u64; 4] = [3, 1_000, 100_000, 1_000_000];

/// How many chains of so many links make a run of a few hundred milliseconds.
fn chains(links: u64) -> u64 {
    (1_500_000 / links).clamp(2, 400_000)
}

pub struct Contender {
    pub name: &'static str,
    pub title: &'static str,
    /// Runs so many chains of so many links.
    run: fn(chains: u64, links: u64),
}

/// Ours first.
///
/// Boxed futures inside one another are polled by recursion, so a chain of a million
/// needs gigabytes of stack. On a stack of the usual size such a chain is a task with a
/// oneshot for each link, and these rows are what that costs.
pub const CONTENDERS: [Contender; 5] = [
    Contender {
        name: "ours",
        title: "Deferred",
        run: ours,
    },
    Contender {
        name: "futures",
        title: "futures: boxed local, one task, huge stack",
        run: with_futures,
    },
    Contender {
        name: "tokio",
        title: "tokio: boxed local, one task, huge stack",
        run: with_tokio,
    },
    Contender {
        name: "futures-tasks",
        title: "futures: a task and a oneshot per link",
        run: with_futures_tasks,
    },
    Contender {
        name: "tokio-tasks",
        title: "tokio: a task and a oneshot per link",
        run: with_tokio_tasks,
    },
];

/// The CPU time of a link in nanoseconds.
pub fn measure(contender: &Contender, links: u64) -> f64 {
    let run = contender.run;
    let chains = chains(links);
    // A boxed future of a million links is polled by recursion: it gets the stack that it
    // needs. Untouched pages of it cost nothing.
    let stack = 4 << 30;
    let measured = thread::Builder::new().stack_size(stack).spawn(move || {
        // Warm: the allocator has its memory, the stack its pages.
        run(chains.div_ceil(10), links);
        let before = cpu_time();
        run(chains, links);
        (cpu_time() - before).as_nanos() as f64
    });
    let nanoseconds = measured.expect("a thread starts").join().expect("it ends");
    nanoseconds / (chains * links) as f64
}

fn ours(chains: u64, links: u64) {
    for _ in 0..chains {
        let (trigger, mut deferred) = Deferred::<u64>::new();
        for _ in 0..links {
            deferred = deferred.map(|n| n + 1);
        }
        let sum = Rc::new(Cell::new(0));
        let slot = Rc::clone(&sum);
        drop(deferred.add_callback(move |n| slot.set(n)));
        trigger.callback(black_box(0));
        assert_eq!(sum.get(), links);
    }
}

fn with_futures(chains: u64, links: u64) {
    let mut pool = futures::executor::LocalPool::new();
    let spawner = pool.spawner();
    for _ in 0..chains {
        let (sender, receiver) = futures::channel::oneshot::channel::<u64>();
        let mut future: LocalBoxFuture<'static, u64> =
            receiver.map(|n| n.expect("it is sent below")).boxed_local();
        for _ in 0..links {
            future = future.map(|n| n + 1).boxed_local();
        }
        let sum = Rc::new(Cell::new(0));
        let slot = Rc::clone(&sum);
        spawner
            .spawn_local(future.map(move |n| slot.set(n)))
            .expect("the pool is there");
        // As a Deferred waits before it is fired, so does this.
        pool.run_until_stalled();
        sender.send(black_box(0)).expect("the receiver is there");
        pool.run_until_stalled();
        assert_eq!(sum.get(), links);
    }
}

fn with_tokio(chains: u64, links: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for _ in 0..chains {
            let (sender, receiver) = tokio::sync::oneshot::channel::<u64>();
            let mut future: LocalBoxFuture<'static, u64> =
                receiver.map(|n| n.expect("it is sent below")).boxed_local();
            for _ in 0..links {
                future = future.map(|n| n + 1).boxed_local();
            }
            let task = tokio::task::spawn_local(future);
            tokio::task::yield_now().await;
            sender.send(black_box(0)).expect("the receiver is there");
            assert_eq!(task.await.expect("it ends"), links);
        }
    });
}

fn with_futures_tasks(chains: u64, links: u64) {
    let mut pool = futures::executor::LocalPool::new();
    let spawner = pool.spawner();
    for _ in 0..chains {
        let (first, mut receiver) = futures::channel::oneshot::channel::<u64>();
        for _ in 0..links {
            let (sender, next) = futures::channel::oneshot::channel::<u64>();
            let link = receiver.map(|n| {
                sender
                    .send(n.expect("it is sent") + 1)
                    .expect("the next link is there");
            });
            spawner.spawn_local(link).expect("the pool is there");
            receiver = next;
        }
        pool.run_until_stalled();
        first.send(black_box(0)).expect("the receiver is there");
        pool.run_until_stalled();
        assert_eq!(receiver.try_recv(), Ok(Some(links)));
    }
}

fn with_tokio_tasks(chains: u64, links: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for _ in 0..chains {
            let (first, mut receiver) = tokio::sync::oneshot::channel::<u64>();
            for _ in 0..links {
                let (sender, next) = tokio::sync::oneshot::channel::<u64>();
                tokio::task::spawn_local(receiver.map(|n| {
                    sender
                        .send(n.expect("it is sent") + 1)
                        .expect("the next link is there");
                }));
                receiver = next;
            }
            tokio::task::yield_now().await;
            first.send(black_box(0)).expect("the receiver is there");
            assert_eq!(receiver.await, Ok(links));
        }
    });
}
