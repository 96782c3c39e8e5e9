//! Who runs before whom.
//!
//! [`PROOFS`] has every sentence about order of the documentation, with the tests that
//! prove it; the missing ones are here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{
    Address, ChannelEvent, Interest, Mode, Place, PoolLimits, Reactor, ThreadPool, Transport,
};

use crate::common::{End, Log, run_while};

const SECOND: Duration = Duration::from_secs(1);

/// The file, what it says of order, and the tests that would say so if it were false.
const PROOFS: &[(&str, &str, &[&str])] = &[
    (
        "simulation/mod.rs",
        "two runs with one seed give equal traces",
        &["a_seed_gives_the_same_trace_each_time_and_another_seed_another_one"],
    ),
    (
        "simulation/world.rs",
        "when none has, time jumps to what happens next",
        &["hosts_keep_their_own_time"],
    ),
    (
        "simulation/plan.rs",
        "By time; what is equal, in the order of the plan",
        &["a_new_plan_replaces_what_has_not_begun_and_lets_the_rest_end"],
    ),
    (
        "simulation/network/mod.rs",
        "what happens to one direction of one connection keeps its order",
        &[
            "what_is_held_arrives_in_order_when_it_is_released",
            "every_connection_ends_once_and_gives_a_prefix_of_what_was_sent",
        ],
    ),
    (
        "sockets/connection/attachments.rs",
        "A part of a file leaves after the bytes that were written before it",
        &[
            "files_keep_their_place_among_the_bytes",
            "a_file_leaves_after_what_was_written_before_and_before_what_is_written_after",
        ],
    ),
    (
        "sockets/connection/attachments.rs",
        "A descriptor travels with the first byte that was written",
        &[
            "descriptors_travel_with_the_next_byte_that_is_written",
            "descriptors_come_with_the_byte_that_was_written_after_them",
        ],
    ),
    (
        "policies/layer.rs",
        "The policy hears of the end before the receiver above does",
        &["a_place_is_free_when_connection_lost_is_called"],
    ),
    (
        "policies/idle.rs",
        "A connection whose silence has lasted the whole period is lost",
        &[
            "a_connection_that_is_silent_for_the_period_is_lost_with_that_reason",
            "every_read_and_every_write_begins_the_period_again",
            "no_timer_moves_for_a_message",
        ],
    ),
    (
        "calls.rs",
        "in the order of pushing",
        &["calls_come_in_the_order_of_pushing"],
    ),
    (
        "calls.rs",
        "later calls wait for the next batch",
        &["call_pushed_during_a_batch_waits_for_the_next"],
    ),
    (
        "calls.rs",
        "a cancelled call is never handed over",
        &["cancelled_call_in_the_same_batch_does_not_come"],
    ),
    (
        "channel.rs",
        "messages of one sender's thread arrive in its order",
        &["messages_of_four_threads_all_arrive_each_threads_in_order"],
    ),
    (
        "channel.rs",
        "Closed comes last, once",
        &["messages_arrive_in_order_and_closed_comes_last_and_once"],
    ),
    (
        "channel.rs",
        "called in a turn after the events of sockets",
        &["the_places_of_a_turn_come_in_the_order_of_the_picture"],
    ),
    (
        "core.rs",
        "the picture of a turn",
        &["the_places_of_a_turn_come_in_the_order_of_the_picture"],
    ),
    (
        "core.rs",
        "what a callback schedules with no delay runs in the next turn",
        &[
            "a_soon_call_from_a_soon_call_waits_for_the_next_turn",
            "a_zero_delay_call_waits_for_the_next_turn_even_in_virtual_time",
            "a_call_from_a_call_waits_for_the_next_turn",
        ],
    ),
    (
        "core.rs",
        "no chain of calls keeps a socket from being heard",
        &["an_echo_is_answered_in_five_turns_beside_everything_that_keeps_the_loop_busy"],
    ),
    (
        "core.rs",
        "what a callback wrote is sent before the next callback runs",
        &["what_a_callback_wrote_is_sent_before_the_next_callback_runs"],
    ),
    (
        "core.rs",
        "what a callback closed is closed before the next callback runs",
        &["what_a_callback_closed_is_closed_before_the_next_callback_runs"],
    ),
    (
        "delayed_call.rs",
        "reset: it goes behind others of that time",
        &["a_call_that_is_reset_goes_behind_others_of_its_time"],
    ),
    (
        "service/mod.rs",
        "What happens while an event is dealt with",
        &[
            "it_may_be_stopped_and_started_from_every_callback",
            "who_is_told_of_a_connection_that_another_has_just_stopped_is_cancelled",
        ],
    ),
    (
        "endpoints/eyeballs.rs",
        "families take turns, beginning with the first one's",
        &["rfc8305_4_families_take_turns_from_that_of_the_first_address"],
    ),
    (
        "endpoints/eyeballs.rs",
        "each further one a delay after the one before it, or at once when any has failed",
        &[
            "rfc8305_5_the_next_begins_a_delay_after_the_one_before",
            "a_failure_begins_the_next_at_once_and_its_delay_anew",
        ],
    ),
    (
        "hooks.rs",
        "in the order in which they were added",
        &["hooks_of_one_place_run_in_the_order_in_which_they_were_added"],
    ),
    (
        "hooks.rs",
        "prepare right before the wait, check right after it",
        &["hooks_of_a_turn_run_around_the_wait"],
    ),
    (
        "hooks.rs",
        "before, during, after",
        &[
            "starting_and_stopping_have_three_phases_each",
            "the_start_waits_for_what_the_hooks_before_it_return",
        ],
    ),
    (
        "hooks.rs",
        "one that is added meanwhile waits for the next turn",
        &["a_hook_may_remove_itself_and_add_another"],
    ),
    (
        "protocol.rs",
        "connection_made first and once, connection_lost last and once",
        &["bytes_arrive_in_order_and_a_clean_end_is_done_on_both_sides"],
    ),
    (
        "protocol.rs",
        "no method is called from inside another",
        &["a_call_to_a_busy_protocol_waits_until_it_is_free"],
    ),
    (
        "reactor.rs",
        "call_soon: after the calls that were asked for before",
        &["soon_calls_run_in_the_order_of_asking"],
    ),
    (
        "reactor.rs",
        "call_later: by deadline, equal ones by scheduling",
        &["due_calls_run_by_deadline_and_equal_ones_by_order_of_scheduling"],
    ),
    (
        "reactor.rs",
        "call_later: never earlier",
        &["a_call_never_runs_before_its_deadline"],
    ),
    (
        "reactor.rs",
        "call_when_running: first thing in the next run, or in the next turn",
        &[
            "calls_for_when_it_runs_come_first",
            "call_when_running_inside_a_callback_waits_for_the_next_turn",
        ],
    ),
    (
        "remote.rs",
        "calls of one thread are made in the order in which it posted them",
        &["calls_of_four_threads_all_arrive_each_threads_in_order"],
    ),
    (
        "running.rs",
        "the hooks before a stop, then ports and connections, then the other hooks",
        &["starting_and_stopping_have_three_phases_each"],
    ),
    (
        "signals.rs",
        "after the wait, before the events of sockets",
        &["signals_come_after_the_wait_and_before_the_events_of_sockets"],
    ),
    (
        "signals.rs",
        "in the order of their numbers",
        &["signals_come_in_the_order_of_their_numbers_and_many_count_as_one"],
    ),
    (
        "signals.rs",
        "the watchers of one signal in the order in which they came",
        &["all_watchers_of_a_signal_hear_of_it_in_the_order_in_which_they_came"],
    ),
    (
        "slab.rs",
        "the last slot freed is the first one reused",
        &["last_slot_freed_is_reused_first"],
    ),
    (
        "stream.rs",
        "writes arrive in order",
        &["bytes_arrive_in_order_and_a_clean_end_is_done_on_both_sides"],
    ),
    (
        "stream.rs",
        "no method calls the receiver before it returns",
        &["abort_is_not_told_before_it_returns_and_resets_the_peer"],
    ),
    (
        "sys/signals/mod.rs",
        "signals of one number that come before that count as one",
        &["signals_come_in_the_order_of_their_numbers_and_many_count_as_one"],
    ),
    (
        "sys/signals/mod.rs",
        "the disposition from before the first one is back",
        &["nothing_is_installed_unless_asked_and_the_last_watcher_restores_what_was"],
    ),
    (
        "task/cooperator.rs",
        "one step a task and round; a new task joins at the end",
        &["a_round_is_a_step_of_each_and_a_new_task_joins_at_its_end"],
    ),
    (
        "task/grid.rs",
        "at whole multiples from an anchor",
        &["calls_stay_on_the_grid_of_the_start_however_long_they_take"],
    ),
    (
        "task/looping_call.rs",
        "at whole multiples of the interval; zero is once a turn",
        &[
            "calls_stay_on_the_grid_of_the_start_however_long_they_take",
            "an_interval_of_zero_is_one_call_in_each_turn",
        ],
    ),
    (
        "task/rota.rs",
        "takes who stands in front, and puts it at the end",
        &["the_steps_of_several_tasks_are_interleaved"],
    ),
    (
        "testing/manual_clock.rs",
        "by deadline, equal ones by scheduling",
        &[
            "advance_makes_every_call_that_falls_due_in_the_order_of_time",
            "calls_due_at_the_same_time_are_made_in_the_order_of_scheduling",
            "each_call_sees_its_own_due_time",
        ],
    ),
    (
        "thread_pool.rs",
        "jobs are begun in the order in which they were given",
        &[
            "jobs_are_begun_in_the_order_in_which_they_were_given_and_their_results_come_as_they_end",
        ],
    ),
    (
        "virtual_threads.rs",
        "jobs of a pool are begun in the order in which they were given",
        &[
            "one_thread_does_one_job_after_the_other_in_every_seed_and_several_in_any_order",
            "a_line_takes_as_many_as_it_may_and_refuses_the_rest",
            "a_job_that_is_cancelled_in_line_is_not_done_and_one_that_has_begun_is",
        ],
    ),
    (
        "threads.rs",
        "results arrive in the order in which the jobs end",
        &[
            "jobs_are_begun_in_the_order_in_which_they_were_given_and_their_results_come_as_they_end",
        ],
    ),
    (
        "timers/mod.rs",
        "earlier deadlines first, equal ones as scheduled",
        &[
            "calls_fall_due_in_order_of_deadline",
            "equal_deadlines_run_in_the_order_of_scheduling",
        ],
    ),
    (
        "timers/mod.rs",
        "one that is rescheduled leaves the batch",
        &["call_rescheduled_from_within_the_batch_leaves_it"],
    ),
    (
        "udp/mod.rs",
        "what the system does not take waits, and nothing overtakes it",
        &["what_the_system_does_not_take_waits_and_leaves_in_order"],
    ),
    (
        "udp/mod.rs",
        "what waits for a receiver that has no room holds up no other",
        &["a_receiver_without_room_holds_up_no_other_and_is_asked_less_and_less"],
    ),
    (
        "udp/mod.rs",
        "what is received is told in the order in which the system has it",
        &[
            "a_good_link_delivers_every_datagram_once_and_in_order",
            "udp_keeps_the_rules_on_the_system",
        ],
    ),
    (
        "udp/mod.rs",
        "start_protocol first and once, stop_protocol last and once",
        &[
            "udp_keeps_the_rules_on_the_system",
            "udp_keeps_the_rules_in_the_simulation",
        ],
    ),
    (
        "udp/protocol.rs",
        "no method is called from inside another",
        &["a_datagram_that_comes_while_the_protocol_is_busy_waits_for_it"],
    ),
    (
        "udp/queue.rs",
        "first in, first out, of what waits for one receiver",
        &[
            "what_waits_leaves_in_order_and_is_counted",
            "receivers_do_not_wait_for_each_other_and_have_a_share_each",
        ],
    ),
    (
        "transport.rs",
        "call: right after the current method, in the order of the calls",
        &["calls_to_a_busy_protocol_are_made_in_their_order_right_after_its_method"],
    ),
];

/// The text of every source below a folder, by its path from there.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut texts, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("it is below");
            let text = fs::read_to_string(&path).expect("a source is text");
            texts.insert(name.to_string_lossy().into_owned(), text);
        }
    }
    texts
}

#[test]
fn every_page_about_order_has_its_proofs_and_every_proof_exists() {
    let (pages, tests) = (sources("src"), sources("tests"));
    for (name, text) in &pages {
        let is_proved = PROOFS.iter().any(|(file, _, _)| file == name);
        assert!(
            is_proved || !text.contains("# Order\n"),
            "{name} has a section on order and no line in PROOFS"
        );
    }
    for (file, sentence, proofs) in PROOFS {
        assert!(pages.contains_key(*file), "{file} is gone");
        for proof in *proofs {
            let test = format!("fn {proof}()");
            let is_there = pages
                .values()
                .chain(tests.values())
                .any(|text| text.contains(&test));
            assert!(is_there, "{file}: {sentence:?}: there is no {proof}");
        }
    }
}

#[test]
fn the_places_of_a_turn_come_in_the_order_of_the_picture() {
    thread_local! {
        static FROM_THREADS: RefCell<Option<Log>> = const { RefCell::new(None) };
    }
    let (reactor, log) = (crate::common::reactor(), Log::default());
    FROM_THREADS.set(Some(log.clone()));
    // Asked for in the opposite order.
    let (sender, _channel) = {
        let line = log.adds("left over: a channel");
        reactor.channel(move |_, _: ChannelEvent<u8>| line())
    };
    let (reader, mut writer) = std::io::pipe().unwrap();
    let line = log.adds("events");
    let watch = reactor.watch(reader, Interest::Read, Mode::OneShot, move |_, _| line());
    let hooks = [
        (Place::Check, "check"),
        (Place::Prepare, "prepare"),
        (Place::Idle, "idle"),
    ]
    .map(|(place, line)| reactor.add_hook(place, log.adds(line)));
    reactor.call_soon(log.adds("soon calls"));
    reactor.call_later(Duration::ZERO, log.adds("due calls"));
    reactor.remote().call_from_thread(|_| {
        FROM_THREADS.with_borrow(|log| {
            log.as_ref()
                .inspect(|log| log.add("thread calls"))
                .is_some()
        });
    });
    writer.write_all(b"x").unwrap();
    sender.send(1).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    drop((watch, hooks));
    log.check([
        "thread calls",
        "due calls",
        "soon calls",
        "idle",
        "prepare",
        "check",
        "events",
        "left over: a channel",
    ]);
}

/// A connection, and a plain peer that looks without waiting.
fn with_plain_peer(reactor: &Reactor) -> (TcpStream, Transport<End>) {
    let slot = Rc::new(RefCell::new(None));
    let made = Rc::clone(&slot);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            let made = Rc::clone(&made);
            End::new("server", &Log::default()).on_made(move |transport| {
                made.replace(Some(transport.clone()));
            })
        })
        .unwrap();
    let peer = TcpStream::connect(port.address().to_string()).unwrap();
    run_while(reactor, || slot.borrow().is_none());
    let transport = slot.take().unwrap();
    (peer, transport)
}

#[test]
fn what_a_callback_wrote_is_sent_before_the_next_callback_runs() {
    let (reactor, log) = (crate::common::reactor(), Log::default());
    let (mut peer, transport) = with_plain_peer(&reactor);
    reactor.call_soon(move || transport.write("now"));
    let seen = log.clone();
    reactor.call_soon(move || {
        // It waits for nobody but the system.
        let mut heard = [0; 3];
        peer.read_exact(&mut heard).unwrap();
        seen.add(String::from_utf8_lossy(&heard));
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["now"]);
}

#[test]
fn what_a_callback_closed_is_closed_before_the_next_callback_runs() {
    let (reactor, log) = (crate::common::reactor(), Log::default());
    let (mut peer, transport) = with_plain_peer(&reactor);
    let closed = transport.clone();
    reactor.call_soon(move || closed.abort_connection());
    let seen = log.clone();
    reactor.call_soon(move || {
        let outcome = peer.read(&mut [0; 1]).map_err(|error| error.kind());
        seen.add(format!("{outcome:?} {transport:?}").contains("ConnectionReset"));
        seen.add(format!("{transport:?}").contains("lost"));
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["true", "true"]);
}

#[test]
fn a_call_that_is_reset_goes_behind_others_of_its_time() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let first = reactor.call_later(SECOND, log.adds("first, then reset"));
    reactor.call_later(SECOND, log.adds("second"));
    assert!(first.reset(SECOND));
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["second", "first, then reset"]);
}

#[test]
fn hooks_of_one_place_run_in_the_order_in_which_they_were_added() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for line in ["a", "b", "c"] {
        reactor.add_hook(Place::Prepare, log.adds(line));
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["a", "b", "c"]);
}

#[test]
fn jobs_are_begun_in_the_order_in_which_they_were_given_and_their_results_come_as_they_end() {
    let (reactor, log) = (crate::common::reactor(), Log::default());
    let one_thread = PoolLimits {
        threads_max: 1,
        ..PoolLimits::default()
    };
    let pool = ThreadPool::with_limits("one", one_thread);
    let begun = Arc::new(Mutex::new(Vec::new()));
    for number in 0..10 {
        let (begins, seen) = (Arc::clone(&begun), log.clone());
        let result = reactor.defer_to_thread_pool(&pool, move || {
            begins.lock().expect("nobody panicked").push(number);
            Ok::<_, Infallible>(number)
        });
        drop(result.map(move |number| seen.add(number)));
    }
    run_while(&reactor, || log.lines().len() < 10);
    log.check(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let begun = begun.lock().expect("nobody panicked");
    assert_eq!(*begun, (0..10).collect::<Vec<_>>());
}

#[test]
fn calls_to_a_busy_protocol_are_made_in_their_order_right_after_its_method() {
    let (reactor, log) = (crate::common::reactor(), Log::default());
    let (_peer, transport) = with_plain_peer(&reactor);
    let (own, seen) = (transport.clone(), log.clone());
    transport.call(move |_, _| {
        for line in ["first", "second"] {
            let seen = seen.clone();
            own.call(move |_, _| seen.add(line));
        }
        seen.add("its method");
    });
    log.check(["its method", "first", "second"]);
}

#[test]
fn soon_calls_run_in_the_order_of_asking() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for line in ["a", "b", "c"] {
        reactor.call_soon(log.adds(line));
    }
    log.check([]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["a", "b", "c"]);
}

#[test]
fn a_soon_call_from_a_soon_call_waits_for_the_next_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, first, second) = (reactor.clone(), log.adds("first"), log.adds("second"));
    reactor.call_soon(move || {
        first();
        handle.call_soon(second);
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first", "second"]);
}

#[test]
fn a_zero_delay_call_waits_for_the_next_turn_even_in_virtual_time() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, first, second) = (reactor.clone(), log.adds("first"), log.adds("second"));
    reactor.call_soon(move || {
        first();
        handle.call_later(Duration::ZERO, second);
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first", "second"]);
}

#[test]
fn due_calls_run_by_deadline_and_equal_ones_by_order_of_scheduling() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_later(2 * SECOND, log.adds("late"));
    reactor.call_later(SECOND, log.adds("early"));
    reactor.call_later(SECOND, log.adds("early too"));
    reactor.call_later(2 * SECOND, log.adds("late too"));
    let handle = reactor.clone();
    reactor.call_later(3 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["early", "early too", "late", "late too"]);
}

#[test]
fn a_call_never_runs_before_its_deadline() {
    let reactor = crate::common::reactor();
    let (delay, ran_at) = (Duration::from_micros(900), Rc::new(Cell::new(None)));
    let deadline = reactor.now() + delay;
    let (handle, slot) = (reactor.clone(), Rc::clone(&ran_at));
    reactor.call_at(deadline, move || {
        slot.set(Some(handle.now()));
        handle.stop();
    });
    reactor.run().unwrap();
    assert!(ran_at.get().unwrap() >= deadline);
}

#[test]
fn a_timer_below_a_millisecond_takes_at_most_two_turns() {
    let reactor = crate::common::reactor();
    let done = Rc::new(Cell::new(false));
    let flag = Rc::clone(&done);
    reactor.call_later(Duration::from_micros(900), move || flag.set(true));
    let mut turns = 0;
    while !done.get() {
        reactor.turn(None).unwrap();
        turns += 1;
    }
    assert!(turns <= 2, "{turns} turns");
}

#[test]
fn thread_calls_run_before_due_calls_and_those_before_soon_calls() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("soon"));
    reactor.call_later(Duration::ZERO, log.adds("due"));
    // The log cannot cross a thread, so the thread call leaves its mark through a call
    // that it takes back.
    let mark = reactor.call_soon(log.adds("no thread call came first"));
    let cancelled = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    reactor
        .remote()
        .call_from_thread(move |_| flag.store(true, std::sync::atomic::Ordering::Relaxed));
    let (seen, flag) = (log.clone(), cancelled);
    reactor.call_later(Duration::ZERO, move || {
        if flag.load(std::sync::atomic::Ordering::Relaxed) {
            mark.cancel();
            seen.add("after the thread call");
        }
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["due", "after the thread call", "soon"]);
}

#[test]
fn calls_for_when_it_runs_come_first() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("soon"));
    reactor.call_when_running(log.adds("running"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["running", "soon"]);
}

#[test]
fn call_when_running_inside_a_callback_waits_for_the_next_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.call_soon(move || {
        handle.call_when_running(seen.adds("running"));
        seen.add("asked");
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["asked"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["asked", "running"]);
}

#[test]
fn a_cancelled_call_in_the_same_batch_does_not_run() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let victim = Rc::new(RefCell::new(None::<torsade_reactor::DelayedCall>));
    let (found, seen) = (Rc::clone(&victim), log.clone());
    reactor.call_later(SECOND, move || {
        let victim = found.take().unwrap();
        assert!(victim.is_active());
        seen.add(format!("cancelled {}", victim.cancel()));
        seen.add(format!("again {}", victim.cancel()));
    });
    victim.replace(Some(reactor.call_later(SECOND, log.adds("the victim"))));
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["cancelled true", "again false"]);
}

#[test]
fn a_call_is_not_active_inside_itself() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let own = Rc::new(RefCell::new(None::<torsade_reactor::DelayedCall>));
    let (found, seen) = (Rc::clone(&own), log.clone());
    let call = reactor.call_later(SECOND, move || {
        let own = found.take().unwrap();
        seen.add(format!(
            "{} {} {}",
            own.is_active(),
            own.cancel(),
            own.reset(SECOND)
        ));
    });
    own.replace(Some(call));
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["false false false"]);
}

#[test]
fn reset_and_delay_move_a_call() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let first = reactor.call_later(SECOND, log.adds("reset to 3"));
    let second = reactor.call_later(SECOND, log.adds("delayed to 2"));
    assert!(first.reset(3 * SECOND));
    assert!(second.delay(SECOND));
    assert_eq!(second.deadline().unwrap() - reactor.now(), 2 * SECOND);
    let handle = reactor.clone();
    reactor.call_later(4 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["delayed to 2", "reset to 3"]);
}

#[test]
fn an_endless_delay_does_no_harm() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let never = reactor.call_later(Duration::MAX, log.adds("never"));
    assert!(never.is_active() && never.delay(Duration::MAX) && never.reset(Duration::MAX));
    let handle = reactor.clone();
    reactor.call_later(SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check([]);
}

#[test]
fn a_cancelled_call_frees_what_it_holds_at_once() {
    let reactor = virtual_time_reactor();
    let held = Rc::new(());
    let (later, soon) = (Rc::clone(&held), Rc::clone(&held));
    let later = reactor.call_later(SECOND, move || drop(later));
    let soon = reactor.call_soon(move || drop(soon));
    assert_eq!(Rc::strong_count(&held), 3);
    assert!(later.cancel() && soon.cancel());
    assert_eq!(Rc::strong_count(&held), 1);
}
