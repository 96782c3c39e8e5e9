//! Peers that we did not write: `websockets` for Python, Node's own client, and a socket that breaks the rules.
//!
//! A program that is missing is said so on standard error, and is a failure under `TORSADE_REQUIRE_TOOLS=1`.
//! `websockets` is no program: without it these tests are skipped. `TORSADE_PYTHON` says which Python has it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use torsade::deferred::DeferredQueue;
use torsade::protocols::websocket::{WebSocketClient, WebSocketLimits};

use super::*;
use crate::http::programs::{Background, run};
use crate::programs::{missing, skipped};

/// What a script ends with that lacks something.
const LACKING: Option<i32> = Some(77);

fn python() -> String {
    std::env::var("TORSADE_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Says what it is told, and closes when it is told so: `close 4001 why`.
fn server() -> Background {
    Background::listening(|reactor| {
        let sockets = WebSocketServer::new().subprotocols(["v1"]);
        let site = Site::new(move |request: Request| sockets.accept(&request, Obeying));
        let listening = site.listen(reactor, "127.0.0.1:0");
        listening.expect("there is a port")
    })
}

struct Obeying;

impl WebSocketProtocol for Obeying {
    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        let order = message
            .as_text()
            .and_then(|text| text.strip_prefix("close "));
        match order.and_then(|order| order.split_once(' ')) {
            Some((code, reason)) => {
                let code: u16 = code.parse().expect("a code");
                transport.close(code, reason);
            }
            None => transport.send(message),
        }
    }
}

#[track_caller]
fn check_script(program: &str, arguments: &[&str], what: &str) {
    let server = server();
    let Some(output) = run(program, &[arguments, &[&server.address]].concat()) else {
        return;
    };
    if output.status.code() == LACKING {
        return skipped(what);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "good\n", "{output:?}");
}

const CLIENT: &str = r"
import asyncio, sys
try:
    import websockets
except ImportError:
    sys.exit(77)
async def closed_with(ws):
    try:
        while True:
            await asyncio.wait_for(ws.recv(), 20)
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason
async def main(url):
    async with websockets.connect(url, max_size=None, subprotocols=['v2', 'v1']) as ws:
        assert ws.subprotocol == 'v1', ws.subprotocol
        for message in ('hello', '', 'gr\u00fc\u00dfe ' * 100000, b'\x00\xff' * 500000):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(['a', 'b', 'c' * 70000])
        assert await ws.recv() == 'ab' + 'c' * 70000
        await ws.send([b'a', b'', b'b'])
        assert await ws.recv() == b'ab'
        for payload in (b'', b'x' * 125):
            await asyncio.wait_for(await ws.ping(payload), 20)
        for number in range(1000):
            await ws.send(str(number))
        for number in range(1000):
            assert await ws.recv() == str(number)
        await ws.send('close 4001 enough')
        assert await closed_with(ws) == (4001, 'enough')
    ws = await websockets.connect(url)
    await ws.close(code=4002, reason='mine')
    assert ws.close_code == 4002, ws.close_code
    ws = await websockets.connect(url)
    try:
        await ws.send('x' * (2 << 20))
    except websockets.ConnectionClosed:
        pass
    code, reason = await closed_with(ws)
    assert code == 1009, (code, reason)
asyncio.run(main('ws://' + sys.argv[1]))
print('good')
";

#[test]
fn websockets_for_python_is_understood_and_understands() {
    check_script(&python(), &["-c", CLIENT], "websockets is not installed");
}

const OFFENDER: &str = r"
import socket, sys
HEAD = ('GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
def masked(first, payload):
    key = b'\x12\x34\x56\x78'
    body = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return bytes([first, 0x80 | len(payload)]) + key + body
host, port = sys.argv[1].split(':')
for frames, code in (
    (b'\x81\x01a', 1002),
    (masked(0x81, b'\xff'), 1007),
    (masked(0x01, b'\xe2\x82') + masked(0x80, b'a'), 1007),
    (masked(0xc1, b'a'), 1002),
    (masked(0x83, b'a'), 1002),
    (masked(0x80, b'a'), 1002),
    (masked(0x01, b'a') + masked(0x81, b'b'), 1002),
    (masked(0x09, b''), 1002),
    (b'\x89\xfe\x00\x7e\x00\x00\x00\x00' + b'x' * 126, 1002),
    (masked(0x88, b'\x03'), 1002),
    (masked(0x88, b'\x03\xed'), 1002),
    (masked(0x88, b'\x03\xe8\xff'), 1007),
    (b'\x82\xff' + (1 << 62).to_bytes(8, 'big') + b'\x00\x00\x00\x00', 1009),
):
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        # What follows the offence is on the way when it is noticed.
        peer.sendall(HEAD.encode() + frames + masked(0x81, b'behind'))
        said = b''
        while True:
            piece = peer.recv(65536)
            if not piece:
                break
            said += piece
    head, rest = said.split(b'\r\n\r\n', 1)
    assert head.startswith(b'HTTP/1.1 101 '), head
    assert rest[0] == 0x88 and len(rest) == 2 + rest[1], (frames, rest)
    told = int.from_bytes(rest[2:4], 'big')
    assert told == code, (frames, told, rest)
print('good')
";

#[test]
fn whoever_breaks_a_rule_is_told_which_over_real_sockets() {
    check_script(&python(), &["-c", OFFENDER], "there is no Python");
}

const NODE: &str = r"
if (typeof WebSocket === 'undefined') process.exit(77);
const url = 'ws://' + process.argv[1];
function open(protocols) {
  const ws = new WebSocket(url, protocols);
  ws.binaryType = 'arraybuffer';
  const came = [], waiting = [];
  const tell = event => waiting.length ? waiting.shift()(event) : came.push(event);
  ws.onmessage = event => tell(event.data);
  ws.onclose = event => tell([event.code, event.reason, event.wasClean]);
  ws.next = () => came.length ? came.shift() : new Promise(done => waiting.push(done));
  return new Promise((done, failed) => { ws.onopen = () => done(ws); ws.onerror = failed; });
}
function check(what, right) { if (!right) throw new Error(what); }
(async () => {
  let ws = await open(['v2', 'v1']);
  check('subprotocol', ws.protocol === 'v1');
  for (const text of ['hello', '', 'gr\u00fc\u00dfe '.repeat(100000)]) {
    ws.send(text);
    check('text', await ws.next() === text);
  }
  ws.send(new Uint8Array(900000));
  check('binary', (await ws.next()).byteLength === 900000);
  ws.send('close 4001 enough');
  check('their close', String(await ws.next()) === '4001,enough,true');
  ws = await open([]);
  ws.close(4002, 'mine');
  check('our close', String((await ws.next()).slice(0, 1)) === '4002');
  ws = await open([]);
  ws.send('x'.repeat(2 << 20));
  check('too big', (await ws.next())[0] === 1009);
  console.log('good');
  process.exit(0);
})().catch(error => { console.log(error.stack || error); process.exit(1); });
";

#[test]
fn nodes_own_client_is_understood() {
    // Without the flag only from version 22 on; before 20 there is none at all.
    let with_flag = Command::new("node")
        .args(["--experimental-websocket", "-e", ""])
        .stderr(Stdio::null())
        .status();
    match with_flag {
        Err(_) => missing("node"),
        Ok(status) if !status.success() => skipped("this Node has no WebSocket"),
        Ok(_) => check_script(
            "node",
            &["--experimental-websocket", "-e", NODE],
            "this Node has no WebSocket",
        ),
    }
}

const SERVER: &str = r"
import asyncio, sys
try:
    import websockets
except ImportError:
    sys.exit(77)
async def talk(ws):
    try:
        async for message in ws:
            if message == 'fragments':
                await ws.send(['a', 'b', 'c' * 70000])
            elif message == 'ping':
                await (await ws.ping(b'are you there?'))
                await ws.send('it is')
            elif message == 'big':
                await ws.send('x' * (2 << 20))
            elif message == 'close':
                await ws.close(4003, 'enough')
            else:
                await ws.send(message)
    except websockets.ConnectionClosed:
        pass
    print('closed', ws.close_code, ws.close_reason, flush=True)
async def main():
    async with websockets.serve(talk, '127.0.0.1', 0, max_size=None, subprotocols=['v1']) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
";

/// A server that is ended when this is dropped.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives what happens to whoever waits for it.
struct Telling {
    lines: Rc<DeferredQueue<String>>,
}

impl Telling {
    fn tell(&self, line: String) {
        self.lines.put(line).expect("there is room");
    }
}

impl WebSocketProtocol for Telling {
    fn message_received(&mut self, _: &WebSocketTransport<Self>, message: Message<'_>) {
        self.tell(match message {
            Message::Text(text) => text.to_owned(),
            Message::Binary(bytes) => format!("{} bytes", bytes.len()),
        });
    }

    fn closed(&mut self, closed: Closed) {
        let Closed {
            code,
            reason,
            is_clean,
            ..
        } = closed;
        self.tell(format!("{}, {reason}, {is_clean}", u16::from(code)));
    }
}

#[test]
fn the_client_talks_to_websockets_for_python() {
    let mut command = Command::new(python());
    command.args(["-c", SERVER]).stdout(Stdio::piped());
    let Ok(child) = command.spawn() else {
        return missing("python3");
    };
    let mut served = Served(child);
    let output = served.0.stdout.take().expect("it is piped");
    let mut output = BufReader::new(output);
    let mut said = move || {
        let mut line = String::new();
        output.read_line(&mut line).expect("it is text");
        line.trim_end().to_owned()
    };
    let port = said();
    if port.is_empty() {
        let status = served.0.wait().expect("it has ended");
        assert_eq!(status.code(), LACKING, "it says its port");
        return skipped("websockets is not installed");
    }
    let reactor = Reactor::new().expect("there is a loop");
    let url = format!("ws://127.0.0.1:{port}/");
    let connect = || {
        let lines = Rc::new(DeferredQueue::new());
        let telling = Telling {
            lines: Rc::clone(&lines),
        };
        let client = WebSocketClient::new(&reactor).subprotocols(["v2", "v1"]);
        let client = client.limits(WebSocketLimits {
            message: 1 << 20,
            ..Default::default()
        });
        let transport = reactor.run_until(client.connect(&url, telling));
        let reactor = reactor.clone();
        let next = move || {
            let line = lines.get().expect("nobody else waits");
            reactor.run_until(line).expect("it is told")
        };
        (transport.expect("it connects"), next)
    };
    let (transport, next) = connect();
    assert_eq!(transport.subprotocol(), Some("v1"));
    for text in ["hello", "", &"gr\u{fc}\u{df}e ".repeat(100_000)] {
        transport.send(text);
        assert!(next() == text);
    }
    transport.send(&vec![7; 900_000]);
    assert_eq!(next(), "900000 bytes");
    transport.send("fragments");
    assert!(next() == format!("ab{}", "c".repeat(70_000)));
    transport.send("ping");
    assert_eq!(next(), "it is");
    reactor.run_until(transport.ping()).expect("a pong");
    transport.send("close");
    assert_eq!(next(), "4003, enough, true");
    assert_eq!(said(), "closed 4003", "RFC 6455 §5.5.1: the same code");

    let (transport, next) = connect();
    transport.close(4004, "mine");
    assert_eq!(next(), "4004, mine, true");
    assert_eq!(said(), "closed 4004 mine");

    let (transport, next) = connect();
    transport.send("big");
    assert!(next().starts_with("1006, "));
    assert_eq!(said(), "closed 1009 a message is longer than 1048576 bytes");
}
