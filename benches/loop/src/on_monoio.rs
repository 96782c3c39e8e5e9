//! What monoio has of the tables, over io_uring: tasks, timers, what it reads and writes itself.

use bench_rounds::cpu_time;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::UnixStream;
use monoio::time::{Sleep, sleep, sleep_until};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::call_soon::BATCH;
use crate::timers::{self, CANCELLED, Delays, now, register, sleeper};
use crate::{MADE, made, measure, missing, report};

pub const NO_THREADS: &str =
    "its wakers are of one thread, but for a feature that its other rows would then be built with";
pub const NO_WATCH: &str = "it reads and writes itself, and watches nothing";

/// Runs a future to its end; `missing` where the kernel allows no io_uring.
fn run(future: impl Future<Output = ()>) {
    match RuntimeBuilder::<IoUringDriver>::new()
        .enable_timer()
        .build()
    {
        Ok(mut runtime) => runtime.block_on(future),
        Err(error) => missing(&format!("no io_uring: {error}")),
    }
}

/// A thousand tasks, which run in the order in which they were spawned: the end of the last is the end of all.
pub fn calls<F: Future<Output = ()> + 'static>(count: usize, mut call: impl FnMut() -> F) {
    run(async {
        let mut cost = 0.0;
        for batches in [1, count / BATCH] {
            let (before, made_before) = (cpu_time(), MADE.get());
            for _ in 0..batches {
                for _ in 1..BATCH {
                    drop(monoio::spawn(call()));
                }
                monoio::spawn(call()).await;
            }
            let took = cpu_time() - before;
            assert_eq!(MADE.get() - made_before, batches * BATCH);
            cost = took.as_nanos() as f64 / (batches * BATCH) as f64;
        }
        report(cost);
    });
}

pub fn cancels(pending: usize, at_once: bool) {
    let put = |delay| {
        let mut timer = Box::pin(sleep(delay));
        register(timer.as_mut());
        timer
    };
    run(async { timers::cancels((pending, CANCELLED), at_once, put, drop) });
}

pub fn fires(count: usize) {
    let mut delays = Delays::new();
    let work = async {
        let until = MADE.get() + count;
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        for _ in 0..count {
            let deadline = now() + delays.short(count);
            let sleep: Sleep = sleep_until(deadline.into());
            drop(monoio::spawn(sleeper(
                sleep,
                deadline,
                until,
                sender.clone(),
            )));
        }
        receiver.recv().await.expect("the last one says so");
    };
    report(measure(count, || run(work)));
}

/// Sends, receives what was sent: each by a call of the ring.
pub fn answers(count: usize) {
    run(async {
        let (mut near, mut far) = UnixStream::pair().expect("two descriptors are left");
        let (sent, mut buffer) = far.write_all(vec![0; 64]).await;
        sent.expect("there is room");
        let mut before = cpu_time();
        for turn in 0..2 * count {
            if turn == count {
                before = cpu_time();
            }
            let (read, whole) = near.read(buffer).await;
            assert_eq!(read.expect("it stands"), 64);
            let (sent, whole) = far.write_all(whole).await;
            sent.expect("there is room");
            buffer = whole;
            made();
        }
        let took = cpu_time() - before;
        report(took.as_nanos() as f64 / count as f64);
    });
}
