//! Every order in which two peers can write, end, abort and half-close, to a small depth.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::{
    Chunking, Chunks, Latency, Link, Simulation, memory_pair, virtual_time_reactor,
};
use torsade_reactor::{ConnectionLost, Reactor, Receiver, Stream};

use crate::common::simulated_streams;
use crate::veil::Veil;

/// What one of the peers does, or the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write,
    Lose,
    Abort,
    LoseWrite,
    Pause,
}

const ACTIONS: [Action; 5] = [
    Action::Write,
    Action::Lose,
    Action::Abort,
    Action::LoseWrite,
    Action::Pause,
];

/// A step of a story: an action of the client or of the server, or a turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Client(Action),
    Server(Action),
    Turn,
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::Turn];
    steps.extend(ACTIONS.map(Step::Client));
    steps.extend(ACTIONS.map(Step::Server));
    steps
}

/// One end: what it did, and what it was told.
struct End {
    stream: Rc<dyn Stream>,
    received: Cell<usize>,
    read_ended: Cell<bool>,
    reason: RefCell<Option<ConnectionLost>>,
    broken_rules: RefCell<Vec<&'static str>>,
    /// Bytes that were written while the stream took them.
    accepted: Cell<usize>,
    /// It asked for this kind of an end.
    lost: Cell<bool>,
    aborted: Cell<bool>,
    half_closed: Cell<bool>,
    paused: Cell<bool>,
    /// How much it had received when it asked for an end: no more is owed to it.
    heard_out: Cell<bool>,
    calling: Cell<bool>,
}

impl End {
    fn over(stream: Rc<dyn Stream>) -> Rc<Self> {
        let end = Rc::new(Self {
            stream,
            received: Cell::default(),
            read_ended: Cell::default(),
            reason: RefCell::default(),
            broken_rules: RefCell::default(),
            accepted: Cell::default(),
            lost: Cell::default(),
            aborted: Cell::default(),
            half_closed: Cell::default(),
            paused: Cell::default(),
            heard_out: Cell::new(true),
            calling: Cell::default(),
        });
        end.stream.set_receiver(Rc::clone(&end) as Rc<dyn Receiver>);
        end
    }

    fn act(&self, action: Action) {
        let takes = !self.lost.get() && !self.aborted.get() && self.reason.borrow().is_none();
        self.calling.set(true);
        match action {
            Action::Write => {
                const DATA: [u8; 10] = [b'x'; 10];
                if takes && !self.half_closed.get() {
                    self.accepted.set(self.accepted.get() + DATA.len());
                }
                self.stream.write(&DATA);
            }
            Action::Lose => {
                self.stream.lose_connection(ConnectionLost::Done);
                self.heard_out
                    .set(self.heard_out.get() && (!takes || self.read_ended.get()));
                self.lost.set(self.lost.get() || takes);
            }
            Action::Abort => {
                self.stream.abort_connection(ConnectionLost::Aborted);
                self.heard_out.set(false);
                let in_time = self.reason.borrow().is_none();
                self.aborted.set(self.aborted.get() || in_time);
            }
            Action::LoseWrite => {
                self.stream.lose_write_connection();
                self.half_closed.set(self.half_closed.get() || takes);
            }
            Action::Pause => {
                self.stream.pause_reading();
                self.paused.set(true);
            }
        }
        self.calling.set(false);
    }

    fn told(&self) {
        if self.calling.get() {
            self.broken_rules
                .borrow_mut()
                .push("told from inside a method");
        }
        if self.reason.borrow().is_some() {
            self.broken_rules
                .borrow_mut()
                .push("told after connection_lost");
        }
    }
}

impl Receiver for End {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        self.told();
        if self.lost.get() || self.aborted.get() {
            self.broken_rules.borrow_mut().push("data after the end");
        }
        self.received.set(self.received.get() + data.len());
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.told();
        if self.read_ended.replace(true) {
            self.broken_rules.borrow_mut().push("two ends of a stream");
        }
        // As a protocol does by default.
        self.act(Action::Lose);
    }

    fn write_paused(self: Rc<Self>) {
        self.told();
    }

    fn write_resumed(self: Rc<Self>) {
        self.told();
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.told();
        self.reason.replace(Some(reason));
    }
}

/// How the two are connected.
#[derive(Clone, Copy, Debug)]
struct Setting {
    layered: bool,
    wire: Wire,
}

#[derive(Clone, Copy, Debug)]
enum Wire {
    /// Memory that has enough room for all.
    Wide,
    /// Memory with too little for one write.
    Narrow,
    /// Two hosts of a simulation with this seed. A turn is half the way from one to the
    /// other, or the whole, or as the seed says.
    Simulated(u64),
}

/// Two streams that are connected, and what lets time pass for them.
struct Stage {
    client: Rc<dyn Stream>,
    server: Rc<dyn Stream>,
    turn: Box<dyn Fn()>,
    come_to_rest: Box<dyn Fn()>,
}

impl Stage {
    fn set(reactor: &Reactor, wire: Wire) -> Self {
        match wire {
            Wire::Simulated(seed) => Self::simulated(seed),
            Wire::Wide | Wire::Narrow => Self::in_memory(reactor, wire),
        }
    }

    fn in_memory(reactor: &Reactor, wire: Wire) -> Self {
        let (pair, reactor) = (memory_pair(reactor), reactor.clone());
        if matches!(wire, Wire::Narrow) {
            pair.pump.set_capacity(7);
            pair.pump.set_chunks(Chunks::Of(3));
        }
        let pump = pair.pump;
        Self {
            client: pair.client,
            server: pair.server,
            turn: Box::new(move || reactor.turn(Some(Duration::ZERO)).expect("it can look")),
            come_to_rest: Box::new(move || pump.run().expect("it comes to rest")),
        }
    }

    fn simulated(seed: u64) -> Self {
        let simulation = Rc::new(Simulation::new(seed));
        simulation.set_chunking(match seed % 2 {
            0 => Chunking::Whole,
            _ => Chunking::Drawn,
        });
        let (min, max) = (Duration::from_micros(100), Duration::from_micros(900));
        let (latency, turn) = match seed % 3 {
            0 => (Latency::Fixed(max), max / 2),
            1 => (Latency::Fixed(max), max),
            _ => (Latency::Uniform { min, max }, max / 2),
        };
        simulation.set_default_link(Link::with_latency(latency));
        let (client, server) = simulated_streams(&simulation);
        let world = Rc::clone(&simulation);
        Self {
            client,
            server,
            turn: Box::new(move || world.run_for(turn)),
            come_to_rest: Box::new(move || simulation.run_until_idle()),
        }
    }
}

fn tell(reactor: &Reactor, setting: Setting, story: &[Step]) -> Result<(), String> {
    let stage = Stage::set(reactor, setting.wire);
    let layer = |stream| match setting.layered {
        true => Veil::over(stream),
        false => stream,
    };
    let (client, server) = (
        End::over(layer(stage.client)),
        End::over(layer(stage.server)),
    );
    for step in story {
        match step {
            Step::Client(action) => client.act(*action),
            Step::Server(action) => server.act(*action),
            Step::Turn => (stage.turn)(),
        }
    }
    for end in [&client, &server] {
        end.stream.resume_reading();
    }
    (stage.come_to_rest)();
    // A story without an end gets one.
    client.act(Action::Lose);
    (stage.come_to_rest)();
    judge(&client, &server).and_then(|()| judge(&server, &client))
}

fn judge(near: &End, far: &End) -> Result<(), String> {
    if let Some(broken) = near.broken_rules.borrow().first() {
        return Err((*broken).to_owned());
    }
    let reason = near.reason.borrow();
    let Some(reason) = &*reason else {
        return Err("it was never lost".to_owned());
    };
    let was_reset = matches!(reason, ConnectionLost::Io(error)
        if error.kind() == ErrorKind::ConnectionReset);
    // What it wrote to a peer that had gone is answered by a reset, as systems do.
    let overspoke = near.accepted.get() > far.received.get();
    let right = match reason {
        ConnectionLost::Aborted => near.aborted.get(),
        ConnectionLost::Done => !near.aborted.get() && (near.lost.get() || !far.aborted.get()),
        _ => was_reset && (far.aborted.get() || overspoke),
    };
    if !right {
        return Err(format!("the reason is {reason:?}"));
    }
    if near.read_ended.get() && !far.lost.get() && !far.half_closed.get() {
        return Err("its peer's stream ended in order, and nobody had asked for that".to_owned());
    }
    let complete = near.received.get() == far.accepted.get();
    // An end that is asked for before the peer's has been heard forgoes what is under way.
    // So does one that does not read when the reset comes.
    let deaf = was_reset && near.paused.get();
    let owed = near.heard_out.get() && !far.aborted.get() && !deaf;
    if near.received.get() > far.accepted.get() || (owed && !complete) {
        let (received, accepted) = (near.received.get(), far.accepted.get());
        return Err(format!("{received} bytes of {accepted} arrived"));
    }
    Ok(())
}

/// Every story of `depth` steps, by number.
fn story(number: usize, depth: u32) -> Vec<Step> {
    let steps = steps();
    let digit = |place| number / steps.len().pow(place) % steps.len();
    (0..depth).map(|place| steps[digit(place)]).collect()
}

#[test]
fn connections_end_once_last_and_for_the_right_reason_in_every_order_and_lose_no_accepted_byte() {
    const DEPTH: u32 = 4;
    let mut told = 0;
    for layered in [false, true] {
        for wire in [Wire::Wide, Wire::Narrow] {
            let (setting, reactor) = (Setting { layered, wire }, virtual_time_reactor());
            for number in 0..steps().len().pow(DEPTH) {
                let story = story(number, DEPTH);
                if let Err(broken) = tell(&reactor, setting, &story) {
                    panic!("{broken}, in {setting:?}: {story:?}");
                }
                told += 1;
            }
        }
    }
    assert_eq!(told, 4 * 11_usize.pow(DEPTH));
}

#[test]
fn connections_between_simulated_hosts_end_so_in_every_order() {
    const DEPTH: u32 = 4;
    // Each story on one wire, and each wire with stories of all kinds.
    for number in 0..steps().len().pow(DEPTH) {
        let setting = Setting {
            layered: number % 5 == 0,
            wire: Wire::Simulated(number as u64),
        };
        let (story, reactor) = (story(number, DEPTH), virtual_time_reactor());
        if let Err(broken) = tell(&reactor, setting, &story) {
            panic!("{broken}, in {setting:?}: {story:?}");
        }
    }
}
