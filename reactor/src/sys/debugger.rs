//! A child process that is traced when it ends.

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::ptr;
    use std::rc::Rc;
    use std::thread;
    use std::time::Duration;

    use libc::pid_t;
    use torsade_deferred::Failure;

    use crate::reactor::Reactor;
    use crate::testing;

    /// A process that traces another one, and never asks what becomes of it.
    struct Debugger {
        process: pid_t,
        /// Keeps it waiting.
        _holds: PipeWriter,
    }

    impl Debugger {
        /// `None` if the system does not allow it.
        fn attach(traced: pid_t) -> Option<Self> {
            let (waits, holds) = pipe().expect("there are descriptors left");
            let (mut attached, attaches) = pipe().expect("there are descriptors left");
            // SAFETY: `fork` takes nothing. The child has this thread alone, makes a few system
            // calls and ends without returning into the test.
            let process = unsafe { libc::fork() };
            if process == 0 {
                debug(traced, attaches, waits);
            }
            assert!(process > 0, "there is room for a process");
            drop(attaches);
            let debugger = Self {
                process,
                _holds: holds,
            };
            let mut answer = [0];
            attached.read_exact(&mut answer).ok()?;
            Some(debugger)
        }
    }

    impl Drop for Debugger {
        fn drop(&mut self) {
            let mut status = 0;
            // SAFETY: `kill` takes any numbers, and the process is ours.
            unsafe { libc::kill(self.process, libc::SIGKILL) };
            // SAFETY: the process is ours, and `status` is there to be written.
            unsafe { libc::waitpid(self.process, &mut status, 0) };
        }
    }

    /// What the debugger does, in its process. To wait, it reads what nobody writes.
    fn debug(traced: pid_t, mut attaches: PipeWriter, mut waits: PipeReader) -> ! {
        close_all_but([attaches.as_raw_fd(), waits.as_raw_fd()]);
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: `PTRACE_SEIZE` takes a process and options, and reads no memory.
        let outcome = unsafe { libc::ptrace(libc::PTRACE_SEIZE, traced, nothing, nothing) };
        if outcome == 0 {
            let _ = attaches.write_all(b"x");
            let _ = waits.read(&mut [0]);
        }
        // SAFETY: it ends the process, and drops nothing that is the parent's.
        unsafe { libc::_exit(0) };
    }

    /// What other tests close meanwhile is to be closed.
    fn close_all_but(mut kept: [RawFd; 2]) {
        kept.sort_unstable();
        let ranges = [
            (3, kept[0] - 1),
            (kept[0] + 1, kept[1] - 1),
            (kept[1] + 1, RawFd::MAX),
        ];
        for (first, last) in ranges {
            // SAFETY: the process is about to be a debugger, and uses no others. It fails for
            // a range that is empty, and where the system has no such call.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }

    fn is_zombie(process: pid_t) -> bool {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"));
        let stat = stat.expect("it is there until it is reaped");
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('Z'))
    }

    /// The system says at once that the child has ended, and gives its status to the debugger
    /// first.
    #[test]
    fn a_child_whose_end_a_debugger_keeps_is_told_when_it_lets_go_and_spins_no_loop_till_then() {
        let now = Some(Duration::ZERO);
        for reactor in [Reactor::new(), testing::portable_reactor()] {
            let reactor = reactor.expect("there are descriptors left");
            let cat = Command::new("cat").stdin(Stdio::piped()).spawn();
            let mut child = cat.expect("every system has cat");
            let _stdin = child.stdin.take();
            let process = child.id().cast_signed();
            let Some(debugger) = Debugger::attach(process) else {
                let _ = child.kill().and_then(|()| child.wait());
                let _ = writeln!(io::stderr(), "SKIPPED: this system allows no debugger");
                return;
            };
            let outcome = Rc::new(RefCell::new(None));
            let slot = Rc::clone(&outcome);
            drop(reactor.wait_for_child(child).add_both(move |ended| {
                slot.replace(Some(ended));
                Ok::<(), Failure>(())
            }));
            // SAFETY: `kill` takes any numbers, and the process is ours.
            unsafe { libc::kill(process, libc::SIGKILL) };
            while !is_zombie(process) {
                thread::yield_now();
            }
            for _ in 0..3 {
                reactor.turn(now).expect("the loop can look");
            }
            let before = reactor.statistics().events;
            for _ in 0..10 {
                reactor.turn(now).expect("the loop can look");
            }
            assert_eq!(reactor.statistics().events, before, "it spins");
            assert!(outcome.borrow().is_none(), "the debugger has its status");
            drop(debugger);
            for _ in 0..10 {
                if outcome.borrow().is_none() {
                    let turned = reactor.turn(Some(Duration::from_secs(10)));
                    turned.expect("the loop can wait");
                }
            }
            let status = outcome.take().expect("it is told").expect("it was ours");
            assert_eq!(status.signal(), Some(libc::SIGKILL));
        }
    }
}
