//! Connections that come and go: the CPU time of the server for each.

use std::io::{Read, Write};
use std::net::TcpStream;

use bench_rounds::{Cost, Result, Row, Server, Table, standing};

use crate::servers::{Contender, STREAMS};

/// In a run, and open at once.
const CONNECTIONS: u64 = 2_000;
const AT_ONCE: u64 = 50;

/// Small, so that a buffer for each connection costs nothing to speak of.
const BUFFER: &str = "256";

pub fn measure(rounds: usize) -> Result<()> {
    for (column, speaks) in [
        ("ended at once", false),
        ("one message of 64 B, then ended", true),
    ] {
        let running: Vec<Result<Server>> = STREAMS.iter().map(|it| it.start_with(BUFFER)).collect();
        let mut rows = Vec::new();
        for (server, contender) in running.iter().zip(&STREAMS) {
            rows.push(Row::new(contender.title, move || {
                take(standing(server)?, contender, speaks)
            }));
        }
        Table::new("accepts", column, "us of CPU time a connection").run(rounds, &mut rows)?;
    }
    Ok(())
}

/// Has it accept and lose connections.
fn take(server: &Server, contender: &Contender, speaks: bool) -> Result<Cost> {
    let connections = CONNECTIONS / contender.slower / AT_ONCE * AT_ONCE;
    // As many descriptors as it has with one connection that has spoken.
    let first = spoken(server)?;
    let open_at_most = server.descriptors()?;
    let before = server.ran()?;
    drop(first);
    for _ in 0..connections / AT_ONCE {
        let mut open = Vec::with_capacity(AT_ONCE as usize);
        for _ in 0..AT_ONCE {
            open.push(server.connect()?);
        }
        if speaks {
            for peer in &mut open {
                peer.write_all(&[b'q'; 64])?;
            }
            for peer in &mut open {
                let mut answer = [0; 64];
                peer.read_exact(&mut answer)?;
                if answer != [b'q'; 64] {
                    return Err("wrong bytes came back".into());
                }
            }
        }
    }
    // The last of them are lost when an answer comes on a new one, if it loses them at all.
    let _last = spoken(server)?;
    server.wait_for_descriptors(open_at_most)?;
    Ok(Cost {
        cost: (server.ran()? - before) as f64 / connections as f64 / 1000.0,
        memory: Some(server.peak_memory()?),
    })
}

/// A connection on which a byte was there and back.
fn spoken(server: &Server) -> Result<TcpStream> {
    let mut peer = server.connect()?;
    let mut answer = [0];
    peer.write_all(b"?")?;
    peer.read_exact(&mut answer)?;
    match &answer {
        b"?" => Ok(peer),
        _ => Err("wrong bytes came back".into()),
    }
}
