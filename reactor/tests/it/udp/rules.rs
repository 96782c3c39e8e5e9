//! What datagrams do in every world, over UDP and UNIX sockets: the same callbacks in the same order.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use torsade_deferred::{Deferred, Failure};
use torsade_reactor::{
    Address, DatagramError, DatagramOptions, ListenError, MulticastGroup, MulticastInterface,
};

use crate::common::{Log, count_unhandled};
use crate::udp::{Diary, Places};

type Rule = (&'static str, fn(&Places));

macro_rules! rules {
    ($list:ident: $($name:ident)*) => {
        const $list: &[Rule] = &[$((stringify!($name), $name)),*];
    };
}

rules! { RULES:
    the_start_is_first_and_the_stop_is_last_and_then_the_deferred_fires
    a_datagram_comes_whole_with_the_address_of_who_sent_it_and_can_be_answered
    datagrams_keep_their_bounds_and_may_be_empty
    what_is_longer_than_the_protocol_wants_is_told_and_not_delivered
    a_port_that_is_connected_sends_to_its_peer_alone
    a_panic_is_reported_and_the_port_goes_on
    the_address_is_free_when_stop_listening_returns
    a_port_that_stops_in_a_callback_hears_no_more
    an_address_is_given_once
    who_causes_errors_when_told_of_them_does_not_keep_the_loop
    calls_wait_for_the_method_at_hand_and_are_dropped_after_the_end
    a_deferred_that_is_tied_to_a_port_is_cancelled_with_it
    what_is_paused_comes_when_it_is_resumed
    a_port_that_pauses_for_each_datagram_loses_none
    datagrams_that_come_alone_and_in_bursts_all_come_in_order
    a_reactor_that_stops_stops_its_ports
}

rules! { UDP_RULES:
    the_longest_datagram_arrives_and_a_longer_one_is_refused
    names_and_other_families_are_refused_at_once
    a_port_that_is_connected_hears_its_peer_alone
    who_sends_to_a_closed_port_is_told_if_it_is_connected
    who_is_not_connected_is_not_told_of_a_closed_port
    an_address_is_given_to_several_if_all_share_it
    what_is_written_in_vain_is_told_after_the_callback_at_hand
    after_the_end_nothing_is_sent_and_nothing_harmed
    a_broadcast_must_be_allowed_first
    what_goes_to_a_group_comes_to_its_members
    a_port_that_is_disconnected_keeps_its_number_and_hears_all
    a_port_on_every_ipv6_address_hears_ipv4_unless_it_is_told_not_to
}

/// Looks at every rule, each in a world of its own.
fn check(rules: &[Rule], make: impl Fn() -> Places) {
    let mut broken = Vec::new();
    for (name, rule) in rules {
        let outcome = catch_unwind(AssertUnwindSafe(|| rule(&make())));
        if let Err(payload) = outcome {
            let text = payload.downcast_ref::<String>().cloned();
            broken.push(format!("{name}: {}", text.unwrap_or_default()));
        }
    }
    assert!(
        broken.is_empty(),
        "{} rules of datagrams are broken:\n  {}",
        broken.len(),
        broken.join("\n  ")
    );
}

#[test]
fn udp_keeps_the_rules_on_the_system() {
    check(RULES, Places::on_the_system);
    check(UDP_RULES, Places::on_the_system);
}

#[test]
fn unix_datagrams_keep_the_rules_on_the_system_and_in_the_simulation() {
    check(RULES, Places::with_unix_sockets);
    for seed in 0..5 {
        check(RULES, || Places::simulated_unix(seed));
    }
}

#[test]
fn udp_keeps_the_rules_in_the_simulation() {
    for seed in 0..5 {
        check(RULES, || Places::simulated(seed));
        check(UDP_RULES, || Places::simulated(seed));
    }
}

fn the_start_is_first_and_the_stop_is_last_and_then_the_deferred_fires(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    log.check(["far starts"]);
    let near = places.near(Diary::new("near", &log));
    near.write_to("hello", far.host());
    places.run_until(&log, "far gets hello");
    let stopped = far.stop_listening();
    let fired = log.adds("fired");
    drop(stopped.map(move |()| fired()));
    // To stop twice is to stop.
    drop(far.stop_listening());
    log.check(["far starts", "near starts", "far gets hello"]);
    places.turns();
    drop(far.stop_listening());
    places.turns();
    log.check([
        "far starts",
        "near starts",
        "far gets hello",
        "far stops",
        "fired",
    ]);
}

fn a_datagram_comes_whole_with_the_address_of_who_sent_it_and_can_be_answered(places: &Places) {
    let log = Log::default();
    let far = Diary::echo("far", &log);
    let from = far.last_from.clone();
    let far = places.far(far);
    let near = Diary::new("near", &log);
    let answered_from = near.last_from.clone();
    let near = places.near(near);
    near.send_to("hello", far.host()).expect("it is sent");
    places.run_until(&log, "near gets hello");
    assert_eq!(*from.borrow(), Some(near.host()));
    assert_eq!(*answered_from.borrow(), Some(far.host()));
    assert!(!matches!(near.host(), Address::Tcp(_)));
}

fn datagrams_keep_their_bounds_and_may_be_empty(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let near = places.near(Diary::new("near", &log));
    for datagram in ["one", "", "two", "three"] {
        near.write_to(datagram, far.host());
    }
    places.run_until(&log, "far gets three");
    log.check([
        "far starts",
        "near starts",
        "far gets one",
        "far gets ",
        "far gets two",
        "far gets three",
    ]);
}

fn the_longest_datagram_arrives_and_a_longer_one_is_refused(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let near = places.near(Diary::new("near", &log));
    for length in [65_508, 65_535, 65_536, 1 << 20] {
        let sent = near.send_to(vec![b'x'; length], far.host());
        assert!(
            matches!(sent, Err(DatagramError::TooLong { length: l }) if l == length),
            "{sent:?}"
        );
    }
    near.send_to(vec![b'x'; 65_507], far.host())
        .expect("it fits");
    places.run_until(&log, "far gets 65507 bytes");
    log.check(["far starts", "near starts", "far gets 65507 bytes"]);
}

fn what_is_longer_than_the_protocol_wants_is_told_and_not_delivered(places: &Places) {
    let log = Log::default();
    let options = DatagramOptions::new().datagram_max(4);
    let far = places.far_with(&options, Diary::new("far", &log));
    let near = places.near(Diary::new("near", &log));
    near.write_to("four", far.host());
    near.write_to("fives", far.host());
    places.run_until(&log, "far gets five of 5");
    log.check([
        "far starts",
        "near starts",
        "far gets four",
        "far gets five of 5",
    ]);
}

fn names_and_other_families_are_refused_at_once(places: &Places) {
    let log = Log::default();
    let near = places.near(Diary::new("near", &log));
    let named = near.send_to("x", "localhost:7");
    assert!(matches!(named, Err(DatagramError::Address(_))), "{named:?}");
    let other = near.send_to("x", "[::1]:7");
    assert!(
        matches!(other, Err(DatagramError::WrongFamily { .. })),
        "{other:?}"
    );
    let connected = near.connect("[::1]:7");
    assert!(
        matches!(connected, Err(DatagramError::WrongFamily { .. })),
        "{connected:?}"
    );
    let nowhere = near.send("x");
    assert!(
        matches!(nowhere, Err(DatagramError::NotConnected)),
        "{nowhere:?}"
    );
    let listening = places.near.listen_udp("localhost:0", Diary::new("x", &log));
    assert!(matches!(listening, Err(ListenError::Address(_))));
    log.check(["near starts"]);
}

fn a_port_that_is_connected_hears_its_peer_alone(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let stranger = places.near(Diary::new("stranger", &log));
    let near = places.near(Diary::new("near", &log));
    stranger.write_to("before", far.host());
    far.connect(near.host()).expect("it is new");
    assert_eq!(far.peer(), Some(near.host()));
    stranger.write_to("after", far.host());
    near.write_to("hello", far.host());
    places.run_until(&log, "far gets hello");
    log.check([
        "far starts",
        "stranger starts",
        "near starts",
        "far gets hello",
    ]);
}

fn a_port_that_is_connected_sends_to_its_peer_alone(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let near = places.near(Diary::new("near", &log));
    let stranger = places.far(Diary::new("stranger", &log));
    near.connect(far.host()).expect("it is new");
    near.send("one").expect("it is sent");
    near.send_to("two", far.host()).expect("it is the same");
    near.write("three");
    let other = near.send_to("x", stranger.host());
    assert!(
        matches!(other, Err(DatagramError::Connected { .. })),
        "{other:?}"
    );
    let twice = near.connect(far.host());
    assert!(
        matches!(twice, Err(DatagramError::Connected { .. })),
        "{twice:?}"
    );
    places.run_until(&log, "far gets three");
    log.check([
        "far starts",
        "near starts",
        "stranger starts",
        "far gets one",
        "far gets two",
        "far gets three",
    ]);
}

/// An address at the far place where nobody listens.
fn closed(places: &Places) -> Address {
    let port = places.far(Diary::new("gone", &Log::default()));
    let address = port.host();
    drop(port.stop_listening());
    address
}

fn who_sends_to_a_closed_port_is_told_if_it_is_connected(places: &Places) {
    let log = Log::default();
    let address = closed(places);
    let near = places.near(Diary::new("near", &log));
    near.connect(&address).expect("nothing is asked");
    near.write("hello");
    places.run_until(&log, "near is refused");
    let far = places.far.listen_udp(&address, Diary::new("far", &log));
    let far = far.expect("it is free");
    near.write("again");
    places.run_until(&log, "far gets again");
    log.check([
        "near starts",
        "near is refused",
        "far starts",
        "far gets again",
    ]);
    drop(far);
}

fn who_is_not_connected_is_not_told_of_a_closed_port(places: &Places) {
    let log = Log::default();
    let address = closed(places);
    let near = places.near(Diary::new("near", &log));
    let far = places.far(Diary::echo("far", &log));
    near.write_to("hello", &address);
    near.write_to("fence", far.host());
    places.run_until(&log, "near gets fence");
    log.check([
        "near starts",
        "far starts",
        "far gets fence",
        "near gets fence",
    ]);
}

fn a_panic_is_reported_and_the_port_goes_on(places: &Places) {
    let log = Log::default();
    let (unhandled, guard) = count_unhandled();
    let far = places.far(Diary::new("far", &log).on_datagram(|_, _, datagram, _| {
        assert!(datagram != b"bad", "a bad datagram");
    }));
    let near = places.near(Diary::new("near", &log));
    near.write_to("bad", far.host());
    near.write_to("good", far.host());
    places.run_until(&log, "far gets good");
    assert!(far.is_listening());
    drop(guard);
    assert_eq!(unhandled.get(), 1);
}

fn the_address_is_free_when_stop_listening_returns(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let address = far.host();
    drop(far.stop_listening());
    assert!(!far.is_listening());
    assert_eq!(far.host(), address);
    let again = places.far_at(&address, Diary::new("again", &log));
    let again = again.expect("it is free");
    let near = places.near(Diary::new("near", &log));
    near.write_to("hello", again.host());
    places.run_until(&log, "again gets hello");
    assert!(log.lines().contains(&"far stops".to_owned()));
    assert!(!log.lines().contains(&"far gets hello".to_owned()));
}

fn a_port_that_stops_in_a_callback_hears_no_more(places: &Places) {
    let log = Log::default();
    let far = places.far(
        Diary::new("far", &log).on_datagram(|diary, transport, _, _| {
            let fired = diary.log.adds("fired");
            drop(transport.stop_listening().map(move |()| fired()));
            diary.log.add("far is still in it");
        }),
    );
    let near = places.near(Diary::new("near", &log));
    for _ in 0..3 {
        near.write_to("hello", far.host());
    }
    places.run_until(&log, "fired");
    places.turns();
    log.check([
        "far starts",
        "near starts",
        "far gets hello",
        "far is still in it",
        "far stops",
        "fired",
    ]);
}

fn an_address_is_given_once(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let second = places.far_at(&far.host(), Diary::new("x", &log));
    assert!(matches!(second, Err(ListenError::InUse { .. })));
    log.check(["far starts"]);
}

fn an_address_is_given_to_several_if_all_share_it(places: &Places) {
    let log = Log::default();
    let options = DatagramOptions::new().reuse_port(true);
    let one = places.far_with(&options, Diary::new("one", &log));
    let two = places
        .far
        .listen_udp_with(one.host(), &options, Diary::new("two", &log));
    drop(two.expect("both share it"));
}

fn what_is_written_in_vain_is_told_after_the_callback_at_hand(places: &Places) {
    let log = Log::default();
    let far = places.far(
        Diary::new("far", &log).on_datagram(|diary, transport, _, _| {
            transport.write_to(vec![0; 70_000], (std::net::Ipv4Addr::LOCALHOST, 9));
            transport.write("to nobody");
            diary.log.add("far is still in it");
        }),
    );
    let near = places.near(Diary::new("near", &log));
    near.write_to("hello", far.host());
    let said = "far hears: the port is connected to nobody: say where the datagram goes";
    places.run_until(&log, said);
    log.check([
        "far starts",
        "near starts",
        "far gets hello",
        "far is still in it",
        "far hears: a datagram of 70000 bytes is too long",
        said,
    ]);
}

fn who_causes_errors_when_told_of_them_does_not_keep_the_loop(places: &Places) {
    let log = Log::default();
    let mut diary = Diary::new("near", &Log::default());
    diary.on_error = Some(Box::new(|transport| transport.write("to nobody")));
    let near = places.near(diary);
    near.write("to nobody");
    let late = log.adds("late");
    places.near.call_soon(late);
    places.run_until(&log, "late");
    drop(near.stop_listening());
}

fn calls_wait_for_the_method_at_hand_and_are_dropped_after_the_end(places: &Places) {
    let log = Log::default();
    let far = places.far(
        Diary::new("far", &log).on_datagram(|diary, transport, _, _| {
            transport.call(|diary, _| diary.log.add("called"));
            diary.log.add("far is still in it");
        }),
    );
    let near = places.near(Diary::new("near", &log));
    near.write_to("hello", far.host());
    places.run_until(&log, "called");
    far.call(|diary, _| diary.log.add("called at once"));
    log.check([
        "far starts",
        "near starts",
        "far gets hello",
        "far is still in it",
        "called",
        "called at once",
    ]);
    drop(far.stop_listening());
    places.turns();
    far.call(|diary, _| diary.log.add("never"));
    assert_eq!(log.lines().last().map(String::as_str), Some("far stops"));
}

fn a_deferred_that_is_tied_to_a_port_is_cancelled_with_it(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let (trigger, deferred) = Deferred::<u8, Failure>::new();
    far.when(deferred, |diary, _, result| {
        let value = result.expect("it fires");
        diary.log.add(format!("has {value}"));
    });
    trigger.callback(7);
    log.check(["far starts", "has 7"]);
    let (trigger, deferred) = Deferred::<u8, Failure>::new();
    let cancelled = log.adds("cancelled");
    trigger.on_cancel(cancelled);
    far.when(deferred, |diary, _, _| diary.log.add("never"));
    drop(far.stop_listening());
    places.turns();
    log.check(["far starts", "has 7", "far stops", "cancelled"]);
    drop(trigger);
}

fn what_is_paused_comes_when_it_is_resumed(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let near = places.near(Diary::echo("near", &log));
    far.pause_reading();
    near.write_to("hello", far.host());
    near.write_to("fence", near.host());
    places.run_until(&log, "near gets fence");
    assert!(!log.lines().contains(&"far gets hello".to_owned()));
    far.resume_reading();
    assert!(!log.lines().contains(&"far gets hello".to_owned()));
    places.run_until(&log, "far gets hello");
}

fn a_port_that_pauses_for_each_datagram_loses_none(places: &Places) {
    let log = Log::default();
    let far = places
        .far(Diary::new("far", &log).on_datagram(|_, transport, _, _| transport.pause_reading()));
    let near = places.near(Diary::echo("near", &log));
    for number in 0..5 {
        near.write_to(number.to_string(), far.host());
    }
    for number in 0..5 {
        places.run_until(&log, &format!("far gets {number}"));
        let next = format!("far gets {}", number + 1);
        for fence in ["first", "second"] {
            let fence = format!("{fence} fence {number}");
            near.write_to(&fence, near.host());
            places.run_until(&log, &format!("near gets {fence}"));
        }
        assert!(!log.lines().contains(&next));
        far.resume_reading();
    }
    near.write_to("last", far.host());
    places.run_until(&log, "far gets last");
}

fn datagrams_that_come_alone_and_in_bursts_all_come_in_order(places: &Places) {
    let log = Log::default();
    let far = places.far(Diary::new("far", &log));
    let near = places.near(Diary::new("near", &log));
    let mut number = 0;
    for burst in [1, 1, 1, 1, 1, 2, 1, 1, 30, 1, 1, 1, 1, 1, 1, 1, 3, 100] {
        for _ in 0..burst {
            near.write_to(number.to_string(), far.host());
            number += 1;
        }
        places.run_until(&log, &format!("far gets {}", number - 1));
    }
    let heard = log.lines().into_iter();
    let heard: Vec<String> = heard.filter(|line| line.starts_with("far gets")).collect();
    let sent: Vec<String> = (0..number).map(|it| format!("far gets {it}")).collect();
    assert_eq!(heard, sent);
}

fn after_the_end_nothing_is_sent_and_nothing_harmed(places: &Places) {
    let log = Log::default();
    let near = places.near(Diary::new("near", &log));
    drop(near.stop_listening());
    places.turns();
    near.write("x");
    near.write_to("x", "127.0.0.1:9");
    near.pause_reading();
    near.resume_reading();
    near.set_limits(near.limits());
    let to = "127.0.0.1:9";
    let outcomes = [
        near.send("x"),
        near.send_to("x", to),
        near.connect(to),
        near.disconnect(),
        near.set_broadcast(true),
        near.set_multicast_ttl(1),
    ];
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(DatagramError::Stopped)),
            "{outcome:?}"
        );
    }
    places.turns();
    log.check(["near starts", "near stops"]);
}

fn a_broadcast_must_be_allowed_first(places: &Places) {
    let log = Log::default();
    let far = places.far.listen_udp(":0", Diary::new("far", &log));
    let far = far.expect("a port is free");
    // To everybody in the network that each machine has for itself.
    let all = format!("127.255.255.255:{}", far.host().port().expect("it has one"));
    let sender = places.far.listen_udp(":0", Diary::new("sender", &log));
    let sender = sender.expect("a port is free");
    let sent = sender.send_to("hello", &all);
    assert!(
        matches!(sent, Err(DatagramError::NotPermitted { .. })),
        "{sent:?}"
    );
    sender.set_broadcast(true).expect("it may be allowed");
    sender.send_to("hello", &all).expect("it is allowed");
    places.run_until(&log, "far gets hello");
    sender.set_broadcast(false).expect("it may be forbidden");
    sender
        .send_to("hello", &all)
        .expect_err("it is not allowed");
    let options = DatagramOptions::new().broadcast(true);
    let allowed = places
        .far
        .listen_udp_with(":0", &options, Diary::new("allowed", &log));
    let allowed = allowed.expect("a port is free");
    allowed.send_to("again", &all).expect("it is allowed");
    places.run_until(&log, "far gets again");
}

fn what_goes_to_a_group_comes_to_its_members(places: &Places) {
    let log = Log::default();
    let group = std::net::Ipv4Addr::new(239, 255, 77, 7);
    let IpAddr::V4(home) = places.far_ip else {
        unreachable!("the places are IPv4's");
    };
    let on = MulticastInterface::Address(home);
    let membership = MulticastGroup::from(group).on(on);
    let options = DatagramOptions::new().reuse_port(true);
    let listen = |name, address: &Address| {
        let listening = places
            .far
            .listen_udp_with(address, &options, Diary::new(name, &log));
        listening.expect("the port is free, or shared")
    };
    let any = Address::Udp(SocketAddr::from(([0, 0, 0, 0], 0)));
    let one = listen("one", &any);
    let port = one.host().port().expect("it has one");
    let two = listen("two", &one.host());
    for member in [&one, &two] {
        member.join_group(membership).expect("it may join");
        let twice = member.join_group(membership);
        assert!(
            matches!(twice, Err(DatagramError::Membership { .. })),
            "{twice:?}"
        );
    }
    let no_group = one.join_group(home);
    assert!(
        matches!(no_group, Err(DatagramError::Membership { .. })),
        "{no_group:?}"
    );
    let sender = places.near(Diary::new("sender", &log));
    let out = match places.near_ip {
        IpAddr::V4(home) => MulticastInterface::Address(home),
        IpAddr::V6(_) => unreachable!("the places are IPv4's"),
    };
    sender.set_multicast_interface(out).expect("it has one");
    sender.set_multicast_ttl(1).expect("a number like any");
    sender.set_multicast_loopback(true).expect("it may");
    sender.write_to("hello", (group, port));
    places.run_until(&log, "one gets hello");
    places.run_until(&log, "two gets hello");
    two.leave_group(membership).expect("it is a member");
    let again = two.leave_group(membership);
    assert!(
        matches!(again, Err(DatagramError::Membership { .. })),
        "{again:?}"
    );
    sender.write_to("again", (group, port));
    places.run_until(&log, "one gets again");
}

fn a_port_that_is_disconnected_keeps_its_number_and_hears_all(places: &Places) {
    let log = Log::default();
    let near = places.near(Diary::new("near", &log));
    let far = places.far.listen_udp(":0", Diary::new("far", &log));
    let far = far.expect("a port is free");
    let port = far.host().port().expect("it has one");
    far.disconnect().expect("nothing to do");
    far.connect(near.host()).expect("it is new");
    assert_eq!(far.host().port(), Some(port));
    assert!(far.host().ip().is_some_and(|ip| !ip.is_unspecified()));
    far.disconnect().expect("it was connected");
    assert_eq!(far.peer(), None);
    assert_eq!(far.host().port(), Some(port), "{far:?}");
    let stranger = places.near(Diary::new("stranger", &log));
    stranger.write_to("hello", (places.far_ip, port));
    places.run_until(&log, "far gets hello");
    far.connect(stranger.host()).expect("it is free again");
    far.write("back");
    places.run_until(&log, "stranger gets back");
}

fn a_reactor_that_stops_stops_its_ports(places: &Places) {
    let log = Log::default();
    let near = places.near(Diary::new("near", &log));
    places.near.stop();
    places.near.run().expect("it stops");
    log.check(["near starts", "near stops"]);
    assert!(!near.is_listening());
}

fn a_port_on_every_ipv6_address_hears_ipv4_unless_it_is_told_not_to(places: &Places) {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    for only_v6 in [false, true] {
        let log = Log::default();
        let options = DatagramOptions::new().only_v6(only_v6);
        let far = Diary::echo("far", &log);
        let heard_from = far.last_from.clone();
        let far = places.far.listen_udp_with("[::]:0", &options, far);
        let Address::Udp(address) = far.expect("there is IPv6").host() else {
            unreachable!("it is UDP");
        };
        let every_v4 = (IpAddr::from([0; 4]), address.port());
        let other = places.far.listen_udp(every_v4, Diary::new("other", &log));
        assert_eq!(other.is_ok(), only_v6);
        let near = places.near(Diary::new("near", &log));
        near.write_to("hello", (places.far_ip, address.port()));
        if only_v6 {
            places.run_until(&log, "other gets hello");
            continue;
        }
        places.run_until(&log, "near gets hello");
        let Some(Address::Udp(from)) = heard_from.take() else {
            unreachable!("it has heard it");
        };
        assert!(from.is_ipv6(), "{from}");
        assert_eq!(from.ip().to_canonical(), places.near_ip);
    }
}
