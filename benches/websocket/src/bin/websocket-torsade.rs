//! Echo over WebSocket on Torsade, as its documentation has it.

use torsade::prelude::*;
use torsade::protocols::http::{Request, serve};
use torsade::protocols::websocket::{Message, WebSocketProtocol, WebSocketTransport, accept};

struct Echo;

impl WebSocketProtocol for Echo {
    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        transport.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::new()?;
    let server = serve(&reactor, "127.0.0.1:0", |request: Request| {
        accept(&request, Echo)
    })?;
    println!("{}", server.address());
    reactor.run()?;
    Ok(())
}
