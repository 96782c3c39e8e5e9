//! Who asks a server, and looks at every byte of what it answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use bench_rounds::{Cost, Result, SILENCE_MAX, Server, wait};
use rustix::event::epoll;

/// What is asked in a run.
pub struct Load {
    pub request: Vec<u8>,
    /// What a response is to bring.
    pub body: Vec<u8>,
    pub connections: usize,
    /// Requests that are sent together.
    pub depth: usize,
    /// In a run.
    pub messages: usize,
}

impl Load {
    /// Asks everything of a run, and gives the server's CPU time for one request in microseconds.
    pub fn take(&self, server: &Server) -> Result<Cost> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(server.connect()?);
        }
        let expected = first_response(&mut connections[0], &self.request)?;
        if expected.text[expected.head..] != self.body {
            return Err("the first response has another body".into());
        }
        let before = server.ran()?;
        run(&mut connections, self, &expected)?;
        Ok(Cost {
            cost: (server.ran()? - before) as f64 / self.messages as f64 / 1000.0,
            memory: Some(server.peak_memory()?),
        })
    }
}

/// A response as it must come each time, but for its date.
struct Expected {
    text: Vec<u8>,
    /// How much of it stands before the body.
    head: usize,
    /// Where the date stands.
    date: std::ops::Range<usize>,
}

impl Expected {
    fn check(&self, text: &[u8]) -> Result<()> {
        let (date, end) = (self.date.start, self.date.end);
        if text[..date] != self.text[..date] || text[end..] != self.text[end..] {
            return Err(format!("a response differs: {}", String::from_utf8_lossy(text)).into());
        }
        Ok(())
    }
}

/// Asks once, to know what comes.
fn first_response(stream: &mut TcpStream, request: &[u8]) -> Result<Expected> {
    stream.write_all(request)?;
    let (mut text, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err("the connection ended in the first response".into());
        }
        text.extend_from_slice(&buffer[..count]);
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(head) = response.parse(&text)? else {
            continue;
        };
        if response.code != Some(200) {
            return Err(format!("status {:?}", response.code).into());
        }
        let field = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|it| it.name.eq_ignore_ascii_case(name));
            found.map(|field| field.value)
        };
        let length: usize = str::from_utf8(field("content-length").ok_or("no length")?)?.parse()?;
        if text.len() < head + length {
            continue;
        }
        let date = field("date").map_or(0..0, |value| {
            let begin = value.as_ptr() as usize - text.as_ptr() as usize;
            begin..begin + value.len()
        });
        if text.len() > head + length {
            return Err("more than the response came".into());
        }
        return Ok(Expected { text, head, date });
    }
}

struct Asking {
    stream: TcpStream,
    /// What came and is not a whole response.
    kept: Vec<u8>,
    /// Responses that are still to come of those that were asked for.
    due: usize,
}

fn run(streams: &mut Vec<TcpStream>, load: &Load, expected: &Expected) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let batch = load.request.repeat(load.depth);
    let mut left = load.messages;
    let mut askings = Vec::with_capacity(streams.len());
    for (index, stream) in streams.drain(..).enumerate() {
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&poll, stream.as_fd(), data, epoll::EventFlags::IN)?;
        askings.push(Asking {
            stream,
            kept: Vec::new(),
            due: 0,
        });
    }
    let mut open = 0;
    for asking in &mut askings {
        open += usize::from(ask(asking, load, &batch, &mut left)?);
    }
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    let mut buffer = vec![0; 256 * 1024];
    while open > 0 {
        wait(&poll, &mut events, SILENCE_MAX)?;
        for event in &events {
            let asking = &mut askings[event.data.u64() as usize];
            let count = asking.stream.read(&mut buffer)?;
            if count == 0 {
                return Err("a connection ended".into());
            }
            take_responses(asking, &buffer[..count], expected)?;
            if asking.due == 0 && !ask(asking, load, &batch, &mut left)? {
                open -= 1;
            }
        }
    }
    Ok(())
}

fn ask(asking: &mut Asking, load: &Load, batch: &[u8], left: &mut usize) -> Result<bool> {
    let count = load.depth.min(*left);
    if count == 0 {
        return Ok(false);
    }
    *left -= count;
    asking.due = count;
    asking
        .stream
        .write_all(&batch[..count * load.request.len()])?;
    Ok(true)
}

fn take_responses(asking: &mut Asking, data: &[u8], expected: &Expected) -> Result<()> {
    let size = expected.text.len();
    let mut data = data;
    if !asking.kept.is_empty() {
        let missing = (size - asking.kept.len()).min(data.len());
        asking.kept.extend_from_slice(&data[..missing]);
        data = &data[missing..];
        if asking.kept.len() < size {
            return Ok(());
        }
        expected.check(&asking.kept)?;
        asking.kept.clear();
        asking.due -= 1;
    }
    let whole = data.chunks_exact(size);
    asking.kept.extend_from_slice(whole.remainder());
    for response in whole {
        expected.check(response)?;
        asking.due = asking
            .due
            .checked_sub(1)
            .ok_or("more responses than requests")?;
    }
    Ok(())
}
