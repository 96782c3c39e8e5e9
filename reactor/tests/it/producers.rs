//! Producers, at the pace of their transport.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_reactor::testing::{Pump, memory_pair, virtual_time_reactor};
use torsade_reactor::{FileSender, NotFlushed, Producer, Reactor, Streaming, Transport};

use crate::common::{End, Log, small_limits};

/// Logs what it is told, and then does what the test says.
struct Scripted {
    log: Log,
    resume: Box<dyn FnMut()>,
}

impl Scripted {
    fn new(log: &Log, resume: impl FnMut() + 'static) -> Self {
        Self {
            log: log.clone(),
            resume: Box::new(resume),
        }
    }
}

impl Producer for Scripted {
    fn pause_producing(&mut self) {
        self.log.add("pause");
    }

    fn resume_producing(&mut self) {
        self.log.add("resume");
        (self.resume)();
    }

    fn stop_producing(&mut self) {
        self.log.add("stop");
    }
}

struct Wired {
    reactor: Reactor,
    client: Transport<End>,
    server: Transport<End>,
    received: Rc<RefCell<Vec<u8>>>,
    pump: Pump,
    log: Log,
}

fn wired() -> Wired {
    wired_to(End::new("server", &Log::default()))
}

fn wired_to(server: End) -> Wired {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let pair = memory_pair(&reactor);
    let received = Rc::clone(&server.received);
    let client = Transport::connect(End::new("client", &Log::default()), pair.client);
    client.set_limits(small_limits());
    Wired {
        reactor,
        client,
        server: Transport::connect(server, pair.server),
        received,
        pump: pair.pump,
        log,
    }
}

#[test]
fn a_push_producer_is_paused_above_the_high_mark_and_resumed_at_the_low_one() {
    let wired = wired();
    let producer = Scripted::new(&wired.log, || {});
    let registered = wired.client.register_producer(producer, Streaming::Push);
    assert!(registered.is_ok());
    wired.server.pause_reading();
    wired.client.write([0; 100_000]);
    wired.log.check([]);
    wired.pump.run().expect("it is at rest");
    wired.log.check(["pause"]);
    wired.server.resume_reading();
    wired.pump.run().expect("it is at rest");
    wired.log.check(["pause", "resume"]);
}

#[test]
fn a_push_producer_that_comes_while_the_transport_is_paused_is_told_so() {
    let wired = wired();
    wired.server.pause_reading();
    wired.client.write([0; 100_000]);
    wired.pump.run().expect("it is at rest");
    let producer = Scripted::new(&wired.log, || {});
    let registered = wired.client.register_producer(producer, Streaming::Push);
    assert!(registered.is_ok());
    wired.log.check(["pause"]);
}

#[test]
fn a_pull_producer_is_asked_for_more_until_it_unregisters_and_never_past_the_marks() {
    let wired = wired();
    let (transport, left, most) = (wired.client.clone(), Cell::new(300), Rc::new(Cell::new(0)));
    let highest = Rc::clone(&most);
    let producer = Scripted::new(&Log::default(), move || {
        left.set(left.get() - 1);
        transport.write([b'x'; 1000]);
        highest.set(highest.get().max(transport.unsent()));
        if left.get() == 0 {
            transport.unregister_producer();
        }
    });
    let registered = wired.client.register_producer(producer, Streaming::Pull);
    assert!(registered.is_ok());
    assert!(
        wired.received.borrow().is_empty(),
        "not before the next turn"
    );
    wired.server.pause_reading();
    wired.pump.run().expect("it is at rest");
    let high = small_limits().unsent_high;
    assert!(wired.client.unsent() > high, "it goes up to the mark");
    wired.server.resume_reading();
    wired.pump.run().expect("it is at rest");
    assert_eq!(wired.received.borrow().len(), 300_000);
    assert!(most.get() <= high + 1000, "{most:?}");
}

#[test]
fn a_pull_producer_that_has_nothing_is_asked_again_after_a_while_and_not_at_once() {
    let wired = wired();
    let producer = Scripted::new(&wired.log, || {});
    let registered = wired.client.register_producer(producer, Streaming::Pull);
    assert!(registered.is_ok());
    wired.pump.run().expect("it is at rest");
    wired.log.check(["resume"]);
    let before = wired.reactor.now();
    wired.reactor.turn(None).expect("a call is scheduled");
    assert!(wired.reactor.now() > before);
}

#[test]
fn a_second_producer_is_given_back_and_one_on_a_dead_transport_is_stopped_at_once() {
    let wired = wired();
    let producer = |log: &Log| Scripted::new(log, || {});
    let silent = Log::default();
    let first = wired
        .client
        .register_producer(producer(&silent), Streaming::Push);
    assert!(first.is_ok());
    let second = wired
        .client
        .register_producer(producer(&wired.log), Streaming::Push);
    let error = second.expect_err("there is one already");
    assert_eq!(
        error.to_string(),
        "another producer is registered with this transport"
    );
    wired.log.check([]);
    wired.client.unregister_producer();
    assert!(
        wired
            .client
            .register_producer(error.0, Streaming::Push)
            .is_ok()
    );
    wired.client.abort_connection();
    wired.pump.run().expect("it is at rest");
    wired.log.check(["stop"]);
    silent.check([]);
    let late = wired
        .client
        .register_producer(producer(&wired.log), Streaming::Pull);
    assert!(late.is_ok());
    wired.log.check(["stop", "stop"]);
}

#[test]
fn losing_the_connection_waits_for_the_producer_whose_writes_are_sent() {
    let wired = wired();
    let producer = Scripted::new(&wired.log, || {});
    let registered = wired.client.register_producer(producer, Streaming::Push);
    assert!(registered.is_ok());
    wired.client.lose_connection();
    wired.client.write("still ");
    wired.pump.run().expect("it is at rest");
    assert!(wired.server.is_connected());
    wired.client.write("sent");
    wired.client.unregister_producer();
    assert!(!wired.client.is_connected());
    wired.client.write(", not this");
    wired.pump.run().expect("it is at rest");
    assert_eq!(*wired.received.borrow(), b"still sent");
    assert!(!wired.server.is_connected());
    wired.log.check([]);
}

#[test]
fn a_panic_of_a_producer_ends_its_connection() {
    let wired = wired();
    let producer = Scripted::new(&wired.log, || panic!("out of stock"));
    let registered = wired.client.register_producer(producer, Streaming::Pull);
    assert!(registered.is_ok());
    wired.pump.run().expect("it is at rest");
    assert!(!wired.client.is_connected());
}

#[test]
fn several_pieces_leave_together_and_a_weak_transport_keeps_nothing() {
    let wired = wired();
    wired.client.write_sequence(["to", "ge", "ther"]);
    wired.pump.run().expect("it is at rest");
    assert_eq!(*wired.received.borrow(), b"together");
    let weak = wired.client.downgrade();
    assert!(
        weak.upgrade()
            .is_some_and(|transport| transport == wired.client)
    );
    wired.client.abort_connection();
    wired.pump.run().expect("it is at rest");
    let client = wired.client.clone();
    drop((wired, client));
    assert!(weak.upgrade().is_none());
}

/// A file that is on no path any more, with this in it.
fn file(bytes: &[u8]) -> std::fs::File {
    use std::io::Write;
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(bytes).expect("there is room");
    file
}

#[test]
fn a_file_is_sent_in_its_turn_and_the_number_of_its_bytes_fires() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let wired = wired();
    wired.client.write("before");
    let sent = FileSender::new(file(&bytes)).send(&wired.client);
    wired.pump.run().expect("it is at rest");
    assert_eq!(
        sent.into_result().expect("it fired").expect("it is sent"),
        200_000
    );
    let received = wired.received.take();
    assert!(received[..6] == *b"before" && received[6..] == bytes);
    let upper = |chunk: &[u8]| chunk.to_ascii_uppercase();
    let part = FileSender::new(file(b"not this, yes")).part(10, 3);
    let sent = part.transform(upper).send(&wired.client);
    wired.client.lose_connection();
    wired.pump.run().expect("it is at rest");
    assert!(sent.into_result().expect("it fired").is_ok());
    assert_eq!(*wired.received.borrow(), b"YES");
}

#[test]
fn a_file_that_cannot_be_sent_fails_with_the_reason() {
    let wired = wired();
    let beyond = FileSender::new(file(b"short"))
        .part(0, 6)
        .send(&wired.client);
    assert!(beyond.into_result().is_ok_and(|outcome| outcome.is_err()));
    wired.server.pause_reading();
    let cut_off = FileSender::new(file(&[0; 500_000])).send(&wired.client);
    wired.pump.run().expect("it is at rest");
    assert!(!cut_off.is_fired());
    wired.client.abort_connection();
    wired.pump.run().expect("it is at rest");
    let late = FileSender::new(file(b"late")).send(&wired.client);
    for sent in [cut_off, late] {
        let failure = sent
            .into_result()
            .expect("it fired")
            .expect_err("it failed");
        assert!(failure.check::<NotFlushed>(), "{failure}");
    }
}

#[test]
fn the_end_of_our_stream_waits_for_a_producer_that_is_registered() {
    let wired = wired();
    let (transport, count) = (wired.client.clone(), Rc::new(Cell::new(0)));
    let producer = Scripted::new(&Log::default(), move || {
        count.set(count.get() + 1);
        transport.write(b"piece");
        if count.get() == 3 {
            transport.unregister_producer();
        }
    });
    let registered = wired.client.register_producer(producer, Streaming::Pull);
    assert!(registered.is_ok());
    wired.client.lose_write_connection();
    wired.pump.run().expect("it is at rest");
    assert_eq!(*wired.received.borrow(), b"piecepiecepiece");
    wired.client.write("too late");
    wired.pump.run().expect("it is at rest");
    assert_eq!(wired.received.borrow().len(), 15);
}

#[test]
fn a_producer_that_comes_after_the_end_of_our_stream_is_stopped_at_once() {
    for streaming in [Streaming::Push, Streaming::Pull] {
        let wired = wired();
        wired.client.lose_write_connection();
        let producer = Scripted::new(&wired.log, || {});
        let registered = wired.client.register_producer(producer, streaming);
        assert!(registered.is_ok());
        wired.pump.run().expect("it is at rest");
        wired.log.check(["stop"]);
    }
}

#[test]
fn an_endless_producer_whose_stream_somebody_else_ends_is_stopped() {
    let wired = wired_to(End::new("server", &Log::default()).keeps_half_open());
    let transport = wired.client.clone();
    let producer = Scripted::new(&Log::default(), move || transport.write(b"piece"));
    let registered = wired.client.register_producer(producer, Streaming::Pull);
    assert!(registered.is_ok());
    // Past the transport, as a layer or whoever shares the stream may do.
    wired.client.stream().lose_write_connection();
    wired
        .pump
        .run()
        .expect("it comes to rest, since nobody is asked any more");
    let again = Scripted::new(&wired.log, || {});
    assert!(
        wired
            .client
            .register_producer(again, Streaming::Pull)
            .is_ok()
    );
    wired.log.check(["stop"]);
}

#[test]
fn a_file_cannot_be_sent_after_the_end_of_our_stream() {
    let file = || std::fs::File::open("/proc/self/exe").expect("it runs");
    let senders = [
        FileSender::new(file()).part(0, 100),
        FileSender::new(file())
            .part(0, 100)
            .transform(<[u8]>::to_vec),
    ];
    for sender in senders {
        let wired = wired();
        wired.client.lose_write_connection();
        let sent = sender.send(&wired.client);
        wired.pump.run().expect("it is at rest");
        let failure = torsade_reactor::testing::failure_of(sent);
        assert!(failure.check::<NotFlushed>(), "{failure}");
    }
}

#[test]
fn a_file_that_is_being_sent_arrives_before_the_end_of_our_stream() {
    let wired = wired();
    let file = std::fs::File::open("/proc/self/exe").expect("it runs");
    let sent = FileSender::new(file).part(0, 300_000).send(&wired.client);
    wired.client.lose_write_connection();
    wired.pump.run().expect("it is at rest");
    assert_eq!(wired.received.borrow().len(), 300_000);
    assert_eq!(torsade_reactor::testing::success_of(sent), 300_000);
}
