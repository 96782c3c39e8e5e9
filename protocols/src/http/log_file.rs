//! The access log, written: lines in the Combined format, gathered and written together.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use core::net::IpAddr;

use torsade_reactor::{Phase, Reactor, WeakReactor};

use super::access_log::Entry;
use super::forwarding;
use super::server::{Access, report};
use super::values::pieces;

/// Lines wait for no longer than this.
const WAIT: Duration = Duration::from_secs(1);

/// More than this is written at once.
const FULL: usize = 64 * 1024;

/// Writes a line for each request: the Combined format, or the Common one.
///
/// Lines are gathered, and written when a second has passed, when there are 64 KiB of them, when
/// the reactor stops, and when the last clone is dropped. To write blocks, as files do. Cheap to clone.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{AccessLog, Request, Site};
/// use torsade_reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::new()?;
/// let log = AccessLog::to(&reactor, std::io::stdout());
/// let site = Site::new(|_: Request| "hello").access_log(move |access| log.write(access));
/// # drop(site);
/// # Ok(())
/// # }
/// ```
///
/// A log that is rotated: `AccessLog::to_file`, and [`reopen`](Self::reopen) when SIGHUP comes.
#[derive(Clone)]
pub struct AccessLog {
    core: Rc<LogCore>,
}

struct LogCore {
    reactor: WeakReactor,
    path: Option<PathBuf>,
    /// Out of its place while it is written to.
    sink: RefCell<Option<Box<dyn Write>>>,
    lines: RefCell<String>,
    is_due: Cell<bool>,
    /// It could not be written, which has been reported.
    is_broken: Cell<bool>,
    common: Cell<bool>,
    proxies: RefCell<Vec<IpAddr>>,
}

impl AccessLog {
    /// Appends to a file, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// What the system says when it is opened.
    pub fn to_file(reactor: &Reactor, path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = append_to(&path)?;
        Ok(Self::new(reactor, Some(path), Box::new(file)))
    }

    /// Writes to standard output, or anything else.
    #[must_use]
    pub fn to(reactor: &Reactor, sink: impl Write + 'static) -> Self {
        Self::new(reactor, None, Box::new(sink))
    }

    fn new(reactor: &Reactor, path: Option<PathBuf>, sink: Box<dyn Write>) -> Self {
        let core = Rc::new(LogCore {
            reactor: reactor.downgrade(),
            path,
            sink: RefCell::new(Some(sink)),
            lines: RefCell::default(),
            is_due: Cell::new(false),
            is_broken: Cell::new(false),
            common: Cell::new(false),
            proxies: RefCell::default(),
        });
        let weak = Rc::downgrade(&core);
        // Responses that are under way end before this.
        let hook = reactor.on_shutdown(Phase::After, move || {
            if let Some(core) = weak.upgrade() {
                core.write_out();
            }
        });
        // It goes with the log: a hook without one does nothing.
        drop(hook);
        Self { core }
    }

    /// Leaves out what the Common format does not have: `Referer` and `User-Agent`.
    #[must_use]
    pub fn common(self) -> Self {
        self.core.common.set(true);
        self
    }

    /// Believes these proxies when they say in `X-Forwarded-For` for whom they ask. What others say is
    /// not looked at: anybody may write that field.
    #[must_use]
    pub fn trust_proxies(self, proxies: impl IntoIterator<Item = IpAddr>) -> Self {
        self.core.proxies.replace(proxies.into_iter().collect());
        self
    }

    /// Writes a line, in time: what [`Site::access_log`](super::Site::access_log) calls.
    ///
    /// Never fails: a sink that takes no lines is reported as an unhandled failure, once, and its
    /// lines are lost, until it is [reopened](Self::reopen).
    pub fn write(&self, access: &Access) {
        let core = &self.core;
        let peer = core.client_of(access);
        let request = format!("{} {} {:?}", access.method, access.target, access.version);
        let entry = Entry {
            peer: &peer,
            user: None,
            at: access.begun,
            request: &request,
            status: access.status.as_u16(),
            body_length: access.bytes,
            referer: access.referer.as_deref().map(str::as_bytes),
            user_agent: access.user_agent.as_deref().map(str::as_bytes),
        };
        let mut lines = core.lines.borrow_mut();
        if core.common.get() {
            entry.write_common(&mut lines);
        } else {
            entry.write_combined(&mut lines);
        }
        let is_full = lines.len() >= FULL;
        drop(lines);
        if is_full {
            core.write_out();
        } else if let Some(reactor) = core.reactor.upgrade()
            && !core.is_due.replace(true)
        {
            let weak = Rc::downgrade(core);
            let call = reactor.call_later(WAIT, move || {
                if let Some(core) = weak.upgrade() {
                    core.is_due.set(false);
                    core.write_out();
                }
            });
            call.set_background(true);
        }
    }

    /// Writes what has been gathered.
    pub fn flush(&self) {
        self.core.write_out();
    }

    /// Opens the file anew, by its name: when the old one has been moved away. Of a log that is not to
    /// a file, nothing.
    ///
    /// # Errors
    ///
    /// What the system says; the log goes on with the old file then.
    pub fn reopen(&self) -> io::Result<()> {
        let Some(path) = &self.core.path else {
            return Ok(());
        };
        let file = append_to(path)?;
        self.core.write_out();
        self.core.is_broken.set(false);
        let old = self.core.sink.replace(Some(Box::new(file)));
        drop(old);
        Ok(())
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

impl LogCore {
    /// Who asked: the nearest address that is none of our own proxies.
    fn client_of(&self, access: &Access) -> String {
        let Some(mut client) = access.peer.ip() else {
            return access.peer.to_string();
        };
        let proxies = self.proxies.borrow();
        let said = access.forwarded_for.as_deref().unwrap_or_default();
        let said: Vec<&str> = pieces(said, b',').collect();
        for before in said.iter().rev() {
            if !proxies.contains(&client) {
                break;
            }
            let Some(address) = forwarding::address(before) else {
                break;
            };
            client = address;
        }
        client.to_string()
    }

    fn write_out(&self) {
        // Detach, then call: the sink is anybody's.
        let lines = self.lines.take();
        let sink = self.sink.take();
        let Some(mut sink) = sink else { return };
        if !lines.is_empty() {
            let written = sink.write_all(lines.as_bytes()).and_then(|()| sink.flush());
            match written {
                Ok(()) => self.is_broken.set(false),
                Err(error) if !self.is_broken.replace(true) => report(error.into()),
                Err(_) => {}
            }
        }
        // Another one may have been opened meanwhile.
        let mut place = self.sink.borrow_mut();
        if place.is_none() {
            *place = Some(sink);
        }
    }
}

impl Drop for LogCore {
    fn drop(&mut self) {
        self.write_out();
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("path", &self.core.path)
            .field("gathered", &self.core.lines.borrow().len())
            .finish_non_exhaustive()
    }
}
