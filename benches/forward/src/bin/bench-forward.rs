//! Forwarders side by side: the CPU time of the forwarder's processes for a message.
//!
//! `cargo build --release --workspace`, then `bench-forward [ROUNDS] [CONNECTIONS SIZE DEPTH]`:
//! without a shape, all of the table's. Each forwarder, in processes of its own that live as
//! long as the table, stands before a bare echo server, and in each round carries one run of
//! `load`, which checks every byte. What is measured is what the kernel says that the
//! forwarder ran while the messages were on their way: not its start, nor losing connections.
//! (Accepting and connecting may be in it, as the load does not see them; there is one for
//! hundreds of messages.) All have one process, or one worker, and one thread.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench_rounds::{Result, Row, Server, Table, beside, standing};

/// Connections, bytes of a message, messages on their way on each connection; and messages
/// in all, for half a second.
const SHAPES: [[u64; 4]; 3] = [
    [50, 64, 1, 40_000],
    [4, 65_536, 1, 6_000],
    [50, 65_536, 1, 6_000],
];

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// Where Debian puts the module; elsewhere it may be built in.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How a forwarder is started, before the echo server at an address.
type Start = fn(&Path, &str) -> Result<Server>;

/// Ours first. The peers as their packages have them, and with buffers as large as ours.
const FORWARDERS: [(&str, Start); 6] = [
    ("torsade: the example proxy", |_, back| ours(back)),
    ("nginx stream", |folder, back| nginx(folder, back, "")),
    ("nginx stream, buffers of 66 KiB", |folder, back| {
        nginx(folder, back, "proxy_buffer_size 66k;")
    }),
    ("haproxy", |folder, back| haproxy(folder, back, "", "")),
    ("haproxy, buffers of 66 KiB", |folder, back| {
        haproxy(folder, back, "tune.bufsize 67584", "")
    }),
    ("haproxy, splicing", |folder, back| {
        haproxy(folder, back, "", "option splice-auto")
    }),
];

fn main() -> ExitCode {
    bench_rounds::exit_code(run())
}

fn run() -> Result<()> {
    let numbers: Vec<u64> = env::args()
        .skip(1)
        .map(|number| number.parse())
        .collect::<std::result::Result<_, _>>()?;
    let (rounds, shapes) = match numbers[..] {
        [] => (ROUNDS, SHAPES.to_vec()),
        [rounds] => (rounds as usize, SHAPES.to_vec()),
        [rounds, connections, size, depth] => {
            let known = SHAPES
                .iter()
                .find(|shape| shape[..3] == [connections, size, depth]);
            let shape = known.copied().unwrap_or([connections, size, depth, 20_000]);
            (rounds as usize, vec![shape])
        }
        _ => return Err("usage: bench-forward [ROUNDS] [CONNECTIONS SIZE DEPTH]".into()),
    };
    let folder = Folder::new()?;
    for shape in shapes {
        let echo = Server::that_says_where(&mut Command::new(beside("echo-epoll")?))?;
        let forwarders: Vec<_> = FORWARDERS
            .iter()
            .map(|(_, start)| start(&folder.0, echo.address()))
            .collect();
        let mut rows = Vec::new();
        for (forwarder, (title, _)) in forwarders.iter().zip(FORWARDERS) {
            rows.push(Row::new(title, move || {
                standing(forwarder)?.answer("load", &shape)
            }));
        }
        let [connections, size, depth, _] = shape;
        let size = if size == 65_536 {
            "64 KiB".to_owned()
        } else {
            format!("{size} B")
        };
        let deep = if depth == 1 {
            String::new()
        } else {
            format!(", {depth} deep")
        };
        let column = format!("{connections} connections, {size}{deep}");
        Table::new("forward", column, "us of CPU time a message there and back")
            .run(rounds, &mut rows)?;
    }
    Ok(())
}

fn ours(back: &str) -> Result<Server> {
    Server::that_says_where(Command::new(beside("forward-torsade")?).arg(back))
}

fn nginx(folder: &Path, back: &str, also: &str) -> Result<Server> {
    let front = Server::free_address()?;
    let module = if Path::new(NGINX_STREAM).exists() {
        format!("load_module {NGINX_STREAM};")
    } else {
        String::new()
    };
    let file = folder.join(format!("nginx-{front}.conf"));
    let folder = folder.display();
    fs::write(
        &file,
        format!(
            "{module}
            daemon off;
            worker_processes 1;
            error_log {folder}/nginx.log;
            pid {folder}/nginx-{front}.pid;
            events {{ worker_connections 4096; }}
            stream {{ server {{ listen {front}; proxy_pass {back}; {also} }} }}
            "
        ),
    )?;
    let mut command = Command::new("nginx");
    Server::at(command.arg("-c").arg(file), front)
}

fn haproxy(folder: &Path, back: &str, global: &str, option: &str) -> Result<Server> {
    let front = Server::free_address()?;
    let file = folder.join(format!("haproxy-{front}.conf"));
    fs::write(
        &file,
        format!(
            "global
    nbthread 1
    maxconn 4096
    {global}
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    {option}
listen forward
    bind {front}
    server echo {back}
"
        ),
    )?;
    let mut command = Command::new("haproxy");
    // In the foreground, one process, no warnings.
    Server::at(command.args(["-db", "-q", "-f"]).arg(file), front)
}

/// Where the configurations are, while this lives.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = env::temp_dir().join(format!("bench-forward-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is small, and in the system's folder for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
