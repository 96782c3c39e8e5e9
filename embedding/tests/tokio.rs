//! In tokio, by descriptor and deadline, and as a guest.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::StreamExt;
use tokio::task::{LocalSet, spawn_local};
use torsade::prelude::*;
use torsade::reactor::Guest;
use torsade_embedding::chores::{self, Chores};

#[path = "../examples/in_tokio.rs"]
#[allow(dead_code, reason = "a test calls the parts and not `main`")]
mod in_tokio;

#[tokio::test]
async fn all_chores_are_done_by_the_events_of_tokio_alone() {
    let reactor = Reactor::new().expect("the system has descriptors left");
    let chores = Chores::begin(&reactor);
    let turns = Cell::new(0);
    let goes_on = || {
        turns.set(turns.get() + 1);
        !chores.is_done()
    };
    in_tokio::drive(&reactor, goes_on)
        .await
        .expect("it can wait");
    chores.check(turns.get(), chores::TURNS_MAX);
}

/// A task of tokio's that uses the reactor while its driver waits: for calls, for what it
/// spawns, and for an echo.
async fn uses_from_a_task(reactor: &Reactor) -> Result<(), Failure> {
    let moment = Duration::from_millis(2);
    for _ in 0..3 {
        sleep(reactor, moment).await?;
    }
    let naps = reactor.clone();
    let spawned = reactor.spawn(async move {
        sleep(&naps, moment).await?;
        sleep(&naps, moment).await
    });
    spawned.await?;
    let (trigger, made) = Deferred::<()>::new();
    reactor.call_soon(move || trigger.callback(()));
    made.await?;
    let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Echo)?;
    let (trigger, received) = Deferred::<Vec<u8>>::new();
    let client = reactor.connect_tcp(port.address(), |_| Client(Some(trigger)));
    let client = client.await?;
    // The driver waits again by now: the write is to wake it.
    tokio::time::sleep(moment).await;
    client.write(b"hello");
    assert_eq!(received.await?, b"hello");
    Ok(())
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

/// Fires with the first that it hears.
struct Client(Option<Trigger<Vec<u8>>>);

impl Protocol for Client {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        if let Some(trigger) = self.0.take() {
            trigger.callback(data.to_vec());
        }
    }
}

/// Far more than any of this takes: to reach it is to have stalled.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_task_of_tokio_uses_the_reactor_while_its_driver_waits() {
    let reactor = Reactor::new().expect("the system has descriptors left");
    let driven = reactor.clone();
    let both = LocalSet::new();
    let task = both.run_until(async {
        let driver = spawn_local(async move { in_tokio::drive(&driven, || true).await });
        // The driver waits, with nothing to wait for.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let outcome = tokio::time::timeout(LONG, uses_from_a_task(&reactor)).await;
        driver.abort();
        outcome
    });
    let outcome = task.await.expect("stalled: nobody told the driver");
    outcome.expect("it is done");
}

#[tokio::test]
async fn a_task_of_tokio_uses_a_guest_without_giving_it_turns() {
    let reactor = Reactor::new().expect("the system has descriptors left");
    let (post, mut posts) = mpsc::unbounded();
    let post = move || post.unbounded_send(()).unwrap_or_default();
    let guest = Rc::new(Guest::new(&reactor, post).expect("there are threads left"));
    guest.turn().expect("it can wait");
    let both = LocalSet::new();
    let task = both.run_until(async {
        let driver = spawn_local(async move {
            while posts.next().await.is_some() {
                guest.turn().expect("it can wait");
            }
        });
        let outcome = tokio::time::timeout(LONG, uses_from_a_task(&reactor)).await;
        driver.abort();
        outcome
    });
    let outcome = task.await.expect("stalled: nobody asked for a turn");
    outcome.expect("it is done");
}
