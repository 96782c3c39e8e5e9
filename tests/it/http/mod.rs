//! HTTP, over streams made of memory.

mod auth;
mod bodies;
mod cache;
mod client;
mod holds;
mod interim;
mod layers;
mod limits;
mod load;
mod peers;
mod pipelining;
pub(crate) mod programs;
mod proxies;
mod routes;
mod server;
mod simulated;
mod sites;
mod slow_clients;
mod static_files;
mod uploads;

use std::rc::Rc;
use std::time::Duration;

use torsade::protocols::http::{Handler, Site};
use torsade::reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade::reactor::{Factory, Reactor, Transport, task};

/// A client that is made of a test: it sends bytes and sees bytes.
struct Client {
    reactor: Reactor,
    stream: Rc<MemoryStream>,
}

impl Client {
    fn of(site: &Site) -> Self {
        Self::at(&virtual_time_reactor(), site)
    }

    fn at(reactor: &Reactor, site: &Site) -> Self {
        let reactor = reactor.clone();
        let stream = MemoryStream::new(&reactor);
        let peer = torsade::reactor::Stream::socket(&*stream).peer();
        let protocol = site.clone().build_protocol(&peer);
        Transport::connect(protocol.expect("nobody is refused"), stream.clone());
        Self { reactor, stream }
    }

    fn asking(handler: impl Handler) -> Self {
        Self::of(&Site::new(handler))
    }

    fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream.receive(bytes.as_ref());
    }

    /// Sends a GET, without anything that a GET need not have.
    fn get(&self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n"));
    }

    /// What came since the last time, without its dates.
    fn answers(&self) -> String {
        let text = self.stream.take_written();
        let text = String::from_utf8(text).expect("these answers are text");
        let lines = text.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with("date: ")).collect()
    }

    /// Turns the reactor until everything that was asked for soon has happened.
    fn turn(&self) {
        for _ in 0..5 {
            let turned = self.reactor.turn(Some(Duration::ZERO));
            turned.expect("it can be turned");
        }
    }

    /// Lets time pass.
    fn wait(&self, seconds: u64) {
        let slept = task::sleep(&self.reactor, Duration::from_secs(seconds));
        self.reactor.run_until(slept).expect("time passes");
    }

    fn is_closed(&self) -> bool {
        !torsade::reactor::Stream::is_connected(&*self.stream)
    }
}

/// A response of text, as it is written.
fn text(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
