//! UNIX sockets: their files, their peers, and the descriptors that they carry.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use torsade_reactor::{Address, ConnectError, ListenError, Port, Reactor, Transport, UnixAddress};

use crate::common::{End, Log, connect, reactor, run_while};
use crate::traced::{log_file, traced};

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("torsade-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("there is room");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two ends that a UNIX socket connects.
fn pair(reactor: &Reactor, first: End, second: End) -> (Transport<End>, Transport<End>) {
    reactor
        .connect_pair(|_| first, |_| second)
        .expect("there are descriptors left")
}

fn listen(reactor: &Reactor, path: &PathBuf) -> Result<Port, ListenError> {
    let log = Log::default();
    reactor.listen_unix(path, move |_: &Address| End::new("server", &log))
}

#[test]
fn bytes_go_both_ways_and_the_file_goes_with_the_port() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path("echo");
    let server = log.clone();
    let port = reactor
        .listen_unix(&path, move |peer: &Address| {
            assert_eq!(*peer, Address::Unix(UnixAddress::Unnamed));
            End::new("server", &server).on_data(|transport, data| transport.write(data))
        })
        .unwrap();
    assert_eq!(port.address(), UnixAddress::Path(path.clone()).into());
    let end = End::new("client", &log).on_data(|transport, _| transport.lose_connection());
    let received = Rc::clone(&end.received);
    let client = reactor
        .run_until(reactor.connect_unix(&path, |_| end))
        .unwrap();
    assert_eq!(client.peer(), port.address());
    client.write(b"there and back");
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(*received.borrow(), b"there and back");
    let ends = ["client lost: Done", "server lost: Done"];
    assert!(
        ends.iter()
            .all(|end| log.lines().iter().any(|line| line == end))
    );
    assert!(path.exists());
    drop(port.stop_listening());
    assert!(!path.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_in_the_abstract_namespace_leaves_no_file() {
    let (reactor, log) = (reactor(), Log::default());
    let name = format!("@torsade-test-{}", std::process::id());
    let server = log.clone();
    let port = reactor
        .listen_unix(&name, move |_: &Address| End::new("server", &server))
        .unwrap();
    assert_eq!(port.address().to_string(), format!("unix:{name}"));
    let again = reactor.listen_unix(&name, |_: &Address| None::<End>);
    assert!(matches!(again, Err(ListenError::InUse { .. })));
    let end = End::new("client", &log);
    drop(reactor.run_until(reactor.connect_unix(port.address(), |_| end)));
    run_while(&reactor, || log.lines().len() < 2);
    assert!(!PathBuf::from(&name).exists());
}

#[test]
fn a_path_that_is_too_long_is_an_error_and_nothing_is_cut_off() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let path = folder.path(&"x".repeat(108));
    match listen(&reactor, &path) {
        Err(ListenError::Address(error)) => assert!(error.is_too_long()),
        other => panic!("{other:?}"),
    }
    let end = End::new("client", &log);
    let outcome = reactor.run_until(reactor.connect_unix(&path, |_| end));
    match outcome.expect_err("it is too long").trap::<ConnectError>() {
        Ok(ConnectError::Address(error)) => assert!(error.is_too_long()),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn nobody_there_and_nobody_listening_are_told_apart() {
    let (reactor, log, folder) = (reactor(), Log::default(), Folder::new());
    let connect = |name: &str| {
        let path = folder.path(name);
        let end = End::new("client", &log);
        let outcome = reactor.run_until(reactor.connect_unix(&path, |_| end));
        outcome
            .expect_err("nobody answers")
            .trap::<ConnectError>()
            .expect("it is one")
    };
    assert!(
        matches!(connect("none"), ConnectError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    );
    drop(UnixListener::bind(folder.path("stale")).unwrap());
    assert!(matches!(connect("stale"), ConnectError::Refused { .. }));
}

#[test]
fn the_file_of_a_server_that_is_gone_gives_way() {
    let (reactor, folder) = (reactor(), Folder::new());
    let path = folder.path("stale");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let port = listen(&reactor, &path).unwrap();
    UnixStream::connect(&path).expect("it listens");
    drop(port.stop_listening());
}

#[test]
fn nothing_that_is_in_use_gives_way() {
    let (reactor, folder) = (reactor(), Folder::new());
    let (alive, file) = (folder.path("alive"), folder.path("file"));
    let listener = UnixListener::bind(&alive).unwrap();
    fs::write(&file, "precious").unwrap();
    for path in [&alive, &file] {
        assert!(matches!(
            listen(&reactor, path),
            Err(ListenError::InUse { .. })
        ));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    drop(listener);
}

#[test]
fn of_many_that_come_upon_a_stale_file_at_once_one_listens() {
    const ROUNDS: usize = 20;
    const SERVERS: usize = 4;
    let folder = Folder::new();
    for round in 0..ROUNDS {
        let path = folder.path(&format!("stale-{round}"));
        drop(UnixListener::bind(&path).unwrap());
        let (barrier, (tx, rx)) = (Arc::new(Barrier::new(SERVERS)), mpsc::channel());
        thread::scope(|scope| {
            for _ in 0..SERVERS {
                let (barrier, path, tx) = (Arc::clone(&barrier), path.clone(), tx.clone());
                scope.spawn(move || {
                    let reactor = reactor();
                    barrier.wait();
                    let listening = listen(&reactor, &path);
                    tx.send(listening.is_ok()).unwrap();
                    // Nobody goes before all have tried; the winner's file is reachable.
                    barrier.wait();
                    if listening.is_ok() {
                        UnixStream::connect(&path).expect("the winner listens");
                    }
                });
            }
        });
        assert_eq!(rx.try_iter().filter(|listens| *listens).count(), 1);
    }
}

#[test]
fn a_file_that_is_not_the_ports_own_any_more_stays() {
    let (reactor, folder) = (reactor(), Folder::new());
    let path = folder.path("socket");
    let port = listen(&reactor, &path).unwrap();
    fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    drop(port.stop_listening());
    assert!(path.exists());
    drop(successor);
}

#[test]
fn credentials_are_those_of_the_process_at_the_other_end() {
    let (reactor, log) = (reactor(), Log::default());
    let (first, _second) = pair(&reactor, End::new("first", &log), End::new("second", &log));
    let found = first.stream().socket().peer_credentials().unwrap();
    assert_eq!(found.uid, rustix::process::getuid().as_raw());
    assert_eq!(found.gid, rustix::process::getgid().as_raw());
    assert_eq!(found.pid, Some(std::process::id()));

    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let none = pair.client.stream().socket().peer_credentials();
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn everything_written_before_the_end_arrives_though_both_write() {
    let (reactor, log) = (reactor(), Log::default());
    let many = vec![b'x'; 3_000_000];
    let first = End::new("first", &log);
    let (sent, received) = (many.len(), Rc::clone(&first.received));
    let (first, second) = pair(&reactor, first, End::new("second", &log));
    // Unread bytes in the way of the one that closes.
    first.write(&many);
    second.write(&many);
    second.lose_connection();
    let has = |line: &str| log.lines().iter().any(|found| found == line);
    run_while(&reactor, || !has("first lost: Done"));
    assert_eq!(received.borrow().len(), sent);
    assert!(has("second lost: Done"));
}

/// An end that takes descriptors, and what it reads from each: what came with how many
/// bytes before it.
fn taker(name: &'static str, log: &Log, max: usize) -> (End, Rc<RefCell<Vec<OwnedFd>>>) {
    let taken = Rc::new(RefCell::new(Vec::new()));
    let takes = Rc::clone(&taken);
    let seen = log.clone();
    let end = End::new(name, log)
        .on_made(move |transport| {
            transport
                .stream()
                .socket()
                .accept_descriptors(max)
                .expect("it is a UNIX socket");
        })
        .on_data(move |transport, data| {
            let socket = transport.stream().socket();
            let mut count = 0;
            while let Some(fd) = socket.take_descriptor() {
                takes.borrow_mut().push(fd);
                count += 1;
            }
            seen.add(format!("{} with {count}", data.escape_ascii()));
        });
    (end, taken)
}

/// A pipe: one end to send, the other to see what becomes of that.
fn pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = io::pipe().expect("there are descriptors left");
    (reader, writer.into())
}

fn is_closed(mut reader: PipeReader) -> bool {
    rustix::io::ioctl_fionbio(&reader, true).expect("it is open");
    matches!(reader.read(&mut [0]), Ok(0))
}

#[test]
fn descriptors_come_with_the_byte_that_was_written_after_them() {
    let (reactor, log) = (reactor(), Log::default());
    let (end, taken) = taker("taker", &log, 8);
    let (sender, _taker) = pair(&reactor, End::new("sender", &log), end);
    let (mut readers, mut count) = (Vec::new(), 0);
    let mut send = || {
        let (reader, writer) = pipe();
        let socket = sender.stream().socket();
        socket.send_descriptor(writer).expect("there is room");
        readers.push(reader);
        count += 1;
    };
    sender.write(b"a");
    send();
    sender.write(b"b");
    send();
    send();
    sender.write(b"c");
    run_while(&reactor, || taken.borrow().len() < 3);
    let lines = log.lines();
    let data: Vec<_> = lines.iter().filter(|line| line.contains("with")).collect();
    assert_eq!(
        data,
        ["ab with 1", "c with 2"],
        "the first has a byte in front"
    );
    for (reader, fd) in readers.iter_mut().zip(taken.take()) {
        let mut writer = io::PipeWriter::from(fd);
        writer.write_all(b"x").expect("it is the other end");
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("it was written");
        drop(writer);
        assert_eq!(reader.read(&mut byte).expect("it is open"), 0);
    }
}

#[test]
fn descriptors_that_nobody_claims_are_closed_with_the_connection() {
    let (reactor, log) = (reactor(), Log::default());
    let end = End::new("taker", &log).on_made(|transport| {
        let socket = transport.stream().socket();
        socket.accept_descriptors(8).expect("it is a UNIX socket");
    });
    let received = Rc::clone(&end.received);
    let (sender, taker) = pair(&reactor, End::new("sender", &log), end);
    let (reader, writer) = pipe();
    let socket = sender.stream().socket();
    socket.send_descriptor(writer).expect("there is room");
    sender.write(b"a");
    run_while(&reactor, || received.borrow().is_empty());
    assert!(!is_closed(reader.try_clone().unwrap()));
    taker.abort_connection();
    run_while(&reactor, || taker.is_connected() || log.lines().len() < 3);
    assert!(is_closed(reader));
}

#[test]
fn more_descriptors_than_were_allowed_end_the_connection() {
    let (reactor, log) = (reactor(), Log::default());
    let end = End::new("taker", &log).on_made(|transport| {
        let socket = transport.stream().socket();
        socket.accept_descriptors(2).expect("it is a UNIX socket");
    });
    let (sender, _taker) = pair(&reactor, End::new("sender", &log), end);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (reader, writer) = pipe();
        readers.push(reader);
        let socket = sender.stream().socket();
        socket.send_descriptor(writer).expect("there is room");
        sender.write(b"a");
    }
    let lost = "taker lost: QuotaExceeded".to_owned();
    run_while(&reactor, || !log.lines().contains(&lost));
    assert!(readers.into_iter().all(is_closed));
}

/// Sends these bytes and the one end of a pipe, and gives the other.
fn send_one(socket: &UnixStream, data: &[u8]) -> PipeReader {
    let (reader, writer) = pipe();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [writer.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let data = [IoSlice::new(data)];
    sendmsg(socket, &data, &mut control, SendFlags::empty()).unwrap();
    reader
}

#[test]
fn descriptors_that_come_while_the_rest_is_sent_are_closed_and_the_rest_is_sent() {
    const ANSWER: usize = 4 << 20;
    let (reactor, log) = (reactor(), Log::default());
    let (end, taken) = taker("taker", &log, 1);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let taker = reactor.adopt_connection(ours, |_| end).unwrap();
    taker.write(vec![b'x'; ANSWER]);
    taker.lose_connection();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(taker.unsent() > 0, "it does not read yet");
    let readers: Vec<_> = (0..3).map(|_| send_one(&theirs, b"next")).collect();
    let peer = thread::spawn(move || {
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).map(|_| answer.len())
    });
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["taker made", "taker lost: Done"]);
    // What lingers is read to its end, too.
    run_while(&reactor, || !peer.is_finished());
    assert_eq!(peer.join().unwrap().unwrap(), ANSWER);
    assert!(taken.borrow().is_empty() && readers.into_iter().all(is_closed));
}

#[test]
fn descriptors_that_are_not_wanted_are_closed_and_no_byte_is_lost_for_them() {
    let (reactor, log) = (reactor(), Log::default());
    let end = End::new("taker", &log);
    let received = Rc::clone(&end.received);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let taker = reactor.adopt_connection(ours, |_| end).unwrap();
    // Four messages, one edge: a read stops behind each descriptor.
    let mut readers = Vec::new();
    for _ in 0..2 {
        readers.push(send_one(&theirs, b"ab"));
        (&theirs).write_all(b"cd").unwrap();
    }
    run_while(&reactor, || received.borrow().len() < 8);
    assert_eq!(*received.borrow(), b"abcdabcd");
    assert!(taker.stream().socket().take_descriptor().is_none());
    assert!(readers.into_iter().all(is_closed));
}

#[test]
fn a_descriptor_that_cannot_be_sent_comes_back() {
    let (reactor, log) = (reactor(), Log::default());
    let tcp = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let socket = tcp.client.stream().socket();
    let (_reader, writer) = pipe();
    let mut writer = socket.send_descriptor(writer).expect_err("TCP takes none");

    let (sender, _taker) = pair(&reactor, End::new("sender", &log), End::new("taker", &log));
    let socket = sender.stream().socket();
    for _ in 0..64 {
        let copy = writer.try_clone().unwrap();
        socket.send_descriptor(copy).expect("there is room");
    }
    writer = socket.send_descriptor(writer).expect_err("64 wait");
    // They wait for a byte, and hold nothing up.
    assert_eq!(sender.unsent(), 0);
    sender.lose_connection();
    drop(socket.send_descriptor(writer).expect_err("it is ending"));
    run_while(&reactor, || sender.is_connected() || log.lines().len() < 6);
}

#[test]
fn the_file_has_the_mode_that_was_asked_for() {
    let (reactor, folder) = (reactor(), Folder::new());
    let path = folder.path("private");
    let options = torsade_reactor::ListenOptions::new().mode(0o606);
    let port = reactor
        .listen_unix_with(&path, &options, |_: &Address| None::<End>)
        .unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o606);
    drop(port.stop_listening());
}

/// Set in a second process of this binary, in which no mode can be set.
const NO_MODES: &str = "TORSADE_TEST_NO_MODES";

/// The program of the next test. As a test of this process there is nothing to do.
#[test]
fn a_second_process_listens_where_no_mode_can_be_set() {
    if std::env::var_os(NO_MODES).is_none() {
        return;
    }
    let (reactor, folder) = (reactor(), Folder::new());
    let path = folder.path("socket");
    let options = torsade_reactor::ListenOptions::new().mode(0o606);
    let outcome = reactor.listen_unix_with(&path, &options, |_: &Address| None::<End>);
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(!path.exists(), "a port that does not listen leaves no file");
    drop(listen(&reactor, &path).expect("the place is free"));
}

#[test]
fn a_port_whose_mode_cannot_be_set_leaves_no_file() {
    let log = log_file();
    let refused = ["-e", "trace=/chmod", "-e", "inject=/chmod:error=EPERM"];
    let Some(mut program) = traced(&refused, &log) else {
        return;
    };
    let output = program
        .env(NO_MODES, "1")
        .args([
            "--exact",
            "unix::a_second_process_listens_where_no_mode_can_be_set",
        ])
        .output()
        .expect("it is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let calls = fs::read_to_string(&log).expect("the tracer writes text");
    assert!(calls.contains("EPERM"), "no mode was refused: {calls}");
}
