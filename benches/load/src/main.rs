//! A closed-loop load generator for echo servers.
//!
//! `load ADDRESS CONNECTIONS SIZE DEPTH MESSAGES`: each connection keeps DEPTH messages
//! of SIZE bytes on their way until MESSAGES have come back in all. Every byte that
//! comes back is compared with the one that was sent; a difference, an early end,
//! or ten seconds in which nothing comes, is an error and exit status 1.
//!
//! For who measures the server: when all are connected it says `connected` and waits for a
//! line on its standard input; when all is back it says how many messages that were, and
//! keeps the connections until its standard input ends.

use std::env;
use std::io::stdin;

use bench_rounds::{Result, SILENCE_MAX};
use load::{Load, Stage, run};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, connections, size, depth, messages] = &arguments[..] else {
        return Err("usage: load ADDRESS CONNECTIONS SIZE DEPTH MESSAGES".into());
    };
    let load = Load {
        connections: connections.parse()?,
        size: size.parse()?,
        depth: depth.parse()?,
        messages: messages.parse()?,
    };
    run(address.parse()?, load, SILENCE_MAX, |stage| {
        match stage {
            Stage::Connected => println!("connected"),
            Stage::Done(messages) => println!("{messages} messages"),
        }
        stdin().read_line(&mut String::new())?;
        Ok(())
    })
}
