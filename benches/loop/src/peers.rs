//! The peers in other languages: programs that do the work of a table and print what a unit cost.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use bench_rounds::{Missing, Result, compile_c, compile_go, python, source};

pub struct Peer {
    title: &'static str,
    /// Where it is another: the table, and its title there.
    elsewhere: &'static [(&'static str, &'static str)],
    /// The tables that it cannot have, and why. It runs in all others, and fails if its program does not know one.
    lacks: &'static [(&'static str, &'static str)],
    /// Above that it would take minutes.
    largest: usize,
    /// It takes several times as long as the others.
    pub is_slow: bool,
    program: fn() -> Result<Vec<OsString>>,
}

const TIMERS: &[&str] = &["timers_cancel", "timers_replace", "timers_fire"];
/// With one processor all goroutines would be of one thread.
const GO_THREADS: &str = "Go, a processor for each thread: channel of functions";
const NO_CALL: &str = "a phase of its turn has one callback, not a call each";
const NO_POLL: &str = "a program cannot have it watch a descriptor";

static PEERS: [Peer; 6] = [
    Peer {
        title: "libuv",
        elsewhere: &[],
        lacks: &[("call_soon", NO_CALL), ("call_soon_capturing", NO_CALL)],
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
        elsewhere: &[("call_from_thread", GO_THREADS), ("latency", GO_THREADS)],
        lacks: &[("turn", NO_POLL), ("turn_answered", NO_POLL)],
        largest: usize::MAX,
        is_slow: true,
        program: || Ok(vec![compile_go("bench-loop-go", &file("loop.go"))?.into()]),
    },
    Peer {
        title: "Node",
        elsewhere: &[],
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
        elsewhere: &[],
        lacks: &[],
        largest: 100_000,
        is_slow: true,
        program: || with_python("uvloop"),
    },
    Peer {
        title: "asyncio",
        elsewhere: &[],
        lacks: &[],
        largest: 100_000,
        is_slow: true,
        program: || with_python("asyncio"),
    },
    Peer {
        title: "Twisted",
        elsewhere: &[],
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
    pub fn title(&self, table: &str) -> &'static str {
        let found = self.elsewhere.iter().find(|(name, _)| *name == table);
        found.map_or(self.title, |(_, title)| title)
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
