//! Peers that are programs of their own: nginx and Node.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench_rounds::{Result, Server};

use crate::JSON;

/// Starts the server of this name.
pub fn start(name: &str) -> Result<Server> {
    match name {
        "nginx" => start_nginx(
            &folder()?,
            "sendfile on; tcp_nopush on; open_file_cache max=10;",
        ),
        "nginx, read" => start_nginx(&folder()?, "sendfile off; open_file_cache max=10;"),
        "nginx, opened each time" => start_nginx(&folder()?, "sendfile on; tcp_nopush on;"),
        "Node" => start_node(&folder()?),
        ours => Server::that_says_where(Command::new(env::current_exe()?).args(["serve", ours])),
    }
}

/// Where configurations are, and the file.
fn folder() -> Result<PathBuf> {
    let folder = env::temp_dir().join(format!("http-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("file"), [b'f'; 10 * 1024])?;
    Ok(folder)
}

fn start_nginx(folder: &Path, files: &str) -> Result<Server> {
    let address = Server::free_address()?;
    let folder = folder.to_str().ok_or("the folder has a name in UTF-8")?;
    let json = str::from_utf8(JSON)?;
    let config = format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n\
           access_log off; keepalive_requests 100000000; {files}\n\
           client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
           uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
           server {{\n\
             listen {address};\n\
             location = / {{ default_type text/plain; return 200 \"Hello, world!\"; }}\n\
             location = /json {{ default_type application/json; return 200 '{json}'; }}\n\
             location / {{ root {folder}; }}\n\
           }}\n\
         }}\n"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, config)?;
    Server::at(Command::new("nginx").args(["-c", &path]), address)
}

/// Node's own example, with the routes of the tables.
fn start_node(folder: &Path) -> Result<Server> {
    let address = Server::free_address()?;
    let (_, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let text = format!(
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
        port
    );
    let script = folder.join("server.js");
    fs::write(&script, text)?;
    Server::at(
        Command::new("node").arg(script).current_dir(folder),
        address,
    )
}
