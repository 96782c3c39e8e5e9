//! Echo over UDP: every datagram goes back, and a client that asks again when one is lost.
//!
//! `cargo run --release --example udp_echo [ADDRESS]` serves, on 127.0.0.1:8007 if nobody says
//! otherwise; `cargo run --release --example udp_echo ask HOST:PORT TEXT` asks.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// One port, for everybody. It has no state, so it is empty.
pub struct UdpEcho;

impl DatagramProtocol for UdpEcho {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        // Leaves at once, or waits in a queue with a bound. It may get lost: that is UDP.
        transport.write_to(data, from);
    }
}

/// Listens.
pub fn listen(reactor: &Reactor, address: &str) -> Result<DatagramTransport<UdpEcho>, ListenError> {
    reactor.listen_udp(address, UdpEcho)
}

/// How long an answer may take before the client asks again.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// How often it asks.
pub const TRIES: u32 = 10;

/// Asks one server one thing.
struct Ask {
    server: SocketAddr,
    question: String,
    answer: Option<Trigger<String>>,
    tries: u32,
    next_try: Option<DelayedCall>,
}

impl Ask {
    fn ask(&mut self, transport: &DatagramTransport<Self>) {
        if self.tries == TRIES {
            return self.finish(transport, Err(Failure::from(NoAnswer)));
        }
        self.tries += 1;
        transport.write(&self.question);
        let again = transport.clone();
        let call = move || again.call(Self::ask);
        self.next_try = Some(transport.reactor().call_later(PATIENCE, call));
    }

    fn finish(&mut self, transport: &DatagramTransport<Self>, outcome: Result<String, Failure>) {
        if let Some(call) = self.next_try.take() {
            call.cancel();
        }
        if let Some(answer) = self.answer.take() {
            answer.fire(outcome);
        }
        drop(transport.stop_listening());
    }
}

impl DatagramProtocol for Ask {
    fn start_protocol(&mut self, transport: &DatagramTransport<Self>) {
        // From now on only this server is heard, and it is told if nobody listens there.
        match transport.connect(self.server) {
            Ok(()) => self.ask(transport),
            Err(error) => self.finish(transport, Err(error.into())),
        }
    }

    fn datagram_received(&mut self, transport: &DatagramTransport<Self>, data: &[u8], _: &Address) {
        // What was asked twice may be answered twice: the first is as good as any. Something
        // else is an answer to nobody.
        if data == self.question.as_bytes() {
            let text = String::from_utf8_lossy(data).into_owned();
            self.finish(transport, Ok(text));
        }
    }

    fn connection_refused(&mut self, transport: &DatagramTransport<Self>) {
        let refused = Failure::message(format!("nobody listens on {}", self.server));
        self.finish(transport, Err(refused));
    }
}

/// Nothing came back, however often it was asked.
#[derive(Debug)]
pub struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer to {TRIES} datagrams")
    }
}

impl std::error::Error for NoAnswer {}

/// Looks the server up, asks it, and gives what comes back.
pub fn ask(reactor: &Reactor, host: &str, port: u16, question: &str) -> Deferred<String> {
    let (question, handle) = (question.to_owned(), reactor.clone());
    reactor.resolve(host, port).add_callback(move |addresses| {
        let Some(server) = addresses.first().copied() else {
            return fail(Failure::message("the host has no address"));
        };
        let (trigger, answer) = Deferred::new();
        let client = Ask {
            server,
            question,
            answer: Some(trigger),
            tries: 0,
            next_try: None,
        };
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        match handle.listen_udp(any, client) {
            Ok(_) => answer,
            Err(error) => fail(error),
        }
    })
}

fn main() -> ExitCode {
    common::run("udp_echo", |reactor| {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        if let ["ask", server, question] = arguments[..] {
            let split = server.rsplit_once(':');
            let parsed = split.and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let (host, port) = parsed.ok_or_else(|| Failure::message("say HOST:PORT"))?;
            let answer = reactor.run_until(ask(reactor, host, port, question))?;
            common::say(&answer);
            return Ok(());
        }
        let port = listen(reactor, &common::address_or("127.0.0.1:8007"))?;
        common::say(&format!("listening on {}", port.host()));
        reactor.run()?;
        Ok(())
    })
}
