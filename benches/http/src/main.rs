//! Requests and responses: the CPU time of the server's process for each.
//!
//! `cargo run --release -p http-bench [ROUNDS [TABLE]]`. In each round each server, in a process of its own
//! that lives as long as the table, answers a fixed number of requests of this process, which looks at
//! every byte of every response but the date's. What is measured is what the kernel says that the
//! server ran meanwhile (proc(5), `schedstat`, of all its threads).

mod load;
mod peers;
mod servers;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use bench_rounds::{Row, table};

use self::load::{Load, Server};

const ROUNDS: usize = 7;

/// A table: what is asked, by how many, how deep.
struct Table {
    title: &'static str,
    load: Load,
    /// Who takes part.
    servers: &'static [&'static str],
}

const EVERYBODY: &[&str] = &["torsade", "hyper", "actix-web", "may_minihttp", "nginx", "node"];
const NO_NGINX: &[&str] = &["torsade", "hyper", "actix-web", "may_minihttp", "node"];

fn tables() -> Vec<Table> {
    let hello = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec();
    let load = |connections, depth, messages| Load {
        request: hello.clone(),
        connections,
        depth,
        messages,
    };
    let asking = |path: &str, connections, messages| Load {
        request: format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes(),
        ..load(connections, 1, messages)
    };
    let mut post = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1024\r\n\r\n".to_vec();
    post.extend_from_slice(&[b'e'; 1024]);
    vec![
        Table {
            title: "hello, 64 connections",
            load: load(64, 1, 100_000),
            servers: EVERYBODY,
        },
        Table {
            title: "hello, 64 connections, 16 deep",
            load: load(64, 16, 400_000),
            servers: EVERYBODY,
        },
        Table {
            title: "hello, 50 connections",
            load: load(50, 1, 100_000),
            servers: EVERYBODY,
        },
        Table {
            title: "hello, 500 connections",
            load: load(500, 1, 100_000),
            servers: EVERYBODY,
        },
        Table {
            title: "JSON, 64 connections",
            load: asking("/json", 64, 100_000),
            servers: NO_NGINX,
        },
        Table {
            title: "a file of 10 KiB, 64 connections",
            load: asking("/file", 64, 50_000),
            servers: EVERYBODY,
        },
        Table {
            title: "POST of 1 KiB, echoed, 64 connections",
            load: Load {
                request: post,
                ..load(64, 1, 50_000)
            },
            servers: NO_NGINX,
        },
    ]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name] => servers::serve(name),
        [] => measure(ROUNDS, ""),
        [rounds] => rounds
            .parse()
            .map_err(Into::into)
            .and_then(|rounds| measure(rounds, "")),
        [rounds, title] => rounds
            .parse()
            .map_err(Into::into)
            .and_then(|rounds| measure(rounds, title)),
        _ => Err("usage: http-bench [ROUNDS [TABLE]]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: usize, only: &str) -> Result<(), Box<dyn Error>> {
    println!(
        "CPU time in us of the server (user and system) a request, {rounds} rounds, turn about\n"
    );
    for it in tables() {
        if !it.title.contains(only) {
            continue;
        }
        let servers: Vec<_> = it.servers.iter().map(|name| Server::start(name)).collect();
        let mut rows = Vec::new();
        for (server, name) in servers.iter().zip(it.servers) {
            let load = &it.load;
            rows.push(Row::new(*name, move || {
                let server = server.as_ref().map_err(ToString::to_string)?;
                server.take(load).map_err(|error| error.to_string())
            }));
        }
        table(it.title, rounds, &mut rows)?;
    }
    Ok(())
}
