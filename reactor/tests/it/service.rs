//! What users of a client service rely on, in virtual time and memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger};
use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
use torsade_reactor::{
    Address, Backoff, ClientEndpoint, ClientService, ConnectError, ConnectionLost, LostEarly,
    Reactor, ServiceState, Stream, Transport,
};

use crate::common::{End, Log, count_unhandled};

type Attempt = Trigger<Rc<dyn Stream>>;

/// An endpoint whose attempts end when the test says so.
#[derive(Clone, Default)]
struct Fake {
    attempts: Rc<RefCell<Vec<Attempt>>>,
    /// The servers' ends of what was connected.
    servers: Rc<RefCell<Vec<Rc<dyn Stream>>>>,
    begun: Rc<Cell<usize>>,
    /// Cancelling does not end an attempt.
    is_slow: Rc<Cell<bool>>,
}

impl ClientEndpoint for Fake {
    fn connect_stream(&self, _: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let (trigger, attempt) = Deferred::new();
        self.begun.set(self.begun.get() + 1);
        if self.is_slow.get() {
            trigger.forward_cancel(|| ());
        }
        self.attempts.borrow_mut().push(trigger);
        attempt
    }
}

struct World {
    reactor: Reactor,
    fake: Fake,
    log: Log,
    service: ClientService<End>,
    begin: Instant,
}

/// Waits of 1, 2, 4, ... s.
fn doubling() -> Backoff {
    Backoff::new(1).factor(2.0).jitter(Duration::ZERO)
}

impl World {
    fn new() -> Self {
        let (fake, log) = (Fake::default(), Log::default());
        let reactor = virtual_time_reactor();
        let (endpoint, seen) = (fake.clone(), log.clone());
        let service = ClientService::new(&reactor, endpoint, move |_| End::new("client", &seen));
        let begin = reactor.now();
        Self {
            service: service.retry_policy(doubling()),
            reactor,
            fake,
            log,
            begin,
        }
    }

    fn with(mut self, change: impl FnOnce(ClientService<End>) -> ClientService<End>) -> Self {
        self.service = change(self.service);
        self
    }

    fn started(self) -> Self {
        self.service.start();
        self
    }

    #[track_caller]
    fn check_state(&self, state: ServiceState) {
        assert_eq!(self.service.state(), state);
    }

    fn take_attempt(&self) -> Attempt {
        let attempt = self.fake.attempts.borrow_mut().pop();
        attempt.expect("an attempt goes on")
    }

    /// The attempt that goes on succeeds.
    fn connect(&self) {
        let pair = memory_pair(&self.reactor);
        self.fake.servers.borrow_mut().push(pair.server);
        self.take_attempt().callback(pair.client);
    }

    fn fail(&self) {
        self.take_attempt()
            .errback(Failure::message("nobody there"));
    }

    /// The peer of the last connection goes.
    fn lose(&self) {
        let server = self.fake.servers.borrow_mut().pop();
        let server = server.expect("there is a connection");
        server.abort_connection(ConnectionLost::Aborted);
        self.settle();
    }

    /// Enough turns for what is on its way in memory, and no time.
    fn settle(&self) {
        for _ in 0..20 {
            let reactor = self.reactor.clone();
            reactor.call_soon(|| ());
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
        }
    }

    /// Runs until the next attempt has begun, and says how long that took.
    fn next_attempt(&self) -> Duration {
        let (from, begun) = (self.reactor.now(), self.fake.begun.get());
        for _ in 0..1000 {
            if self.fake.begun.get() > begun {
                break;
            }
            self.reactor.turn(None).expect("something is scheduled");
        }
        self.reactor.now() - from
    }

    /// Writes down what comes of it.
    fn note<T: 'static>(&self, name: &'static str, deferred: Deferred<T>) {
        let log = self.log.clone();
        drop(deferred.add_both(move |outcome| {
            match outcome {
                Ok(_) => log.add(name),
                Err(failure) => log.add(format!("{name}: {failure}")),
            }
            Ok::<_, Failure>(())
        }));
    }
}

#[test]
fn it_connects_at_once_and_again_after_growing_waits() {
    let world = World::new();
    world.check_state(ServiceState::Stopped);
    world.service.start();
    world.check_state(ServiceState::Connecting);
    for (failures, wait) in [1, 2, 4, 8].into_iter().enumerate() {
        world.fail();
        world.check_state(ServiceState::Waiting);
        assert_eq!(world.service.failed_attempts() as usize, failures + 1);
        assert_eq!(world.next_attempt(), Duration::from_secs(wait));
    }
    let failure = world.service.last_failure().expect("there was one");
    assert_eq!(failure.to_string(), "nobody there");
    world.connect();
    world.check_state(ServiceState::Connected);
    assert_eq!(world.service.failed_attempts(), 0);
    assert!(world.service.last_failure().is_none());
    world.log.check(["client made"]);
}

#[test]
fn a_connection_that_is_lost_is_a_failure_and_is_waited_for_as_one() {
    let world = World::new().started();
    world.connect();
    world.lose();
    world.check_state(ServiceState::Waiting);
    assert_eq!(world.service.failed_attempts(), 1);
    assert_eq!(world.next_attempt(), Duration::from_secs(1));
    world.connect();
    assert_eq!(world.service.failed_attempts(), 0, "the row is over");
    // Our own end is one, too.
    let transport = world.service.when_connected().into_result();
    transport
        .expect("at once")
        .expect("connected")
        .lose_connection();
    assert!(
        !world.service.when_connected().is_fired(),
        "not with that one"
    );
    world.settle();
    world.check_state(ServiceState::Waiting);
}

#[test]
fn to_start_what_is_started_is_nothing() {
    let world = World::new().started();
    world.service.start();
    assert_eq!(world.fake.begun.get(), 1);
    world.connect();
    world.service.start();
    world.check_state(ServiceState::Connected);
    assert_eq!(world.fake.begun.get(), 1);
}

#[test]
fn who_waits_is_told_at_once_or_with_the_next_connection() {
    let world = World::new().started();
    world.note("first", world.service.when_connected());
    world.note("second", world.service.when_connected());
    world.fail();
    world.next_attempt();
    world.log.check([]);
    world.connect();
    world.log.check(["client made", "first", "second"]);
    assert!(world.service.when_connected().is_fired());
}

#[test]
fn who_has_patience_for_so_many_failures_is_told_the_last_one() {
    let world = World::new().started();
    world.fail();
    world.next_attempt();
    // Counted from the call.
    world.note("two", world.service.when_connected_or_failed(2));
    world.note("one", world.service.when_connected_or_failed(1));
    world.note("none", world.service.when_connected_or_failed(0));
    world.note("many", world.service.when_connected());
    world.fail();
    world.log.check(["one: nobody there", "none: nobody there"]);
    world.next_attempt();
    world.fail();
    assert_eq!(world.log.lines().len(), 3);
    assert_eq!(world.log.lines()[2], "two: nobody there");
}

#[test]
fn who_waits_is_cancelled_by_the_stop_and_by_a_service_that_is_not_started() {
    let world = World::new();
    world.note("too early", world.service.when_connected());
    world.service.start();
    world.note("waits", world.service.when_connected());
    drop(world.service.stop());
    world.note("too late", world.service.when_connected());
    world.log.check([
        "too early: cancelled",
        "waits: cancelled",
        "too late: cancelled",
    ]);
}

#[test]
fn who_gives_up_waiting_leaves_nothing_behind() {
    let world = World::new().started();
    let (kept, token) = (Rc::new(()), Rc::new(()));
    drop(kept);
    let held = Rc::clone(&token);
    let waiting = world.service.when_connected().map(move |_| drop(held));
    waiting.cancel();
    let outcome = waiting.into_result().expect("cancelled");
    assert!(outcome.is_err_and(|failure| failure.check::<Interrupted>()));
    assert_eq!(Rc::strong_count(&token), 1);
    world.connect();
    world.check_state(ServiceState::Connected);
}

#[test]
fn stop_gives_up_an_attempt() {
    let world = World::new().started();
    world.note("stopped", world.service.stop());
    world.log.check(["stopped"]);
    world.check_state(ServiceState::Stopped);
    assert!(world.reactor.dump().is_empty(), "{}", world.reactor.dump());
}

#[test]
fn stop_ends_the_wait() {
    let world = World::new().started();
    world.fail();
    world.note("stopped", world.service.stop());
    world.log.check(["stopped"]);
    assert!(world.reactor.dump().is_empty(), "{}", world.reactor.dump());
    world.note("again", world.service.stop());
    world.log.check(["stopped", "again"]);
}

#[test]
fn stop_fires_for_everybody_when_the_connection_is_really_gone() {
    let world = World::new().started();
    world.connect();
    world.note("first", world.service.stop());
    world.note("second", world.service.stop());
    world.check_state(ServiceState::Disconnecting);
    world.log.check(["client made"]);
    world.settle();
    world
        .log
        .check(["client made", "client lost: Done", "first", "second"]);
    world.check_state(ServiceState::Stopped);
}

#[test]
fn a_start_while_it_stops_connects_when_the_old_is_gone() {
    let world = World::new().started();
    world.connect();
    world.note("stopped", world.service.stop());
    world.service.start();
    world.check_state(ServiceState::Restarting);
    world.note("connected", world.service.when_connected());
    assert_eq!(world.fake.begun.get(), 1, "not beside the old one");
    world.settle();
    world.check_state(ServiceState::Connecting);
    world.connect();
    world.log.check([
        "client made",
        "client lost: Done",
        "stopped",
        "client made",
        "connected",
    ]);
}

/// Where Twisted's hangs.
#[test]
fn a_start_while_a_slow_attempt_is_being_cancelled_waits_for_its_end() {
    for succeeds in [false, true] {
        let world = World::new();
        world.fake.is_slow.set(true);
        world.service.start();
        world.note("stopped", world.service.stop());
        world.check_state(ServiceState::Disconnecting);
        world.service.start();
        world.check_state(ServiceState::Restarting);
        world.log.check([]);
        if succeeds {
            world.connect();
            world.check_state(ServiceState::Restarting);
            world.settle();
        } else {
            world.fail();
        }
        world.check_state(ServiceState::Connecting);
        assert!(world.log.lines().contains(&"stopped".to_owned()));
        assert_eq!(world.fake.begun.get(), 2);
        drop(world.service.stop());
        world.fail();
    }
}

/// What `prepare_connection` gives, for the test to fire.
type Preparations = Rc<RefCell<Vec<Trigger<()>>>>;

fn preparing() -> (World, Preparations) {
    let preparations = Preparations::default();
    let given = Rc::clone(&preparations);
    let world = World::new().with(|service| {
        service.prepare_connection(move |_| {
            let (trigger, prepared) = Deferred::<()>::new();
            given.borrow_mut().push(trigger);
            prepared
        })
    });
    (world.started(), preparations)
}

fn take(preparations: &Preparations) -> Trigger<()> {
    let taken = preparations.borrow_mut().pop();
    taken.expect("it prepares")
}

#[test]
fn a_connection_is_ready_when_it_is_prepared() {
    let (world, preparations) = preparing();
    world.fail();
    world.next_attempt();
    world.note("connected", world.service.when_connected());
    world.connect();
    world.check_state(ServiceState::Preparing);
    assert_eq!(world.service.failed_attempts(), 1, "the row is not over");
    take(&preparations).callback(());
    world.check_state(ServiceState::Connected);
    assert_eq!(world.service.failed_attempts(), 0);
    world.log.check(["client made", "connected"]);
}

/// Twisted's leaves it open, and loses it later in an undefined state.
#[test]
fn a_connection_that_cannot_be_prepared_is_closed_and_counts_as_a_failed_attempt() {
    let (world, preparations) = preparing();
    world.note("connected", world.service.when_connected_or_failed(1));
    world.connect();
    take(&preparations).errback(Failure::message("wrong password"));
    world.check_state(ServiceState::Discarding);
    world.settle();
    world.check_state(ServiceState::Waiting);
    world.log.check([
        "client made",
        "connected: wrong password",
        "client lost: Done",
    ]);
    assert_eq!(world.service.failed_attempts(), 1);
    assert_eq!(world.next_attempt(), Duration::from_secs(1));
    world.connect();
    take(&preparations).errback(Failure::message("wrong password"));
    world.settle();
    assert_eq!(
        world.next_attempt(),
        Duration::from_secs(2),
        "the row goes on"
    );
}

/// Where Twisted's believes in a dead protocol for ever.
#[test]
fn a_connection_that_is_lost_while_it_is_prepared_is_a_failed_attempt() {
    let (world, preparations) = preparing();
    world.note("connected", world.service.when_connected_or_failed(1));
    world.connect();
    let preparation = take(&preparations);
    world.lose();
    world.check_state(ServiceState::Waiting);
    assert!(!preparation.is_open(), "it is cancelled");
    let failure = world.service.last_failure().expect("it is noted");
    assert!(failure.check::<LostEarly>(), "{failure}");
    preparation.callback(());
    world.check_state(ServiceState::Waiting);
    assert!(world.log.lines()[2].starts_with("connected: not prepared in time"));
}

/// Where Twisted's stop fires, and leaves the connection open.
#[test]
fn stop_while_it_prepares_cancels_that_and_waits_for_the_end_of_the_connection() {
    let (world, preparations) = preparing();
    world.connect();
    let preparation = take(&preparations);
    world.note("stopped", world.service.stop());
    assert!(!preparation.is_open(), "it is cancelled");
    world.check_state(ServiceState::Disconnecting);
    world.settle();
    world
        .log
        .check(["client made", "client lost: Done", "stopped"]);
}

#[test]
fn a_preparation_of_the_last_connection_says_nothing_of_this_one() {
    let preparations = Preparations::default();
    let given = Rc::clone(&preparations);
    let world = World::new().with(|service| {
        service.prepare_connection(move |_| {
            let (trigger, prepared) = Deferred::<()>::new();
            trigger.forward_cancel(|| ());
            given.borrow_mut().push(trigger);
            prepared
        })
    });
    world.service.start();
    world.connect();
    let stale = take(&preparations);
    world.lose();
    world.next_attempt();
    world.connect();
    stale.callback(());
    world.check_state(ServiceState::Preparing);
}

#[test]
fn a_dropped_service_ends() {
    let world = World::new().started();
    world.connect();
    let World {
        reactor,
        fake,
        log,
        service,
        ..
    } = world;
    let another = service.clone();
    drop(service);
    assert!(!log.lines().contains(&"client lost: Done".to_owned()));
    drop(another);
    let server = fake.servers.borrow_mut().pop();
    drop(Transport::connect(
        End::new("server", &Log::default()),
        server.expect("there is a connection"),
    ));
    for _ in 0..20 {
        reactor.call_soon(|| ());
        reactor.turn(Some(Duration::ZERO)).expect("it turns");
    }
    log.check(["client made", "client lost: Done"]);
    assert!(reactor.dump().is_empty(), "{}", reactor.dump());
    // Nothing keeps the endpoint.
    assert_eq!(Rc::strong_count(&fake.begun), 1);
}

#[test]
fn a_service_does_not_keep_its_reactor() {
    let world = World::new().started();
    world.connect();
    let World {
        reactor,
        service,
        log,
        ..
    } = world;
    let weak = reactor.downgrade();
    drop(reactor);
    assert!(weak.upgrade().is_none());
    assert_eq!(log.lines().len(), 2, "the connection is lost");
    assert!(service.stop().is_fired());
}

#[test]
fn it_may_be_stopped_and_started_from_every_callback() {
    // In `connection_made`.
    let slot: Rc<RefCell<Option<ClientService<End>>>> = Rc::default();
    let (fake, log) = (Fake::default(), Log::default());
    let reactor = virtual_time_reactor();
    let (seen, place) = (log.clone(), Rc::clone(&slot));
    let service = ClientService::new(&reactor, fake.clone(), move |_| {
        let place = Rc::clone(&place);
        End::new("client", &seen).on_made(move |_| {
            let service = place.borrow().clone().expect("it is there");
            drop(service.stop());
            service.start();
        })
    });
    slot.replace(Some(service.clone()));
    service.start();
    let pair = memory_pair(&reactor);
    let attempt = fake.attempts.borrow_mut().pop();
    attempt.expect("it connects").callback(pair.client);
    assert_eq!(service.state(), ServiceState::Restarting);
    slot.replace(None);

    // In the Deferred of the stop, and of the connection.
    let world = World::new().started();
    world.connect();
    let (again, log) = (world.service.clone(), world.log.clone());
    let restarted = world.service.stop().add_callback(move |()| {
        again.start();
        log.add("started");
        let (stopping, log) = (again.clone(), log.clone());
        again.when_connected().add_callback(move |_| {
            log.add("connected");
            stopping.stop()
        })
    });
    world.note("stopped", restarted);
    world.settle();
    world.connect();
    world.settle();
    world.log.check([
        "client made",
        "client lost: Done",
        "started",
        "client made",
        "connected",
        "client lost: Done",
        "stopped",
    ]);

    // In the policy and in the preparation.
    let slot: Rc<RefCell<Option<ClientService<End>>>> = Rc::default();
    let (policy, prepare) = (Rc::clone(&slot), Rc::clone(&slot));
    let stop = |slot: &RefCell<Option<ClientService<End>>>| {
        let service = slot.borrow().clone().expect("it is there");
        drop(service.stop());
    };
    let world = World::new().with(|service| {
        service
            .retry_policy(move |_| {
                stop(&policy);
                Duration::ZERO
            })
            .prepare_connection(move |_| stop(&prepare))
    });
    slot.replace(Some(world.service.clone()));
    world.service.start();
    world.fail();
    world.check_state(ServiceState::Stopped);
    world.service.start();
    world.connect();
    world.check_state(ServiceState::Disconnecting);
    world.settle();
    world.check_state(ServiceState::Stopped);
    slot.replace(None);
}

#[test]
fn who_is_told_of_a_connection_that_another_has_just_stopped_is_cancelled() {
    let world = World::new().started();
    let service = world.service.clone();
    let stops = world
        .service
        .when_connected()
        .map(move |_| drop(service.stop()));
    world.note("first", stops);
    world.note("second", world.service.when_connected());
    world.connect();
    world
        .log
        .check(["client made", "first", "second: cancelled"]);
}

#[test]
fn a_protocol_that_is_not_built_and_panics_of_the_users_are_failed_attempts() {
    let (unhandled, _guard) = count_unhandled();
    let (fake, mut count) = (Fake::default(), 0);
    let reactor = virtual_time_reactor();
    let build = move |_: &Address| {
        count += 1;
        match count {
            1 => None,
            2 => panic!("in build"),
            _ => Some(End::new("client", &Log::default())),
        }
    };
    let service = ClientService::new(&reactor, fake.clone(), build)
        .retry_policy(|failures| match failures {
            0 => Duration::ZERO,
            _ => panic!("in the policy"),
        })
        .prepare_connection(|_: &Transport<End>| -> Result<(), Failure> {
            panic!("in the preparation")
        });
    let begin = reactor.now();
    let world = World {
        reactor,
        fake,
        log: Log::default(),
        service,
        begin,
    };
    world.service.start();
    world.connect();
    let failure = world.service.last_failure().expect("it is noted");
    assert!(matches!(
        failure.downcast_ref(),
        Some(ConnectError::NoProtocol { .. })
    ));
    assert_eq!(world.next_attempt(), Duration::ZERO);
    world.connect();
    world.check_state(ServiceState::Waiting);
    assert_eq!(world.next_attempt(), Duration::from_secs(60));
    assert_eq!(world.reactor.now() - world.begin, Duration::from_secs(60));
    world.connect();
    world.check_state(ServiceState::Discarding);
    world.settle();
    world.check_state(ServiceState::Waiting);
    assert!(unhandled.get() >= 3, "each panic is reported");
}

#[test]
fn the_end_is_noticed_though_the_connection_was_handed_on() {
    let world = World::new().started();
    world.connect();
    let transport = world.service.when_connected().into_result();
    let transport = transport.expect("at once").expect("connected");
    let successor = Log::default();
    let end = End::new("successor", &successor);
    drop(Transport::connect(end, Rc::clone(transport.stream())));
    drop(transport);
    world.settle();
    world.lose();
    assert_eq!(successor.lines().len(), 2);
    world.check_state(ServiceState::Waiting);
}

/// Notes what it is told.
fn noting_failures(log: &Log) -> impl FnOnce(ClientService<End>) -> ClientService<End> {
    let log = log.clone();
    move |service| {
        service.on_failed_attempt(move |failure, delay| log.add(format!("{failure}, {delay:?}")))
    }
}

#[test]
fn each_failed_attempt_is_told_with_the_wait_that_follows() {
    let failures = Log::default();
    let world = World::new().with(noting_failures(&failures)).started();
    world.fail();
    failures.check(["nobody there, 1s"]);
    world.next_attempt();
    world.fail();
    failures.check(["nobody there, 1s", "nobody there, 2s"]);
    world.next_attempt();
    world.connect();
    // The protocol hears of this one.
    world.lose();
    world.check_state(ServiceState::Waiting);
    assert_eq!(failures.lines().len(), 2);
    world.next_attempt();
    world.fail();
    assert_eq!(failures.lines()[2..], ["nobody there, 2s"]);
}

#[test]
fn an_attempt_that_the_stop_ends_is_not_told_as_a_failure() {
    let failures = Log::default();
    let world = World::new().with(noting_failures(&failures)).started();
    drop(world.service.stop());
    world.settle();
    world.check_state(ServiceState::Stopped);
    failures.check([]);
}

#[test]
fn whoever_is_told_of_a_failed_attempt_may_stop_the_service_and_may_panic() {
    let (_count, _silence) = count_unhandled();
    let place: Rc<RefCell<Option<ClientService<End>>>> = Rc::default();
    let service = Rc::clone(&place);
    let world = World::new().with(move |world| {
        world.on_failed_attempt(move |_, _| {
            let stopped = service.take().expect("it is put there below").stop();
            drop(stopped);
            panic!("after that");
        })
    });
    place.replace(Some(world.service.clone()));
    world.service.start();
    world.fail();
    world.check_state(ServiceState::Stopped);
    world.settle();
    assert_eq!(world.fake.begun.get(), 1, "there is no other attempt");
}
