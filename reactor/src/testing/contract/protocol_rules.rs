//! What a protocol in its seat relies on.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::ConnectionLost;
use crate::protocol::Protocol;
use crate::testing::contract::scene::{Scene, small_limits};
use crate::testing::contract::{Contract, rules};
use crate::transport::Transport;

rules! {
    a_connection_is_made_first_and_once_and_lost_last_and_once
    a_panic_in_a_method_ends_that_connection_with_that_reason
    calls_wait_for_the_method_at_hand_and_are_dropped_after_the_end
}

/// A protocol that writes its methods' names down, and panics in one of them.
struct Diary {
    lines: Rc<RefCell<Vec<String>>>,
    panics_in: &'static str,
}

impl Diary {
    fn note(&self, method: &str) {
        self.lines.borrow_mut().push(method.to_owned());
        assert!(method != self.panics_in, "{method} panics");
    }
}

impl Protocol for Diary {
    fn connection_made(&mut self, _: &Transport<Self>) {
        self.note("made");
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        self.note("data");
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        self.note("read lost");
        transport.lose_connection();
    }

    fn write_paused(&mut self, _: &Transport<Self>) {
        self.note("paused");
    }

    fn write_resumed(&mut self, _: &Transport<Self>) {
        self.note("resumed");
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        let panicked = match &reason {
            ConnectionLost::Panicked { message } => format!(" by {message}"),
            _ => String::new(),
        };
        self.lines.borrow_mut().push(format!("lost{panicked}"));
        assert!(self.panics_in != "lost", "lost panics");
    }
}

/// A diary at the client's end of a scene, whose lines are given.
fn seat(scene: &Scene, panics_in: &'static str) -> (Transport<Diary>, Rc<RefCell<Vec<String>>>) {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let diary = Diary {
        lines: Rc::clone(&lines),
        panics_in,
    };
    let transport = Transport::connect(diary, Rc::clone(&scene.client.stream));
    (transport, lines)
}

fn is_lost(lines: &Rc<RefCell<Vec<String>>>) -> bool {
    let lines = lines.borrow();
    lines.last().is_some_and(|line| line.starts_with("lost"))
}

fn a_connection_is_made_first_and_once_and_lost_last_and_once(contract: &Contract) {
    let scene = contract.scene_without_receivers();
    scene.server.listen();
    scene.server.write("early");
    scene.come_to_rest();
    let (transport, lines) = seat(&scene, "");
    assert_eq!(
        *lines.borrow(),
        ["made"],
        "before anything else, and at once"
    );
    scene.run_until("the first bytes", || lines.borrow().len() > 1);
    scene.server.lose();
    scene.run_until("the end", || is_lost(&lines));
    transport.abort_connection();
    transport.lose_connection();
    scene.come_to_rest();
    let mut lines = lines.take();
    lines.dedup();
    assert_eq!(lines, ["made", "data", "read lost", "lost"]);
}

fn a_panic_in_a_method_ends_that_connection_with_that_reason(contract: &Contract) {
    for method in ["made", "data", "read lost", "paused", "resumed", "lost"] {
        let scene = contract.scene_without_receivers();
        scene.server.listen();
        let (transport, lines) = seat(&scene, method);
        transport.set_limits(small_limits());
        if matches!(method, "paused" | "resumed") {
            scene.server.call(|stream| stream.pause_reading());
            scene.fill_with(&transport);
            scene.server.call(|stream| stream.resume_reading());
            scene.run_until("the marks are crossed", || {
                lines.borrow().iter().any(|line| line == method)
            });
        }
        scene.come_to_rest();
        scene.server.write("data");
        scene.come_to_rest();
        scene.server.call(|stream| stream.lose_write_connection());
        scene.run_until("the end", || is_lost(&lines));
        scene.run_until("the other end", || {
            scene.server.abort();
            scene.server.is_lost()
        });
        scene.come_to_rest();
        let lines = lines.borrow();
        let panicked = lines.iter().position(|line| line == method);
        let last = match method {
            "lost" => "lost".to_owned(),
            _ => format!("lost by {method} panics"),
        };
        assert_eq!(lines.last(), Some(&last), "after {lines:?}");
        let ends = lines.iter().filter(|line| line.starts_with("lost"));
        assert_eq!(ends.count(), 1);
        if method != "lost" {
            let panicked = panicked.expect("it has been called");
            assert_eq!(panicked + 2, lines.len(), "no method between: {lines:?}");
        }
    }
}

fn calls_wait_for_the_method_at_hand_and_are_dropped_after_the_end(contract: &Contract) {
    let scene = contract.scene_without_receivers();
    scene.server.listen();
    let (transport, lines) = seat(&scene, "");
    transport.call(|diary, transport| {
        transport.call(|diary, _| diary.note("waited"));
        diary.note("at once");
    });
    assert_eq!(*lines.borrow(), ["made", "at once", "waited"]);
    transport.abort_connection();
    scene.run_until("the end", || is_lost(&lines));
    transport.call(|diary, _| diary.note("too late"));
    scene.come_to_rest();
    assert_eq!(lines.borrow().last().map(String::as_str), Some("lost"));
}

impl Scene {
    /// Writes until more than the high mark stays unsent.
    fn fill_with(&self, transport: &Transport<Diary>) {
        /// 64 MiB: more than the buffers of any system hold.
        const WRITES_MAX: usize = 4096;
        for _ in 0..WRITES_MAX {
            transport.write([0; 16 * 1024]);
            self.look();
            // The panic in `write_paused` leaves nothing unsent.
            if transport.unsent() > small_limits().unsent_high || !transport.is_connected() {
                return;
            }
        }
        panic!("a peer that reads nothing has taken everything");
    }
}
