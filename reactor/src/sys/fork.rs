//! Noticing a fork.
//!
//! What a loop waits with belongs to the process that made it: a fork shares it, and would
//! take the parent's events, or its registrations from it. So each thing of that kind notes
//! its [`Lineage`], and lets its descriptors alone where that is not this process's.
//!
//! # Not here
//!
//! Processes that are made by bare system calls: the C library tells of none of them.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the first of its line that asked.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In which process something was made. To compare costs no system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lineage(u32);

impl Lineage {
    /// That of this process.
    pub(crate) fn here() -> Self {
        static ASKED: Once = Once::new();
        ASKED.call_once(|| {
            // It fails where there is no memory; then forks are not noticed.
            // SAFETY: what is given is called in each child of a fork, for as long as this
            // code is loaded, and does nothing but count.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        });
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is not the one, but a fork of it.
    pub(crate) fn is_forked(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

/// Called in the child, whose only thread this is.
extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Write, pipe};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::time::Duration;

    use crate::error::RunError;
    use crate::reactor::Reactor;

    /// Runs `child` in a fork of this process, and waits until that has come to its end.
    ///
    /// What other threads of this process hold is held for ever in the child: it makes no
    /// `Failure`, whose backtrace has a lock, and panics only if all is lost anyway.
    #[track_caller]
    fn fork(child: impl FnOnce()) {
        // SAFETY: `fork` takes nothing. The child has this thread alone; it ends without
        // returning into the test.
        let process = unsafe { libc::fork() };
        if process == 0 {
            let outcome = catch_unwind(AssertUnwindSafe(child));
            // SAFETY: it ends the process, and drops nothing that is the parent's.
            unsafe { libc::_exit(i32::from(outcome.is_err())) };
        }
        assert!(process > 0, "there is room for a process");
        let mut status = -1;
        // SAFETY: the child is ours, and `status` is there to be written.
        let waited = unsafe { libc::waitpid(process, &mut status, 0) };
        assert_eq!((waited, status), (process, 0), "the child panicked");
    }

    fn turn(reactor: &Reactor) -> Result<(), RunError> {
        reactor.turn(Some(Duration::ZERO))
    }

    #[test]
    fn a_forked_process_is_told_that_the_reactor_is_its_parents() {
        let reactor = Reactor::new().expect("there are descriptors left");
        fork(|| {
            reactor.stop();
            for outcome in [turn(&reactor), reactor.run(), reactor.close().map(drop)] {
                assert!(matches!(outcome, Err(RunError::Forked)));
            }
        });
        turn(&reactor).expect("the parent goes on");
    }

    #[test]
    fn what_a_forked_process_does_to_its_parents_reactor_disturbs_nobody() {
        let heard = Rc::new(Cell::new(0));
        let count = |reactor: &Reactor, reader| {
            let heard = Rc::clone(&heard);
            reactor.add_reader(reader, move |_| heard.set(heard.get() + 1))
        };
        let reactor = Reactor::new().expect("there are descriptors left");
        let (reader, mut writer) = pipe().expect("there are descriptors left");
        let watch = count(&reactor, reader).expect("a pipe can be watched");
        let (spare, _spare_writer) = pipe().expect("there are descriptors left");
        let alarm = reactor.boot_clock().expect("there are descriptors left");
        let rings = Rc::clone(&heard);
        let alarm = alarm.call_later(Duration::from_millis(1), move || {
            rings.set(rings.get() + 10)
        });
        let mut own = Some(reactor);
        fork(|| {
            let reactor = own.take().expect("it was made above");
            let refused = count(&reactor, spare).expect_err("the poller is the parent's");
            assert!(alarm.cancel());
            watch.disable();
            assert!(watch.remove().is_some());
            drop(reactor);
            // It has one of its own.
            let reactor = Reactor::new().expect("there are descriptors left");
            count(&reactor, refused.source).expect("a pipe can be watched");
            reactor.call_soon(|| ());
            turn(&reactor).expect("it is this process's");
        });
        let reactor = own.expect("the child has taken its own");
        // The first may be for what the child's end has made ready.
        for _ in 0..3 {
            if heard.get() < 10 {
                let turned = reactor.turn(Some(Duration::from_secs(10)));
                turned.expect("the parent goes on");
            }
        }
        writer.write_all(b"x").expect("the reader is open");
        turn(&reactor).expect("the parent goes on");
        assert_eq!(heard.get(), 11);
    }
}
