//! What only UNIX sockets for datagrams have: files, names, receivers without room.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

use torsade_reactor::testing::{Simulation, virtual_time_reactor};
use torsade_reactor::{
    Address, Capability, ConnectError, DatagramError, DatagramLimits, DatagramOptions,
    DatagramTransport, ListenError, Reactor, SocketOption, UnixAddress, Unsupported,
};

use crate::common::{End, Log, reactor, run_while};
use crate::udp::system::{has_news, turns};
use crate::udp::{Diary, Places};
use crate::unix::Folder;

fn listen(
    reactor: &Reactor,
    path: &Path,
    protocol: Diary,
) -> Result<DatagramTransport<Diary>, ListenError> {
    reactor.listen_unix_datagrams(path, protocol)
}

#[track_caller]
fn run_until(reactor: &Reactor, log: &Log, line: &str) {
    run_while(reactor, || !log.lines().iter().any(|said| said == line));
}

/// What a socket of the standard library is given next.
fn heard(socket: &UnixDatagram) -> String {
    let limit = Some(Duration::from_secs(10));
    socket.set_read_timeout(limit).expect("it is a time");
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("it comes");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn the_file_of_a_port_goes_with_it() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("socket");
    let options = DatagramOptions::new().mode(0o600);
    let port = reactor
        .listen_unix_datagrams_with(&path, &options, Diary::new("port", &log))
        .unwrap();
    assert_eq!(port.host(), UnixAddress::Path(path.clone()).into());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let dump = reactor.dump().to_string();
    assert!(dump.contains("UNIX datagram port on unix:"), "{dump}");
    drop(port.stop_listening());
    assert!(!path.exists());
    // More than the umask leaves, where it is asked for.
    let options = DatagramOptions::new().mode(0o777);
    let port = reactor
        .listen_unix_datagrams_with(&path, &options, Diary::new("port", &log))
        .unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    drop(port);
}

#[test]
fn a_file_that_nobody_has_gives_way_and_nothing_else_does() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let refused = |path: &Path| {
        let error = listen(&reactor, path, Diary::new("x", &log)).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    };
    let path = folder.path("left");
    drop(UnixDatagram::bind(&path).unwrap());
    let port = listen(&reactor, &path, Diary::new("port", &log)).unwrap();
    UnixDatagram::unbound()
        .unwrap()
        .send_to(b"hello", &path)
        .unwrap();
    run_until(&reactor, &log, "port gets hello");
    refused(&path);
    let theirs = folder.path("theirs");
    let _theirs = UnixDatagram::bind(&theirs).unwrap();
    refused(&theirs);
    let stream = folder.path("stream");
    let listener = UnixListener::bind(&stream).unwrap();
    refused(&stream);
    let nobody = log.clone();
    let streams = reactor.listen_unix(&stream, move |_: &Address| End::new("x", &nobody));
    assert!(matches!(streams, Err(ListenError::InUse { .. })));
    // Whoever listens there is not disturbed.
    listener.set_nonblocking(true).unwrap();
    let visitor = listener.accept().unwrap_err();
    assert_eq!(visitor.kind(), ErrorKind::WouldBlock);
    let file = folder.path("file");
    File::create(&file).unwrap();
    refused(&file);
    assert!(file.exists());
    // What has taken the place of our file meanwhile is left there.
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    drop(port.stop_listening());
    assert!(path.exists());
}

#[test]
fn who_has_no_name_is_heard_and_cannot_be_answered() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("far");
    let far = Diary::echo("far", &log);
    let from = far.last_from.clone();
    let _far = listen(&reactor, &path, far).unwrap();
    let near = reactor
        .connect_unix_datagrams(&path, Diary::new("near", &log))
        .unwrap();
    assert_eq!(near.host(), UnixAddress::Unnamed.into());
    assert_eq!(near.peer(), Some(UnixAddress::Path(path.clone()).into()));
    near.send("hello").unwrap();
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(*from.borrow(), Some(UnixAddress::Unnamed.into()));
    let lines = log.lines();
    assert_eq!(lines[..3], ["far starts", "near starts", "far gets hello"]);
    assert!(lines[3].contains("far hears: \"unix:(unnamed)\" is not an address"));
}

#[test]
fn a_name_of_the_systems_choosing_is_enough_for_an_answer() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("far");
    let _far = listen(&reactor, &path, Diary::echo("far", &log)).unwrap();
    let options = DatagramOptions::new().local_address(UnixAddress::Abstract(Box::from(&b""[..])));
    let near = reactor
        .connect_unix_datagrams_with(&path, &options, Diary::new("near", &log))
        .unwrap();
    assert!(
        matches!(near.host(), Address::Unix(UnixAddress::Abstract(name)) if !name.is_empty()),
        "{near:?}"
    );
    near.send("hello").unwrap();
    run_until(&reactor, &log, "near gets hello");
    // With a file, which goes with the port.
    let own = folder.path("near");
    let options = DatagramOptions::new().local_address(UnixAddress::Path(own.clone()));
    let named = reactor
        .connect_unix_datagrams_with(&path, &options, Diary::new("named", &log))
        .unwrap();
    named.send("again").unwrap();
    run_until(&reactor, &log, "named gets again");
    // Who is connected hears nobody else, and others are told.
    let stranger = folder.path("stranger");
    let stranger = listen(&reactor, &stranger, Diary::new("stranger", &log)).unwrap();
    let refused = stranger.send_to("x", &own);
    assert!(
        matches!(refused, Err(DatagramError::NotPermitted { .. })),
        "{refused:?}"
    );
    drop(named.stop_listening());
    assert!(!own.exists());
}

#[test]
fn an_abstract_name_needs_no_file() {
    let (reactor, log) = (reactor(), Log::default());
    let name = format!("torsade-datagrams-{}", std::process::id());
    let address = format!("@{name}");
    let far = reactor
        .listen_unix_datagrams(&address, Diary::echo("far", &log))
        .unwrap();
    assert_eq!(
        far.host(),
        UnixAddress::Abstract(name.as_bytes().into()).into()
    );
    let peer = UnixDatagram::unbound().unwrap();
    let peer_name = SocketAddr::from_abstract_name(format!("{name}-peer")).unwrap();
    drop(peer);
    let peer = UnixDatagram::bind_addr(&peer_name).unwrap();
    let to = SocketAddr::from_abstract_name(&name).unwrap();
    peer.send_to_addr(b"hello", &to).unwrap();
    run_until(&reactor, &log, "far gets hello");
    assert_eq!(heard(&peer), "hello");
    far.write_to("by name", format!("@{name}-peer"));
    assert_eq!(heard(&peer), "by name");
}

#[test]
fn a_peer_that_is_not_there_is_named_in_the_error() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let connect = |path: &Path| {
        let connected = reactor.connect_unix_datagrams(path, Diary::new("x", &log));
        connected.expect_err("nobody is there")
    };
    let missing = connect(&folder.path("missing"));
    assert!(
        matches!(&missing, ConnectError::Io { source, .. } if source.kind() == ErrorKind::NotFound),
        "{missing}"
    );
    let left = folder.path("left");
    drop(UnixDatagram::bind(&left).unwrap());
    let refused = connect(&left);
    assert!(
        matches!(&refused, ConnectError::Refused { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("/left"));
    let long = connect(Path::new(&"x".repeat(200)));
    assert!(matches!(long, ConnectError::Address(_)), "{long}");
    // The name that we want for ourselves.
    let _live = UnixDatagram::bind(folder.path("live")).unwrap();
    let options = DatagramOptions::new().local_address(UnixAddress::Path(folder.path("live")));
    let taken =
        reactor.connect_unix_datagrams_with(folder.path("live"), &options, Diary::new("x", &log));
    let taken = taken.expect_err("somebody has it").to_string();
    assert!(taken.contains(" from unix:"), "{taken}");
    log.check([]);
}

#[test]
fn a_peer_that_goes_is_told_and_one_that_comes_in_its_place_is_sent_to() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("far");
    let far = listen(&reactor, &path, Diary::new("far", &log)).unwrap();
    let near = reactor
        .connect_unix_datagrams(&path, Diary::new("near", &log))
        .unwrap();
    near.write("one");
    run_until(&reactor, &log, "far gets one");
    drop(far.stop_listening());
    near.write("lost");
    run_until(&reactor, &log, "near is refused");
    let lost = near.send("lost, too");
    assert!(
        matches!(lost, Err(DatagramError::Refused { .. })),
        "{lost:?}"
    );
    let _again = listen(&reactor, &path, Diary::new("again", &log)).unwrap();
    near.write("two");
    run_until(&reactor, &log, "again gets two");
    log.check([
        "far starts",
        "near starts",
        "far gets one",
        "far stops",
        "near is refused",
        "again starts",
        "again gets two",
    ]);
}

#[test]
fn who_is_not_connected_is_told_at_once_of_a_socket_that_is_not_there() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let near = listen(&reactor, &folder.path("near"), Diary::new("near", &log)).unwrap();
    let missing = near.send_to("x", folder.path("missing"));
    assert!(
        matches!(&missing, Err(DatagramError::Refused { source, .. })
            if source.kind() == ErrorKind::NotFound),
        "{missing:?}"
    );
    let left = folder.path("left");
    drop(UnixDatagram::bind(&left).unwrap());
    let refused = near.send_to("x", &left);
    assert!(
        matches!(&refused, Err(DatagramError::Refused { source, .. })
            if source.kind() == ErrorKind::ConnectionRefused),
        "{refused:?}"
    );
    near.write_to("x", &left);
    run_while(&reactor, || log.lines().len() < 2);
    assert!(log.lines()[1].starts_with("near hears: nobody listens at unix:"));
    let connected = near.connect(&left);
    assert!(
        matches!(connected, Err(DatagramError::Refused { .. })),
        "{connected:?}"
    );
    assert_eq!(near.peer(), None);
}

/// Fills the queue of a socket, however long it is: each sender has a buffer of its own that would be
/// full before.
fn fill(path: &Path) {
    loop {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let taken = (0..).take_while(|_| sender.send_to(b"x", path).is_ok());
        if taken.count() == 0 {
            return;
        }
    }
}

#[test]
fn a_receiver_that_never_reads_keeps_neither_the_loop_nor_the_others() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let (full, other) = (folder.path("full"), folder.path("other"));
    let theirs = UnixDatagram::bind(&full).unwrap();
    let others = UnixDatagram::bind(&other).unwrap();
    let limits = DatagramLimits {
        wait_max: Duration::from_millis(300),
        ..DatagramLimits::default()
    };
    let options = DatagramOptions::new().limits(limits);
    let near = reactor
        .listen_unix_datagrams_with(folder.path("near"), &options, Diary::new("near", &log))
        .unwrap();
    fill(&full);
    for _ in 0..3 {
        near.send_to("x", &full).unwrap();
    }
    assert_eq!(near.unsent(), 3);
    near.send_to("hello", &other).unwrap();
    assert_eq!(heard(&others), "hello");
    // A socket that waits so is writable all the time, as far as the system can say.
    let mut turns = 0;
    while near.unsent() > 0 {
        reactor.turn(Some(Duration::from_secs(10))).unwrap();
        turns += 1;
        assert!(turns < 30, "in 300 ms");
    }
    let lines = log.lines();
    assert!(
        lines[1].contains("/full took nothing for 300ms, and 3 datagrams"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2);
    assert!(!has_news(&reactor));
    drop(theirs);
}

#[test]
fn what_waits_for_a_receiver_comes_when_it_reads() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("far");
    let far = UnixDatagram::bind(&path).unwrap();
    let (paired, pair) = UnixDatagram::pair().unwrap();
    let options = DatagramOptions::new().local_address(UnixAddress::Path(folder.path("named")));
    let ports = [
        (
            listen(&reactor, &folder.path("near"), Diary::new("near", &log)).unwrap(),
            &far,
        ),
        (
            reactor
                .connect_unix_datagrams(&path, Diary::new("connected", &log))
                .unwrap(),
            &far,
        ),
        (
            reactor
                .connect_unix_datagrams_with(&path, &options, Diary::new("named", &log))
                .unwrap(),
            &far,
        ),
        // Its peer's queue has no bound but our own buffer.
        (
            reactor
                .adopt_datagrams(paired, Diary::new("paired", &log))
                .unwrap(),
            &pair,
        ),
    ];
    for (port, theirs) in ports {
        theirs.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while port.unsent() < 20 {
            match port.peer() {
                Some(_) => port.send(sent.to_string()),
                None => port.send_to(sent.to_string(), &path),
            }
            .unwrap();
            sent += 1;
        }
        let (mut read, mut turned, mut buffer) = (0, 0, [0; 8]);
        while read < sent {
            match theirs.recv(&mut buffer) {
                Ok(length) => {
                    assert_eq!(buffer[..length], *read.to_string().as_bytes());
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    reactor.turn(Some(Duration::from_secs(10))).unwrap();
                    turned += 1;
                    assert!(turned < 100, "{read} of {sent}");
                }
            }
        }
        assert_eq!(port.unsent(), 0);
        turns(&reactor, 2);
        assert!(!has_news(&reactor));
        // Nothing is left that would ask again.
        assert_eq!(reactor.dump().delayed_calls.len(), 0);
        drop(port.stop_listening());
    }
    let lines = log.lines();
    assert!(
        lines
            .iter()
            .all(|line| line.ends_with("starts") || line.ends_with("stops")),
        "{lines:?}"
    );
}

#[test]
fn datagrams_longer_than_udps_are_taken_by_who_asks_for_them() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let near = listen(&reactor, &folder.path("near"), Diary::new("near", &log)).unwrap();
    let usual = folder.path("usual");
    let usual = listen(&reactor, &usual, Diary::new("usual", &log)).unwrap();
    let options = DatagramOptions::new().datagram_max(150_000);
    let long = reactor
        .listen_unix_datagrams_with(folder.path("long"), &options, Diary::new("long", &log))
        .unwrap();
    for to in [&usual, &long] {
        for length in [65_535, 65_793, 150_000, 150_001] {
            near.send_to(vec![b'x'; length], to.host()).unwrap();
            turns(&reactor, 2);
        }
    }
    log.check([
        "near starts",
        "usual starts",
        "long starts",
        "usual gets 65535 bytes",
        "usual gets 65535 bytes of 65793",
        "usual gets 65535 bytes of 150000",
        "usual gets 65535 bytes of 150001",
        "long gets 65535 bytes",
        "long gets 65793 bytes",
        "long gets 150000 bytes",
        "long gets 150000 bytes of 150001",
    ]);
    // More than there is, if nobody minded it.
    let options = DatagramOptions::new().datagram_max(usize::MAX);
    let _longest = reactor
        .listen_unix_datagrams_with(folder.path("any"), &options, Diary::new("any", &log))
        .unwrap();
    near.send_to("x", folder.path("any")).unwrap();
    run_until(&reactor, &log, "any gets x");
    let refused = near.send_to(vec![b'x'; 64 << 20], usual.host());
    assert!(
        matches!(refused, Err(DatagramError::TooLong { length }) if length == 64 << 20),
        "{refused:?}"
    );
}

#[test]
fn unix_sockets_of_somebody_else_are_adopted_and_their_files_stay() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("theirs");
    let theirs = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"before", &path).unwrap();
    let adopted = reactor
        .adopt_datagrams(theirs, Diary::new("adopted", &log))
        .unwrap();
    assert_eq!(adopted.host(), UnixAddress::Path(path.clone()).into());
    assert_eq!(adopted.peer(), None);
    run_until(&reactor, &log, "adopted gets before");
    // One without a name, to send to whomever.
    let unbound = reactor
        .adopt_datagrams(sender, Diary::new("unbound", &log))
        .unwrap();
    unbound.send_to("hello", &path).unwrap();
    run_until(&reactor, &log, "adopted gets hello");
    drop(adopted.stop_listening());
    assert!(path.exists());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let pair = reactor
        .adopt_datagrams(ours, Diary::new("pair", &log))
        .unwrap();
    assert_eq!(pair.peer(), Some(UnixAddress::Unnamed.into()));
    theirs.send(b"there").unwrap();
    run_until(&reactor, &log, "pair gets there");
    pair.send("back").unwrap();
    assert_eq!(heard(&theirs), "back");
    drop(theirs);
    for _ in 0..2 {
        let gone = pair.send("nobody");
        assert!(
            matches!(gone, Err(DatagramError::Refused { .. })),
            "{gone:?}"
        );
    }
    turns(&reactor, 2);
    assert!(!has_news(&reactor));
}

#[test]
fn a_port_that_is_disconnected_hears_all_again() {
    let places = Places::with_unix_sockets();
    let log = Log::default();
    let near = places.near(Diary::new("near", &log));
    let far = places.far(Diary::new("far", &log));
    let stranger = places.near(Diary::new("stranger", &log));
    far.disconnect().unwrap();
    far.connect(near.host()).unwrap();
    near.send_to("one", far.host()).unwrap();
    places.run_until(&log, "far gets one");
    stranger.send_to("x", far.host()).unwrap_err();
    far.disconnect().unwrap();
    assert_eq!(far.peer(), None);
    stranger.send_to("two", far.host()).unwrap();
    places.run_until(&log, "far gets two");
    far.connect(stranger.host()).unwrap();
    far.write("back");
    places.run_until(&log, "stranger gets back");
}

#[test]
fn what_is_ips_alone_is_refused() {
    let places = Places::with_unix_sockets();
    let near = places.near(Diary::new("near", &Log::default()));
    let unsupported = |outcome: Result<(), DatagramError>| {
        let kind = match &outcome {
            Err(DatagramError::Io(error) | DatagramError::Membership { source: error, .. }) => {
                error.kind()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, ErrorKind::Unsupported);
    };
    unsupported(near.set_option(SocketOption::TimeToLive(3)));
    unsupported(near.set_option(SocketOption::NoDelay(true)));
    unsupported(near.set_option(SocketOption::ResetOnClose(true)));
    unsupported(near.set_broadcast(true));
    unsupported(near.set_multicast_ttl(1));
    unsupported(near.join_group(Ipv4Addr::new(239, 255, 77, 7)));
    near.set_option(SocketOption::SendBuffer(100_000)).unwrap();
    assert!(near.buffer_sizes().unwrap().0 >= 100_000);
    let elsewhere = near.send_to("x", (Ipv4Addr::LOCALHOST, 9));
    assert!(
        matches!(elsewhere, Err(DatagramError::Address(_))),
        "{elsewhere:?}"
    );
}

#[test]
fn what_waits_for_a_paused_unix_port_does_not_keep_the_loop_awake() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("far");
    let far = listen(&reactor, &path, Diary::new("far", &log)).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    for _ in 0..3 {
        far.pause_reading();
        sender.send_to(b"x", &path).unwrap();
        turns(&reactor, 3);
        assert!(!has_news(&reactor));
        let before = log.lines().len();
        far.resume_reading();
        turns(&reactor, 3);
        assert_eq!(log.lines().len(), before + 1);
    }
}

#[test]
fn a_flood_of_datagrams_is_read_in_shares() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let far = Diary::new("far", &log);
    let received = far.received.clone();
    let _far = reactor.adopt_datagrams(ours, far).unwrap();
    // A pair has no bound but its buffers.
    let sent = (0..200).take_while(|_| theirs.send(b"x").is_ok()).count();
    assert!(sent > 64, "{sent}");
    turns(&reactor, 1);
    assert_eq!(received.get(), 64);
    turns(&reactor, 10);
    assert_eq!(received.get(), sent);
    drop(folder);
}

#[test]
fn virtual_time_has_no_unix_sockets_and_says_so() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let diary = || Diary::new("x", &log);
    let listening = reactor.listen_unix_datagrams("/run/x", diary());
    let error = listening.expect_err("there are none");
    let lacking = Unsupported::find(&error).expect("it is the world that has none");
    assert_eq!(lacking.capability(), Capability::UnixDatagrams);
    let connected = reactor.connect_unix_datagrams("/run/x", diary());
    let error = connected.expect_err("there are none");
    assert!(Unsupported::find(&error).is_some());
    log.check([]);
}

/// Lets a simulated host go on.
fn pass(simulation: &Simulation) {
    simulation.run_for(Duration::from_millis(50));
}

#[test]
fn simulated_hosts_have_unix_sockets_of_their_own() {
    let (simulation, log) = (Simulation::new(7), Log::default());
    let (one, other) = (simulation.host("one"), simulation.host("other"));
    let path = Path::new("/run/log");
    let echo = listen(&one.reactor(), path, Diary::echo("echo", &log)).unwrap();
    let elsewhere = other
        .reactor()
        .connect_unix_datagrams(path, Diary::new("x", &log));
    assert!(matches!(elsewhere, Err(ConnectError::Io { .. })));
    let taken = listen(&one.reactor(), path, Diary::new("x", &log));
    assert!(matches!(taken, Err(ListenError::InUse { .. })));
    let any = UnixAddress::Abstract(Box::from(&b""[..]));
    let options = DatagramOptions::new().local_address(any);
    let near = one
        .reactor()
        .connect_unix_datagrams_with(path, &options, Diary::new("near", &log))
        .unwrap();
    near.send("hello").unwrap();
    pass(&simulation);
    log.check([
        "echo starts",
        "near starts",
        "echo gets hello",
        "near gets hello",
    ]);
    let stranger = listen(&one.reactor(), Path::new("x"), Diary::new("stranger", &log)).unwrap();
    let refused = stranger.send_to("x", near.host());
    assert!(
        matches!(refused, Err(DatagramError::NotPermitted { .. })),
        "{refused:?}"
    );
    // It goes, and another one comes in its place.
    drop(echo.stop_listening());
    let gone = near.send("lost");
    assert!(
        matches!(gone, Err(DatagramError::Refused { .. })),
        "{gone:?}"
    );
    let _again = listen(&one.reactor(), path, Diary::new("again", &log)).unwrap();
    near.send("found").unwrap();
    pass(&simulation);
    assert_eq!(
        log.lines().last().map(String::as_str),
        Some("again gets found")
    );
    // So it does when the whole host crashes.
    one.crash();
    one.restart();
    pass(&simulation);
    let after = listen(&one.reactor(), path, Diary::new("after", &log));
    assert!(after.is_ok(), "{after:?}");
}

#[test]
fn a_simulated_receiver_has_as_little_room_as_a_real_one() {
    let (simulation, log) = (Simulation::new(7), Log::default());
    let host = simulation.host("host");
    let (reactor, path) = (host.reactor(), Path::new("/run/far"));
    let far = Diary::new("far", &log);
    let received = far.received.clone();
    let far = listen(&reactor, path, far).unwrap();
    let near = Diary::new("near", &log);
    let ports = [
        listen(&reactor, Path::new("/run/near"), near).unwrap(),
        reactor
            .connect_unix_datagrams(path, Diary::new("connected", &log))
            .unwrap(),
    ];
    for port in ports {
        far.pause_reading();
        pass(&simulation);
        for _ in 0..50 {
            port.send_to("x", path).unwrap();
        }
        pass(&simulation);
        assert_eq!(port.unsent(), 50 - 11);
        let before = received.get();
        far.resume_reading();
        simulation.run_for(Duration::from_secs(1));
        assert_eq!((port.unsent(), received.get() - before), (0, 50));
        // What is long uses our own room up, also where the receiver has some.
        far.pause_reading();
        pass(&simulation);
        for _ in 0..4 {
            port.send_to(vec![b'x'; 60_000], path).unwrap();
        }
        pass(&simulation);
        assert_eq!(port.unsent(), 1);
        far.resume_reading();
        simulation.run_for(Duration::from_secs(1));
        assert_eq!(port.unsent(), 0);
        let long = port.send_to(vec![0; 212_961], path);
        assert!(
            matches!(long, Err(DatagramError::TooLong { .. })),
            "{long:?}"
        );
    }
}
