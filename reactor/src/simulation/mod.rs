//! A network of many hosts in one process, where time is virtual and everything that
//! happens follows from a seed.
//!
//! A [`Simulation`] has hosts; each [`Host`] has a [`Reactor`] of the ordinary type. What
//! runs on one is the same program that runs on the operating system: it listens,
//! connects, sets timers. Between the hosts lie links with latency, bandwidth and loss,
//! which can be cut, held and mended; hosts crash and start again. Time jumps to whatever
//! happens next, so an hour passes in a moment.
//!
//! ```
//! use std::cell::Cell;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use torsade_reactor::testing::Simulation;
//! use torsade_reactor::{Address, Protocol, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! struct Count(Rc<Cell<usize>>);
//!
//! impl Protocol for Count {
//!     fn connection_made(&mut self, transport: &Transport<Self>) {
//!         transport.write("hello");
//!     }
//!
//!     fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
//!         self.0.set(self.0.get() + data.len());
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let simulation = Simulation::new(42);
//! let server = simulation.host("server");
//! server.start(|reactor| {
//!     reactor.listen_tcp(":7", |_: &Address| Echo).expect("the port is free");
//! });
//! let (client, echoed) = (simulation.host("client"), Rc::new(Cell::new(0)));
//! let seen = Rc::clone(&echoed);
//! let connecting = client.reactor().connect_tcp((server.ip(), 7), |_| Count(seen));
//! let transport = client.reactor().run_until(connecting)?;
//!
//! assert!(simulation.run_while(|| echoed.get() < 5));
//! simulation.partition(&server, &client);
//! transport.write("lost, and sent again");
//! simulation.run_for(Duration::from_secs(10));
//! assert_eq!(echoed.get(), 5);
//! simulation.heal(&server, &client);
//! assert!(simulation.run_while(|| echoed.get() < 25));
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! Nothing here depends on the machine: not on its clock, its threads, its addresses in
//! memory. Two runs with one seed give equal [`Trace`]s. What programs must not rely on,
//! such as which of two hosts goes first or into which pieces bytes fall, is drawn from the
//! seed; what the reactor promises holds.
//!
//! # Not here
//!
//! Descriptors, signals and processes: they are the operating system's.

mod chunking;
mod clock;
mod datagrams;
mod driver;
mod lane;
mod link;
mod network;
mod outage;
mod plan;
mod swarm;
mod trace;
mod unix_datagrams;
mod world;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::driver::os;
use crate::reactor::Reactor;

pub use self::chunking::Chunking;
use self::link::StopBy;
pub use self::link::{Latency, Link};
pub use self::plan::{Fault, FaultKind, FaultRates};
pub use self::swarm::Swarm;
pub use self::trace::{Happening, Trace};
use self::world::{Machine, Step, World};

/// Hosts, links and a clock.
pub struct Simulation {
    world: Rc<World>,
    seed: u64,
    /// The plans that were made, one after the other.
    plans: RefCell<Vec<Vec<Fault>>>,
    /// What takes the place of each of them.
    replaced_plans: RefCell<Vec<Vec<Fault>>>,
}

impl Simulation {
    /// A world without hosts, at its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            // An `Instant` can be had from a clock only; what it says does not matter.
            world: World::new(seed, os::now()),
            seed,
            plans: RefCell::default(),
            replaced_plans: RefCell::default(),
        }
    }

    /// The seed that it was made with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a host, with a name that the others can connect to and an address of its own. Capital
    /// letters are small ones, and a name that is not ASCII is found as it is asked for.
    ///
    /// # Panics
    ///
    /// If there is one of that name.
    pub fn host(&self, name: &str) -> Host {
        Host {
            machine: self.world.add_machine(name),
            world: Rc::downgrade(&self.world),
        }
    }

    /// The time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.now()
    }

    /// Gives one host a turn, or lets time pass to what happens next. `false` if nothing
    /// will happen any more.
    ///
    /// # Panics
    ///
    /// If ten million turns have been taken and no time has passed: a program goes round
    /// without a pause. Whatever else lets the simulation go on panics then, too.
    pub fn step(&self) -> bool {
        self.world.step(None) != Step::Idle
    }

    /// Goes on until nothing is on its way and no host has anything scheduled.
    ///
    /// A program that always has a timer is never idle: use
    /// [`run_for`](Self::run_for) for that.
    pub fn run_until_idle(&self) {
        while self.step() {}
    }

    /// Goes on for so long, whether anything happens or not.
    pub fn run_for(&self, time: Duration) {
        let until = self.now() + time;
        while self.world.step(Some(until)) != Step::Idle {}
        self.world.network.borrow_mut().advance(until);
    }

    /// Goes on while `goes_on` says so. `false` if nothing will happen any more and it still
    /// says so.
    pub fn run_while(&self, mut goes_on: impl FnMut() -> bool) -> bool {
        while goes_on() {
            if !self.step() {
                return !goes_on();
            }
        }
        true
    }

    /// Sets what lies between all hosts whose links were not set on their own.
    pub fn set_default_link(&self, link: Link) {
        self.world.network.borrow_mut().set_default_link(link);
    }

    /// Sets what lies between two hosts, in both directions.
    pub fn set_link(&self, one: &Host, other: &Host, link: Link) {
        self.set_one_way_link(one, other, link);
        self.set_one_way_link(other, one, link);
    }

    /// Sets the way from one host to another.
    pub fn set_one_way_link(&self, from: &Host, to: &Host, link: Link) {
        let mut network = self.world.network.borrow_mut();
        network.set_link(from.machine.id, to.machine.id, link);
    }

    /// Lets nothing through between two hosts. What was on its way arrives; what is sent is
    /// lost, and sent again later by its host.
    ///
    /// Several things may stop one link: this, a [`cut`](Self::cut), a
    /// [`hold`](Self::hold), faults of a plan. Each ends by itself, and the link works again
    /// when all have ended.
    pub fn partition(&self, one: &Host, other: &Host) {
        self.set_cut(one, other, StopBy::BothWays, true);
        self.set_cut(other, one, StopBy::BothWays, true);
    }

    /// The end of a [`partition`](Self::partition). A cut or a fault of the plan goes on.
    pub fn heal(&self, one: &Host, other: &Host) {
        self.set_cut(one, other, StopBy::BothWays, false);
        self.set_cut(other, one, StopBy::BothWays, false);
    }

    /// Lets nothing through from one host to the other; the other way is as it was.
    pub fn cut(&self, from: &Host, to: &Host) {
        self.set_cut(from, to, StopBy::OneWay, true);
    }

    /// The end of a [`cut`](Self::cut). A partition or a fault of the plan goes on.
    pub fn mend(&self, from: &Host, to: &Host) {
        self.set_cut(from, to, StopBy::OneWay, false);
    }

    fn set_cut(&self, from: &Host, to: &Host, by: StopBy, cut: bool) {
        let mut network = self.world.network.borrow_mut();
        let what = match (by, cut) {
            (StopBy::OneWay, true) => "cut",
            (StopBy::OneWay, false) => "mended",
            (_, true) => "partitioned",
            (_, false) => "healed",
        };
        network.note(format!("{} -> {} is {what}", from.name(), to.name()));
        network.set_cut(from.machine.id, to.machine.id, by, cut);
    }

    /// Keeps what is sent between two hosts on its way, until it is
    /// [`release`](Self::release)d.
    pub fn hold(&self, one: &Host, other: &Host) {
        self.set_held(one, other, true);
    }

    /// Lets what was held go on, in its order, unless a fault of the plan holds it still.
    pub fn release(&self, one: &Host, other: &Host) {
        self.set_held(one, other, false);
    }

    fn set_held(&self, one: &Host, other: &Host, held: bool) {
        let mut network = self.world.network.borrow_mut();
        let verb = if held { "held" } else { "released" };
        network.note(format!("{} <-> {} is {verb}", one.name(), other.name()));
        let (one, other) = (one.machine.id, other.machine.id);
        network.set_held(one, other, StopBy::BothWays, held);
        network.set_held(other, one, StopBy::BothWays, held);
    }

    /// Sets into which pieces bytes fall, from now on. By default the seed draws them.
    pub fn set_chunking(&self, chunking: Chunking) {
        self.world.network.borrow_mut().chunking = chunking;
    }

    /// Has things go wrong from now on, as often as `rates` say, at times and places that the
    /// seed draws, among the hosts that there are. It replaces what was planned before and has
    /// not begun; what has begun ends as planned. Nothing goes wrong if the time that `rates` end at
    /// ([`FaultRates::until`], since the beginning) has passed. A host that is alone has no faults
    /// of the ways between two.
    ///
    /// # Panics
    ///
    /// If one of [`FaultRates::mortals`] is not there.
    pub fn inject_faults(&self, rates: &FaultRates) {
        self.set_faults(self.world.draw_faults(rates));
    }

    /// Has exactly these things go wrong. It replaces what was planned before and has not
    /// begun; what has begun ends as planned.
    ///
    /// Faults may overlap: each ends by itself, and a link works, or a host is up, when
    /// nothing keeps it from that any more. Of several that say what a link or a clock is
    /// like, the one that began last counts.
    ///
    /// In a [`Swarm`] that looks for the faults that a failure needs, some of them are left out;
    /// [`faults`](Self::faults) says which are left. The same goes for those that are injected.
    ///
    /// # Panics
    ///
    /// Later, when one begins whose host is not there then.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        let mut plans = self.plans.borrow_mut();
        // Shrinking a failure runs the same seed with fewer faults.
        let replaced = self.replaced_plans.borrow().get(plans.len()).cloned();
        let faults = replaced.unwrap_or(faults);
        plans.push(faults.clone());
        self.world.set_faults(&faults);
    }

    /// What was planned to go wrong, the last time.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.plans.borrow().last().cloned().unwrap_or_default()
    }

    /// All that was planned, plan by plan.
    pub(crate) fn plans(&self) -> Vec<Vec<Fault>> {
        self.plans.borrow().clone()
    }

    /// Has these take the place of what is planned, the first of the first plan, and so on.
    pub(crate) fn replace_plans(&self, plans: Vec<Vec<Fault>>) {
        self.replaced_plans.replace(plans);
    }

    /// Writes a line into the trace.
    pub fn note(&self, text: impl AsRef<str>) {
        self.world.network.borrow_mut().note(text);
    }

    /// What has happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.world.network.borrow().trace.clone()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.world.end();
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulation(seed {}, at {:?})", self.seed, self.now())
    }
}

/// A machine in a [`Simulation`]. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    machine: Rc<Machine>,
    world: Weak<World>,
}

impl Host {
    /// Its name, under which the others connect to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.machine.ip
    }

    /// Its reactor: a new one after each start.
    ///
    /// It may be used from outside, too: `host.reactor().run_until(deferred)` lets the whole
    /// simulation go on until the result is there. If the host crashes before, that fails (with an
    /// [`io::Error`](std::io::Error) of the kind `NotConnected` that says so), and so does every
    /// later use of the loop of that life: who waits for a host that may crash lets the simulation
    /// go on itself ([`Simulation::run_while`]).
    ///
    /// The first turn begins at once; later ones come when the seed says so, as those of all hosts.
    /// From inside a callback of the host its own loop stands still, whatever is run there: the
    /// simulation, or another host.
    ///
    /// # Panics
    ///
    /// While the host is down.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        let reactor = self.machine.reactor();
        reactor.unwrap_or_else(|| panic!("{:?} is down: it has no reactor", self.name()))
    }

    /// Runs `program` on this host: now, and again each time that the host starts again after
    /// a crash, with its new reactor. It sets things up and returns, as a `main` does before
    /// it calls `run`.
    pub fn start(&self, program: impl Fn(&Reactor) + 'static) {
        self.machine.program.replace(Some(Rc::new(program)));
        self.machine.boot();
    }

    /// The power is gone: what runs here stops in the middle of what it does, and what it
    /// had not sent is lost. No callback is called, now or later; those whose turn it is
    /// finish the one at hand, and nobody hears of what it does.
    ///
    /// Peers get no word. What they send is lost, until the host starts again; then it
    /// knows nothing of them, and resets their connections.
    ///
    /// What the program held in memory is dropped when the simulation ends.
    pub fn crash(&self) {
        if let Some(world) = self.world.upgrade() {
            self.machine.switch_off(&world);
        }
    }

    /// Starts a host that has crashed: with a new reactor, and its program from the
    /// beginning. Nothing, for one that is up. A host that a fault of the plan keeps down
    /// starts when that is over.
    pub fn restart(&self) {
        if let Some(world) = self.world.upgrade() {
            self.machine.switch_on(&world);
        }
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.machine.reactor().is_some()
    }

    /// Lets its clock run too fast by so many millionths from now on, or too slow. Beyond
    /// 900 000 of them, either way, it counts as that: no clock stands still or goes back.
    pub fn set_clock_drift(&self, drift_ppm: i32) {
        if let Some(world) = self.world.upgrade() {
            self.machine.set_drift(world.now(), drift_ppm);
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_up() { "up" } else { "down" };
        write!(f, "Host({} at {}, {state})", self.name(), self.ip())
    }
}
