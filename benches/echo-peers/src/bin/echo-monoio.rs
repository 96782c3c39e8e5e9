//! Echo on monoio over io_uring, as its documentation has it: `echo-monoio [BUFFER]`.

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            monoio::spawn(echo(socket));
        }
    })
}

async fn echo(mut socket: TcpStream) {
    let mut buffer = Vec::with_capacity(echo_peers::buffer_size());
    loop {
        let (read, read_buffer) = socket.read(buffer).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let (written, written_buffer) = socket.write_all(read_buffer).await;
        if written.is_err() {
            return;
        }
        buffer = written_buffer;
        buffer.clear();
    }
}
