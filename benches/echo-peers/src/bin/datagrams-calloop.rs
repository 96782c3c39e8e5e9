//! Echo of datagrams on calloop: a `Generic` source, level-triggered, until nothing is left.

use std::io::ErrorKind;
use std::net::UdpSocket;

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut event_loop = EventLoop::<Vec<u8>>::try_new()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    println!("{}", socket.local_addr()?);
    let source = Generic::new(socket, Interest::READ, Mode::Level);
    event_loop
        .handle()
        .insert_source(source, |_, socket, buffer| {
            loop {
                match socket.recv_from(buffer) {
                    Ok((count, from)) => drop(socket.send_to(&buffer[..count], from)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(PostAction::Continue)
        })?;
    event_loop.run(None, &mut vec![0; 64 * 1024], |_| ())?;
    Ok(())
}
