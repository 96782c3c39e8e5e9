//! The testing kit: that its checks fail when they should.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::testing::{
    MemoryPair, Pump, Script, ScriptError, Simulation, capture_events, failure_of,
    for_every_chunking, leaves_nothing_behind, memory_pair, no_result, success_of,
    virtual_time_reactor,
};
use torsade_reactor::{Address, Reactor, Transport};

use crate::common::{End, Log};

const SECOND: Duration = Duration::from_secs(1);

/// What `check` panics with.
#[track_caller]
fn panic_of(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check fails");
    let message = panic.downcast_ref::<String>().expect("a message");
    message.clone()
}

#[test]
fn results_are_looked_at_and_a_wrong_guess_says_what_there_is() {
    let pending = || Deferred::<u32>::new();
    assert_eq!(success_of(succeed::<_, Failure>(7)), 7);
    assert_eq!(
        failure_of(fail::<u32, Failure>(Failure::message("gone"))).to_string(),
        "gone"
    );
    let (trigger, waiting) = pending();
    no_result(&waiting);
    trigger.callback(1);
    assert!(panic_of(|| no_result(&waiting)).starts_with("it has fired"));
    let failed = || fail::<u32, Failure>(Failure::message("no disk"));
    assert!(panic_of(|| assert_eq!(success_of(failed()), 0)).contains("no disk"));
    let (_trigger, waiting) = pending();
    assert!(panic_of(|| assert_eq!(success_of(waiting), 0)).starts_with("it has not fired"));
    let (_trigger, waiting) = pending();
    assert!(panic_of(|| drop(failure_of(waiting))).starts_with("it has not fired"));
}

#[test]
fn a_test_that_leaves_something_behind_fails_and_is_told_what() {
    let left = |leave: &dyn Fn(&Reactor)| {
        let reactor = virtual_time_reactor();
        panic_of(|| {
            let _check = leaves_nothing_behind(&reactor);
            leave(&reactor);
        })
    };
    let timer = left(&|reactor| drop(reactor.call_later(SECOND, || ())));
    assert!(
        timer.contains("call in 1s") && timer.contains("kit.rs"),
        "{timer}"
    );
    let connection = left(&|reactor| {
        let pair = memory_pair(reactor);
        for stream in [pair.client, pair.server] {
            drop(Transport::connect(
                End::new("left", &Log::default()),
                stream,
            ));
        }
    });
    assert!(connection.contains("connection"), "{connection}");
    let failure = left(&|_| drop(fail::<(), Failure>(Failure::message("nobody saw this"))));
    assert!(failure.contains("nobody saw this"), "{failure}");
}

#[test]
fn a_test_that_is_tidy_or_closes_in_its_last_moment_passes() {
    let reactor = virtual_time_reactor();
    let check = leaves_nothing_behind(&reactor);
    let pair = memory_pair(&reactor);
    let ends = [pair.client, pair.server];
    let [client, server] =
        ends.map(|stream| Transport::connect(End::new("end", &Log::default()), stream));
    client.lose_connection();
    server.lose_connection();
    drop(fail::<(), Failure>(Failure::message("expected")));
    assert_eq!(check.take_failures().len(), 1);
    drop(check);
    assert!(reactor.dump().is_empty());
}

/// Plays a script against an end, over a pair in memory, to the script's end.
fn play(script: Script, end: End) -> Result<(), ScriptError> {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let (peer, played) = script.play();
    Transport::connect(end, pair.server);
    Transport::connect(peer, pair.client);
    let outcome = reactor.run_until(played);
    outcome.map_err(|failure| failure.trap::<ScriptError>().expect("nothing else fails"))
}

fn echo() -> End {
    End::new("echo", &Log::default()).on_data(|transport, data| transport.write(data))
}

#[test]
fn a_script_goes_step_by_step_and_waits_in_virtual_time() {
    let script = Script::new().send("one ").wait(SECOND * 3600).send("two");
    play(script.clone().expect("one two"), echo()).expect("it is an echo");
    play(
        script
            .expect("one ")
            .expect("tw")
            .expect("o")
            .end()
            .expect_end(),
        echo(),
    )
    .expect("in these pieces, too");
    play(Script::new().close(), echo()).expect("to close is a step");
    play(Script::new().abort(), echo()).expect("and to abort");
}

#[test]
fn a_script_fails_at_the_step_where_something_else_happens() {
    let failure = |script, end| play(script, end).expect_err("it fails").to_string();
    assert_eq!(
        failure(Script::new().send("hello").expect("help"), echo()),
        "step 2 (expect \"help\") of the script: \"hello\" came"
    );
    assert_eq!(
        failure(Script::new().send("hello").expect("hell"), echo()),
        "step 3 (nothing more) of the script: \"o\" came"
    );
    assert_eq!(
        failure(Script::new().send("x").expect_end(), echo()),
        "step 2 (expect the end) of the script: \"x\" came"
    );
    let hangs_up =
        || End::new("rude", &Log::default()).on_data(|transport, _| transport.lose_connection());
    assert_eq!(
        failure(Script::new().send("x").expect("y"), hangs_up()),
        "step 2 (expect \"y\") of the script: the end came"
    );
    let aborts =
        End::new("rude", &Log::default()).on_data(|transport, _| transport.abort_connection());
    let aborted = failure(Script::new().send("x").expect_end(), aborts);
    assert!(
        aborted.starts_with("step 2 (expect the end) of the script: connection"),
        "{aborted}"
    );
}

#[test]
fn a_script_is_played_between_simulated_hosts() {
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        reactor
            .listen_tcp(":7", |_: &Address| echo())
            .expect("the port is free");
    });
    let (peer, played) = Script::new()
        .send("hello")
        .wait(SECOND)
        .expect("hello")
        .end()
        .expect_end()
        .play();
    drop(client.reactor().connect_tcp("server:7", |_| peer));
    client.reactor().run_until(played).expect("it is an echo");
    assert!(simulation.now() > SECOND);
}

#[test]
fn a_protocol_may_be_fed_every_chunking_through_a_pump() {
    for_every_chunking(b"four words of text", |chunks| {
        let reactor = virtual_time_reactor();
        let MemoryPair {
            client,
            server,
            pump,
            ..
        } = memory_pair(&reactor);
        let words = Rc::new(Cell::new(1));
        let count = Rc::clone(&words);
        let end = End::new("words", &Log::default()).on_data(move |_, data| {
            let spaces = data.iter().filter(|byte| **byte == b' ').count();
            count.set(count.get() + spaces);
        });
        let client = Transport::connect(End::new("client", &Log::default()), client);
        let _server = Transport::connect(end, server);
        for chunk in chunks {
            client.write(chunk);
            Pump::run(&pump).expect("it comes to rest");
        }
        assert_eq!(words.get(), 4);
    });
}

#[test]
fn events_are_captured_on_this_thread_while_somebody_looks() {
    let seen = RefCell::new(Vec::new());
    let events = capture_events();
    tracing::warn!(target: "kitchen", pots = 3, "boils over");
    tracing::trace!("too small for most");
    seen.borrow_mut().extend(events.take());
    assert!(events.take().is_empty());
    drop(events);
    tracing::error!("nobody looks");
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].target.as_str(), seen[0].message.as_str()),
        ("kitchen", "boils over")
    );
    assert_eq!(seen[0].fields, [("pots", "3".to_owned())]);
    assert_eq!(seen[0].level, tracing::Level::WARN);
}
