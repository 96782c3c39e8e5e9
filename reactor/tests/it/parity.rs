//! The same exchanges, on the system and in a simulation, give the same callbacks in the same
//! order.
//!
//! A script says who does what; after each step both worlds come to rest, so that what happens
//! is promised, and not a matter of who was faster. Into which pieces bytes fall is not
//! promised: one line says how many have come.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Failure;
use torsade_reactor::testing::{Chunking, Latency, Link, Simulation};
use torsade_reactor::{
    Address, ConnectError, ConnectionLost, Limits, ListenError, Protocol, Reactor, Transport,
};

use crate::common::reactor;

/// Scripts that are drawn.
const SCRIPTS: u64 = 400;

/// Much more than the buffers of any system hold.
const MUCH: usize = 16 << 20;

/// Longer than a simulation needs to bring that, and shorter than the limits that are not
/// set here.
const REST: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Write,
    WriteMuch,
    Lose,
    LoseImpatiently,
    Abort,
    LoseWrite,
    Pause,
    Resume,
    Flush,
    /// Loses the connection when a millisecond has passed.
    LoseLater,
}

impl Action {
    fn ends(self) -> bool {
        use Action::{Flush, Pause, Resume, Write, WriteMuch};
        !matches!(self, Write | WriteMuch | Pause | Resume | Flush)
    }
}

/// What an end does by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Quiet,
    Echoes,
    LosesOnData,
    AbortsOnData,
    /// Writes a last word when the peer's stream ends.
    AnswersTheEnd,
    /// Goes on when the peer's stream has ended.
    KeepsHalfOpen,
}

const ACTIONS: [Action; 9] = [
    Action::Write,
    Action::Lose,
    Action::LoseImpatiently,
    Action::Abort,
    Action::LoseWrite,
    Action::Pause,
    Action::Resume,
    Action::Flush,
    Action::LoseLater,
];

const NATURES: [Nature; 6] = [
    Nature::Quiet,
    Nature::Echoes,
    Nature::LosesOnData,
    Nature::AbortsOnData,
    Nature::AnswersTheEnd,
    Nature::KeepsHalfOpen,
];

/// Those to which it does not matter how much has come.
const PATIENT: [Nature; 3] = [Nature::Quiet, Nature::AnswersTheEnd, Nature::KeepsHalfOpen];

#[derive(Clone, Debug)]
struct Script {
    natures: [Nature; 2],
    /// Who does what in one go: 0 is the client.
    steps: Vec<(usize, Vec<Action>)>,
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // As in SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

impl Script {
    fn draw(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut natures = [0, 1].map(|_| NATURES[dice.below(NATURES.len())]);
        let (mut steps, mut ends) = (Vec::new(), [false; 2]);
        for _ in 0..1 + dice.below(6) {
            let (side, count) = (dice.below(2), 1 + dice.below(3));
            // What is written to who is gone may come back as a reset; when, is a matter of
            // who is faster, and of acknowledgements.
            let count = if ends[1 - side] { 1 } else { count };
            let actions: Vec<Action> = (0..count)
                .map(|_| ACTIONS[dice.below(ACTIONS.len())])
                .filter(|action| *action != Action::Write || !ends[1 - side])
                .collect();
            ends[side] |= actions.iter().any(|action| action.ends());
            // What has a delay has a step of its own: whether the peer is faster is no matter
            // of promises.
            let is_later = |action: &Action| *action == Action::LoseLater;
            let has_later = actions.iter().any(is_later);
            steps.push((
                side,
                actions
                    .into_iter()
                    .filter(|action| !is_later(action))
                    .collect(),
            ));
            if has_later {
                steps.push((side, vec![Action::LoseLater]));
            }
        }
        if natures == [Nature::Echoes; 2] {
            // They would never come to rest.
            natures[1] = Nature::Quiet;
        }
        if seed.is_multiple_of(25) {
            // How much a buffer holds is not promised: nobody shows it by what it does.
            natures = [0, 1].map(|_| PATIENT[dice.below(PATIENT.len())]);
            steps.insert(0, (dice.below(2), vec![Action::WriteMuch]));
            if dice.below(2) == 0 {
                steps.insert(0, (1 - steps[0].0, vec![Action::Pause]));
            }
        }
        // Everything ends.
        steps.push((0, vec![Action::Resume]));
        steps.push((1, vec![Action::Resume]));
        steps.push((1, vec![Action::Lose]));
        steps.push((0, vec![Action::Lose]));
        Self { natures, steps }
    }

    /// Whether what it comes to depends on the pieces into which bytes fall.
    fn minds_pieces(&self) -> bool {
        let minds = |nature| matches!(nature, Nature::LosesOnData | Nature::AbortsOnData);
        self.natures.into_iter().any(minds)
    }
}

/// What one end was told, and what came of what it asked for.
#[derive(Clone, Default)]
struct Diary(Rc<RefCell<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    /// The bytes since the last other event are one line.
    fn note_data(&self, count: usize) {
        let mut lines = self.0.borrow_mut();
        let before = lines.last().and_then(|line| line.strip_prefix("data "));
        let before: Option<usize> = before.and_then(|count| count.parse().ok());
        if before.is_some() {
            lines.pop();
        }
        lines.push(format!("data {}", before.unwrap_or(0) + count));
    }
}

struct Teller {
    nature: Nature,
    diary: Diary,
}

impl Protocol for Teller {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.diary.note("made");
        transport.set_limits(Limits {
            unsent_max: MUCH * 4,
            ..Limits::default()
        });
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.diary.note_data(data.len());
        match self.nature {
            Nature::Echoes => transport.write(data),
            Nature::LosesOnData => transport.lose_connection(),
            Nature::AbortsOnData => transport.abort_connection(),
            Nature::Quiet | Nature::AnswersTheEnd | Nature::KeepsHalfOpen => {}
        }
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        self.diary.note("read lost");
        match self.nature {
            Nature::KeepsHalfOpen => {}
            Nature::AnswersTheEnd => {
                transport.write("a last word");
                transport.lose_connection();
            }
            _ => transport.lose_connection(),
        }
    }

    fn write_paused(&mut self, _: &Transport<Self>) {
        self.diary.note("paused");
    }

    fn write_resumed(&mut self, _: &Transport<Self>) {
        self.diary.note("resumed");
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.diary.note(match reason {
            ConnectionLost::Io(error) => format!("lost: {:?}", error.kind()),
            other => format!("lost: {other:?}"),
        });
    }
}

fn act(transport: &Transport<Teller>, diary: &Diary, action: Action) {
    match action {
        Action::Write => transport.write("0123456789"),
        Action::WriteMuch => transport.write(vec![b'x'; MUCH]),
        Action::Lose => transport.lose_connection(),
        Action::LoseImpatiently => {
            transport.set_limits(Limits {
                flush: Duration::from_millis(1),
                ..transport.limits()
            });
            transport.lose_connection();
        }
        Action::Abort => transport.abort_connection(),
        Action::LoseWrite => transport.lose_write_connection(),
        Action::Pause => transport.pause_reading(),
        Action::Resume => transport.resume_reading(),
        Action::Flush => {
            let diary = diary.clone();
            drop(transport.flush().add_both(move |result| {
                let outcome = if result.is_ok() {
                    "flushed"
                } else {
                    "not flushed"
                };
                diary.note(outcome);
                Ok::<(), Failure>(())
            }));
        }
        Action::LoseLater => {
            let (later, diary) = (transport.clone(), diary.clone());
            let lose = move || {
                diary.note("loses it");
                later.lose_connection();
            };
            transport
                .reactor()
                .call_later(Duration::from_millis(1), lose);
        }
    }
}

/// Both diaries, after each step.
type Course = Vec<[Vec<String>; 2]>;

/// Waits until nothing is left to happen, where somebody says whether it has come to what it
/// should.
type Rest = Box<dyn Fn(&dyn Fn() -> bool)>;

/// Where a script is played: the reactors of its two ends, and what lets them come to rest,
/// where the diaries are to say this.
struct World {
    reactors: [Reactor; 2],
    server: String,
    come_to_rest: Rest,
}

impl World {
    fn simulated(seed: u64, chunking: Chunking) -> Self {
        let simulation = Simulation::new(seed);
        simulation.set_chunking(chunking);
        // As near as the two ends are on one machine.
        let near = Latency::Fixed(Duration::from_micros(20));
        simulation.set_default_link(Link::with_latency(near));
        let (client, server) = (simulation.host("client"), simulation.host("server"));
        Self {
            reactors: [client.reactor(), server.reactor()],
            server: server.ip().to_string(),
            // What it comes to there is right.
            come_to_rest: Box::new(move |_| simulation.run_for(REST)),
        }
    }

    fn system() -> Self {
        let reactor = reactor();
        let turning = reactor.clone();
        Self {
            reactors: [reactor.clone(), reactor],
            server: "127.0.0.1".to_owned(),
            come_to_rest: Box::new(move |is_right| {
                let patience = Duration::from_secs(2);
                let turn = |limit| turning.turn(Some(limit)).expect("it can wait");
                for _ in 0..100_000 {
                    turn(Duration::ZERO);
                    let before = turning.now();
                    if is_right() {
                        break;
                    }
                    turn(patience);
                    if turning.now() - before >= patience {
                        // Nothing happens any more. It will be said what is missing.
                        break;
                    }
                }
                // What is too much comes now.
                for _ in 0..3 {
                    turn(Duration::ZERO);
                }
            }),
        }
    }

    fn play(&self, script: &Script, expected: Option<&Course>) -> Course {
        let diaries = [Diary::default(), Diary::default()];
        let teller = |side: usize| Teller {
            nature: script.natures[side],
            diary: diaries[side].clone(),
        };
        let ends = || diaries.each_ref().map(|diary| diary.0.borrow().clone());
        let (accepted, server) = (Rc::new(RefCell::new(None)), Cell::new(Some(teller(1))));
        let place = Rc::clone(&accepted);
        let listening = self.reactors[1].listen_tcp(":0", move |_: &Address| {
            let (place, server) = (Rc::clone(&place), server.take()?);
            Some(Accepted {
                place,
                server: Some(server),
            })
        });
        let port = listening.expect("the port is free");
        let Address::Tcp(address) = port.address() else {
            panic!("it listens on TCP");
        };
        let to = format!("{}:{}", self.server, address.port());
        let client = teller(0);
        let connecting = self.reactors[0].connect_tcp(&*to, |_| client);
        let client = self.reactors[0].run_until(connecting).expect("it listens");
        (self.come_to_rest)(&|| accepted.borrow().is_some());
        let server = accepted.take().expect("it was accepted");
        drop(port.stop_listening());
        let transports = [client, server];
        let steps = script.steps.iter().enumerate();
        let course = steps.map(|(number, (side, actions))| {
            for action in actions {
                act(&transports[*side], &diaries[*side], *action);
            }
            let is_right = || expected.is_none_or(|expected| ends() == expected[number]);
            (self.come_to_rest)(&is_right);
            ends()
        });
        course.collect()
    }
}

/// Gives its place to the protocol that the script moves, so that the test has its transport.
struct Accepted {
    place: Rc<RefCell<Option<Transport<Teller>>>>,
    server: Option<Teller>,
}

impl Protocol for Accepted {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let server = self.server.take().expect("it is made once");
        let stream = Rc::clone(transport.stream());
        self.place.replace(Some(Transport::connect(server, stream)));
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        unreachable!("another protocol has taken its place");
    }
}

/// The steps, with what came of them in both worlds.
fn told(script: &Script, simulated: &Course, real: &Course) -> String {
    let mut told = format!("{:?}", script.natures);
    for (number, step) in script.steps.iter().enumerate() {
        let (simulated, real) = (&simulated[number], &real[number]);
        // Infallible.
        let _ = write!(told, "\n  {step:?}");
        if simulated != real {
            let _ = write!(
                told,
                "\n    simulated {simulated:?}\n    real      {real:?}"
            );
            break;
        }
    }
    told
}

#[test]
fn what_is_told_of_a_connection_is_the_same_on_the_system_and_in_a_simulation() {
    let system = World::system();
    let mut different = Vec::new();
    for seed in 0..SCRIPTS {
        let script = Script::draw(seed);
        let chunking = match script.minds_pieces() {
            true => Chunking::Whole,
            false => Chunking::Drawn,
        };
        let expected = World::simulated(seed, chunking).play(&script, None);
        let real = system.play(&script, Some(&expected));
        if real != expected {
            different.push(format!("{seed}: {}", told(&script, &expected, &real)));
        }
        // A few are enough to see what it is; each takes a while.
        if different.len() == 5 {
            break;
        }
    }
    assert!(different.is_empty(), "script {}", different.join("\n"));
}

/// What an attempt to connect comes to, without the addresses.
fn outcome<T>(result: Result<T, Failure>) -> String {
    let Err(failure) = result else {
        return "connected".to_owned();
    };
    match failure.trap::<ConnectError>() {
        Ok(ConnectError::Refused { .. }) => "refused".to_owned(),
        Ok(ConnectError::UnknownHost { .. }) => "an unknown host".to_owned(),
        Ok(ConnectError::NoProtocol { .. }) => "no protocol".to_owned(),
        Ok(other) => panic!("{other}"),
        Err(other) => other.to_string(),
    }
}

/// Attempts that fail, each in its way, and what they come to.
fn attempts(world: &World) -> Vec<(&'static str, String)> {
    let [client, server] = &world.reactors;
    let quiet = || Teller {
        nature: Nature::Quiet,
        diary: Diary::default(),
    };
    let port = server
        .listen_tcp(":0", move |_: &Address| quiet())
        .expect("the port is free");
    let Address::Tcp(address) = port.address() else {
        panic!("it listens on TCP");
    };
    let to = format!("{}:{}", world.server, address.port());
    let mut outcomes = Vec::new();
    let mut attempt = |what, to: &str, cancels: bool, builds: bool| {
        let connecting = client.connect_tcp(to, move |_| builds.then(quiet));
        if cancels {
            connecting.canceller().cancel();
        }
        outcomes.push((what, outcome(client.run_until(connecting))));
    };
    attempt("somebody listens", &to, false, true);
    attempt("there is no protocol for it", &to, false, false);
    attempt("it is cancelled at once", &to, true, true);
    // No name is so long, so that nobody is asked.
    let unknown = format!("{}:80", "x".repeat(64));
    attempt("nobody has this name", &unknown, false, true);
    let stopping = port.stop_listening();
    server.run_until(stopping).expect("it stops");
    attempt("nobody listens any more", &to, false, true);
    let again = server.listen_tcp(&*to, move |_: &Address| quiet());
    let again = again.expect("the port is free again");
    let taken = server.listen_tcp(&*to, move |_: &Address| quiet());
    let is_in_use = matches!(taken, Err(ListenError::InUse { .. }));
    outcomes.push(("the port is taken", format!("in use: {is_in_use}")));
    drop(again.stop_listening());
    outcomes
}

#[test]
fn attempts_to_connect_fail_in_the_same_way_on_the_system_and_in_a_simulation() {
    let real = attempts(&World::system());
    assert_eq!(attempts(&World::simulated(1, Chunking::Drawn)), real);
    let mut outcomes: Vec<_> = real.iter().map(|(_, outcome)| outcome).collect();
    outcomes.dedup();
    assert_eq!(outcomes.len(), real.len(), "each in its own way: {real:?}");
}
