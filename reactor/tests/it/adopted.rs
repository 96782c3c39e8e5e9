//! Sockets that somebody else made.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use torsade_reactor::{Address, AdoptError, AdoptProblem, Reactor, SocketOption, Transport};

use crate::common::{End, Log, is_readable, reactor, run_while};
use crate::unix::Folder;

fn echo(log: &Log) -> impl FnMut(&Address) -> End + 'static {
    let log = log.clone();
    move |_| End::new("server", &log).on_data(|transport, data| transport.write(data))
}

#[test]
fn a_listening_tcp_socket_is_adopted() {
    let (reactor, log) = (reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let port = reactor.adopt_listener(listener, echo(&log)).unwrap();
    assert_eq!(port.address(), address.into());
    let end = End::new("client", &log);
    let received = Rc::clone(&end.received);
    let client = reactor.run_until(reactor.connect_tcp(address, |_| end));
    client.unwrap().write(b"hello");
    run_while(&reactor, || received.borrow().len() < 5);
    drop(port.stop_listening());
    TcpStream::connect(address).expect_err("the socket was ours to close");
}

#[test]
fn the_file_of_an_adopted_unix_socket_stays() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("theirs");
    let listener = UnixListener::bind(&path).unwrap();
    let port = reactor.adopt_listener(listener, echo(&log)).unwrap();
    let end = End::new("client", &log);
    let received = Rc::clone(&end.received);
    let client = reactor.run_until(reactor.connect_unix(port.address(), |_| end));
    client.unwrap().write(b"hello");
    run_while(&reactor, || received.borrow().len() < 5);
    drop(port.stop_listening());
    assert!(path.exists());
}

#[test]
fn connections_are_adopted_with_what_has_come_already() {
    let (reactor, log) = (reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = listener.accept().unwrap().0;
    let (ours, mut unix) = UnixStream::pair().unwrap();
    tcp.write_all(b"before").unwrap();
    unix.write_all(b"before").unwrap();
    let first = reactor.adopt_connection(accepted, echo(&log)).unwrap();
    assert_eq!(first.peer(), tcp.local_addr().unwrap().into());
    assert!(first.stream().socket().nodelay().unwrap());
    let second = reactor.adopt_connection(ours, echo(&log)).unwrap();
    run_while(&reactor, || {
        let received = |transport: &Transport<End>| {
            let count = Rc::new(std::cell::Cell::new(0));
            let seen = Rc::clone(&count);
            transport.call(move |end, _| seen.set(end.received.borrow().len()));
            count.get()
        };
        received(&first) < 6 || received(&second) < 6
    });
    for peer in [&mut tcp as &mut dyn Read, &mut unix] {
        let mut heard = [0; 6];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"before");
    }
}

#[test]
fn what_is_no_such_socket_comes_back_with_what_is_wrong() {
    let reactor = reactor();
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let unconnected = || {
        let family = rustix::net::AddressFamily::INET;
        rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap()
    };
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let datagrams = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix_datagrams = || OwnedFd::from(UnixDatagram::unbound().unwrap());
    let log = Log::default();
    let wrong = |outcome: Result<(), AdoptError>| {
        let error = outcome.expect_err("it is wrong");
        assert!(error.fd.is_some(), "{error}");
        error.problem
    };
    let listen = |fd: OwnedFd| wrong(reactor.adopt_listener(fd, echo(&log)).map(drop));
    let connect = |fd| wrong(reactor.adopt_connection::<End>(fd, echo(&log)).map(drop));
    assert!(matches!(listen(file()), AdoptProblem::NotASocket));
    assert!(matches!(connect(file()), AdoptProblem::NotASocket));
    assert!(matches!(listen(datagrams()), AdoptProblem::NotAStream));
    assert!(matches!(
        connect(unix_datagrams()),
        AdoptProblem::NotAStream
    ));
    assert!(matches!(listen(unconnected()), AdoptProblem::NotListening));
    assert!(matches!(connect(unconnected()), AdoptProblem::NotConnected));
    assert!(matches!(connect(listener()), AdoptProblem::NotConnected));
    log.check([]);
    assert_eq!(reactor.dump().sources.len(), 0);
}

#[test]
fn a_panic_while_an_adopted_connections_protocol_is_built_is_an_error() {
    let reactor = reactor();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let outcome = reactor.adopt_connection::<End>(ours, |_| panic!("no protocol"));
    let problem = outcome.expect_err("it panicked").problem;
    assert!(
        matches!(problem, AdoptProblem::Panicked { .. }),
        "{problem}"
    );
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

fn turns(reactor: &Reactor) {
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// A connection is closed while a duplicate of its descriptor lives on, and its peer writes.
#[track_caller]
fn check_that_nobody_wakes(reactor: &Reactor, transport: &Transport<End>, mut peer: impl Write) {
    turns(reactor);
    transport.abort_connection();
    turns(reactor);
    peer.write_all(b"late").unwrap();
    assert!(!is_readable(reactor, Some(Duration::ZERO)));
}

#[test]
fn a_connection_that_is_closed_does_not_wake_the_loop_though_its_socket_lives_on() {
    let (reactor, log) = (reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    let peer = TcpStream::connect(address).unwrap();
    let theirs = listener.accept().unwrap().0;
    let ours = theirs.try_clone().unwrap();
    let adopted = reactor.adopt_connection(ours, echo(&log)).unwrap();
    check_that_nobody_wakes(&reactor, &adopted, peer);

    let (theirs, peer) = UnixStream::pair().unwrap();
    let ours = theirs.try_clone().unwrap();
    let adopted = reactor.adopt_connection(ours, echo(&log)).unwrap();
    check_that_nobody_wakes(&reactor, &adopted, peer);

    // One of ours, of which somebody has asked for a duplicate.
    let end = End::new("client", &log);
    let connected = reactor.run_until(reactor.connect_tcp(address, |_| end));
    let (connected, peer) = (connected.unwrap(), listener.accept().unwrap().0);
    let theirs = connected.stream().socket().duplicate().unwrap();
    check_that_nobody_wakes(&reactor, &connected, peer);
    drop(theirs);
}

#[test]
fn a_port_that_has_stopped_does_not_wake_the_loop_though_its_socket_lives_on() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(folder.path("theirs")).unwrap();
    let ours: [OwnedFd; 2] = [
        tcp.try_clone().unwrap().into(),
        unix.try_clone().unwrap().into(),
    ];
    for fd in ours {
        let port = reactor.adopt_listener(fd, echo(&log)).unwrap();
        turns(&reactor);
        drop(port.stop_listening());
        turns(&reactor);
    }
    let _tcp = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let _unix = UnixStream::connect(folder.path("theirs")).unwrap();
    assert!(!is_readable(&reactor, Some(Duration::ZERO)));
}

#[test]
fn a_socket_is_adopted_again_under_the_number_that_it_had() {
    let (reactor, log) = (reactor(), Log::default());
    let (theirs, mut peer) = UnixStream::pair().unwrap();
    // Not the lowest that is free, which another test could be given in between.
    let spare = [700, 200].map(|number| rustix::io::fcntl_dupfd_cloexec(&theirs, number));
    let number = match spare {
        [Ok(high), _] => high.as_raw_fd(),
        [Err(_), low] => low.expect("a process may have that many").as_raw_fd(),
    };
    for _ in 0..3 {
        let fd = rustix::io::fcntl_dupfd_cloexec(&theirs, number).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        let end = End::new("adopted", &log);
        let received = Rc::clone(&end.received);
        let adopted = reactor.adopt_connection(fd, |_| end).unwrap();
        peer.write_all(b"x").unwrap();
        turns(&reactor);
        assert_eq!(*received.borrow(), b"x");
        adopted.abort_connection();
        turns(&reactor);
    }
}

/// A TCP connection, both ends of it.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, theirs)
}

/// What a peer reads to the end, if there is one.
fn read_out(mut peer: impl Read) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).map(|_| all)
}

/// A connection over each kind of socket, of which a duplicate lives on, made by its owner or by us.
struct Shared {
    duplicates: Vec<OwnedFd>,
    transports: Vec<Transport<End>>,
    unix: UnixStream,
    tcp: TcpStream,
}

impl Shared {
    fn new(reactor: &Reactor, log: &Log, is_duplicated_by_us: bool) -> Self {
        const LONG: Option<Duration> = Some(Duration::from_secs(5));
        let (ours_unix, unix) = UnixStream::pair().unwrap();
        let (ours_tcp, tcp) = tcp_pair();
        // A read that finds neither bytes nor an end gives up.
        unix.set_read_timeout(LONG).unwrap();
        tcp.set_read_timeout(LONG).unwrap();
        let (mut duplicates, mut transports) = (Vec::new(), Vec::new());
        for socket in [OwnedFd::from(ours_unix), OwnedFd::from(ours_tcp)] {
            let theirs = socket.try_clone().unwrap();
            let transport = reactor.adopt_connection(socket, |_| End::new("ours", log));
            let transport = transport.unwrap();
            duplicates.push(match is_duplicated_by_us {
                true => transport.stream().socket().duplicate().unwrap(),
                false => theirs,
            });
            transports.push(transport);
        }
        Self {
            duplicates,
            transports,
            unix,
            tcp,
        }
    }

    /// Whoever has the duplicates writes a lot and closes them; gives what the peers read.
    fn go_on(self, reactor: &Reactor) -> [io::Result<Vec<u8>>; 2] {
        turns(reactor);
        let writers: Vec<_> = self.duplicates.into_iter().map(write_a_lot).collect();
        let heard = [read_out(self.unix), read_out(self.tcp)];
        for writer in writers {
            writer.join().expect("it writes").expect("it may");
        }
        heard
    }
}

/// Writes 1 MB, as whoever was handed a socket may, and closes it.
fn write_a_lot(socket: OwnedFd) -> thread::JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        // It is a stream, whatever the standard library thinks of it.
        let mut socket = UnixStream::from(socket);
        socket.set_nonblocking(false)?;
        socket.write_all(&vec![b'x'; 1_000_000])
    })
}

#[test]
fn an_orderly_end_is_one_for_the_peer_though_a_duplicate_of_the_socket_lives_on() {
    for is_duplicated_by_us in [false, true] {
        let (reactor, log) = (reactor(), Log::default());
        let shared = Shared::new(&reactor, &log, is_duplicated_by_us);
        for transport in &shared.transports {
            transport.write("last words");
            transport.lose_connection();
        }
        let ended = |line: &String| line.starts_with("ours lost");
        run_while(&reactor, || {
            log.lines().iter().filter(|line| ended(line)).count() < 2
        });
        assert_eq!(read_out(shared.unix).unwrap(), b"last words");
        assert_eq!(read_out(shared.tcp).unwrap(), b"last words");
    }
}

#[test]
fn who_is_handed_a_socket_goes_on_with_it_though_the_reactor_aborts_its_connection() {
    for is_duplicated_by_us in [false, true] {
        let (reactor, log) = (reactor(), Log::default());
        let shared = Shared::new(&reactor, &log, is_duplicated_by_us);
        for transport in &shared.transports {
            transport.abort_connection();
        }
        for heard in shared.go_on(&reactor) {
            assert_eq!(heard.unwrap().len(), 1_000_000);
        }
    }
}

#[test]
fn an_abort_of_a_socket_that_nobody_else_has_is_a_reset_if_it_is_asked_for() {
    for asks in [false, true] {
        let (reactor, log) = (reactor(), Log::default());
        let (ours, theirs) = tcp_pair();
        let adopted = reactor.adopt_connection(ours, |_| End::new("ours", &log));
        let adopted = adopted.unwrap();
        adopted
            .set_option(SocketOption::ResetOnClose(asks))
            .unwrap();
        adopted.abort_connection();
        turns(&reactor);
        let heard = read_out(theirs).map_err(|error| error.kind());
        let expected = match asks {
            true => Err(io::ErrorKind::ConnectionReset),
            false => Ok(Vec::new()),
        };
        assert_eq!(heard, expected);
    }
}

#[test]
fn who_is_handed_a_socket_goes_on_with_it_though_the_reactor_stops() {
    for is_duplicated_by_us in [false, true] {
        let (reactor, log) = (reactor(), Log::default());
        let mut shared = Shared::new(&reactor, &log, is_duplicated_by_us);
        turns(&reactor);
        for transport in &shared.transports {
            transport.write("last words");
            transport.pause_reading();
        }
        // For who comes after.
        shared.unix.write_all(b"request").unwrap();
        shared.tcp.write_all(b"request").unwrap();
        reactor.stop();
        run_while(&reactor, || log.lines().len() < 4);
        for duplicate in &shared.duplicates {
            let mut request = [0; 7];
            let count = rustix::io::read(duplicate, &mut request).unwrap();
            assert_eq!(request[..count], *b"request");
        }
        for heard in shared.go_on(&reactor) {
            let heard = heard.unwrap();
            assert!(heard.starts_with(b"last wordsx"));
            assert_eq!(heard.len(), 1_000_010);
        }
    }
}

#[test]
fn an_orderly_end_of_an_accepted_connection_with_a_duplicate_is_one_for_the_peer() {
    let (reactor, log) = (reactor(), Log::default());
    let duplicates = Rc::new(RefCell::new(Vec::new()));
    let (kept, to_log) = (Rc::clone(&duplicates), log.clone());
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| {
        let kept = Rc::clone(&kept);
        End::new("server", &to_log).on_made(move |transport| {
            let duplicate = transport.stream().socket().duplicate().unwrap();
            kept.borrow_mut().push(duplicate);
            transport.lose_connection();
        })
    });
    let peer = TcpStream::connect(port.unwrap().address().to_string()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Done"]);
    assert_eq!(read_out(peer).unwrap(), b"");
}
