//! The peers in other languages: programs that do the work of a table and print what a unit cost.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use bench_rounds::{Missing, Result, compile_c, compile_go, python, source};

pub struct Peer {
    pub title: &'static str,
    /// The tables that it has.
    pub tables: &'static [&'static str],
    /// Above that it would take minutes.
    largest: usize,
    program: fn() -> Result<Vec<OsString>>,
}

const TIMERS: &[&str] = &["timers_cancel", "timers_replace", "timers_fire"];
const PYTHONS: &[&str] = &[
    "call_soon",
    "timers_cancel",
    "timers_replace",
    "timers_fire",
    "call_from_thread",
];

static PEERS: [Peer; 6] = [
    Peer {
        title: "libuv",
        tables: &[
            "timers_cancel",
            "timers_replace",
            "timers_fire",
            "turn",
            "turn_answered",
        ],
        largest: usize::MAX,
        program: || {
            Ok(vec![
                compile_c("bench-loop-libuv", &file("libuv.c"))?.into(),
            ])
        },
    },
    Peer {
        title: "Go, one processor: AfterFunc",
        tables: TIMERS,
        largest: usize::MAX,
        program: || Ok(vec![compile_go("bench-loop-go", &file("loop.go"))?.into()]),
    },
    Peer {
        title: "Node",
        tables: &[
            "call_soon",
            "timers_cancel",
            "timers_replace",
            "timers_fire",
        ],
        largest: usize::MAX,
        program: || Ok(vec!["node".into(), file("loop.mjs").into()]),
    },
    Peer {
        title: "uvloop",
        tables: PYTHONS,
        largest: 100_000,
        program: || with_python("uvloop"),
    },
    Peer {
        title: "asyncio",
        tables: PYTHONS,
        largest: 100_000,
        program: || with_python("asyncio"),
    },
    Peer {
        title: "Twisted",
        tables: PYTHONS,
        largest: 100_000,
        program: || with_python("twisted"),
    },
];

/// Each with its program, compiled if it has to be; or what is missing.
pub fn all() -> Vec<(&'static Peer, Result<Vec<OsString>>)> {
    PEERS.iter().map(|peer| (peer, (peer.program)())).collect()
}

impl Peer {
    /// What does the work of a table at a size.
    pub fn command(&self, program: &[OsString], table: &str, size: usize) -> Result<Command> {
        if TIMERS.contains(&table) && size > self.largest {
            return Err(Missing::new("it would take minutes").into());
        }
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg(table).arg(size.to_string());
        Ok(command)
    }
}

fn with_python(module: &str) -> Result<Vec<OsString>> {
    python(module)?;
    Ok(vec![
        "python3".into(),
        file("loop.py").into(),
        module.into(),
    ])
}

fn file(name: &str) -> PathBuf {
    source(env!("CARGO_MANIFEST_DIR"), &format!("peers/{name}"))
}
