//! Echo of datagrams on epoll and nothing else: level-triggered, one datagram a wait.

use std::error::Error;
use std::net::UdpSocket;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};

fn main() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    println!("{}", socket.local_addr()?);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &socket, epoll::EventData::new_u64(0), EventFlags::IN)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for _ in &events {
            if let Ok((count, from)) = socket.recv_from(&mut buffer) {
                // As the others: a datagram that is not taken is lost.
                let _ = socket.send_to(&buffer[..count], from);
            }
        }
    }
}
