//! Requests and responses: the CPU time of the server's process for each.
//!
//! `cargo run --release -p http-bench [ROUNDS [TABLE]]`. In each round each server, in a process of its own
//! that lives as long as the table, answers a fixed number of requests of this process, which looks at
//! every byte of every response but the date's. What is measured is what the kernel says that the
//! server ran meanwhile (proc(5), `schedstat`, of all its threads).
//!
//! `http-bench wrk [ROUNDS]`: the same with `wrk` as the load, for a second each.

mod load;
mod peers;
mod servers;
mod wrk;

use std::env;
use std::process::ExitCode;

use bench_rounds::{Missing, Result, Row, Table, standing};

use self::load::Load;

const ROUNDS: usize = 7;

/// What is asked, by how many, how deep, and who takes part.
struct Shape {
    title: &'static str,
    load: Load,
    servers: &'static [&'static str],
    /// Who cannot do it, and why.
    lacks: Option<(&'static str, &'static str)>,
}

const EVERYBODY: &[&str] = &[
    "torsade",
    "hyper",
    "actix-web",
    "may_minihttp",
    "nginx",
    "Node",
];
const FILES: &[&str] = &[
    "torsade",
    "torsade, opened each time",
    "hyper",
    "actix-web",
    "may_minihttp",
    "nginx",
    "nginx, read",
    "nginx, opened each time",
    "Node",
];

/// Why nginx has no part in the POST: what `return` gives out is chosen before the body is read.
const NO_ECHO: (&str, &str) = (
    "nginx",
    "it gives no body back without another server, or a module that it comes without",
);

const JSON: &[u8] = br#"{"message":"Hello, world!","numbers":[1,2,3]}"#;

fn get(path: &str, body: &[u8], connections: usize, depth: usize, messages: usize) -> Load {
    Load {
        request: format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes(),
        body: body.to_vec(),
        connections,
        depth,
        messages,
    }
}

fn hello(connections: usize, depth: usize, messages: usize) -> Load {
    get("/", b"Hello, world!", connections, depth, messages)
}

fn shapes() -> Vec<Shape> {
    let mut post =
        b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1024\r\n\r\n".to_vec();
    post.extend_from_slice(&[b'e'; 1024]);
    let shape = |title, load, servers| Shape {
        title,
        load,
        servers,
        lacks: None,
    };
    let echo = Load {
        request: post,
        body: vec![b'e'; 1024],
        ..hello(64, 1, 20_000)
    };
    vec![
        shape("hello, 64 connections", hello(64, 1, 40_000), EVERYBODY),
        shape(
            "hello, 64 connections, 16 deep",
            hello(64, 16, 200_000),
            EVERYBODY,
        ),
        shape("hello, 50 connections", hello(50, 1, 40_000), EVERYBODY),
        shape("hello, 500 connections", hello(500, 1, 40_000), EVERYBODY),
        shape(
            "JSON, 64 connections",
            get("/json", JSON, 64, 1, 40_000),
            EVERYBODY,
        ),
        shape(
            "a file of 10 KiB, 64 connections",
            get("/file", &[b'f'; 10 * 1024], 64, 1, 15_000),
            FILES,
        ),
        Shape {
            lacks: Some(NO_ECHO),
            ..shape("POST of 1 KiB, echoed, 64 connections", echo, EVERYBODY)
        },
    ]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name] => servers::serve(name),
        ["wrk"] => wrk::measure(ROUNDS),
        ["wrk", rounds] => rounds.parse().map_err(Into::into).and_then(wrk::measure),
        [] => measure(ROUNDS, ""),
        [rounds] => rounds
            .parse()
            .map_err(Into::into)
            .and_then(|rounds| measure(rounds, "")),
        [rounds, title] => rounds
            .parse()
            .map_err(Into::into)
            .and_then(|rounds| measure(rounds, title)),
        _ => Err("usage: http-bench [ROUNDS [TABLE]] | wrk [ROUNDS]".into()),
    };
    bench_rounds::exit_code(outcome)
}

fn measure(rounds: usize, only: &str) -> Result<()> {
    for it in shapes() {
        if !it.title.contains(only) {
            continue;
        }
        let servers: Vec<_> = it
            .servers
            .iter()
            .map(|name| match it.lacks {
                Some((lacks, why)) if lacks == *name => Err(Missing::new(why).into()),
                _ => peers::start(name),
            })
            .collect();
        let mut rows = Vec::new();
        for (server, name) in servers.iter().zip(it.servers) {
            let load = &it.load;
            rows.push(Row::new(*name, move || load.take(standing(server)?)));
        }
        Table::new("http", it.title, "us of CPU time a request").run(rounds, &mut rows)?;
    }
    Ok(())
}
