//! A closed-loop load generator for servers that echo datagrams.
//!
//! `load-datagrams ADDRESS CLIENTS SIZE DEPTH MESSAGES`: each client, a socket of its own, keeps
//! DEPTH datagrams of SIZE bytes (8 at least) on their way until MESSAGES have come back in all.
//! Each has a number, and what comes back is compared with it. None may be lost: on loopback that
//! happens only if more are on their way than the server's buffer holds.
//!
//! For who measures the server, as `load` has it: `connected`, a line to begin, the number of
//! messages, the end of the input.

use std::env;
use std::io::{ErrorKind, Read, stdin};
use std::net::UdpSocket;

use bench_rounds::{Result, SILENCE_MAX, wait};
use rustix::event::epoll;

struct Client {
    socket: UdpSocket,
    sent: u64,
    received: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, clients, size, depth, messages] = &arguments[..] else {
        return Err("usage: load-datagrams ADDRESS CLIENTS SIZE DEPTH MESSAGES".into());
    };
    let (count, size, depth): (u64, usize, u64) = (clients.parse()?, size.parse()?, depth.parse()?);
    let each = messages.parse::<u64>()?.div_ceil(count);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for index in 0..count {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, &socket, epoll::EventData::new_u64(index), flags)?;
        clients.push(Client {
            socket,
            sent: 0,
            received: 0,
        });
    }
    let mut datagram = vec![b'x'; size.max(8)];
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(1024);
    let mut open = count;
    println!("connected");
    stdin().read_line(&mut String::new())?;
    for client in &mut clients {
        for _ in 0..depth.min(each) {
            send(client, &mut datagram)?;
        }
    }
    while open > 0 {
        wait(&poll, &mut events, SILENCE_MAX)?;
        for event in &events {
            let client = &mut clients[event.data.u64() as usize];
            loop {
                match client.socket.recv(&mut buffer) {
                    Ok(length) => {
                        let number = client.received.to_le_bytes();
                        if length != datagram.len()
                            || buffer[..8] != number
                            || buffer[8..length] != datagram[8..]
                        {
                            return Err("something else came back".into());
                        }
                        client.received += 1;
                        if client.received == each {
                            open -= 1;
                        }
                        if client.sent < each {
                            send(client, &mut datagram)?;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    println!("{} messages", each * count);
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn send(client: &mut Client, datagram: &mut [u8]) -> Result<()> {
    datagram[..8].copy_from_slice(&client.sent.to_le_bytes());
    client.socket.send(datagram)?;
    client.sent += 1;
    Ok(())
}
