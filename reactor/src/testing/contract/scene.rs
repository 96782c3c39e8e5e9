//! Two ends with a probe each, and the turns of the reactor between them.

use std::rc::Rc;
use std::time::Duration;

use crate::capability::WorldKind;
use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::reactor::Reactor;
use crate::stream::{Receiver, Stream};
use crate::testing::contract::probe::{Event, Probe, Watch};
use crate::testing::contract::{Contract, Ends};

/// Turns that are taken where nothing is to happen: more than anything takes that a stream
/// does by itself.
const QUIET_TURNS: usize = 30;

/// Turns that are waited for something, whatever the volume.
const TURNS_MAX: usize = 100_000;

/// The most that is written to somebody who does not read: more than the buffers of any
/// system hold.
const DEAF_MAX: usize = 64 << 20;

/// More than bytes take from one simulated host to another and back.
const LINK_TIME: Duration = Duration::from_millis(10);

pub(super) struct Scene {
    pub(super) reactor: Reactor,
    pub(super) client: End,
    pub(super) server: End,
    pub(super) watch: Rc<Watch>,
    /// Turns that anything takes at most. The bound is on turns, not on time.
    turns_max: usize,
    _ends: Ends,
}

/// One end, with what it has been told.
#[derive(Clone)]
pub(super) struct End {
    pub(super) stream: Rc<dyn Stream>,
    pub(super) probe: Rc<Probe>,
    watch: Rc<Watch>,
}

impl End {
    fn over(stream: &Rc<dyn Stream>, watch: &Rc<Watch>) -> Self {
        Self {
            stream: Rc::clone(stream),
            probe: Probe::new(watch),
            watch: Rc::clone(watch),
        }
    }

    /// Makes the probe the receiver.
    pub(super) fn listen(&self) {
        let receiver = Rc::clone(&self.probe) as Rc<dyn Receiver>;
        self.call(|stream| stream.set_receiver(receiver));
    }

    /// Calls a method, inside of which nobody is to be told anything.
    pub(super) fn call<T>(&self, call: impl FnOnce(&dyn Stream) -> T) -> T {
        let outer = self.watch.calling.replace(true);
        let outcome = call(&*self.stream);
        self.watch.calling.set(outer);
        outcome
    }

    pub(super) fn write(&self, data: impl AsRef<[u8]>) {
        self.call(|stream| stream.write(data.as_ref()));
    }

    pub(super) fn lose(&self) {
        self.call(|stream| stream.lose_connection(ConnectionLost::Done));
    }

    pub(super) fn abort(&self) {
        self.call(|stream| stream.abort_connection(ConnectionLost::Aborted));
    }

    pub(super) fn received(&self) -> usize {
        self.probe.data.borrow().len()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.probe.is_lost()
    }

    #[track_caller]
    pub(super) fn check_reason(&self, is_it: impl FnOnce(&ConnectionLost) -> bool) {
        let reason = self.probe.reason.borrow();
        let reason = reason.as_ref().expect("the connection is lost");
        assert!(is_it(reason), "the reason is {reason:?}");
    }

    #[track_caller]
    pub(super) fn check_events(&self, expected: &[Event]) {
        assert_eq!(*self.probe.events.borrow(), expected);
    }
}

impl Contract {
    /// A pair with probes that listen.
    pub(super) fn scene(&self) -> Scene {
        let scene = self.scene_without_receivers();
        scene.client.listen();
        scene.server.listen();
        scene
    }

    pub(super) fn scene_without_receivers(&self) -> Scene {
        let ends = (self.make)();
        let watch = Rc::new(Watch::default());
        Scene {
            reactor: ends.reactor.clone(),
            client: End::over(&ends.client, &watch),
            server: End::over(&ends.server, &watch),
            watch,
            // Some for each byte, for a stream that brings them one by one.
            turns_max: TURNS_MAX.max(self.volume * 10),
            _ends: ends,
        }
    }

    /// Bytes of which each says where it stands.
    pub(super) fn pattern(&self, volume: usize) -> Vec<u8> {
        (0..volume).map(|place| (place % 251) as u8).collect()
    }
}

impl Scene {
    /// The two ends, in both orders.
    pub(super) fn both_ways(&self) -> [(&End, &End); 2] {
        [(&self.client, &self.server), (&self.server, &self.client)]
    }

    /// Runs turns until it has come to this.
    #[track_caller]
    pub(super) fn run_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        for turn in 0..self.turns_max {
            if is_so() {
                return;
            }
            // What was asked for outside of a turn happens at the beginning of one: look
            // before waiting.
            let limit = Duration::from_secs(if turn % 2 == 0 { 0 } else { 10 });
            let turn = self.reactor.turn(Some(limit));
            turn.unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
        }
        panic!("{} turns, and not yet: {what}", self.turns_max);
    }

    /// Runs turns in which, as far as anybody can see, nothing is left to happen.
    pub(super) fn come_to_rest(&self) {
        for _ in 0..QUIET_TURNS {
            self.look();
        }
    }

    /// Runs a turn that finds what has come, and does not wait for more.
    #[track_caller]
    pub(super) fn look(&self) {
        // Only while a simulated host waits do the others go on, and it costs nothing there.
        let limit = match self.reactor.core().driver().world() {
            WorldKind::Simulation => LINK_TIME,
            _ => Duration::ZERO,
        };
        let turn = self.reactor.turn(Some(limit));
        turn.expect("the loop can look");
    }

    /// Writes until more than `unsent` bytes stay unsent, though the loop goes on, and
    /// says how many that took.
    #[track_caller]
    pub(super) fn fill(&self, end: &End, unsent: usize) -> usize {
        let mut written = 0;
        while written < DEAF_MAX {
            let data = [0; 4096];
            end.write(data);
            written += data.len();
            for _ in 0..2 {
                self.look();
            }
            if end.stream.unsent() > unsent {
                return written;
            }
        }
        panic!("{DEAF_MAX} bytes were sent to a peer that reads none");
    }

    /// Ends what has not ended, and looks whether a rule was broken on the way.
    #[track_caller]
    pub(super) fn finish(self) {
        for end in [&self.client, &self.server] {
            end.abort();
        }
        self.run_until("both are lost", || {
            self.client.is_lost() && self.server.is_lost()
        });
        self.come_to_rest();
        self.check_violations();
    }

    #[track_caller]
    pub(super) fn check_violations(&self) {
        let violations = self.watch.violations.borrow();
        assert!(violations.is_empty(), "{}", violations.join("; "));
    }
}

/// Limits small enough to be reached.
pub(super) fn small_limits() -> Limits {
    Limits {
        unsent_high: 10_000,
        unsent_low: 1_000,
        ..Limits::default()
    }
}
