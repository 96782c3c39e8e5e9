//! The client in front of servers that we did not write.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::protocols::http::{Body, Client, ClientLimits, StatusCode};

use crate::programs::missing;

/// A program that serves until it is dropped.
struct Served {
    child: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python's server, on a folder; it says its port when it listens.
fn python(folder: &Path) -> Option<(Served, String)> {
    let script = "import http.server, sys\n\
        class H(http.server.SimpleHTTPRequestHandler):\n\
        \x20   protocol_version = 'HTTP/1.1'\n\
        \x20   def log_message(self, *a): pass\n\
        \x20   def do_POST(self):\n\
        \x20       body = self.rfile.read(int(self.headers['Content-Length']))\n\
        \x20       self.send_response(200)\n\
        \x20       self.send_header('Transfer-Encoding', 'chunked')\n\
        \x20       self.end_headers()\n\
        \x20       for at in range(0, len(body), 1000):\n\
        \x20           piece = body[at:at + 1000]\n\
        \x20           self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(piece), piece))\n\
        \x20       self.wfile.write(b'0\\r\\n\\r\\n')\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n\
        print(s.server_address[1], flush=True)\n\
        s.serve_forever()\n";
    let child = Command::new("python3")
        .args(["-c", script])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn();
    let mut served = Served { child: child.ok()? };
    let mut line = String::new();
    let output = served.child.stdout.take()?;
    BufReader::new(output).read_line(&mut line).ok()?;
    let port: u16 = line.trim().parse().ok()?;
    Some((served, format!("http://127.0.0.1:{port}")))
}

#[test]
fn pythons_server_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = "a page of some length\n".repeat(10_000);
    fs::write(folder.path().join("page.txt"), &page).expect("it can be written");
    fs::create_dir(folder.path().join("sub")).expect("it can be made");
    let Some((_served, base)) = python(folder.path()) else {
        return missing("python3");
    };
    let reactor = Reactor::new().expect("there is a loop");
    let client = Client::new(&reactor).limits(ClientLimits {
        per_origin: 4,
        ..ClientLimits::default()
    });
    let pages = (0..20).map(|_| client.get_text(format!("{base}/page.txt"), 1 << 20));
    let pages = reactor.run_until(gather_results(pages)).expect("pages");
    assert!(pages.iter().all(|it| *it == page));
    assert!(client.pool().open <= 4);
    // A folder without its slash is redirected.
    let listing = client.get_text(format!("{base}/sub"), 1 << 20);
    let listing = reactor.run_until(listing).expect("a listing");
    assert!(listing.contains("Directory listing"), "{listing}");
    let none = reactor.run_until(client.get(format!("{base}/none")));
    assert_eq!(none.expect("a response").status(), StatusCode::NOT_FOUND);
    let (sender, body) = Body::sized_channel(9);
    for piece in ["one", "two", "six"] {
        sender.write(piece).expect("it is read");
    }
    sender.finish();
    let echo = client
        .post(format!("{base}/echo"), body)
        .add_callback(|response| response.into_body().read_text(100));
    assert_eq!(reactor.run_until(echo).expect("an echo"), "onetwosix");
    let large = "x".repeat(300_000);
    let echo = client
        .post(format!("{base}/echo"), large.clone())
        .add_callback(|response| response.into_body().read_text(1 << 20));
    assert!(reactor.run_until(echo).expect("an echo") == large);
    let head = reactor.run_until(client.head(format!("{base}/page.txt")));
    assert_eq!(head.expect("a head").headers()["content-length"], "220000");
    reactor.run_until(client.close()).expect("it is closed");
}

#[test]
fn nginx_is_understood_compressed_and_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = "<p>a page of some length</p>\n".repeat(5_000);
    fs::write(folder.path().join("page.html"), &page).expect("it can be written");
    // A port that was free a moment ago: nginx does not say which one it got.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("it has one").port();
    drop(free);
    let here = folder.path().display();
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{}}\nhttp {{ access_log off; gzip on; gzip_types text/html text/plain;\n\
         client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;\n\
         uwsgi_temp_path {here}/d; scgi_temp_path {here}/e; types {{ text/html html; }}\n\
         server {{ listen 127.0.0.1:{port}; root {here}; keepalive_requests 3;\n\
         location /moved {{ return 301 /page.html; }} }} }}\n"
    );
    let path = folder.path().join("nginx.conf");
    fs::write(&path, config).expect("it can be written");
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&path)
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        return missing("nginx");
    };
    let _served = Served { child };
    let base = format!("http://127.0.0.1:{port}");
    let reactor = Reactor::new().expect("there is a loop");
    let client = Client::new(&reactor).limits(ClientLimits {
        per_origin: 4,
        ..ClientLimits::default()
    });
    // It listens when it does; until then it refuses.
    let begin = reactor.now();
    while let Err(failure) = reactor.run_until(client.get(&base).map(drop)) {
        let waited = reactor.now() - begin;
        assert!(waited < std::time::Duration::from_secs(20), "{failure}");
        let pause = sleep(&reactor, std::time::Duration::from_millis(10));
        reactor.run_until(pause).expect("nobody stops it");
    }
    // It closes each connection after three requests: others are made.
    let pages = (0..30).map(|index| {
        let path = if index % 5 == 0 { "moved" } else { "page.html" };
        client.get_text(format!("{base}/{path}"), 1 << 20)
    });
    let pages = reactor.run_until(gather_results(pages)).expect("pages");
    assert!(pages.iter().all(|it| *it == page));
    let plain = Client::new(&reactor).decode(false);
    let response = reactor.run_until(plain.get(format!("{base}/page.html")));
    let response = response.expect("a response");
    assert_eq!(response.headers()["content-length"], page.len().to_string());
    // Dropped in the middle: no more of it is read.
    drop(response);
}
