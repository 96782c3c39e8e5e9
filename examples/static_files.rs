//! The files of a folder, for browsers and everybody else.
//!
//! `cargo run --release --example static_files FOLDER [ADDRESS]`, then http://127.0.0.1:8081/. A line
//! for each request goes to standard output.

#![allow(unreachable_pub, reason = "the tests include this file")]

use std::path::Path;
use std::process::ExitCode;

use torsade::prelude::*;
use torsade::protocols::http::{
    AccessLog, Compression, HeaderValue, Site, StaticFiles, compress, wrap,
};

#[path = "common/mod.rs"]
mod common;

/// What is below `folder`, with a line in the log for each request.
pub fn site(folder: &Path, log: AccessLog) -> Site {
    let files = StaticFiles::new(folder)
        .listing()
        .precompressed()
        .cache_control(HeaderValue::from_static("no-cache"));
    Site::new(wrap(files, compress(Compression::default())))
        .access_log(move |access| log.write(access))
}

fn main() -> ExitCode {
    common::run("static_files", |reactor| {
        let mut arguments = std::env::args().skip(1);
        let folder = arguments
            .next()
            .ok_or_else(|| Failure::message("which folder?"))?;
        let address = arguments
            .next()
            .unwrap_or_else(|| "127.0.0.1:8081".to_owned());
        let log = AccessLog::to(reactor, std::io::stdout());
        let server = site(Path::new(&folder), log).listen(reactor, &*address)?;
        common::serve(reactor, server.port())
    })
}
