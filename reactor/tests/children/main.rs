//! Waiting for child processes, by descriptor and by SIGCHLD.
//!
//! A process of its own: until a child that is being started runs its program, it has all
//! the descriptors of this one, and what other tests close meanwhile stays open.

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid,
};
use torsade_deferred::{Deferred, Failure, Interrupted, gather_results, unhandled};
use torsade_reactor::testing::{self, virtual_time_reactor};
use torsade_reactor::{Capability, Hook, Phase, Place, Reactor, RunError, Unsupported, WaitError};

/// A reactor that has descriptors of processes, if this system has, and one that has not.
fn in_both_ways(test: impl Fn(&Reactor)) {
    test(&reactor());
    test(&testing::portable_reactor().expect("the system has descriptors left"));
}

fn reactor() -> Reactor {
    Reactor::new().expect("the system has descriptors left")
}

/// Runs turns until `goes_on` does not hold. The bound is on turns, each of which waits for
/// something to happen.
#[track_caller]
fn run_while(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if !goes_on() {
            return;
        }
        let turn = reactor.turn(Some(Duration::from_secs(10)));
        turn.expect("the loop can wait");
    }
    panic!("10 000 turns, and still not done");
}

fn shell(script: &str) -> Child {
    let shell = Command::new("sh").args(["-c", script]).spawn();
    shell.expect("every system has a shell")
}

/// A child that runs until what is returned with it is dropped.
fn patient() -> (Child, ChildStdin) {
    let cat = Command::new("cat").stdin(Stdio::piped()).spawn();
    let mut cat = cat.expect("every system has cat");
    let stdin = cat.stdin.take().expect("it is piped");
    (cat, stdin)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Whether nobody has reaped this child, ended or not. Does not do it either.
fn is_ours_to_reap(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(pid), look).err() != Some(Errno::CHILD)
}

#[track_caller]
fn wait_error(outcome: Result<ExitStatus, Failure>) -> WaitError {
    let failure = outcome.expect_err("it was not waited for");
    failure.trap::<WaitError>().expect("it says why")
}

/// What comes of a Deferred.
fn outcome_of(deferred: Deferred<ExitStatus>) -> Rc<RefCell<Option<Result<ExitStatus, Failure>>>> {
    let outcome = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&outcome);
    drop(deferred.add_both(move |fired| {
        slot.replace(Some(fired));
        Ok::<(), Failure>(())
    }));
    outcome
}

#[test]
fn the_way_a_child_ends_is_the_result() {
    in_both_ways(|reactor| {
        for (script, code, signal) in [
            ("true", Some(0), None),
            ("exit 3", Some(3), None),
            ("kill -KILL $$", None, Some(9)),
        ] {
            let ended = reactor.wait_for_child(shell(script));
            let status = reactor.run_until(ended).unwrap();
            assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
        }
    });
}

#[test]
fn a_child_that_is_killed_while_the_loop_waits_wakes_it() {
    in_both_ways(|reactor| {
        let (child, _stdin) = patient();
        let pid = pid_of(&child);
        let ended = reactor.wait_for_child(child);
        assert!(!ended.is_fired());
        reactor.call_soon(move || kill_process(pid, Signal::TERM).expect("it is ours"));
        assert_eq!(reactor.run_until(ended).unwrap().signal(), Some(15));
        assert!(!is_ours_to_reap(pid), "a zombie is left");
        assert!(reactor.dump().is_empty(), "{}", reactor.dump());
    });
}

#[test]
fn a_child_that_has_ended_before_is_told_at_once() {
    in_both_ways(|reactor| {
        let mut child = shell("exit 4");
        child.wait().expect("it is ours");
        let ended = reactor.wait_for_child(child);
        assert!(ended.is_fired());
        assert_eq!(reactor.run_until(ended).unwrap().code(), Some(4));
    });
}

#[test]
fn children_that_end_together_are_each_told_with_their_own_status() {
    const CHILDREN: u8 = 40;
    in_both_ways(|reactor| {
        let ended =
            (0..CHILDREN).map(|code| reactor.wait_for_child(shell(&format!("exit {code}"))));
        let ended: Vec<_> = ended.collect();
        let statuses = reactor.run_until(gather_results(ended)).unwrap();
        let codes: Vec<_> = statuses.iter().filter_map(ExitStatus::code).collect();
        assert_eq!(codes, (0..i32::from(CHILDREN)).collect::<Vec<_>>());
        assert!(reactor.dump().is_empty(), "{}", reactor.dump());
    });
}

#[test]
fn stdin_is_closed_so_that_a_child_which_reads_to_the_end_ends() {
    in_both_ways(|reactor| {
        let cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ended = reactor.wait_for_child(cat);
        assert!(reactor.run_until(ended).unwrap().success());
    });
}

#[test]
fn children_that_others_wait_for_keep_their_status() {
    in_both_ways(|reactor| {
        // It has ended, and is a zombie, all the while that the loop hears of the other.
        let mut theirs = shell("exit 7");
        let pid = pid_of(&theirs);
        let (child, stdin) = patient();
        let ours = reactor.wait_for_child(child);
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).expect("it ends by itself");
        drop(stdin);
        assert!(reactor.run_until(ours).unwrap().success());
        assert_eq!(theirs.wait().expect("nobody took it").code(), Some(7));
    });
}

#[test]
fn a_child_that_was_reaped_by_somebody_else_is_an_error_and_no_hang() {
    in_both_ways(|reactor| {
        let (child, stdin) = patient();
        let pid = pid_of(&child);
        let ended = reactor.wait_for_child(child);
        drop(stdin);
        waitpid(Some(pid), WaitOptions::empty()).expect("it is ours");
        let error = wait_error(reactor.run_until(ended));
        let expected = Some(Errno::CHILD.raw_os_error());
        assert_eq!(error.error.raw_os_error(), expected, "{error}");
        assert!(reactor.dump().is_empty(), "{}", reactor.dump());
    });
}

#[test]
fn cancelling_ends_the_waiting_and_the_child_is_reaped_all_the_same() {
    in_both_ways(|reactor| {
        let unhandled = Rc::new(Cell::new(0));
        let counter = Rc::clone(&unhandled);
        let _guard = unhandled::set_hook(move |_| counter.set(counter.get() + 1));
        let (child, stdin) = patient();
        let pid = pid_of(&child);
        let ended = reactor.wait_for_child(child);
        ended.cancel();
        let outcome = outcome_of(ended).take().expect("it was cancelled");
        let failure = outcome.expect_err("it was cancelled");
        assert_eq!(failure.downcast_ref(), Some(&Interrupted::Cancelled));
        assert!(is_ours_to_reap(pid), "the child goes on");
        // It keeps nothing going.
        reactor.run_until_idle().unwrap();
        assert!(reactor.dump().to_string().contains("given up"));
        drop(stdin);
        run_while(reactor, || is_ours_to_reap(pid));
        assert!(reactor.dump().is_empty(), "{}", reactor.dump());
        assert_eq!(unhandled.get(), 0);
    });
}

#[test]
fn a_child_that_is_waited_for_keeps_a_run_until_idle_going() {
    in_both_ways(|reactor| {
        let (child, stdin) = patient();
        let outcome = outcome_of(reactor.wait_for_child(child));
        reactor.call_soon(move || drop(stdin));
        reactor.run_until_idle().unwrap();
        let status = outcome.take().expect("it has ended");
        assert!(status.unwrap().success());
    });
}

#[test]
fn a_stop_fails_the_waiting_and_gives_the_child_back() {
    in_both_ways(|reactor| {
        let (child, stdin) = patient();
        let pid = pid_of(&child);
        let outcome = outcome_of(reactor.wait_for_child(child));
        reactor.stop();
        reactor.run().unwrap();
        let mut error = wait_error(outcome.take().expect("the reactor has stopped"));
        let cause = error.error.get_ref().and_then(|cause| cause.downcast_ref());
        assert!(matches!(cause, Some(RunError::Stopped)), "{error}");
        assert_eq!(pid_of(&error.child), pid);
        drop(stdin);
        assert!(error.child.wait().expect("it is ours").success());
        assert!(reactor.dump().is_empty(), "{}", reactor.dump());
    });
}

#[test]
fn the_end_of_the_last_handle_gives_the_child_back() {
    for reactor in [reactor(), testing::portable_reactor().unwrap()] {
        let (child, stdin) = patient();
        let outcome = outcome_of(reactor.wait_for_child(child));
        drop(reactor);
        let mut error = wait_error(outcome.take().expect("the reactor is gone"));
        drop(stdin);
        assert!(error.child.wait().expect("it is ours").success());
    }
}

#[test]
fn sigchld_is_left_alone_where_a_process_has_a_descriptor() {
    let ways = [Reactor::new(), testing::portable_reactor()];
    let watched = ways.map(|reactor| {
        let reactor = reactor.expect("the system has descriptors left");
        let (child, stdin) = patient();
        let ended = reactor.wait_for_child(child);
        let signals = reactor.dump().to_string().contains("SIGCHLD");
        drop(stdin);
        reactor.run_until(ended).unwrap();
        signals
    });
    assert_eq!(watched, [!has_process_descriptors(), true]);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_process_descriptors() -> bool {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    pidfd_open(getpid(), PidfdFlags::empty()).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_process_descriptors() -> bool {
    false
}

#[test]
fn a_dump_names_the_child_and_who_asked_for_it() {
    in_both_ways(|reactor| {
        let (child, stdin) = patient();
        let line = format!("child process {}", child.id());
        let ended = reactor.wait_for_child(child);
        let dump = reactor.dump();
        let held = dump
            .sources
            .iter()
            .find(|held| held.to_string().contains(&line));
        let held = held.unwrap_or_else(|| panic!("{dump}")).to_string();
        assert!(held.contains(file!()), "{held}");
        drop(stdin);
        reactor.run_until(ended).unwrap();
    });
}

#[test]
fn without_processes_the_child_comes_back_with_what_is_missing() {
    let (child, stdin) = patient();
    let reactor = virtual_time_reactor();
    let mut error = wait_error(reactor.run_until(reactor.wait_for_child(child)));
    let missing = Unsupported::find(&error).map(Unsupported::capability);
    assert_eq!(missing, Some(Capability::Processes));
    drop(stdin);
    assert!(error.child.wait().expect("it is ours").success());
}

/// Waits for one child and gives another up, and says whether both were pending.
fn ask(reactor: &Reactor, results: &Rc<RefCell<Vec<Deferred<ExitStatus>>>>) {
    let (first, stdin) = patient();
    let (second, other_stdin) = patient();
    let (first, second) = (
        reactor.wait_for_child(first),
        reactor.wait_for_child(second),
    );
    assert!(!first.is_fired() && !second.is_fired());
    second.cancel();
    drop((stdin, other_stdin, outcome_of(second)));
    results.borrow_mut().push(first);
}

#[test]
fn a_child_may_be_waited_for_and_given_up_from_every_callback() {
    in_both_ways(|reactor| {
        let results = Rc::new(RefCell::new(Vec::new()));
        let asks = || {
            let (weak, results) = (reactor.downgrade(), Rc::clone(&results));
            move || {
                let reactor = weak.upgrade().expect("it calls");
                ask(&reactor, &results);
            }
        };
        reactor.on_startup(Phase::During, asks());
        reactor.call_soon(asks());
        reactor.call_later(Duration::ZERO, asks());
        let mut hooks = Vec::new();
        for place in [Place::Prepare, Place::Check, Place::Idle] {
            let mut ask = Some(asks());
            hooks.push(reactor.add_hook(place, move || {
                if let Some(ask) = ask.take() {
                    ask();
                }
            }));
        }
        let (readable, writer) = std::io::pipe().expect("the system has descriptors left");
        drop(writer);
        let ask_by_reader = asks();
        let reader = reactor.add_reader(readable, move |watch| {
            watch.remove();
            ask_by_reader();
        });
        drop(reader.expect("it can be watched"));
        // From the end of another, which is a watcher's call or an event.
        let ask_at_the_end = asks();
        let (child, stdin) = patient();
        let ended = reactor.wait_for_child(child);
        drop(ended.map(move |_| ask_at_the_end()));
        drop(stdin);
        let (handle, seen) = (reactor.clone(), Rc::clone(&results));
        hooks.push(reactor.add_hook(Place::Check, move || {
            if seen.borrow().len() == 8 {
                handle.stop();
            }
        }));
        // From the failure that a stop makes of it: for the next run.
        let (kept, kept_stdin) = patient();
        let ask_at_the_stop = asks();
        drop(reactor.wait_for_child(kept).add_both(move |outcome| {
            drop((kept_stdin, outcome.expect_err("the reactor stops")));
            ask_at_the_stop();
            Ok::<(), Failure>(())
        }));
        reactor.run().unwrap();
        assert!(hooks.iter().all(Hook::remove));
        let last = results.borrow_mut().pop().expect("the stop asked");
        for ended_or_stopped in results.take() {
            let outcome = outcome_of(ended_or_stopped);
            assert!(outcome.take().is_some(), "it waits for ever");
        }
        assert!(reactor.run_until(last).unwrap().success());
    });
}
