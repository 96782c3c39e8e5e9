//! What a simulated network does to datagrams.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::{FaultRates, Host, Latency, Link, Simulation};
use torsade_reactor::{DatagramOptions, DatagramTransport};

use crate::common::Log;
use crate::udp::Diary;

struct Pair {
    simulation: Simulation,
    near: Host,
    far: Host,
    sender: DatagramTransport<Diary>,
    receiver: DatagramTransport<Diary>,
    /// What the receiver got, in order.
    got: Rc<RefCell<Vec<u16>>>,
}

fn pair(seed: u64) -> Pair {
    let simulation = Simulation::new(seed);
    let (near, far) = (simulation.host("near"), simulation.host("far"));
    let got: Rc<RefCell<Vec<u16>>> = Rc::default();
    let log = Log::default();
    let place = Rc::clone(&got);
    let receiver = Diary::new("far", &log).on_datagram(move |_, _, data, _| {
        place
            .borrow_mut()
            .push(u16::from_be_bytes([data[0], data[1]]));
    });
    let receiver = far
        .reactor()
        .listen_udp(":7", receiver)
        .expect("it is free");
    let sender = near.reactor().listen_udp(":0", Diary::new("near", &log));
    Pair {
        sender: sender.expect("a port is free"),
        receiver,
        simulation,
        near,
        far,
        got,
    }
}

impl Pair {
    fn send(&self, numbers: std::ops::Range<u16>) {
        for number in numbers {
            let to = (self.far.ip(), 7);
            self.sender.write_to(number.to_be_bytes(), to);
        }
    }

    /// Sends at a pace that leaves no queue anywhere.
    fn trickle(&self, count: u16) {
        for number in 0..count {
            self.send(number..number + 1);
            self.simulation.run_for(Duration::from_micros(100));
        }
        self.simulation.run_for(Duration::from_secs(60));
    }

    fn link(&self, link: Link) {
        self.simulation.set_link(&self.near, &self.far, link);
    }
}

#[test]
fn a_good_link_delivers_every_datagram_once_and_in_order() {
    let pair = pair(1);
    pair.send(0..200);
    pair.simulation.run_until_idle();
    assert_eq!(*pair.got.borrow(), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_lossy_link_loses_about_as_many_as_it_says() {
    let pair = pair(2);
    pair.link(Link {
        loss: 0.25,
        ..Link::default()
    });
    pair.trickle(2000);
    let got = pair.got.borrow();
    assert!((1400..1600).contains(&got.len()), "{}", got.len());
    assert!(got.is_sorted(), "those that arrive keep their order");
    let lost = pair.simulation.trace().find("is lost").count();
    assert_eq!(lost + got.len(), 2000);
}

#[test]
fn a_long_datagram_is_lost_if_a_piece_of_it_is() {
    let pair = pair(3);
    pair.link(Link {
        loss: 0.05,
        ..Link::default()
    });
    for _ in 0..400 {
        pair.sender.write_to([0; 14_800], (pair.far.ip(), 7));
        pair.simulation.run_for(Duration::from_millis(1));
    }
    // 0.95 to the tenth is 0.6.
    let got = pair.got.borrow().len();
    assert!((200..280).contains(&got), "{got}");
}

#[test]
fn a_link_that_doubles_datagrams_delivers_some_twice() {
    let pair = pair(4);
    pair.link(Link {
        duplication: 0.2,
        ..Link::default()
    });
    pair.trickle(1000);
    let mut got = pair.got.take();
    let doubled = got.len() - 1000;
    assert!((150..250).contains(&doubled), "{doubled}");
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 1000, "and each at least once");
}

#[test]
fn a_link_with_detours_lets_datagrams_overtake_each_other() {
    let pair = pair(5);
    pair.link(Link {
        reordering: 0.1,
        ..Link::default()
    });
    pair.trickle(1000);
    let mut got = pair.got.take();
    let overtaken = got.windows(2).filter(|two| two[0] > two[1]).count();
    assert!((40..160).contains(&overtaken), "{overtaken}");
    got.sort_unstable();
    assert_eq!(got, (0..1000).collect::<Vec<_>>(), "and each comes once");
}

#[test]
fn where_the_latency_varies_datagrams_overtake_each_other() {
    let pair = pair(6);
    pair.link(Link::with_latency(Latency::Uniform {
        min: Duration::from_millis(1),
        max: Duration::from_millis(5),
    }));
    pair.send(0..100);
    pair.simulation.run_until_idle();
    let mut got = pair.got.take();
    assert!(!got.is_sorted());
    got.sort_unstable();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_partition_swallows_datagrams_without_a_word() {
    let pair = pair(7);
    pair.sender.connect((pair.far.ip(), 7)).expect("it is new");
    pair.simulation.partition(&pair.near, &pair.far);
    pair.send(0..10);
    pair.simulation.run_until_idle();
    assert!(pair.got.borrow().is_empty());
    pair.simulation.heal(&pair.near, &pair.far);
    pair.send(10..12);
    pair.simulation.run_until_idle();
    assert_eq!(*pair.got.borrow(), [10, 11]);
}

#[test]
fn what_is_held_comes_when_it_is_released_in_order() {
    let pair = pair(8);
    pair.simulation.hold(&pair.near, &pair.far);
    pair.send(0..50);
    pair.simulation.run_for(Duration::from_secs(1));
    assert!(pair.got.borrow().is_empty());
    pair.simulation.release(&pair.near, &pair.far);
    pair.simulation.run_until_idle();
    assert_eq!(*pair.got.borrow(), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_receiver_that_does_not_receive_loses_what_finds_no_room() {
    let pair = pair(9);
    pair.receiver.pause_reading();
    pair.send(0..1000);
    pair.simulation.run_until_idle();
    let dropped = pair.simulation.trace().find("finds no room").count();
    assert!((400..800).contains(&dropped), "{dropped}");
    pair.receiver.resume_reading();
    pair.simulation.run_until_idle();
    assert_eq!(pair.got.borrow().len() + dropped, 1000);
}

#[test]
fn a_full_queue_of_a_slow_link_loses_what_comes_then() {
    let pair = pair(10);
    pair.link(Link {
        bandwidth: Some(100_000),
        queue_max: 3_000,
        ..Link::default()
    });
    pair.send(0..1000);
    pair.simulation.run_until_idle();
    let got = pair.got.borrow().len();
    assert!((90..120).contains(&got), "30 bytes each: {got}");
}

#[test]
fn a_host_that_crashes_loses_its_ports_and_nobody_hears_of_it() {
    let log = Log::default();
    let simulation = Simulation::new(11);
    let (near, far) = (simulation.host("near"), simulation.host("far"));
    let diary = log.clone();
    far.start(move |reactor| {
        let listening = reactor.listen_udp(":7", Diary::echo("far", &diary));
        drop(listening.expect("it is free"));
    });
    let sender = near.reactor().listen_udp(":0", Diary::new("near", &log));
    let sender = sender.expect("a port is free");
    sender.connect((far.ip(), 7)).expect("it is new");
    sender.write("one");
    simulation.run_until_idle();
    far.crash();
    sender.write("two");
    simulation.run_until_idle();
    far.restart();
    sender.write("three");
    simulation.run_until_idle();
    log.check([
        "far starts",
        "near starts",
        "far gets one",
        "near gets one",
        "far starts",
        "far gets three",
        "near gets three",
    ]);
}

#[test]
fn a_group_spans_hosts() {
    let (simulation, log) = (Simulation::new(12), Log::default());
    let group = std::net::Ipv4Addr::new(239, 1, 2, 3);
    let members: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|name| {
            let host = simulation.host(name);
            let options = DatagramOptions::new().broadcast(true);
            let listening = host
                .reactor()
                .listen_udp_with(":9", &options, Diary::new(name, &log));
            let port = listening.expect("it is free");
            port.join_group(group).expect("it is new");
            port
        })
        .collect();
    members[0]
        .set_multicast_loopback(false)
        .expect("it listens");
    members[0].write_to("to the group", (group, 9));
    members[2].leave_group(group).expect("it is a member");
    members[1].write_to("to two of us", (group, 9));
    members[2].write_to("to all", "255.255.255.255:9");
    simulation.run_until_idle();
    let mut lines = log.lines().split_off(3);
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "one gets to all",
            "one gets to two of us",
            "three gets to all",
            "two gets to all",
            "two gets to the group",
            "two gets to two of us",
        ]
    );
}

#[test]
fn a_seed_does_the_same_to_datagrams_each_time() {
    fn trace(seed: u64) -> u64 {
        let pair = pair(seed);
        let bad = Link {
            loss: 0.1,
            duplication: 0.1,
            reordering: 0.2,
            ..Link::with_latency(Latency::LongTail {
                min: Duration::from_millis(1),
                step: Duration::from_millis(2),
            })
        };
        pair.link(bad);
        pair.simulation.inject_faults(&FaultRates {
            until: Duration::from_secs(1),
            lasts_max: Duration::from_millis(100),
            partitions: 60.0,
            degradations: 60.0,
            ..FaultRates::default().without_crashes()
        });
        for number in 0..200 {
            pair.send(number..number + 1);
            pair.simulation.run_for(Duration::from_millis(5));
        }
        pair.simulation.run_for(Duration::from_secs(60));
        assert!(!pair.got.borrow().is_empty());
        pair.simulation.trace().fingerprint()
    }
    assert_eq!(trace(13), trace(13));
    assert_ne!(trace(13), trace(14));
}

#[test]
fn an_answer_to_a_datagram_in_flight_finds_the_port_that_sent_it() {
    // Two ports of one host and one peer: each hears its own answers.
    let (simulation, log) = (Simulation::new(15), Log::default());
    let (near, far) = (simulation.host("near"), simulation.host("far"));
    let echo = far.reactor().listen_udp(":7", Diary::echo("far", &log));
    let counts: Vec<_> = (0..2)
        .map(|_| {
            let diary = Diary::new("near", &log);
            let count: Rc<Cell<usize>> = Rc::clone(&diary.received);
            let port = near.reactor().listen_udp(":0", diary).expect("it is free");
            port.write_to("hello", (far.ip(), 7));
            (port, count)
        })
        .collect();
    simulation.run_until_idle();
    assert!(counts.iter().all(|(_, count)| count.get() == 1));
    drop(echo);
}
