//! A peer that plays a script.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Trigger};

use crate::delayed_call::DelayedCall;
use crate::error::ConnectionLost;
use crate::protocol::Protocol;
use crate::transport::Transport;

/// What a peer expects, sends and does, step by step; [`play`](Self::play) makes a protocol of
/// it, for any connection: in memory, simulated or real.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::testing::{Script, memory_pair, success_of, virtual_time_reactor};
/// use torsade_reactor::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
///         transport.write(data);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (peer, played) = Script::new()
///     .send("hel")
///     .wait(Duration::from_secs(60))
///     .send("lo")
///     .expect("hello")
///     .end()
///     .expect_end()
///     .play();
/// let reactor = virtual_time_reactor();
/// let pair = memory_pair(&reactor);
/// Transport::connect(Echo, pair.server);
/// Transport::connect(peer, pair.client);
/// reactor.run_until(played)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
}

#[derive(Clone)]
enum Step {
    Expect(Vec<u8>),
    ExpectEnd,
    Send(Vec<u8>),
    Wait(Duration),
    End,
    Close,
    Abort,
}

impl Script {
    /// A peer that does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for these bytes, in any chunks. Other bytes in their place fail the script.
    #[must_use]
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Expect(bytes.as_ref().to_vec()))
    }

    /// Waits until the other side has ended its stream, in order, and has sent nothing more.
    #[must_use]
    pub fn expect_end(self) -> Self {
        self.then(Step::ExpectEnd)
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Does nothing for so long. What comes meanwhile is kept for the steps that follow.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Ends its own stream and goes on reading.
    #[must_use]
    pub fn end(self) -> Self {
        self.then(Step::End)
    }

    /// Loses the connection in order: what was sent before arrives.
    #[must_use]
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Breaks the connection off.
    #[must_use]
    pub fn abort(self) -> Self {
        self.then(Step::Abort)
    }

    /// The peer, and what becomes of it. The result comes after the last step, or fails with a
    /// [`ScriptError`] at the step where something else happened; the connection is broken
    /// off then.
    ///
    /// After its last step the peer keeps the connection until the other side ends it. That it
    /// was sent something more then fails the script as well, if it is there by then.
    ///
    /// # Cancellation
    ///
    /// The peer goes on, and nobody learns what became of it.
    pub fn play(self) -> (ScriptedPeer, Deferred<()>) {
        let (trigger, outcome) = Deferred::new();
        let peer = ScriptedPeer {
            steps: self.steps,
            done: 0,
            received: Vec::new(),
            has_ended: false,
            pause: None,
            outcome: Some(trigger),
        };
        (peer, outcome)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expect(bytes) => write!(f, "expect \"{}\"", bytes.escape_ascii()),
            Self::ExpectEnd => f.write_str("expect the end"),
            Self::Send(bytes) => write!(f, "send \"{}\"", bytes.escape_ascii()),
            Self::Wait(time) => write!(f, "wait {time:?}"),
            Self::End => f.write_str("end the stream"),
            Self::Close => f.write_str("close"),
            Self::Abort => f.write_str("abort"),
        }
    }
}

/// A scripted peer was not told what its script expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step} ({expected}) of the script: {happened}")]
#[non_exhaustive]
pub struct ScriptError {
    /// Which step, counted from 1; one more than there are for what came after the last.
    pub step: usize,
    /// What it says.
    pub expected: String,
    /// What happened instead.
    pub happened: String,
}

/// The protocol that plays a [`Script`].
#[derive(Debug)]
pub struct ScriptedPeer {
    steps: VecDeque<Step>,
    /// How many steps are behind it.
    done: usize,
    received: Vec<u8>,
    has_ended: bool,
    pause: Option<DelayedCall>,
    /// `None` once it was told.
    outcome: Option<Trigger<()>>,
}

impl ScriptedPeer {
    fn go_on(&mut self, transport: &Transport<Self>) {
        while self.pause.is_none() && self.outcome.is_some() {
            let Some(step) = self.steps.front() else {
                return self.finish(transport);
            };
            match step {
                Step::Expect(bytes) => {
                    let common = bytes.len().min(self.received.len());
                    if bytes[..common] != self.received[..common] {
                        return self.fail(transport, None);
                    }
                    if common < bytes.len() && self.has_ended {
                        return self.fail(transport, Some("the end came".to_owned()));
                    }
                    if common < bytes.len() {
                        return;
                    }
                    self.received.drain(..common);
                }
                Step::ExpectEnd if !self.received.is_empty() => return self.fail(transport, None),
                Step::ExpectEnd if !self.has_ended => return,
                Step::ExpectEnd => {}
                Step::Send(bytes) => transport.write(bytes),
                Step::Wait(time) => {
                    let later = transport.clone();
                    let call = move || {
                        later.call(|peer, transport| {
                            peer.pause = None;
                            peer.go_on(transport);
                        });
                    };
                    self.pause = Some(transport.reactor().call_later(*time, call));
                }
                Step::End => transport.lose_write_connection(),
                Step::Close => transport.lose_connection(),
                Step::Abort => transport.abort_connection(),
            }
            self.steps.pop_front();
            self.done += 1;
        }
    }

    fn finish(&mut self, transport: &Transport<Self>) {
        if !self.received.is_empty() {
            return self.fail(transport, None);
        }
        if self.has_ended {
            transport.lose_connection();
        }
        if let Some(outcome) = self.outcome.take() {
            outcome.callback(());
        }
    }

    fn fail(&mut self, transport: &Transport<Self>, happened: Option<String>) {
        transport.abort_connection();
        self.tell_failure(happened);
    }

    fn tell_failure(&mut self, happened: Option<String>) {
        let received = mem::take(&mut self.received);
        let happened = happened.unwrap_or_else(|| format!("\"{}\" came", received.escape_ascii()));
        let step = self.steps.front();
        let error = ScriptError {
            step: self.done + 1,
            expected: step.map_or_else(|| "nothing more".to_owned(), |step| format!("{step:?}")),
            happened,
        };
        if let Some(outcome) = self.outcome.take() {
            outcome.errback(Failure::new(error));
        }
    }
}

impl Protocol for ScriptedPeer {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.go_on(transport);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        // Bound: a script that waits keeps what comes, and that is the test's own.
        self.received.extend_from_slice(data);
        self.go_on(transport);
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        self.has_ended = true;
        self.go_on(transport);
        if self.outcome.is_none() {
            transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        if let Some(pause) = self.pause.take() {
            pause.cancel();
        }
        let ends_here = self.steps.len() == 1 && matches!(self.steps[0], Step::ExpectEnd);
        if self.outcome.is_some() && ends_here && reason.is_clean() && self.received.is_empty() {
            if let Some(outcome) = self.outcome.take() {
                outcome.callback(());
            }
        } else {
            self.tell_failure(Some(reason.to_string()));
        }
    }
}
