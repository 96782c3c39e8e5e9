//! Echo on epoll and nothing else: edge-triggered, one shared buffer, a short read saves
//! the next one.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};

struct Connection {
    socket: TcpStream,
    /// What the system did not take yet.
    unsent: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    const LISTENER: u64 = u64::MAX;
    epoll::add(
        &poll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 64 * 1024 + 256];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    let index = free.pop().unwrap_or(connections.len());
                    let flags =
                        EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                    epoll::add(
                        &poll,
                        &socket,
                        epoll::EventData::new_u64(index as u64),
                        flags,
                    )?;
                    let connection = Some(Connection {
                        socket,
                        unsent: Vec::new(),
                    });
                    if index == connections.len() {
                        connections.push(connection);
                    } else {
                        connections[index] = connection;
                    }
                }
                continue;
            }
            let index = event.data.u64() as usize;
            let Some(connection) = &mut connections[index] else {
                continue;
            };
            let hangup =
                { event.flags }.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if !serve(connection, &mut buffer, hangup) {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn serve(connection: &mut Connection, buffer: &mut [u8], hangup: bool) -> bool {
    if !connection.unsent.is_empty() {
        match connection.socket.write(&connection.unsent) {
            Ok(count) => drop(connection.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
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
        if connection.unsent.is_empty() {
            match connection.socket.write(&buffer[..count]) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        connection.unsent.extend_from_slice(&buffer[sent..count]);
        if count < buffer.len() && !hangup {
            return true;
        }
    }
}
