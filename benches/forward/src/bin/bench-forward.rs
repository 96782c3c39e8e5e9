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
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use bench_rounds::{Row, table};
use rustix::process::{Pid, Signal, kill_process};

/// Connections, bytes of a message, messages on their way on each connection; and messages
/// in all, for about a second.
const SHAPES: [(u64, u64, u64, u64); 3] = [
    (50, 64, 1, 100_000),
    (4, 65_536, 1, 15_000),
    (50, 65_536, 1, 15_000),
];

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// Where Debian puts the module; elsewhere it may be built in.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How a forwarder is started, before the echo server at an address.
type Start = fn(&Path, &str) -> Result<Program, Box<dyn Error>>;

/// Ours first. The peers as their packages have them, and with buffers as large as ours.
const FORWARDERS: [(&str, Start); 6] = [
    ("torsade: the example proxy", |_, back| ours(back)),
    ("nginx stream", |folder, back| nginx(folder, back, "")),
    ("nginx stream, buffers of 64 KiB", |folder, back| {
        nginx(folder, back, "proxy_buffer_size 64k;")
    }),
    ("haproxy", |folder, back| haproxy(folder, back, "", "")),
    ("haproxy, buffers of 64 KiB", |folder, back| {
        haproxy(folder, back, "tune.bufsize 65536", "")
    }),
    ("haproxy, splicing", |folder, back| {
        haproxy(folder, back, "", "option splice-auto")
    }),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = env::args()
        .skip(1)
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    let (rounds, shapes) = match numbers[..] {
        [] => (ROUNDS, SHAPES.to_vec()),
        [rounds] => (rounds as usize, SHAPES.to_vec()),
        [rounds, connections, size, depth] => {
            let known = SHAPES
                .iter()
                .find(|shape| (shape.0, shape.1, shape.2) == (connections, size, depth));
            let messages = known.map_or(20_000, |shape| shape.3);
            (rounds as usize, vec![(connections, size, depth, messages)])
        }
        _ => return Err("usage: bench-forward [ROUNDS] [CONNECTIONS SIZE DEPTH]".into()),
    };
    println!(
        "CPU time in us of the forwarder (user and system) a message there and back, \
         {rounds} rounds, turn about\n"
    );
    let folder = Folder::new()?;
    for (connections, size, depth, messages) in shapes {
        let echo = Program::that_says_where(&mut Command::new(beside("echo-epoll")?))?;
        let forwarders: Vec<_> = FORWARDERS
            .iter()
            .map(|(_, start)| start(&folder.0, &echo.address))
            .collect();
        let mut rows = Vec::new();
        for (forwarder, (title, _)) in forwarders.iter().zip(FORWARDERS) {
            rows.push(Row::new(title, move || {
                let forwarder = forwarder.as_ref().map_err(ToString::to_string)?;
                forwarder
                    .carry(&[connections, size, depth, messages])
                    .map_err(|error| error.to_string())
            }));
        }
        let title = format!("forward: {connections} connections, {size} B, {depth} deep");
        table(&title, rounds, &mut rows)?;
    }
    Ok(())
}

fn ours(back: &str) -> Result<Program, Box<dyn Error>> {
    Program::that_says_where(Command::new(beside("forward-torsade")?).arg(back))
}

fn nginx(folder: &Path, back: &str, also: &str) -> Result<Program, Box<dyn Error>> {
    let front = free_address()?;
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
    Program::at(command.arg("-c").arg(file), front)
}

fn haproxy(
    folder: &Path,
    back: &str,
    global: &str,
    option: &str,
) -> Result<Program, Box<dyn Error>> {
    let front = free_address()?;
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
    Program::at(command.args(["-db", "-q", "-f"]).arg(file), front)
}

/// Nobody listens there now.
fn free_address() -> Result<String, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A program in processes of its own, ended when this is dropped.
struct Program {
    process: Child,
    address: String,
}

impl Program {
    /// One that prints its address.
    fn that_says_where(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("its output was piped")?;
        let mut program = Self {
            process,
            address: String::new(),
        };
        BufReader::new(output).read_line(&mut program.address)?;
        program.address.truncate(program.address.trim_end().len());
        Ok(program)
    }

    /// One that was told its address.
    fn at(command: &mut Command, address: String) -> Result<Self, Box<dyn Error>> {
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let mut program = Self { process, address };
        for _ in 0..500 {
            if let Some(status) = program.process.try_wait()? {
                return Err(format!("it ended: {status}").into());
            }
            if TcpStream::connect(&program.address).is_ok() {
                return Ok(program);
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        Err("it does not listen".into())
    }

    /// Has it carry one load, and gives its CPU time for a message in microseconds.
    fn carry(&self, shape: &[u64; 4]) -> Result<f64, Box<dyn Error>> {
        let mut load = Command::new(beside("load")?)
            .arg(&self.address)
            .args(shape.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = load.stdin.take().ok_or("its input was piped")?;
        let mut lines = BufReader::new(load.stdout.take().ok_or("its output was piped")?).lines();
        let mut line = || {
            lines
                .next()
                .ok_or("the load ended early")?
                .map_err(Box::<dyn Error>::from)
        };
        line()?;
        let before = self.ran()?;
        writeln!(orders)?;
        let done = line()?;
        let took = self.ran()? - before;
        drop(orders);
        if !load.wait()?.success() {
            return Err("the load failed".into());
        }
        let messages: u64 = done.split(' ').next().unwrap_or_default().parse()?;
        Ok(took as f64 / messages as f64 / 1000.0)
    }

    /// How long it has run, in nanoseconds: proc(5), `schedstat`, of all threads of it and of
    /// its children.
    fn ran(&self) -> Result<u64, Box<dyn Error>> {
        let mut ran = 0;
        let mut processes = vec![self.process.id().to_string()];
        while let Some(process) = processes.pop() {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.path();
                let text = fs::read_to_string(thread.join("schedstat"))?;
                ran += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
                let children = fs::read_to_string(thread.join("children"))?;
                processes.extend(children.split_whitespace().map(str::to_owned));
            }
        }
        Ok(ran)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Not killed: nginx ends its worker when it is asked to end. It fails only for a
        // process that has ended.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Where the configurations are, while this lives.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Box<dyn Error>> {
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

/// A program of this workspace.
fn beside(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    Ok(env::current_exe()?.with_file_name(name))
}
