//! CPU time of TLS echo servers per message, turn about.
//!
//! `tls-bench CONNECTIONS SIZE MESSAGES ROUNDS`: for each round and each server, starts the
//! server, opens CONNECTIONS connections, does the handshakes, and then has MESSAGES messages of
//! SIZE bytes come back, one on its way per connection. What is counted is the CPU time of the
//! server process from after the handshakes on, by `/proc/PID/schedstat`; and apart from that what
//! a handshake took. Every byte that comes back is compared.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

const SERVERS: [&str; 2] = ["tls-torsade", "tls-tokio"];

struct Client {
    socket: TcpStream,
    tls: ClientConnection,
    received: u64,
    allowed: u64,
}

fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

fn cpu_ns(server: &Child) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", server.id()))?;
    Ok(text.split(' ').next().ok_or("no schedstat")?.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let [connections, size, messages, rounds] = numbers?[..] else {
        return Err("usage: tls-bench CONNECTIONS SIZE MESSAGES ROUNDS".into());
    };
    let folder = std::env::temp_dir().join(format!("tls-bench-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let outcome = measure(&folder, connections as usize, size, messages, rounds);
    fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(folder: &Path, connections: usize, size: u64, messages: u64, rounds: u64) -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    fs::write(&chain, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&chain)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let here = std::env::current_exe()?;
    let here = here.parent().ok_or("no folder")?;
    let mut sums = vec![Vec::new(); SERVERS.len()];
    for round in 0..rounds {
        for turn in 0..SERVERS.len() {
            let index = (turn + round as usize) % SERVERS.len();
            let mut server = Command::new(here.join(SERVERS[index]));
            let mut server = server.arg(&chain).arg(&key).stdout(Stdio::piped()).spawn()?;
            let outcome = run(&mut server, &config, connections, size, messages);
            server.kill()?;
            server.wait()?;
            let (handshake, message) = outcome?;
            println!("{:12} {handshake:8.2} us/handshake {message:8.3} us/message", SERVERS[index]);
            sums[index].push((handshake, message));
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut medians = Vec::new();
    for (name, values) in SERVERS.iter().zip(&sums) {
        let handshake = median(&mut values.iter().map(|v| v.0).collect());
        let message = median(&mut values.iter().map(|v| v.1).collect());
        println!("median {name:12} {handshake:8.2} us/handshake {message:8.3} us/message");
        medians.push((handshake, message));
    }
    println!(
        "torsade / tokio-rustls: handshake {:.3}, message {:.3}",
        medians[0].0 / medians[1].0,
        medians[0].1 / medians[1].1
    );
    Ok(())
}

fn run(
    server: &mut Child,
    config: &Arc<ClientConfig>,
    connections: usize,
    size: u64,
    messages: u64,
) -> Result<(f64, f64), Box<dyn Error>> {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    let each = messages.div_ceil(connections as u64) * size;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let begin = cpu_ns(server)?;
    let mut clients = Vec::new();
    for index in 0..connections {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        // One message, so that the tickets have come and everything is warm.
        tls.writer().write_all(&[0; 16])?;
        let mut echo = [0; 16];
        rustls::Stream::new(&mut tls, &mut socket).read_exact(&mut echo)?;
        socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&poll, &socket, epoll::EventData::new_u64(index as u64), flags)?;
        clients.push(Client { socket, tls, received: 0, allowed: 0 });
    }
    let secured = cpu_ns(server)?;
    let pattern: Vec<u8> = (0..size + 251).map(byte_at).collect();
    let mut buffer = vec![0; 256 * 1024];
    let mut open = connections;
    for client in &mut clients {
        send(client, &pattern, size)?;
    }
    let mut events = Vec::with_capacity(1024);
    while open > 0 {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let client = &mut clients[event.data.u64() as usize];
            if client.received == each {
                continue;
            }
            flush(client)?;
            loop {
                match client.tls.read_tls(&mut client.socket) {
                    Ok(0) => return Err("the server closed early".into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
                client.tls.process_new_packets()?;
                loop {
                    let count = match client.tls.reader().read(&mut buffer) {
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
            if client.received == each {
                open -= 1;
            } else if client.received == client.allowed {
                send(client, &pattern, size)?;
            }
        }
    }
    let end = cpu_ns(server)?;
    let per = |ns: u64, count: u64| ns as f64 / 1000.0 / count as f64;
    let count = each / size * connections as u64;
    Ok((per(secured - begin, connections as u64), per(end - secured, count)))
}

fn send(client: &mut Client, pattern: &[u8], size: u64) -> Result<(), Box<dyn Error>> {
    let start = (client.received % 251) as usize;
    client.tls.writer().write_all(&pattern[start..start + size as usize])?;
    client.allowed = client.received + size;
    flush(client)
}

fn flush(client: &mut Client) -> Result<(), Box<dyn Error>> {
    while client.tls.wants_write() {
        match client.tls.write_tls(&mut client.socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
