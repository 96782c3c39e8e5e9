//! More clients that we did not write, and a proxy: curl's finer points, nginx in front, Node, aiohttp.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::protocols::http::{Body, Client, Request, Site, StaticFiles};
use torsade::reactor::task::sleep;

use super::programs::{Background, curl, run};
use crate::programs::missing;
use crate::tls::authority::{Authority, Signed};

/// The files of a folder.
fn files(folder: &Path) -> Background {
    let folder = folder.to_owned();
    Background::listening(move |reactor| {
        Site::new(StaticFiles::new(folder))
            .listen(reactor, "127.0.0.1:0")
            .expect("there is a port")
    })
}

#[test]
fn curl_resumes_takes_parts_and_asks_whether_anything_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|index| (index % 251) as u8)
        .collect();
    fs::write(folder.path().join("file.bin"), &content).expect("it can be written");
    let server = files(folder.path());
    let there = folder.path().join("there.bin");
    fs::write(&there, &content[..1_234_567]).expect("it can be written");
    let name = there.to_str().expect("it has a name");
    let status = ["-w", "%{http_code} %{size_download}", "-o", name];
    let resumed = [&status[..], &["-C", "-"]].concat();
    let Some(said) = curl(&server, "/file.bin", &resumed) else {
        return;
    };
    assert_eq!(said, format!("206 {}", 3_000_000 - 1_234_567));
    assert!(fs::read(&there).expect("it is there") == content);
    // Nothing is missing: it asks for nothing, or for what is behind the end.
    let output = run(
        "curl",
        &["-sS", "-C", "-", "-o", name, "-w", "%{http_code}", &{
            format!("http://{}/file.bin", server.address)
        }],
    );
    let output = output.expect("it was there before");
    assert!(output.stdout.ends_with(b"416"), "{output:?}");
    assert!(fs::read(&there).expect("it is there") == content);

    let part = |range: &str| {
        let arguments = [&status[..], &["-r", range]].concat();
        let said = curl(&server, "/file.bin", &arguments).expect("it was there before");
        (said, fs::read(&there).expect("it is there"))
    };
    assert_eq!(part("10-19"), ("206 10".into(), content[10..20].to_vec()));
    assert_eq!(part("-5"), ("206 5".into(), content[2_999_995..].to_vec()));
    let (said, parts) = part("0-4,100-104");
    assert!(said.starts_with("206 "), "{said}");
    let holds = |piece: &[u8]| parts.windows(piece.len()).any(|window| window == piece);
    assert!(
        holds(b"Content-Range: bytes 0-4/3000000") || holds(b"content-range: bytes 0-4/3000000")
    );
    assert!(holds(&content[100..105]));

    // Since a date, and by its tag.
    let newer = ["-w", "%{http_code}", "-o", "/dev/null", "-z", name];
    assert_eq!(curl(&server, "/file.bin", &newer).as_deref(), Some("304"));
    let tag = folder.path().join("tag");
    let tag = tag.to_str().expect("it has a name");
    let tagged = ["-w", "%{http_code}", "-o", "/dev/null", "--etag-save", tag];
    assert_eq!(curl(&server, "/file.bin", &tagged).as_deref(), Some("200"));
    let compared = [
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        "--etag-compare",
        tag,
    ];
    assert_eq!(
        curl(&server, "/file.bin", &compared).as_deref(),
        Some("304")
    );
    let compressed = ["--head", "--path-as-is"];
    let head = curl(&server, "/file.bin", &compressed).expect("it was there before");
    assert!(head.contains("content-length: 3000000\r\n"), "{head}");
}

#[test]
fn curl_asks_as_if_it_were_a_proxy() {
    // RFC 9112 §3.2.2: a server takes the absolute form.
    let server = Background::start();
    let proxy = format!("http://{}", server.address);
    let arguments = [
        "-sS",
        "--max-time",
        "20",
        "-x",
        &proxy,
        "http://elsewhere.example/hello",
    ];
    let Some(output) = run("curl", &arguments) else {
        return;
    };
    assert_eq!(output.stdout, b"hello", "{output:?}");
    // And is nobody's tunnel.
    let arguments = [
        "-sS",
        "--max-time",
        "20",
        "-x",
        &proxy,
        "https://elsewhere.example/",
    ];
    let output = run("curl", &arguments).expect("it was there before");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("404") || errors.contains("405"), "{errors}");
}

/// A site with this certificate.
fn secured(signed: Signed) -> Background {
    Background::listening(move |reactor| {
        let config = tls::server_config(signed.identity());
        let config = config.alpn(["http/1.1"]).build().expect("it is good");
        let below = TcpServerEndpoint::new("127.0.0.1:0");
        let endpoint = TlsServerEndpoint::new(below, &config);
        let site = Site::new(|_: Request| "safe");
        let listening = site.listen_at(reactor, &endpoint);
        reactor.run_until(listening).expect("there is a port")
    })
}

#[test]
fn curl_speaks_tls_and_only_to_who_is_vouched_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, others) = (Authority::new(), Authority::new());
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, ours.pem()).expect("it can be written");
    let roots = roots.to_str().expect("it has a name");
    let ask = |server: &Background, version: &str| {
        let port = server.address.rsplit_once(':').expect("a port").1;
        let url = format!("https://localhost:{port}/");
        let resolve = format!("localhost:{port}:127.0.0.1");
        let arguments = [
            "-sS",
            "--max-time",
            "20",
            "--cacert",
            roots,
            "--resolve",
            &resolve,
        ];
        let output = run("curl", &[&arguments[..], &[version, &url]].concat())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some((output.status.code(), text))
    };
    let good = secured(ours.sign("localhost"));
    let Some(said) = ask(&good, "--http1.1") else {
        return;
    };
    assert_eq!(said, (Some(0), "safe".into()));
    // 60: the certificate cannot be verified.
    for bad in [
        others.sign("localhost"),
        ours.sign("elsewhere.example"),
        ours.sign_expired("localhost"),
    ] {
        let bad = secured(bad);
        let said = ask(&bad, "--http1.1").expect("it was there before");
        assert_eq!(said, (Some(60), String::new()));
        // Whoever turned away is forgotten.
        let again = ask(&bad, "--insecure").expect("it was there before");
        assert_eq!(again, (Some(0), "safe".into()));
    }
    // It offers HTTP/2, and takes what there is.
    let said = ask(&good, "--http2").expect("it was there before");
    assert_eq!(said, (Some(0), "safe".into()));
}

/// A program that serves until it is dropped.
pub(super) struct Served(Child);

impl Served {
    /// Starts it, without a word on standard error.
    pub(super) fn start(command: &mut Command) -> Option<Self> {
        command.stderr(Stdio::null()).spawn().ok().map(Self)
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with these servers in its configuration, on a port that was free a moment ago: it does not
/// say which one it got.
fn nginx(folder: &Path, servers: impl FnOnce(u16) -> String) -> Option<(Served, String)> {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("it has one").port();
    drop(free);
    let (here, servers) = (folder.display(), servers(port));
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {here}/a; proxy_temp_path {here}/b;\n\
         fastcgi_temp_path {here}/c; uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n{servers} }}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).expect("it can be written");
    let served = Served::start(Command::new("nginx").arg("-c").arg(&path))?;
    Some((served, format!("http://127.0.0.1:{port}")))
}

#[test]
fn nginx_stands_in_front_of_us() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Background::start();
    let upstream = server.address.clone();
    let started = nginx(folder.path(), |port| {
        // Once as it is by default, HTTP/1.0 and a connection for each request, and once as it should be.
        format!(
            "upstream ours {{ server {upstream}; keepalive 8; }} server {{ listen 127.0.0.1:{port};\n\
             client_max_body_size 64m; location /old/ {{ proxy_pass http://{upstream}/; }}\n\
             location /new/ {{ proxy_pass http://ours/; proxy_http_version 1.1;\n\
             proxy_set_header Connection ''; proxy_request_buffering off; }} }}"
        )
    });
    let Some((_nginx, base)) = started else {
        return missing("nginx");
    };
    let reactor = Reactor::new().expect("there is a loop");
    let client = Client::new(&reactor);
    wait_for(&reactor, &client, &base);
    for way in ["old", "new"] {
        let url = |path: &str| format!("{base}/{way}/{path}");
        let texts = (0..50).map(|_| client.get_text(url("hello"), 100));
        let texts = reactor.run_until(gather_results(texts)).expect("texts");
        assert!(texts.iter().all(|text| text == "hello"), "{way}");
        for (path, length) in [("big", 3_000_000), ("chunks", 1_000_000)] {
            let bytes = reactor.run_until(client.get_bytes(url(path), 4 << 20));
            assert_eq!(bytes.expect("bytes").len(), length, "{way} {path}");
        }
        let echo = |body: Body| {
            let response = client.post(url("echo"), body);
            let text = response.add_callback(|response| response.into_body().read(8 << 20));
            reactor.run_until(text).expect("an echo")
        };
        let large = "0123456789".repeat(300_000);
        assert!(echo(Body::from(large.clone())) == large, "{way}");
        let (sender, body) = Body::channel();
        for _ in 0..100 {
            sender
                .write(large[..10_000].to_owned())
                .expect("it is read");
        }
        sender.finish();
        assert!(echo(body) == large[..10_000].repeat(100), "{way}");
        let status = |path: &str| {
            let response = reactor.run_until(client.get(url(path)));
            response.expect("a response").status().as_u16()
        };
        assert_eq!((status("none"), status("nowhere")), (204, 404), "{way}");
        let head = reactor.run_until(client.head(url("big"))).expect("a head");
        assert_eq!(head.headers()["content-length"], "3000000", "{way}");
    }
}

/// It listens when it does; until then it refuses.
fn wait_for(reactor: &Reactor, client: &Client, base: &str) {
    let begin = reactor.now();
    while let Err(failure) = reactor.run_until(client.get(base).map(drop)) {
        assert!(reactor.now() - begin < Duration::from_secs(20), "{failure}");
        let pause = sleep(reactor, Duration::from_millis(10));
        reactor.run_until(pause).expect("nobody stops it");
    }
}

const NODE: &str = r"
const http = require('http');
const [host, port] = process.argv[1].split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
const sockets = new Set();
function ask(method, path, pieces, headers) {
  return new Promise((done, failed) => {
    const request = http.request({ host, port, method, path, agent, headers, timeout: 20000 });
    request.on('socket', socket => sockets.add(socket));
    request.on('error', failed);
    request.on('timeout', () => request.destroy(new Error('timeout')));
    const send = () => { for (const piece of pieces) request.write(piece); request.end(); };
    if (headers && headers.Expect) request.on('continue', send);
    request.on('response', response => {
      const body = [];
      response.on('data', piece => body.push(piece));
      response.on('end', () => done([response.statusCode, Buffer.concat(body)]));
      response.on('error', failed);
    });
    if (headers && headers.Expect) request.flushHeaders(); else send();
  });
}
function check(what, right) { if (!right) throw new Error(what); }
(async () => {
  const all = [];
  for (let index = 0; index < 100; index++) all.push(ask('GET', '/hello', []));
  for (const [status, body] of await Promise.all(all)) check('hello', status === 200 && body.toString() === 'hello');
  check('kept alive', sockets.size === 2);
  for (const [path, length] of [['/big', 3000000], ['/chunks', 1000000]]) {
    const [, body] = await ask('GET', path, []);
    check(path, body.length === length);
  }
  const large = Buffer.alloc(1000000, 'n');
  for (const headers of [{}, { 'Content-Length': 2000000 }, { Expect: '100-continue' }]) {
    const [status, body] = await ask('POST', '/echo', [large, large], headers);
    check('echo', status === 200 && body.length === 2000000);
  }
  check('head', (await ask('HEAD', '/big', []))[1].length === 0);
  check('none', (await ask('GET', '/none', []))[0] === 204);
  check('nowhere', (await ask('DELETE', '/nowhere', []))[0] === 404);
  check('one more', sockets.size <= 4);
  agent.destroy();
  console.log('good');
})().catch(error => { console.log(error.stack); process.exit(1); });
";

#[test]
fn node_asks_over_connections_that_it_keeps() {
    let server = Background::start();
    let Some(output) = run("node", &["-e", NODE, &server.address]) else {
        return;
    };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "good\n",
        "{output:?}"
    );
}

const AIOHTTP: &str = r"
import asyncio, sys
try:
    import aiohttp
except ImportError:
    sys.exit(77)
async def main(base):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as session:
        async def text(path):
            async with session.get(base + path) as response:
                return response.status, await response.text()
        got = await asyncio.gather(*(text('/hello') for _ in range(100)))
        assert all(it == (200, 'hello') for it in got)
        async def pieces():
            for _ in range(100):
                yield b'p' * 10000
        for body in (b'b' * 1000000, pieces()):
            async with session.post(base + '/echo', data=body, expect100=True) as response:
                assert len(await response.read()) == 1000000
        async with session.get(base + '/chunks') as response:
            assert len(await response.read()) == 1000000
        # Given up in the middle.
        async with session.get(base + '/big') as response:
            await response.content.read(10)
        assert await text('/hello') == (200, 'hello')
        assert (await text('/nowhere'))[0] == 404
asyncio.run(main('http://' + sys.argv[1]))
print('good')
";

/// aiohttp is no program: without it this is skipped, whatever is demanded. `TORSADE_PYTHON` says which
/// Python has it.
#[test]
fn aiohttp_asks_in_parallel() {
    let server = Background::start();
    let python = std::env::var("TORSADE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let Some(output) = run(&python, &["-c", AIOHTTP, &server.address]) else {
        return;
    };
    if output.status.code() == Some(77) {
        return crate::programs::skipped("aiohttp is not installed");
    }
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "good\n",
        "{output:?}"
    );
}
