//! Echo of datagrams on may, a coroutine on one worker, as its examples have it.

use may::go;
use may::net::UdpSocket;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    may::config().set_workers(1);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("{}", socket.local_addr()?);
    let echo = go!(move || -> std::io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (count, from) = socket.recv_from(&mut buffer)?;
            socket.send_to(&buffer[..count], from)?;
        }
    });
    echo.join().map_err(|_| "it panicked")??;
    Ok(())
}
