//! Echo over TLS: a server with a certificate of its own making, and a client that trusts it.
//!
//! `cargo run --release --example tls_echo server [ADDRESS] [FILE]` writes its certificate to
//! FILE; then `cargo run --release --example tls_echo client [ADDRESS] [FILE]`, or
//! `openssl s_client -connect 127.0.0.1:8443 -CAfile FILE`.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;

use torsade::prelude::*;
use torsade::reactor::{TcpClientEndpoint, TcpServerEndpoint};

#[path = "common/mod.rs"]
mod common;

/// One connection. It does not know that there is TLS below it.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

/// Who a server is, for as long as it runs. One for the world has its certificate from an
/// authority: `Identity::from_pem_files("fullchain.pem", "key.pem")`.
pub struct OwnMaking {
    /// What others must trust, in PEM form.
    pub certificate: String,
    /// The same with its key.
    pub identity: Identity,
}

/// Makes a certificate for `name` that nobody vouches for but itself.
pub fn make_identity(name: &str) -> Result<OwnMaking, Failure> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
    let certificate = made.cert.pem();
    let identity = Identity::from_pem(&certificate, made.signing_key.serialize_pem())?;
    Ok(OwnMaking {
        certificate,
        identity,
    })
}

/// Listens. An `Echo` is built for each connection whose handshake has gone well; of the others it
/// hears nothing.
pub fn listen(
    reactor: &Reactor,
    address: &str,
    identity: Identity,
) -> Result<Deferred<Port>, Failure> {
    let config = tls::server_config(identity).build()?;
    let endpoint = TlsServerEndpoint::new(TcpServerEndpoint::new(address), &config)
        .on_failed_handshake(|peer, error| common::say(&format!("{peer}: {error}")));
    Ok(reactor.listen(&endpoint, |_: &Address| Echo))
}

/// Says one thing, and hears it back.
pub struct Caller {
    text: &'static str,
    heard: Vec<u8>,
    answer: Option<Trigger<String>>,
}

impl Protocol for Caller {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        if let Some(session) = tls::session(transport) {
            let (version, ciphers) = (session.version(), session.cipher_suite());
            common::say(&format!("secured: {version:?}, {ciphers:?}"));
        }
        transport.write(self.text);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.heard.extend_from_slice(data);
        if self.heard.len() >= self.text.len() {
            transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        if let Some(answer) = self.answer.take() {
            // Not if it was cut short: an attacker could have done that.
            match reason {
                ConnectionLost::Done => {
                    answer.callback(String::from_utf8_lossy(&self.heard).into_owned());
                }
                reason => answer.errback(reason),
            }
        }
    }
}

/// Connects to an echo server that has a certificate for `localhost` from one of `roots`.
pub fn call(
    reactor: &Reactor,
    address: &str,
    roots: Roots,
    text: &'static str,
) -> Result<Deferred<String>, Failure> {
    let config = tls::client_config().roots(roots).build()?;
    let name = ServerName::try_from("localhost")?;
    let endpoint = TlsClientEndpoint::new(TcpClientEndpoint::new(address), &config, name);
    let caller = Caller {
        text,
        heard: Vec::new(),
        answer: None,
    };
    let connecting = reactor.connect(&endpoint, |_| caller);
    Ok(connecting.add_callback(|transport| {
        // Made here: if nobody can be reached, nobody waits for an answer.
        let (trigger, answer) = Deferred::new();
        transport.call(|caller, _| caller.answer = Some(trigger));
        answer
    }))
}

fn main() -> ExitCode {
    common::run("tls_echo", |reactor| {
        let mut arguments = std::env::args().skip(1);
        let what = arguments.next().unwrap_or("server".into());
        let address = arguments.next().unwrap_or("127.0.0.1:8443".into());
        let file = arguments.next().unwrap_or("tls_echo.pem".into());
        if what == "client" {
            let answer = call(
                reactor,
                &address,
                Roots::from_pem_file(file)?,
                "hello over TLS",
            )?;
            common::say(&reactor.run_until(answer)?);
            return Ok(());
        }
        let own = make_identity("localhost")?;
        std::fs::write(&file, &own.certificate)?;
        common::say(&format!("the certificate is in {file}"));
        let port = reactor.run_until(listen(reactor, &address, own.identity)?)?;
        common::serve(reactor, &port)
    })
}
