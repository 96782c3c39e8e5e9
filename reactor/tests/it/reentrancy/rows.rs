//! What each public function answers, when it is called from inside a callback: those of the
//! reactor and of what it is made of. Others are in `handles`, `transports`, `tasks` and `datagrams`.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use std::fmt::Debug;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::{
    Acceptor, Address, Capability, ChannelEvent, ClientEndpoint, FileSender, Hosts, Interest,
    ListenOptions, Mode, PanicPolicy, Phase, Port, Reactor, Seating, ServerEndpoint, Settle,
    Stream,
};

use super::world::{Act, Peer, quiet};

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
    pub(super) const fn says_so(mut self) -> Self {
        self.says_so = true;
        self
    }

    pub(super) const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    pub(super) const fn ends_run(mut self) -> Self {
        self.ends_run = true;
        self
    }

    pub(super) const fn makes_source(mut self) -> Self {
        self.makes_source = true;
        self
    }
}

pub(super) fn empty_file() -> FileSender {
    FileSender::new(tempfile::tempfile().expect("there is room"))
}

/// What a function answers as text; what answers nothing says `()`.
pub(super) fn say(answer: impl Debug) -> String {
    format!("{answer:?}")
}

pub(super) fn is_some<T>(answer: Option<T>) -> String {
    say(answer.is_some())
}

/// For functions whose answers vary: that they answer is what is stated.
pub(super) fn looked<T>(_: T) -> String {
    "looked".into()
}

pub(super) const SOON: Duration = Duration::ZERO;
pub(super) const FAR: Duration = Duration::from_secs(3600);
pub(super) const RUNNING: &str = "Err(the reactor is running already)";

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
        "Reactor::seed",
        Act::Reactor(|_, reactor| looked(reactor.seed())),
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
];

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
