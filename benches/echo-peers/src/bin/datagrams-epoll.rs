//! Echo of datagrams on epoll and nothing else: edge-triggered, until nothing is left.

use std::error::Error;
use std::io::ErrorKind;
use std::net::UdpSocket;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};

fn main() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    println!("{}", socket.local_addr()?);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(&poll, &socket, epoll::EventData::new_u64(0), flags)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for _ in &events {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((count, from)) => drop(socket.send_to(&buffer[..count], from)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
