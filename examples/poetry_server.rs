//! A server that recites a poem, a few bytes at a time, to whoever connects.
//!
//! `cargo run --release --example poetry_server -- [ADDRESS] [--port PORT] [--delay SECONDS]
//! [--bytes COUNT] [--poem FILE]`, then `nc 127.0.0.1 8009`.
//!
//! After Dave Peticolas' Twisted tutorial. It serves any number of readers at once, each
//! from the beginning, in one thread: nobody waits while somebody else's pause lasts.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the demo and the tests include this file"
)]

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// Emily Dickinson, about 1861.
const POEM: &str = "\
I'm Nobody! Who are you?
Are you - Nobody - too?
Then there's a pair of us!
Don't tell! they'd advertise - you know!

How dreary - to be - Somebody!
How public - like a Frog -
To tell one's name - the livelong June -
To an admiring Bog!
";

/// What is recited, and how fast.
#[derive(Clone, Debug)]
pub struct Recital {
    /// The text; it ends with the end of a line.
    pub poem: Rc<str>,
    /// So many bytes at a time ...
    pub bytes: usize,
    /// ... and so long a pause after them.
    pub delay: Duration,
}

impl Default for Recital {
    fn default() -> Self {
        Self {
            poem: POEM.into(),
            bytes: 10,
            delay: Duration::from_millis(100),
        }
    }
}

/// One reader's recital.
pub struct Poet {
    recital: Recital,
    /// How much of the poem has been sent.
    sent: usize,
    /// The call that ends the pause.
    pause: Option<DelayedCall>,
}

impl Poet {
    /// Begins when the connection stands.
    pub fn new(recital: Recital) -> Self {
        Self {
            recital,
            sent: 0,
            pause: None,
        }
    }

    fn recite(&mut self, transport: &Transport<Self>) {
        let rest = &self.recital.poem.as_bytes()[self.sent..];
        let (piece, rest) = rest.split_at(rest.len().min(self.recital.bytes));
        transport.write(piece);
        if rest.is_empty() {
            // Sends what is unsent first. The end of the connection is the end of the poem.
            return transport.lose_connection();
        }
        self.sent += piece.len();
        // The call has a transport of its own; through it, it gets this poet back as
        // `&mut`. If the reader has gone by then, nothing is called.
        let later = transport.clone();
        let call = move || later.call(|poet, transport| poet.recite(transport));
        self.pause = Some(transport.reactor().call_later(self.recital.delay, call));
    }
}

impl Protocol for Poet {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.recite(transport);
    }

    /// Readers have nothing to say.
    fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {}

    /// A reader that will not write may still read, as `nc` does without a terminal. The
    /// default would lose the connection.
    fn read_connection_lost(&mut self, _transport: &Transport<Self>) {}

    fn connection_lost(&mut self, _reason: ConnectionLost) {
        if let Some(pause) = self.pause.take() {
            pause.cancel();
        }
    }
}

/// Listens for readers.
pub fn listen(reactor: &Reactor, address: &str, recital: Recital) -> Result<Port, ListenError> {
    reactor.listen_tcp(address, move |_peer: &Address| Poet::new(recital.clone()))
}

/// Reads the command line: where to listen, and what to recite.
pub fn options(arguments: impl IntoIterator<Item = String>) -> Result<(String, Recital), Failure> {
    let (mut address, mut recital) = ("127.0.0.1:8009".to_owned(), Recital::default());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            address = argument;
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| Failure::message(format!("{argument} needs a value")))?;
        let wrong = || Failure::message(format!("{argument} {value:?} is out of range"));
        match argument.as_str() {
            "--port" => address = format!("127.0.0.1:{value}"),
            "--delay" => {
                let seconds = value.parse().ok().ok_or_else(wrong)?;
                recital.delay = Duration::try_from_secs_f64(seconds)
                    .ok()
                    .ok_or_else(wrong)?;
            }
            "--bytes" => {
                recital.bytes = value
                    .parse()
                    .ok()
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(wrong)?;
            }
            "--poem" => {
                // Before the loop runs, reading a file blocks nobody.
                let text = std::fs::read_to_string(&value);
                let named = |error| Failure::message(format!("cannot read {value}: {error}"));
                recital.poem = text.map_err(named)?.into();
            }
            _ => return Err(Failure::message(format!("{argument} is no option"))),
        }
    }
    Ok((address, recital))
}

fn main() -> ExitCode {
    common::run("poetry_server", |reactor| {
        let (address, recital) = options(std::env::args().skip(1))?;
        let port = listen(reactor, &address, recital)?;
        common::serve(reactor, &port)
    })
}
