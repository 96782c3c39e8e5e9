//! The peers in other languages: programs that do the work of a table and print what a unit cost.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use bench_rounds::{Missing, Result, compile_c, compile_go, python, source};

pub struct Peer {
    pub title: &'static str,
    /// The tables that it has.
    tables: &'static [&'static str],
    /// Those that it cannot have, and why.
    lacks: &'static [(&'static str, &'static str)],
    /// Above that it would take minutes.
    largest: usize,
    /// It takes several times as long as the others.
    pub is_slow: bool,
    program: fn() -> Result<Vec<OsString>>,
}

const TIMERS: &[&str] = &["timers_cancel", "timers_replace", "timers_fire"];
const PYTHONS: &[&str] = &[
    "call_soon",
    "timers_cancel",
    "timers_replace",
    "timers_fire",
    "call_from_thread",
    "latency",
    "turn",
    "turn_answered",
];
const NO_POLL: &str = "a program cannot have it watch a descriptor";

static PEERS: [Peer; 6] = [
    Peer {
        title: "libuv",
        tables: &[
            "timers_cancel",
            "timers_replace",
            "timers_fire",
            "call_from_thread",
            "latency",
            "turn",
            "turn_answered",
        ],
        lacks: &[(
            "call_soon",
            "a phase of its turn has one callback, not a call each",
        )],
        largest: usize::MAX,
        is_slow: false,
        program: || {
            Ok(vec![
                compile_c("bench-loop-libuv", &file("libuv.c"))?.into(),
            ])
        },
    },
    Peer {
        title: "Go, one processor",
        tables: &[
            "call_soon",
            "timers_cancel",
            "timers_replace",
            "timers_fire",
            "call_from_thread",
        ],
        lacks: &[
            ("latency", "a goroutine is not another thread's"),
            ("turn", NO_POLL),
            ("turn_answered", NO_POLL),
        ],
        largest: usize::MAX,
        is_slow: true,
        program: || Ok(vec![compile_go("bench-loop-go", &file("loop.go"))?.into()]),
    },
    Peer {
        title: "Node",
        tables: &[
            "call_soon",
            "timers_cancel",
            "timers_replace",
            "timers_fire",
            "call_from_thread",
        ],
        lacks: &[
            ("latency", "its threads share no clock as fine"),
            ("turn", NO_POLL),
            ("turn_answered", NO_POLL),
        ],
        largest: usize::MAX,
        is_slow: true,
        program: || Ok(vec!["node".into(), file("loop.mjs").into()]),
    },
    Peer {
        title: "uvloop",
        tables: PYTHONS,
        lacks: &[],
        largest: 100_000,
        is_slow: true,
        program: || with_python("uvloop"),
    },
    Peer {
        title: "asyncio",
        tables: PYTHONS,
        lacks: &[],
        largest: 100_000,
        is_slow: true,
        program: || with_python("asyncio"),
    },
    Peer {
        title: "Twisted",
        tables: PYTHONS,
        lacks: &[],
        largest: 100_000,
        is_slow: true,
        program: || with_python("twisted"),
    },
];

/// Each with its program, compiled if it has to be; or what is missing.
pub fn all() -> Vec<(&'static Peer, Result<Vec<OsString>>)> {
    PEERS.iter().map(|peer| (peer, (peer.program)())).collect()
}

impl Peer {
    /// Whether it has a row in a table, if only to say what it lacks.
    pub fn is_in(&self, table: &str) -> bool {
        self.tables.contains(&table) || self.lack(table).is_some()
    }

    fn lack(&self, table: &str) -> Option<&'static str> {
        let found = self.lacks.iter().find(|(name, _)| *name == table);
        found.map(|(_, why)| *why)
    }

    /// What does the work of a table at a size.
    pub fn command(&self, program: &[OsString], table: &str, size: usize) -> Result<Command> {
        if let Some(why) = self.lack(table) {
            return Err(Missing::new(why).into());
        }
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
