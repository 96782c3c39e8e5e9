//! Peers that are programs of their own: nginx and Node.

use std::env;
use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use crate::load;

pub struct Peer {
    pub process: Child,
    pub address: SocketAddr,
}

/// Starts the program of this name; `None`, if it is one of the servers of this crate.
pub fn start(name: &str) -> Result<Option<Peer>, Box<dyn Error>> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = env::temp_dir().join(format!("http-bench-{}", std::process::id()));
    let process = match name {
        "nginx" => start_nginx(&folder, address)?,
        "node" => {
            fs::create_dir_all(&folder)?;
            let script = folder.join("server.js");
            fs::write(&script, node(address))?;
            fs::write(folder.join("file"), [b'f'; 10 * 1024])?;
            Command::new("node")
                .arg(script)
                .current_dir(&folder)
                .spawn()
                .map_err(|error| format!("node: {error}"))?
        }
        _ => return Ok(None),
    };
    load::wait_for(address)?;
    Ok(Some(Peer { process, address }))
}

fn start_nginx(folder: &std::path::Path, address: SocketAddr) -> Result<Child, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("file"), [b'f'; 10 * 1024])?;
    let folder = folder.to_str().ok_or("the folder has a name in UTF-8")?;
    let config = format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n\
           access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on;\n\
           client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
           uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
           server {{\n\
             listen {address};\n\
             location = / {{ default_type text/plain; return 200 \"Hello, world!\"; }}\n\
             location / {{ root {folder}; open_file_cache max=10; }}\n\
           }}\n\
         }}\n"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, config)?;
    Command::new("nginx")
        .args(["-c", &path])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("nginx: {error}").into())
}

/// Node's own example, with the routes of the tables.
fn node(address: SocketAddr) -> String {
    format!(
        "const http = require('http'), fs = require('fs');\n\
         http.createServer((request, response) => {{\n\
           if (request.url === '/json') {{\n\
             const text = JSON.stringify({{ message: 'Hello, world!', numbers: [1, 2, 3] }});\n\
             response.writeHead(200, {{ 'Content-Type': 'application/json', 'Content-Length': text.length }});\n\
             response.end(text);\n\
           }} else if (request.url === '/file') {{\n\
             response.writeHead(200, {{ 'Content-Type': 'application/octet-stream', 'Content-Length': 10240 }});\n\
             fs.createReadStream('file').pipe(response);\n\
           }} else if (request.url === '/echo') {{\n\
             const pieces = [];\n\
             request.on('data', piece => pieces.push(piece));\n\
             request.on('end', () => {{\n\
               const body = Buffer.concat(pieces);\n\
               response.writeHead(200, {{ 'Content-Length': body.length }});\n\
               response.end(body);\n\
             }});\n\
           }} else {{\n\
             response.writeHead(200, {{ 'Content-Type': 'text/plain', 'Content-Length': 13 }});\n\
             response.end('Hello, world!');\n\
           }}\n\
         }}).listen({{ port: {}, host: '127.0.0.1' }});\n",
        address.port()
    )
}

/// The process that answers: nginx's worker.
pub fn worker_of(name: &str, process: u32) -> Result<u32, Box<dyn Error>> {
    if name != "nginx" {
        return Ok(process);
    }
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let first = children.split_whitespace().next().ok_or("nginx has no worker")?;
    Ok(first.parse()?)
}
