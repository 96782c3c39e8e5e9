//! Taking what has come when it is wanted, and waiting until the writer may go on.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure};
use torsade_reactor::task::sleep;
use torsade_reactor::testing::{
    Chunks, MemoryPair, MemoryStream, memory_pair, virtual_time_reactor,
};
use torsade_reactor::{
    ClientEndpoint, ConnectionLost, Limits, NotFlushed, Producer, RateLimit,
    RateLimitedClientEndpoint, Streaming, Transport,
};

use crate::common::{End, Log, Place, connect, reactor, run_while};
use crate::veil::Veil;

/// What a Deferred came to, once it has.
fn watch(deferred: Deferred<()>) -> Rc<Cell<Option<bool>>> {
    let seen = Rc::new(Cell::new(None));
    let see = Rc::clone(&seen);
    drop(deferred.add_both(move |outcome| {
        if let Err(failure) = &outcome {
            assert!(failure.check::<NotFlushed>(), "{failure}");
        }
        see.set(Some(outcome.is_ok()));
    }));
    seen
}

fn quiet(name: &'static str) -> End {
    End::new(name, &Log::default())
}

#[test]
fn who_reads_for_itself_takes_what_has_come_piece_by_piece_and_the_rest_is_delivered() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let pair = connect(&reactor, End::new("client", &log), server);
    let nothing = pair.server.try_read(&mut [0; 4]).map_err(|it| it.kind());
    assert_eq!(nothing, Err(ErrorKind::WouldBlock));
    pair.server.pause_reading();
    pair.client.write("one two three");
    pair.client.lose_write_connection();
    let mut place = [0; 4];
    run_while(&reactor, || pair.server.try_read(&mut place).is_err());
    assert_eq!(&place, b"one ");
    assert_eq!(pair.server.try_read(&mut place).expect("it is there"), 4);
    assert_eq!(&place, b"two ");
    assert_eq!(pair.server.try_read(&mut []).expect("it is nothing"), 0);
    assert!(received.borrow().is_empty());
    pair.server.resume_reading();
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(*received.borrow(), b"three");
    let late = pair.server.try_read(&mut place).map_err(|it| it.kind());
    assert_eq!(late, Err(ErrorKind::NotConnected));
}

#[test]
fn the_end_of_the_peers_stream_is_read_as_nothing_and_told_all_the_same() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).keeps_half_open();
    let pair = connect(&reactor, End::new("client", &log), server);
    pair.server.pause_reading();
    pair.client.write("x");
    pair.client.lose_write_connection();
    let mut place = [0; 8];
    run_while(&reactor, || pair.server.try_read(&mut place).is_err());
    run_while(&reactor, || pair.server.try_read(&mut place).is_err());
    assert_eq!(pair.server.try_read(&mut place).expect("it has ended"), 0);
    assert_eq!(log.lines().len(), 2, "both were made, and nothing more");
    pair.server.resume_reading();
    run_while(&reactor, || log.lines().len() < 3);
    assert_eq!(log.lines()[2], "server read lost");
}

#[test]
fn who_takes_some_in_data_received_is_given_the_rest() {
    for chunks in [Chunks::Of(1), Chunks::Of(3), Chunks::Of(100)] {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        pair.pump.set_chunks(chunks);
        let all = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&all);
        let end = quiet("server").on_data(move |transport, data| {
            sink.borrow_mut().extend_from_slice(data);
            let mut place = [0; 2];
            if let Ok(count) = transport.try_read(&mut place) {
                sink.borrow_mut().extend_from_slice(&place[..count]);
            }
        });
        Transport::connect(end, pair.server);
        let client = Transport::connect(quiet("client"), pair.client);
        let text = b"abcdefghijklmnopqrstuvwxyz".repeat(10);
        client.write(&text);
        pair.pump.run().expect("it rests");
        assert_eq!(*all.borrow(), text);
    }
}

#[test]
fn a_stream_that_nobody_receives_can_be_read_and_a_rate_holds() {
    let reactor = virtual_time_reactor();
    let MemoryPair {
        client,
        server,
        pump,
        ..
    } = memory_pair(&reactor);
    let place = Place::of(client);
    let endpoint = RateLimitedClientEndpoint::new(place).reading(RateLimit::new(10));
    let stream = reactor.run_until(endpoint.connect_stream(&reactor));
    let stream = stream.expect("it is there");
    server.write(&[b'x'; 100]);
    pump.run().expect("it rests");
    let mut bytes = [0; 20];
    assert_eq!(stream.try_read(&mut bytes).expect("it has come"), 20);
    let held = stream.try_read(&mut bytes).map_err(|it| it.kind());
    assert_eq!(held, Err(ErrorKind::WouldBlock));
    let wait = sleep(&reactor, Duration::from_secs(3));
    reactor.run_until(wait).expect("time passes");
    assert_eq!(stream.try_read(&mut bytes).expect("it may go on"), 20);
}

#[test]
fn what_a_test_has_left_in_a_stream_is_there_for_who_reads() {
    let memory = MemoryStream::new(&virtual_time_reactor());
    let transport = Transport::connect(quiet("end"), memory.clone());
    let mut place = [0; 4];
    let mut read = || {
        let count = transport.try_read(&mut place).map_err(|it| it.kind());
        count.map(|count| place[..count].to_vec())
    };
    assert_eq!(read(), Err(ErrorKind::WouldBlock));
    memory.receive_unread(b"one ");
    memory.receive_unread(b"two");
    assert_eq!(read(), Ok(b"one ".to_vec()));
    assert_eq!(read(), Ok(b"two".to_vec()));
    assert_eq!(read(), Err(ErrorKind::WouldBlock));
    memory.end();
    assert_eq!(read(), Err(ErrorKind::NotConnected));
}

#[test]
fn a_stream_that_cannot_say_so_is_not_read() {
    let pair = memory_pair(&virtual_time_reactor());
    let transport = Transport::connect(quiet("end"), Veil::over(pair.client));
    let answer = transport.try_read(&mut [0]).map_err(|it| it.kind());
    assert_eq!(answer, Err(ErrorKind::Unsupported));
}

/// A writer whose peer reads nothing at first, with marks of 1000 and 100 bytes.
fn held_up() -> (MemoryPair, Transport<End>, Transport<End>) {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    pair.pump.set_capacity(50);
    let writer = Transport::connect(quiet("writer"), Rc::clone(&pair.client));
    let reader = Transport::connect(quiet("reader"), Rc::clone(&pair.server));
    reader.pause_reading();
    writer.set_limits(Limits {
        unsent_high: 1000,
        unsent_low: 100,
        ..Limits::default()
    });
    (pair, writer, reader)
}

#[test]
fn drain_fires_at_once_up_to_the_high_mark_and_at_the_low_one_above_it() {
    let (pair, writer, reader) = held_up();
    writer.write([0; 1000]);
    assert_eq!(watch(writer.drain()).get(), Some(true));
    writer.write([0; 51]);
    // In the same callback, before anybody was told of anything, and after that.
    let early = watch(writer.drain());
    pair.pump.run().expect("it rests");
    let late = watch(writer.drain());
    assert_eq!((early.get(), late.get()), (None, None));
    reader.resume_reading();
    let reactor = writer.reactor();
    run_while(&reactor, || early.get().is_none());
    assert_eq!((early.get(), late.get()), (Some(true), Some(true)));
    let unsent = writer.unsent();
    assert!(unsent <= 100 && unsent > 0, "{unsent}");
    assert_eq!(watch(writer.drain()).get(), Some(true));
}

#[test]
fn drain_fires_also_when_what_was_too_much_has_left_without_a_word() {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let writer = Transport::connect(quiet("writer"), pair.client);
    let _reader = Transport::connect(quiet("reader"), pair.server);
    writer.set_limits(Limits {
        unsent_high: 1,
        unsent_low: 0,
        ..Limits::default()
    });
    writer.write("more than that");
    let drained = watch(writer.drain());
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(true));
}

#[test]
fn drain_waits_for_all_of_a_connection_that_is_being_lost_and_fails_with_one_that_is_lost() {
    for early in [true, false] {
        let (pair, writer, reader) = held_up();
        writer.write([0; 2000]);
        let drained = early.then(|| watch(writer.drain()));
        writer.lose_connection();
        let drained = drained.unwrap_or_else(|| watch(writer.drain()));
        pair.pump.run().expect("it rests");
        assert_eq!(drained.get(), None);
        reader.resume_reading();
        pair.pump.run().expect("it rests");
        assert_eq!(drained.get(), Some(true), "early: {early}");
    }
    let (pair, writer, _reader) = held_up();
    writer.write([0; 2000]);
    let drained = watch(writer.drain());
    writer.abort_connection();
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(false));
    assert_eq!(watch(writer.drain()).get(), Some(false));
}

#[test]
fn drain_waits_for_all_of_a_connection_that_is_lost_when_its_producer_unregisters() {
    struct Silent;
    impl Producer for Silent {
        fn pause_producing(&mut self) {}
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {}
    }
    let (pair, writer, reader) = held_up();
    let registered = writer.register_producer(Silent, Streaming::Push);
    registered.expect("it is the only one");
    writer.write([0; 2000]);
    let drained = watch(writer.drain());
    writer.lose_connection();
    // It was told to wait, and will not be told to go on.
    pair.pump.run().expect("it rests");
    writer.unregister_producer();
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), None);
    reader.resume_reading();
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(true));
}

#[test]
fn drain_waits_for_all_of_a_connection_that_somebody_below_closes() {
    let (pair, writer, reader) = held_up();
    writer.write([0; 2000]);
    let drained = watch(writer.drain());
    writer.stream().lose_connection(ConnectionLost::Done);
    pair.pump.run().expect("it rests");
    assert_eq!((drained.get(), writer.unsent() > 0), (None, true));
    reader.resume_reading();
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(true));
}

#[test]
fn drain_waits_for_all_of_a_connection_that_is_closed_below_after_more_was_written() {
    let (pair, writer, reader) = held_up();
    writer.write([0; 2000]);
    pair.pump.run().expect("it rests");
    let drained = watch(writer.drain());
    writer.write([0; 5000]);
    reader.resume_reading();
    run_while(&writer.reactor(), || writer.unsent() > 4000);
    reader.pause_reading();
    let late = watch(writer.drain());
    assert_eq!((drained.get(), late.get()), (None, None));
    assert!(writer.unsent() > 1000);
    writer.stream().lose_connection(ConnectionLost::Done);
    reader.resume_reading();
    pair.pump.run().expect("it rests");
    assert_eq!((drained.get(), late.get()), (Some(true), Some(true)));
}

#[test]
fn who_was_told_to_wait_drains_a_connection_that_somebody_below_closes_for_whatever_reason() {
    let reasons = [
        ConnectionLost::Done,
        ConnectionLost::Failed(Failure::message("out of patience")),
    ];
    for reason in reasons {
        let (pair, writer, reader) = held_up();
        writer.write([0; 2000]);
        pair.pump.run().expect("it rests");
        let drained = watch(writer.drain());
        writer.write([0; 1000]);
        writer.stream().lose_connection(reason);
        let late = watch(writer.drain());
        while writer.unsent() > 0 {
            assert_eq!((drained.get(), late.get()), (None, None));
            let before = writer.unsent();
            reader.resume_reading();
            run_while(&writer.reactor(), || writer.unsent() == before);
        }
        pair.pump.run().expect("it rests");
        assert_eq!((drained.get(), late.get()), (Some(true), Some(true)));
    }
    let (pair, writer, _reader) = held_up();
    writer.write([0; 2000]);
    pair.pump.run().expect("it rests");
    let drained = watch(writer.drain());
    writer.stream().abort_connection(ConnectionLost::Aborted);
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(false));
}

#[test]
fn who_is_held_up_though_all_is_sent_drains_a_connection_that_is_about_to_be_lost() {
    let reactor = virtual_time_reactor();
    let memory = MemoryStream::new(&reactor);
    let writer = Transport::connect(quiet("writer"), memory.clone());
    memory.set_congested(true);
    let drained = watch(writer.drain());
    assert_eq!(drained.get(), None);
    memory.stop();
    assert_eq!(drained.get(), Some(true));
}

#[test]
fn to_close_what_was_aborted_calls_nobody_who_drains_before_it_returns() {
    let (pair, writer, _reader) = held_up();
    writer.write([0; 2000]);
    let drained = watch(writer.drain());
    writer.abort_connection();
    writer.lose_connection();
    assert_eq!(drained.get(), None);
    pair.pump.run().expect("it rests");
    assert_eq!(drained.get(), Some(false));
}

#[test]
fn who_drains_a_stream_that_was_handed_on_waits_for_all_and_keeps_the_loop_at_rest() {
    let (pair, writer, reader) = held_up();
    let heir = Transport::connect(quiet("heir"), Rc::clone(writer.stream()));
    writer.write([0; 2000]);
    let (early, told) = (watch(writer.drain()), watch(heir.drain()));
    pair.pump.run().expect("it rests");
    let late = watch(writer.drain());
    pair.pump.run().expect("it rests");
    assert_eq!((early.get(), told.get(), late.get()), (None, None, None));
    reader.resume_reading();
    run_while(&heir.reactor(), || told.get().is_none());
    assert_eq!((early.get(), told.get()), (None, Some(true)));
    pair.pump.run().expect("it rests");
    assert_eq!((early.get(), late.get()), (Some(true), Some(true)));
}

#[test]
fn a_task_that_drains_after_each_piece_holds_no_more_than_the_mark_and_a_piece() {
    const PIECE: usize = 300;
    let (pair, writer, reader) = held_up();
    reader.resume_reading();
    let reactor = writer.reactor();
    let (most, end) = (Rc::new(Cell::new(0)), writer.clone());
    let seen = Rc::clone(&most);
    let task = reactor.spawn(async move {
        for _ in 0..100 {
            end.write([0; PIECE]);
            seen.set(seen.get().max(end.unsent()));
            end.drain().await?;
        }
        end.lose_connection();
        Ok::<_, Failure>(())
    });
    pair.pump.run().expect("it rests");
    drop(task);
    assert!(!writer.is_connected());
    assert!(
        most.get() > 1000 && most.get() <= 1000 + PIECE,
        "{}",
        most.get()
    );
}

#[test]
fn drain_waits_for_a_rate_as_well() {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let _reader = Transport::connect(quiet("reader"), pair.server);
    let place = Place::of(pair.client);
    let endpoint = RateLimitedClientEndpoint::new(place).writing(RateLimit::new(100));
    let writer = reactor.run_until(reactor.connect(&endpoint, |_| quiet("writer")));
    let writer = writer.expect("it is there");
    writer.write([0; 300]);
    let drained = watch(writer.drain());
    pair.pump.run().expect("it rests");
    assert_eq!((drained.get(), writer.unsent()), (None, 0));
    let begun = reactor.now();
    while drained.get().is_none() {
        reactor.turn(None).expect("a limit is scheduled");
    }
    assert_eq!(drained.get(), Some(true));
    assert!(reactor.now() - begun >= Duration::from_secs(2));
}
