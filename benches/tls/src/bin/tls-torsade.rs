//! Echo over TLS on Torsade, as its documentation has it.

use torsade::prelude::*;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::env::args().skip(1);
    let (chain, key) = (
        files.next().ok_or("no chain")?,
        files.next().ok_or("no key")?,
    );
    let config = tls::server_config(Identity::from_pem_files(chain, key)?).build()?;
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp("127.0.0.1:0", move |_peer: &Address| {
        Tls::server(&config, Echo)
    })?;
    println!("{}", port.address());
    reactor.run()?;
    Ok(())
}
