//! Whoever keeps the loop busy, everybody else is heard within a bounded number of turns.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use torsade_reactor::{Address, ChannelEvent, Reactor, Transport};

use crate::common::{End, Log, connect, reactor};

/// Schedules itself again, with no delay, until somebody says that it is enough.
fn again(reactor: &Reactor, goes_on: &Rc<Cell<bool>>, calls: &Rc<Cell<u64>>) {
    calls.set(calls.get() + 1);
    let (weak, goes_on, calls) = (reactor.downgrade(), Rc::clone(goes_on), Rc::clone(calls));
    reactor.call_soon(move || {
        if let Some(reactor) = weak.upgrade().filter(|_| goes_on.get()) {
            again(&reactor, &goes_on, &calls);
        }
    });
}

#[test]
fn an_echo_is_answered_in_five_turns_beside_everything_that_keeps_the_loop_busy() {
    const MESSAGES: u64 = 200;
    // From the turn in which the message is there: one that hears of it, and answers. Two
    // more for the system to deliver, and two for the test to look.
    const TURNS: u64 = 5;
    let (reactor, log) = (reactor(), Log::default());
    let goes_on = Rc::new(Cell::new(true));

    // What is always ready, twice: a file, and a descriptor at its level.
    let zero = File::open("/dev/zero").unwrap();
    let reads = Rc::new(Cell::new(0_u64));
    let count = Rc::clone(&reads);
    reactor
        .add_reader(zero, move |_| count.set(count.get() + 1))
        .unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    reactor.add_reader(reader, |_| ()).unwrap();

    // Calls that schedule themselves again.
    let calls = Rc::new(Cell::new(0));
    again(&reactor, &goes_on, &calls);

    // A flood of calls and messages from threads, bounded by what has not been made yet.
    let (floods, posted) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (sender, _channel) = reactor.channel(|_, _: ChannelEvent<u8>| ());
    let (remote, flag, waiting) = (reactor.remote(), Arc::clone(&floods), Arc::clone(&posted));
    let flood = thread::spawn(move || {
        let mut made = 0_u64;
        while flag.load(Ordering::Relaxed) {
            if waiting.load(Ordering::Relaxed) > 10_000 {
                thread::yield_now();
                continue;
            }
            waiting.fetch_add(1, Ordering::Relaxed);
            let done = Arc::clone(&waiting);
            remote.call_from_thread(move |_| {
                done.fetch_sub(1, Ordering::Relaxed);
            });
            // Nobody listens any more at the end.
            let _ = sender.send(1);
            made += 1;
        }
        made
    });

    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            End::new("echo", &log).on_data(|transport, data| transport.write(data))
        })
        .unwrap();
    let mut peer = TcpStream::connect(port.address().to_string()).unwrap();
    peer.set_nonblocking(true).unwrap();
    peer.set_nodelay(true).unwrap();
    let turns = || reactor.statistics().turns;
    while posted.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    // It has been accepted when the first answer comes.
    let took = RefCell::new(Vec::new());
    for message in 0..=MESSAGES {
        let begin = turns();
        peer.write_all(&message.to_ne_bytes()).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 8 && turns() < begin + 10_000 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let mut chunk = [0; 8];
            if let Ok(count) = peer.read(&mut chunk) {
                heard.extend_from_slice(&chunk[..count]);
            }
        }
        assert_eq!(heard, message.to_ne_bytes());
        if message > 0 {
            took.borrow_mut().push(turns() - begin);
        }
    }
    goes_on.set(false);
    floods.store(false, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 0, "no flood");
    let mut took = took.take();
    took.sort_unstable();
    // The system may take its time to deliver a message; that is not the loop's doing.
    let most = took[took.len() * 3 / 4];
    assert!(most <= TURNS, "an answer took {most} turns: {took:?}");
    let turns = turns();
    assert!(
        calls.get() >= MESSAGES && calls.get() <= turns + 1,
        "a call a turn"
    );
    assert!(
        reads.get() >= MESSAGES && reads.get() <= turns,
        "a read a turn"
    );
}

/// Writes a byte, and again as soon as that has left.
fn byte_by_byte(transport: &Transport<End>, written: Rc<Cell<usize>>) {
    written.set(written.get() + 1);
    transport.write("x");
    transport.when(transport.flush(), move |_, transport, flushed| {
        if flushed.is_ok() {
            byte_by_byte(transport, written);
        }
    });
}

#[test]
fn a_writer_that_waits_for_each_byte_to_leave_does_not_have_the_loop_for_itself() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.server.pause_reading();
    let written = Rc::new(Cell::new(0));
    byte_by_byte(&pair.client, Rc::clone(&written));
    let mut before = 0;
    for turn in 0..10 {
        let heard = Rc::new(Cell::new(false));
        let hears = Rc::clone(&heard);
        reactor.call_soon(move || hears.set(true));
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(heard.get());
        let now = written.get();
        assert!(now > before && now <= before + 100, "{before}, {now}");
        assert!(turn > 0 || now > 1, "a turn is for more than one");
        before = now;
    }
    // What has left and was not told is told, also when it ends.
    pair.client.lose_connection();
    let mut turns = 0;
    while pair.client.unsent() > 0 || log.lines().len() < 3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        turns += 1;
        assert!(turns < 1000, "{:?}", log.lines());
    }
    assert_eq!(log.lines()[2], "client lost: Done");
}
