//! Echo of datagrams on mio, until nothing is left, as its documentation has it.

use std::error::Error;
use std::io::ErrorKind;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

fn main() -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
    println!("{}", socket.local_addr()?);
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
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
