//! `reverse-proxy-torsade BACK`: the proxy of the documentation, on a free port. `reverse-proxy-torsade back`: what
//! stands behind the proxies.

use std::env;
use std::error::Error;

use torsade::prelude::*;
use torsade::protocols::http::{
    Answer, Client, ClientLimits, IntoAnswer, Request, ReverseProxy, StatusCode,
};

/// To the one server behind it, as nginx is told to keep.
const CONNECTIONS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let back = env::args().nth(1);
    let back = back.ok_or("usage: reverse-proxy-torsade BACK | back")?;
    let reactor = Reactor::new()?;
    let server = if back == "back" {
        let long = "a line of a page that is not short\n".repeat(10 * 1024 / 35);
        http::serve(
            &reactor,
            "127.0.0.1:0",
            move |mut request: Request| -> Answer {
                match request.path() {
                    "/" => "Hello, world!".into_answer(),
                    "/page" => long.clone().into_answer(),
                    "/echo" => request.read_body().into_answer(),
                    _ => StatusCode::NOT_FOUND.into_answer(),
                }
            },
        )?
    } else {
        let limits = ClientLimits {
            per_origin: CONNECTIONS,
            ..ClientLimits::default()
        };
        let client = Client::new(&reactor).limits(limits);
        let proxy = ReverseProxy::new(&client, &*format!("http://{back}"))?;
        http::serve(&reactor, "127.0.0.1:0", proxy)?
    };
    println!("{}", server.address());
    reactor.run()?;
    Ok(())
}
