//! What a receiver relies on.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Failure;

use crate::error::{ConnectionLost, NotFlushed};
use crate::flow::Limits;
use crate::stream::Receiver;
use crate::testing::contract::probe::{Event, Probe};
use crate::testing::contract::scene::{End, small_limits};
use crate::testing::contract::{Contract, rules};

rules! {
    bytes_arrive_in_order_both_ways_at_once
    a_stream_without_a_receiver_keeps_everything_for_the_first
    an_orderly_end_brings_everything_that_was_written_before_it
    an_orderly_end_waits_for_a_slow_reader_and_not_for_ever
    nothing_is_delivered_after_an_end_was_asked_for
    what_is_written_after_an_end_was_asked_for_is_dropped
    an_abort_drops_what_is_unsent_and_the_peer_can_tell
    the_first_of_several_ends_gives_the_reason_save_that_an_abort_overtakes
    a_half_close_ends_one_direction_alone
    both_directions_can_be_ended_one_after_the_other
    an_end_after_a_half_close_is_an_end
    a_paused_stream_delivers_nothing_and_a_resumed_one_everything
    pausing_in_a_delivery_stops_the_next
    who_reads_for_itself_takes_bytes_in_order_and_the_rest_is_delivered
    who_reads_for_itself_finds_nothing_at_the_end_and_the_receiver_hears_of_it
    a_peer_that_does_not_read_pauses_the_writer_until_it_does
    a_connection_with_more_unsent_than_the_limit_is_ended
    a_flush_fires_when_what_was_written_before_has_left
    a_flush_fails_when_the_connection_is_lost_first
    limits_are_what_they_were_set_to
    another_receiver_takes_over_between_two_deliveries
    a_receiver_that_takes_over_from_a_paused_writer_hears_of_the_pause_and_of_its_end
    a_receiver_that_takes_over_behind_the_peers_end_hears_of_it_once
    a_receiver_after_the_end_hears_the_reason_and_not_at_once
    addresses_are_known_after_the_end
    every_call_can_be_made_in_every_event
    every_call_after_the_end_does_nothing
}

fn bytes_arrive_in_order_both_ways_at_once(contract: &Contract) {
    let scene = contract.scene();
    let data = contract.pattern(contract.volume);
    let mut sizes = [1, 7, 100, 4096, 3, 20_000].iter().cycle();
    let mut rest = &data[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*sizes.next().expect("it is a cycle")));
        scene.client.write(piece);
        scene.server.write(piece);
        rest = after;
    }
    scene.run_until("everything arrives", || {
        scene.client.received() + scene.server.received() >= 2 * data.len()
    });
    for end in [&scene.client, &scene.server] {
        assert!(
            *end.probe.data.borrow() == data,
            "other bytes, or another order"
        );
        assert_eq!(end.stream.unsent(), 0);
        assert!(end.stream.is_connected());
    }
    scene.finish();
}

fn a_stream_without_a_receiver_keeps_everything_for_the_first(contract: &Contract) {
    let scene = contract.scene_without_receivers();
    scene.client.write("early");
    scene.client.lose();
    scene.come_to_rest();
    scene.server.listen();
    scene.run_until("the end of the stream", || {
        scene.server.probe.count(Event::ReadLost) == 1
    });
    assert_eq!(*scene.server.probe.data.borrow(), b"early");
    scene.server.lose();
    scene.run_until("the end", || scene.server.is_lost());
    scene.server.check_reason(ConnectionLost::is_clean);
    // The one that was closed before it had a receiver.
    scene.client.listen();
    scene.run_until("the other end", || scene.client.is_lost());
    scene.client.check_reason(ConnectionLost::is_clean);
    scene.finish();
}

fn an_orderly_end_brings_everything_that_was_written_before_it(contract: &Contract) {
    for server_first in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(server_first)];
        let data = contract.pattern(contract.volume);
        near.write(&data);
        near.lose();
        assert!(!near.stream.is_connected() && !near.is_lost());
        scene.run_until("the end of the stream", || {
            far.probe.count(Event::ReadLost) == 1
        });
        assert_eq!(far.received(), data.len());
        scene.run_until("the end", || near.is_lost());
        near.check_reason(ConnectionLost::is_clean);
        far.lose();
        scene.run_until("the other end", || far.is_lost());
        far.check_reason(ConnectionLost::is_clean);
        far.check_events(&[Event::ReadLost, Event::Lost]);
        scene.finish();
    }
}

fn an_orderly_end_waits_for_a_slow_reader_and_not_for_ever(contract: &Contract) {
    for flush in [Duration::from_secs(30), Duration::from_millis(1)] {
        let scene = contract.scene();
        scene.client.call(|stream| {
            stream.set_limits(Limits {
                flush,
                ..small_limits()
            });
        });
        scene.server.call(|stream| stream.pause_reading());
        let written = scene.fill(&scene.client, 20_000);
        scene.client.lose();
        scene.come_to_rest();
        if flush > Duration::from_secs(1) {
            assert!(!scene.client.is_lost(), "the peer has not taken everything");
            scene.server.call(|stream| stream.resume_reading());
            scene.run_until("everything", || {
                scene.server.probe.count(Event::ReadLost) == 1
            });
            assert_eq!(scene.server.received(), written);
            scene.run_until("the end", || scene.client.is_lost());
            scene.client.check_reason(ConnectionLost::is_clean);
        } else {
            scene.run_until("the end", || scene.client.is_lost());
            scene.client.check_reason(|reason| {
                matches!(reason, ConnectionLost::TimedOut { limit, .. } if *limit == flush)
            });
        }
        scene.finish();
    }
}

fn nothing_is_delivered_after_an_end_was_asked_for(contract: &Contract) {
    for abort in [false, true] {
        let scene = contract.scene();
        let data = contract.pattern(contract.volume);
        let (server, deliveries) = (scene.server.clone(), Rc::new(Cell::new(0)));
        let count = Rc::clone(&deliveries);
        scene.server.probe.react(move |event| {
            if event != Event::Data {
                return;
            }
            count.set(count.get() + 1);
            if abort {
                server.abort();
            } else {
                server.lose();
            }
        });
        scene.client.write(&data);
        scene.run_until("the end", || scene.server.is_lost());
        assert_eq!(deliveries.get(), 1, "one delivery, and no more");
        scene.finish();
    }
}

fn what_is_written_after_an_end_was_asked_for_is_dropped(contract: &Contract) {
    let scene = contract.scene();
    scene.client.write("kept");
    scene.client.call(|stream| stream.lose_write_connection());
    scene.client.write("dropped");
    scene.server.write("kept");
    scene.server.lose();
    scene.server.write("dropped");
    scene.run_until("the end", || scene.server.is_lost());
    scene.run_until("the end of the stream", || {
        scene.client.probe.count(Event::ReadLost) == 1
    });
    assert_eq!(*scene.client.probe.data.borrow(), b"kept");
    scene.finish();
}

fn an_abort_drops_what_is_unsent_and_the_peer_can_tell(contract: &Contract) {
    for server_first in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(server_first)];
        far.call(|stream| stream.pause_reading());
        scene.fill(near, 20_000);
        near.abort();
        assert!(!near.stream.is_connected() && !near.is_lost());
        scene.run_until("the end", || near.is_lost());
        near.check_reason(|reason| matches!(reason, ConnectionLost::Aborted));
        assert_eq!(near.stream.unsent(), 0, "nothing waits any more");
        far.call(|stream| stream.resume_reading());
        let sees_an_end = || !contract.resets && far.probe.count(Event::ReadLost) == 1;
        scene.run_until("the reset", || far.is_lost() || sees_an_end());
        if far.is_lost() {
            far.check_reason(|reason| !reason.is_clean() && (contract.is_reset)(reason));
        }
        scene.finish();
    }
}

fn the_first_of_several_ends_gives_the_reason_save_that_an_abort_overtakes(contract: &Contract) {
    let because = |text: &'static str| ConnectionLost::Failed(Failure::message(text));
    let is = |reason: &ConnectionLost, text: &str| reason.to_string().ends_with(text);
    let scene = contract.scene();
    scene.client.write("something");
    scene.client.call(|stream| {
        stream.lose_connection(because("first"));
        stream.lose_connection(because("second"));
    });
    scene.server.call(|stream| {
        stream.lose_connection(because("in order"));
        stream.abort_connection(because("at once"));
        stream.abort_connection(because("again"));
        stream.lose_connection(because("late"));
    });
    scene.run_until("both are lost", || {
        scene.client.is_lost() && scene.server.is_lost()
    });
    scene.server.check_reason(|reason| is(reason, "at once"));
    // The reset may have come before its own end was reached.
    scene
        .client
        .check_reason(|reason| is(reason, "first") || (contract.is_reset)(reason));
    scene.finish();
}

fn a_half_close_ends_one_direction_alone(contract: &Contract) {
    for server_first in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(server_first)];
        near.write("question");
        near.call(|stream| stream.lose_write_connection());
        near.call(|stream| stream.lose_write_connection());
        scene.run_until("the end of the stream", || {
            far.probe.count(Event::ReadLost) == 1
        });
        assert_eq!(*far.probe.data.borrow(), b"question");
        scene.come_to_rest();
        assert!(
            !far.is_lost() && !near.is_lost(),
            "the other direction goes on"
        );
        let data = contract.pattern(contract.volume);
        far.write(&data);
        scene.run_until("the answer", || near.received() == data.len());
        far.lose();
        scene.run_until("the end of the answer", || {
            near.probe.count(Event::ReadLost) == 1
        });
        near.lose();
        scene.run_until("both are lost", || near.is_lost() && far.is_lost());
        for end in [near, far] {
            end.check_reason(ConnectionLost::is_clean);
        }
        scene.finish();
    }
}

fn both_directions_can_be_ended_one_after_the_other(contract: &Contract) {
    let scene = contract.scene();
    for end in [&scene.client, &scene.server] {
        end.write("last");
        end.call(|stream| stream.lose_write_connection());
    }
    scene.run_until("both streams end", || {
        let ended = |end: &Probe| end.count(Event::ReadLost) == 1;
        ended(&scene.client.probe) && ended(&scene.server.probe)
    });
    for end in [&scene.client, &scene.server] {
        assert_eq!(*end.probe.data.borrow(), b"last");
        end.lose();
    }
    scene.run_until("both are lost", || {
        scene.client.is_lost() && scene.server.is_lost()
    });
    for end in [&scene.client, &scene.server] {
        end.check_reason(ConnectionLost::is_clean);
    }
    scene.finish();
}

fn an_end_after_a_half_close_is_an_end(contract: &Contract) {
    let scene = contract.scene();
    let data = contract.pattern(contract.volume);
    scene.client.write(&data);
    scene.client.call(|stream| stream.lose_write_connection());
    scene.client.lose();
    scene.run_until("the end of the stream", || {
        scene.server.probe.count(Event::ReadLost) == 1
    });
    assert_eq!(scene.server.received(), data.len());
    scene.run_until("the end", || scene.client.is_lost());
    scene.client.check_reason(ConnectionLost::is_clean);
    scene.finish();
}

fn a_paused_stream_delivers_nothing_and_a_resumed_one_everything(contract: &Contract) {
    let scene = contract.scene();
    scene.server.call(|stream| {
        stream.pause_reading();
        stream.pause_reading();
    });
    scene.client.write("waits");
    scene.client.lose();
    scene.come_to_rest();
    assert_eq!(scene.server.received(), 0);
    assert_eq!(scene.server.probe.count(Event::ReadLost), 0);
    scene.server.call(|stream| stream.resume_reading());
    scene.run_until("the end of the stream", || {
        scene.server.probe.count(Event::ReadLost) == 1
    });
    assert_eq!(*scene.server.probe.data.borrow(), b"waits");
    scene.finish();
}

fn pausing_in_a_delivery_stops_the_next(contract: &Contract) {
    let scene = contract.scene();
    let data = contract.pattern(contract.volume);
    let (server, paused) = (scene.server.clone(), Rc::new(Cell::new(false)));
    let (pauses, too_many) = (Rc::clone(&paused), Rc::new(Cell::new(0)));
    let count = Rc::clone(&too_many);
    scene.server.probe.react(move |event| {
        if event == Event::Data {
            count.set(count.get() + usize::from(pauses.replace(true)));
            server.call(|stream| stream.pause_reading());
        }
    });
    scene.client.write(&data);
    scene.client.lose();
    let mut seen = 0;
    while scene.server.probe.count(Event::ReadLost) == 0 {
        scene.run_until("a delivery", || {
            scene.server.received() > seen || scene.server.probe.count(Event::ReadLost) > 0
        });
        seen = scene.server.received();
        for _ in 0..3 {
            scene.look();
        }
        assert_eq!(too_many.get(), 0, "deliveries while it was paused");
        paused.set(false);
        scene.server.call(|stream| stream.resume_reading());
    }
    assert_eq!(seen, data.len());
    scene.finish();
}

/// Takes what has come until this much is there, or the end is; false if more has to come first.
fn has_taken(end: &End, taken: &mut Vec<u8>, much: usize) -> bool {
    let mut place = [0; 100];
    while taken.len() < much {
        match end.call(|stream| stream.try_read(&mut place)) {
            Ok(0) => return true,
            Ok(count) => taken.extend_from_slice(&place[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        }
    }
    true
}

/// Whether this is a stream of which bytes can be taken at all.
fn can_be_read(end: &End) -> bool {
    match end.call(|stream| stream.try_read(&mut [0; 10])) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
        other => panic!("nothing has come, and it says {other:?}"),
    }
}

fn who_reads_for_itself_takes_bytes_in_order_and_the_rest_is_delivered(contract: &Contract) {
    for server_first in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(server_first)];
        near.call(|stream| stream.pause_reading());
        if !can_be_read(near) {
            return scene.finish();
        }
        let data = contract.pattern(contract.volume.min(50_000));
        far.write(&data);
        let mut taken = Vec::new();
        scene.run_until("half of it", || has_taken(near, &mut taken, data.len() / 2));
        assert!(taken.len() >= data.len() / 2, "that was no end");
        assert_eq!(near.received(), 0);
        near.call(|stream| stream.resume_reading());
        // Before anything is delivered, and without a word of its own for what it leaves.
        let mut place = [0; 10];
        if let Ok(count) = near.call(|stream| stream.try_read(&mut place)) {
            taken.extend_from_slice(&place[..count]);
        }
        assert_eq!(near.received(), 0);
        scene.run_until("the rest", || taken.len() + near.received() == data.len());
        taken.extend_from_slice(&near.probe.data.borrow());
        assert!(taken == data, "other bytes, or another order");
        scene.finish();
    }
}

fn who_reads_for_itself_finds_nothing_at_the_end_and_the_receiver_hears_of_it(contract: &Contract) {
    let scene = contract.scene();
    let (near, far) = (&scene.server, &scene.client);
    near.call(|stream| stream.pause_reading());
    if !can_be_read(near) {
        return scene.finish();
    }
    far.write("last");
    far.call(|stream| stream.lose_write_connection());
    let mut taken = Vec::new();
    scene.run_until("the end", || has_taken(near, &mut taken, usize::MAX));
    assert_eq!(taken, b"last");
    scene.come_to_rest();
    assert!(has_taken(near, &mut taken, usize::MAX), "it stays the end");
    assert_eq!(near.probe.count(Event::ReadLost), 0, "reading is paused");
    near.call(|stream| stream.resume_reading());
    scene.run_until("the end of the stream", || {
        near.probe.count(Event::ReadLost) == 1
    });
    assert_eq!(near.received(), 0);
    near.lose();
    let late = near.call(|stream| stream.try_read(&mut [0; 10]));
    let late = late.expect_err("it is being lost").kind();
    assert_eq!(late, io::ErrorKind::NotConnected);
    scene.finish();
}

fn a_peer_that_does_not_read_pauses_the_writer_until_it_does(contract: &Contract) {
    for server_first in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(server_first)];
        near.call(|stream| stream.set_limits(small_limits()));
        far.call(|stream| stream.pause_reading());
        let high = small_limits().unsent_high;
        let written = scene.fill(near, high);
        assert!(near.stream.is_congested());
        scene.run_until("the pause", || near.probe.count(Event::Paused) == 1);
        assert_eq!(near.probe.count(Event::Resumed), 0);
        far.call(|stream| stream.resume_reading());
        scene.run_until("it goes on", || near.probe.count(Event::Resumed) == 1);
        assert!(near.stream.unsent() <= small_limits().unsent_low);
        assert!(!near.stream.is_congested());
        scene.run_until("everything arrives", || far.received() == written);
        near.check_events(&[Event::Paused, Event::Resumed]);
        scene.finish();
    }
}

fn a_connection_with_more_unsent_than_the_limit_is_ended(contract: &Contract) {
    let scene = contract.scene();
    let limits = Limits {
        unsent_max: 30_000,
        ..small_limits()
    };
    scene.client.call(|stream| stream.set_limits(limits));
    scene.server.call(|stream| stream.pause_reading());
    scene.fill(&scene.client, 30_000);
    // The limit is that of before the callback: this one ends it at the latest.
    scene.client.write([0; 4096]);
    scene.run_until("the end", || scene.client.is_lost());
    scene.client.check_reason(
        |reason| matches!(reason, ConnectionLost::Overrun { limit } if *limit == 30_000),
    );
    scene.finish();
}

fn a_flush_fires_when_what_was_written_before_has_left(contract: &Contract) {
    let scene = contract.scene();
    let idle = scene.client.call(|stream| stream.flush());
    assert!(idle.into_result().is_ok(), "there is nothing to wait for");
    scene.server.call(|stream| stream.pause_reading());
    scene.fill(&scene.client, 20_000);
    let flush = scene.client.call(|stream| stream.flush());
    scene.come_to_rest();
    assert!(!flush.is_fired(), "the peer has not read");
    scene.server.call(|stream| stream.resume_reading());
    scene.run_until("the flush", || flush.is_fired());
    assert!(flush.into_result().is_ok());
    assert_eq!(scene.client.stream.unsent(), 0);
    scene.finish();
}

fn a_flush_fails_when_the_connection_is_lost_first(contract: &Contract) {
    let scene = contract.scene();
    scene.server.call(|stream| stream.pause_reading());
    scene.fill(&scene.client, 20_000);
    let flush = scene.client.call(|stream| stream.flush());
    scene.client.abort();
    scene.run_until("the flush", || flush.is_fired());
    let after = scene.client.call(|stream| stream.flush());
    for flush in [flush, after] {
        match flush.into_result() {
            Ok(Err(failure)) => assert!(failure.check::<NotFlushed>(), "{failure}"),
            other => panic!("it did not fail: {other:?}"),
        }
    }
    scene.finish();
}

fn limits_are_what_they_were_set_to(contract: &Contract) {
    let scene = contract.scene();
    assert_eq!(scene.client.stream.limits(), Limits::default());
    scene
        .client
        .call(|stream| stream.set_limits(small_limits()));
    assert_eq!(scene.client.stream.limits(), small_limits());
    scene.finish();
}

fn another_receiver_takes_over_between_two_deliveries(contract: &Contract) {
    let scene = contract.scene();
    let second = Probe::new(&scene.watch);
    let (server, successor) = (scene.server.clone(), Rc::clone(&second));
    scene.server.probe.react(move |event| {
        if event == Event::Data {
            let successor = Rc::clone(&successor) as Rc<dyn Receiver>;
            server.call(|stream| stream.set_receiver(successor));
        }
    });
    let data = contract.pattern(contract.volume);
    scene.client.write(&data[..10]);
    scene.run_until("the first delivery", || scene.server.received() > 0);
    scene.client.write(&data[10..]);
    scene.run_until("the rest", || {
        scene.server.received() + second.data.borrow().len() == data.len()
    });
    scene.client.abort();
    scene.server.abort();
    scene.run_until("the end", || second.is_lost());
    let all = [&scene.server.probe.data, &second.data].map(|data| data.borrow().clone());
    assert!(all.concat() == data, "other bytes, or another order");
    scene.server.check_events(&[]);
    scene.come_to_rest();
    scene.check_violations();
}

fn a_receiver_that_takes_over_from_a_paused_writer_hears_of_the_pause_and_of_its_end(
    contract: &Contract,
) {
    for reads_first in [false, true] {
        let scene = contract.scene();
        scene
            .client
            .call(|stream| stream.set_limits(small_limits()));
        scene.server.call(|stream| stream.pause_reading());
        let written = scene.fill(&scene.client, small_limits().unsent_high);
        scene.run_until("the pause", || scene.client.probe.count(Event::Paused) == 1);
        let second = Probe::new(&scene.watch);
        let receiver = Rc::clone(&second) as Rc<dyn Receiver>;
        scene.client.call(|stream| stream.set_receiver(receiver));
        if !reads_first {
            scene.run_until("the pause of the second", || {
                second.count(Event::Paused) == 1
            });
        }
        scene.server.call(|stream| stream.resume_reading());
        scene.run_until("everything arrives", || scene.server.received() == written);
        scene.come_to_rest();
        scene.client.check_events(&[Event::Paused]);
        // It need not hear of a pause that was over before it could be told.
        let (paused, resumed) = [Event::Paused, Event::Resumed]
            .map(|event| second.count(event))
            .into();
        assert_eq!(paused, resumed, "each pause has its end");
        assert!(paused == 1 || (reads_first && paused == 0), "{paused}");
        scene.client.abort();
        scene.server.abort();
        scene.run_until("the end", || second.is_lost());
        scene.come_to_rest();
        scene.check_violations();
    }
}

fn a_receiver_that_takes_over_behind_the_peers_end_hears_of_it_once(contract: &Contract) {
    for pauses in [false, true] {
        let scene = contract.scene();
        let (near, far) = scene.both_ways()[usize::from(pauses)];
        far.write("last");
        far.call(|stream| stream.lose_write_connection());
        scene.run_until("the end of the stream", || {
            near.probe.count(Event::ReadLost) == 1
        });
        let second = Probe::new(&scene.watch);
        let receiver = Rc::clone(&second) as Rc<dyn Receiver>;
        if pauses {
            near.call(|stream| stream.pause_reading());
        }
        near.call(|stream| stream.set_receiver(Rc::clone(&receiver)));
        if pauses {
            scene.come_to_rest();
            assert_eq!(second.count(Event::ReadLost), 0, "reading is paused");
            near.call(|stream| stream.resume_reading());
        }
        scene.run_until("the end for the second", || {
            second.count(Event::ReadLost) == 1
        });
        near.call(|stream| stream.set_receiver(receiver));
        near.write("answer");
        scene.run_until("the answer", || far.received() == 6);
        scene.come_to_rest();
        near.check_events(&[Event::ReadLost]);
        assert_eq!((near.received(), second.data.borrow().len()), (4, 0));
        assert_eq!(*second.events.borrow(), [Event::ReadLost]);
        near.abort();
        far.abort();
        scene.run_until("both are lost", || second.is_lost() && far.is_lost());
        scene.come_to_rest();
        scene.check_violations();
    }
}

fn a_receiver_after_the_end_hears_the_reason_and_not_at_once(contract: &Contract) {
    let scene = contract.scene();
    scene.client.abort();
    scene.server.abort();
    scene.run_until("both are lost", || {
        scene.client.is_lost() && scene.server.is_lost()
    });
    let late = Probe::new(&scene.watch);
    let receiver = Rc::clone(&late) as Rc<dyn Receiver>;
    scene.client.call(|stream| stream.set_receiver(receiver));
    scene.run_until("it hears of the end", || late.is_lost());
    scene.finish();
}

fn addresses_are_known_after_the_end(contract: &Contract) {
    let scene = contract.scene();
    let ends = [&scene.client, &scene.server].map(|end| {
        let socket = end.stream.socket();
        (socket.host(), socket.peer())
    });
    scene.client.lose();
    scene.server.lose();
    scene.run_until("both are lost", || {
        scene.client.is_lost() && scene.server.is_lost()
    });
    for (end, before) in [&scene.client, &scene.server].into_iter().zip(ends) {
        let socket = end.stream.socket();
        assert_eq!((socket.host(), socket.peer()), before);
    }
    scene.finish();
}

/// Every call that a stream takes, by number.
const CALLS: usize = 12;
const SET_RECEIVER: usize = 9;

fn make_call(end: &End, number: usize) {
    match number {
        0 => end.write("said in an event"),
        1 => end.lose(),
        2 => end.abort(),
        3 => end.call(|stream| stream.lose_write_connection()),
        4 => end.call(|stream| stream.pause_reading()),
        5 => end.call(|stream| stream.resume_reading()),
        // Dropped: it may fail, and nobody waits.
        6 => drop(end.call(|stream| stream.flush().add_errback(|_| Ok(())))),
        7 => end.call(|stream| stream.set_limits(Limits::default())),
        8 => end.call(|stream| stream.set_limits(small_limits())),
        SET_RECEIVER => end.listen(),
        // There may be nothing, or nobody.
        10 => drop(end.call(|stream| stream.try_read(&mut [0; 10]))),
        _ => end.call(|stream| {
            let socket = stream.socket();
            let _ = (socket.host(), socket.peer(), socket.reactor());
            let _ = (stream.is_connected(), stream.is_congested());
            let _ = (stream.unsent(), stream.limits());
        }),
    }
}

fn every_call_can_be_made_in_every_event(contract: &Contract) {
    let events = [
        Event::Data,
        Event::ReadLost,
        Event::Paused,
        Event::Resumed,
        Event::Lost,
    ];
    for event in events {
        for number in 0..CALLS {
            if (event, number) == (Event::Lost, SET_RECEIVER) {
                // Told of the end, it would ask to be told again, for ever.
                continue;
            }
            let scene = contract.scene();
            scene
                .client
                .call(|stream| stream.set_limits(small_limits()));
            let client = scene.client.clone();
            scene.client.probe.react(move |seen| {
                if seen == event {
                    make_call(&client, number);
                }
            });
            // All five happen, unless the call keeps them from it.
            scene.server.write("data");
            scene.server.call(|stream| stream.pause_reading());
            if matches!(event, Event::Paused | Event::Resumed) {
                for _ in 0..DEAF_WRITES {
                    if scene.client.probe.count(Event::Paused) > 0 {
                        break;
                    }
                    scene.client.write([0; 16 * 1024]);
                    scene.look();
                }
                assert_eq!(scene.client.probe.count(Event::Paused), 1);
            }
            scene.server.call(|stream| stream.resume_reading());
            scene.come_to_rest();
            scene.server.call(|stream| stream.lose_write_connection());
            scene.come_to_rest();
            scene.finish();
        }
    }
}

/// Writes of 16 KiB until a peer that does not read has been noticed.
const DEAF_WRITES: usize = 4096;

fn every_call_after_the_end_does_nothing(contract: &Contract) {
    for number in 0..CALLS {
        let scene = contract.scene();
        scene.client.abort();
        scene.server.abort();
        scene.run_until("both are lost", || {
            scene.client.is_lost() && scene.server.is_lost()
        });
        // A receiver that is set anew is told of the end once more, as a new one would be.
        if number != SET_RECEIVER {
            make_call(&scene.client, number);
            make_call(&scene.server, number);
        }
        scene.come_to_rest();
        assert!(!scene.client.stream.is_connected());
        assert_eq!(scene.client.stream.unsent(), 0);
        scene.check_violations();
    }
}
