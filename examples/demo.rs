//! All servers together, in one loop and one thread.
//!
//! `cargo run --release --example demo`, until Ctrl-C.

#![allow(
    unreachable_pub,
    clippy::duplicate_mod,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;

use torsade::prelude::*;

#[path = "chat.rs"]
#[allow(dead_code, reason = "its main")]
mod chat;
#[path = "common/mod.rs"]
mod common;
#[path = "echo.rs"]
#[allow(dead_code, reason = "its main")]
mod echo;
#[path = "handle_request.rs"]
#[allow(dead_code, reason = "its main, and what it prints")]
mod handle_request;
#[path = "poetry_server.rs"]
#[allow(dead_code, reason = "its main, and its options")]
mod poetry_server;
#[path = "web.rs"]
#[allow(dead_code, reason = "its main")]
mod web;

/// One of the servers.
struct Server {
    name: &'static str,
    /// The port it takes, if it is free.
    address: &'static str,
    listen: fn(&Reactor, &str) -> Result<Port, ListenError>,
    /// What to type, with PORT for its port.
    invitation: &'static [&'static str],
}

const SERVERS: [Server; 5] = [
    Server {
        name: "echo",
        address: "127.0.0.1:8007",
        listen: echo::listen,
        invitation: &["nc 127.0.0.1 PORT", "curl telnet://127.0.0.1:PORT"],
    },
    Server {
        name: "chat",
        address: "127.0.0.1:8008",
        listen: chat::listen,
        invitation: &["nc 127.0.0.1 PORT                   (in two terminals; /who, /quit)"],
    },
    Server {
        name: "poetry",
        address: "127.0.0.1:8009",
        listen: |reactor, address| {
            poetry_server::listen(reactor, address, poetry_server::Recital::default())
        },
        invitation: &[
            "curl telnet://127.0.0.1:PORT",
            "cargo run --release --example poetry_client 127.0.0.1:PORT 127.0.0.1:PORT",
        ],
    },
    Server {
        name: "requests",
        address: "127.0.0.1:8010",
        listen: handle_request::listen,
        invitation: &["nc 127.0.0.1 PORT                   (then: ann, bob, or somebody else)"],
    },
    Server {
        name: "web",
        address: "127.0.0.1:8080",
        listen: |reactor, address| Ok(web::listen(reactor, address)?.port().clone()),
        invitation: &[
            "curl http://127.0.0.1:PORT/         (or a browser)",
            "curl -d message=hello http://127.0.0.1:PORT/sign",
            "curl -N http://127.0.0.1:PORT/countdown/3",
        ],
    },
];

/// Starts every server on its own port, or on a free one where that is taken, and prints
/// where it is and what to type.
pub fn start(reactor: &Reactor, print: impl Fn(&str)) -> Result<Vec<Port>, ListenError> {
    SERVERS
        .iter()
        .map(|server| start_one(reactor, server, &print))
        .collect()
}

fn start_one(
    reactor: &Reactor,
    server: &Server,
    print: &impl Fn(&str),
) -> Result<Port, ListenError> {
    let Server {
        name,
        address,
        listen,
        invitation,
    } = server;
    let port = match listen(reactor, address) {
        Err(ListenError::InUse { .. }) => {
            let port = listen(reactor, "127.0.0.1:0")?;
            print(&format!(
                "{name}: {address} is in use, so it is on a free port"
            ));
            port
        }
        outcome => outcome?,
    };
    print(&format!("{name} on {}", port.address()));
    let number = port.address().port().unwrap_or_default().to_string();
    for line in *invitation {
        print(&format!("    {}", line.replace("PORT", &number)));
    }
    Ok(port)
}

fn main() -> ExitCode {
    common::run("demo", |reactor| {
        start(reactor, common::say)?;
        common::say("Ctrl-C stops them all");
        // SIGINT and SIGTERM make it return, after every connection is closed.
        reactor.run()?;
        common::say("stopped: every port and every connection is closed");
        Ok(())
    })
}
