//! What each public function answers, when it is called from inside a callback.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::task::{
    Cooperator, LoopingCall, MissedTicks, TimerService, defer_later, react, react_with, sleep,
};
use torsade_reactor::testing::MemoryStream;
use torsade_reactor::{
    Acceptor, Address, AsyncFd, Capability, ChannelEvent, ClientEndpoint, ConnectionLimits,
    ConnectionLost, FileSender, Guest, Hosts, IdleTimeout, Interest, Limits, ListenOptions, Mode,
    PanicPolicy, Phase, PoolLimits, Port, Producer, Reactor, Seating, ServerEndpoint, Settle,
    SocketOption, Stream, Streaming, ThreadPool, Transport, Visited, tunnel, tunnel_with_timeout,
};

use super::world::{Act, OnTransport, Peer, SIGNAL, quiet};

pub(super) const SILENT: &str = "silent";
pub(super) const CALLED: &str = "called";
pub(super) const AT_ONCE: &str = "at once";
/// It answers nothing.
pub(super) const NONE: &str = "()";

pub(super) struct Row {
    pub(super) function: &'static str,
    pub(super) act: Act,
    /// On a sibling, on one that is gone, on the callback's own: what it says, and after a
    /// semicolon what comes of it: the callback concerned is called in a later turn, is
    /// called at once, or stays silent.
    ///
    /// For the reactor's functions its own is the reactor that runs, and the sibling one
    /// of the same thread that does not.
    pub(super) expected: [&'static str; 3],
    /// It writes to standard error: in one place only.
    pub(super) says_so: bool,
    /// Outside of a callback it waits.
    pub(super) waits: bool,
    /// The run ends with the turn.
    pub(super) ends_run: bool,
    /// What it makes goes when the reactor stops.
    pub(super) makes_source: bool,
}

/// A name that no other socket of this system has.
fn unix_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("@torsade-row-{}-{count}", std::process::id())
}

pub(super) const fn row(function: &'static str, act: Act, expected: [&'static str; 3]) -> Row {
    Row {
        function,
        act,
        expected,
        says_so: false,
        waits: false,
        ends_run: false,
        makes_source: false,
    }
}

impl Row {
    const fn says_so(mut self) -> Self {
        self.says_so = true;
        self
    }

    const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    const fn ends_run(mut self) -> Self {
        self.ends_run = true;
        self
    }

    const fn makes_source(mut self) -> Self {
        self.makes_source = true;
        self
    }
}

/// What a function answers as text; what answers nothing says `()`.
fn empty_file() -> FileSender {
    FileSender::new(tempfile::tempfile().expect("there is room"))
}

struct Idle;

impl Producer for Idle {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {}
    fn stop_producing(&mut self) {}
}

pub(super) fn say(answer: impl Debug) -> String {
    format!("{answer:?}")
}

fn is_some<T>(answer: Option<T>) -> String {
    say(answer.is_some())
}

/// For functions whose answers vary: that they answer is what is stated.
pub(super) fn looked<T>(_: T) -> String {
    "looked".into()
}

const SOON: Duration = Duration::ZERO;
const FAR: Duration = Duration::from_secs(3600);
const RUNNING: &str = "Err(the reactor is running already)";

/// One line a function. The order is that of the sources.
pub(super) const ROWS: &[Row] = &[
    // reactor.rs
    row(
        "Reactor::new",
        Act::Reactor(|_, _| say(Reactor::new().is_ok())),
        ["true", "", "true"],
    ),
    row(
        "Reactor::run",
        Act::Reactor(|_, reactor| say(reactor.run())),
        ["Ok(())", "", RUNNING],
    )
    .waits(),
    row(
        "Reactor::run_until_idle",
        Act::Reactor(|_, reactor| say(reactor.run_until_idle())),
        ["Ok(())", "", RUNNING],
    )
    .waits(),
    row(
        "Reactor::close",
        Act::Reactor(|_, reactor| say(reactor.close().map(|dump| dump.is_empty()))),
        ["Ok(true)", "", RUNNING],
    )
    .waits(),
    row(
        "Reactor::remove_watches",
        Act::Reactor(|_, reactor| looked(reactor.remove_watches())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::run_until",
        Act::Reactor(|_, reactor| {
            say(reactor
                .run_until::<(), Failure>(succeed(()))
                .map_err(|failure| failure.check::<torsade_reactor::RunError>()))
        }),
        ["Ok(())", "", "Err(true)"],
    )
    .waits(),
    row(
        "Reactor::turn",
        Act::Reactor(|_, reactor| say(reactor.turn(Some(SOON)))),
        ["Ok(())", "", RUNNING],
    )
    .waits(),
    row(
        "Reactor::downgrade",
        Act::Reactor(|_, reactor| is_some(reactor.downgrade().upgrade())),
        ["true", "", "true"],
    ),
    row(
        "WeakReactor::upgrade",
        Act::Weak(|_, weak| is_some(weak.upgrade())),
        ["true", "false", "true"],
    ),
    row(
        "Reactor::stop",
        Act::Reactor(|_, reactor| say(reactor.stop())),
        ["()", "", "()"],
    )
    .ends_run(),
    row(
        "Reactor::crash",
        Act::Reactor(|_, reactor| say(reactor.crash())),
        ["()", "", "()"],
    )
    .ends_run(),
    row(
        "Reactor::is_running",
        Act::Reactor(|_, reactor| say(reactor.is_running())),
        ["false", "", "true"],
    ),
    row(
        "Reactor::add_hook",
        Act::Reactor(|world, reactor| {
            say(reactor
                .add_hook(torsade_reactor::Place::Check, world.comes())
                .remove())
        }),
        ["true; silent", "", "true; silent"],
    ),
    row(
        "Reactor::on_startup",
        Act::Reactor(|world, reactor| looked(reactor.on_startup(Phase::Before, world.comes()))),
        ["looked; silent", "", "looked"],
    ),
    row(
        "Reactor::on_shutdown",
        Act::Reactor(|world, reactor| looked(reactor.on_shutdown(Phase::Before, world.comes()))),
        ["looked; silent", "", "looked"],
    ),
    row(
        "Reactor::set_shutdown_limit",
        Act::Reactor(|_, reactor| say(reactor.set_shutdown_limit(FAR))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::next_deadline",
        Act::Reactor(|_, reactor| looked(reactor.next_deadline())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::is_work_pending",
        Act::Reactor(|_, reactor| looked(reactor.is_work_pending())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::lend_buffer",
        Act::Reactor(|_, reactor| looked(reactor.lend_buffer())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::return_buffer",
        Act::Reactor(|_, reactor| say(reactor.return_buffer(vec![1]))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::descriptor",
        Act::Reactor(|_, reactor| say(reactor.descriptor().is_ok())),
        ["true", "", "true"],
    ),
    row(
        "Reactor::supports",
        Act::Reactor(|_, reactor| say(reactor.supports(Capability::Signals))),
        ["true", "", "true"],
    ),
    row(
        "Reactor::require",
        Act::Reactor(|_, reactor| say(reactor.require(Capability::Network))),
        ["Ok(())", "", "Ok(())"],
    ),
    row(
        "Reactor::watch_slow_callbacks",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(reactor.watch_slow_callbacks(Some(SOON), move |_| comes()))
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "Reactor::set_panic_policy",
        Act::Reactor(|_, reactor| say(reactor.set_panic_policy(PanicPolicy::Report))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::warn_of_slow_callbacks",
        Act::Reactor(|_, reactor| say(reactor.warn_of_slow_callbacks(FAR))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::statistics",
        Act::Reactor(|_, reactor| looked(reactor.statistics())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::dump",
        Act::Reactor(|_, reactor| looked(reactor.dump().to_string())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::set_stop_on_signals",
        Act::Reactor(|_, reactor| say(reactor.set_stop_on_signals(true))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::now",
        Act::Reactor(|_, reactor| looked(reactor.now())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::system_time",
        Act::Reactor(|_, reactor| looked(reactor.system_time())),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::call_soon",
        Act::Reactor(|world, reactor| say(reactor.call_soon(world.comes()).is_active())),
        ["true; silent", "", "true; called"],
    ),
    row(
        "Reactor::call_later",
        Act::Reactor(|world, reactor| say(reactor.call_later(SOON, world.comes()).is_active())),
        ["true; silent", "", "true; called"],
    ),
    row(
        "Reactor::call_at",
        Act::Reactor(|world, reactor| {
            say(reactor.call_at(reactor.now(), world.comes()).is_active())
        }),
        ["true; silent", "", "true; called"],
    ),
    row(
        "Reactor::call_when_running",
        Act::Reactor(|world, reactor| say(reactor.call_when_running(world.comes()))),
        ["(); silent", "", "(); called"],
    ),
    row(
        "Reactor::remote",
        Act::Reactor(|_, reactor| say(reactor.remote().is_reactor_thread())),
        ["true", "", "true"],
    ),
    row(
        "Reactor::watch",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(reactor
                .watch(
                    world.full_pipe(),
                    Interest::Read,
                    Mode::OneShot,
                    move |_, _| comes(),
                )
                .is_ok_and(|watch| watch.is_enabled()))
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    row(
        "Reactor::add_reader",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(reactor
                .add_reader(world.full_pipe(), move |_| comes())
                .is_ok())
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    row(
        "Reactor::add_writer",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(reactor
                .add_writer(world.empty_pipe(), move |_| comes())
                .is_ok())
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    row(
        "Reactor::settle_later",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(reactor.settle_later(Rc::new(Settled(Box::new(comes)))))
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "Reactor::listen_tcp",
        Act::Reactor(|_, reactor| {
            say(reactor
                .listen_tcp("127.0.0.1:0", |_: &Address| Peer::default())
                .is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::connect_tcp",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let port = reactor
                .listen_tcp("127.0.0.1:0", |_: &Address| Peer::default())
                .expect("loopback can listen");
            let made = reactor.connect_tcp(port.address(), |_| Peer::default());
            let pending = !made.is_fired();
            drop(quiet(made.map(move |_| comes())));
            say(pending)
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    // unix.rs
    row(
        "Reactor::listen_unix",
        Act::Reactor(|_, reactor| {
            say(reactor
                .listen_unix(unix_name(), |_: &Address| Peer::default())
                .is_ok())
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::listen_unix_with",
        Act::Reactor(|_, reactor| {
            let options = ListenOptions::new();
            let factory = |_: &Address| Peer::default();
            say(reactor
                .listen_unix_with(unix_name(), &options, factory)
                .is_ok())
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::connect_unix",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let port = reactor
                .listen_unix(unix_name(), |_: &Address| Peer::default())
                .expect("nobody has this name");
            let made = reactor.connect_unix(port.address(), |_| Peer::default());
            let pending = !made.is_fired();
            drop(quiet(made.map(move |_| comes())));
            say(pending)
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    row(
        "Reactor::adopt_listener",
        Act::Reactor(|_, reactor| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can listen");
            let port = reactor.adopt_listener(listener, |_: &Address| Peer::default());
            say(port.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::adopt_connection",
        Act::Reactor(|_, reactor| {
            let (ours, _theirs) = UnixStream::pair().expect("there are descriptors left");
            let made = reactor.adopt_connection(ours, |_| Peer::default());
            say(made.is_ok_and(|transport| transport.is_connected()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::connect_pair",
        Act::Reactor(|_, reactor| {
            let made = reactor.connect_pair(|_| Peer::default(), |_| Peer::default());
            say(made.is_ok())
        }),
        ["true", "", "true"],
    ),
    // boot_clock.rs, dump.rs
    row(
        "Reactor::boot_clock",
        Act::Reactor(|_, reactor| say(reactor.boot_clock().is_ok())),
        ["true", "", "true"],
    ),
    row(
        "BootClock::now",
        Act::Reactor(|_, reactor| looked(reactor.boot_clock().map(|clock| clock.now()))),
        ["looked", "", "looked"],
    ),
    row(
        "BootClock::call_later",
        Act::Reactor(|world, reactor| {
            let clock = reactor.boot_clock().expect("there are descriptors left");
            say(clock.call_later(SOON, world.comes()).is_active())
        }),
        ["true; silent", "", "true; called"],
    ),
    row(
        "BootClock::call_at",
        Act::Reactor(|world, reactor| {
            let clock = reactor.boot_clock().expect("there are descriptors left");
            say(clock.call_at(clock.now(), world.comes()).is_active())
        }),
        ["true; silent", "", "true; called"],
    ),
    row(
        "Dump::is_empty",
        Act::Reactor(|_, reactor| looked(reactor.dump().is_empty())),
        ["looked", "", "looked"],
    ),
    // channel.rs
    // endpoints/, protocol.rs
    row(
        "Reactor::connect",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let made = reactor.connect(&Nowhere, |_| Peer::default());
            drop(made.map(drop).add_errback(move |_| {
                comes();
                Ok(())
            }));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::connect_protocol",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let made = reactor.connect_protocol(&Nowhere, Peer::default());
            drop(made.map(drop).add_errback(move |_| {
                comes();
                Ok(())
            }));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::resolve",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            drop(quiet(reactor.resolve("127.0.0.1", 1).map(move |_| comes())));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::reverse_lookup",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            reactor.set_resolver(Hosts::new().host("local.test", [[127, 0, 0, 1]]));
            let found = reactor.reverse_lookup([127, 0, 0, 1]);
            drop(quiet(found.map(move |_| comes())));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Reactor::set_resolver",
        Act::Reactor(|_, reactor| say(reactor.set_resolver(Hosts::new()))),
        ["()", "", "()"],
    ),
    row(
        "Reactor::listen",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let port = reactor.listen(&Nowhere, |_: &Address| Peer::default());
            drop(port.map(drop).add_errback(move |_| {
                comes();
                Ok(())
            }));
            say(())
        }),
        ["(); at once", "", "(); at once"],
    ),
    row(
        "Seating::new",
        Act::Reactor(|_, _| looked(Seating::new(|_: &Address| Peer::default()))),
        ["looked", "", "looked"],
    ),
    row(
        "Reactor::channel",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let (sender, _) = reactor.channel(move |_, _: ChannelEvent<u8>| comes());
            say(sender.send(1).is_ok())
        }),
        ["true; silent", "", "true; called"],
    )
    .makes_source(),
    row(
        "Reactor::bounded_channel",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let (sender, _) = reactor.bounded_channel(1, move |_, _: ChannelEvent<u8>| comes());
            say([sender.send(1), sender.send(2)].map(|sent| sent.is_ok()))
        }),
        ["[true, false]; silent", "", "[true, false]; called"],
    )
    .makes_source(),
    row(
        "Reactor::ping",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            let (ping, _) = reactor.ping(move |_| comes());
            ping.ping();
            say(ping.ping())
        }),
        ["(); silent", "", "(); called"],
    )
    .makes_source(),
    row(
        "Sender::send",
        Act::Sender(|_, sender| say(sender.send(1))),
        ["Ok(()); called", "Err(Closed(..)); silent", "Ok(())"],
    ),
    row(
        "Sender::try_send",
        Act::Sender(|_, sender| say(sender.try_send(1))),
        ["Ok(()); called", "Err(Closed(..)); silent", "Ok(())"],
    ),
    row(
        "Ping::ping",
        Act::Ping(|_, ping| say(ping.ping())),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Channel::remove",
        Act::Channel(|_, channel| say(channel.remove())),
        ["true; silent", "false; silent", "true"],
    ),
    row(
        "Channel::is_open",
        Act::Channel(|_, channel| say(channel.is_open())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Channel::set_background",
        Act::Channel(|_, channel| say(channel.set_background(true))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Channel::is_background",
        Act::Channel(|_, channel| say(channel.is_background())),
        ["false; called", "false; silent", "false"],
    ),
    row(
        "Channel::reactor",
        Act::Channel(|_, channel| looked(channel.reactor())),
        ["looked; called", "looked; silent", "looked"],
    ),
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
    // transport.rs
    row(
        "Transport::over",
        Act::Transport(|_, transport| {
            looked(Transport::over(
                Peer::default(),
                Rc::clone(transport.stream()),
            ))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::connect",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            let made: OnTransport = Some(Box::new(move |_| comes()));
            let next = Peer {
                made,
                ..Peer::default()
            };
            looked(Transport::connect(next, Rc::clone(transport.stream())))
        }),
        ["looked; at once", "looked; at once", "looked; at once"],
    ),
    row(
        "Transport::write",
        Act::Transport(|_, transport| say(transport.write("x"))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::try_write",
        Act::Transport(|_, transport| {
            let taken = transport.try_write("x").map_err(|error| error.kind());
            match taken {
                // What the callback wrote before waits.
                Ok(1) | Err(ErrorKind::WouldBlock) => say("now or never"),
                other => say(other),
            }
        }),
        ["\"now or never\"", "Err(NotConnected)", "\"now or never\""],
    ),
    row(
        "Transport::session_number",
        Act::Transport(|_, transport| say(transport.session_number() > 0)),
        ["true", "true", "true"],
    ),
    row(
        "Transport::write_sequence",
        Act::Transport(|_, transport| say(transport.write_sequence(["x", "y"]))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::register_producer",
        Act::Transport(|_, transport| {
            let registered = transport.register_producer(Idle, Streaming::Push);
            transport.unregister_producer();
            say(registered)
        }),
        ["Ok(())", "Ok(())", "Ok(())"],
    ),
    row(
        "Transport::unregister_producer",
        Act::Transport(|_, transport| say(transport.unregister_producer())),
        ["()", "()", "()"],
    ),
    row(
        "FileSender::new",
        Act::Transport(|_, transport| looked(quiet(empty_file().send(transport).map(drop)))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::send",
        Act::Transport(|_, transport| looked(quiet(empty_file().send(transport).map(drop)))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::part",
        Act::Transport(|_, _| looked(empty_file().part(0, 0))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::transform",
        Act::Transport(|_, _| looked(empty_file().transform(|chunk| chunk.to_vec()))),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::write_paused",
        Act::Transport(|_, transport| {
            transport.write_paused(|_, _| {});
            say(transport.write_resumed(|_, _| {}))
        }),
        ["()", "()", "()"],
    ),
    row(
        "Transport::write_resumed",
        Act::Transport(|_, transport| say(transport.write_resumed(|_, _| {}))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::downgrade",
        Act::Transport(|_, transport| is_some(transport.downgrade().upgrade())),
        ["true", "true", "true"],
    ),
    row(
        "WeakTransport::upgrade",
        Act::Transport(|_, transport| is_some(transport.downgrade().upgrade())),
        ["true", "true", "true"],
    ),
    row(
        "ConnectionLimits::count",
        Act::Transport(|_, transport| {
            let (limits, accepted) = (ConnectionLimits::new(1), Rc::new(Cell::new(0)));
            let note = Rc::clone(&accepted);
            let acceptor = limits.acceptor(Rc::new(move |stream: Rc<dyn Stream>| {
                note.set(note.get() + 1);
                stream.abort_connection(ConnectionLost::Aborted);
            }));
            for _ in 0..2 {
                acceptor.accept(MemoryStream::new(&transport.reactor()));
            }
            // The first is being lost, and has its place until it is.
            say((accepted.get(), limits.count()))
        }),
        ["(1, 1)", "(1, 1)", "(1, 1)"],
    ),
    row(
        "ConnectionLimits::count_of",
        Act::Transport(|_, transport| say(ConnectionLimits::new(1).count_of(&transport.peer()))),
        ["0", "0", "0"],
    ),
    row(
        "IdleTimeout::set_timeout",
        Act::Transport(|_, transport| {
            say(IdleTimeout::default().set_timeout(transport, Some(SOON)))
        }),
        ["None", "None", "None"],
    ),
    row(
        "IdleTimeout::set_timeout_calling",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout_calling(transport, Some(FAR), |_, _| {});
            say(idle.set_timeout_calling(transport, None, |_, _| {}))
        }),
        ["Some(3600s)", "Some(3600s)", "Some(3600s)"],
    ),
    row(
        "IdleTimeout::reset_timeout",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout(transport, Some(FAR));
            say(idle.reset_timeout())
        }),
        [NONE, NONE, NONE],
    ),
    row(
        "IdleTimeout::timeout",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout(transport, Some(FAR));
            say(idle.timeout())
        }),
        ["Some(3600s)", "Some(3600s)", "Some(3600s)"],
    ),
    row(
        "task::tunnel",
        Act::Transport(|_, transport| {
            let stream = MemoryStream::new(&transport.reactor());
            let other = MemoryStream::new(&transport.reactor());
            looked(quiet(tunnel(stream, other).map(drop)))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "task::tunnel_with_timeout",
        Act::Transport(|_, transport| {
            let stream = MemoryStream::new(&transport.reactor());
            let other = MemoryStream::new(&transport.reactor());
            looked(quiet(tunnel_with_timeout(stream, other, FAR).map(drop)))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::lose_connection",
        Act::Transport(|_, transport| {
            transport.lose_connection();
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::lose_connection_because",
        Act::Transport(|_, transport| {
            transport.lose_connection_because(ConnectionLost::Done);
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::abort_connection",
        Act::Transport(|_, transport| {
            transport.abort_connection();
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::lose_write_connection",
        Act::Transport(|_, transport| say(transport.lose_write_connection())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::pause_reading",
        Act::Transport(|_, transport| say(transport.pause_reading())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::resume_reading",
        Act::Transport(|_, transport| say(transport.resume_reading())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::is_connected",
        Act::Transport(|_, transport| say(transport.is_connected())),
        ["true", "false", "true"],
    ),
    row(
        "Transport::unsent",
        Act::Transport(|_, transport| looked(transport.unsent())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::is_congested",
        Act::Transport(|_, transport| looked(transport.is_congested())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::set_throttled",
        Act::Transport(|_, transport| say(transport.set_throttled(false))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::flush",
        Act::Transport(|_, transport| {
            let flushed = transport.flush();
            looked(quiet(flushed))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::limits",
        Act::Transport(|_, transport| looked(transport.limits())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::set_limits",
        Act::Transport(|_, transport| say(transport.set_limits(Limits::default()))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::set_option",
        Act::Transport(|_, transport| {
            say(transport.set_option(SocketOption::NoDelay(true)).is_ok())
        }),
        ["true", "false", "true"],
    ),
    row(
        "Transport::set_nodelay",
        Act::Transport(|_, transport| say(transport.set_nodelay(true))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::set_background",
        Act::Transport(|_, transport| say(transport.set_background(false))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::peer",
        Act::Transport(|_, transport| say(transport.peer().port().is_some())),
        ["true", "true", "true"],
    ),
    row(
        "Transport::host",
        Act::Transport(|_, transport| say(transport.host().port().is_some())),
        ["true", "true", "true"],
    ),
    row(
        "Transport::reactor",
        Act::Transport(|_, transport| looked(transport.reactor())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::stream",
        Act::Transport(|_, transport| say(transport.stream().is_connected())),
        ["true", "false", "true"],
    ),
    row(
        "Transport::call",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.call(move |_, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "Transport::when",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.when(succeed::<_, Failure>(()), move |_, _, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "Transport::visit",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            visited(transport.visit(move |_, _| comes()))
        }),
        ["made; at once", "over; silent", "busy; silent"],
    ),
    row(
        "Transport::leave",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.leave(move |_| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    // task/
    row(
        "task::sleep",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            drop(quiet(sleep(reactor, SOON).map(move |()| comes())));
            say(())
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "task::defer_later",
        Act::Reactor(|world, reactor| {
            drop(quiet(defer_later(reactor, SOON, world.comes())));
            say(())
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "task::react",
        Act::Reactor(|_, _| say(react(|_| ()))),
        [SUCCESS, "", SUCCESS],
    )
    .waits(),
    row(
        "task::react_with",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(react_with(reactor, move |_| comes()))
        }),
        [
            "ExitCode(unix_exit_status(0)); at once",
            "",
            "ExitCode(unix_exit_status(1)); silent",
        ],
    )
    .waits()
    .says_so(),
    row(
        "LoopingCall::new",
        Act::Reactor(|world, reactor| say(LoopingCall::new(reactor, world.comes()).is_running())),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::with_count",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(LoopingCall::with_count(reactor, move |_| comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::with_handle",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(LoopingCall::with_handle(reactor, move |_, _| comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::start",
        Act::Looping(|_, looping| started(looping.start(SOON))),
        ["refused; called", "running; at once", "refused"],
    ),
    row(
        "LoopingCall::start_later",
        Act::Looping(|_, looping| started(looping.start_later(SOON))),
        ["refused; called", "running; called", "refused"],
    ),
    row(
        "LoopingCall::stop",
        Act::Looping(|_, looping| say(looping.stop())),
        ["true; silent", "false; silent", "true"],
    ),
    row(
        "LoopingCall::reset",
        Act::Looping(|_, looping| say(looping.reset())),
        ["true; called", "false; silent", "false"],
    ),
    row(
        "LoopingCall::set_interval",
        Act::Looping(|_, looping| say(looping.set_interval(FAR))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "LoopingCall::interval",
        Act::Looping(|_, looping| say(looping.interval())),
        ["0ns; called", "0ns; silent", "0ns"],
    ),
    row(
        "LoopingCall::set_missed_ticks",
        Act::Looping(|_, looping| say(looping.set_missed_ticks(MissedTicks::default()))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "LoopingCall::is_running",
        Act::Looping(|_, looping| say(looping.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "TimerService::new",
        Act::Reactor(|world, reactor| {
            say(TimerService::new(SOON, reactor, world.comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "TimerService::start",
        Act::Service(|_, service| say(service.start().is_ok())),
        ["false; called", "true; at once", "false"],
    ),
    row(
        "TimerService::stop",
        Act::Service(|_, service| say(service.stop().is_fired())),
        ["true; silent", "true; silent", "false"],
    ),
    row(
        "TimerService::is_running",
        Act::Service(|_, service| say(service.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::new",
        Act::Reactor(|_, reactor| say(Cooperator::new(reactor).is_running())),
        ["true", "", "true"],
    ),
    row(
        "Cooperator::unstarted",
        Act::Reactor(|_, reactor| say(Cooperator::unstarted(reactor).is_running())),
        ["false", "", "false"],
    ),
    row(
        "Cooperator::cooperate",
        Act::Cooperator(|world, cooperator| {
            let comes = world.comes();
            let task = cooperator.cooperate((0..2).map(move |_| comes()));
            let pending = !task.when_done().add_errback(|_| Ok(())).is_fired();
            say(pending)
        }),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::coiterate",
        Act::Cooperator(|world, cooperator| {
            let comes = world.comes();
            say(!quiet(cooperator.coiterate((0..2).map(move |_| comes()))).is_fired())
        }),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::set_slice",
        Act::Cooperator(|_, cooperator| say(cooperator.set_slice(SOON))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Cooperator::set_slice_end",
        Act::Cooperator(|_, cooperator| say(cooperator.set_slice_end(|| || true))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Cooperator::start",
        Act::Cooperator(|_, cooperator| {
            cooperator.start();
            say(cooperator.is_running())
        }),
        ["true; called", "true; silent", "true"],
    ),
    row(
        "Cooperator::stop",
        Act::Cooperator(|_, cooperator| {
            cooperator.stop();
            say(cooperator.is_running())
        }),
        ["false; silent", "false; silent", "false"],
    ),
    row(
        "Cooperator::is_running",
        Act::Cooperator(|_, cooperator| say(cooperator.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "CooperativeTask::pause",
        Act::Task(|_, task| say(task.pause())),
        ["Ok(()); silent", "Err(Stopped); silent", "Ok(())"],
    ),
    row(
        "CooperativeTask::resume",
        Act::Task(|_, task| say(task.resume())),
        [
            "Err(NotPaused); called",
            "Err(Stopped); silent",
            "Err(NotPaused)",
        ],
    ),
    row(
        "CooperativeTask::stop",
        Act::Task(|_, task| say(task.stop())),
        ["Ok(()); silent", "Err(Stopped); silent", "Ok(())"],
    ),
    row(
        "CooperativeTask::when_done",
        Act::Task(|_, task| say(quiet(task.when_done()).is_fired())),
        ["false; called", "true; silent", "false"],
    ),
];

const SUCCESS: &str = "ExitCode(unix_exit_status(0))";

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

fn visited<F>(visited: Visited<F>) -> String {
    match visited {
        Visited::Made => "made",
        Visited::Over => "over",
        Visited::Busy(_) => "busy",
    }
    .into()
}

fn started(deferred: Deferred<LoopingCall>) -> String {
    let said = if deferred.is_fired() {
        "refused"
    } else {
        "running"
    };
    drop(quiet(deferred.map(drop)));
    said.into()
}

/// An endpoint that fails.
struct Nowhere;

impl ClientEndpoint for Nowhere {
    fn connect_stream(&self, _: &Reactor) -> Deferred<Rc<dyn Stream>> {
        fail(Failure::message("nowhere"))
    }
}

impl ServerEndpoint for Nowhere {
    fn listen_streams(&self, _: &Reactor, _: Rc<dyn Acceptor>) -> Deferred<Port> {
        fail(Failure::message("nowhere"))
    }
}

/// A layer that is to be settled.
pub(super) struct Settled(pub(super) Box<dyn Fn()>);

impl Settle for Settled {
    fn settle(self: Rc<Self>) {
        (self.0)();
    }
}
