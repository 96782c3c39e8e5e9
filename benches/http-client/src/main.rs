//! A hundred requests at a time over a pool: the CPU time of the client's process for each.
//!
//! `cargo run --release -p http-client-bench [ROUNDS]`. The server, Torsade's, is a process of its own. In
//! each round each client sends a fixed number of requests, a hundred at a time, over connections that
//! it keeps, and reads each body whole. Both run on one thread.

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use bench_rounds::{Row, Server, Table, cpu_time};

const ROUNDS: usize = 7;
const AT_ONCE: usize = 100;
const REQUESTS: usize = 30_000;
const PAGE: &str = "Hello, world!";

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let outcome = match argument.as_deref() {
        Some("serve") => serve(),
        Some("torsade") => alone(ours::Asking::new),
        Some(rounds) => rounds.parse().map_err(Into::into).and_then(measure),
        None => measure(ROUNDS),
    };
    bench_rounds::exit_code(outcome)
}

fn serve() -> Result<(), Box<dyn Error>> {
    use torsade::prelude::*;
    let reactor = Reactor::new()?;
    let server = http::serve(&reactor, "127.0.0.1:0", |_: http::Request| PAGE)?;
    println!("{}", server.address());
    reactor.run()?;
    Ok(())
}

/// The server, and where its page is.
fn server() -> Result<(Server, String), Box<dyn Error>> {
    let server = Server::that_says_where(Command::new(env::current_exe()?).arg("serve"))?;
    let url = format!("http://{}/", server.address());
    Ok((server, url))
}

/// One client alone, for a profile.
fn alone(new: impl FnOnce(&str) -> ours::Asking) -> Result<(), Box<dyn Error>> {
    let (_server, url) = server()?;
    new(&url).ask();
    Ok(())
}

fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    let (_server, url) = server()?;
    let (ours, theirs) = (ours::Asking::new(&url), theirs::Asking::new(&url));
    let cost = |ask: &dyn Fn()| {
        let begin = cpu_time();
        ask();
        Ok((cpu_time() - begin).as_secs_f64() * 1e6 / REQUESTS as f64)
    };
    let mut rows = [
        Row::new("torsade", || cost(&|| ours.ask())),
        Row::new("hyper-util, legacy client", || cost(&|| theirs.ask())),
    ];
    Table::new(
        "http-client",
        "hello, 100 at a time",
        "us of CPU time a request",
    )
    .run(rounds, &mut rows)
}

mod ours {
    use std::cell::Cell;
    use std::rc::Rc;

    use torsade::deferred::gather_results;
    use torsade::prelude::*;
    use torsade::protocols::http::{Client, ClientLimits, Uri};

    use super::{AT_ONCE, PAGE, REQUESTS};

    pub struct Asking {
        reactor: Reactor,
        client: Client,
        url: Uri,
    }

    impl Asking {
        pub fn new(url: &str) -> Self {
            let reactor = Reactor::new().expect("there is a loop");
            let limits = ClientLimits {
                per_origin: AT_ONCE,
                ..ClientLimits::default()
            };
            let client = Client::new(&reactor).limits(limits).decode(false);
            let url = url.parse().expect("a URL");
            Self {
                reactor,
                client,
                url,
            }
        }

        pub fn ask(&self) {
            let left = Rc::new(Cell::new(REQUESTS));
            let lines =
                (0..AT_ONCE).map(|_| next(self.client.clone(), self.url.clone(), Rc::clone(&left)));
            let all = self.reactor.run_until(gather_results(lines));
            all.expect("they are all answered");
        }
    }

    fn next(client: Client, url: Uri, left: Rc<Cell<usize>>) -> Deferred<()> {
        if left.get() == 0 {
            return succeed(());
        }
        left.set(left.get() - 1);
        client
            .get(&url)
            .add_callback(|response| response.into_body().read(1000))
            .add_callback(move |page| {
                assert_eq!(page, PAGE);
                next(client, url, left)
            })
    }
}

mod theirs {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use hyper::Uri;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;

    use super::{AT_ONCE, PAGE, REQUESTS};

    pub struct Asking {
        runtime: tokio::runtime::Runtime,
        client: Client<HttpConnector, Empty<Bytes>>,
        url: Uri,
    }

    impl Asking {
        pub fn new(url: &str) -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("there is a runtime");
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let client = Client::builder(TokioExecutor::new()).build(connector);
            let url = url.parse().expect("a URL");
            Self {
                runtime,
                client,
                url,
            }
        }

        pub fn ask(&self) {
            let left = Arc::new(AtomicUsize::new(REQUESTS));
            self.runtime.block_on(async {
                let mut lines = Vec::new();
                for _ in 0..AT_ONCE {
                    let (client, url) = (self.client.clone(), self.url.clone());
                    let left = Arc::clone(&left);
                    lines.push(tokio::spawn(async move {
                        loop {
                            let before = left.load(Ordering::Relaxed);
                            if before == 0 {
                                return;
                            }
                            left.store(before - 1, Ordering::Relaxed);
                            let response = client.get(url.clone()).await.expect("a response");
                            let page = response.into_body().collect().await.expect("a body");
                            assert_eq!(page.to_bytes(), PAGE);
                        }
                    }));
                }
                for line in lines {
                    line.await.expect("it is answered");
                }
            });
        }
    }
}
