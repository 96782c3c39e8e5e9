//! Two connections wired to each other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::task::sleep;
use torsade_reactor::testing::{Chunks, MemoryPair, memory_pair, virtual_time_reactor};
use torsade_reactor::{Carried, Limits, Reactor, Transport, tunnel, tunnel_with_timeout};

use crate::common::{End, Log};

/// A client and a server, and the tunnel between their connections.
struct Forwarded {
    client: Transport<End>,
    server: Transport<End>,
    at_client: Rc<RefCell<Vec<u8>>>,
    at_server: Rc<RefCell<Vec<u8>>>,
    front: MemoryPair,
    back: MemoryPair,
    log: Log,
    done: Deferred<Carried>,
}

fn forwarded(change: impl Fn(End) -> End) -> Forwarded {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let done = tunnel(Rc::clone(&front.server), Rc::clone(&back.client));
    let client = change(End::new("client", &log));
    let server = change(End::new("server", &log));
    Forwarded {
        at_client: Rc::clone(&client.received),
        at_server: Rc::clone(&server.received),
        client: Transport::connect(client, Rc::clone(&front.client)),
        server: Transport::connect(server, Rc::clone(&back.server)),
        front,
        back,
        log,
        done,
    }
}

impl Forwarded {
    fn run(&self) {
        self.front.pump.run().expect("it comes to rest");
    }

    fn carried(self) -> Carried {
        let carried = self.done.into_result().expect("both are over");
        carried.expect("a tunnel does not fail")
    }
}

#[test]
fn bytes_go_both_ways_and_the_end_of_one_is_the_end_of_both() {
    let wired = forwarded(|end| end);
    wired.front.pump.set_chunks(Chunks::Of(3));
    wired.client.write("question");
    wired.server.write("answer");
    wired.client.lose_connection();
    wired.run();
    assert_eq!(*wired.at_server.borrow(), b"question");
    assert_eq!(
        wired.log.lines()[2..],
        ["client lost: Done", "server lost: Done"]
    );
    assert_eq!(wired.carried().forth, 8);
}

const SECOND: Duration = Duration::from_secs(1);

fn wait(reactor: &Reactor, time: Duration) {
    let slept = reactor.run_until(sleep(reactor, time));
    slept.expect("nobody stops it");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_aborted_after_its_time_and_one_in_use_is_not() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let done = tunnel_with_timeout(front.server, back.client, 10 * SECOND);
    let client = Transport::connect(End::new("client", &log), front.client);
    let server = Transport::connect(End::new("server", &log), back.server);
    for _ in 0..10 {
        client.write("one way");
        wait(&reactor, 9 * SECOND);
        server.write("and the other");
        wait(&reactor, 9 * SECOND);
    }
    assert!(client.is_connected() && server.is_connected());
    wait(&reactor, 21 * SECOND);
    assert!(!client.is_connected() && !server.is_connected());
    let carried = done.into_result().expect("both are over");
    assert_eq!(carried.expect("a tunnel does not fail").forth, 70);
}

#[test]
fn a_tunnel_that_is_over_leaves_no_timer_behind() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let done = tunnel_with_timeout(front.server, back.client, 10 * SECOND);
    let client = Transport::connect(End::new("client", &log), front.client);
    let _server = Transport::connect(End::new("server", &log), back.server);
    client.lose_connection();
    let began = reactor.now();
    reactor.run_until(done).expect("it ends");
    reactor.run_until_idle().expect("nothing is left");
    assert_eq!(reactor.now(), began);
}

#[test]
fn a_half_close_is_carried_over_and_the_other_direction_goes_on() {
    let wired = forwarded(End::keeps_half_open);
    wired.client.write("question");
    wired.client.lose_write_connection();
    wired.run();
    assert_eq!(wired.log.lines()[2..], ["server read lost"]);
    wired.server.write("answer");
    wired.server.lose_write_connection();
    wired.run();
    assert_eq!(*wired.at_client.borrow(), b"answer");
    wired.client.lose_connection();
    wired.server.lose_connection();
    wired.run();
    let carried = wired.carried();
    assert_eq!((carried.forth, carried.back), (8, 6));
}

#[test]
fn an_abort_is_carried_over_behind_what_was_sent_before() {
    let wired = forwarded(|end| end);
    wired.server.write("before");
    wired.run();
    wired.client.write("last");
    wired.run();
    wired.client.abort_connection();
    wired.run();
    assert_eq!(*wired.at_server.borrow(), b"last");
    assert_eq!(
        wired.log.lines()[2..],
        ["client lost: Aborted", "server lost: ConnectionReset"]
    );
    assert_eq!(wired.carried().back, 6);
}

#[test]
fn who_takes_nothing_of_what_was_cut_off_is_aborted_when_the_time_for_it_is_over() {
    let wired = forwarded(|end| end);
    wired.server.pause_reading();
    wired.client.write(vec![b'x'; 4 << 20]);
    wired.run();
    wired.client.abort_connection();
    wired.run();
    let (reactor, limit) = (wired.client.reactor(), Limits::default().flush);
    let second = Duration::from_secs(1);
    for (time, lost) in [(limit - second, 0), (second, 1)] {
        let waited = reactor.run_until(sleep(&reactor, time));
        waited.expect("time passes");
        wired.run();
        let lines = wired.log.lines();
        let count = lines.iter().filter(|line| line.starts_with("server lost"));
        assert_eq!(count.count(), lost, "{lines:?}");
    }
    let carried = wired.carried();
    assert!(carried.forth > 0, "what was read before was carried");
}

#[test]
fn who_takes_slowly_what_was_cut_off_is_not_hurried() {
    let wired = forwarded(|end| end);
    wired.back.pump.set_capacity(1000);
    wired.server.pause_reading();
    wired.client.write([b'x'; 10_000]);
    wired.run();
    wired.client.abort_connection();
    let reactor = wired.client.reactor();
    let is_lost = || {
        wired
            .log
            .lines()
            .iter()
            .any(|it| it.starts_with("server lost"))
    };
    let begun = reactor.now();
    for _ in 0..100 {
        if is_lost() {
            break;
        }
        let waited = reactor.run_until(sleep(&reactor, 20 * SECOND));
        waited.expect("time passes");
        wired.server.resume_reading();
        for _ in 0..2 {
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
        }
        wired.server.pause_reading();
    }
    assert!(is_lost());
    // But for what the system has when the reset comes: it fills the wire once.
    assert!(wired.at_server.borrow().len() >= 10_000 - 1000);
    // Else this shows nothing.
    assert!(reactor.now() - begun > 2 * Limits::default().flush);
}

#[test]
fn whichever_side_is_deaf_the_tunnel_holds_no_more_than_the_mark_and_a_read() {
    const VOLUME: usize = 4 << 20;
    for server_is_deaf in [false, true] {
        let wired = forwarded(|end| end);
        let (deaf, speaker, heard) = match server_is_deaf {
            true => (&wired.server, &wired.client, &wired.at_server),
            false => (&wired.client, &wired.server, &wired.at_client),
        };
        deaf.pause_reading();
        speaker.write(vec![b'x'; VOLUME]);
        wired.run();
        let held = wired.front.server.unsent() + wired.back.client.unsent();
        let marks = Limits::default();
        assert!(held > 0 && held <= marks.unsent_high + 64 * 1024, "{held}");
        deaf.resume_reading();
        wired.run();
        assert_eq!(heard.borrow().len(), VOLUME);
    }
}

#[test]
fn a_client_that_sends_everything_before_it_reads_anything_is_read_all_the_same() {
    const VOLUME: usize = 1 << 20;
    let wired = forwarded(|end| end);
    wired.client.pause_reading();
    wired.server.set_limits(Limits {
        unsent_high: usize::MAX,
        ..Limits::default()
    });
    wired.server.write(vec![b's'; VOLUME]);
    wired.run();
    assert!(wired.front.server.is_congested(), "its answers are stuck");
    wired.client.write(vec![b'c'; VOLUME]);
    wired.run();
    assert_eq!(wired.at_server.borrow().len(), VOLUME);
    wired.client.resume_reading();
    wired.run();
    assert_eq!(wired.at_client.borrow().len(), VOLUME);
}

#[test]
fn a_side_that_was_paused_before_flows_in_the_tunnel() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let client = Transport::connect(End::new("client", &log), Rc::clone(&front.client));
    // As a proxy does, that has nowhere to send to yet.
    let waiting = Transport::connect(End::new("waiting", &log), Rc::clone(&front.server));
    waiting.pause_reading();
    client.write("early");
    front.pump.run().expect("it comes to rest");
    let server = End::new("server", &log);
    let at_server = Rc::clone(&server.received);
    let _server = Transport::connect(server, Rc::clone(&back.server));
    let _done = tunnel(Rc::clone(waiting.stream()), back.client);
    front.pump.run().expect("it comes to rest");
    assert_eq!(*at_server.borrow(), b"early");
}

#[test]
fn a_side_that_takes_nothing_before_the_tunnel_slows_the_other_in_it() {
    const VOLUME: usize = 4 << 20;
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let client = End::new("client", &log);
    let at_client = Rc::clone(&client.received);
    let client = Transport::connect(client, Rc::clone(&front.client));
    client.pause_reading();
    let greeting = Transport::connect(End::new("greeting", &log), Rc::clone(&front.server));
    greeting.write(vec![b'g'; 200_000]);
    front.pump.run().expect("it comes to rest");
    assert!(greeting.is_congested());
    let before = greeting.unsent();
    let server = Transport::connect(End::new("server", &log), Rc::clone(&back.server));
    let _done = tunnel(Rc::clone(greeting.stream()), Rc::clone(&back.client));
    server.write(vec![b's'; VOLUME]);
    front.pump.run().expect("it comes to rest");
    let most = before + 64 * 1024;
    assert!(greeting.unsent() <= most, "a read, and no more");
    client.resume_reading();
    front.pump.run().expect("it comes to rest");
    assert_eq!(at_client.borrow().len(), 200_000 + VOLUME);
}

#[test]
fn a_side_that_had_ended_before_the_tunnel_ends_the_other_in_it() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (front, back) = (memory_pair(&reactor), memory_pair(&reactor));
    let client = End::new("client", &log).keeps_half_open();
    let at_client = Rc::clone(&client.received);
    let client = Transport::connect(client, Rc::clone(&front.client));
    // As a proxy, that has read all of the request when it knows whom to connect to.
    let waiting = End::new("waiting", &log).keeps_half_open();
    let waiting = Transport::connect(waiting, Rc::clone(&front.server));
    client.lose_write_connection();
    front.pump.run().expect("it comes to rest");
    let server = End::new("server", &log).keeps_half_open();
    let server = Transport::connect(server, Rc::clone(&back.server));
    let done = tunnel(Rc::clone(waiting.stream()), back.client);
    front.pump.run().expect("it comes to rest");
    let lines = log.lines();
    let ends = lines.iter().filter(|line| line.contains("read lost"));
    assert_eq!(
        ends.collect::<Vec<_>>(),
        ["waiting read lost", "server read lost"]
    );
    server.write("answer");
    server.lose_connection();
    front.pump.run().expect("it comes to rest");
    assert_eq!(*at_client.borrow(), b"answer");
    let carried = done.into_result().expect("both are over");
    assert_eq!(carried.expect("a tunnel does not fail").back, 6);
}

#[test]
fn cancelling_a_tunnel_aborts_both_connections() {
    let wired = forwarded(|end| end);
    wired.done.cancel();
    wired.run();
    let lines = wired.log.lines();
    assert_eq!(
        lines[2..],
        [
            "client lost: ConnectionReset",
            "server lost: ConnectionReset"
        ]
    );
    // The failure is the cancellation, and was asked for.
    assert!(
        wired
            .done
            .into_result()
            .is_ok_and(|outcome| outcome.is_err())
    );
}
