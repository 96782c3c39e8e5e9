//! The example `proxy`, on a free port: `forward-torsade BACK`.

use std::env;
use std::error::Error;
use std::rc::Rc;

use torsade::prelude::*;

#[allow(dead_code, reason = "its main is not ours")]
#[path = "../../../../examples/proxy.rs"]
mod proxy;

fn main() -> Result<(), Box<dyn Error>> {
    let back = env::args().nth(1).ok_or("usage: forward-torsade BACK")?;
    let reactor = Reactor::new()?;
    let front = torsade::server_from_string("tcp:0:interface=127.0.0.1")?;
    let back = torsade::client_from_string(&format!("tcp:{back}"))?;
    let port = reactor.run_until(proxy::listen(&reactor, &front, back, &Rc::default()))?;
    println!("{}", port.address());
    reactor.run()?;
    Ok(())
}
