//! Connections that are silent: the memory of the server for each.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use bench_rounds::{Cost, Result, Row, Server, Table};

use crate::servers::STREAMS;

const CONNECTIONS: u64 = 10_000;

/// What one buffer for each connection is by default in many a program; of a larger one
/// nothing would be used that is not touched.
const BUFFER: &str = "4096";

/// It differs by a page or two from round to round: more than this say nothing new.
const ROUNDS: usize = 3;

pub fn measure(rounds: usize) -> Result<()> {
    let mut rows = Vec::new();
    for contender in &STREAMS {
        rows.push(Row::new(contender.title, || {
            held(&contender.start_with(BUFFER)?, b"hello", b"hello")
        }));
    }
    rows.push(Row::new("redis (its own protocol)", || {
        held(&redis()?, b"PING\r\n", b"+PONG\r\n")
    }));
    Table::new(
        "idle",
        "10,000 silent connections",
        "KiB of memory a connection",
    )
    .run(rounds.min(ROUNDS), &mut rows)
}

fn redis() -> Result<Server> {
    let address = Server::free_address()?;
    let (_, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--maxclients",
        "12000",
        "--save",
        "",
    ]);
    Server::at(&mut command, address.clone())
}

/// How much it holds more when all have spoken once and are silent.
fn held(server: &Server, question: &[u8], expected: &[u8]) -> Result<Cost> {
    let mut open = Vec::with_capacity(CONNECTIONS as usize);
    let ask = |open: &mut Vec<TcpStream>| -> Result<()> {
        let mut peer = server.connect()?;
        peer.write_all(question)?;
        let mut answer = vec![0; expected.len()];
        peer.read_exact(&mut answer)?;
        if answer != expected {
            return Err("wrong bytes came back".into());
        }
        open.push(peer);
        Ok(())
    };
    // What it needs for the first is not for this one alone.
    ask(&mut open)?;
    let before = server.memory_now()?;
    for _ in 0..CONNECTIONS {
        ask(&mut open)?;
    }
    Ok(Cost {
        cost: (server.memory_now()? - before) as f64 / CONNECTIONS as f64,
        memory: Some(server.peak_memory()?),
    })
}
