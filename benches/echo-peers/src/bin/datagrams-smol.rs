//! Echo of datagrams on smol, as its documentation has it.

use smol::net::UdpSocket;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        println!("{}", socket.local_addr()?);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..count], from).await?;
        }
    })
}
