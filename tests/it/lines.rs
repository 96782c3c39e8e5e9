//! `Lines` and `LineReceiver`, in a real seat over a stream made of memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::Stream;
use torsade::reactor::testing::{
    MemoryStream, for_every_chunking, memory_pair, virtual_time_reactor,
};

#[test]
fn who_has_connected_reaches_the_line_receiver() {
    struct Counter(usize);
    impl LineReceiver for Counter {
        fn line_received(&mut self, _: &LineTransport<Self>, _: &[u8]) {
            self.0 += 1;
        }
    }
    let memory = MemoryStream::new(&virtual_time_reactor());
    let lines = Lines::new(Counter(0)).delimiter(Delimiter::LineFeed);
    let transport = Transport::connect(lines, Rc::clone(&memory) as Rc<dyn Stream>);
    transport.send_line("with the delimiter that was set");
    memory.receive(b"one\ntwo\n");
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let own = transport.clone();
    transport.call_lines(move |counter, inside| {
        seen.set(counter.0);
        inside.send_line("from inside");
        // The receiver is busy: its turn comes, and lines keep their order.
        assert!(own.lines().is_none());
        own.send_line("from outside");
        inside.send_line("before it");
    });
    assert_eq!(count.get(), 2);
    assert_eq!(
        memory.take_written().escape_ascii().to_string(),
        "with the delimiter that was set\\nfrom inside\\nbefore it\\nfrom outside\\n"
    );
    memory.end();
    transport.send_line("after the end");
    assert!(transport.lines().is_none());
}

#[test]
fn a_line_receiver_has_a_last_word_when_the_reactor_stops() {
    struct Polite(Rc<Cell<bool>>);
    impl LineReceiver for Polite {
        fn line_received(&mut self, _: &LineTransport<Self>, _: &[u8]) {}

        fn about_to_be_lost(&mut self, transport: &LineTransport<Self>) {
            transport.send_line("the server goes");
        }

        fn connection_lost(&mut self, reason: ConnectionLost) {
            self.0.set(matches!(reason, ConnectionLost::Stopped));
        }
    }
    let (stopped, memory) = (
        Rc::new(Cell::new(false)),
        MemoryStream::new(&virtual_time_reactor()),
    );
    let lines = Lines::new(Polite(Rc::clone(&stopped)));
    Transport::connect(lines, Rc::clone(&memory) as Rc<dyn Stream>);
    memory.stop();
    assert_eq!(memory.take_written(), b"the server goes\r\n");
    assert!(stopped.get());
}

#[test]
fn lines_arrive_the_same_in_every_chunking() {
    let script =
        b"one\r\n\r\nraw 4\r\n\r\n\r\nsemi\r\na;b;crlf;c\r\nfar too long a line\r\nend\r\n";
    let expected = "made, line one, line , line raw 4, line semi, line a, line b, line crlf, \
                    line c, too long, line end";
    for_every_chunking(script, |chunks| {
        assert_eq!(conversation(chunks.iter().copied()), expected);
    });
}

/// Speaks a script whose lines change how the rest is split.
fn conversation<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> String {
    let (raw_left, raw) = (Cell::new(0), Rc::new(RefCell::new(Vec::new())));
    let to_raw = Rc::clone(&raw);
    let peer = Peer::of(move |transport, event| match event {
        Event::Line(b"raw 4") => {
            raw_left.set(4);
            transport.set_raw_mode();
        }
        Event::Line(b"semi") => transport.set_delimiter(b";"),
        Event::Line(b"crlf") => transport.set_delimiter(b"\r\n"),
        Event::Raw(data) => {
            let used = raw_left.get().min(data.len());
            raw_left.set(raw_left.get() - used);
            to_raw.borrow_mut().extend_from_slice(&data[..used]);
            if raw_left.get() == 0 {
                transport.set_line_mode(&data[used..]);
            }
        }
        Event::Line(_) | Event::TooLong => {}
    });
    peer.transport.set_max_length(12);
    for chunk in chunks {
        peer.send(chunk);
    }
    assert_eq!(*raw.borrow(), b"\r\n\r\n");
    // Raw data comes in other pieces, and with more than its own.
    peer.log
        .seen
        .borrow_mut()
        .retain(|event| !event.starts_with("raw "));
    peer.take_seen()
}

#[test]
fn pausing_in_the_middle_of_a_chunk_stops_at_once_and_resuming_goes_on_in_a_later_turn() {
    let peer = Peer::of(|transport, event| {
        if event == Event::Line(b"pause") {
            transport.pause_reading();
        }
    });
    peer.send(b"one\r\npause\r\ntwo\r\nthree\r\npart");
    assert_eq!(peer.take_seen(), "made, line one, line pause");
    peer.turn();
    assert_eq!(peer.take_seen(), "");
    peer.transport.resume_reading();
    assert_eq!(peer.take_seen(), "", "not from inside resume_reading");
    assert!(
        peer.memory.is_paused(),
        "nothing more comes from below before what is kept is delivered"
    );
    peer.turn();
    assert_eq!(peer.take_seen(), "line two, line three");
    assert!(!peer.memory.is_paused());
    peer.send(b"ial\r\n");
    assert_eq!(peer.take_seen(), "line partial");
}

#[test]
fn resuming_inside_the_same_callback_goes_on_with_the_next_line() {
    let peer = Peer::of(|transport, _| {
        transport.pause_reading();
        transport.resume_reading();
    });
    peer.send(b"one\r\ntwo\r\n");
    assert_eq!(peer.take_seen(), "made, line one, line two");
    assert!(!peer.memory.is_paused());
}

#[test]
fn a_receiver_that_pauses_at_every_line_keeps_no_more_than_one_chunk() {
    let peer = Peer::of(|transport, _| transport.pause_reading());
    let chunk = b"x\r\n".repeat(1000);
    peer.send(&chunk);
    for _ in 0..999 {
        peer.transport.resume_reading();
        assert!(
            peer.memory.is_paused(),
            "the stream below stays paused until the last line"
        );
        peer.turn();
    }
    peer.transport.resume_reading();
    assert!(!peer.memory.is_paused());
    assert_eq!(peer.take_seen().matches("line x").count(), 1000);
}

#[test]
fn pausing_again_before_the_next_turn_holds_the_lines_back() {
    let peer = Peer::of(|transport, event| {
        if event == Event::Line(b"pause") {
            transport.pause_reading();
        }
    });
    peer.send(b"pause\r\ntwo\r\n");
    peer.transport.resume_reading();
    peer.transport.pause_reading();
    peer.turn();
    assert_eq!(peer.take_seen(), "made, line pause");
    peer.transport.resume_reading();
    peer.turn();
    assert_eq!(peer.take_seen(), "line two");
}

#[test]
fn no_line_is_delivered_once_the_connection_is_being_lost() {
    for lose in [
        LineTransport::<Scripted>::lose_connection,
        LineTransport::<Scripted>::abort_connection,
    ] {
        let peer = Peer::of(move |transport, _| lose(transport));
        peer.send(b"one\r\ntwo\r\n");
        assert_eq!(peer.take_seen(), "made, line one");
        peer.memory.end();
        assert_eq!(peer.take_seen(), "lost");
    }
}

#[test]
fn what_is_kept_is_dropped_when_the_connection_is_lost() {
    let peer = Peer::of(|transport, _| transport.pause_reading());
    peer.send(b"one\r\ntwo\r\n");
    peer.transport.resume_reading();
    peer.memory.end();
    peer.turn();
    assert_eq!(peer.take_seen(), "made, line one, lost");
    peer.transport.resume_reading();
    peer.transport.send_line("nobody hears this");
    peer.transport.set_line_mode("nor this");
    peer.turn();
    assert_eq!(peer.take_seen(), "");
}

#[test]
fn an_over_long_line_loses_the_connection_with_a_typed_reason() {
    struct Plain(Rc<Cell<Option<LineTooLong>>>);
    impl LineReceiver for Plain {
        fn line_received(&mut self, _: &LineTransport<Self>, _: &[u8]) {}
        fn connection_lost(&mut self, reason: ConnectionLost) {
            if let ConnectionLost::Failed(failure) = &reason {
                self.0.set(failure.downcast_ref::<LineTooLong>().copied());
            }
        }
    }
    let found = Rc::new(Cell::new(None));
    let memory = MemoryStream::new(&virtual_time_reactor());
    let lines = Lines::new(Plain(Rc::clone(&found))).max_length(10);
    let transport = Transport::connect(lines, Rc::clone(&memory) as Rc<dyn Stream>);
    memory.receive(&[b'x'; 100]);
    assert!(!transport.is_connected());
    memory.end();
    let error = found.take().expect("the reason is LineTooLong");
    assert_eq!((error.limit, error.got_at_least), (10, 99));
}

#[test]
fn the_beginning_of_a_line_is_raw_data_when_the_mode_changes_outside() {
    let peer = Peer::of(|_, _| {});
    peer.send(b"half a li");
    peer.transport.set_raw_mode();
    assert_eq!(peer.take_seen(), "made");
    peer.turn();
    assert_eq!(peer.take_seen(), "raw half a li");
    peer.transport.set_line_mode("first ");
    peer.send(b"second\r\n");
    peer.turn();
    assert_eq!(peer.take_seen(), "line first second");
}

#[test]
fn a_change_of_the_delimiter_holds_for_a_line_that_has_begun() {
    let peer = Peer::of(|_, _| {});
    peer.send(b"a;b");
    peer.transport.set_delimiter(b";");
    peer.send(b";c");
    peer.turn();
    assert_eq!(peer.take_seen(), "made, line a, line b");
    peer.transport.send_line("d");
    assert_eq!(peer.memory.take_written(), b"d;");
}

#[test]
fn bytes_that_were_never_received_can_be_given_back_too() {
    let peer = Peer::of(|transport, event| match event {
        Event::Line(b"go") => transport.set_raw_mode(),
        Event::Raw(data) => transport.set_line_mode([b"made up\r\n", data].concat()),
        Event::Line(_) | Event::TooLong => {}
    });
    peer.send(b"go\r\nrest\r\n");
    assert_eq!(
        peer.take_seen(),
        "made, line go, raw rest\\r\\n, line made up, line rest"
    );
}

#[test]
fn many_short_raw_parts_in_one_chunk_cost_linear_time() {
    // Copying the rest of the chunk at each change of mode would move 64 GiB here.
    let peer = Peer::of(|transport, event| match event {
        Event::Line(_) => transport.set_raw_mode(),
        Event::Raw(data) => transport.set_line_mode(&data[1..]),
        Event::TooLong => {}
    });
    peer.log.quiet.set(true);
    peer.send(&b"\r\nx".repeat(200_000));
    assert_eq!(peer.log.count.get(), 400_001);
}

#[test]
fn calls_that_waited_for_the_receiver_run_between_two_lines() {
    let peer = Peer::of(|transport, event| {
        if event == Event::Line(b"one") {
            transport.call(|scripted, transport| {
                scripted.log.push("called");
                transport.send_line("written");
            });
        }
    });
    peer.send(b"one\r\ntwo\r\n");
    assert_eq!(peer.take_seen(), "made, line one, called, line two");
    assert_eq!(peer.memory.take_written(), b"written\r\n");
}

#[test]
fn data_that_comes_while_the_receiver_is_busy_is_delivered_in_order_when_it_is_free() {
    let peer = Peer::of(|_, _| {});
    let memory = Rc::clone(&peer.memory);
    peer.transport.call(move |scripted, _| {
        memory.receive(b"one\r\ntw");
        memory.receive(b"o\r\n");
        memory.end_read();
        scripted.log.push("busy until here");
    });
    peer.turn();
    assert_eq!(
        peer.take_seen(),
        "made, busy until here, line one, line two, read lost"
    );
}

#[test]
fn data_that_comes_from_inside_a_line_follows_the_chunk_at_hand() {
    let slot = Rc::new(RefCell::new(None::<Rc<MemoryStream>>));
    let memory = Rc::clone(&slot);
    let peer = Peer::of(move |_, event| {
        if event == Event::Line(b"one") {
            let memory = memory.borrow().clone().expect("it was set before any line");
            memory.receive(b"three\r\n");
        }
    });
    slot.replace(Some(Rc::clone(&peer.memory)));
    peer.send(b"one\r\ntwo\r\n");
    peer.turn();
    assert_eq!(peer.take_seen(), "made, line one, line two, line three");
}

#[test]
fn the_end_of_the_peers_stream_comes_after_the_lines_before_it() {
    let peer = Peer::of(|transport, event| {
        if event == Event::Line(b"pause") {
            transport.pause_reading();
        }
    });
    peer.send(b"pause\r\nlast\r\nunfinished");
    peer.memory.end_read();
    peer.turn();
    assert_eq!(peer.take_seen(), "made, line pause");
    peer.transport.resume_reading();
    peer.turn();
    assert_eq!(peer.take_seen(), "line last, read lost");
}

#[test]
fn a_panic_in_line_received_ends_the_connection_with_that_reason_and_nothing_more_is_delivered() {
    let peer = Peer::of(|_, event| {
        if event == Event::Line(b"bad") {
            panic!("no such line");
        }
    });
    peer.send(b"good\r\nbad\r\nnext\r\n");
    let reason = peer
        .memory
        .take_reason()
        .expect("the connection is being lost");
    assert_eq!(
        reason.to_string(),
        "connection lost: a callback of its protocol panicked: no such line"
    );
    assert_eq!(peer.take_seen(), "made, line good, line bad");
    peer.memory.end();
    assert_eq!(peer.take_seen(), "lost");
}

#[test]
fn the_marks_of_the_stream_below_reach_the_receiver() {
    let peer = Peer::of(|_, _| {});
    peer.memory.set_congested(true);
    peer.memory.set_congested(false);
    assert_eq!(peer.take_seen(), "made, write paused, write resumed");
}

#[test]
fn a_peer_that_asks_much_in_one_chunk_and_reads_gets_every_answer_within_the_marks() {
    const LINES: usize = 60_000;
    const ANSWER: [u8; 1000] = [b'v'; 1000];

    struct Answers {
        most_unsent: Rc<Cell<usize>>,
    }
    impl LineReceiver for Answers {
        fn line_received(&mut self, transport: &LineTransport<Self>, _: &[u8]) {
            transport.send_line(ANSWER);
            let unsent = transport.unsent();
            self.most_unsent.set(self.most_unsent.get().max(unsent));
        }
    }

    struct Asks {
        left: usize,
        done: Option<Trigger<()>>,
    }
    impl Protocol for Asks {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            transport.write(vec![b'\n'; LINES]);
        }

        fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
            self.left -= data.len();
            if let Some(done) = self.done.take_if(|_| self.left == 0) {
                done.callback(());
            }
        }
    }

    let reactor = Reactor::new().expect("a reactor");
    let most_unsent = Rc::new(Cell::new(0));
    let most = Rc::clone(&most_unsent);
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| {
        let most_unsent = Rc::clone(&most);
        Lines::new(Answers { most_unsent }).delimiter(Delimiter::LineFeed)
    });
    let address = port.expect("a free port").address();
    let (trigger, done) = Deferred::new();
    let left = LINES * (ANSWER.len() + 1);
    let client = reactor.connect_tcp(address, move |_| Asks {
        left,
        done: Some(trigger),
    });
    reactor.run_until(client).expect("it listens");
    reactor.run_until(done).expect("every answer comes");
    let marks = Limits::default();
    assert!(most_unsent.get() < 2 * marks.unsent_high, "{most_unsent:?}");
}

#[test]
fn a_connection_can_be_handed_on_with_the_bytes_that_are_not_used() {
    struct Next(Rc<Log>);
    impl Protocol for Next {
        fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
            self.0.push_bytes("next got ", data);
        }
        fn connection_lost(&mut self, _: ConnectionLost) {
            self.0.push("next lost");
        }
    }
    let log = Rc::new(RefCell::new(None::<Rc<Log>>));
    let to_log = Rc::clone(&log);
    let peer = Peer::of(move |transport, event| {
        if event == Event::Line(b"switch") {
            let log = to_log.borrow().clone().expect("it was set before any line");
            Transport::connect(Next(log), Rc::clone(transport.stream()) as Rc<dyn Stream>);
        }
    });
    log.replace(Some(Rc::clone(&peer.log)));
    peer.send(b"switch\r\nraw\r\n");
    peer.send(b"more");
    peer.memory.end();
    assert_eq!(
        peer.take_seen(),
        "made, line switch, next got raw\\r\\n, next got more, next lost, lost"
    );
}

#[test]
fn who_is_handed_a_connection_behind_the_peers_end_hears_of_it() {
    struct Next(Rc<Log>);
    impl Protocol for Next {
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
        fn read_connection_lost(&mut self, _: &Transport<Self>) {
            self.0.push("next read lost");
        }
    }
    let stream = Rc::new(RefCell::new(None::<Rc<dyn Stream>>));
    let slot = Rc::clone(&stream);
    let peer = Peer::of(move |transport, _| {
        let stream = Rc::clone(transport.stream()) as Rc<dyn Stream>;
        slot.replace(Some(stream));
    });
    peer.send(b"question\r\n");
    peer.memory.end_read();
    let stream = stream.take().expect("a line came");
    let reactor = stream.socket().reactor();
    Transport::connect(Next(Rc::clone(&peer.log)), stream);
    peer.log.push("handed on");
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).expect("it turns");
    }
    assert_eq!(
        peer.take_seen(),
        "made, line question, read lost, handed on, next read lost"
    );
}

#[test]
fn who_takes_a_connection_after_its_end_hears_of_it_and_is_not_kept() {
    struct Late(Rc<Log>);
    impl Protocol for Late {
        fn connection_made(&mut self, _: &Transport<Self>) {
            self.0.push("late made");
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
        fn connection_lost(&mut self, _: ConnectionLost) {
            self.0.push("late lost");
        }
    }
    let peer = Peer::of(|_, _| {});
    let stream = Rc::clone(peer.transport.stream()) as Rc<dyn Stream>;
    peer.memory.end();
    peer.turn();
    let late = Transport::connect(Late(Rc::clone(&peer.log)), stream);
    assert_eq!(peer.take_seen(), "made, lost, late made");
    peer.turn();
    assert_eq!(peer.take_seen(), "late lost");
    let weak = Rc::downgrade(late.stream());
    drop((late, peer));
    assert_eq!(weak.strong_count(), 0, "a ring holds it");
}

#[test]
fn resuming_while_the_answers_are_not_taken_reads_no_further() {
    let peer = Peer::of(|_, _| {});
    peer.memory.set_congested(true);
    peer.send(b"one\r\n");
    peer.turn();
    assert!(peer.memory.is_paused());
    peer.transport.pause_reading();
    peer.turn();
    peer.transport.resume_reading();
    peer.turn();
    assert!(peer.memory.is_paused(), "what came would pile up");
    peer.memory.set_congested(false);
    peer.turn();
    assert!(!peer.memory.is_paused());
}

#[test]
fn a_receiver_that_minds_the_marks_itself_is_given_lines_all_the_same() {
    let peer = Peer::of(|_, _| {});
    peer.memory.set_congested(true);
    peer.send(b"one\r\ntwo\r\nthree\r\n");
    peer.turn();
    assert_eq!(peer.take_seen(), "made, write paused, line one");
    peer.transport.set_throttled(false);
    assert_eq!(peer.take_seen(), "", "not before it returns");
    peer.turn();
    assert_eq!(peer.take_seen(), "line two, line three");
    assert!(!peer.memory.is_paused());
    peer.transport.set_throttled(true);
    peer.send(b"four\r\nfive\r\n");
    peer.turn();
    assert_eq!(peer.take_seen(), "line four");
}

/// Sends lines, and answers each with itself if it is told to.
struct Talkative {
    lines: usize,
    answers: bool,
    heard: Rc<Cell<usize>>,
}

const LONG: [u8; 1000] = [b'l'; 1000];

impl LineReceiver for Talkative {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        for _ in 0..self.lines {
            transport.send_line(LONG);
        }
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        self.heard.set(self.heard.get() + 1);
        if self.answers {
            transport.send_line(line);
        }
    }
}

#[test]
fn a_client_that_sends_all_of_its_lines_before_it_reads_gets_every_answer() {
    const LINES: usize = 1000;
    let pair = memory_pair(&virtual_time_reactor());
    pair.pump.set_capacity(64 * 1024);
    let (sent, came) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let talkative = |lines, answers, heard: &Rc<Cell<usize>>| {
        Lines::new(Talkative {
            lines,
            answers,
            heard: Rc::clone(heard),
        })
    };
    Transport::connect(talkative(0, true, &sent), pair.server);
    Transport::connect(talkative(LINES, false, &came), pair.client);
    pair.pump.run().expect("it comes to rest");
    assert_eq!((sent.get(), came.get()), (LINES, LINES));
}

/// What a scripted receiver reacts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event<'a> {
    Line(&'a [u8]),
    Raw(&'a [u8]),
    TooLong,
}

type Reaction = dyn FnMut(&LineTransport<Scripted>, Event<'_>);

/// A line receiver that notes what it sees and then does what a closure says.
struct Scripted {
    log: Rc<Log>,
    react: Box<Reaction>,
}

impl LineReceiver for Scripted {
    fn connection_made(&mut self, _: &LineTransport<Self>) {
        self.log.push("made");
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        self.log.push_bytes("line ", line);
        (self.react)(transport, Event::Line(line));
    }

    fn raw_data_received(&mut self, transport: &LineTransport<Self>, data: &[u8]) {
        self.log.push_bytes("raw ", data);
        (self.react)(transport, Event::Raw(data));
    }

    fn line_length_exceeded(&mut self, transport: &LineTransport<Self>, _: LineTooLong) {
        self.log.push("too long");
        (self.react)(transport, Event::TooLong);
    }

    fn read_connection_lost(&mut self, _: &LineTransport<Self>) {
        self.log.push("read lost");
    }

    fn write_paused(&mut self, _: &LineTransport<Self>) {
        self.log.push("write paused");
    }

    fn write_resumed(&mut self, _: &LineTransport<Self>) {
        self.log.push("write resumed");
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.log.push("lost");
    }
}

#[derive(Default)]
struct Log {
    seen: RefCell<Vec<String>>,
    count: Cell<usize>,
    quiet: Cell<bool>,
}

impl Log {
    fn push(&self, event: &str) {
        self.push_bytes(event, b"");
    }

    fn push_bytes(&self, event: &str, data: &[u8]) {
        self.count.set(self.count.get() + 1);
        if !self.quiet.get() {
            self.seen
                .borrow_mut()
                .push(format!("{event}{}", data.escape_ascii()));
        }
    }
}

/// A scripted receiver on lines on memory, seen from the other end.
struct Peer {
    memory: Rc<MemoryStream>,
    transport: LineTransport<Scripted>,
    log: Rc<Log>,
}

impl Peer {
    fn of(react: impl FnMut(&LineTransport<Scripted>, Event<'_>) + 'static) -> Self {
        let (memory, log) = (
            MemoryStream::new(&virtual_time_reactor()),
            Rc::new(Log::default()),
        );
        let scripted = Scripted {
            log: Rc::clone(&log),
            react: Box::new(react),
        };
        let below = Transport::connect(Lines::new(scripted), Rc::clone(&memory) as Rc<dyn Stream>);
        let transport = below.lines().expect("the connection stands");
        Self {
            memory,
            transport,
            log,
        }
    }

    fn send(&self, data: &[u8]) {
        self.memory.receive(data);
    }

    fn turn(&self) {
        self.memory
            .socket()
            .reactor()
            .turn(Some(Duration::ZERO))
            .expect("virtual time passes");
    }

    fn take_seen(&self) -> String {
        self.log.seen.take().join(", ")
    }
}
