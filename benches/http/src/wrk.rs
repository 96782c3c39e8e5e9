//! The same servers under `wrk`: CPU time for each response that it got.

use std::env;
use std::fs;
use std::process::Command;

use bench_rounds::{Cost, Missing, Result, Row, Server, Table, standing};

use crate::{EVERYBODY, hello, peers};

/// Connections, and requests that go together.
const SHAPES: [(&str, usize, usize); 3] = [
    ("hello, 50 connections", 50, 1),
    ("hello, 500 connections", 500, 1),
    ("hello, 50 connections, 16 deep", 50, 16),
];

/// What our own load asks of each before: whether what `wrk` counts is right.
const VERIFIED: usize = 1_000;

pub fn measure(rounds: usize) -> Result<()> {
    let there = installed();
    for (title, connections, depth) in SHAPES {
        let table = Table::new("http-wrk", title, "us of CPU time a request");
        if let Err(why) = &there {
            table.without(why, EVERYBODY)?;
            continue;
        }
        let servers: Vec<_> = EVERYBODY.iter().map(|name| peers::start(name)).collect();
        let mut rows = Vec::new();
        for (server, name) in servers.iter().zip(EVERYBODY) {
            let mut verified = false;
            rows.push(Row::new(*name, move || {
                let server = standing(server)?;
                if !verified {
                    hello(connections, depth, VERIFIED).take(server)?;
                    verified = true;
                }
                take(server, connections, depth)
            }));
        }
        table.run(rounds, &mut rows)?;
    }
    Ok(())
}

/// Whether `wrk` can be started: it says which one it is.
fn installed() -> std::result::Result<(), Missing> {
    let said = Command::new("wrk").arg("-v").output();
    said.map(drop)
        .map_err(|error| Missing(format!("wrk: {error}")))
}

/// A second of it.
fn take(server: &Server, connections: usize, depth: usize) -> Result<Cost> {
    let script = env::temp_dir().join(format!("http-bench-{}.lua", std::process::id()));
    fs::write(&script, include_str!("pipeline.lua"))?;
    let before = server.ran()?;
    let output = Command::new("wrk")
        .args(["-t", "1", "-d", "1s", "-c", &connections.to_string(), "-s"])
        .arg(&script)
        .arg(format!("http://{}/", server.address()))
        .args(["--", &depth.to_string()])
        .output()?;
    let ran = server.ran()? - before;
    fs::remove_file(&script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("result "));
    let numbers = result.ok_or_else(|| format!("wrk says: {text}"))?;
    let numbers: Vec<u64> = numbers
        .split(' ')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    match numbers[..] {
        [requests, 0, 0, 0, 0, 0] if requests > 0 => Ok(Cost {
            cost: ran as f64 / requests as f64 / 1000.0,
            memory: Some(server.peak_memory()?),
        }),
        _ => Err(
            format!("errors of wrk (connect, read, write, status, timeout): {numbers:?}").into(),
        ),
    }
}
