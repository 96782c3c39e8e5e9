//! Futures on the loop.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted};
use torsade_reactor::testing::virtual_time_reactor;

use crate::common::{reactor, run_while};

#[test]
fn a_future_awaits_deferreds_of_the_loop() {
    let reactor = virtual_time_reactor();
    let (trigger, first) = Deferred::<u32>::new();
    reactor.call_later(Duration::from_secs(1), move || trigger.callback(20));
    let handle = reactor.clone();
    let sum = reactor.spawn(async move {
        let first = first.await?;
        let (trigger, second) = Deferred::<u32>::new();
        handle.call_later(Duration::from_secs(1), move || trigger.callback(22));
        Ok::<_, Failure>(first + second.await?)
    });
    let begin = reactor.now();
    assert_eq!(reactor.run_until(sum).unwrap(), 42);
    assert_eq!(reactor.now() - begin, Duration::from_secs(2));
}

/// A future of no kin to ours, which another thread completes.
fn from_thread(value: u32) -> impl Future<Output = u32> {
    let slot = Arc::new(Mutex::new((None::<u32>, None::<Waker>)));
    let filled = Arc::clone(&slot);
    let mut start = Some(move || {
        thread::spawn(move || {
            let mut slot = filled.lock().unwrap();
            slot.0 = Some(value);
            if let Some(waker) = slot.1.take() {
                // Under a lock, as some do.
                waker.wake();
            }
        })
    });
    poll_fn(move |context| {
        if let Some(start) = start.take() {
            start();
        }
        let mut slot = slot.lock().unwrap();
        slot.1 = Some(context.waker().clone());
        slot.0.map_or(Poll::Pending, Poll::Ready)
    })
}

#[test]
fn a_future_is_woken_from_another_thread() {
    let reactor = reactor();
    let sums = reactor.spawn(async {
        let mut sum = 0;
        for number in 0..100 {
            sum += from_thread(number).await;
        }
        Ok::<_, Failure>(sum)
    });
    assert_eq!(reactor.run_until(sums).unwrap(), 4950);
}

#[test]
fn a_spawned_future_is_cancelled_through_what_it_awaits() {
    let reactor = virtual_time_reactor();
    let (trigger, never) = Deferred::<u32>::new();
    let stopped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&stopped);
    trigger.on_cancel(move || flag.set(true));
    let task = reactor.spawn(async move { Ok::<_, Failure>(never.await? + 1) });
    task.cancel();
    assert!(stopped.get());
    let failure = task.into_result().unwrap().unwrap_err();
    assert_eq!(
        failure.trap::<Interrupted>().unwrap(),
        Interrupted::Cancelled
    );
    drop(trigger);
}

#[test]
fn descriptors_are_awaited_for_reading_and_writing() {
    let reactor = reactor();
    let (near, far) = UnixStream::pair().unwrap();
    for socket in [&near, &far] {
        socket.set_nonblocking(true).unwrap();
    }
    let (near, far) = (
        reactor.async_fd(near).unwrap(),
        reactor.async_fd(far).unwrap(),
    );
    let size = 1 << 20;
    let writing = reactor.spawn(async move {
        let mut sent = 0;
        while sent < size {
            near.writable().await?;
            let outcome = (&*near.source().unwrap()).write(&vec![7; size - sent]);
            match outcome {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Dropping it closes the stream.
        Ok(())
    });
    let reading = reactor.spawn(async move {
        let mut received = 0;
        let mut buffer = vec![0; 10_000];
        loop {
            far.readable().await?;
            let outcome = (&*far.source().unwrap()).read(&mut buffer);
            match outcome {
                Ok(0) => return Ok(received),
                Ok(count) => received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    });
    assert_eq!(reactor.run_until(reading).unwrap(), size);
    reactor.run_until(writing).unwrap();
}

#[test]
fn readiness_that_was_given_up_or_cut_off_leaves_nothing_behind() {
    let reactor = reactor();
    let (near, _far) = UnixStream::pair().unwrap();
    let near = reactor.async_fd(near).unwrap();
    for _ in 0..100 {
        near.readable().add_errback(|_| Ok(())).cancel();
    }
    assert_eq!(format!("{near:?}"), "AsyncFd(1 read, 0 write)");
    for _ in 0..100 {
        drop(near.readable());
    }
    assert_eq!(format!("{near:?}"), "AsyncFd(1 read, 0 write)");
    let waiting = near.readable();
    assert!(near.into_source().is_some());
    let error = waiting.into_result().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("abandoned"), "{error}");
}

#[test]
fn a_source_may_be_held_across_an_await_also_when_the_reactor_stops() {
    let reactor = reactor();
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = reactor.async_fd(near).unwrap();
    let (told, seen) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let (flag, count) = (Rc::clone(&told), Rc::clone(&seen));
    let future = reactor.spawn(async move {
        let source = near.source().expect("the reactor has not stopped");
        near.readable().await?;
        count.set((&*source).read(&mut [0; 8])?);
        let outcome = near.readable().await;
        flag.set(outcome.is_err_and(|error| error.to_string().starts_with("abandoned")));
        Ok::<_, Failure>(())
    });
    far.write_all(b"abc").unwrap();
    run_while(&reactor, || seen.get() == 0);
    reactor.stop();
    reactor.run().unwrap();
    assert!(told.get(), "who waits is told that it is for nothing");
    future.into_result().unwrap().unwrap();
}

#[test]
fn a_future_whose_wake_went_with_the_calls_of_a_closed_reactor_hears_the_next() {
    let reactor = reactor();
    let (wakers, is_ready) = (Rc::new(Cell::new(None::<Waker>)), Rc::new(Cell::new(false)));
    let (waker, ready) = (Rc::clone(&wakers), Rc::clone(&is_ready));
    let future = reactor.spawn(poll_fn(move |context| {
        waker.set(Some(context.waker().clone()));
        if ready.get() {
            Poll::Ready(Ok::<_, Failure>(7))
        } else {
            Poll::Pending
        }
    }));
    let waker = wakers.take().expect("it was polled");
    waker.wake_by_ref();
    reactor.close().unwrap();
    is_ready.set(true);
    waker.wake();
    assert_eq!(reactor.run_until(future).unwrap(), 7);
}
