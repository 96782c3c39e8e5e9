//! Echo over WebSocket, side by side: CPU time of the server's process for a message.
//!
//! `websocket-bench [ROUNDS]`: in each round each server, in a process of its own, has messages come back over all
//! connections, so many on their way on each. Every byte that comes back is compared, the heads of frames too. The
//! load masks with a key that is none, as a server cannot know.

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode};

use bench_rounds::{Cost, Result, Row, SILENCE_MAX, Server, Table, beside, wait};
use rustix::event::epoll;

/// Ours first: its title, its program, and what that is told.
const SERVERS: [(&str, &str, &[&str]); 3] = [
    ("torsade", "websocket-torsade", &[]),
    (
        "tokio-tungstenite, current thread",
        "websocket-tungstenite",
        &[],
    ),
    (
        "the same, read buffers of 8 KiB",
        "websocket-tungstenite",
        &["8192"],
    ),
];

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// What is done in a run.
struct Shape {
    column: &'static str,
    connections: u64,
    size: usize,
    /// On their way at a time, on each connection.
    depth: u64,
    /// In all.
    messages: u64,
}

const SHAPES: [Shape; 4] = [
    Shape {
        column: "50 connections, 64 B",
        connections: 50,
        size: 64,
        depth: 1,
        messages: 100_000,
    },
    Shape {
        column: "500 connections, 64 B",
        connections: 500,
        size: 64,
        depth: 1,
        messages: 100_000,
    },
    Shape {
        column: "50 connections, 64 B, 16 deep",
        connections: 50,
        size: 64,
        depth: 16,
        messages: 800_000,
    },
    Shape {
        column: "4 connections, 64 KiB",
        connections: 4,
        size: 65_536,
        depth: 1,
        messages: 5_000,
    },
];

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn main() -> ExitCode {
    let rounds = env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse());
    let outcome = match rounds {
        Ok(rounds) => measure(rounds),
        Err(_) => Err("usage: websocket-bench [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
}

fn measure(rounds: usize) -> Result<()> {
    for shape in &SHAPES {
        let mut rows = Vec::new();
        for (title, program, arguments) in SERVERS {
            rows.push(Row::new(title, move || {
                let mut command = Command::new(beside(program)?);
                let server = Server::that_says_where(command.args(arguments))?;
                run(&server, shape)
            }));
        }
        Table::new("websocket", shape.column, "us of CPU time").run(rounds, &mut rows)?;
    }
    Ok(())
}

/// What is sent in one go, and what has to come back for it.
struct Wire {
    sent: Vec<u8>,
    expected: Vec<u8>,
}

impl Wire {
    fn new(shape: &Shape) -> Self {
        const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let payload: Vec<u8> = (0..shape.size).map(|at| (at % 251) as u8).collect();
        let length = |mask: u8| match payload.len() {
            size @ ..126 => vec![mask | size as u8],
            size @ 126..0x1_0000 => [&[mask | 126][..], &(size as u16).to_be_bytes()].concat(),
            size => [&[mask | 127][..], &(size as u64).to_be_bytes()].concat(),
        };
        let masked = payload.iter().zip(KEY.iter().cycle());
        let masked: Vec<u8> = masked.map(|(byte, key)| byte ^ key).collect();
        let depth = usize::try_from(shape.depth).expect("it is small");
        Self {
            sent: [&[0x82][..], &length(0x80), &KEY, &masked]
                .concat()
                .repeat(depth),
            expected: [&[0x82][..], &length(0), &payload].concat().repeat(depth),
        }
    }
}

struct Client {
    socket: TcpStream,
    /// Of this go: bytes that were sent, and that came back.
    sent: usize,
    received: usize,
    /// Further goes.
    left: u64,
}

fn run(server: &Server, shape: &Shape) -> Result<Cost> {
    let wire = Wire::new(shape);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let goes = shape.messages / shape.connections / shape.depth;
    let mut clients = (0..shape.connections)
        .map(|_| connected(server, &wire, goes))
        .collect::<Result<Vec<_>>>()?;
    for (index, client) in clients.iter().enumerate() {
        client.socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&poll, &client.socket, data, flags)?;
    }
    let begin = server.ran()?;
    echo(&mut clients, &poll, &wire)?;
    let messages = goes * shape.depth * shape.connections;
    Ok(Cost {
        cost: (server.ran()? - begin) as f64 / messages as f64 / 1000.0,
        memory: Some(server.peak_memory()?),
    })
}

/// A connection after its handshake and one go, so that everything is warm.
fn connected(server: &Server, wire: &Wire, goes: u64) -> Result<Client> {
    let mut socket = server.connect()?;
    socket.write_all(HANDSHAKE.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err("the server does not switch".into());
    }
    socket.write_all(&wire.sent)?;
    let mut came = vec![0; wire.expected.len()];
    socket.read_exact(&mut came)?;
    if came != wire.expected {
        return Err("wrong bytes came back".into());
    }
    Ok(Client {
        socket,
        sent: 0,
        received: 0,
        left: goes,
    })
}

fn echo(clients: &mut [Client], poll: impl std::os::fd::AsFd, wire: &Wire) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut open = clients.len();
    for client in clients.iter_mut() {
        client.flush(wire)?;
    }
    let mut events = Vec::with_capacity(1024);
    while open > 0 {
        wait(&poll, &mut events, SILENCE_MAX)?;
        for event in &events {
            let event: &epoll::Event = event;
            let client = &mut clients[event.data.u64() as usize];
            if client.left == 0 {
                continue;
            }
            client.flush(wire)?;
            client.receive(wire, &mut buffer)?;
            open -= usize::from(client.left == 0);
        }
    }
    Ok(())
}

impl Client {
    fn flush(&mut self, wire: &Wire) -> Result<()> {
        while self.sent < wire.sent.len() {
            match self.socket.write(&wire.sent[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes what came, compares it, and goes on when all of it is there.
    fn receive(&mut self, wire: &Wire, buffer: &mut [u8]) -> Result<()> {
        while self.left > 0 {
            let count = match self.socket.read(buffer) {
                Ok(0) => return Err("the server closed early".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let expected = wire.expected.get(self.received..self.received + count);
            if expected != Some(&buffer[..count]) {
                return Err("wrong bytes came back".into());
            }
            self.received += count;
            if self.received == wire.expected.len() {
                self.left -= 1;
                (self.sent, self.received) = (0, 0);
                if self.left > 0 {
                    self.flush(wire)?;
                }
            }
        }
        Ok(())
    }
}
