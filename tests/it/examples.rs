//! Each example's parts, over virtual time or real sockets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::reactor::testing::{MemoryStream, Simulation, virtual_time_reactor};
use torsade::reactor::{ServiceState, Stream};

macro_rules! examples {
    ($($name:ident = $path:literal)*) => {
        $(
            #[path = $path]
            #[allow(
                dead_code,
                clippy::duplicate_mod,
                reason = "a test calls the parts and not `main`; all share a module"
            )]
            pub mod $name;
        )*
    };
}

examples! {
    chat = "../../examples/chat.rs"
    demo = "../../examples/demo.rs"
    echo = "../../examples/echo.rs"
    handle_request = "../../examples/handle_request.rs"
    hello_loop = "../../examples/hello_loop.rs"
    kvstore = "../../examples/kvstore.rs"
    poetry_client = "../../examples/poetry_client.rs"
    poetry_server = "../../examples/poetry_server.rs"
    proxy = "../../examples/proxy.rs"
    reconnect = "../../examples/reconnect.rs"
    repeat = "../../examples/repeat.rs"
    udp_announce = "../../examples/udp_announce.rs"
    udp_echo = "../../examples/udp_echo.rs"
    static_files = "../../examples/static_files.rs"
    unix_echo = "../../examples/unix_echo.rs"
    web = "../../examples/web.rs"
}

#[test]
fn hello_loop_says_hello_and_stops() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    hello_loop::hello(&reactor, paper.print());
    assert_eq!(paper.take(), "", "not before the loop runs");
    reactor.run().expect("it stops");
    assert_eq!(paper.take(), "hello");
}

#[test]
fn repeat_says_hello_at_once_and_after_each_second_until_it_is_stopped() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let began = reactor.now();
    repeat::repeat(&reactor, paper.print()).expect("it stops");
    assert_eq!(
        paper.take(),
        "starting event loop\nhello\nhello\nhello\nloop stopped"
    );
    assert_eq!(reactor.now() - began, Duration::from_millis(2500));
}

#[test]
fn reconnect_keeps_a_connection_to_a_server_that_comes_and_goes() {
    /// Opens for 5 s, and closes for 20 s.
    fn open_and_close(reactor: Reactor) {
        let port = reactor
            .listen_tcp(":7", |_: &Address| Lines::new(Host))
            .expect("the port is free");
        let handle = reactor.clone();
        reactor.call_later(Duration::from_secs(5), move || {
            drop(port.stop_listening());
            let again = handle.clone();
            handle.call_later(Duration::from_secs(20), move || open_and_close(again));
        });
    }

    struct Host;

    impl LineReceiver for Host {
        fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
            transport.send_line(line);
            let transport = transport.clone();
            let reactor = transport.reactor();
            reactor.call_later(Duration::from_secs(5), move || transport.lose_connection());
        }
    }

    let (simulation, paper) = (Simulation::new(3), Paper::default());
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let reactor = client.reactor();
    let endpoint = TcpClientEndpoint::new(("server", 7));
    let service = reconnect::keep_connected(&reactor, endpoint, Rc::new(paper.print()));
    service.start();
    simulation.run_for(Duration::from_secs(3));
    assert!(service.failed_attempts() > 0, "there is no server");
    server.start(|reactor| open_and_close(reactor.clone()));
    for _ in 0..3 {
        assert!(simulation.run_while(|| service.state() != ServiceState::Connected));
        assert_eq!(service.failed_attempts(), 0);
        assert!(simulation.run_while(|| service.state() == ServiceState::Connected));
    }
    let stopped = reactor.run_until(service.stop());
    stopped.expect("nothing is left");
    let lines = paper.take();
    let visits = lines
        .matches("> hello\nlost: connection closed cleanly")
        .count();
    assert_eq!(visits, 3, "{lines}");
}

#[test]
fn requests_wait_together_and_the_error_of_the_database_reaches_the_errback() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let began = reactor.now();
    let done = handle_request::two_requests(&reactor, paper.print());
    assert_eq!(paper.take(), "request for ann\nrequest for nobody");
    reactor.run_until(done).expect("both are answered");
    let expected = "ann: 200 ann is 36 years old\nnobody: 404 nobody is called \"nobody\"";
    assert_eq!(paper.take(), expected);
    assert_eq!(reactor.now() - began, handle_request::LOOKUP);
}

#[test]
fn requests_of_one_connection_are_answered_one_at_a_time_in_their_order() {
    let reactor = Reactor::new().expect("a reactor");
    let port = handle_request::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let visitor = Visitor::connect(&reactor, &port);
    visitor.transport.write("bob\r\nann\nzoe\n");
    visitor
        .hears("200 bob is 41 years old\n200 ann is 36 years old\n404 nobody is called \"zoe\"\n");
}

#[test]
fn a_poem_is_sent_a_few_bytes_at_a_time_with_a_pause_between() {
    let reactor = virtual_time_reactor();
    let memory = MemoryStream::new(&reactor);
    let began = reactor.now();
    let recital = poetry_server::Recital {
        poem: "ten bytes\n".into(),
        bytes: 4,
        delay: Duration::from_secs(60),
    };
    let poet = poetry_server::Poet::new(recital);
    Transport::connect(poet, Rc::clone(&memory) as Rc<dyn Stream>);
    let mut pieces = vec![memory.take_written()];
    while memory.is_connected() {
        reactor.turn(None).expect("a pause is scheduled");
        pieces.push(memory.take_written());
    }
    pieces.retain(|piece| !piece.is_empty());
    assert_eq!(pieces, [b"ten ".as_slice(), b"byte", b"s\n"]);
    assert_eq!(reactor.now() - began, Duration::from_secs(120));
}

#[test]
fn a_poet_whose_reader_has_gone_stops() {
    let reactor = virtual_time_reactor();
    let memory = MemoryStream::new(&reactor);
    let poet = poetry_server::Poet::new(poetry_server::Recital::default());
    Transport::connect(poet, Rc::clone(&memory) as Rc<dyn Stream>);
    memory.end();
    let outcome = reactor.turn(None);
    assert!(outcome.is_err(), "nothing is scheduled any more");
}

#[test]
fn poems_are_fetched_together_and_take_as_long_as_the_slowest() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let after = |seconds, result: Result<&str, &str>| {
        let (trigger, deferred) = Deferred::new();
        let result = result.map(str::to_owned).map_err(Failure::message);
        reactor.call_later(Duration::from_secs(seconds), move || trigger.fire(result));
        deferred
    };
    let fetches = [
        ("slow".to_owned(), after(3, Ok("a long poem\n"))),
        ("fast".to_owned(), after(1, Ok("a poem\n"))),
        ("shut".to_owned(), after(2, Err("connection refused"))),
    ];
    let summary = reactor.run_until(poetry_client::report(&reactor, fetches, paper.print()));
    let expected = "fast sent 7 bytes after 1.00 s:\na poem\n\
                    shut failed after 2.00 s: connection refused\n\
                    slow sent 12 bytes after 3.00 s:\na long poem\n\
                    2 of 3 poems in 3.00 s";
    assert_eq!(paper.take(), expected);
    let summary = summary.expect("failures are reported, not passed on");
    assert_eq!(
        (summary.poems, summary.asked, summary.took),
        (2, 3, Duration::from_secs(3))
    );
}

#[test]
fn a_refused_and_a_broken_off_poem_are_reported_and_the_rest_is_printed() {
    struct Unfinished;
    impl Protocol for Unfinished {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            transport.write("A poem that");
            transport.lose_connection();
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
    }
    let (reactor, paper) = (Reactor::new().expect("a reactor"), Paper::default());
    let recital = |poem: &str| poetry_server::Recital {
        poem: poem.into(),
        bytes: 5,
        delay: Duration::from_millis(1),
    };
    let listen =
        |poem| poetry_server::listen(&reactor, "127.0.0.1:0", recital(poem)).expect("a free port");
    let ports = [
        listen("first poem\n"),
        listen("second poem\n"),
        listen("nobody hears this\n"),
    ];
    let breaking = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| Unfinished)
        .expect("a free port");
    // Its port is free again, so connecting there is refused.
    drop(ports[2].stop_listening());
    let names = [
        ("A", &ports[0]),
        ("B", &ports[1]),
        ("C", &ports[2]),
        ("D", &breaking),
    ];
    let addresses = names.map(|(_, port)| port.address().to_string());
    let all = poetry_client::fetch_all(&reactor, addresses, paper.print());
    let summary = finish(&reactor, all);
    assert_eq!((summary.poems, summary.asked), (2, 4));
    let mut printed = paper.take();
    for (name, port) in names {
        printed = printed.replace(&port.address().to_string(), name);
    }
    // Who comes first, and when, is the machine's affair.
    let mut lines: Vec<_> = printed.lines().map(without_times).collect();
    lines.sort();
    let expected = [
        "2 of 4 poems in _",
        "A sent 11 bytes after _:",
        "B sent 12 bytes after _:",
        "C failed after _: cannot connect to C: connection refused",
        "D failed after _: broke off after 11 bytes: connection closed cleanly",
        "first poem",
        "second poem",
    ];
    assert_eq!(lines, expected);
}

/// Replaces what looks like `1.23 s`.
fn without_times(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let mut kept = Vec::new();
    for word in words {
        let unit = word.trim_end_matches(':');
        let is_time = unit == "s"
            && kept
                .last()
                .is_some_and(|last: &String| last.parse::<f64>().is_ok());
        if is_time {
            kept.pop();
            kept.push(format!("_{}", &word[1..]));
        } else {
            kept.push(word.to_owned());
        }
    }
    kept.join(" ")
}

#[test]
fn the_options_of_the_poetry_server_are_read_or_named() {
    let options = |line: &str| poetry_server::options(line.split_whitespace().map(str::to_owned));
    let (address, recital) = options("127.0.0.1:9000 --delay 0.5 --bytes 3").expect("good options");
    assert_eq!((address.as_str(), recital.bytes), ("127.0.0.1:9000", 3));
    assert_eq!(recital.delay, Duration::from_millis(500));
    assert_eq!(
        options("--port 9001").expect("a good option").0,
        "127.0.0.1:9001"
    );
    let wrong = |line| options(line).expect_err("bad options").to_string();
    assert_eq!(wrong("--bytes 0"), "--bytes \"0\" is out of range");
    assert_eq!(wrong("--delay soon"), "--delay \"soon\" is out of range");
    assert_eq!(wrong("--delay"), "--delay needs a value");
    assert_eq!(wrong("--speed 3"), "--speed is no option");
    assert!(wrong("--poem /no/such/file").starts_with("cannot read /no/such/file: "));
}

#[test]
fn five_hundred_clients_at_once_get_their_bytes_back() {
    struct Client {
        message: [u8; 64],
        echoed: Vec<u8>,
        trigger: Option<Trigger<bool>>,
    }
    impl Protocol for Client {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            transport.write(self.message);
        }
        fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
            self.echoed.extend_from_slice(data);
            if self.echoed.len() >= self.message.len() {
                transport.lose_connection();
            }
        }
        fn connection_lost(&mut self, reason: ConnectionLost) {
            if let Some(trigger) = self.trigger.take() {
                trigger.callback(reason.is_clean() && self.echoed == self.message);
            }
        }
    }
    raise_descriptor_limit();
    let reactor = Reactor::new().expect("a reactor");
    let port = echo::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let clients = (0..500_u64).map(|number| {
        let mut message = [0; 64];
        for (place, byte) in message.iter_mut().zip(0_u64..) {
            *place = (number.wrapping_mul(0x9e37_79b9).wrapping_add(byte * byte) >> 3) as u8;
        }
        let client = move |_: &Address| Client {
            message,
            echoed: Vec::new(),
            trigger: None,
        };
        reactor
            .connect_tcp(port.address(), client)
            .add_callback(|transport| {
                let (trigger, deferred) = Deferred::new();
                transport.call(|client, _| client.trigger = Some(trigger));
                deferred
            })
    });
    let clients: Vec<_> = clients.collect();
    let echoed = finish(&reactor, gather_results(clients));
    assert_eq!(echoed, [true; 500]);
}

/// Both ends of 500 connections are in this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .expect("a soft limit may be raised");
}

#[test]
fn datagrams_come_back_and_who_asks_nobody_is_told() {
    let reactor = Reactor::new().expect("a reactor");
    let server = udp_echo::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let port = server.host().port().expect("it has one");
    let answer = finish(
        &reactor,
        udp_echo::ask(&reactor, "127.0.0.1", port, "hello"),
    );
    assert_eq!(answer, "hello");
    finish(&reactor, server.stop_listening());
    let asked = udp_echo::ask(&reactor, "127.0.0.1", port, "hello");
    let failure = reactor.run_until(asked).expect_err("nobody is there");
    assert!(failure.to_string().contains("nobody listens"), "{failure}");
}

#[test]
fn a_client_that_stops_reading_stalls_nobody_else() {
    let reactor = Reactor::new().expect("a reactor");
    let port = echo::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let (deaf, lively) = (
        Visitor::connect(&reactor, &port),
        Visitor::connect(&reactor, &port),
    );
    deaf.transport.pause_reading();
    // More than the system's buffers take in both directions: the rest stays here, because
    // the server does not read what it could not send back.
    let unsent_max = 64 << 20;
    deaf.transport.set_limits(Limits {
        unsent_max,
        ..Limits::default()
    });
    deaf.transport.write(vec![b'x'; 48 << 20]);
    let settled = Cell::new((usize::MAX, 0));
    deaf.until("everything to stand still", || {
        let (unsent, (before, times)) = (deaf.transport.unsent(), settled.get());
        settled.set(if unsent == before {
            (before, times + 1)
        } else {
            (unsent, 0)
        });
        lively.transport.write("?");
        times == 100
    });
    lively.heard.take();
    let message = "still here\n".repeat(1000);
    lively.transport.write(&message);
    lively.until("the echo", || lively.text().ends_with(&message));
    assert!(deaf.transport.is_connected());
}

#[test]
fn a_chat_goes_as_it_should() {
    let reactor = Reactor::new().expect("a reactor");
    let port = chat::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let ann = Visitor::connect(&reactor, &port);
    let bob = Visitor::connect(&reactor, &port);
    ann.hears("* what is your name?\n");
    bob.hears("* what is your name?\n");
    ann.transport.write("ann\n");
    ann.hears("* ann joined\n");
    bob.transport.write("ann\r\n");
    bob.hears("* ann is taken, choose another name\n");
    bob.transport.write("two words\n");
    bob.hears("* a name has at most 20 characters, no space and no colon\n");
    bob.transport.write("bob\r\n");
    bob.hears("* bob joined\n");
    ann.hears("* bob joined\n");
    // In pieces, with half a character in one and half in the other.
    ann.transport.write(b"gr\xc3");
    reactor.turn(Some(Duration::ZERO)).expect("a turn");
    ann.transport.write(b"\xbc\xc3\x9f dich\r\n\n");
    ann.hears("ann: grüß dich\n");
    bob.hears("ann: grüß dich\n");
    bob.transport.write("/who\n/dance\n");
    bob.hears("* here: ann, bob\n* /dance is no command; there are /who and /quit\n");
    bob.transport.write(b"\xff\xfe\n");
    bob.hears("* that line is not UTF-8, nobody got it\n");
    bob.transport
        .write(format!("{}\nok\x1b[2J\n", "x".repeat(chat::LINE_MAX + 1)));
    bob.hears(
        "* line too long: at least 1001 bytes, the limit is 1000; nobody got it\nbob: ok[2J\n",
    );
    ann.hears("bob: ok[2J\n");
    bob.transport.write("/quit\nnobody hears this\n");
    bob.hears("* goodbye\n");
    bob.until("the end", || bob.lost.borrow().is_some());
    ann.hears("* bob left\n");
    let bob = Visitor::connect(&reactor, &port);
    bob.hears("* what is your name?\n");
    bob.transport.write("bob\n");
    bob.hears("* bob joined\n");
    ann.hears("* bob joined\n");
    bob.transport.lose_connection();
    ann.hears("* bob left\n");
}

#[test]
fn the_chat_loses_who_does_not_read_and_goes_on() {
    let reactor = Reactor::new().expect("a reactor");
    let port = chat::listen(&reactor, "127.0.0.1:0").expect("a free port");
    let (ann, deaf) = (
        Visitor::connect(&reactor, &port),
        Visitor::connect(&reactor, &port),
    );
    ann.transport.write("ann\n");
    ann.hears("* what is your name?\n* ann joined\n");
    deaf.transport.write("deaf\n");
    ann.hears("* deaf joined\n");
    deaf.transport.pause_reading();
    let text = "x".repeat(chat::LINE_MAX);
    let said = format!("{text}\n").repeat(50);
    let left =
        "* deaf left: connection lost: more than 262144 bytes unsent, the peer does not read\n";
    ann.until("the end of who does not read", || {
        if ann.text().ends_with(&format!("ann: {text}\n")) || ann.text().is_empty() {
            ann.heard.take();
            ann.transport.write(&said);
        }
        ann.text().contains(left)
    });
    ann.transport.write("/who\n");
    ann.until("the rest", || ann.text().ends_with("* here: ann\n"));
}

#[test]
fn the_store_answers_when_its_backup_has_the_write() {
    let reactor = Reactor::new().expect("a reactor");
    let backup = Rc::<kvstore::Backup>::default();
    let backup_port = backup.listen(&reactor, "127.0.0.1:0").expect("a free port");
    let address = backup_port.address().to_string();
    let primary = kvstore::Primary::start(&reactor, &address, false);
    let port = primary
        .listen(&reactor, "127.0.0.1:0")
        .expect("a free port");
    let visitor = Visitor::connect(&reactor, &port);
    visitor.until("the backup's word", || primary.table().is_some());
    visitor
        .transport
        .write("set color blue\nget color\nget size\n");
    visitor.hears("ok\nvalue blue\nnone\n");
    assert_eq!(backup.table().get("color"), Some("blue"));
    let reader = Visitor::connect(&reactor, &backup_port);
    reader.transport.write("get color\n");
    reader.hears("value blue\n");
    visitor.transport.write("delete color\n");
    visitor.hears("error say set KEY VALUE, or get KEY\n");
}

/// What an example printed.
#[derive(Default)]
struct Paper {
    lines: Rc<RefCell<Vec<String>>>,
}

impl Paper {
    fn print(&self) -> impl Fn(&str) + Clone + 'static {
        let lines = Rc::clone(&self.lines);
        move |line| lines.borrow_mut().push(line.to_owned())
    }

    fn take(&self) -> String {
        self.lines.take().join("\n")
    }
}

/// Longer than anything here takes; only a hanging test gets there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until the result is there.
#[track_caller]
fn finish<T: 'static>(reactor: &Reactor, deferred: Deferred<T>) -> T {
    let canceller = deferred.canceller();
    let watchdog = reactor.call_later(PATIENCE, move || canceller.cancel());
    let result = reactor.run_until(deferred);
    watchdog.cancel();
    result.expect("the result comes in time")
}

/// A client that notes what it hears.
struct Visitor {
    reactor: Reactor,
    transport: Transport<Ear>,
    heard: Rc<RefCell<Vec<u8>>>,
    lost: Rc<RefCell<Option<ConnectionLost>>>,
}

struct Ear {
    heard: Rc<RefCell<Vec<u8>>>,
    lost: Rc<RefCell<Option<ConnectionLost>>>,
}

impl Protocol for Ear {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.heard.borrow_mut().extend_from_slice(data);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.lost.replace(Some(reason));
    }
}

impl Visitor {
    #[track_caller]
    fn connect(reactor: &Reactor, port: &Port) -> Self {
        let (heard, lost) = (Rc::default(), Rc::default());
        let ear = Ear {
            heard: Rc::clone(&heard),
            lost: Rc::clone(&lost),
        };
        let transport = finish(
            reactor,
            reactor.connect_tcp(port.address(), |_: &Address| ear),
        );
        Self {
            reactor: reactor.clone(),
            transport,
            heard,
            lost,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard.borrow()).into_owned()
    }

    /// Turns the loop until it has heard something, and checks that it is this.
    #[track_caller]
    fn hears(&self, expected: &str) {
        self.until(&format!("{expected:?}"), || {
            self.heard.borrow().len() >= expected.len()
        });
        assert_eq!(self.text(), expected);
        self.heard.take();
    }

    /// Turns the loop until `done`.
    #[track_caller]
    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = self.reactor.now() + PATIENCE;
        while !done() {
            assert!(
                self.reactor.now() < deadline,
                "waited for {what}, heard {:?}",
                self.text()
            );
            self.reactor
                .turn(Some(Duration::from_millis(10)))
                .expect("the loop turns");
        }
    }
}

#[test]
fn what_a_proxy_does_unless_it_is_told_is_an_endpoint() {
    torsade::server_from_string(proxy::FRONT).expect("it is one");
    torsade::client_from_string(proxy::BACK).expect("it is one");
}

#[test]
fn a_proxy_carries_both_ways_and_counts_also_for_a_client_that_does_not_read_for_a_while() {
    const VOLUME: usize = 32 << 20;
    /// Asks once, and then reads nothing until it is told.
    struct Deaf {
        received: Rc<Cell<usize>>,
    }
    impl Protocol for Deaf {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            transport.write("much, please");
            transport.pause_reading();
        }
        fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
            self.received.set(self.received.get() + data.len());
            if self.received.get() == VOLUME {
                transport.lose_connection();
            }
        }
    }
    /// Answers with more than anybody holds.
    struct Generous(Rc<Cell<usize>>);
    impl Protocol for Generous {
        fn data_received(&mut self, transport: &Transport<Self>, _: &[u8]) {
            let limits = Limits {
                unsent_max: 2 * VOLUME,
                ..Limits::default()
            };
            transport.set_limits(limits);
            transport.write(vec![b'x'; VOLUME]);
            self.0.set(transport.unsent());
        }
    }
    let (reactor, unsent, received) = (
        Reactor::new().expect("a reactor"),
        Rc::default(),
        Rc::default(),
    );
    let left = Rc::clone(&unsent);
    let back = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| Generous(Rc::clone(&left)))
        .expect("a free port");
    let (front, statistics) = (TcpServerEndpoint::new("127.0.0.1:0"), Rc::default());
    let to_back = TcpClientEndpoint::new(back.address());
    let listening = proxy::listen(&reactor, &front, to_back, &statistics);
    let port = reactor.run_until(listening).expect("a free port");
    let deaf = Deaf {
        received: Rc::clone(&received),
    };
    let connecting = reactor.connect_tcp(port.address(), |_| deaf);
    let client = reactor.run_until(connecting).expect("it listens");
    for _ in 0..1000 {
        // Until nothing moves: what the systems hold is full, and so is the proxy.
        reactor
            .turn(Some(Duration::ZERO))
            .expect("the loop can look");
    }
    assert!(unsent.get() > 0, "the server has not got rid of everything");
    assert_eq!((received.get(), statistics.open.get()), (0, 1));
    client.resume_reading();
    while statistics.finished.get() == 0 {
        reactor.turn(None).expect("the loop can wait");
    }
    assert_eq!(received.get(), VOLUME);
    assert_eq!(
        (statistics.forth.get(), statistics.back.get()),
        (12, VOLUME as u64)
    );
    assert_eq!((statistics.open.get(), statistics.refused.get()), (0, 0));
    // Nobody behind it any more.
    reactor.run_until(back.stop_listening()).expect("it stops");
    let connecting = reactor.connect_tcp(port.address(), |_| Deaf { received });
    reactor.run_until(connecting).expect("the proxy listens");
    while statistics.refused.get() == 0 {
        reactor.turn(None).expect("the loop can wait");
    }
}

#[test]
fn unix_echo_says_who_its_peer_is_and_gives_every_byte_back() {
    let reactor = Reactor::new().expect("a reactor");
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("echo");
    let text = path.to_str().expect("it is text");
    let port = unix_echo::listen(&reactor, text).expect("nobody is there");
    let heard = Rc::new(RefCell::new(Vec::new()));
    let hears = Rc::clone(&heard);
    let transport = reactor
        .run_until(reactor.connect_unix(text, move |_| Hears(hears)))
        .expect("it listens");
    transport.write("over and back\n");
    while !heard.borrow().ends_with(b"back\n") {
        reactor.turn(None).expect("the loop can wait");
    }
    let heard = String::from_utf8(heard.take()).expect("it is text");
    let process = format!("process {}\nover and back\n", std::process::id());
    assert!(
        heard.starts_with("you are user ") && heard.ends_with(&process),
        "{heard}"
    );
    drop(port.stop_listening());
    assert!(!path.exists());
}

/// Keeps what it hears.
struct Hears(Rc<RefCell<Vec<u8>>>);

impl Protocol for Hears {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}
