//! A protocol that writes down what happens to it, and two of them connected.

use std::cell::{Cell, RefCell};
use std::env;
use std::fmt::Display;
use std::fs;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use torsade_deferred::unhandled::{self, HookGuard};
use torsade_deferred::{Deferred, Trigger, succeed};
use torsade_reactor::testing::contract::Ends;
use torsade_reactor::testing::{self, Chunking, Simulation};
use torsade_reactor::{
    Address, ClientEndpoint, ConnectionLost, Limits, Protocol, Reactor, ServerEndpoint, Stream,
    TcpClientEndpoint, TcpServerEndpoint, Transport,
};

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Display) {
        self.0.borrow_mut().push(line.to_string());
    }

    #[track_caller]
    pub(crate) fn check<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(*self.0.borrow(), expected);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// A callback that adds a line.
    pub(crate) fn adds(&self, line: &'static str) -> impl Fn() + use<> + 'static {
        let log = self.clone();
        move || log.add(line)
    }
}

/// Set in the second run of these tests; see `portable.rs`.
pub(crate) const PORTABLE: &str = "TORSADE_TEST_PORTABLE_WAIT";

/// A reactor on the real system.
pub(crate) fn reactor() -> Reactor {
    let reactor = match env::var_os(PORTABLE) {
        Some(_) => testing::portable_reactor(),
        None => Reactor::new(),
    };
    reactor.expect("the system has descriptors left")
}

/// Runs turns until `done` holds. The bound is on turns, not on time: each turn waits for
/// something to happen.
#[track_caller]
pub(crate) fn run_while(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if !goes_on() {
            return;
        }
        reactor
            .turn(Some(Duration::from_secs(10)))
            .expect("the loop can wait");
    }
    panic!("100 000 turns, and still not done");
}

/// What a host's `poll` says of the reactor's descriptor within `limit`; for ever without one.
/// The signals of other tests end no such wait.
pub(crate) fn is_readable(reactor: &Reactor, limit: Option<Duration>) -> bool {
    let limit = limit.map(|limit| Timespec::try_from(limit).expect("it is short"));
    let descriptor = reactor.as_fd();
    let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
    let ready = retry_on_intr(|| poll(&mut fds, limit.as_ref()));
    ready.expect("the system can poll") > 0
}

/// Checks that this thread is one that no handler of a signal ever runs on.
#[track_caller]
pub(crate) fn check_signals_are_blocked() {
    let status = fs::read_to_string("/proc/thread-self/status").expect("it is there on Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.expect("proc(5) says so").trim();
    let mask = u64::from_str_radix(mask, 16).expect("a mask is hexadecimal");
    for signal in [1, 2, 3, 10, 12, 13, 14, 15, 17, 28] {
        assert!(mask & 1 << (signal - 1) != 0, "{signal} is not in {mask:x}");
    }
}

/// Counts the unhandled failures of this thread while it lives.
pub(crate) fn count_unhandled() -> (Rc<Cell<usize>>, HookGuard) {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    (
        count,
        unhandled::set_hook(move |_| counter.set(counter.get() + 1)),
    )
}

type MadeHook = Box<dyn FnOnce(&Transport<End>)>;
type DataHook = Box<dyn FnMut(&Transport<End>, &[u8])>;

/// One end of a connection: logs its events, and does what the test says on data.
pub(crate) struct End {
    pub(crate) name: &'static str,
    pub(crate) log: Log,
    pub(crate) received: Rc<RefCell<Vec<u8>>>,
    pub(crate) on_made: Option<MadeHook>,
    pub(crate) on_data: Option<DataHook>,
    pub(crate) keeps_half_open: bool,
    pub(crate) lost: Option<Trigger<()>>,
}

impl End {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            log: log.clone(),
            received: Rc::default(),
            on_made: None,
            on_data: None,
            keeps_half_open: false,
            lost: None,
        }
    }

    pub(crate) fn on_made(mut self, hook: impl FnOnce(&Transport<Self>) + 'static) -> Self {
        self.on_made = Some(Box::new(hook));
        self
    }

    pub(crate) fn on_data(mut self, hook: impl FnMut(&Transport<Self>, &[u8]) + 'static) -> Self {
        self.on_data = Some(Box::new(hook));
        self
    }

    pub(crate) fn keeps_half_open(mut self) -> Self {
        self.keeps_half_open = true;
        self
    }

    pub(crate) fn fires_when_lost(&mut self) -> Deferred<()> {
        let (trigger, deferred) = Deferred::new();
        self.lost = Some(trigger);
        deferred
    }
}

impl Protocol for End {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.log.add(format!("{} made", self.name));
        if let Some(hook) = self.on_made.take() {
            hook(transport);
        }
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.received.borrow_mut().extend_from_slice(data);
        if let Some(hook) = &mut self.on_data {
            hook(transport, data);
        }
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        if self.keeps_half_open {
            self.log.add(format!("{} read lost", self.name));
        } else {
            transport.lose_connection();
        }
    }

    fn write_paused(&mut self, _transport: &Transport<Self>) {
        self.log.add(format!("{} paused", self.name));
    }

    fn write_resumed(&mut self, _transport: &Transport<Self>) {
        self.log.add(format!("{} resumed", self.name));
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        let reason = match reason {
            ConnectionLost::Io(error) => format!("{:?}", error.kind()),
            ConnectionLost::Failed(failure) => failure.to_string(),
            ConnectionLost::Panicked { message } => format!("panic {message}"),
            other => format!("{other:?}"),
        };
        self.log.add(format!("{} lost: {reason}", self.name));
        if let Some(trigger) = self.lost.take() {
            trigger.callback(());
        }
    }
}

/// Two ends on a loopback connection, both made.
pub(crate) struct Pair {
    pub(crate) client: Transport<End>,
    pub(crate) server: Transport<End>,
}

pub(crate) fn connect(reactor: &Reactor, client: End, server: End) -> Pair {
    let accepted = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&accepted);
    let mut server = Some(server);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            let slot = Rc::clone(&slot);
            let mut end = server.take()?;
            let then = end.on_made.take();
            Some(end.on_made(move |transport| {
                slot.replace(Some(transport.clone()));
                if let Some(then) = then {
                    then(transport);
                }
            }))
        })
        .expect("loopback can listen");
    let client = reactor
        .run_until(reactor.connect_tcp(port.address(), |_| client))
        .expect("loopback can connect");
    run_while(reactor, || accepted.borrow().is_none());
    drop(port.stop_listening());
    let server = accepted.take().expect("it was accepted above");
    Pair { client, server }
}

/// The ends of a connection between two hosts of a simulation. The client's reactor drives
/// them: while it waits, the rest of the world goes on.
pub(crate) fn simulated_ends(seed: u64, chunking: Chunking) -> Ends {
    let simulation = Simulation::new(seed);
    simulation.set_chunking(chunking);
    let (client, server) = simulated_streams(&simulation);
    let reactor = client.socket().reactor();
    Ends::new(reactor, client, server).keep(simulation)
}

/// A connection between two new hosts: the client's end, and the server's.
pub(crate) fn simulated_streams(simulation: &Simulation) -> (Rc<dyn Stream>, Rc<dyn Stream>) {
    let (host, client) = (simulation.host("server"), simulation.host("client"));
    let accepted = Rc::new(RefCell::new(None::<Rc<dyn Stream>>));
    let place = Rc::clone(&accepted);
    let listening = TcpServerEndpoint::new(":7").listen_streams(
        &host.reactor(),
        Rc::new(move |stream| drop(place.replace(Some(stream)))),
    );
    let port = host.reactor().run_until(listening).expect("it is free");
    let reactor = client.reactor();
    let connecting = TcpClientEndpoint::new((host.ip(), 7)).connect_stream(&reactor);
    let client = reactor.run_until(connecting).expect("it listens");
    run_while(&reactor, || accepted.borrow().is_none());
    drop(port.stop_listening());
    (client, accepted.take().expect("it was accepted above"))
}

/// An endpoint whose stream is there already.
pub(crate) struct Place(RefCell<Option<Rc<dyn Stream>>>);

impl Place {
    pub(crate) fn of(stream: Rc<dyn Stream>) -> Self {
        Self(RefCell::new(Some(stream)))
    }
}

impl ClientEndpoint for Place {
    fn connect_stream(&self, _: &Reactor) -> Deferred<Rc<dyn Stream>> {
        succeed(self.0.take().expect("it is asked once"))
    }
}

/// Limits small enough for a test to reach.
pub(crate) fn small_limits() -> Limits {
    Limits {
        unsent_high: 10_000,
        unsent_low: 1_000,
        unsent_max: 4 << 20,
        ..Limits::default()
    }
}

/// What panics when it is dropped, once a test has gone well.
pub(crate) struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        // A second panic would end the process.
        if !std::thread::panicking() {
            panic!("in a drop");
        }
    }
}
