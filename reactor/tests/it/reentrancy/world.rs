//! One reactor, one callback, one function, and what it is called on.

use std::cell::{Cell, RefCell};
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure};
use torsade_reactor::task::{CooperativeTask, Cooperator, LoopingCall, TimerService};
use torsade_reactor::{
    Address, AsyncFd, Channel, ChannelEvent, DatagramTransport, DelayedCall, Guest, Hook, Interest,
    Job, Mode, Ping, PoolLimits, Port, Protocol, Reactor, Remote, Sender, Signal, SignalWatcher,
    SoonCall, ThreadPool, Transport, Watch, WeakReactor,
};

use super::SETTLED;
use super::datagrams::{self, Listener};
use super::places::Place;
use super::rows::{AT_ONCE, CALLED, NONE, Row, SILENT};
use crate::common::reactor;

/// What functions are called on: one entry a type.
macro_rules! kinds {
    ($($kind:ident($target:ty)),* $(,)?) => {
        pub(super) enum Target {
            $($kind($target)),*
        }

        /// A function to be called. What it answers is text, to be compared with its row.
        pub(super) enum Act {
            $($kind(fn(&World, &$target) -> String)),*
        }

        #[derive(Clone, Copy, PartialEq)]
        pub(super) enum Kind {
            $($kind),*
        }

        impl Act {
            pub(super) fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind),*
                }
            }

            /// `None` if it is for another type.
            fn on(&self, world: &World, target: &Target) -> Option<String> {
                match (self, target) {
                    $((Self::$kind(act), Target::$kind(target)) => Some(act(world, target)),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Reactor(Reactor),
    Soon(SoonCall),
    Delayed(DelayedCall),
    Hook(Hook),
    Watch(Watch<PipeReader>),
    AsyncFd(Cell<Option<AsyncFd<PipeReader>>>),
    Signal(SignalWatcher),
    Channel(Channel),
    Sender(Sender<u8>),
    Ping(Ping),
    Remote(Remote),
    Pool(ThreadPool),
    Job(Job),
    Port(Port),
    Transport(Transport<Peer>),
    Udp(DatagramTransport<Listener>),
    Looping(LoopingCall),
    Cooperator(Cooperator),
    Task(CooperativeTask),
    Guest(Guest),
    Weak(WeakReactor),
    Service(TimerService),
}

impl Kind {
    /// Whether it goes when its reactor stops.
    fn goes_with_a_stop(self) -> bool {
        matches!(
            self,
            Self::Watch
                | Self::AsyncFd
                | Self::Channel
                | Self::Sender
                | Self::Ping
                | Self::Transport
                | Self::Port
                | Self::Udp
        )
    }
}

/// A signal that nobody else in these tests waits for.
pub(super) const SIGNAL: Signal = Signal::from_number(rustix::process::Signal::URG.as_raw());

/// Counts what befalls something that was acted on.
#[derive(Clone, Default)]
pub(super) struct Fate {
    calls: Rc<Cell<usize>>,
    at_once: Rc<Cell<usize>>,
}

impl Fate {
    pub(super) fn come(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// What came before does not count.
    fn begin(&self) {
        self.calls.set(0);
    }

    /// From here on it may come: the function has returned.
    fn returned(&self) {
        self.at_once.set(self.calls.get());
    }

    fn text(&self) -> &'static str {
        match (self.at_once.get(), self.calls.get()) {
            (0, 0) => SILENT,
            (0, _) => CALLED,
            _ => AT_ONCE,
        }
    }
}

/// What a function is called on.
pub(super) const ON: [&str; 3] = ["a sibling", "one that is gone", OWN];
const OWN: &str = "its own";

struct Outcome {
    on: &'static str,
    said: String,
    expected: &'static str,
    fate: Fate,
}

pub(super) struct World {
    pub(super) place: &'static Place,
    row: &'static Row,
    reactor: RefCell<Option<Reactor>>,
    /// Other reactors of this thread: one that could run, and one to be gone.
    other: Reactor,
    outcomes: RefCell<Vec<Outcome>>,
    /// What belongs to the target at hand.
    fate: RefCell<Fate>,
    pub(super) acted: Cell<bool>,
    turns_since: Cell<usize>,
    ended_early: Cell<bool>,
    /// Transports that were connected before the loop began, and the peers' ends of them.
    living: RefCell<Option<Transport<Peer>>>,
    lost: RefCell<Option<Transport<Peer>>>,
    /// A UDP port that has stopped before the loop began.
    stopped: RefCell<Option<DatagramTransport<Listener>>>,
    /// What must not be dropped before the end.
    kept: RefCell<Vec<Box<dyn std::any::Any>>>,
}

impl World {
    pub(super) fn new(place: &'static Place, row: &'static Row) -> Rc<Self> {
        let world = Rc::new(Self {
            place,
            row,
            reactor: RefCell::new(Some(reactor())),
            other: reactor(),
            outcomes: RefCell::default(),
            fate: RefCell::default(),
            acted: Cell::new(false),
            turns_since: Cell::new(0),
            ended_early: Cell::new(false),
            living: RefCell::default(),
            lost: RefCell::default(),
            stopped: RefCell::default(),
            kept: RefCell::default(),
        });
        if row.act.kind() == Kind::Transport {
            let living = world.connected();
            let lost = world.connected();
            lost.abort_connection();
            world.run_while(|| lost.is_connected());
            world
                .reactor_now()
                .turn(Some(Duration::ZERO))
                .expect("it can look");
            world.living.replace(Some(living));
            world.lost.replace(Some(lost));
        }
        if row.act.kind() == Kind::Udp {
            let reactor = world.reactor_now();
            let stopped = datagrams::listen(&reactor, Listener::default());
            drop(stopped.stop_listening());
            reactor.turn(Some(Duration::ZERO)).expect("it can look");
            world.stopped.replace(Some(stopped));
        }
        world
    }

    /// The reactor, until the end.
    pub(super) fn reactor(&self) -> Option<Reactor> {
        self.reactor.borrow().clone()
    }

    pub(super) fn reactor_now(&self) -> Reactor {
        self.reactor().expect("it has not ended")
    }

    /// For the place whose callback comes when the reactor is gone.
    pub(super) fn lend_reactor(&self, reactor: Reactor) -> Option<Reactor> {
        self.reactor.replace(Some(reactor))
    }

    pub(super) fn take_reactor(&self) -> Option<Reactor> {
        self.reactor.take()
    }

    pub(super) fn keep(&self, kept: impl std::any::Any) {
        self.kept.borrow_mut().push(Box::new(kept));
    }

    pub(super) fn run_while(&self, mut goes_on: impl FnMut() -> bool) {
        let reactor = self.reactor_now();
        crate::common::run_while(&reactor, &mut goes_on);
    }

    /// A connection of this reactor's, made, with both ends here. Gives the client's.
    pub(super) fn connected(&self) -> Transport<Peer> {
        let reactor = self.reactor_now();
        let port = reactor
            .listen_tcp("127.0.0.1:0", |_: &Address| Peer::default())
            .expect("loopback can listen");
        let made = reactor.connect_tcp(port.address(), |_| Peer::default());
        let transport = reactor.run_until(made).expect("loopback can connect");
        self.keep(port);
        transport
    }

    /// Where a callback comes, for the first time: calls the function on everything.
    pub(super) fn act(self: &Rc<Self>, own: Option<Target>) {
        if self.acted.replace(true) {
            return;
        }
        let kind = self.row.act.kind();
        if self.row.says_so && !self.place.hears_all {
            return self.keep(own);
        }
        if self.place.winds_up && self.row.waits {
            // With nothing to end it, it would wait for ever; as outside of a callback.
            return;
        }
        let [on_sibling, on_gone, on_own] = self.row.expected;
        let own = if kind == Kind::Reactor {
            self.keep(own);
            self.reactor().map(Target::Reactor)
        } else {
            own
        };
        let on_sibling = match kind {
            Kind::Transport if self.place.all_is_lost => on_gone,
            _ => on_sibling,
        };
        let targets = [
            (on_sibling, self.sibling(kind)),
            (on_gone, self.gone(kind)),
            (on_own, own.map(|own| (own, Fate::default()))),
        ];
        for (on, (expected, target)) in ON.into_iter().zip(targets) {
            let Some((target, fate)) = target else {
                continue;
            };
            self.fate.replace(fate.clone());
            if let Some(said) = self.row.act.on(self, &target) {
                fate.returned();
                let outcome = Outcome {
                    on,
                    said,
                    expected,
                    fate,
                };
                self.outcomes.borrow_mut().push(outcome);
            }
            self.keep(Some(target));
        }
        if self.place.winds_up {
            self.stop_services();
        }
    }

    /// One that ends with its reactor reports that: nobody handles its failures.
    fn stop_services(&self) {
        for kept in &*self.kept.borrow() {
            if let Some(Some(Target::Service(service))) = kept.downcast_ref() {
                drop(service.stop());
            }
        }
    }

    /// Something that is called when what the function asked for comes.
    pub(super) fn comes(&self) -> impl Fn() + use<> + 'static {
        let fate = self.fate.borrow().clone();
        move || fate.come()
    }

    pub(super) fn turn_is_last(&self) -> bool {
        if !self.acted.get() {
            return self.place.comes_at_the_stop;
        }
        self.turns_since.set(self.turns_since.get() + 1);
        self.turns_since.get() >= SETTLED && self.is_as_expected()
    }

    pub(super) fn note_early_end(&self) {
        self.ended_early.set(self.turns_since.get() < SETTLED);
    }

    /// The last handle of the reactor goes.
    pub(super) fn end(&self) {
        self.stop_services();
        let kept = self.kept.take();
        let transports = (self.living.take(), self.lost.take(), self.stopped.take());
        let reactor = self.take_reactor();
        drop(reactor);
        // The place has a handle no longer, if it had one.
        drop(self.take_reactor());
        drop((kept, transports));
    }

    fn is_as_expected(&self) -> bool {
        let outcomes = self.outcomes.borrow();
        outcomes.iter().all(|outcome| self.is_right(outcome))
    }

    fn is_right(&self, outcome: &Outcome) -> bool {
        let is_between = self.place.own_is_ending || self.place.winds_up;
        is_between && outcome.on == OWN || outcome.is_right(self.is_fate_known())
    }

    /// What the function was called on.
    pub(super) fn seen(&self) -> Vec<(&'static str, &'static str)> {
        let outcomes = self.outcomes.borrow();
        let seen = outcomes
            .iter()
            .filter(|outcome| !self.place.own_is_ending || outcome.on != OWN);
        seen.map(|outcome| (self.row.function, outcome.on))
            .collect()
    }

    /// Whether it makes a difference to wait: what comes with a turn does not come where
    /// there is none, nor what a stop ends.
    fn is_fate_known(&self) -> bool {
        let kind = self.row.act.kind();
        let is_source = kind.goes_with_a_stop() || self.row.makes_source;
        !(self.place.winds_up || self.place.sources_go && is_source)
    }

    pub(super) fn verdict(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.acted.get() {
            wrong.push("the callback never came".into());
        }
        for outcome in &*self.outcomes.borrow() {
            if self.is_right(outcome) {
                continue;
            }
            wrong.push(format!(
                "on {}: {:?}, {}; stated: {:?}",
                outcome.on,
                outcome.said,
                outcome.fate.text(),
                outcome.expected
            ));
        }
        if self.row.ends_run && !self.place.winds_up && !self.ended_early.get() {
            wrong.push("the run went on".into());
        }
        wrong
    }

    fn sibling(&self, kind: Kind) -> Option<(Target, Fate)> {
        let fate = Fate::default();
        let target = self.make(kind, &self.reactor()?, &fate)?;
        fate.begin();
        Some((target, fate))
    }

    fn gone(&self, kind: Kind) -> Option<(Target, Fate)> {
        let fate = Fate::default();
        let reactor = self.reactor()?;
        let target = match kind {
            // One whose reactor is gone.
            Kind::AsyncFd | Kind::Remote | Kind::Ping | Kind::Weak => {
                let gone = crate::common::reactor();
                self.make(kind, &gone, &fate)?
            }
            Kind::Reactor | Kind::Pool | Kind::Guest => return None,
            Kind::Sender => {
                let (sender, channel) = reactor.channel(|_, _: ChannelEvent<u8>| ());
                channel.remove();
                Target::Sender(sender)
            }
            Kind::Transport => Target::Transport(self.lost.borrow().clone()?),
            Kind::Udp => Target::Udp(self.stopped.borrow().clone()?),
            _ => self.make(kind, &reactor, &fate)?,
        };
        match &target {
            Target::Soon(call) => assert!(call.cancel()),
            Target::Delayed(call) => assert!(call.cancel()),
            Target::Hook(hook) => assert!(hook.remove()),
            Target::Watch(watch) => drop(watch.remove()),
            Target::Signal(watcher) => assert!(watcher.remove()),
            Target::Channel(channel) => assert!(channel.remove()),
            Target::Job(job) => assert!(job.cancel()),
            Target::Port(port) => drop(port.stop_listening()),
            Target::Looping(looping) => assert!(looping.stop()),
            Target::Cooperator(cooperator) => cooperator.stop(),
            Target::Service(service) => drop(service.stop()),
            Target::Task(task) => task.stop().expect("it has not ended"),
            _ => {}
        }
        fate.begin();
        Some((target, fate))
    }

    /// A living one.
    fn make(&self, kind: Kind, reactor: &Reactor, fate: &Fate) -> Option<Target> {
        let comes = {
            let fate = fate.clone();
            move || fate.come()
        };
        let target = match kind {
            Kind::Reactor => {
                // What runs it inside this one, runs it for one turn.
                self.other.stop();
                Target::Reactor(self.other.clone())
            }
            Kind::Soon => Target::Soon(reactor.call_soon(comes)),
            Kind::Delayed => Target::Delayed(reactor.call_later(Duration::ZERO, comes)),
            Kind::Hook => Target::Hook(reactor.add_hook(torsade_reactor::Place::Prepare, comes)),
            Kind::Watch => {
                let watch = reactor
                    .watch(
                        self.full_pipe(),
                        Interest::Read,
                        Mode::Level,
                        move |_, _| comes(),
                    )
                    .expect("a pipe can be watched");
                Target::Watch(watch)
            }
            Kind::AsyncFd => {
                let fd = reactor.async_fd(self.full_pipe());
                Target::AsyncFd(Cell::new(Some(fd.expect("a pipe can be watched"))))
            }
            Kind::Signal => {
                let watcher = reactor.on_signal(SIGNAL, move |_| comes());
                Target::Signal(watcher.expect("it can be watched"))
            }
            Kind::Channel | Kind::Sender => {
                let (sender, channel) = reactor.channel(move |_, _: ChannelEvent<u8>| comes());
                if kind == Kind::Sender {
                    self.keep(channel);
                    Target::Sender(sender)
                } else {
                    sender.send(1).expect("it is open");
                    self.keep(sender);
                    Target::Channel(channel)
                }
            }
            Kind::Ping => {
                let (ping, channel) = reactor.ping(move |_| comes());
                self.keep(channel);
                Target::Ping(ping)
            }
            Kind::Remote => Target::Remote(reactor.remote()),
            Kind::Pool => Target::Pool(ThreadPool::with_limits("row", no_threads())),
            Kind::Job => {
                let pool = ThreadPool::with_limits("row", no_threads());
                let job = pool.call_in_thread(|| ()).expect("there is room in line");
                self.keep(pool);
                Target::Job(job)
            }
            Kind::Port => {
                let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Peer::default());
                Target::Port(port.expect("loopback can listen"))
            }
            Kind::Transport => Target::Transport(self.living.borrow().clone()?),
            Kind::Udp => Target::Udp(datagrams::listen(reactor, Listener::hearing(comes))),
            Kind::Looping => {
                let looping = LoopingCall::new(reactor, comes);
                drop(quiet(looping.start_later(Duration::ZERO).map(drop)));
                Target::Looping(looping)
            }
            Kind::Cooperator => {
                let cooperator = Cooperator::new(reactor);
                drop(quiet(cooperator.coiterate(steps(comes))));
                Target::Cooperator(cooperator)
            }
            Kind::Task => {
                let cooperator = Cooperator::new(reactor);
                let task = cooperator.cooperate(steps(comes));
                drop(quiet(task.when_done()));
                self.keep(cooperator);
                Target::Task(task)
            }
            Kind::Weak => Target::Weak(reactor.downgrade()),
            Kind::Service => {
                let service = TimerService::new(Duration::ZERO, reactor, comes);
                service.start().expect("it is new");
                Target::Service(service)
            }
            Kind::Guest => {
                let guest = Guest::new(&self.other, || ());
                Target::Guest(guest.expect("there are threads left"))
            }
        };
        Some(target)
    }

    /// Something to be read for ever.
    pub(super) fn full_pipe(&self) -> PipeReader {
        let (reader, mut writer) = pipe().expect("there are descriptors left");
        writer.write_all(b"x").expect("there is room");
        self.keep(writer);
        reader
    }

    /// Something to be written to for ever.
    pub(super) fn empty_pipe(&self) -> PipeWriter {
        let (reader, writer) = pipe().expect("there are descriptors left");
        self.keep(reader);
        writer
    }
}

impl Outcome {
    fn is_right(&self, is_fate_known: bool) -> bool {
        let (said, fate) = match self.expected.split_once("; ") {
            Some((said, fate)) => (said, Some(fate)),
            None => (self.expected, None),
        };
        let is_said = said == NONE && self.said.is_empty() || self.said == said;
        is_said && (!is_fate_known || fate.is_none_or(|fate| fate == self.fate.text()))
    }
}

/// The same, with nobody to be told of its end.
pub(super) fn quiet(deferred: Deferred<()>) -> Deferred<()> {
    deferred.add_errback(|_: Failure| Ok(()))
}

/// A few steps of work.
fn steps(comes: impl Fn() + 'static) -> impl Iterator<Item = ()> + 'static {
    (0..3).map(move |_| comes())
}

fn no_threads() -> PoolLimits {
    PoolLimits {
        threads_max: 0,
        ..PoolLimits::default()
    }
}

pub(super) type OnTransport = Option<Box<dyn FnOnce(&Transport<Peer>)>>;

/// One end of a connection: calls what it is given, when its moment comes.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) made: OnTransport,
    pub(super) data: OnTransport,
    pub(super) read_lost: OnTransport,
    pub(super) write_paused: OnTransport,
    pub(super) write_resumed: OnTransport,
    pub(super) lost: Option<Box<dyn FnOnce()>>,
    #[expect(dead_code, reason = "its drop is what it is for")]
    pub(super) dropped: Option<WhenDropped>,
}

fn call(place: &mut OnTransport, transport: &Transport<Peer>) {
    if let Some(call) = place.take() {
        call(transport);
    }
}

impl Protocol for Peer {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        call(&mut self.made, transport);
    }

    fn data_received(&mut self, transport: &Transport<Self>, _: &[u8]) {
        call(&mut self.data, transport);
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        call(&mut self.read_lost, transport);
        transport.lose_connection();
    }

    fn write_paused(&mut self, transport: &Transport<Self>) {
        call(&mut self.write_paused, transport);
    }

    fn write_resumed(&mut self, transport: &Transport<Self>) {
        call(&mut self.write_resumed, transport);
    }

    fn connection_lost(&mut self, _: torsade_reactor::ConnectionLost) {
        if let Some(call) = self.lost.take() {
            call();
        }
    }
}

/// Calls when it is dropped.
pub(super) struct WhenDropped(pub(super) Option<Box<dyn FnOnce()>>);

impl Drop for WhenDropped {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
