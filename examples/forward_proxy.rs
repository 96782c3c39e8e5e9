//! A proxy in front of HTTP clients: whole URLs, and CONNECT.
//!
//! `cargo run --release --example forward_proxy [ADDRESS] [--user NAME:PASSWORD] [--port PORT].. [--local] [--cache MEGABYTES]`,
//! then
//! `curl --proxy http://127.0.0.1:3128 https://example.com/`. It listens on 127.0.0.1:3128 unless it is told otherwise.
//! CONNECT reaches port 443, and those that are named; with `--local` this host can be reached, too; with `--cache` answers
//! are kept that may be, as RFC 9111 has it. A line for each request, and for each tunnel when it is over, goes to standard output.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    clippy::print_stderr,
    reason = "the tests include this file; an example may print"
)]

use std::process::ExitCode;

use torsade::prelude::*;
use torsade::protocols::http::cache::{CacheKind, CacheLimits};
use torsade::protocols::http::{
    AccessLog, Cache, Client, ForwardProxy, MessageLimits, ServerLimits, Site, TunnelRecord,
};

#[path = "common/mod.rs"]
mod common;

/// What it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens.
    pub address: String,
    /// Who may use it, with the password; everybody, if nobody is named.
    pub user: Option<(String, String)>,
    /// What CONNECT reaches beside port 443.
    pub ports: Vec<u16>,
    /// This host can be reached.
    pub local: bool,
    /// How much a cache may keep, in megabytes; none, if nothing.
    pub cache: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:3128".to_owned(),
            user: None,
            ports: Vec::new(),
            local: false,
            cache: None,
        }
    }
}

impl Options {
    /// What stands on a command line, behind the name of the program.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let problem = || Failure::message(format!("{argument} wants a value"));
                arguments.next().ok_or_else(problem)
            };
            match &*argument {
                "--user" => {
                    let value = value()?;
                    let problem = || Failure::message("--user wants a name, a colon, a password");
                    let (name, password) = value.split_once(':').ok_or_else(problem)?;
                    options.user = Some((name.to_owned(), password.to_owned()));
                }
                "--port" => options.ports.push(value()?.parse()?),
                "--cache" => options.cache = Some(value()?.parse()?),
                "--local" => options.local = true,
                address => options.address = address.to_owned(),
            }
        }
        Ok(options)
    }

    /// The proxy, as it is told to be.
    pub fn proxy(&self, reactor: &Reactor) -> ForwardProxy {
        let ports = self.ports.clone();
        let mut proxy = ForwardProxy::new(&Client::new(reactor))
            .tunnel_ports(move |port| port == 443 || ports.contains(&port))
            .on_tunnel_over(|tunnel| common::say(&line(tunnel)))
            .on_failure(|failure| eprintln!("{failure}"));
        if self.local {
            proxy = proxy.allow_local();
        }
        if let Some((name, password)) = self.user.clone() {
            proxy = proxy.basic_auth("forward_proxy", move |user, given| {
                user == name && given == password
            });
        }
        if let Some(megabytes) = self.cache {
            let limits = CacheLimits {
                bytes: megabytes << 20,
                ..CacheLimits::default()
            };
            let cache = Cache::new(reactor, CacheKind::Shared).limits(limits);
            proxy = proxy.through(|fetch| cache.around(fetch));
        }
        proxy
    }
}

/// A tunnel that is over.
pub fn line(tunnel: &TunnelRecord) -> String {
    let (client, target, took) = (&tunnel.client, &tunnel.target, tunnel.took);
    let (forth, back) = (tunnel.carried.forth, tunnel.carried.back);
    format!("{client} to {target}: {forth} bytes forth, {back} back in {took:.1?}")
}

/// The proxy, with a line in the log for each request. Bodies may have any length: they are not kept.
pub fn site(proxy: ForwardProxy, log: AccessLog) -> Site {
    let message = MessageLimits {
        body: 1 << 40,
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

fn main() -> ExitCode {
    common::run("forward_proxy", |reactor| {
        let options = Options::parse(std::env::args().skip(1))?;
        let proxy = options.proxy(reactor);
        let log = AccessLog::to(reactor, std::io::stdout());
        let server = site(proxy, log).listen(reactor, &*options.address)?;
        common::serve(reactor, server.port())
    })
}
