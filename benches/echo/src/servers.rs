//! Who takes part.

use std::process::Command;

use bench_rounds::{Result, Server, beside, compile_c, compile_go, python, source};

/// A server: its title, how it is started, and how many of the messages it gets.
pub struct Contender {
    pub title: &'static str,
    /// Its command, with the argument that says how large its buffers are. Those that have one
    /// buffer for all connections do not look at it.
    command: fn(&str) -> Result<Command>,
    /// It gets a message where the others get so many, if a connection has enough of them then: an interpreter
    /// would take all day.
    pub slower: u64,
}

const fn fast(title: &'static str, command: fn(&str) -> Result<Command>) -> Contender {
    Contender {
        title,
        command,
        slower: 1,
    }
}

const fn slow(title: &'static str, command: fn(&str) -> Result<Command>) -> Contender {
    Contender {
        title,
        command,
        slower: 8,
    }
}

impl Contender {
    /// Starts it, with buffers of the size that all have: ours, in which a message of 64 KiB is a
    /// short read.
    pub fn start(&self) -> Result<Server> {
        self.start_with("65792")
    }

    /// Starts it; if it has a buffer for each connection, of this size.
    pub fn start_with(&self, buffer: &str) -> Result<Server> {
        Server::that_says_where(&mut self.command(buffer)?)
    }

    /// What starts it; what has to be compiled is.
    pub fn command(&self, buffer: &str) -> Result<Command> {
        (self.command)(buffer)
    }
}

/// Ours first, then the bare loop, then what one would use instead.
pub const STREAMS: [Contender; 15] = [
    fast("torsade", |_| ours("echo-torsade", None)),
    fast("bare: epoll and nothing else", |_| ours("echo-epoll", None)),
    fast("mio", |_| ours("echo-mio", None)),
    fast("tokio, current thread", |buffer| {
        ours("echo-tokio", Some(buffer))
    }),
    fast("tokio, readable and try_read, one buffer", |_| {
        ours("echo-tokio-readable", None)
    }),
    fast("smol, LocalExecutor", |buffer| {
        ours("echo-smol", Some(buffer))
    }),
    fast("calloop, a Generic each", |_| ours("echo-calloop", None)),
    fast("monoio, io_uring", |buffer| {
        ours("echo-monoio", Some(buffer))
    }),
    fast("may, one worker", |buffer| ours("echo-may", Some(buffer))),
    fast("libuv", |_| {
        Ok(Command::new(compile_c("echo-libuv", &peer("libuv.c"))?))
    }),
    slow("Go, one processor", |buffer| {
        let mut command = Command::new(compile_go("echo-go", &peer("echo.go"))?);
        command.arg(buffer);
        Ok(command)
    }),
    slow("Node", |_| with(Command::new("node"), "echo.mjs", "")),
    slow("uvloop", |_| {
        with(python("uvloop")?, "echo_asyncio.py", "uvloop")
    }),
    slow("asyncio", |_| {
        with(python("asyncio")?, "echo_asyncio.py", "")
    }),
    slow("Twisted", |_| {
        with(python("twisted")?, "echo_twisted.py", "")
    }),
];

/// The same for datagrams.
pub const DATAGRAMS: [Contender; 15] = [
    fast("torsade", |_| ours("datagrams-torsade", None)),
    fast("bare: epoll, edges, until nothing is left", |_| {
        ours("datagrams-epoll", None)
    }),
    fast("bare: epoll, level, one a wait", |_| {
        ours("datagrams-level", None)
    }),
    fast("mio", |_| ours("datagrams-mio", None)),
    fast("tokio, current thread", |_| ours("datagrams-tokio", None)),
    fast("smol", |_| ours("datagrams-smol", None)),
    fast("calloop: a Generic", |_| ours("datagrams-calloop", None)),
    fast("monoio, io_uring", |_| ours("datagrams-monoio", None)),
    fast("may, one worker", |_| ours("datagrams-may", None)),
    fast("libuv", |_| {
        let source = peer("datagrams_libuv.c");
        Ok(Command::new(compile_c("datagrams-libuv", &source)?))
    }),
    slow("Go, one processor", |_| {
        let source = peer("datagrams.go");
        Ok(Command::new(compile_go("datagrams-go", &source)?))
    }),
    slow("Node", |_| with(Command::new("node"), "datagrams.mjs", "")),
    slow("uvloop", |_| {
        with(python("uvloop")?, "datagrams_asyncio.py", "uvloop")
    }),
    slow("asyncio", |_| {
        with(python("asyncio")?, "datagrams_asyncio.py", "")
    }),
    slow("Twisted", |_| {
        with(python("twisted")?, "datagrams_twisted.py", "")
    }),
];

/// A program of this workspace.
fn ours(name: &str, argument: Option<&str>) -> Result<Command> {
    let mut command = Command::new(beside(name)?);
    command.args(argument);
    Ok(command)
}

fn with(mut command: Command, script: &str, argument: &str) -> Result<Command> {
    command.arg(peer(script)).arg(argument);
    Ok(command)
}

fn peer(file: &str) -> std::path::PathBuf {
    source(env!("CARGO_MANIFEST_DIR"), &format!("peers/{file}"))
}
