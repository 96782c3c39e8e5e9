//! Echo on tokio's current-thread runtime with as little memory as its documentation knows: `readable` and `try_read`,
//! so that no task keeps a buffer while it waits. All share one, which saves its zeros for each read.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Result};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; echo_peers::buffer_size()]);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(echo(socket));
    }
}

/// Until the peer ends the connection, or it fails: that is no error here.
async fn echo(mut socket: TcpStream) {
    while socket.readable().await.is_ok() {
        let unsent = match BUFFER.with_borrow_mut(|buffer| answer(&socket, buffer)) {
            Ok(unsent) => unsent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        // The peer is slow: nothing is read until it has the rest.
        if !unsent.is_empty() && socket.write_all(&unsent).await.is_err() {
            return;
        }
    }
}

/// What was read goes back at once, and the rest of it comes out.
fn answer(socket: &TcpStream, buffer: &mut [u8]) -> Result<Vec<u8>> {
    let count = socket.try_read(buffer)?;
    if count == 0 {
        return Err(Error::from(ErrorKind::UnexpectedEof));
    }
    let sent = match socket.try_write(&buffer[..count]) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok(buffer[sent..count].to_vec())
}
