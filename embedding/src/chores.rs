//! All kinds of work that a reactor does, one after the other, so that each must wake the
//! host by itself: nothing else that goes on could hide a stall.
//!
//! Everything begins and ends in the reactor's own callbacks. The last chore stops it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use rustix::process::{getpid, kill_process};
use torsade::prelude::*;
use torsade::reactor::{ChannelEvent, Phase, Signal};

/// How often a thread calls, and waits for the answer before it calls again.
const QUESTIONS: usize = 200;
/// How many messages go to the echo and back, one at a time.
const MESSAGES: usize = 200;
/// What goes through a connection at once: far more than one turn's share.
const MUCH: usize = 4 << 20;

/// How many turns a host gives at most: 860 to 1700 were counted, as the threads fall in step
/// or do not. One that spins through a delay of 5 ms alone would give more.
pub const TURNS_MAX: usize = 4_000;

/// The chores of one reactor, under way or done.
#[derive(Debug)]
pub struct Chores {
    outcome: Rc<RefCell<Option<Result<(), Failure>>>>,
    stopped: Rc<Cell<bool>>,
    watchdog: Watchdog,
}

impl Chores {
    /// Begins them, in the next turn. A call that is not due all the while lies beside: the
    /// deadline is never the right one by chance.
    pub fn begin(reactor: &Reactor) -> Self {
        let (outcome, stopped) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let (slot, flag) = (Rc::clone(&outcome), Rc::clone(&stopped));
        reactor.on_shutdown(Phase::After, move || flag.set(true));
        let handle = reactor.clone();
        reactor.call_soon(move || {
            let far = handle.call_later(Duration::from_secs(3600), || ());
            let stopping = handle.clone();
            let all = handle.spawn(chores(handle.clone()));
            drop(all.add_both(move |result| {
                far.cancel();
                slot.replace(Some(result));
                stopping.stop();
            }));
        });
        Self {
            outcome,
            stopped,
            watchdog: Watchdog::new(),
        }
    }

    /// Whether the reactor has stopped.
    pub fn is_done(&self) -> bool {
        self.stopped.get()
    }

    /// All went well, and the host was not kept busy with nothing: it gave at most
    /// `turns_max` turns.
    #[track_caller]
    pub fn check(self, turns: usize, turns_max: usize) {
        drop(self.watchdog);
        let outcome = self.outcome.take().expect("stopped before the end");
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(
            turns <= turns_max,
            "{turns} turns: the descriptor or the deadline spins"
        );
    }
}

/// Ends the test program, loudly, if it is not dropped in time. The only timer beside the
/// reactor's, and to need it is to fail.
#[derive(Debug)]
struct Watchdog {
    _leash: mpsc::Sender<()>,
}

impl Watchdog {
    fn new() -> Self {
        let (leash, held) = mpsc::channel();
        thread::spawn(move || {
            if held.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Whoever reads this needs it more than the rules of output.
                let _ = writeln!(
                    io::stderr(),
                    "stalled: work was pending and nobody was told"
                );
                std::process::exit(101);
            }
        });
        Self { _leash: leash }
    }
}

async fn chores(reactor: Reactor) -> Result<(), Failure> {
    delays(&reactor).await?;
    calls_soon(&reactor).await?;
    calls_from_a_thread(&reactor).await?;
    messages(&reactor).await?;
    echo(&reactor).await?;
    a_busy_socket(&reactor).await?;
    a_level(&reactor).await?;
    a_signal(&reactor).await?;
    wakers(&reactor).await
}

async fn delays(reactor: &Reactor) -> Result<(), Failure> {
    for micros in [0, 1, 200, 1_500, 5_000, 0] {
        let (begin, delay) = (reactor.now(), Duration::from_micros(micros));
        sleep(reactor, delay).await?;
        check(reactor.now() - begin >= delay, "a call came early")?;
    }
    Ok(())
}

async fn calls_soon(reactor: &Reactor) -> Result<(), Failure> {
    for _ in 0..100 {
        let (trigger, made) = Deferred::<()>::new();
        reactor.call_soon(move || trigger.callback(()));
        made.await?;
    }
    Ok(())
}

/// Between two questions the loop has nothing to do, and the host sleeps.
async fn calls_from_a_thread(reactor: &Reactor) -> Result<(), Failure> {
    let remote = reactor.remote();
    let asking = move || {
        (0..QUESTIONS).try_for_each(|number| {
            let answer = remote.blocking_call(move |_| Ok(number))?;
            assert_eq!(answer, number);
            Ok::<_, torsade::reactor::BlockingCallError>(())
        })
    };
    reactor.defer_to_thread(asking).await
}

async fn messages(reactor: &Reactor) -> Result<(), Failure> {
    let (trigger, closed) = Deferred::<usize>::new();
    let (mut trigger, mut count) = (Some(trigger), 0);
    let (sender, _channel) = reactor.bounded_channel(16, move |_, event| match event {
        ChannelEvent::Message(()) => count += 1,
        ChannelEvent::Closed => trigger.take().expect("closed once").callback(count),
    });
    thread::spawn(move || (0..1_000).try_for_each(|_| sender.send(())));
    check(closed.await? == 1_000, "messages were lost")
}

/// Sends a message, and the next when it is back; then much at once.
struct Client {
    left: usize,
    received: usize,
    done: Option<Trigger<usize>>,
}

const MESSAGE: [u8; 64] = [7; 64];

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write(MESSAGE);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.received += data.len();
        let small = MESSAGES * MESSAGE.len();
        if self.received == small {
            transport.write(vec![7; MUCH]);
        } else if self.received == small + MUCH {
            transport.lose_connection();
        } else if self.received < small && self.received.is_multiple_of(MESSAGE.len()) {
            self.left -= 1;
            transport.write(MESSAGE);
        }
    }

    fn connection_lost(&mut self, _reason: ConnectionLost) {
        if let Some(done) = self.done.take() {
            done.callback(self.received);
        }
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

async fn echo(reactor: &Reactor) -> Result<(), Failure> {
    let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Echo)?;
    let (trigger, lost) = Deferred::new();
    let address = port.address().to_string();
    let number = address.rsplit(':').next().unwrap_or_default();
    // A name, so that another thread looks it up.
    let client = reactor.connect_tcp(format!("localhost:{number}"), |_| Client {
        left: MESSAGES,
        received: 0,
        done: Some(trigger),
    });
    client.await?;
    let received = lost.await?;
    check(
        received == MESSAGES * MESSAGE.len() + MUCH,
        "bytes were lost",
    )?;
    port.stop_listening().await
}

struct Count {
    received: usize,
    done: Option<Trigger<usize>>,
}

impl Protocol for Count {
    fn data_received(&mut self, _transport: &Transport<Self>, data: &[u8]) {
        self.received += data.len();
    }

    fn connection_lost(&mut self, _reason: ConnectionLost) {
        if let Some(done) = self.done.take() {
            done.callback(self.received);
        }
    }
}

/// The peer writes without a pause: each turn leaves something over.
async fn a_busy_socket(reactor: &Reactor) -> Result<(), Failure> {
    let (trigger, lost) = Deferred::new();
    let mut done = Some(trigger);
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| Count {
        received: 0,
        done: done.take(),
    })?;
    let address = port.address().to_string();
    thread::spawn(move || TcpStream::connect(address)?.write_all(&vec![1; MUCH]));
    check(lost.await? == MUCH, "bytes were lost")?;
    port.stop_listening().await
}

/// The callback takes one byte of a hundred: nothing new comes, and there is still more.
async fn a_level(reactor: &Reactor) -> Result<(), Failure> {
    let (mut near, far) = UnixStream::pair()?;
    near.write_all(&[1; 100])?;
    let (trigger, drained) = Deferred::<()>::new();
    let (mut trigger, mut left) = (Some(trigger), 100);
    let watch = reactor.add_reader(far, move |watch| {
        let source = watch.source().expect("it is watched");
        left -= (&*source).read(&mut [0]).expect("it is readable");
        if left == 0
            && let Some(trigger) = trigger.take()
        {
            trigger.callback(());
        }
    })?;
    drained.await?;
    watch.remove();
    Ok(())
}

async fn a_signal(reactor: &Reactor) -> Result<(), Failure> {
    let (trigger, came) = Deferred::<()>::new();
    let mut trigger = Some(trigger);
    // Ignored by default: late ones, and those of a test beside this, do no harm.
    let watcher = reactor.on_signal(Signal::WINCH, move |_| {
        if let Some(trigger) = trigger.take() {
            trigger.callback(());
        }
    })?;
    thread::spawn(|| kill_process(getpid(), rustix::process::Signal::WINCH));
    came.await?;
    watcher.remove();
    Ok(())
}

/// What a thread wakes, and what a descriptor wakes.
async fn wakers(reactor: &Reactor) -> Result<(), Failure> {
    for _ in 0..20 {
        let (give, given) = mpsc::channel::<Waker>();
        thread::spawn(move || given.recv().map(Waker::wake));
        let mut give = Some(give);
        poll_fn(move |task| match give.take() {
            Some(give) => {
                // It fails if the thread is gone, and that would be a stall.
                let _ = give.send(task.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }
    let (mut near, far) = UnixStream::pair()?;
    let far = reactor.async_fd(far)?;
    thread::spawn(move || near.write_all(b"now"));
    far.readable().await?;
    Ok(())
}

fn check(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::message(otherwise.to_owned()))
    }
}
