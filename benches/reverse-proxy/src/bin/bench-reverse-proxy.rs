//! Reverse proxies side by side: the CPU time of the proxy's processes for a request.
//!
//! `cargo build --release -p reverse-proxy-bench`, then `bench-reverse-proxy [ROUNDS]`. Each proxy, in processes of
//! its own that live as long as the table, stands before the same server, which is not measured, and in each
//! round answers a fixed number of requests of this process, which looks at every byte of every response but the
//! date's. What is measured is what the kernel says that the proxy ran meanwhile. All have one process, or one
//! worker, and one thread; keep their connections to the server behind; and tell it who asked, for what, through whom.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench_rounds::{Result, Row, Server, Table, beside, standing};

#[path = "../../../http/src/load.rs"]
mod load;

use load::Load;

/// Unless an argument says otherwise.
const ROUNDS: usize = 5;

/// How a proxy is started, before the server at an address.
type Start = fn(&Path, &str) -> Result<Server>;

/// Ours first.
const PROXIES: [(&str, Start); 4] = [
    ("torsade: ReverseProxy", |_, back| ours(back)),
    ("nginx", |folder, back| nginx(folder, back, FIELDS)),
    ("nginx, no fields of its own", |folder, back| {
        nginx(folder, back, "")
    }),
    ("haproxy", haproxy),
];

/// What ours tells the server behind it, too.
const FIELDS: &str = "
    proxy_set_header Via \"1.1 nginx\";
    proxy_set_header Forwarded \"for=$remote_addr;host=$http_host;proto=$scheme\";
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;";

fn shapes() -> [(&'static str, Load); 3] {
    let load = |request: Vec<u8>, body: &[u8]| Load {
        request,
        body: body.to_vec(),
        connections: 64,
        depth: 1,
        messages: 20_000,
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
    let mut post =
        b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1024\r\n\r\n".to_vec();
    post.extend_from_slice(&[b'e'; 1024]);
    [
        ("hello, 64 connections", load(get("/"), b"Hello, world!")),
        (
            "a page of 10 KiB, 64 connections",
            load(get("/page"), page().as_bytes()),
        ),
        (
            "POST of 1 KiB, echoed, 64 connections",
            load(post, &[b'e'; 1024]),
        ),
    ]
}

/// As `reverse-proxy-torsade back` has it.
fn page() -> String {
    "a line of a page that is not short\n".repeat(10 * 1024 / 35)
}

fn main() -> ExitCode {
    bench_rounds::exit_code(run())
}

fn run() -> Result<()> {
    let rounds = match env::args().nth(1) {
        Some(rounds) => rounds.parse()?,
        None => ROUNDS,
    };
    let folder = Folder::new()?;
    for (title, load) in shapes() {
        let back = Server::that_says_where(Command::new(beside(OURS)?).arg("back"))?;
        let proxies: Vec<_> = PROXIES
            .iter()
            .map(|(_, start)| start(&folder.0, back.address()))
            .collect();
        let mut rows = Vec::new();
        for (proxy, (name, _)) in proxies.iter().zip(PROXIES) {
            let load = &load;
            rows.push(Row::new(name, move || load.take(standing(proxy)?)));
        }
        Table::new("reverse-proxy", title, "us of CPU time a request").run(rounds, &mut rows)?;
    }
    Ok(())
}

const OURS: &str = "reverse-proxy-torsade";

fn ours(back: &str) -> Result<Server> {
    Server::that_says_where(Command::new(beside(OURS)?).arg(back))
}

fn nginx(folder: &Path, back: &str, fields: &str) -> Result<Server> {
    let front = Server::free_address()?;
    let file = folder.join(format!("nginx-{front}.conf"));
    let folder = folder.display();
    fs::write(
        &file,
        format!(
            "daemon off; worker_processes 1;
            error_log {folder}/nginx.log; pid {folder}/nginx-{front}.pid;
            events {{ worker_connections 4096; }}
            http {{
              access_log off; keepalive_requests 100000000;
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
              uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              upstream back {{ server {back}; keepalive 64; keepalive_requests 100000000; }}
              server {{
                listen {front};
                location / {{
                  proxy_pass http://back;
                  proxy_http_version 1.1;
                  proxy_set_header Connection \"\";
                  {fields}
                }}
              }}
            }}
            "
        ),
    )?;
    let mut command = Command::new("nginx");
    Server::at(command.arg("-c").arg(file), front)
}

fn haproxy(folder: &Path, back: &str) -> Result<Server> {
    let front = Server::free_address()?;
    let file = folder.join(format!("haproxy-{front}.conf"));
    fs::write(
        &file,
        format!(
            "global
    nbthread 1
    maxconn 4096
defaults
    mode http
    http-reuse always
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
frontend front
    bind {front}
    http-request set-header Via \"1.1 haproxy\"
    http-request set-header Forwarded \"for=%[src];host=%[req.hdr(host)];proto=http\"
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Proto http
    default_backend back
backend back
    server back {back} maxconn 64
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
        let folder = env::temp_dir().join(format!("bench-reverse-proxy-{}", std::process::id()));
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
