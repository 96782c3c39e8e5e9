//! A proxy in front of HTTP servers.
//!
//! `cargo run --release --example reverse_proxy http://127.0.0.1:9000 [http://.. ..] [ADDRESS] [--cache MEGABYTES]`: what
//! comes to the address, 127.0.0.1:8082 unless it is given, goes on to one of the servers; with `--cache`, answers
//! are kept that may be, as RFC 9111 has it. A line for each request goes to standard output, and one to standard
//! error for each that failed.

#![allow(
    unreachable_pub,
    clippy::missing_errors_doc,
    clippy::print_stderr,
    reason = "the tests include this file; an example may print"
)]

use std::process::ExitCode;

use torsade::prelude::*;
use torsade::protocols::http::cache::{CacheKind, CacheLimits};
use torsade::protocols::http::{
    AccessLog, Cache, Client, Handler, MessageLimits, ReverseProxy, ServerLimits, Site,
};

#[path = "common/mod.rs"]
mod common;

/// Where it listens, unless it is told.
pub const ADDRESS: &str = "127.0.0.1:8082";

/// Bodies may be as long as the servers allow: nothing of them is kept here.
pub const BODY_MAX: u64 = 1 << 40;

/// What it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The servers that it stands in front of; they take turns. There is one at least.
    pub upstreams: Vec<String>,
    /// Where it listens.
    pub address: String,
    /// How much a cache may keep, in megabytes; none, if nothing.
    pub cache: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            address: ADDRESS.to_owned(),
            cache: None,
        }
    }
}

impl Options {
    /// What stands on a command line, behind the name of the program.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            if argument == "--cache" {
                let value = arguments.next();
                let value = value.ok_or_else(|| Failure::message("--cache wants a value"))?;
                options.cache = Some(value.parse()?);
            } else if argument.contains("://") {
                options.upstreams.push(argument);
            } else {
                options.address = argument;
            }
        }
        Ok(options)
    }

    /// The proxy, as it is told to be.
    pub fn proxy(&self, reactor: &Reactor) -> Result<ReverseProxy, Failure> {
        let (first, others) = self
            .upstreams
            .split_first()
            .ok_or_else(|| Failure::message("in front of which server?"))?;
        let mut proxy = ReverseProxy::new(&Client::new(reactor), &**first)?;
        for other in others {
            proxy = proxy.and(&**other)?;
        }
        if let Some(megabytes) = self.cache {
            let limits = CacheLimits {
                bytes: megabytes << 20,
                ..CacheLimits::default()
            };
            let cache = Cache::new(reactor, CacheKind::Shared).limits(limits);
            proxy = proxy.through(|fetch| cache.around(fetch));
        }
        Ok(proxy.on_failure(|failure| eprintln!("{failure}")))
    }
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

fn main() -> ExitCode {
    common::run("reverse_proxy", |reactor| {
        let options = Options::parse(std::env::args().skip(1))?;
        let proxy = options.proxy(reactor)?;
        let log = AccessLog::to(reactor, std::io::stdout());
        let server = site(proxy, log).listen(reactor, &*options.address)?;
        common::serve(reactor, server.port())
    })
}
