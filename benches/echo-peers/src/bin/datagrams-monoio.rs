//! Echo of datagrams on monoio over io_uring, as its documentation has it.

use monoio::net::udp::UdpSocket;
use monoio::{IoUringDriver, RuntimeBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().build()?;
    runtime.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        println!("{}", socket.local_addr()?);
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            let (received, read_buffer) = socket.recv_from(buffer).await;
            let (_, from) = received?;
            let (sent, written_buffer) = socket.send_to(read_buffer, from).await;
            sent?;
            buffer = written_buffer;
            buffer.clear();
        }
    })
}
