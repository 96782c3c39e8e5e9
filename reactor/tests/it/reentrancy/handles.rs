//! What the functions of handles answer: of calls, watches, hooks, threads and ports.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::future;

use torsade_deferred::Deferred;
use torsade_reactor::{AsyncFd, Guest, Interest, Mode, PoolLimits, ThreadPool};

use super::rows::{FAR, RUNNING, Row, SOON, is_some, looked, row, say};
use super::world::{Act, SIGNAL, quiet};

/// One line a function. The order is that of the sources.
pub(super) const ROWS: &[Row] = &[
    // delayed_call.rs
    row(
        "DelayedCall::cancel",
        Act::Delayed(|_, call| say(call.cancel())),
        ["true; silent", "false; silent", "false"],
    ),
    row(
        "DelayedCall::reset",
        Act::Delayed(|_, call| say(call.reset(SOON))),
        ["true; called", "false; silent", "false"],
    ),
    row(
        "DelayedCall::delay",
        Act::Delayed(|_, call| say(call.delay(FAR))),
        ["true; silent", "false; silent", "false"],
    ),
    row(
        "DelayedCall::is_active",
        Act::Delayed(|_, call| say(call.is_active())),
        ["true; called", "false; silent", "false"],
    ),
    row(
        "DelayedCall::set_background",
        Act::Delayed(|_, call| say(call.set_background(true))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "DelayedCall::is_background",
        Act::Delayed(|_, call| say(call.is_background())),
        ["false; called", "false; silent", "false"],
    ),
    row(
        "DelayedCall::deadline",
        Act::Delayed(|_, call| is_some(call.deadline())),
        ["true; called", "false; silent", "false"],
    ),
    row(
        "SoonCall::cancel",
        Act::Soon(|_, call| say(call.cancel())),
        ["true; silent", "false; silent", "false"],
    ),
    row(
        "SoonCall::is_active",
        Act::Soon(|_, call| say(call.is_active())),
        ["true; called", "false; silent", "false"],
    ),
    // descriptor.rs
    row(
        "Watch::source",
        Act::Watch(|_, watch| is_some(watch.source())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Watch::set_interest",
        Act::Watch(|_, watch| say(watch.set_interest(Interest::Write, Mode::Edge).is_ok())),
        ["true; silent", "true; silent", "true"],
    ),
    row(
        "Watch::disable",
        Act::Watch(|_, watch| say(watch.disable())),
        ["(); silent", "(); silent", "()"],
    ),
    row(
        "Watch::enable",
        Act::Watch(|_, watch| {
            watch.disable();
            say(watch.enable().is_ok())
        }),
        ["true; called", "true; silent", "true"],
    ),
    row(
        "Watch::remove",
        Act::Watch(|_, watch| is_some(watch.remove())),
        ["true; silent", "false; silent", "true"],
    ),
    row(
        "Watch::is_enabled",
        Act::Watch(|_, watch| say(watch.is_enabled())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Watch::set_background",
        Act::Watch(|_, watch| say(watch.set_background(true))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Watch::is_background",
        Act::Watch(|_, watch| say(watch.is_background())),
        ["false; called", "false; silent", "false"],
    ),
    // futures.rs
    row(
        "Reactor::spawn",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            drop(quiet(reactor.spawn(async move {
                comes();
                future::ready(Ok(())).await
            })));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::async_fd",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let fd = reactor
                .async_fd(world.full_pipe())
                .expect("a pipe can be watched");
            let readable = fd.readable();
            world.keep(fd);
            let pending = !readable.is_fired();
            drop(readable.add_both(move |_| comes()));
            say(pending)
        }),
        ["true", "", "true; called"],
    )
    .makes_source(),
    row(
        "AsyncFd::readable",
        Act::AsyncFd(|_, fd| with(fd, |fd| readiness(fd.readable()))),
        ["pending", "failed", "pending"],
    ),
    row(
        "AsyncFd::writable",
        Act::AsyncFd(|_, fd| with(fd, |fd| readiness(fd.writable()))),
        ["pending", "failed", "pending"],
    ),
    row(
        "AsyncFd::source",
        Act::AsyncFd(|_, fd| with(fd, |fd| is_some(fd.source()))),
        ["true", "false", "true"],
    ),
    row(
        "AsyncFd::into_source",
        Act::AsyncFd(|_, fd| is_some(fd.take().map(AsyncFd::into_source).expect("taken once"))),
        ["true", "false", "true"],
    ),
    // guest.rs
    row(
        "Guest::new",
        Act::Reactor(|_, reactor| say(Guest::new(reactor, || ()).is_ok())),
        ["true", "", "true"],
    ),
    row(
        "Guest::turn",
        Act::Guest(|_, guest| say(guest.turn())),
        ["Ok(())", "", RUNNING],
    )
    .waits(),
    // hooks.rs
    row(
        "Hook::remove",
        Act::Hook(|_, hook| say(hook.remove())),
        ["true; silent", "false; silent", "true"],
    ),
    // remote.rs
    row(
        "Reactor::when_stopped",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let stopped = reactor.when_stopped();
            let pending = !stopped.is_fired();
            drop(quiet(stopped.map(move |()| comes())));
            say(pending)
        }),
        ["true; silent", "", "true"],
    ),
    row(
        "Remote::call_from_thread",
        Act::Remote(|_, remote| say(remote.call_from_thread(|_| ()))),
        ["()", "()", "()"],
    ),
    row(
        "Remote::try_call_from_thread",
        Act::Remote(|_, remote| say(remote.try_call_from_thread(|_| ()).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "Remote::defer_from_thread",
        Act::Remote(|_, remote| looked(remote.defer_from_thread(|_| ()))),
        ["looked", "looked", "looked"],
    ),
    row(
        "RemoteCall::wait",
        Act::Remote(|_, remote| say(remote.defer_from_thread(|_| ()).wait().is_ok())),
        ["false", "false", "false"],
    ),
    row(
        "RemoteCall::try_wait",
        Act::Remote(|_, remote| {
            say(remote
                .defer_from_thread(|_| ())
                .try_wait()
                .is_some_and(|answer| answer.is_ok()))
        }),
        ["false", "false", "false"],
    ),
    row(
        "RemoteCall::cancel",
        Act::Remote(|_, remote| say(remote.defer_from_thread(|_| ()).cancel())),
        ["()", "()", "()"],
    ),
    row(
        "Remote::blocking_call",
        Act::Remote(|_, remote| say(remote.blocking_call(|_| Ok(1)))),
        [
            "Err(OnReactorThread)",
            "Err(OnReactorThread)",
            "Err(OnReactorThread)",
        ],
    ),
    row(
        "Remote::is_reactor_thread",
        Act::Remote(|_, remote| say(remote.is_reactor_thread())),
        ["true", "true", "true"],
    ),
    row(
        "Remote::stop",
        Act::Remote(|_, remote| say(remote.stop())),
        ["()", "()", "()"],
    )
    .ends_run(),
    // signals.rs
    row(
        "Reactor::on_signal",
        Act::Reactor(|_, reactor| {
            say(reactor
                .on_signal(SIGNAL, |_| ())
                .map(|watcher| (watcher.is_active(), watcher.remove()))
                .ok())
        }),
        ["Some((true, true))", "", "Some((true, true))"],
    ),
    row(
        "Reactor::on_signal_once",
        Act::Reactor(|_, reactor| {
            say(reactor
                .on_signal_once(SIGNAL, || ())
                .map(|watcher| (watcher.is_active(), watcher.remove()))
                .ok())
        }),
        ["Some((true, true))", "", "Some((true, true))"],
    ),
    row(
        "Reactor::next_signal",
        Act::Reactor(|_, reactor| {
            let next = reactor.next_signal(SIGNAL);
            let pending = !next.is_fired();
            next.cancel();
            drop(quiet(next.map(drop)));
            say(pending)
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::stop_signal",
        Act::Reactor(|_, reactor| say(reactor.stop_signal())),
        ["None", "", "None"],
    ),
    row(
        "SignalWatcher::remove",
        Act::Signal(|_, watcher| say(watcher.remove())),
        ["true; silent", "false; silent", "true"],
    ),
    row(
        "SignalWatcher::is_active",
        Act::Signal(|_, watcher| say(watcher.is_active())),
        ["true", "false", "true"],
    ),
    row(
        "SignalWatcher::set_background",
        Act::Signal(|_, watcher| say(watcher.set_background(true))),
        ["()", "()", "()"],
    ),
    row(
        "SignalWatcher::is_background",
        Act::Signal(|_, watcher| say(watcher.is_background())),
        ["false", "false", "false"],
    ),
    row(
        "SignalWatcher::signal",
        Act::Signal(|_, watcher| say(watcher.signal() == SIGNAL)),
        ["true", "true", "true"],
    ),
    // threads.rs, thread_pool.rs
    row(
        "Reactor::defer_to_thread",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let result = reactor.defer_to_thread(|| Ok::<_, Infallible>(()));
            let pending = !result.is_fired();
            drop(quiet(result.map(move |()| comes())));
            say(pending)
        }),
        ["true; silent", "", "true; called"],
    ),
    row(
        "Reactor::defer_to_thread_pool",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let none = PoolLimits {
                queued_max: 0,
                threads_max: 0,
                ..PoolLimits::default()
            };
            let full = ThreadPool::with_limits("full", none);
            let refused = reactor.defer_to_thread_pool(&full, || Ok::<_, Infallible>(()));
            drop(refused.add_errback(move |_| {
                comes();
                Ok(())
            }));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::call_in_thread",
        Act::Reactor(|_, reactor| say(reactor.call_in_thread(|| ()))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::thread_pool",
        Act::Reactor(|_, reactor| looked(reactor.thread_pool())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::set_thread_pool",
        Act::Reactor(|_, reactor| say(reactor.set_thread_pool(ThreadPool::new("another")))),
        ["()", "", "()"],
    ),
    row(
        "ThreadPool::new",
        Act::Pool(|_, _| looked(ThreadPool::new("new"))),
        ["looked", "", "looked"],
    ),
    row(
        "ThreadPool::with_limits",
        Act::Pool(|_, pool| looked(ThreadPool::with_limits("new", pool.limits()))),
        ["looked", "", "looked"],
    ),
    row(
        "ThreadPool::call_in_thread",
        Act::Pool(|_, pool| say(pool.call_in_thread(|| ()).is_ok())),
        ["true", "", "true"],
    ),
    row(
        "ThreadPool::adjust",
        Act::Pool(|_, pool| say(pool.adjust(pool.limits()).is_ok())),
        ["true", "", "true"],
    ),
    row(
        "ThreadPool::limits",
        Act::Pool(|_, pool| looked(pool.limits())),
        ["looked", "", "looked"],
    ),
    row(
        "ThreadPool::statistics",
        Act::Pool(|_, pool| looked(pool.statistics())),
        ["looked", "", "looked"],
    ),
    row(
        "Job::cancel",
        Act::Job(|_, job| say(job.cancel())),
        ["true", "false", ""],
    ),
    row(
        "Job::is_queued",
        Act::Job(|_, job| say(job.is_queued())),
        ["true", "false", ""],
    ),
    // tcp/port.rs
    row(
        "Port::address",
        Act::Port(|_, port| say(port.address().port().is_some_and(|port| port > 0))),
        ["true", "true", "true"],
    ),
    row(
        "Port::stop_listening",
        Act::Port(|_, port| say(port.stop_listening().is_fired())),
        ["true", "true", "true"],
    ),
    row(
        "Port::is_listening",
        Act::Port(|_, port| say(port.is_listening())),
        ["true", "false", "true"],
    ),
    row(
        "Port::set_background",
        Act::Port(|_, port| say(port.set_background(true))),
        ["()", "()", "()"],
    ),
    row(
        "Port::is_background",
        Act::Port(|_, port| say(port.is_background())),
        ["false", "false", "false"],
    ),
];

fn with(
    fd: &Cell<Option<AsyncFd<std::io::PipeReader>>>,
    act: impl FnOnce(&AsyncFd<std::io::PipeReader>) -> String,
) -> String {
    let there = fd.take().expect("only `into_source` takes it");
    let said = act(&there);
    fd.set(Some(there));
    said
}

fn readiness(deferred: Deferred<(), std::io::Error>) -> String {
    let said = match deferred.is_fired() {
        false => "pending",
        true => "failed",
    };
    drop(deferred.add_both(|_| ()));
    said.into()
}
