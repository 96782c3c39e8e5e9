//! A proxy in front of HTTP servers.
//!
//! `cargo run --release --example reverse_proxy http://127.0.0.1:9000 [http://.. ..] [ADDRESS]`: what comes to the
//! address, 127.0.0.1:8082 unless it is given, goes on to one of the servers. A line for each request goes to
//! standard output, and one to standard error for each that failed.

#![allow(
    unreachable_pub,
    clippy::missing_errors_doc,
    clippy::print_stderr,
    reason = "the tests include this file; an example may print"
)]

use std::process::ExitCode;

use torsade::prelude::*;
use torsade::protocols::http::{
    AccessLog, Client, Handler, MessageLimits, ReverseProxy, ServerLimits, Site,
};

#[path = "common/mod.rs"]
mod common;

/// Where it listens, unless it is told.
pub const ADDRESS: &str = "127.0.0.1:8082";

/// Bodies may be as long as the servers allow: nothing of them is kept here.
pub const BODY_MAX: u64 = 1 << 40;

/// Passes requests on to these servers, which take turns. There is one at least.
pub fn proxy(client: &Client, upstreams: &[String]) -> Result<ReverseProxy, Failure> {
    let (first, others) = upstreams
        .split_first()
        .ok_or_else(|| Failure::message("in front of which server?"))?;
    let mut proxy = ReverseProxy::new(client, &**first)?;
    for other in others {
        proxy = proxy.and(&**other)?;
    }
    Ok(proxy.on_failure(|failure| eprintln!("{failure}")))
}

/// The proxy, with a line in the log for each request.
pub fn site(proxy: impl Handler, log: AccessLog) -> Site {
    let message = MessageLimits {
        body: BODY_MAX,
        ..MessageLimits::default()
    };
    let limits = ServerLimits {
        message,
        ..ServerLimits::default()
    };
    Site::new(proxy)
        .limits(limits)
        .access_log(move |access| log.write(access))
}

/// What is a URL, and what is an address to listen on.
pub fn arguments(arguments: impl Iterator<Item = String>) -> (Vec<String>, String) {
    let (upstreams, mut addresses): (Vec<_>, Vec<_>) = arguments.partition(|it| it.contains("://"));
    let address = addresses.pop().unwrap_or_else(|| ADDRESS.to_owned());
    (upstreams, address)
}

fn main() -> ExitCode {
    common::run("reverse_proxy", |reactor| {
        let (upstreams, address) = arguments(std::env::args().skip(1));
        let proxy = proxy(&Client::new(reactor), &upstreams)?;
        let log = AccessLog::to(reactor, std::io::stdout());
        let server = site(proxy, log).listen(reactor, &*address)?;
        common::serve(reactor, server.port())
    })
}
