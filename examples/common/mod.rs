//! What the examples share: how they start, say something, and give up.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "each example uses a part of it; an example may print"
)]

use std::io::Write;
use std::process::ExitCode;

use torsade::prelude::*;

/// Runs an example. If it cannot start or go on, one line on standard error says why,
/// and the exit status is 1.
pub fn run(name: &str, example: impl FnOnce(&Reactor) -> Result<(), Failure>) -> ExitCode {
    // `?` makes a `Failure` of every kind of error; its text is the error's own.
    let outcome = Reactor::new()
        .map_err(Failure::from)
        .and_then(|reactor| example(&reactor));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Listens until Ctrl-C: what a server example does once it has its port.
pub fn serve(reactor: &Reactor, port: &Port) -> Result<(), Failure> {
    say(&format!("listening on {}", port.address()));
    // SIGINT and SIGTERM make `run` return, after every connection is closed.
    reactor.run()?;
    Ok(())
}

/// The first argument, or this.
pub fn address_or(default: &str) -> String {
    std::env::args()
        .nth(1)
        .unwrap_or_else(|| default.to_owned())
}

/// Prints a line. (Unlike `println!` it does not panic when nobody reads, as in
/// `demo | head -1`.)
pub fn say(line: &str) {
    // Whoever read it is gone, and there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}
