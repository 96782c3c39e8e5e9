//! A program that serves, in processes of its own, and what it ran and holds.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Cost, Missing, Result, SILENCE_MAX, beside};

/// How many milliseconds a server gets to go to sleep: five ticks of the slowest clock that Linux has.
const TICKS: u32 = 50;

/// Nothing that a load is told to do takes a tenth of this; it counts its own silences besides.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// One that prints its address, on a line of its own, when it listens.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it cannot be started, or ends. If it says nothing for [`PATIENCE`].
    pub fn that_says_where(command: &mut Command) -> Result<Self> {
        let mut process = start(command.stdout(Stdio::piped()))?;
        let output = process.stdout.take().ok_or("its output was piped")?;
        let mut server = Self {
            process,
            address: String::new(),
        };
        match Said(BufReader::new(output)).line()? {
            Some(address) => server.address = address,
            None => {
                let why = format!(
                    "{} ended before it listened",
                    command.get_program().display()
                );
                return Err(Missing(why).into());
            }
        }
        Ok(server)
    }

    /// One that was told its address.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it cannot be started, or nobody listens there within five seconds.
    pub fn at(command: &mut Command, address: String) -> Result<Self> {
        let process = start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let mut server = Self { process, address };
        for _ in 0..500 {
            if let Some(status) = server.process.try_wait()? {
                return Err(Missing(format!("it ended: {status}")).into());
            }
            if TcpStream::connect(&server.address).is_ok() {
                return Ok(server);
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        Err(Missing::new("it does not listen").into())
    }

    /// Nobody listens there now.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn free_address() -> Result<String> {
        Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Has it answer one run of a load generator of this workspace, and gives its CPU time
    /// for a message in microseconds.
    ///
    /// # Errors
    ///
    /// What the load found wrong; or that it has not come to an end in [`PATIENCE`].
    pub fn answer(&self, load: &str, shape: &[u64; 4]) -> Result<Cost> {
        let mut load = Command::new(beside(load)?)
            .arg(&self.address)
            .args(shape.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut orders = load.stdin.take().ok_or("its input was piped")?;
        let output = load.stdout.take().ok_or("its output was piped")?;
        let mut said = Said(BufReader::new(output));
        let mut measured = || -> Result<Option<(u64, String)>> {
            if said.line()?.is_none() {
                return Ok(None);
            }
            let before = self.ran()?;
            writeln!(orders)?;
            let Some(done) = said.line()? else {
                return Ok(None);
            };
            Ok(Some((self.ran()? - before, done)))
        };
        let measured = measured().inspect_err(|_| {
            // It may still be at work; it fails only for one that has ended.
            let _ = load.kill();
        });
        drop(orders);
        let ended = load.wait_with_output()?;
        let measured = measured?;
        if !ended.status.success() {
            return Err(String::from_utf8_lossy(&ended.stderr).trim().into());
        }
        let (took, done) = measured.ok_or("the load ended early")?;
        let messages: u64 = done.split(' ').next().unwrap_or_default().parse()?;
        Ok(Cost {
            cost: took as f64 / messages as f64 / 1000.0,
            memory: Some(self.peak_memory()?),
        })
    }

    /// How long it has run, in nanoseconds: proc(5), `schedstat`, of all threads of it and of
    /// its children.
    ///
    /// The kernel adds to it when a thread sleeps, or at its next tick: so this waits until all sleep, or
    /// for some ticks.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn ran(&self) -> Result<u64> {
        for _ in 0..TICKS {
            if self.sleeps()? {
                break;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        let mut ran = 0;
        self.each_process(|process, thread| {
            let _ = process;
            let text = fs::read_to_string(thread.join("schedstat"))?;
            ran += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
            Ok(())
        })?;
        Ok(ran)
    }

    /// Whether no thread of it has anything to do: proc(5), the state in `stat`.
    fn sleeps(&self) -> Result<bool> {
        let mut sleeps = true;
        self.each_process(|_, thread| {
            let text = fs::read_to_string(thread.join("stat"))?;
            // Behind the name in parentheses, which may hold anything.
            let behind = text.rsplit_once(") ").map_or("", |(_, behind)| behind);
            sleeps &= !behind.starts_with('R');
            Ok(())
        })?;
        Ok(sleeps)
    }

    /// What it has had in memory at its peak, in KiB, its children included.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// What it has in memory now, in KiB, its children included.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn memory_now(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, line: &str) -> Result<u64> {
        let mut kib = 0;
        self.each_process(|process, thread| {
            if thread.file_name().is_some_and(|name| name == process) {
                kib += crate::programs::memory_of(process, line)?;
            }
            Ok(())
        })?;
        Ok(kib)
    }

    /// Waits until it has no more than so many descriptors open: until it has lost the connections that its peers
    /// have ended.
    ///
    /// # Errors
    ///
    /// If it has more for [`SILENCE_MAX`].
    pub fn wait_for_descriptors(&self, most: usize) -> Result<()> {
        for _ in 0..SILENCE_MAX.as_millis() {
            if self.descriptors()? <= most {
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        let more = self.descriptors()? - most;
        Err(format!("{more} descriptors of connections that have ended are still open").into())
    }

    /// How many descriptors it has open, its children's included: proc(5), `fd`.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        let mut count = 0;
        self.each_process(|process, thread| {
            if thread.file_name().is_some_and(|name| name == process) {
                count += fs::read_dir(thread.join("fd"))?.count();
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Each process with each of its threads' folders.
    fn each_process(&self, mut look: impl FnMut(&str, &Path) -> Result<()>) -> Result<()> {
        let mut processes = vec![self.process.id().to_string()];
        while let Some(process) = processes.pop() {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.path();
                look(&process, &thread)?;
                let children = fs::read_to_string(thread.join("children"))?;
                processes.extend(children.split_whitespace().map(str::to_owned));
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked, so that one with children ends them; they fail only for a process that has
        // ended.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        for _ in 0..200 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process says, line by line.
struct Said(BufReader<ChildStdout>);

impl Said {
    /// The next line, without its end; `None` after the last.
    ///
    /// # Errors
    ///
    /// If it begins none for [`PATIENCE`].
    fn line(&mut self) -> Result<Option<String>> {
        if self.0.buffer().is_empty() {
            let limit = Timespec::try_from(PATIENCE)?;
            let mut ready = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
            if poll(&mut ready, Some(&limit))? == 0 {
                return Err(format!("it said nothing for {PATIENCE:?}").into());
            }
        }
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.truncate(line.trim_end().len());
        Ok((!line.is_empty()).then_some(line))
    }
}

/// What a row needs, and was made before the rounds: a server that runs, a program that is compiled.
///
/// # Errors
///
/// Why it is not there, as often as it is asked: [`Missing`] if it was that, and else work done wrong.
pub fn standing<T>(made: &Result<T>) -> Result<&T> {
    made.as_ref().map_err(|why| match why.downcast_ref() {
        Some(Missing(why)) => Missing(why.clone()).into(),
        None => why.to_string().into(),
    })
}

fn start(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_owned();
    let started = command.stdin(Stdio::null()).spawn();
    Ok(started.map_err(|error| Missing(format!("{}: {error}", name.display())))?)
}
