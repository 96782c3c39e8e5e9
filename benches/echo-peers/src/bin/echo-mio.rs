//! Echo on mio: one buffer, edges, read until nothing is left, as its documentation has it.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

struct Connection {
    socket: TcpStream,
    /// What the system did not take yet.
    unsent: Vec<u8>,
}

const LISTENER: Token = Token(usize::MAX);

fn main() -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    println!("{}", listener.local_addr()?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 64 * 1024 + 256];
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let index = free.pop().unwrap_or(connections.len());
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(&mut socket, Token(index), interest)?;
                    let unsent = Vec::new();
                    if index == connections.len() {
                        connections.push(None);
                    }
                    connections[index] = Some(Connection { socket, unsent });
                }
                continue;
            }
            let Token(index) = event.token();
            let Some(connection) = &mut connections[index] else {
                continue;
            };
            if !serve(connection, &mut buffer) {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn serve(connection: &mut Connection, buffer: &mut [u8]) -> bool {
    while !connection.unsent.is_empty() {
        match connection.socket.write(&connection.unsent) {
            Ok(count) => drop(connection.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    loop {
        let count = match connection.socket.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut sent = 0;
        while sent < count {
            match connection.socket.write(&buffer[sent..count]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Nothing more is read until the peer has taken it.
                    connection.unsent.extend_from_slice(&buffer[sent..count]);
                    return true;
                }
                Err(_) => return false,
            }
        }
    }
}
