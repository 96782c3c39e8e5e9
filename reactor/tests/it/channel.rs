//! Messages from other threads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use torsade_reactor::{Channel, ChannelEvent, Ping, Reactor, SendError, Sender};

use crate::common::{Log, count_unhandled, reactor, run_while};

/// A channel of numbers that writes down what comes.
fn logged(reactor: &Reactor, log: &Log) -> (Sender<u32>, Channel) {
    let log = log.clone();
    reactor.channel(move |_, event| match event {
        ChannelEvent::Message(number) => log.add(number),
        ChannelEvent::Closed => log.add("closed"),
    })
}

fn look(reactor: &Reactor) {
    reactor.turn(Some(Duration::ZERO)).unwrap();
}

#[test]
fn messages_arrive_in_order_and_closed_comes_last_and_once() {
    let (reactor, log) = (reactor(), Log::default());
    let (sender, channel) = logged(&reactor, &log);
    let sends = thread::spawn(move || {
        for number in 0..3 {
            sender.send(number).unwrap();
        }
    });
    run_while(&reactor, || channel.is_open());
    sends.join().unwrap();
    look(&reactor);
    log.check(["0", "1", "2", "closed"]);
}

#[test]
fn message_wakes_the_sleeping_loop() {
    let reactor = reactor();
    let (sender, _channel) = reactor.channel(|channel, _: ChannelEvent<()>| {
        channel.reactor().stop();
    });
    let sends = thread::spawn(move || {
        sender.send(()).unwrap();
        sender
    });
    reactor.run().unwrap();
    drop(sends.join().unwrap());
}

#[test]
fn messages_of_four_threads_all_arrive_each_threads_in_order() {
    const EACH: usize = 25_000;
    let reactor = reactor();
    let next = Rc::new(RefCell::new([0; 4]));
    let arrived = Rc::clone(&next);
    let (sender, channel) = reactor.bounded_channel(500, move |_, event| {
        if let ChannelEvent::Message((index, number)) = event {
            let next: &mut usize = &mut arrived.borrow_mut()[index];
            assert_eq!(*next, number, "of thread {index}");
            *next += 1;
        }
    });
    let threads: Vec<_> = (0..4)
        .map(|index: usize| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    sender.send((index, number)).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    while channel.is_open() {
        reactor.turn(None).unwrap();
    }
    assert_eq!(*next.borrow(), [EACH; 4]);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_turn_delivers_at_most_1024_messages_of_a_channel() {
    let (reactor, count) = (reactor(), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&count);
    let (sender, _channel) = reactor.channel(move |_, event| {
        if let ChannelEvent::Message(()) = event {
            counter.set(counter.get() + 1);
        }
    });
    for _ in 0..3_000 {
        sender.send(()).unwrap();
    }
    for delivered in [1_024, 2_048, 3_000, 3_000] {
        look(&reactor);
        assert_eq!(count.get(), delivered);
    }
    assert_eq!(reactor.next_deadline(), None, "it may sleep");
}

#[test]
fn many_messages_are_one_call_from_a_thread() {
    let (reactor, log) = (reactor(), Log::default());
    let (sender, _channel) = logged(&reactor, &log);
    for number in 0..3 {
        sender.send(number).unwrap();
        assert_eq!(reactor.dump().thread_calls.len(), 1);
    }
    look(&reactor);
    log.check(["0", "1", "2"]);
    assert_eq!(reactor.dump().thread_calls.len(), 0);
}

#[test]
fn message_to_a_channel_from_its_own_callback_is_delivered_after_it() {
    let (reactor, log) = (reactor(), Log::default());
    let own: Rc<RefCell<Option<Sender<u32>>>> = Rc::default();
    let (slot, lines) = (Rc::clone(&own), log.clone());
    let (sender, channel) = reactor.channel(move |_, event| {
        let ChannelEvent::Message(number) = event else {
            return lines.add("closed");
        };
        lines.add(format!("{number} begins"));
        if number < 2 {
            let sender = slot.borrow();
            sender.as_ref().unwrap().send(number + 1).unwrap();
        } else {
            slot.take();
        }
        lines.add(format!("{number} ends"));
    });
    sender.send(1).unwrap();
    own.replace(Some(sender));
    run_while(&reactor, || channel.is_open());
    log.check(["1 begins", "1 ends", "2 begins", "2 ends", "closed"]);
}

#[test]
fn channel_removed_from_its_callback_delivers_nothing_more_and_tells_its_senders() {
    let (reactor, log) = (reactor(), Log::default());
    let lines = log.clone();
    let (sender, channel) = reactor.channel(move |channel, event| {
        lines.add(format!("{event:?}"));
        assert!(channel.remove());
        assert!(!channel.remove());
    });
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    look(&reactor);
    look(&reactor);
    log.check(["Message(1)"]);
    assert_eq!(sender.send(3), Err(SendError::Closed(3)));
    assert!(!channel.is_open());
}

#[test]
fn full_channel_says_so_and_a_sender_elsewhere_waits() {
    let (reactor, log) = (reactor(), Log::default());
    let lines = log.clone();
    let (sender, channel) = reactor.bounded_channel(1, move |_, event| {
        lines.add(format!("{event:?}"));
    });
    sender.send(1).unwrap();
    assert_eq!(sender.try_send(2), Err(SendError::Full(2)));
    // Here, waiting would never end.
    assert_eq!(sender.send(2), Err(SendError::Full(2)));
    let waits = thread::spawn(move || sender.send(3));
    run_while(&reactor, || channel.is_open());
    waits.join().unwrap().unwrap();
    log.check(["Message(1)", "Message(3)", "Closed"]);
}

#[test]
fn sender_that_waits_is_told_when_the_channel_goes() {
    let reactor = reactor();
    let (sender, channel) = reactor.bounded_channel(1, |_, _: ChannelEvent<u32>| ());
    sender.send(1).unwrap();
    let (begins, begun) = mpsc::channel();
    let waits = thread::spawn(move || {
        begins.send(()).unwrap();
        sender.send(2)
    });
    begun.recv().unwrap();
    channel.remove();
    assert_eq!(waits.join().unwrap(), Err(SendError::Closed(2)));
}

#[test]
fn channel_ends_with_its_about_to_be_lost_or_gone() {
    let (first, second, log) = (reactor(), reactor(), Log::default());
    let (stopped, _channel) = logged(&first, &log);
    first.stop();
    first.run().unwrap();
    assert_eq!(stopped.send(1), Err(SendError::Closed(1)));
    let (gone, _) = logged(&second, &log);
    drop(second);
    assert_eq!(gone.send(2), Err(SendError::Closed(2)));
    log.check([]);
}

#[test]
fn panic_in_a_channels_callback_removes_it_and_the_loop_goes_on() {
    let (reactor, log) = (reactor(), Log::default());
    let (count, _guard) = count_unhandled();
    let (sender, channel) = reactor.channel(|_, _: ChannelEvent<u32>| panic!("on a message"));
    let (other, _other) = logged(&reactor, &log);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    other.send(3).unwrap();
    look(&reactor);
    assert_eq!(count.get(), 1);
    assert!(!channel.is_open());
    assert_eq!(sender.send(4), Err(SendError::Closed(4)));
    log.check(["3"]);
}

#[test]
fn a_channel_that_is_never_silent_does_not_keep_the_loop_from_its_timers() {
    let reactor = reactor();
    let own: Rc<RefCell<Option<Sender<()>>>> = Rc::default();
    let slot = Rc::clone(&own);
    let (sender, channel) = reactor.channel(move |_, _| {
        if let Some(sender) = &*slot.borrow() {
            sender.send(()).unwrap();
        }
    });
    sender.send(()).unwrap();
    own.replace(Some(sender));
    let called = Rc::new(Cell::new(false));
    let call = Rc::clone(&called);
    reactor.call_later(Duration::ZERO, move || call.set(true));
    look(&reactor);
    assert!(called.get());
    channel.remove();
    own.take();
}

#[test]
fn pings_before_a_turn_are_one_event() {
    let (reactor, log) = (reactor(), Log::default());
    let lines = log.clone();
    let (ping, channel) = reactor.ping(move |_| lines.add("ping"));
    look(&reactor);
    log.check([]);
    for _ in 0..3 {
        ping.ping();
    }
    look(&reactor);
    log.check(["ping"]);
    let clone = ping.clone();
    thread::spawn(move || clone.ping()).join().unwrap();
    look(&reactor);
    log.check(["ping", "ping"]);
    drop(ping);
    look(&reactor);
    assert!(!channel.is_open());
    log.check(["ping", "ping"]);
}

#[test]
fn ping_that_was_removed_does_nothing() {
    let reactor = reactor();
    let (ping, channel) = reactor.ping(|_| unreachable!("it was removed"));
    ping.ping();
    assert!(channel.remove());
    ping.ping();
    look(&reactor);
}

#[test]
fn dump_shows_a_channel_with_what_waits_in_it() {
    let (reactor, log) = (reactor(), Log::default());
    let (sender, _channel) = logged(&reactor, &log);
    sender.send(1).unwrap();
    let dump = reactor.dump().to_string();
    assert!(
        dump.contains("channel of u32, 1 messages, added at "),
        "{dump}"
    );
    assert!(dump.contains(file!()), "{dump}");
}

#[test]
fn senders_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Sender<Cell<u32>>>();
    crosses::<Ping>();
}
