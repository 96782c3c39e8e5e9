//! The client in front of Node's server.
//!
//! A program that is missing is said so on standard error, and is a failure under
//! `TORSADE_REQUIRE_TOOLS=1`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::protocols::http::{Body, BodyError, Client, ClientError, ClientRequest};

use super::super::peers::Served;
use crate::programs::missing;

const NODE: &str = r"
const http = require('http');
const server = http.createServer((request, response) => {
  if (request.url === '/hello') return response.end('hello');
  if (request.url === '/chunks') {
    response.writeHead(200, { Trailer: 'X-Sum' });
    for (let index = 0; index < 100; index++) response.write('c'.repeat(10000));
    response.addTrailers({ 'X-Sum': '1000000' });
    return response.end();
  }
  if (request.url === '/echo') return request.pipe(response);
  if (request.url === '/close') { response.setHeader('Connection', 'close'); return response.end('closed'); }
  if (request.url === '/cut') { response.write('half'); return setTimeout(() => request.socket.destroy(), 10); }
  if (request.url === '/drop') return request.socket.destroy();
  if (request.url === '/moved') { response.writeHead(302, { Location: 'hello' }); return response.end(); }
  response.writeHead(404).end('none');
});
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
  if (head.length) socket.write(head);
  socket.pipe(socket);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

#[test]
fn nodes_server_is_understood() {
    let mut command = Command::new("node");
    command.args(["-e", NODE]).stdout(Stdio::piped());
    let Some(mut served) = Served::start(&mut command) else {
        return missing("node");
    };
    let mut line = String::new();
    let output = served.child().stdout.take().expect("it is piped");
    let read = BufReader::new(output).read_line(&mut line);
    read.expect("it says its port");
    let base = format!("http://127.0.0.1:{}", line.trim());
    let reactor = Reactor::new().expect("there is a loop");
    let client = Client::new(&reactor);
    let texts = (0..100).map(|_| client.get_text(format!("{base}/hello"), 100));
    let texts = reactor.run_until(gather_results(texts)).expect("texts");
    assert!(texts.iter().all(|text| text == "hello"));
    assert!(client.pool().open <= 32);

    let response = reactor.run_until(client.get(format!("{base}/chunks")));
    let body = response.expect("a response").into_body();
    let mut length = 0;
    let counted = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = std::rc::Rc::clone(&counted);
    let read = body.for_each(move |piece| {
        count.set(count.get() + piece.len());
    });
    let trailers = reactor.run_until(read).expect("it ends");
    length += counted.get();
    assert_eq!(
        (length, &trailers["x-sum"]),
        (1_000_000, &"1000000".parse().expect("a value"))
    );

    let large = "0123456789".repeat(100_000);
    let (sender, flowing) = Body::channel();
    for _ in 0..100 {
        sender
            .write(large[..10_000].to_owned())
            .expect("it is read");
    }
    sender.finish();
    for body in [Body::from(large.clone()), flowing] {
        let request = ClientRequest::<()>::builder()
            .method("POST")
            .uri(format!("{base}/echo"))
            .header("expect", "100-continue")
            .body(body)
            .expect("it is a request");
        let echo = client.request(request);
        let echo = echo.add_callback(|response| response.into_body().read_text(2 << 20));
        let echo = reactor.run_until(echo).expect("an echo");
        assert!(echo == large || echo == large[..10_000].repeat(100));
    }

    for (path, expected) in [("close", "closed"), ("moved", "hello")] {
        let text = reactor.run_until(client.get_text(format!("{base}/{path}"), 100));
        assert_eq!(text.expect("a text"), expected);
    }
    let dropped = reactor.run_until(client.get(format!("{base}/drop")).map(drop));
    assert!(dropped.expect_err("nobody answers").check::<ClientError>());
    let cut = reactor.run_until(client.get_text(format!("{base}/cut"), 100));
    assert!(cut.expect_err("it is cut").check::<BodyError>());
    let head = reactor.run_until(client.head(format!("{base}/hello")));
    assert_eq!(head.expect("a head").status(), 200);
    reactor.run_until(client.close()).expect("it is closed");
}
