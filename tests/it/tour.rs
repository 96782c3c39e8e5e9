//! The programs that articles on asynchronous programming teach with: each is an example,
//! and here is all that it prints, in virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::testing::virtual_time_reactor;

macro_rules! examples {
    ($($name:ident = $path:literal)*) => {
        $(
            #[path = $path]
            #[allow(
                dead_code,
                clippy::duplicate_mod,
                reason = "a test calls the parts and not `main`; all share a module"
            )]
            mod $name;
        )*
    };
}

examples! {
    binary = "../../examples/binary.rs"
    nested_generators = "../../examples/nested_generators.rs"
    not_blocked = "../../examples/not_blocked.rs"
    two_counters = "../../examples/two_counters.rs"
    work_queue = "../../examples/work_queue.rs"
    work_queue_timed = "../../examples/work_queue_timed.rs"
}

/// Runs an example to its end, and compares all that it prints and how long it takes.
#[track_caller]
fn check_tour(
    example: impl FnOnce(&Reactor, Print) -> Deferred<()>,
    output: &str,
    takes: Duration,
) {
    let (reactor, lines) = (virtual_time_reactor(), Rc::new(RefCell::new(String::new())));
    let (begin, paper) = (reactor.now(), Rc::clone(&lines));
    let print: Print = Rc::new(move |line| {
        let mut paper = paper.borrow_mut();
        paper.push_str(line);
        paper.push('\n');
    });
    let done = example(&reactor, print);
    reactor.run_until(done).expect("it comes to its end");
    assert_eq!(*lines.borrow(), output);
    assert_eq!(reactor.now() - begin, takes);
    // Nothing goes on behind its back.
    assert!(reactor.next_deadline().is_none());
}

type Print = Rc<dyn Fn(&str)>;

const AT_ONCE: Duration = Duration::ZERO;

#[test]
fn two_workers_share_a_queue_a_unit_at_a_time() {
    check_tour(
        |reactor, print| work_queue::work_queue(reactor, move |line| print(line)),
        "\
worker one: takes 15 units
worker two: takes 10 units
worker two: 10 units done
worker two: takes 5 units
worker one: 15 units done
worker one: takes 2 units
worker two: 5 units done
worker one: 2 units done
",
        AT_ONCE,
    );
}

#[test]
fn two_workers_that_wait_need_17_seconds_for_32_of_work() {
    check_tour(
        |reactor, print| work_queue_timed::work_queue(reactor, move |line| print(line)),
        " 0 s  worker one: takes 15 units
 0 s  worker two: takes 10 units
10 s  worker two: 10 units done
10 s  worker two: takes 5 units
15 s  worker one: 15 units done
15 s  worker one: takes 2 units
15 s  worker two: 5 units done
17 s  worker one: 2 units done
both are done after 17 s
",
        Duration::from_secs(17),
    );
}

#[test]
fn a_task_of_three_seconds_does_not_block() {
    check_tour(
        |reactor, print| not_blocked::not_blocked(reactor, move |line| print(line)),
        "the task begins\nsee, I'm not blocked\nthe result is 42\n",
        Duration::from_secs(3),
    );
}

#[test]
fn generators_nest_and_return_a_closing_message() {
    let once = "1\n4\n9\n16\nno more squares\n1\n8\n27\n64\nno more cubes\n";
    check_tour(
        |reactor, print| nested_generators::nested_generators(reactor, move |line| print(line)),
        &format!("{once}{once}{once}three times is enough\n"),
        AT_ONCE,
    );
}

#[test]
fn an_async_function_calls_itself_63_times_in_six_pauses() {
    check_tour(
        |reactor, print| binary::print_binary(reactor, move |line| print(line)),
        "binary(5) is 63\n",
        6 * binary::PAUSE,
    );
}

#[test]
fn two_counters_count_in_turn_until_they_are_stopped() {
    check_tour(
        |reactor, print| two_counters::two_counters(reactor, 5, move |line| print(line)),
        "counter one: 1\ncounter two: 1\ncounter one: 2\ncounter two: 2\ncounter one: 3\n",
        AT_ONCE,
    );
}
