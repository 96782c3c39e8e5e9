//! Echo over TLS, side by side: CPU time of the server's process for a message, and for a
//! handshake.
//!
//! `tls-bench [ROUNDS]`: in each round each server, in a process of its own that lives as long as the table, does the
//! handshakes of all connections, and then has messages come back, one on its way on each connection. A
//! message is counted from after the handshakes on. Every byte that comes back is compared. Before the first
//! round each does what a round asks, uncounted: an interpreter is slow until it has seen some thousand messages.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use bench_rounds::{
    Cost, Result, Row, SILENCE_MAX, Server, Table, beside, compile_go, python, source, standing,
    wait,
};
use rustix::event::epoll;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

struct Contender {
    title: &'static str,
    /// What starts it, before the files of its chain and its key.
    command: fn() -> Result<Command>,
    /// What it is told after them.
    argument: Option<&'static str>,
    /// It gets a message where the others get so many: an interpreter would take all day.
    slower: u64,
}

/// Ours first, then the same TLS below another loop, then those with a TLS of their own.
const CONTENDERS: [Contender; 7] = [
    Contender {
        title: "torsade",
        command: || Ok(Command::new(beside("tls-torsade")?)),
        argument: None,
        slower: 1,
    },
    Contender {
        title: "tokio-rustls, current thread",
        command: || Ok(Command::new(beside("tls-tokio")?)),
        argument: None,
        slower: 1,
    },
    Contender {
        title: "Go, one processor: crypto/tls",
        command: || Ok(Command::new(compile_go("tls-go", &peer("echo.go"))?)),
        argument: None,
        slower: 1,
    },
    Contender {
        title: "Node: OpenSSL",
        command: || Ok(with(Command::new("node"), "echo.mjs")),
        argument: None,
        slower: 8,
    },
    Contender {
        title: "uvloop: OpenSSL",
        command: || Ok(with(python("uvloop")?, "echo_asyncio.py")),
        argument: Some("uvloop"),
        slower: 8,
    },
    Contender {
        title: "asyncio: OpenSSL",
        command: || Ok(with(python("asyncio")?, "echo_asyncio.py")),
        argument: None,
        slower: 8,
    },
    Contender {
        title: "Twisted: pyOpenSSL",
        command: || {
            python("twisted")?;
            Ok(with(python("OpenSSL")?, "echo_twisted.py"))
        },
        argument: None,
        slower: 8,
    },
];

impl Contender {
    fn start(&self, certificate: &Certificate) -> Result<Server> {
        let mut command = (self.command)()?;
        command.arg(&certificate.chain).arg(&certificate.key);
        Server::that_says_where(command.args(self.argument))
    }
}

fn with(mut command: Command, script: &str) -> Command {
    command.arg(peer(script));
    command
}

fn peer(file: &str) -> PathBuf {
    source(env!("CARGO_MANIFEST_DIR"), &format!("peers/{file}"))
}

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// What is done in a run.
struct Shape {
    column: &'static str,
    connections: usize,
    size: u64,
    /// In all. None: the handshakes are what is measured.
    messages: u64,
}

const SHAPES: [Shape; 4] = [
    Shape {
        column: "50 connections, 64 B",
        connections: 50,
        size: 64,
        messages: 20_000,
    },
    Shape {
        column: "500 connections, 64 B",
        connections: 500,
        size: 64,
        messages: 20_000,
    },
    Shape {
        column: "4 connections, 64 KiB",
        connections: 4,
        size: 65_536,
        messages: 2_000,
    },
    Shape {
        column: "a handshake",
        connections: 100,
        size: 64,
        messages: 0,
    },
];

struct Client {
    socket: TcpStream,
    tls: ClientConnection,
    received: u64,
    allowed: u64,
}

fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

fn main() -> ExitCode {
    let rounds = env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse());
    let outcome = match rounds {
        Ok(rounds) => measure(rounds),
        Err(_) => Err("usage: tls-bench [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
}

fn measure(rounds: usize) -> Result<()> {
    let certificate = Certificate::new()?;
    for shape in &SHAPES {
        let warm: Vec<_> = CONTENDERS
            .iter()
            .map(|contender| {
                let server = contender.start(&certificate)?;
                run(&server, &certificate.config, shape, contender)?;
                Ok(server)
            })
            .collect();
        let mut rows = Vec::new();
        for (server, contender) in warm.iter().zip(&CONTENDERS) {
            let config = &certificate.config;
            let row = Row::new(contender.title, move || {
                run(standing(server)?, config, shape, contender)
            });
            rows.push(row.seldom(contender.slower > 1));
        }
        Table::new("tls", shape.column, "us of CPU time").run(rounds, &mut rows)?;
    }
    Ok(())
}

/// A certificate in files that are gone with this, and who trusts it.
struct Certificate {
    folder: PathBuf,
    chain: PathBuf,
    key: PathBuf,
    config: Arc<ClientConfig>,
}

impl Certificate {
    fn new() -> Result<Self> {
        let folder = env::temp_dir().join(format!("tls-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        fs::write(&chain, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(&chain)?)?;
        // One, which all of them have: each would choose its own.
        let mut provider = ring::default_provider();
        provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            folder,
            chain,
            key,
            config: Arc::new(config),
        })
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // What is left is small, and in the system's folder for it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn run(
    server: &Server,
    config: &Arc<ClientConfig>,
    shape: &Shape,
    contender: &Contender,
) -> Result<Cost> {
    let begin = server.ran()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = secured(server, config, shape, &poll)?;
    let after = server.ran()?;
    let took = if shape.messages == 0 {
        (after - begin) as f64 / shape.connections as f64
    } else {
        let messages = shape.messages / contender.slower;
        let each = messages.div_ceil(shape.connections as u64);
        echo(&mut clients, &poll, shape.size, each)?;
        (server.ran()? - after) as f64 / (each * shape.connections as u64) as f64
    };
    Ok(Cost {
        cost: took / 1000.0,
        memory: Some(server.peak_memory()?),
    })
}

/// All connections, after their handshakes and one message, so that the tickets have come and
/// everything is warm.
fn secured(
    server: &Server,
    config: &Arc<ClientConfig>,
    shape: &Shape,
    poll: impl std::os::fd::AsFd,
) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for index in 0..shape.connections {
        let mut socket = server.connect()?;
        let mut tls =
            ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        tls.writer().write_all(&[b'w'; 16])?;
        let mut echo = [0; 16];
        rustls::Stream::new(&mut tls, &mut socket).read_exact(&mut echo)?;
        if echo != [b'w'; 16] {
            return Err("wrong bytes came back".into());
        }
        socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(
            &poll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            flags,
        )?;
        clients.push(Client {
            socket,
            tls,
            received: 0,
            allowed: 0,
        });
    }
    Ok(clients)
}

/// So many messages on each connection, each sent when the one before has come back.
fn echo(
    clients: &mut [Client],
    poll: impl std::os::fd::AsFd,
    size: u64,
    messages: u64,
) -> Result<()> {
    let each = messages * size;
    let pattern: Vec<u8> = (0..size + 251).map(byte_at).collect();
    let mut buffer = vec![0; 256 * 1024];
    let mut open = clients.len();
    for client in clients.iter_mut() {
        send(client, &pattern, size)?;
    }
    let mut events = Vec::with_capacity(1024);
    while open > 0 {
        wait(&poll, &mut events, SILENCE_MAX)?;
        for event in &events {
            let event: &epoll::Event = event;
            let client = &mut clients[event.data.u64() as usize];
            if client.received == each {
                continue;
            }
            flush(client)?;
            receive(client, &mut buffer)?;
            if client.received == each {
                open -= 1;
            } else if client.received == client.allowed {
                send(client, &pattern, size)?;
            }
        }
    }
    Ok(())
}

/// Takes what came, and compares it.
fn receive(client: &mut Client, buffer: &mut [u8]) -> Result<()> {
    loop {
        match client.tls.read_tls(&mut client.socket) {
            Ok(0) => return Err("the server closed early".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        client.tls.process_new_packets()?;
        loop {
            let count = match client.tls.reader().read(buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            for (offset, byte) in buffer[..count].iter().enumerate() {
                if *byte != byte_at(client.received + offset as u64) {
                    return Err("wrong bytes came back".into());
                }
            }
            client.received += count as u64;
        }
    }
}

fn send(client: &mut Client, pattern: &[u8], size: u64) -> Result<()> {
    let start = (client.received % 251) as usize;
    client
        .tls
        .writer()
        .write_all(&pattern[start..start + size as usize])?;
    client.allowed = client.received + size;
    flush(client)
}

fn flush(client: &mut Client) -> Result<()> {
    while client.tls.wants_write() {
        match client.tls.write_tls(&mut client.socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
