//! A notice board that is read in the clear and written to over TLS: STARTTLS.
//!
//! `cargo run --release --example starttls [ADDRESS]`, then `nc -C 127.0.0.1 8025` and `HELP`; or
//! `openssl s_client -starttls smtp -crlf -connect 127.0.0.1:8025`, which speaks its language
//! well enough.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::tls::ServerConfig;

#[path = "common/mod.rs"]
mod common;

/// What all connections share.
#[derive(Clone, Default)]
pub struct Board(Rc<RefCell<Vec<String>>>);

/// One visitor, in the clear and then over TLS: the same value, on the same transport.
pub struct Visitor {
    board: Board,
    config: ServerConfig,
}

impl Visitor {
    /// Seats a visitor on a connection that begins in the clear.
    pub fn new(board: &Board, config: &ServerConfig) -> StartTls<Lines<Self>> {
        let visitor = Self {
            board: board.clone(),
            config: config.clone(),
        };
        // `StartTls` below the lines is what makes it possible.
        StartTls::new(Lines::new(visitor))
    }

    fn is_secured(transport: &LineTransport<Self>) -> bool {
        tls::session(transport).is_some()
    }
}

impl LineReceiver for Visitor {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        transport.send_line("220 a notice board");
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let (command, text) = line.split_once(' ').unwrap_or((&line, ""));
        match command.to_ascii_uppercase().as_str() {
            "EHLO" if !Self::is_secured(transport) => {
                transport.send_line("250-welcome");
                transport.send_line("250 STARTTLS");
            }
            "EHLO" => transport.send_line("250 welcome"),
            "STARTTLS" if !Self::is_secured(transport) => {
                // In the clear, since it comes before.
                transport.send_line("220 go ahead");
                // What has come behind the command is the handshake, or the connection ends: it
                // is never taken for something that was said over TLS.
                if let Err(error) = transport.start_tls_server(&self.config) {
                    transport.lose_connection_because(error);
                }
            }
            "READ" => {
                for notice in self.board.0.borrow().iter() {
                    transport.send_line(format!("250-{notice}"));
                }
                transport.send_line("250 that is all");
            }
            "WRITE" if Self::is_secured(transport) => {
                let mut notices = self.board.0.borrow_mut();
                // Bounded: whoever comes may write.
                if notices.len() < 100 {
                    notices.push(text.to_owned());
                    transport.send_line("250 it is there");
                } else {
                    transport.send_line("452 the board is full");
                }
            }
            "WRITE" => transport.send_line("530 STARTTLS first"),
            "QUIT" => {
                transport.send_line("221 goodbye");
                transport.lose_connection();
            }
            _ => transport.send_line("500 EHLO, READ, STARTTLS, WRITE or QUIT"),
        }
    }
}

/// Listens with a certificate that is made on the spot; see `tls_echo` for others.
pub fn listen(reactor: &Reactor, address: &str) -> Result<Port, Failure> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let config = tls::server_config(identity).build()?;
    let board = Board::default();
    let accept = move |_: &Address| Visitor::new(&board, &config);
    Ok(reactor.listen_tcp(address, accept)?)
}

fn main() -> ExitCode {
    common::run("starttls", |reactor| {
        let port = listen(reactor, &common::address_or("127.0.0.1:8025"))?;
        common::serve(reactor, &port)
    })
}
