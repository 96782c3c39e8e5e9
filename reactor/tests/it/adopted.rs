//! Sockets that somebody else made.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::{Address, AdoptError, AdoptProblem};

use crate::common::{End, Log, reactor, run_while};
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
        let received = |transport: &torsade_reactor::Transport<End>| {
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
