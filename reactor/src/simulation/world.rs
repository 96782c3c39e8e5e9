//! Who runs when: hosts take turns while time stands, and time passes when all are idle.
//!
//! # Order
//!
//! At one time, every host that has something to do gets a turn, in an order that the
//! seed draws anew each time. When none has, time jumps to what happens next, in the
//! network or in a host's timers.
//!
//! A host may be driven from outside, by its reactor's `run_until`: then its turns are taken
//! there, each when the draw falls on it, and the others have theirs while it waits. A host
//! whose loop is in the middle of a turn gets no other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use torsade_deferred::unhandled;

use crate::core::Pause;
use crate::reactor::Reactor;
use crate::remains::Remains;

use super::clock::HostClock;
use super::driver::{HostDriver, Woken, known_name};
use super::link::StopBy;
use super::network::{HostId, Network};
use super::outage::Outage;
use super::plan::{Agenda, Change, Fault, FaultKind, FaultRates};
use crate::random::Random;

/// Turns without the passing of time before a simulation says that it makes no progress: a
/// program that goes round in no time would go round for ever.
const STEPS_AT_ONE_TIME: u32 = if cfg!(test) { 10_000 } else { 10_000_000 };

pub(super) type Program = Rc<dyn Fn(&Reactor)>;

pub(super) struct World {
    pub(super) network: Rc<RefCell<Network>>,
    machines: RefCell<Vec<Rc<Machine>>>,
    names: Rc<RefCell<BTreeMap<String, IpAddr>>>,
    /// Draws who goes first.
    random: RefCell<Random>,
    seed: u64,
    /// Turns since time has passed.
    standing: Cell<u32>,
    begin: Instant,
    /// What goes wrong: what is still to begin, and to end.
    agenda: RefCell<Agenda>,
    /// Room for the candidates of one step.
    candidates: Cell<Vec<Rc<Machine>>>,
    /// What ran on hosts that crashed. It goes with the world: whoever notices that, by a
    /// drop or an abandoned Deferred, must not notice it during the simulation.
    graveyard: RefCell<Vec<Remains>>,
}

/// What runs on a host, from its start to its crash and again.
pub(super) struct Machine {
    pub(super) id: HostId,
    pub(super) name: Rc<str>,
    pub(super) ip: IpAddr,
    life: RefCell<Option<Life>>,
    pub(super) program: RefCell<Option<Program>>,
    clock: Rc<HostClock>,
    /// What keeps it down.
    outage: RefCell<Outage>,
}

#[derive(Clone)]
struct Life {
    reactor: Reactor,
    woken: Arc<Woken>,
    dead: Rc<Cell<bool>>,
    /// The world gives it a turn. When its loop runs and this is not so, somebody drives it from
    /// outside.
    has_turn: Rc<Cell<bool>>,
    /// Its program has stopped the reactor.
    stopped: Rc<Cell<bool>>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A host took a turn.
    Turn,
    /// It is the turn of the host that is driven from outside.
    Own,
    /// Time passed.
    Time,
    /// There is nothing to do until then, and will not be any more if that is never.
    Idle,
}

impl World {
    pub(super) fn new(seed: u64, begin: Instant) -> Rc<Self> {
        let mut random = Random::new(seed);
        Rc::new(Self {
            network: Rc::new(RefCell::new(Network::new(random.fork()))),
            machines: RefCell::default(),
            names: Rc::default(),
            random: RefCell::new(random.fork()),
            seed,
            standing: Cell::new(0),
            begin,
            agenda: RefCell::default(),
            candidates: Cell::default(),
            graveyard: RefCell::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.network.borrow().now()
    }

    pub(super) fn add_machine(self: &Rc<Self>, name: &str) -> Rc<Machine> {
        let (id, ip) = self.network.borrow_mut().add_host();
        let previous = self.names.borrow_mut().insert(known_name(name), ip);
        assert!(previous.is_none(), "two hosts are called {name:?}");
        let machine = Rc::new(Machine {
            id,
            name: name.into(),
            ip,
            life: RefCell::default(),
            program: RefCell::default(),
            clock: Rc::new(HostClock::new(self.begin)),
            outage: RefCell::default(),
        });
        self.begin_life(&machine);
        self.machines.borrow_mut().push(Rc::clone(&machine));
        machine
    }

    fn begin_life(self: &Rc<Self>, machine: &Machine) {
        let woken = Arc::<Woken>::default();
        let [dead, has_turn] = [(); 2].map(|()| Rc::<Cell<bool>>::default());
        let reactor = Reactor::over(Rc::new(HostDriver {
            host: machine.id,
            network: Rc::clone(&self.network),
            world: Rc::downgrade(self),
            clock: Rc::clone(&machine.clock),
            woken: Arc::clone(&woken),
            dead: Rc::clone(&dead),
            has_turn: Rc::clone(&has_turn),
            names: Rc::clone(&self.names),
            alarm: Cell::default(),
        }));
        machine.life.replace(Some(Life {
            reactor,
            woken,
            dead,
            has_turn,
            stopped: Rc::default(),
        }));
    }

    /// One turn of one host, or the passing of time, at most to `until`.
    pub(super) fn step(self: &Rc<Self>, until: Option<Duration>) -> Step {
        self.step_beside(until, None, || false)
    }

    /// The same beside a host that is driven from outside, and has something to do or not.
    fn step_beside(
        self: &Rc<Self>,
        until: Option<Duration>,
        driven: Option<&Rc<Machine>>,
        has_own_work: impl FnOnce() -> bool,
    ) -> Step {
        while let Some(change) = self.next_change() {
            self.make_change(change);
        }
        let has_own_work = has_own_work();
        let mut candidates = self.candidates.take();
        let planned = self.agenda.borrow().next_time();
        let due = self.network.borrow().next_due();
        let mut next = planned.into_iter().chain(due).min();
        for machine in &*self.machines.borrow() {
            if driven.is_some_and(|driven| Rc::ptr_eq(driven, machine)) {
                continue;
            }
            match machine.next_time(self) {
                Some(at) if at <= self.now() => candidates.push(Rc::clone(machine)),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        let chosen = match candidates.len() + usize::from(has_own_work) {
            0 => None,
            1 => candidates.pop(),
            count => {
                let index = self.random.borrow_mut().index(count);
                // The last one is the host that is driven, if it has something to do.
                (index < candidates.len()).then(|| candidates.swap_remove(index))
            }
        };
        candidates.clear();
        self.candidates.set(candidates);
        if let Some(machine) = chosen {
            self.count_turn();
            machine.take_turn();
            return Step::Turn;
        }
        if has_own_work {
            self.count_turn();
            return Step::Own;
        }
        self.standing.set(0);
        match next {
            Some(at) if until.is_none_or(|until| at <= until) => {
                self.network.borrow_mut().advance(at);
                Step::Time
            }
            _ => Step::Idle,
        }
    }

    fn count_turn(&self) {
        let standing = self.standing.get() + 1;
        self.standing.set(standing);
        assert!(
            standing < STEPS_AT_ONE_TIME,
            "no time passes: a host goes round without a pause at {:?} (seed {})",
            self.now(),
            self.seed
        );
    }

    /// Lets the world go on until a host that is driven from outside has something to do, or it is
    /// `until`, and it is its turn; or until it is dead.
    pub(super) fn wait_for(
        self: &Rc<Self>,
        host: HostId,
        dead: &Cell<bool>,
        until: Option<Duration>,
    ) -> io::Result<()> {
        let machine = Rc::clone(&self.machines.borrow()[host.0]);
        let is_due = || until.is_some_and(|until| self.now() >= until);
        while !dead.get() {
            let has_work = || is_due() || machine.has_work(self);
            match self.step_beside(until, Some(&machine), has_work) {
                Step::Own => break,
                Step::Turn | Step::Time => {}
                Step::Idle => {
                    let until = until.ok_or_else(|| {
                        let what = "nothing is scheduled on any host, and nothing is on its way";
                        io::Error::new(ErrorKind::Deadlock, what)
                    })?;
                    self.network.borrow_mut().advance(until);
                }
            }
        }
        Ok(())
    }
}

impl Machine {
    pub(super) fn reactor(&self) -> Option<Reactor> {
        self.life.borrow().as_ref().map(|life| life.reactor.clone())
    }

    pub(super) fn set_drift(&self, now: Duration, drift_ppm: i32) {
        self.clock.set_drift(now, drift_ppm);
    }

    /// The test pulls the plug.
    pub(super) fn switch_off(&self, world: &World) {
        self.outage.borrow_mut().set_by_test(true);
        world.crash(self);
    }

    /// The test lets it start again.
    pub(super) fn switch_on(&self, world: &Rc<World>) {
        self.outage.borrow_mut().set_by_test(false);
        world.restart(self);
    }

    /// Whether its reactor has something to do now.
    fn has_work(&self, world: &World) -> bool {
        let life = self.life.borrow().clone();
        life.is_none_or(|life| {
            life.woken.is_set()
                || world.network.borrow().has_news(self.id)
                || life
                    .reactor
                    .core()
                    .next_deadline()
                    .is_some_and(|at| self.clock.when(at) <= world.now())
        })
    }

    /// When it wants a turn; `None` if never, or if it is in the middle of one.
    fn next_time(&self, world: &World) -> Option<Duration> {
        let life = self.life.borrow();
        let life = life.as_ref().filter(|life| !life.stopped.get())?;
        if life.reactor.is_running() {
            return None;
        }
        if life.woken.is_set() || world.network.borrow().has_news(self.id) {
            return Some(Duration::ZERO);
        }
        let deadline = life.reactor.core().next_deadline()?;
        Some(self.clock.when(deadline))
    }

    fn take_turn(&self) {
        let Some(life) = self.life.borrow().clone() else {
            return;
        };
        let core = life.reactor.core();
        let mut running = core
            .enter()
            .expect("it lives, and no turn of it is under way");
        life.has_turn.set(true);
        let outcome = running.turn(Pause::Wait(Some(Duration::ZERO)));
        life.has_turn.set(false);
        if life.dead.get() {
            return;
        }
        outcome.expect("a simulated wait of no time cannot fail");
        if core.leave() {
            life.stopped.set(true);
        }
    }

    /// The program begins, or begins anew.
    pub(super) fn boot(&self) {
        let (Some(life), Some(program)) =
            (self.life.borrow().clone(), self.program.borrow().clone())
        else {
            return;
        };
        program(&life.reactor);
        life.reactor.core().start();
    }
}

impl World {
    /// Ends what runs on a host, without a word to it.
    fn crash(&self, machine: &Machine) {
        let Some(life) = machine.life.take() else {
            return;
        };
        life.dead.set(true);
        {
            let mut network = self.network.borrow_mut();
            network.note(format!("{} crashes", machine.name));
            network.crash(machine.id);
        }
        let remains = life.reactor.core().perish();
        self.graveyard.borrow_mut().push(remains);
    }

    /// Starts a host that is down, unless something keeps it down.
    fn restart(self: &Rc<Self>, machine: &Machine) {
        if self.network.borrow().is_up(machine.id) || machine.outage.borrow().is_down() {
            return;
        }
        {
            let mut network = self.network.borrow_mut();
            network.note(format!("{} starts again", machine.name));
            network.restart(machine.id);
        }
        self.begin_life(machine);
        machine.boot();
    }

    pub(super) fn draw_faults(&self, rates: &FaultRates) -> Vec<Fault> {
        let hosts = self.machines.borrow().len();
        rates.draw(hosts, self.now(), &mut self.random.borrow_mut().fork())
    }

    pub(super) fn set_faults(&self, faults: &[Fault]) {
        self.agenda.borrow_mut().plan(faults);
    }

    /// A change whose time has come.
    fn next_change(&self) -> Option<Change> {
        let now = self.now();
        self.agenda.borrow_mut().take_due(now)
    }

    fn make_change(self: &Rc<Self>, change: Change) {
        let Change { begins, what } = change;
        what.check(self.machines.borrow().len());
        let verb = if begins { "begins" } else { "is over" };
        self.network.borrow_mut().note(format!("{what:?} {verb}"));
        let network = &self.network;
        let machine = |host: usize| Rc::clone(&self.machines.borrow()[host]);
        match what {
            FaultKind::Partition(one, two) => {
                let mut network = network.borrow_mut();
                network.set_cut(HostId(one), HostId(two), StopBy::Plan, begins);
                network.set_cut(HostId(two), HostId(one), StopBy::Plan, begins);
            }
            FaultKind::Cut(from, to) => {
                let mut network = network.borrow_mut();
                network.set_cut(HostId(from), HostId(to), StopBy::Plan, begins);
            }
            FaultKind::Hold(one, two) => {
                let mut network = network.borrow_mut();
                network.set_held(HostId(one), HostId(two), StopBy::Plan, begins);
                network.set_held(HostId(two), HostId(one), StopBy::Plan, begins);
            }
            FaultKind::Degrade(one, two, link) => {
                let mut network = network.borrow_mut();
                network.set_degraded(HostId(one), HostId(two), link, begins);
                network.set_degraded(HostId(two), HostId(one), link, begins);
            }
            FaultKind::Drift(host, drift_ppm) => {
                machine(host)
                    .clock
                    .set_planned_drift(self.now(), drift_ppm, begins);
            }
            FaultKind::Crash(host) | FaultKind::CrashAtWrite(host) => {
                let machine = machine(host);
                machine.outage.borrow_mut().change(&what, begins);
                if machine.outage.borrow().is_down() {
                    self.crash(&machine);
                } else {
                    self.restart(&machine);
                }
            }
        }
    }

    /// A host is about to write. One that is to crash in the middle of a turn does so now.
    pub(super) fn about_to_write(&self, host: HostId) {
        // None at the end of the world, when all are taken out.
        let machine = self.machines.borrow().get(host.0).cloned();
        if let Some(machine) = machine.filter(|machine| machine.outage.borrow_mut().falls()) {
            self.crash(&machine);
        }
    }

    /// The end of the world.
    pub(super) fn end(&self) {
        let machines = self.machines.take();
        for machine in &machines {
            drop(machine.program.take());
            // A program may keep its reactor from inside of it, in a factory or a timer: the
            // drop of this handle alone would end nothing.
            if let Some(life) = machine.life.take() {
                life.reactor.core().wind_up();
            }
        }
        let _silence = unhandled::set_hook(|_| {});
        drop(self.graveyard.take());
        // A program that keeps itself alive keeps its reactor, and that the network: a swarm
        // would not fit into memory.
        self.network.borrow_mut().forget_everything();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::address::Address;
    use crate::simulation::Simulation;
    use crate::testing::Script;

    use super::*;

    #[test]
    fn a_host_that_goes_round_in_no_time_is_told_whoever_drives_it() {
        fn go_round(reactor: &Reactor) {
            let own = reactor.clone();
            reactor.call_soon(move || go_round(&own));
        }
        let drive: [fn(&Simulation, &Reactor); 3] = [
            |simulation, _| simulation.run_until_idle(),
            |_, reactor| drop(reactor.run()),
            |simulation, _| drop(simulation.host("other").reactor().run()),
        ];
        for drive in drive {
            let simulation = Simulation::new(1);
            let reactor = simulation.host("host").reactor();
            go_round(&reactor);
            let driving = AssertUnwindSafe(|| drive(&simulation, &reactor));
            let panic = catch_unwind(driving).expect_err("it would go on for ever");
            let message = panic.downcast_ref::<String>().expect("it is formatted");
            assert!(message.contains("no time passes"), "{message}");
            assert!(message.contains("seed 1"), "{message}");
        }
    }

    #[test]
    fn what_keeps_itself_alive_does_not_keep_the_record_of_its_simulation() {
        let simulation = Simulation::new(1);
        let host = simulation.host("host");
        let (reactor, network) = (host.reactor(), Rc::clone(&simulation.world.network));
        let listening = reactor.listen_tcp(":7", |_: &Address| Script::new().play().0);
        let port = listening.expect("the port is free");
        let connecting = reactor.connect_tcp("host:7", |_| Script::new().play().0);
        let transport = reactor.run_until(connecting).expect("it listens");
        assert!(!network.borrow().trace.events().is_empty());
        drop(simulation);
        assert!(network.borrow().trace.events().is_empty());
        // What is left finds nothing any more, and says so by its own errors at most.
        transport.write("to nobody");
        drop((transport, port, reactor));
    }
}
