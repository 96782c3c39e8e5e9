//! Connections that come and go: the CPU time of the server's process for each.
//!
//! `cargo run --release -p accepts-bench [ROUNDS]`. In each round each server, in a process
//! of its own that lives as long as the table, is connected to by this process, which ends
//! each connection at once or after one question and its answer. What is measured is what
//! the kernel says that the server ran meanwhile (proc(5), `schedstat`).

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};

use bench_rounds::{Row, table};

/// Ours first.
const SERVERS: [&str; 2] = ["torsade", "tokio"];
const ROUNDS: usize = 7;
/// In a run, and open at once.
const CONNECTIONS: usize = 4_000;
const AT_ONCE: usize = 50;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", "torsade"] => ours::serve(),
        ["serve", "tokio"] => theirs::serve(),
        [] => measure(ROUNDS),
        [rounds] => rounds.parse().map_err(Into::into).and_then(measure),
        _ => Err("usage: accepts-bench [ROUNDS]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

mod ours {
    use std::error::Error;

    use torsade::prelude::*;

    struct Echo;

    impl Protocol for Echo {
        fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
            transport.write(data);
        }
    }

    pub fn serve() -> Result<(), Box<dyn Error>> {
        let reactor = Reactor::new()?;
        let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Echo)?;
        println!("{}", port.address());
        reactor.run()?;
        Ok(())
    }
}

mod theirs {
    use std::error::Error;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::main(flavor = "current_thread")]
    pub async fn serve() -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut socket, _) = listener.accept().await?;
            tokio::spawn(async move {
                // Small, so that it costs nothing to speak of.
                let mut buffer = [0; 256];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    if socket.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    println!("CPU time in us of the server (user and system) a connection, {rounds} rounds, turn about\n");
    for (title, speaks) in [
        ("connections that are ended at once", false),
        ("connections with one question of 64 B and its answer", true),
    ] {
        let servers: Vec<_> = SERVERS.iter().map(|name| Server::start(name)).collect();
        let mut rows = Vec::new();
        for (server, name) in servers.iter().zip(SERVERS) {
            rows.push(Row::new(name, move || {
                let server = server.as_ref().map_err(ToString::to_string)?;
                server.take(speaks).map_err(|error| error.to_string())
            }));
        }
        table(title, rounds, &mut rows)?;
    }
    Ok(())
}

/// A server in a process of its own, ended when this is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", name])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("its output was piped")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            process,
            address: address.trim().parse()?,
        })
    }

    /// Has it accept and lose connections, and gives its CPU time for one in microseconds.
    fn take(&self, speaks: bool) -> Result<f64, Box<dyn Error>> {
        let before = self.ran()?;
        for _ in 0..CONNECTIONS / AT_ONCE {
            let mut open = Vec::with_capacity(AT_ONCE);
            for _ in 0..AT_ONCE {
                open.push(TcpStream::connect(self.address)?);
            }
            if speaks {
                for peer in &mut open {
                    peer.write_all(&[b'q'; 64])?;
                }
                for peer in &mut open {
                    peer.read_exact(&mut [0; 64])?;
                }
            }
        }
        // The last of them are lost when an answer comes on a new one.
        let mut last = TcpStream::connect(self.address)?;
        last.write_all(b"?")?;
        last.read_exact(&mut [0])?;
        Ok((self.ran()? - before) as f64 / CONNECTIONS as f64 / 1000.0)
    }

    /// How long it has run, in nanoseconds.
    fn ran(&self) -> Result<u64, Box<dyn Error>> {
        let mut ran = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            ran += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(ran)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // They fail only for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
