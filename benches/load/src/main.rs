//! A closed-loop load generator for echo servers.
//!
//! `load ADDRESS CONNECTIONS SIZE DEPTH MESSAGES`: each connection keeps DEPTH messages
//! of SIZE bytes on their way until MESSAGES have come back in all. Every byte that
//! comes back is compared with the one that was sent; a difference, or an early end,
//! is an error and exit status 1.
//!
//! For who measures the server: when all are connected it says `connected` and waits for a
//! line on its standard input; when all is back it says how many messages that were, and
//! keeps the connections until its standard input ends.

use std::env;
use std::error::Error;
use std::io::{ErrorKind, Read, Write, stdin};
use std::net::{SocketAddr, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

struct Client {
    socket: TcpStream,
    /// Bytes sent and received since the beginning: the byte at position `n` is a
    /// function of `n`, so no copy of what was sent is needed.
    sent: u64,
    received: u64,
    /// Bytes that may be sent so far.
    allowed: u64,
}

/// The byte at a position: a pattern whose period is no power of two.
fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, connections, size, depth, messages] = &arguments[..] else {
        return Err("usage: load ADDRESS CONNECTIONS SIZE DEPTH MESSAGES".into());
    };
    let address: SocketAddr = address.parse()?;
    let (connections, size, depth): (usize, u64, u64) =
        (connections.parse()?, size.parse()?, depth.parse()?);
    let messages: u64 = messages.parse()?;
    let each = messages.div_ceil(connections as u64) * size;

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // No more wait to be accepted than a short queue holds: the system drops who comes then,
        // and tries again a second later. The first byte of some connections is there and back.
        let met = u64::from(index % 50 == 49);
        if met == 1 {
            let mut first = [byte_at(0)];
            socket.write_all(&first)?;
            socket.read_exact(&mut first)?;
            if first != [byte_at(0)] {
                return Err("the first byte came back wrong".into());
            }
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
            sent: met,
            received: met,
            allowed: (size * depth).min(each),
        });
    }
    // Long enough that a window of any position can be cut out of it.
    let pattern: Vec<u8> = (0..(1 << 20) + 251).map(byte_at).collect();
    let mut buffer = vec![0; 1 << 20];
    let mut events = Vec::with_capacity(1024);
    let mut open = connections;
    println!("connected");
    stdin().read_line(&mut String::new())?;
    for client in &mut clients {
        send(client, &pattern)?;
    }
    while open > 0 {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let client = &mut clients[event.data.u64() as usize];
            if client.received == each {
                continue;
            }
            loop {
                match client.socket.read(&mut buffer) {
                    Ok(0) => return Err("the server closed a connection early".into()),
                    Ok(count) => {
                        let start = (client.received % 251) as usize;
                        if buffer[..count] != pattern[start..start + count] {
                            return Err(format!(
                                "wrong bytes after {} on a connection",
                                client.received
                            )
                            .into());
                        }
                        client.received += count as u64;
                        if count < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if client.received > client.sent {
                return Err("more came back than was sent".into());
            }
            if client.received == each {
                open -= 1;
                continue;
            }
            // Whole messages that came back allow as many new ones.
            client.allowed = (client.received / size * size + size * depth).min(each);
            send(client, &pattern)?;
        }
    }
    println!("{} messages", each / size * connections as u64);
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn send(client: &mut Client, pattern: &[u8]) -> Result<(), Box<dyn Error>> {
    while client.sent < client.allowed {
        let start = (client.sent % 251) as usize;
        let count = (client.allowed - client.sent).min(1 << 20) as usize;
        match client.socket.write(&pattern[start..start + count]) {
            Ok(count) => client.sent += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
