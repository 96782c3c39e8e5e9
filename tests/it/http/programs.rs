//! Clients that we did not write.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use torsade::prelude::*;
use torsade::protocols::http::{
    Answer, Body, HeaderValue, IntoAnswer, Request, Server, Site, StatusCode, switch_protocols,
};

use crate::programs::missing;

/// A server on a thread of its own.
pub(crate) struct Background {
    pub(crate) address: String,
    remote: Remote,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start() -> Self {
        Self::listening(|reactor| {
            let site = Site::new(answer).body_max(|_, _| 64 << 20);
            site.listen(reactor, "127.0.0.1:0")
                .expect("there is a port")
        })
    }

    pub(crate) fn listening(listen: impl FnOnce(&Reactor) -> Server + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let reactor = Reactor::new().expect("there is a loop");
            let server = listen(&reactor);
            let started = (server.address().to_string(), reactor.remote());
            sender.send(started).expect("somebody waits for it");
            reactor.run().expect("it runs until it is stopped");
        });
        let (address, remote) = receiver.recv().expect("it starts");
        Self {
            address,
            remote,
            thread: Some(thread),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            assert!(
                thread.join().is_ok() || thread::panicking(),
                "it ends in order"
            );
        }
    }
}

fn answer(mut request: Request) -> Answer {
    match request.path() {
        "/hello" => "hello".into_answer(),
        "/big" => Body::from(vec![b'x'; 3_000_000]).into_answer(),
        "/chunks" => {
            let (sender, body) = Body::channel();
            for _ in 0..1000 {
                if sender.write(vec![b'c'; 1000]).is_err() {
                    break;
                }
            }
            sender.finish();
            body.into_answer()
        }
        "/echo" => request.take_body().into_answer(),
        "/length" => request
            .take_body()
            .read(64 << 20)
            .map(|body| body.len().to_string())
            .into_answer(),
        "/socket" => switch_protocols(HeaderValue::from_static("websocket"), |upgraded| {
            upgraded.seat(Echo);
        })
        .into_answer(),
        "/none" => StatusCode::NO_CONTENT.into_answer(),
        _ => StatusCode::NOT_FOUND.into_answer(),
    }
}

/// What is spoken after a switch.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

/// Runs a program; `None`, with a word, if there is none.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            missing(&format!("{program}: {error}"));
            None
        }
    }
}

/// What curl prints when it is given this before the address.
#[track_caller]
pub(super) fn curl(server: &Background, path: &str, arguments: &[&str]) -> Option<String> {
    let url = format!("http://{}{path}", server.address);
    let mut all = vec!["--silent", "--show-error", "--max-time", "20"];
    all.extend_from_slice(arguments);
    all.push(&url);
    let output = run("curl", &all)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {all:?}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn curl_speaks_1_1_and_1_0_and_asks_for_heads() {
    let server = Background::start();
    for version in ["--http1.1", "--http1.0"] {
        let Some(body) = curl(&server, "/hello", &[version]) else {
            return;
        };
        assert_eq!(body, "hello", "{version}");
        let size = ["-o", "/dev/null", "-w", "%{size_download}", version];
        assert_eq!(curl(&server, "/big", &size).as_deref(), Some("3000000"));
        assert_eq!(curl(&server, "/chunks", &size).as_deref(), Some("1000000"));
    }
    let head = curl(&server, "/hello", &["--head"]).expect("it was there before");
    assert!(head.contains("content-length: 5\r\n"), "{head}");
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl(&server, "/none", &status).as_deref(), Some("204"));
    assert_eq!(curl(&server, "/nowhere", &status).as_deref(), Some("404"));
}

#[test]
fn curl_reuses_its_connection() {
    let server = Background::start();
    let url = format!("http://{}/hello", server.address);
    let format = [
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} ",
        &url,
    ];
    if let Some(connects) = curl(&server, "/big", &format) {
        assert_eq!(connects, "1 0 ");
    }
}

#[test]
fn curl_uploads_in_chunks_and_waits_for_a_word() {
    let server = Background::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'u'; 5_000_000]).expect("it is written");
    let name = file.path().to_str().expect("it has a name");
    let data = format!("@{name}");
    for arguments in [
        vec!["--data-binary", &data],
        vec!["--data-binary", &data, "-H", "Expect: 100-continue"],
        vec!["--data-binary", &data, "-H", "Transfer-Encoding: chunked"],
        vec!["-T", name],
        vec!["-T", name, "-H", "Transfer-Encoding: chunked"],
    ] {
        let Some(length) = curl(&server, "/length", &arguments) else {
            return;
        };
        assert_eq!(length, "5000000", "{arguments:?}");
        let mut echo = vec!["-o", "/dev/null", "-w", "%{size_download}"];
        echo.extend_from_slice(&arguments);
        assert_eq!(
            curl(&server, "/echo", &echo).as_deref(),
            Some("5000000"),
            "{arguments:?}"
        );
    }
}

#[test]
fn python_pipelines_and_keeps_alive() {
    let server = Background::start();
    let script = "\
import http.client, socket, sys
host, port = sys.argv[1].rsplit(':', 1)
connection = http.client.HTTPConnection(host, int(port), timeout=20)
for index in range(50):
    connection.request('GET', '/hello')
    assert connection.getresponse().read() == b'hello'
    body = bytes(index for _ in range(index * 100))
    connection.request('POST', '/echo', body=iter([body, b'end']), encode_chunked=True,
                       headers={'Transfer-Encoding': 'chunked'})
    assert connection.getresponse().read() == body + b'end'
connection.close()
stream = socket.create_connection((host, int(port)))
stream.sendall(b'GET /hello HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' * 1000
               + b'GET /none HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')
stream.shutdown(socket.SHUT_WR)
got = b''
while True:
    data = stream.recv(65536)
    if not data: break
    got += data
assert got.count(b'\\r\\n\\r\\nhello') == 1000, got.count(b'hello')
assert b'204 No Content' in got
print('good')
";
    let Some(output) = run("python3", &["-c", script, &server.address]) else {
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "good\n",
        "{errors}"
    );
}
