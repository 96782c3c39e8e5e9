//! TLS with programs that we did not write: OpenSSL's `s_client` and `s_server`, curl, Python's
//! `ssl`. Each program runs with a limit, and a missing one is said on standard error; under
//! `TORSADE_REQUIRE_TOOLS=1` it is a failure.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use torsade::prelude::*;
use torsade::protocols::tls::ServerConfig;

use super::authority::{Authority, Signed, localhost};
use super::speaker::{Seen, Speaker};

/// An authority, and its certificates as files.
pub(super) struct Files {
    pub(super) authority: Authority,
    folder: TempDir,
}

impl Files {
    pub(super) fn new() -> Self {
        let files = Self {
            authority: Authority::new(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        files.write("ca.pem", &files.authority.pem());
        files
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
    }
}

/// Why each connection of a server ended, as text: the reason goes to another thread.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    remote: Remote,
    ends: mpsc::Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

/// Answers data, and tells another thread of its end.
pub(super) struct Answering {
    answer: fn(&Transport<Self>, &[u8]),
    ends: mpsc::Sender<String>,
}

pub(super) fn describe(reason: &ConnectionLost) -> String {
    match TlsError::of(reason) {
        Some(error) => format!("{error:?}"),
        None => format!("{reason:?}"),
    }
}

impl Protocol for Answering {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        (self.answer)(transport, data);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        // The test may have seen enough.
        let _ = self.ends.send(describe(&reason));
    }
}

impl Server {
    fn start(listen: impl FnOnce(&Reactor, mpsc::Sender<String>) -> Port + Send + 'static) -> Self {
        let (tell_ends, ends) = mpsc::channel();
        let (tell_start, start) = mpsc::channel();
        let thread = thread::spawn(move || {
            let reactor = Reactor::new().expect("a reactor");
            let port = listen(&reactor, tell_ends);
            let address = port.address().to_string();
            tell_start
                .send((address, reactor.remote()))
                .expect("the test waits");
            reactor.run().expect("it runs");
        });
        let (address, remote) = start.recv().expect("it starts");
        Self {
            address: address.parse().expect("it is an address"),
            remote,
            ends,
            thread: Some(thread),
        }
    }

    pub(super) fn answering(
        config: ServerConfig,
        answer: fn(&Transport<Answering>, &[u8]),
    ) -> Self {
        Self::start(move |reactor, ends| {
            let accept = move |_: &Address| {
                let ends = ends.clone();
                Tls::server(&config, Answering { answer, ends })
            };
            reactor
                .listen_tcp("127.0.0.1:0", accept)
                .expect("a free port")
        })
    }

    pub(super) fn echo(config: ServerConfig) -> Self {
        Self::answering(config, |transport, data| transport.write(data))
    }

    pub(super) fn connect_argument(&self) -> String {
        self.address.to_string()
    }

    #[track_caller]
    pub(super) fn next_end(&self) -> String {
        let limit = std::time::Duration::from_secs(60);
        self.ends.recv_timeout(limit).expect("a connection ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.remote.call_from_thread(|reactor| reactor.stop());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the server's thread panicked");
        }
    }
}

/// A program with a limit on its time; `None`, loudly, if it is missing.
pub(super) fn tool(name: &str) -> Option<Command> {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .stdout(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        let required = std::env::var_os("TORSADE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not installed");
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} is not installed");
        return None;
    }
    let mut command = Command::new("timeout");
    command.args(["60", name]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

/// What a program wrote to both its outputs; its input is kept open until it has said `until`.
pub(super) fn converse(mut command: Command, input: &str, until: &str) -> String {
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    let mut said = Vec::new();
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(until) {
        if stdout.read(&mut byte).expect("it can be read") == 0 {
            break;
        }
        said.push(byte[0]);
    }
    drop(stdin);
    stdout.read_to_end(&mut said).expect("it can be read");
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut errors).expect("it is text");
    child.wait().expect("it ends");
    format!("{}\n{errors}", String::from_utf8_lossy(&said))
}

#[test]
fn openssl_s_client_is_echoed_in_both_versions_and_ends_in_order() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(mut openssl) = tool("openssl") else {
            return;
        };
        openssl.args([
            "s_client",
            "-quiet",
            "-no_ign_eof",
            version,
            "-servername",
            "localhost",
        ]);
        openssl.args(["-verify_hostname", "localhost", "-verify_return_error"]);
        openssl.args([
            "-CAfile",
            &files.ca(),
            "-connect",
            &server.connect_argument(),
        ]);
        let said = converse(openssl, "hello over TLS\n", "hello over TLS\n");
        assert!(said.contains("hello over TLS"), "{version}: {said}");
        assert_eq!(server.next_end(), "Done", "{version}");
    }
}

#[test]
fn a_renegotiation_is_refused_and_others_are_served() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let Some(mut openssl) = tool("openssl") else {
        return;
    };
    openssl.args(["s_client", "-tls1_2", "-CAfile", &files.ca()]);
    openssl.args(["-connect", &server.connect_argument()]);
    // `R` alone on a line asks for a renegotiation.
    let said = converse(openssl, "R\n", "RENEGOTIATING");
    let end = server.next_end();
    // It is told `no_renegotiation`, and gives up, on its own account.
    assert!(said.contains("no renegotiation"), "{said}");
    assert!(
        ["PeerAlert(HandshakeFailure)", "Truncated", "Done"].contains(&&*end),
        "{end}"
    );
    let Some(mut openssl) = tool("openssl") else {
        return;
    };
    openssl.args(["s_client", "-quiet", "-no_ign_eof", "-CAfile", &files.ca()]);
    openssl.args(["-connect", &server.connect_argument()]);
    assert!(converse(openssl, "next\n", "next\n").contains("next"));
}

#[test]
fn curl_is_answered_and_says_when_it_does_not_trust() {
    let files = Files::new();
    let server = Server::answering(files.authority.server(), |transport, _| {
        transport.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        transport.lose_connection();
    });
    let url = format!("https://localhost:{}/", server.address.port());
    let place = format!("localhost:{}:127.0.0.1", server.address.port());
    let Some(mut curl) = tool("curl") else { return };
    curl.args([
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        &files.ca(),
        "--resolve",
        &place,
        &url,
    ]);
    let output = curl.output().expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello",
        "{output:?}"
    );
    assert_eq!(server.next_end(), "Done");
    let stranger = files.write("stranger.pem", &Authority::new().pem());
    let Some(mut curl) = tool("curl") else { return };
    curl.args([
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        &stranger,
        "--resolve",
        &place,
        &url,
    ]);
    let output = curl.output().expect("it runs");
    assert_eq!(output.status.code(), Some(60), "{output:?}");
    assert_eq!(server.next_end(), "PeerAlert(UnknownCA)");
}

/// Runs a Python program with the server's port and the authority's certificate as arguments.
pub(super) fn python(program: &str, server: &Server, files: &Files) -> Option<String> {
    let mut python = tool("python3")?;
    let port = server.address.port().to_string();
    python.args(["-c", program, &port, &files.ca()]);
    let output = python.output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
pub(super) fn python_s_records_come_in_fragments_of_one_byte() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let program = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
def send():
    data = outgoing.read()
    for i in range(len(data)):
        sock.sendall(data[i:i + 1])
def until_done(call):
    while True:
        try:
            result = call()
            send()
            return result
        except ssl.SSLWantReadError:
            send()
            data = sock.recv(1)
            incoming.write(data) if data else incoming.write_eof()
until_done(tls.do_handshake)
tls.write(b"byte by byte")
send()
echo = b""
while len(echo) < 12:
    echo += until_done(lambda: tls.read(100))
print(echo.decode())
until_done(tls.unwrap)
"#;
    let Some(said) = python(program, &server, &files) else {
        return;
    };
    assert_eq!(said.trim(), "byte by byte");
    assert_eq!(server.next_end(), "Done");
}

#[test]
pub(super) fn python_s_end_without_a_closing_alert_is_a_truncation() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let program = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tls = context.wrap_socket(sock, server_hostname="localhost")
tls.sendall(b"cut")
print(tls.recv(3).decode())
socket.socket(fileno=tls.detach()).shutdown(socket.SHUT_WR)
"#;
    let Some(said) = python(program, &server, &files) else {
        return;
    };
    assert_eq!(said.trim(), "cut");
    assert_eq!(server.next_end(), "Truncated");
}

#[test]
pub(super) fn python_gets_everything_that_was_written_before_the_end() {
    let files = Files::new();
    let server = Server::answering(files.authority.server(), |transport, _| {
        transport.write(vec![b'x'; 3_000_000]);
        transport.lose_connection();
    });
    let program = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tls = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
tls.sendall(b"go")
count = 0
while data := tls.recv(65536):
    count += len(data)
print(count)
tls.unwrap()
"#;
    let Some(said) = python(program, &server, &files) else {
        return;
    };
    assert_eq!(said.trim(), "3000000", "and no ragged end");
    assert_eq!(server.next_end(), "Done");
}

#[test]
fn openssl_s_client_starts_tls_in_the_middle_of_smtp() {
    struct Smtp {
        config: ServerConfig,
        ends: mpsc::Sender<String>,
    }
    impl LineReceiver for Smtp {
        fn connection_made(&mut self, transport: &LineTransport<Self>) {
            transport.send_line("220 ready");
        }
        fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
            match line.to_ascii_uppercase().split(|byte| *byte == b' ').next() {
                Some(b"EHLO") => transport.send_line("250-here\r\n250 STARTTLS"),
                Some(b"STARTTLS") => {
                    transport.send_line("220 go ahead");
                    transport
                        .start_tls_server(&self.config)
                        .expect("it is prepared");
                }
                Some(b"NOOP") if tls::session(transport).is_some() => {
                    transport.send_line("250 done, over TLS");
                }
                _ => transport.send_line("500 what?"),
            }
        }
        fn connection_lost(&mut self, reason: ConnectionLost) {
            // The test may have seen enough.
            let _ = self.ends.send(describe(&reason));
        }
    }
    let files = Files::new();
    let config = files.authority.server();
    let server = Server::start(move |reactor, ends| {
        let accept = move |_: &Address| {
            let (config, ends) = (config.clone(), ends.clone());
            StartTls::new(Lines::new(Smtp { config, ends }))
        };
        reactor
            .listen_tcp("127.0.0.1:0", accept)
            .expect("a free port")
    });
    let Some(mut openssl) = tool("openssl") else {
        return;
    };
    openssl.args([
        "s_client",
        "-starttls",
        "smtp",
        "-crlf",
        "-quiet",
        "-no_ign_eof",
    ]);
    openssl.args(["-CAfile", &files.ca(), "-verify_return_error"]);
    openssl.args(["-connect", &server.connect_argument()]);
    let said = converse(openssl, "NOOP\n", "over TLS\r\n");
    assert!(said.contains("250 done, over TLS"), "{said}");
    assert_eq!(server.next_end(), "Done");
}

/// OpenSSL's own server, which sends every line back reversed.
pub(super) struct Foreign {
    child: Child,
    port: u16,
}

impl Foreign {
    pub(super) fn start(files: &Files, signed: &Signed, more: &[&str]) -> Option<Self> {
        let chain = files.write("chain.pem", &signed.chain);
        let key = files.write("key.pem", &signed.key);
        let mut openssl = tool("openssl")?;
        openssl.args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-rev",
            "-naccept",
            "1",
        ]);
        openssl.args(["-cert", &chain, "-key", &key]).args(more);
        let mut child = openssl.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).expect("text"), 0, "it listens");
            if let Some(address) = line.trim().strip_prefix("ACCEPT ") {
                let port = address.rsplit(':').next().expect("it has a port");
                break port.parse().expect("a port");
            }
        };
        // Somebody must read what it says.
        thread::spawn(move || drop(stdout.read_to_end(&mut Vec::new())));
        Some(Self { child, port })
    }

    /// What our client sees there.
    pub(super) fn visit(&self, config: &tls::ClientConfig, input: &'static str) -> (Seen, String) {
        let reactor = Reactor::new().expect("a reactor");
        let speaker = Speaker::default().on_data(move |transport, data| {
            if data.ends_with(b"\n") && !input.is_empty() {
                transport.lose_connection();
            }
        });
        let seen = speaker.seen.clone();
        let config = config.clone();
        let connecting = reactor.connect_tcp(("127.0.0.1", self.port), move |_| {
            Tls::client(&config, localhost(), speaker)
        });
        let transport = reactor.run_until(connecting).expect("it listens");
        transport.write(input);
        while seen.reason.borrow().is_none() {
            reactor.turn(None).expect("it can wait");
        }
        let end = describe(seen.reason.borrow().as_ref().expect("it is over"));
        (seen, end)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_s_server_answers_our_client_in_both_versions() {
    let files = Files::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let signed = files.authority.sign("localhost");
        let Some(foreign) = Foreign::start(&files, &signed, &[version]) else {
            return;
        };
        let (seen, end) = foreign.visit(&files.authority.client(), "abc\n");
        assert_eq!(seen.text(), "cba\\n");
        assert_eq!(end, "Done", "{version}");
    }
}

#[test]
fn certificates_of_openssl_s_server_are_refused_each_with_its_name() {
    let files = Files::new();
    let authority = &files.authority;
    for (signed, expected) in [
        (authority.sign_expired("localhost"), "CertificateExpired"),
        (
            authority.sign("example.org"),
            "WrongName { expected: \"localhost\", presented: [\"example.org\"] }",
        ),
        (Authority::new().sign("localhost"), "UnknownAuthority"),
    ] {
        let Some(foreign) = Foreign::start(&files, &signed, &[]) else {
            return;
        };
        let (seen, end) = foreign.visit(&authority.client(), "a secret\n");
        assert_eq!(end, expected);
        assert_eq!(seen.text(), "");
    }
}

#[test]
fn openssl_s_server_turns_away_who_has_no_certificate_and_takes_who_has_one() {
    let files = Files::new();
    let signed = files.authority.sign("localhost");
    let demands = [
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        &files.ca(),
    ];
    let Some(foreign) = Foreign::start(&files, &signed, &demands) else {
        return;
    };
    let (_, end) = foreign.visit(&files.authority.client(), "abc\n");
    assert_eq!(end, "PeerAlert(CertificateRequired)");
    let alice = files.authority.sign("alice");
    let config = tls::client_config()
        .roots(files.authority.roots())
        .identity(alice.identity());
    let Some(foreign) = Foreign::start(&files, &signed, &demands) else {
        return;
    };
    let (seen, end) = foreign.visit(&config.build().expect("it fits"), "abc\n");
    assert_eq!((seen.text(), end), ("cba\\n".to_owned(), "Done".to_owned()));
}

#[test]
fn openssl_resumes_a_session_with_us() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let session = files.path("session.pem").display().to_string();
    for (option, expected) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
        let Some(mut openssl) = tool("openssl") else {
            return;
        };
        openssl.args([
            "s_client",
            "-tls1_2",
            "-CAfile",
            &files.ca(),
            option,
            &session,
        ]);
        openssl.args(["-connect", &server.connect_argument()]);
        let said = converse(openssl, "again\n", "again\n");
        assert!(said.contains(expected), "{said}");
        assert_eq!(server.next_end(), "Done");
    }
}
