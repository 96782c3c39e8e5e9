//! Every chunking gives the same lines, none of them too long, whatever is said to the receiver.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use torsade_protocols::lines::{Delimiter, LineReceiver, LineTooLong, LineTransport, Lines};
use torsade_reactor::Transport;
use torsade_reactor::testing::{MemoryStream, virtual_time_reactor};

const LINE_MAX: usize = 20;

type Seen = Rc<RefCell<Vec<Vec<u8>>>>;

/// Takes lines; one that begins with `!` is followed by as many raw bytes as it is long.
struct Receiver {
    seen: Seen,
    raw: usize,
}

impl LineReceiver for Receiver {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        assert!(line.len() <= LINE_MAX);
        self.seen.borrow_mut().push([b"line ", line].concat());
        if line.starts_with(b"!") {
            self.raw = line.len();
            self.seen.borrow_mut().push(b"raw ".to_vec());
            transport.set_raw_mode();
        }
    }

    fn raw_data_received(&mut self, transport: &LineTransport<Self>, data: &[u8]) {
        let (data, rest) = data.split_at(data.len().min(self.raw));
        self.raw -= data.len();
        let mut seen = self.seen.borrow_mut();
        seen.last_mut()
            .expect("it was announced")
            .extend_from_slice(data);
        drop(seen);
        if self.raw == 0 {
            transport.set_line_mode(rest);
        }
    }

    fn line_length_exceeded(&mut self, _: &LineTransport<Self>, error: LineTooLong) {
        assert!(error.limit == LINE_MAX && error.got_at_least > LINE_MAX);
        self.seen.borrow_mut().push(b"too long".to_vec());
    }
}

fn read<'a>(delimiter: &Delimiter, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let seen = Seen::default();
    let receiver = Receiver {
        seen: Rc::clone(&seen),
        raw: 0,
    };
    let lines = Lines::new(receiver);
    let lines = lines.delimiter(delimiter.clone()).max_length(LINE_MAX);
    let reactor = virtual_time_reactor();
    let stream = MemoryStream::new(&reactor);
    drop(Transport::connect(lines, stream.clone()));
    for chunk in chunks {
        stream.receive(chunk);
    }
    for _ in 0..3 {
        reactor
            .turn(Some(std::time::Duration::ZERO))
            .expect("it turns");
    }
    stream.end();
    seen.take()
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (kind, size, bytes) = input;
    let delimiter = match kind % 4 {
        0 => Delimiter::CrLf,
        1 => Delimiter::LineFeed,
        2 => Delimiter::from(b"\0"),
        _ => Delimiter::from(b"aab"),
    };
    let whole = read(&delimiter, std::iter::once(bytes));
    assert_eq!(read(&delimiter, bytes.chunks(1)), whole);
    assert_eq!(
        read(&delimiter, bytes.chunks(usize::from(size).max(1))),
        whole
    );
});
