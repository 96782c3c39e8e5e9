//! Signals of this process, raised on the thread of each test.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::ptr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::mask::empty_set;
use super::pile::{
    DEPTH_MAX, SIGNAL_BITS, default_action, disposition, exchange_action, is_marked, our_action,
};
use super::*;
use crate::protocol::Protocol;
use crate::reactor::Reactor;
use crate::sys::send_file;
use crate::transport::Transport;

// Dispositions belong to the process, and tests run side by side: each test
// has signals of its own.

fn wake() -> Arc<OwnedFd> {
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    Arc::new(eventfd(0, flags).expect("an eventfd is to be had"))
}

/// Raises a signal on this thread: it is delivered before this returns.
fn raise(signal: c_int) {
    // SAFETY: raising a signal breaks no promise; the test has a handler
    // installed for it, or it is ignored by default.
    let result = unsafe { libc::raise(signal) };
    assert_eq!(result, 0);
}

/// The count of the eventfd, which is reset; `None` if it is not readable.
fn drain(wake: &OwnedFd) -> Option<u64> {
    let mut count = [0; 8];
    rustix::io::read(wake, &mut count).ok()?;
    Some(u64::from_ne_bytes(count))
}

fn pending(watch: &SignalWatch) -> Vec<c_int> {
    watch.take_pending().into_iter().collect()
}

fn is_ours(signal: c_int) -> bool {
    pile::is_ours(&disposition(signal).expect("it is a signal"))
}

/// Has `handler` called for the signal, and gives what was done before.
fn cover(signal: c_int, handler: extern "C" fn(c_int)) -> libc::sigaction {
    let mut action = default_action();
    action.sa_sigaction = handler as libc::sighandler_t;
    exchange_action(signal, Some(&action)).expect("it is installed")
}

fn restore(signal: c_int, action: &libc::sigaction) {
    exchange_action(signal, Some(action)).expect("it is restored");
}

fn is_blocked(signal: c_int) -> bool {
    let mut mask = empty_set();
    // SAFETY: without a new mask, `pthread_sigmask` only writes the
    // current one to `mask`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask) };
    // SAFETY: `mask` is an initialized set.
    unsafe { libc::sigismember(&mask, signal) == 1 }
}

#[test]
fn signal_makes_the_descriptor_readable_and_is_pending_once() {
    let wake = wake();
    let watch = SignalWatch::new(&[libc::SIGUSR1], Arc::clone(&wake)).expect("watched");
    assert_eq!(drain(&wake), None);
    raise(libc::SIGUSR1);
    assert_eq!(drain(&wake), Some(1));
    assert_eq!(pending(&watch), [libc::SIGUSR1]);
    assert!(pending(&watch).is_empty());
    assert_eq!(drain(&wake), None);
}

#[test]
fn signals_of_one_number_count_as_one_until_taken() {
    let wake = wake();
    let signals = [libc::SIGUSR2, libc::SIGALRM, libc::SIGUSR2];
    let watch = SignalWatch::new(&signals, Arc::clone(&wake)).expect("watched");
    for signal in [libc::SIGUSR2, libc::SIGUSR2, libc::SIGALRM] {
        raise(signal);
    }
    let set = watch.take_pending();
    assert!(set.contains(libc::SIGUSR2) && !set.contains(libc::SIGUSR1));
    assert!(!set.contains(0) && !set.contains(64));
    let mut expected = [libc::SIGUSR2, libc::SIGALRM];
    expected.sort_unstable();
    assert_eq!(set.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn disposition_is_restored_with_the_last_watch() {
    let (first_wake, second_wake) = (wake(), wake());
    assert!(!is_ours(libc::SIGWINCH));
    let watch = |wake| SignalWatch::new(&[libc::SIGWINCH], wake).expect("watched");
    let first = watch(Arc::clone(&first_wake));
    let second = watch(Arc::clone(&second_wake));
    assert!(is_ours(libc::SIGWINCH));
    raise(libc::SIGWINCH);
    assert_eq!(pending(&first), [libc::SIGWINCH]);
    assert_eq!(pending(&second), [libc::SIGWINCH]);
    drop(first);
    assert!(is_ours(libc::SIGWINCH));
    raise(libc::SIGWINCH);
    assert_eq!(drain(&first_wake), Some(1));
    assert_eq!(drain(&second_wake), Some(2));
    drop(second);
    assert!(!is_ours(libc::SIGWINCH));
    raise(libc::SIGWINCH);
    assert_eq!(drain(&second_wake), None);
    // The slot that was given back remembers nothing.
    assert_eq!(pending(&watch(wake())), []);
}

#[test]
fn signals_are_added_and_removed_one_by_one() {
    let wake = wake();
    let watch = SignalWatch::new(&[], Arc::clone(&wake)).expect("nothing is watched");
    watch.add(libc::SIGXCPU).expect("watched");
    watch.add(libc::SIGXCPU).expect("watched already");
    watch.add(libc::SIGXFSZ).expect("watched");
    raise(libc::SIGXCPU);
    raise(libc::SIGXFSZ);
    watch.remove(libc::SIGXCPU);
    watch.remove(libc::SIGXCPU);
    assert_eq!(pending(&watch), [libc::SIGXFSZ]);
    assert!(!is_ours(libc::SIGXCPU));
    assert!(is_ours(libc::SIGXFSZ));
    watch.add(libc::SIGKILL).expect_err("the kernel keeps it");
    drop(watch);
    assert!(!is_ours(libc::SIGXFSZ));
}

#[test]
fn what_we_watch_counts_as_default_if_it_was() {
    assert!(is_default(libc::SIGTSTP));
    let watch = SignalWatch::new(&[libc::SIGTSTP], wake()).expect("watched");
    assert!(is_default(libc::SIGTSTP));
    drop(watch);
    let mut ignore = default_action();
    ignore.sa_sigaction = libc::SIG_IGN;
    exchange_action(libc::SIGTSTP, Some(&ignore)).expect("ignored");
    let watch = SignalWatch::new(&[libc::SIGTSTP], wake()).expect("watched");
    assert!(!is_default(libc::SIGTSTP));
    drop(watch);
    exchange_action(libc::SIGTSTP, Some(&default_action())).expect("default again");
    assert!(!is_default(0) && !is_default(-1) && !is_default(1000));
}

#[test]
fn handler_of_somebody_else_is_replaced_and_restored() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn somebody_else(_: c_int) {
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    let mut theirs = default_action();
    theirs.sa_sigaction = somebody_else as extern "C" fn(c_int) as libc::sighandler_t;
    exchange_action(libc::SIGURG, Some(&theirs)).expect("theirs is installed");
    let watch = SignalWatch::new(&[libc::SIGURG], wake()).expect("watched");
    raise(libc::SIGURG);
    assert_eq!(pending(&watch), [libc::SIGURG]);
    assert_eq!(CALLED.load(Ordering::SeqCst), 0);
    drop(watch);
    raise(libc::SIGURG);
    assert_eq!(CALLED.load(Ordering::SeqCst), 1);
    exchange_action(libc::SIGURG, Some(&default_action())).expect("default again");
}

#[test]
fn handler_installed_after_ours_stays() {
    let watch = SignalWatch::new(&[libc::SIGIO], wake()).expect("watched");
    let mut ignore = default_action();
    ignore.sa_sigaction = libc::SIG_IGN;
    exchange_action(libc::SIGIO, Some(&ignore)).expect("ignored");
    drop(watch);
    let now = exchange_action(libc::SIGIO, Some(&default_action())).expect("default again");
    assert_eq!(now.sa_sigaction, libc::SIG_IGN);
}

#[test]
fn handler_that_was_covered_makes_way_when_it_is_restored() {
    static BENEATH_US: AtomicUsize = AtomicUsize::new(0);
    static ABOVE_US: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn beneath_us(_: c_int) {
        BENEATH_US.fetch_add(1, Ordering::SeqCst);
    }
    extern "C" fn above_us(_: c_int) {
        ABOVE_US.fetch_add(1, Ordering::SeqCst);
    }
    let signal = libc::SIGQUIT;
    cover(signal, beneath_us);
    let watch = SignalWatch::new(&[signal], wake()).expect("watched");
    let ours = cover(signal, above_us);
    drop(watch);
    raise(signal);
    restore(signal, &ours);
    assert!(is_ours(signal));
    raise(signal);
    let counts = || [&BENEATH_US, &ABOVE_US].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts(), [1, 1], "the signal that found us was passed on");
    assert!(!is_ours(signal));
    raise(signal);
    assert_eq!(counts(), [2, 1]);
    restore(signal, &default_action());
}

#[test]
fn watch_that_comes_back_while_covered_takes_the_signal_and_gives_all_of_it_back() {
    static OTHERS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn others(_: c_int) {
        OTHERS.fetch_add(1, Ordering::SeqCst);
    }
    let signal = libc::SIGHUP;
    // `nohup` has it ignored.
    restore(signal, &default_action());
    let watch = || SignalWatch::new(&[signal], wake()).expect("watched");
    let first = watch();
    let ours = cover(signal, others);
    drop(first);
    let second = watch();
    raise(signal);
    assert_eq!(pending(&second), [signal]);
    assert_eq!(OTHERS.load(Ordering::SeqCst), 0);
    drop(second);
    raise(signal);
    assert_eq!(OTHERS.load(Ordering::SeqCst), 1);
    restore(signal, &ours);
    assert!(is_default(signal), "beneath us it is");
    let third = watch();
    raise(signal);
    assert_eq!(pending(&third), [signal]);
    drop(third);
    let now = disposition(signal).expect("it is a signal");
    assert_eq!(now.sa_sigaction, libc::SIG_DFL);
}

#[test]
fn copy_of_this_crate_hears_of_what_its_successor_watches() {
    static WORD: AtomicI32 = AtomicI32::new(0);
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn on_signal_of_a_copy(word: c_int) {
        WORD.store(word, Ordering::SeqCst);
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    let signal = libc::SIGSYS;
    let mut copy = our_action();
    copy.sa_sigaction = on_signal_of_a_copy as extern "C" fn(c_int) as libc::sighandler_t;
    assert!(is_marked(&copy) && !pile::is_ours(&copy));
    restore(signal, &copy);
    let watch = SignalWatch::new(&[signal], wake()).expect("watched");
    raise(signal);
    assert_eq!(pending(&watch), [signal]);
    // Called by one that is on top of us, as deep as can be: the next is not called.
    on_signal(signal | DEPTH_MAX << SIGNAL_BITS);
    assert_eq!(pending(&watch), [signal]);
    drop(watch);
    assert_eq!(CALLED.load(Ordering::SeqCst), 1);
    assert_eq!(WORD.load(Ordering::SeqCst), signal | 1 << SIGNAL_BITS);
    let restored = exchange_action(signal, Some(&default_action())).expect("default again");
    assert_eq!(restored.sa_sigaction, copy.sa_sigaction);
}

#[test]
fn signals_that_cannot_be_watched_are_refused_by_name() {
    for (signal, name) in UNWATCHABLE {
        let error = SignalWatch::new(&[libc::SIGTTIN, signal], wake()).expect_err(name);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
    for signal in [-1, 0, 32, 64, 1000] {
        let error = SignalWatch::new(&[signal], wake()).expect_err("no such signal");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert!(
        is_default(libc::SIGTTIN),
        "nothing was installed on the way"
    );
}

#[test]
fn watch_without_a_free_slot_is_refused() {
    static TABLE: [Slot; 2] = [const { Slot::new() }; 2];
    let first = Slot::claim(&TABLE, 0).expect("both are free");
    Slot::claim(&TABLE, 0).expect("one is free");
    let error = Slot::claim(&TABLE, 0).expect_err("none is free");
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    first.release();
    Slot::claim(&TABLE, 0).expect("the first is free again");
}

#[test]
fn dropping_a_watch_releases_its_descriptor() {
    let wake = wake();
    let watch = SignalWatch::new(&[libc::SIGTTOU], Arc::clone(&wake)).expect("watched");
    assert_eq!(Arc::strong_count(&wake), 2);
    drop(watch);
    assert_eq!(Arc::strong_count(&wake), 1);
}

#[test]
fn full_descriptor_does_not_block_the_handler() {
    let wake = wake();
    let watch = SignalWatch::new(&[libc::SIGCONT], Arc::clone(&wake)).expect("watched");
    rustix::io::write(&*wake, &(u64::MAX - 1).to_ne_bytes()).expect("the count is filled");
    raise(libc::SIGCONT);
    assert_eq!(pending(&watch), [libc::SIGCONT]);
}

#[test]
fn handler_preserves_errno() {
    let wake = wake();
    let _watch = SignalWatch::new(&[libc::SIGPROF], Arc::clone(&wake)).expect("watched");
    // The handler's write will fail, with another number.
    rustix::io::write(&*wake, &(u64::MAX - 1).to_ne_bytes()).expect("the count is filled");
    set_errno(libc::EXDEV);
    on_signal(libc::SIGPROF);
    assert_eq!(errno(), libc::EXDEV);
}

#[test]
fn watches_come_and_go_while_other_threads_raise() {
    let _watch = SignalWatch::new(&[libc::SIGVTALRM], wake()).expect("watched");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    raise(libc::SIGVTALRM);
                }
            });
        }
        for _ in 0..2_000 {
            let wake = wake();
            let watch = SignalWatch::new(&[libc::SIGVTALRM], Arc::clone(&wake));
            drop(watch.expect("watched"));
            // Nobody writes any more.
            drain(&wake);
            thread::yield_now();
            assert_eq!(drain(&wake), None);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn thread_spawned_with_all_signals_blocked_inherits_the_mask() {
    let blocked = with_all_signals_blocked(|| {
        thread::spawn(|| [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD].map(is_blocked))
    });
    assert_eq!(blocked.join().expect("the thread ends"), [true; 3]);
    assert!(!is_blocked(libc::SIGTERM));
}

#[test]
fn faults_are_never_blocked() {
    assert!(!with_all_signals_blocked(|| is_blocked(libc::SIGSEGV)));
}

#[test]
fn mask_is_restored_after_a_panic() {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        with_all_signals_blocked(|| panic!("while spawning"))
    }));
    assert!(panicked.is_err());
    assert!(!is_blocked(libc::SIGTERM));
}

#[test]
fn handler_that_was_put_on_ours_and_calls_it_hears_with_us_and_without_an_end() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    /// As those of `signal-hook` and of tokio: what it lies on is called first.
    extern "C" fn passes_on(signal: c_int) {
        on_signal(signal);
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    let signal = libc::SIGPWR;
    let watch = || SignalWatch::new(&[signal], wake()).expect("watched");
    let first = watch();
    let ours = cover(signal, passes_on);
    raise(signal);
    assert_eq!(pending(&first), [signal]);
    assert_eq!(CALLED.load(Ordering::SeqCst), 1);
    // It lies on us and, from now on, beneath us, too: who comes last has the signal.
    drop(first);
    let second = watch();
    raise(signal);
    assert_eq!(pending(&second), [signal]);
    assert_eq!(CALLED.load(Ordering::SeqCst), 1);
    // And has it back.
    drop(second);
    raise(signal);
    assert_eq!(CALLED.load(Ordering::SeqCst), 2);
    restore(signal, &ours);
    drop(watch());
    let now = disposition(signal).expect("it is a signal");
    assert_eq!(now.sa_sigaction, libc::SIG_DFL);
}

#[test]
fn calls_that_a_signal_interrupts_are_restarted() {
    let _watch = SignalWatch::new(&[libc::SIGSTKFLT], wake()).expect("watched");
    let action = disposition(libc::SIGSTKFLT).expect("it is a signal");
    assert_ne!(action.sa_flags & libc::SA_RESTART, 0);
}

/// As in a host of another language: Rust's programs ignore SIGPIPE from their start.
#[test]
fn writing_to_who_is_gone_ends_no_process_though_sigpipe_has_its_default() {
    const ALONE: &str = "TORSADE_TEST_SIGPIPE";
    const NAME: &str = "sys::signals::tests::\
                        writing_to_who_is_gone_ends_no_process_though_sigpipe_has_its_default";
    if env::var_os(ALONE).is_none() {
        let test = Command::new(env::current_exe().expect("a running program has a path"))
            .env(ALONE, "1")
            .args(["--exact", NAME, "--nocapture"])
            .output();
        let test = test.expect("it starts, for it runs now");
        let said = String::from_utf8_lossy(&test.stdout);
        assert!(said.contains("it is alive"), "{said}");
        // At the end, from a write that is not ours.
        assert_eq!(test.status.signal(), Some(libc::SIGPIPE), "{said}");
        return;
    }
    restore(libc::SIGPIPE, &default_action());
    let reactor = Reactor::new().expect("there are descriptors left");
    let writes: [fn(&Transport<Quiet>); 2] = [
        |transport| transport.write("x"),
        |transport| transport.write_sequence(["x", "y"]),
    ];
    for write in writes {
        let (ours, theirs) = UnixStream::pair().expect("there are descriptors left");
        let transport = reactor.adopt_connection(ours, |_: &_| Quiet);
        let transport = transport.expect("it is connected");
        drop(theirs);
        write(&transport);
        for _ in 0..3 {
            let turned = reactor.turn(Some(Duration::ZERO));
            turned.expect("the loop can look");
        }
        assert!(!transport.is_connected());
    }
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors left");
    drop(theirs);
    let file = File::open("/proc/self/exe").expect("a running program is a file");
    let sent = send_file::send(ours.as_fd(), file.as_fd(), 0, 4).expect_err("nobody reads");
    assert_eq!(sent.kind(), io::ErrorKind::BrokenPipe);
    writeln!(io::stdout(), "it is alive").expect("the test reads");
    let (reader, mut writer) = io::pipe().expect("there are descriptors left");
    drop(reader);
    writer
        .write_all(b"x")
        .expect("it is over before it returns");
}

struct Quiet;

impl Protocol for Quiet {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
}
