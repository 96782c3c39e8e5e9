//! Echo on Torsade, as its README has it.

use torsade::prelude::*;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp("127.0.0.1:0", |_peer: &Address| Echo)?;
    println!("{}", port.address());
    reactor.run()?;
    Ok(())
}
