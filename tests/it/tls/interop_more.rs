//! More of what programs that we did not write do: they ask for renegotiation, renew their keys, cut
//! their streams, and refuse our certificates.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command};
use std::thread;

use torsade::prelude::*;

use super::authority::{Authority, Signed, localhost};
use super::interop::{Files, Server, describe, python, tool};
use super::speaker::{Seen, Speaker};

/// A program that serves one connection, and says on which port.
struct Serving {
    child: Child,
    stdin: Option<ChildStdin>,
    port: u16,
}

impl Serving {
    /// Starts it; `before` is what stands in front of the address in what it says.
    fn start(mut command: Command, before: &str) -> Self {
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).expect("text"), 0, "it listens");
            if let Some(address) = line.trim().strip_prefix(before) {
                let port = address.rsplit(':').next().expect("it has a port");
                break port.parse().expect("a port");
            }
        };
        // Somebody must read what it says.
        thread::spawn(move || drop(stdout.read_to_end(&mut Vec::new())));
        let stdin = child.stdin.take();
        Self { child, stdin, port }
    }

    fn openssl(files: &Files, signed: &Signed, more: &[&str]) -> Option<Self> {
        let chain = files.write("chain.pem", &signed.chain);
        let key = files.write("key.pem", &signed.key);
        let mut openssl = tool("openssl")?;
        openssl.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]);
        openssl.args(["-cert", &chain, "-key", &key]).args(more);
        Some(Self::start(openssl, "ACCEPT "))
    }

    fn python(files: &Files, program: &str) -> Option<Self> {
        let signed = files.authority.sign("localhost");
        let chain = files.write("chain.pem", &signed.chain);
        let key = files.write("key.pem", &signed.key);
        let mut python = tool("python3")?;
        python.args(["-c", program, &chain, &key]);
        Some(Self::start(python, "listening on "))
    }

    fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Our client there; it loses the connection when it has heard `until`.
    fn visit(
        &mut self,
        files: &Files,
        until: &'static str,
        first: impl FnOnce(&mut Self),
    ) -> (Seen, String) {
        let reactor = Reactor::new().expect("a reactor");
        let speaker = Speaker::default();
        let seen = speaker.seen.clone();
        let heard = seen.clone();
        let speaker = speaker.on_data(move |transport, _| {
            if heard.text().ends_with(until) {
                transport.lose_connection();
            }
        });
        let config = files.authority.client();
        let connecting = reactor.connect_tcp(("127.0.0.1", self.port), move |_| {
            Tls::client(&config, localhost(), speaker)
        });
        let transport = reactor.run_until(connecting).expect("it listens");
        let handshake = tls::handshake(&transport);
        reactor.run_until(handshake).expect("it goes well");
        first(self);
        while seen.reason.borrow().is_none() {
            reactor.turn(None).expect("it can wait");
        }
        let end = describe(seen.reason.borrow().as_ref().expect("it is over"));
        (seen, end)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_s_renegotiation_is_refused_and_it_gives_up() {
    let files = Files::new();
    let signed = files.authority.sign("localhost");
    let Some(mut foreign) = Serving::openssl(&files, &signed, &["-tls1_2"]) else {
        return;
    };
    // `r` alone asks for a renegotiation. It is told `no_renegotiation`, and takes that ill.
    let (seen, end) = foreign.visit(&files, "never", |it| it.type_in("r\n"));
    assert_eq!((&*seen.text(), &*end), ("", "PeerAlert(HandshakeFailure)"));
}

#[test]
fn openssl_renews_its_keys_and_has_us_renew_ours() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let (Some(_), Some(mut shell)) = (tool("openssl"), tool("sh")) else {
        return;
    };
    // What it says of its keys goes to standard error.
    shell.args(["-c", "exec openssl \"$@\" 2>&1", "sh"]);
    shell.args(["s_client", "-tls1_3", "-CAfile", &files.ca()]);
    shell.args(["-connect", &server.connect_argument()]);
    let mut child = shell.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = child.stdout.take().expect("it is piped");
    // `k` alone in what it reads renews its own keys, `K` asks us to renew ours, too.
    for (typed, until) in [
        ("before\n", "before\n"),
        ("k\n", "KEYUPDATE"),
        ("after one\n", "after one\n"),
        ("K\n", "KEYUPDATE"),
        ("after both\n", "after both\n"),
    ] {
        stdin.write_all(typed.as_bytes()).expect("it reads");
        let mut said = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&said).contains(until) {
            let count = stdout.read(&mut byte).expect("it can be read");
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
    }
    drop(stdin);
    child.wait().expect("it ends");
    assert_eq!(server.next_end(), "Done");
}

#[test]
fn records_of_one_byte_are_records() {
    let files = Files::new();
    let server = Server::echo(files.authority.server());
    let program = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tls = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
sent = bytes(range(256)) * 4
for i in range(len(sent)):
    tls.sendall(sent[i:i + 1])
echo = b""
while len(echo) < len(sent):
    echo += tls.recv(7)
print(echo == sent)
tls.unwrap()
"#;
    let Some(said) = python(program, &server, &files) else {
        return;
    };
    assert_eq!(said.trim(), "True");
    assert_eq!(server.next_end(), "Done");
}

const PYTHON_SERVER: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print("listening on", "127.0.0.1:%d" % listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"#;

#[test]
fn a_server_of_python_s_that_cuts_its_answer_short_is_found_out() {
    let files = Files::new();
    let program = format!(
        r#"{PYTHON_SERVER}
tls = context.wrap_socket(sock, server_side=True)
tls.sendall(b"the first ha")
socket.socket(fileno=tls.detach()).close()
"#
    );
    let Some(mut foreign) = Serving::python(&files, &program) else {
        return;
    };
    let (seen, end) = foreign.visit(&files, "never", |_| {});
    assert_eq!((&*seen.text(), &*end), ("the first ha", "Truncated"));
}

#[test]
fn a_server_of_python_s_may_send_single_bytes() {
    let files = Files::new();
    let program = format!(
        r#"{PYTHON_SERVER}
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_side=True)
def until_done(call):
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            send()
            data = sock.recv(1)
            incoming.write(data) if data else incoming.write_eof()
        finally:
            send()
def send():
    data = outgoing.read()
    for i in range(len(data)):
        sock.sendall(data[i:i + 1])
until_done(tls.do_handshake)
tls.write(b"byte by byte")
send()
until_done(tls.unwrap)
"#
    );
    let Some(mut foreign) = Serving::python(&files, &program) else {
        return;
    };
    let (seen, end) = foreign.visit(&files, "byte by byte", |_| {});
    assert_eq!((&*seen.text(), &*end), ("byte by byte", "Done"));
}

#[test]
fn what_python_says_against_our_certificate_is_told_by_its_name() {
    let files = Files::new();
    let authority = &files.authority;
    let program = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
try:
    context.wrap_socket(sock, server_hostname="localhost")
    print("accepted")
except ssl.SSLCertVerificationError as error:
    print(error.verify_message)
"#;
    for (signed, said, told) in [
        (
            authority.sign_expired("localhost"),
            "certificate has expired",
            "PeerAlert(CertificateExpired)",
        ),
        (
            authority.sign("example.org"),
            "Hostname mismatch",
            "PeerAlert(BadCertificate)",
        ),
        (
            Authority::new().sign("localhost"),
            "unable to get local issuer certificate",
            "PeerAlert(UnknownCA)",
        ),
    ] {
        let config = tls::server_config(signed.identity()).build();
        let server = Server::echo(config.expect("the key fits"));
        let Some(heard) = python(program, &server, &files) else {
            return;
        };
        assert!(heard.contains(said), "{heard}");
        assert_eq!(server.next_end(), told);
    }
}

#[test]
fn curl_gives_up_on_a_wrong_name_and_an_expired_certificate() {
    let files = Files::new();
    for (signed, expected) in [
        (
            files.authority.sign_expired("localhost"),
            "PeerAlert(CertificateExpired)",
        ),
        // curl looks at the name after the handshake, and says goodbye.
        (files.authority.sign("example.org"), "Done"),
    ] {
        let config = tls::server_config(signed.identity()).build();
        let server = Server::echo(config.expect("the key fits"));
        let url = format!("https://localhost:{}/", server.address.port());
        let place = format!("localhost:{}:127.0.0.1", server.address.port());
        let Some(mut curl) = tool("curl") else { return };
        curl.args(["-sS", "--noproxy", "*", "--cacert", &files.ca()]);
        curl.args(["--resolve", &place, &url]);
        let output = curl.output().expect("it runs");
        assert_eq!(output.status.code(), Some(60), "{output:?}");
        assert_eq!(server.next_end(), expected);
    }
}
