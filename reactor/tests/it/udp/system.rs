//! What only the operating system's UDP has.

use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use torsade_reactor::testing::{Simulation, virtual_time_reactor};
use torsade_reactor::{
    AdoptProblem, DatagramError, DatagramOptions, ListenError, Reactor, SocketOption, Unsupported,
};

use crate::common::{Log, reactor, run_while};
use crate::udp::{Diary, Places};
use crate::unix::Folder;

#[test]
fn a_flood_of_datagrams_leaves_room_for_the_others() {
    let (reactor, log) = (reactor(), Log::default());
    let far = Diary::new("far", &log);
    let received = far.received.clone();
    let far = reactor.listen_udp("127.0.0.1:0", far).unwrap();
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = std::net::SocketAddr::new(far.host().ip().unwrap(), far.host().port().unwrap());
    for _ in 0..200 {
        flood.send_to(b"x", to).unwrap();
    }
    let mut turns = 0;
    while received.get() < 200 {
        let before = received.get();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(received.get() - before <= 64, "in one turn");
        turns += 1;
        assert!(turns < 100, "{} of 200", received.get());
    }
    assert!(turns >= 4, "{turns}");
}

#[test]
fn large_datagrams_count_for_their_bytes() {
    let (reactor, log) = (reactor(), Log::default());
    let far = Diary::new("far", &log);
    let received = far.received.clone();
    let options = DatagramOptions::new().option(SocketOption::ReceiveBuffer(4 << 20));
    let far = reactor
        .listen_udp_with("127.0.0.1:0", &options, far)
        .unwrap();
    let (_, room) = far.buffer_sizes().unwrap();
    let near = reactor
        .listen_udp("127.0.0.1:0", Diary::new("near", &log))
        .unwrap();
    // As many as find room, with the system's own book-keeping.
    let count = (room / 140_000).min(10);
    for _ in 0..count {
        near.send_to(vec![0; 60_000], far.host()).unwrap();
    }
    let mut turns = 0;
    while received.get() < count && turns < 100 {
        let before = received.get();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(received.get() - before <= 5, "256 KiB in one turn");
        turns += 1;
    }
    assert_eq!(received.get(), count);
}

#[test]
fn a_socket_of_somebody_else_is_adopted_with_what_has_come_already() {
    let (reactor, log) = (reactor(), Log::default());
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.connect(peer.local_addr().unwrap()).unwrap();
    peer.send_to(b"before", theirs.local_addr().unwrap())
        .unwrap();
    let adopted = reactor
        .adopt_datagrams(theirs, Diary::new("adopted", &log))
        .unwrap();
    assert_eq!(
        adopted.peer().unwrap().port(),
        Some(peer.local_addr().unwrap().port())
    );
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["adopted starts", "adopted gets before"]);
    adopted.send("back").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut buffer = [0; 10];
    assert_eq!(peer.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn what_is_no_socket_for_datagrams_comes_back() {
    let (reactor, log) = (reactor(), Log::default());
    let refused = |fd: OwnedFd| {
        let error = reactor
            .adopt_datagrams(fd, Diary::new("x", &log))
            .unwrap_err();
        assert!(error.fd.is_some());
        error.problem
    };
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(refused(tcp.into()), AdoptProblem::NotDatagrams));
    let unix = UnixListener::bind(Folder::new().path("stream")).unwrap();
    assert!(matches!(refused(unix.into()), AdoptProblem::NotDatagrams));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(refused(file.into()), AdoptProblem::NotASocket));
    log.check([]);
}

#[test]
fn options_are_set_and_tcps_are_refused() {
    let places = Places::on_the_system();
    let near = places.near(Diary::new("near", &Log::default()));
    near.set_option(SocketOption::TimeToLive(3)).unwrap();
    near.set_option(SocketOption::TrafficClass(8)).unwrap();
    near.set_option(SocketOption::SendBuffer(100_000)).unwrap();
    assert!(near.buffer_sizes().unwrap().0 >= 100_000);
    let refused = near.set_option(SocketOption::NoDelay(true));
    assert!(
        matches!(&refused, Err(DatagramError::Io(error)) if error.kind() == io::ErrorKind::Unsupported),
        "{refused:?}"
    );
}

#[test]
fn ipv6_ports_send_to_ipv6_ports() {
    let (reactor, log) = (reactor(), Log::default());
    let Ok(far) = reactor.listen_udp("[::1]:0", Diary::echo("far", &log)) else {
        // Nobody to tell that this cannot be told.
        let _ = writeln!(io::stderr(), "SKIPPED: this machine has no IPv6");
        return;
    };
    let near = reactor
        .listen_udp("[::1]:0", Diary::new("near", &log))
        .unwrap();
    near.write_to("hello", far.host());
    run_while(&reactor, || log.lines().len() < 4);
    let wrong = near.send_to("x", "127.0.0.1:9");
    assert!(
        matches!(wrong, Err(DatagramError::WrongFamily { .. })),
        "{wrong:?}"
    );
}

#[test]
fn worlds_without_a_network_say_so() {
    let log = Log::default();
    let listening = virtual_time_reactor().listen_udp(":0", Diary::new("x", &log));
    let error = listening.expect_err("there is no network");
    assert!(matches!(error, ListenError::Io { .. }));
    assert!(Unsupported::find(&error).is_some());
    let simulation = Simulation::new(1);
    let host = simulation.host("host");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let adopted = host
        .reactor()
        .adopt_datagrams(socket, Diary::new("x", &log));
    let error = adopted.expect_err("there are no descriptors");
    assert!(Unsupported::find(&error).is_some());
    log.check([]);
}

#[test]
fn a_port_in_the_background_lets_the_loop_come_to_its_end() {
    let (reactor, log) = (reactor(), Log::default());
    let port = reactor
        .listen_udp("127.0.0.1:0", Diary::new("port", &log))
        .unwrap();
    port.set_background(true);
    assert!(port.is_background());
    reactor.run_until_idle().unwrap();
    log.check(["port starts"]);
    let dump = reactor.dump().to_string();
    assert!(dump.contains("UDP port on 127.0.0.1"), "{dump}");
    assert!(dump.contains("system.rs"), "{dump}");
}

/// Whether a wait would end at once.
pub(super) fn has_news(reactor: &Reactor) -> bool {
    let mut fds = [PollFd::new(reactor, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
}

pub(super) fn turns(reactor: &Reactor, count: usize) {
    for _ in 0..count {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_port_that_has_stopped_does_not_keep_the_loop_awake_though_its_socket_lives_on() {
    let (reactor, log) = (reactor(), Log::default());
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.connect(theirs.local_addr().unwrap()).unwrap();
    // Each time the duplicate is likely to have the number that the one before had.
    for _ in 0..3 {
        let diary = Diary::new("adopted", &log);
        let received = diary.received.clone();
        let adopted = reactor.adopt_datagrams(theirs.try_clone().unwrap(), diary);
        near.send(b"ours").unwrap();
        turns(&reactor, 3);
        assert_eq!(received.get(), 1);
        drop(adopted.unwrap().stop_listening());
        turns(&reactor, 1);
        near.send(b"theirs").unwrap();
        turns(&reactor, 3);
        assert!(!has_news(&reactor));
        assert_eq!(theirs.recv(&mut [0; 8]).unwrap(), 6);
        assert_eq!(received.get(), 1);
    }
}

#[test]
fn what_waits_for_a_paused_port_does_not_keep_the_loop_awake() {
    let (reactor, log) = (reactor(), Log::default());
    let far = Diary::new("far", &log);
    let received = far.received.clone();
    let far = reactor.listen_udp("127.0.0.1:0", far).unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.connect(far.host().to_string()).unwrap();
    for _ in 0..3 {
        far.pause_reading();
        near.send(b"x").unwrap();
        near.send(b"y").unwrap();
        turns(&reactor, 3);
        assert!(!has_news(&reactor));
        let before = received.get();
        far.resume_reading();
        turns(&reactor, 3);
        assert_eq!(received.get(), before + 2);
        // And what comes then, alone.
        near.send(b"z").unwrap();
        turns(&reactor, 1);
        assert_eq!(received.get(), before + 3);
        assert!(!has_news(&reactor));
    }
}

#[test]
fn a_socket_that_says_readable_and_is_not_does_not_keep_the_loop_awake() {
    let (reactor, log) = (reactor(), Log::default());
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.connect(peer.local_addr().unwrap()).unwrap();
    peer.connect(theirs.local_addr().unwrap()).unwrap();
    // Linux reports such a socket as readable for ever, and nothing is to be received.
    shutdown(&theirs, Shutdown::Read).unwrap();
    let diary = Diary::new("adopted", &log);
    let received = diary.received.clone();
    let adopted = reactor.adopt_datagrams(theirs, diary).unwrap();
    turns(&reactor, 3);
    assert!(!has_news(&reactor));
    // What comes all the same is received, alone or not.
    for count in [1, 3] {
        let before = received.get();
        for _ in 0..count {
            peer.send(b"x").unwrap();
        }
        turns(&reactor, 3);
        assert_eq!(received.get(), before + count);
        assert!(!has_news(&reactor));
    }
    drop(adopted);
}
