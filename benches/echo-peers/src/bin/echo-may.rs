//! Echo on may, a coroutine for each connection on one worker, as its examples have it:
//! `echo-may [BUFFER]`.

use std::io::{Read, Write};

use may::go;
use may::net::TcpListener;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    may::config().set_workers(1);
    let size = echo_peers::buffer_size();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for socket in listener.incoming() {
        let mut socket = socket?;
        socket.set_nodelay(true)?;
        go!(move || {
            let mut buffer = vec![0; size];
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                if socket.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
