//! Servers in processes of their own, and who asks them.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::epoll;

use crate::peers;

/// What is asked in a run.
pub struct Load {
    pub request: Vec<u8>,
    pub connections: usize,
    /// Requests that are sent together.
    pub depth: usize,
    /// In a run.
    pub messages: usize,
}

/// A server in a process of its own, ended when this is dropped.
pub struct Server {
    process: Child,
    /// Who does the work: not always the process that was started.
    worker: u32,
    address: SocketAddr,
}

impl Server {
    pub fn start(name: &str) -> Result<Self, Box<dyn Error>> {
        if let Some(peer) = peers::start(name)? {
            let worker = peers::worker_of(name, peer.process.id())?;
            return Ok(Self {
                process: peer.process,
                worker,
                address: peer.address,
            });
        }
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", name])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("its output was piped")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        let worker = process.id();
        Ok(Self {
            process,
            worker,
            address: address.trim().parse()?,
        })
    }

    /// Asks everything of a run, and gives the CPU time for one request in microseconds.
    pub fn take(&self, load: &Load) -> Result<f64, Box<dyn Error>> {
        let mut connections = Vec::with_capacity(load.connections);
        for _ in 0..load.connections {
            connections.push(TcpStream::connect(self.address)?);
        }
        let length = first_response(&mut connections[0], &load.request)?;
        let before = self.ran()?;
        run(&mut connections, load, &length)?;
        Ok((self.ran()? - before) as f64 / load.messages as f64 / 1000.0)
    }

    /// How long it ran so far, in nanoseconds: all its threads.
    fn ran(&self) -> Result<u64, Box<dyn Error>> {
        let mut ran = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.worker))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().ok_or("schedstat is empty")?;
            ran += first.parse::<u64>()?;
        }
        Ok(ran)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.worker != self.process.id() {
            // nginx ends its workers when it is asked to stop.
            let asked = Command::new("kill").arg(self.process.id().to_string()).status();
            if asked.is_ok() {
                let _ = self.process.wait();
                return;
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A response as it must come each time, but for its date.
struct Expected {
    text: Vec<u8>,
    /// Where the date stands.
    date: std::ops::Range<usize>,
}

impl Expected {
    fn check(&self, text: &[u8]) -> Result<(), Box<dyn Error>> {
        let (date, end) = (self.date.start, self.date.end);
        if text[..date] != self.text[..date] || text[end..] != self.text[end..] {
            return Err(format!("a response differs: {}", String::from_utf8_lossy(text)).into());
        }
        Ok(())
    }
}

/// Asks once, to know what comes.
fn first_response(stream: &mut TcpStream, request: &[u8]) -> Result<Expected, Box<dyn Error>> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
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
            let found = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
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
        return Ok(Expected { text, date });
    }
}

struct Asking {
    stream: TcpStream,
    /// What came and is not a whole response.
    kept: Vec<u8>,
    /// Responses that are still to come of those that were asked for.
    due: usize,
}

fn run(
    streams: &mut Vec<TcpStream>,
    load: &Load,
    expected: &Expected,
) -> Result<(), Box<dyn Error>> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let batch = load.request.repeat(load.depth);
    let mut left = load.messages;
    let mut askings = Vec::with_capacity(streams.len());
    for (index, stream) in streams.drain(..).enumerate() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
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
        events.clear();
        let limit = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&limit))?;
        if events.is_empty() {
            return Err("nothing came for ten seconds".into());
        }
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

fn ask(
    asking: &mut Asking,
    load: &Load,
    batch: &[u8],
    left: &mut usize,
) -> Result<bool, Box<dyn Error>> {
    let count = load.depth.min(*left);
    if count == 0 {
        return Ok(false);
    }
    *left -= count;
    asking.due = count;
    asking.stream.write_all(&batch[..count * load.request.len()])?;
    Ok(true)
}

fn take_responses(
    asking: &mut Asking,
    data: &[u8],
    expected: &Expected,
) -> Result<(), Box<dyn Error>> {
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
        asking.due = asking.due.checked_sub(1).ok_or("more responses than requests")?;
    }
    Ok(())
}

/// Waits until something listens there.
pub fn wait_for(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    for _ in 0..100 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nothing listens on {address}").into())
}
