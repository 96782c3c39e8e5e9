//! The system refuses one call of a socket, whichever: who is concerned is told, the others
//! go on, and nothing is lost.
//!
//! The program is a test of this binary, in a process of its own under a tracer, which makes
//! one call fail without making it. Its peers are here. Each case is run with the first call
//! of its kind refused, then with the second, until there is none.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use torsade_reactor::{
    Address, ConnectionLost, ListenOptions, Protocol, Reactor, SocketOption, TcpServerEndpoint,
    Transport,
};

use crate::traced::{log_file, traced};

/// Set in the second process.
const SERVES: &str = "TORSADE_TEST_SERVES";

/// What it is set to where the system is to take little at a time.
const NARROW: &str = "narrow";

/// How long to wait for what must come. Only a test that fails waits so long.
const LIMIT: Duration = Duration::from_secs(60);

/// How often to look for an echo, each time for [`GLANCE`], before there is none.
const GLANCES: usize = 30_000;
const GLANCE: Duration = Duration::from_millis(2);

/// More calls of one kind than the program makes.
const CALLS_MAX: usize = 60;

/// Rounds of messages that are answered, each with one peer more.
const ROUNDS: usize = 2;

/// Echoes, and says how each connection was lost.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        // Two pieces: where the second is large, they leave by one call for both.
        let (head, rest) = data.split_at(1);
        transport.write(head);
        transport.write(rest);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        match reason {
            ConnectionLost::Io(error) => say(&format!("lost: {error}")),
            ConnectionLost::Stopped => {}
            other => say(&format!("lost otherwise: {other:?}")),
        }
    }
}

/// A line of its own, whatever the test harness has printed before.
fn say(line: &str) {
    writeln!(io::stdout(), "\n{line}").expect("somebody reads");
}

/// The program of the other tests. As a test of this process there is nothing to do.
#[test]
fn a_second_process_echoes_until_its_input_ends() {
    let Some(serves) = env::var_os(SERVES) else {
        return;
    };
    let mut options = ListenOptions::new();
    if serves == NARROW {
        options = options.option(SocketOption::SendBuffer(4_096));
    }
    let endpoint = TcpServerEndpoint::new("127.0.0.1:0").options(options);
    let reactor = match Reactor::new() {
        Ok(reactor) => reactor,
        Err(error) => return say(&format!("no reactor: {error}")),
    };
    let port = match reactor.run_until(reactor.listen(&endpoint, |_: &Address| Echo)) {
        Ok(port) => port,
        Err(error) => return say(&format!("no port: {error}")),
    };
    // One connection that is made from here; its peer is a socket that never accepts.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("loopback can listen");
    let address = deaf.local_addr().expect("it is bound");
    if let Err(error) = reactor.run_until(reactor.connect_tcp(address, |_| Echo)) {
        say(&format!("not connected: {error}"));
    }
    let remote = reactor.remote();
    let holder = thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        remote.stop();
    });
    say(&format!("listening on {}", port.address()));
    reactor.run().unwrap();
    holder.join().unwrap();
    say("stopped");
}

/// That process, and what it says.
struct Served {
    /// The tracer; it ends as the program does.
    program: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    log: tempfile::TempPath,
}

impl Served {
    /// Starts it with call number `nth` of this kind refused.
    fn start(call: &str, error: Errno, nth: usize) -> Option<Self> {
        let trace = format!("trace={call}");
        let error = error.raw_os_error();
        let inject = format!("inject={call}:error={error}:when={nth}");
        Self::start_with(&["-e", &trace, "-e", &inject], None)
    }

    /// Starts it, with buffers of the usual size unless this says otherwise.
    fn start_with(options: &[&str], buffers: Option<&str>) -> Option<Self> {
        let log = log_file();
        let mut command = traced(options, &log)?;
        let mut program = command
            .env(SERVES, buffers.unwrap_or("1"))
            .args([
                "--exact",
                "injected_sockets::a_second_process_echoes_until_its_input_ends",
            ])
            .arg("--nocapture")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let output = BufReader::new(program.stdout.take().expect("it is piped"));
        let (tx, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        let input = program.stdin.take();
        Some(Self {
            program,
            input,
            lines,
            log,
        })
    }

    /// Whether the call has been refused by now.
    fn is_refused(&self) -> bool {
        let text = fs::read_to_string(&self.log).expect("the tracer writes text");
        text.contains("(INJECTED)")
    }

    /// What it says until it listens, and where; nowhere if it ends before.
    fn beginning(&self) -> (Vec<String>, Option<SocketAddr>) {
        let mut said = Vec::new();
        while let Some(line) = self.line() {
            if let Some(address) = line.strip_prefix("listening on ") {
                let address = address.parse().expect("it says its address");
                return (said, Some(address));
            }
            said.push(line);
        }
        (said, None)
    }

    /// Its next line of interest, `None` at the end.
    fn line(&self) -> Option<String> {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if is_of_interest(&line) => return Some(line),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
            }
        }
    }

    /// Ends it, and gives what it said meanwhile.
    fn end(&mut self) -> Vec<String> {
        drop(self.input.take());
        let said = std::iter::from_fn(|| self.line()).collect();
        assert!(self.program.wait().expect("it is ours").success());
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Without a tracer, what hangs may still end with its input. These fail only for a
        // process that has ended.
        drop(self.input.take());
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn is_of_interest(line: &str) -> bool {
    let beginnings = ["no reactor: ", "no port: ", "not connected: "];
    let others = ["listening on ", "lost", "stopped"];
    let mut all = beginnings.iter().chain(&others);
    all.any(|beginning| line.starts_with(beginning))
}

/// A peer, and what of its messages has come back.
struct Peer {
    socket: TcpStream,
    /// How long its messages are.
    size: usize,
    sent: usize,
    heard: usize,
    is_lost: bool,
}

impl Peer {
    fn connect(address: SocketAddr, size: usize) -> Self {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(GLANCE)).expect("a good limit");
        Self {
            socket,
            size,
            sent: 0,
            heard: 0,
            is_lost: false,
        }
    }

    fn send(&mut self) {
        let message: Vec<u8> = (self.sent..self.sent + self.size).map(byte_at).collect();
        self.sent += self.size;
        // To a lost connection it may fail; the next look says so.
        let _ = self.socket.write_all(&message);
    }

    /// Takes what has come back; says whether there is nothing left to wait for.
    fn look(&mut self) -> bool {
        let mut buffer = vec![0; self.size];
        while self.heard < self.sent && !self.is_lost {
            match self.socket.read(&mut buffer) {
                Ok(count @ 1..) => {
                    let expected = (self.heard..self.heard + count).map(byte_at);
                    assert!(expected.eq(buffer[..count].iter().copied()));
                    self.heard += count;
                }
                Err(error) => match error.kind() {
                    // A read with a limit is not begun again after a signal.
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => return false,
                    _ => self.is_lost = true,
                },
                Ok(0) => self.is_lost = true,
            }
        }
        true
    }
}

/// How long messages are, as a rule.
const MESSAGE: usize = 10;

/// So long that they go past the buffer of what is to be sent.
const LARGE: usize = 20_000;

/// Every message is another one.
fn byte_at(position: usize) -> u8 {
    (position % 251) as u8
}

/// Has peers come and speak, until each has heard everything or is lost.
///
/// With `is_patient`, nobody needs to hear anything in the round in which the call is refused:
/// a system that once says "nothing there" reports what comes next.
fn exchange(served: &Served, address: SocketAddr, is_patient: bool, size: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    let (mut rounds, mut is_refused) = (0, !is_patient || served.is_refused());
    while rounds < ROUNDS {
        peers.push(Peer::connect(address, size));
        peers.iter_mut().for_each(Peer::send);
        let heard = (0..GLANCES).find_map(|_| {
            if peers.iter_mut().all(Peer::look) {
                Some(true)
            } else if !is_refused && served.is_refused() {
                Some(false)
            } else {
                None
            }
        });
        match heard.expect("it echoes") {
            true => rounds += 1,
            false => is_refused = true,
        }
    }
    peers
}

/// Refuses every call of a kind, each in a run of its own. With `is_loss` somebody is told
/// the error, and nobody otherwise. Gives what they were told that it ended; `None` without a
/// tracer.
fn refuse_each(call: &str, error: Errno, is_loss: bool, size: usize) -> Option<BTreeSet<String>> {
    let text = io::Error::from(error).to_string();
    let mut outcomes = BTreeSet::new();
    for nth in 1..CALLS_MAX {
        let mut served = Served::start(call, error, nth)?;
        let (mut said, address) = served.beginning();
        let peers = address.map_or_else(Vec::new, |address| {
            exchange(&served, address, error == Errno::AGAIN, size)
        });
        // What is refused at the very end concerns nobody any more.
        let is_refused = served.is_refused();
        said.extend(served.end());
        let who = format!("{call} number {nth} fails with {error:?}: {said:?}");
        if address.is_some() {
            assert_eq!(said.pop().as_deref(), Some("stopped"), "{who}");
        }
        // Each of the others has heard everything, for `exchange` came back.
        let peers_lost = peers.iter().filter(|peer| peer.is_lost).count();
        if is_refused && is_loss {
            let [what] = &said[..] else {
                panic!("not one was told: {who}");
            };
            let (outcome, reason) = what.split_once(": ").expect("it says why");
            assert!(reason.ends_with(&text), "{who}");
            assert_eq!(peers_lost, usize::from(outcome == "lost"), "{who}");
            outcomes.insert(outcome.to_owned());
        } else {
            assert!(said.is_empty() && peers_lost == 0, "{who}");
        }
        if !is_refused {
            // It connects once, and answers each round.
            let least = if call == "connect" { 1 } else { ROUNDS };
            assert!(nth > least, "there are no such calls: {who}");
            return Some(outcomes);
        }
    }
    panic!("{call} is called for ever");
}

#[track_caller]
fn check(call: &str, error: Errno, expected: &[&str]) {
    check_of_size(MESSAGE, call, error, expected);
}

#[track_caller]
fn check_of_size(size: usize, call: &str, error: Errno, expected: &[&str]) {
    if let Some(outcomes) = refuse_each(call, error, !expected.is_empty(), size) {
        assert!(
            outcomes.iter().eq(expected),
            "{call} {error:?}: {outcomes:?}"
        );
    }
}

#[test]
fn a_port_that_is_refused_a_connection_gets_it_later() {
    for error in [Errno::MFILE, Errno::CONNABORTED, Errno::AGAIN] {
        check("accept4", error, &[]);
    }
}

#[test]
fn what_the_system_does_not_watch_is_told_so_and_the_others_go_on() {
    for error in [Errno::NOMEM, Errno::NOSPC] {
        let whoever = ["lost", "no port", "no reactor", "not connected"];
        check("epoll_ctl", error, &whoever);
    }
}

#[test]
fn a_connection_that_breaks_is_lost_with_the_reason_and_the_others_go_on() {
    for call in ["recvfrom", "sendto"] {
        check(call, Errno::CONNRESET, &["lost"]);
    }
    check_of_size(LARGE, "sendmsg", Errno::CONNRESET, &["lost"]);
}

#[test]
fn what_was_there_though_the_system_said_nothing_comes_with_what_follows() {
    for call in ["recvfrom", "sendto"] {
        check(call, Errno::AGAIN, &[]);
    }
    check_of_size(LARGE, "sendmsg", Errno::AGAIN, &[]);
}

#[test]
fn whichever_call_is_interrupted_is_made_again_and_nobody_is_told() {
    for call in ["accept4", "recvfrom", "sendto", "epoll_pwait"] {
        check(call, Errno::INTR, &[]);
    }
    check_of_size(LARGE, "sendmsg", Errno::INTR, &[]);
    check("connect", Errno::INTR, &[]);
}

#[test]
fn who_cannot_connect_for_the_moment_is_told_so() {
    check("connect", Errno::AGAIN, &["not connected"]);
}

#[test]
fn what_the_system_takes_and_gives_in_parts_arrives_whole() {
    const VOLUME: usize = 300_000;
    let trace = "trace=sendto,sendmsg,recvfrom";
    let Some(mut served) = Served::start_with(&["-e", trace], Some(NARROW)) else {
        return;
    };
    let (_, address) = served.beginning();
    let mut peer = Peer::connect(address.expect("it listens"), VOLUME);
    let mut writer = peer.socket.try_clone().expect("there are descriptors");
    let sender = thread::spawn(move || {
        let message: Vec<u8> = (0..VOLUME).map(byte_at).collect();
        // In pieces that fit no buffer.
        for piece in message.chunks(4_999) {
            writer.write_all(piece).expect("it is read");
        }
    });
    peer.sent = VOLUME;
    let heard = (0..GLANCES).any(|_| peer.look());
    assert!(heard && peer.heard == VOLUME);
    sender.join().expect("it writes");
    assert_eq!(served.end(), ["stopped"]);
    let text = fs::read_to_string(&served.log).expect("the tracer writes text");
    let short = text.lines().filter(|line| is_short_send(line)).count();
    assert!(short > 0, "nothing was taken in part");
}

/// Whether a line of the tracer's says that a part was sent:
/// `sendto(9, "..."..., 65536, MSG_NOSIGNAL, NULL, 0) = 2304`.
fn is_short_send(line: &str) -> bool {
    let Some((call, answer)) = line.rsplit_once(" = ") else {
        return false;
    };
    let asked = call
        .rsplit_once(", MSG_NOSIGNAL")
        .and_then(|(before, _)| before.rsplit_once(", "));
    let (Some((_, asked)), Ok(sent)) = (asked, answer.parse::<usize>()) else {
        return false;
    };
    call.contains("sendto(") && asked.parse().is_ok_and(|asked: usize| sent < asked)
}
