//! Streams in memory, as the testing module promises them.

use std::io::ErrorKind;
use std::rc::Rc;

use torsade_deferred::Deferred;
use torsade_reactor::testing::{
    Chunks, MemoryPair, MemoryStream, Pump, memory_pair, virtual_time_reactor,
};
use torsade_reactor::{ConnectionLost, Limits, Reactor, Stream, Transport};

use crate::common::{End, Log, reactor};

struct Wired {
    client: Transport<End>,
    server: Transport<End>,
    pump: Pump,
    log: Log,
}

fn wired(reactor: &Reactor) -> Wired {
    let log = Log::default();
    wired_with(
        reactor,
        &log,
        End::new("client", &log),
        End::new("server", &log),
    )
}

fn wired_with(reactor: &Reactor, log: &Log, client: End, server: End) -> Wired {
    let MemoryPair {
        client: client_stream,
        server: server_stream,
        pump,
        ..
    } = memory_pair(reactor);
    Wired {
        client: Transport::connect(client, client_stream),
        server: Transport::connect(server, server_stream),
        pump,
        log: log.clone(),
    }
}

#[test]
fn bytes_arrive_in_a_later_turn_in_the_chunks_that_the_test_chose_on_any_reactor() {
    for reactor in [virtual_time_reactor(), reactor()] {
        let (log, seen) = (Log::default(), Log::default());
        let note = seen.clone();
        let server = End::new("server", &log)
            .on_data(move |_, data| note.add(String::from_utf8_lossy(data)));
        let wired = wired_with(&reactor, &log, End::new("client", &log), server);
        wired.pump.set_chunks(Chunks::Sizes(vec![2, 1]));
        wired.client.write("abcdefg");
        seen.check([]);
        wired.pump.run().expect("virtual time passes");
        seen.check(["ab", "c", "de", "f", "g"]);
    }
}

#[test]
fn a_delay_counts_turns_and_a_held_wire_brings_nothing() {
    let reactor = virtual_time_reactor();
    let wired = wired(&reactor);
    wired.pump.to_server().set_delay(3);
    wired.pump.to_client().hold();
    wired.client.write("slow");
    wired.server.write("held");
    let mut turns = 0;
    while wired.pump.to_server().in_flight() > 0 || turns == 0 {
        reactor.turn(None).expect("something is on its way");
        turns += 1;
    }
    assert_eq!(turns, 1 + 3);
    wired.pump.run().expect("it is at rest");
    assert_eq!(wired.pump.in_flight(), 4);
    wired.pump.release();
    wired.pump.run().expect("it is at rest");
    assert_eq!(wired.pump.in_flight(), 0);
}

#[test]
fn a_cut_wire_ends_who_reads_with_that_error() {
    let reactor = virtual_time_reactor();
    let wired = wired(&reactor);
    wired.client.write("lost");
    reactor.call_soon({
        let pump = wired.pump.clone();
        move || pump.to_server().cut(ErrorKind::TimedOut)
    });
    wired.pump.run().expect("it is at rest");
    wired.log.check([
        "client made",
        "server made",
        "server lost: TimedOut",
        "client lost: Done",
    ]);
}

#[test]
fn an_abort_resets_the_peer_and_an_orderly_end_does_not() {
    let reactor = virtual_time_reactor();
    for (abort, expected) in [
        (
            true,
            ["client lost: Aborted", "server lost: ConnectionReset"],
        ),
        (false, ["client lost: Done", "server lost: Done"]),
    ] {
        let wired = wired(&reactor);
        if abort {
            wired.client.abort_connection();
        } else {
            wired.client.lose_connection();
        }
        wired.pump.run().expect("it is at rest");
        assert_eq!(wired.log.lines()[2..], expected);
    }
}

#[test]
fn a_reader_that_is_paused_fills_the_wire_and_chokes_the_writer() {
    let reactor = virtual_time_reactor();
    let wired = wired(&reactor);
    let limits = Limits {
        unsent_high: 10,
        unsent_low: 5,
        ..Limits::default()
    };
    wired.client.set_limits(limits);
    wired.pump.set_capacity(100);
    wired.server.pause_reading();
    wired.client.write([b'x'; 111]);
    wired.pump.run().expect("it is at rest");
    assert_eq!((wired.pump.unread(), wired.client.unsent()), (100, 11));
    assert_eq!(wired.log.lines()[2..], ["client paused"]);
    wired.server.resume_reading();
    wired.pump.run().expect("it is at rest");
    assert_eq!((wired.pump.unread(), wired.client.unsent()), (0, 0));
    assert_eq!(wired.log.lines()[2..], ["client paused", "client resumed"]);
}

#[test]
fn a_recording_stream_does_nothing_by_itself() {
    let log = Log::default();
    let end = End::new("end", &log).on_data(|transport, data| transport.write(data));
    let stream = MemoryStream::new(&virtual_time_reactor());
    let transport = Transport::connect(end, Rc::clone(&stream) as Rc<dyn Stream>);
    stream.receive(b"there");
    stream.receive(b" and back");
    assert_eq!(stream.take_written(), b"there and back");
    stream.set_congested(true);
    stream.set_congested(true);
    assert!(transport.is_congested());
    stream.set_congested(false);
    transport.pause_reading();
    assert!(stream.is_paused());
    transport.lose_write_connection();
    transport.write("too late");
    assert!(stream.is_write_ended() && stream.take_written().is_empty());
    transport.abort_connection();
    log.check(["end made", "end paused", "end resumed"]);
    stream.end_because(ConnectionLost::Done);
    assert_eq!(log.lines()[3..], ["end lost: Aborted"]);
}

#[test]
fn a_connection_that_both_sides_have_ended_waits_for_the_rest_only_as_long_as_one_being_lost() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let server = End::new("server", &log).keeps_half_open();
    let wired = wired_with(&reactor, &log, End::new("client", &log), server);
    wired.client.pause_reading();
    wired.client.lose_write_connection();
    wired.pump.run().expect("it is at rest");
    wired.server.write(vec![0; 1 << 20]);
    wired.server.lose_write_connection();
    let limit = Limits::default().flush;
    let over = Deferred::<()>::new();
    reactor.call_later(limit * 2, move || over.0.callback(()));
    reactor.run_until(over.1).expect("time passes");
    let lines = log.lines();
    let is_timed_out = |line: &String| line.starts_with("server lost: TimedOut");
    assert!(lines.iter().any(is_timed_out), "{lines:?}");
}
