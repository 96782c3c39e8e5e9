//! Echo of datagrams on Torsade, as its guide has it.

use torsade::prelude::*;

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        transport.write_to(data, from);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::new()?;
    let port = reactor.listen_udp("127.0.0.1:0", Echo)?;
    println!("{}", port.host());
    reactor.run()?;
    Ok(())
}
