//! A reactor after a fork.

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::error::RunError;
    use crate::reactor::Reactor;

    #[test]
    fn a_forked_process_is_told_that_the_reactor_is_its_parents() {
        let reactor = Reactor::new().expect("there are descriptors left");
        // SAFETY: `fork` takes nothing. The child has this thread alone; it makes one call that
        // gives an error and ends without returning into the test.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let outcome = reactor.turn(Some(Duration::ZERO));
            let code = i32::from(!matches!(outcome, Err(RunError::Forked)));
            // SAFETY: it ends the process, and drops nothing that is the parent's.
            unsafe { libc::_exit(code) };
        }
        assert!(child > 0, "there is room for a process");
        let mut status = -1;
        // SAFETY: the child is ours, and `status` is there to be written.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!((waited, status), (child, 0));
        reactor
            .turn(Some(Duration::ZERO))
            .expect("the parent goes on");
    }
}
