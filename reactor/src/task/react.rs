//! A whole program: a loop, one `main`, and an exit code.

use std::cell::{Cell, RefCell};
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitCode, Termination};
use std::rc::Rc;

use torsade_deferred::{Failure, Interrupted, IntoDeferred, maybe_deferred};

use crate::error::RunError;
use crate::reactor::Reactor;

/// Makes a reactor, calls `main`, runs the loop until what that returned has fired, and
/// gives the exit code. Twisted's `task.react`.
///
/// `main` is called before the loop begins. It returns nothing, a `Result` or a Deferred; an `async` block becomes one with
/// [`Deferred::from_future`](torsade_deferred::Deferred::from_future).
///
/// # The exit code
///
/// | how it ended | code |
/// | --- | --- |
/// | with `()` | 0 |
/// | with an [`ExitCode`] | that |
/// | with a failure, which stands in one line on standard error | 1 |
/// | the reactor cannot be made, or cannot wait; a line says so | 1 |
/// | the reactor was stopped first, by SIGINT, SIGTERM or [`stop`](Reactor::stop) | 0 |
///
/// Stopping is how a server ends that has nothing to wait for, so it is no failure. What
/// `main` still waits for is cancelled then; if it answers that with a value or with a
/// failure other than `Cancelled`, this counts.
///
/// # Examples
///
/// ```
/// use std::process::ExitCode;
/// use std::time::Duration;
/// use torsade_reactor::task::{react, sleep};
///
/// fn main() -> ExitCode {
///     react(|reactor| {
///         sleep(reactor, Duration::from_millis(1)).add_callback(|()| println!("a moment later"))
///     })
/// }
/// ```
pub fn react<R>(main: impl FnOnce(&Reactor) -> R) -> ExitCode
where
    R: IntoDeferred<Value: Termination + 'static>,
{
    match Reactor::new() {
        Ok(reactor) => react_with(&reactor, main),
        Err(error) => give_up(&error.into()),
    }
}

/// [`react`] with a reactor that is there already, such as one for tests. It can be used
/// again afterwards. Inside one of its own callbacks, `main` is not called, and the exit
/// code is 1.
pub fn react_with<R>(reactor: &Reactor, main: impl FnOnce(&Reactor) -> R) -> ExitCode
where
    R: IntoDeferred<Value: Termination + 'static>,
{
    if reactor.is_running() {
        // Before `main`: what it returns would stop the run that is under way.
        return give_up(&RunError::AlreadyRunning.into());
    }
    let program = Rc::new(Program {
        result: RefCell::default(),
        is_running: Cell::new(true),
    });
    let outcome = maybe_deferred(|| main(reactor));
    let canceller = outcome.canceller();
    // A handle in here would keep the reactor, if `main` waits for something of its own.
    let (ends, core) = (Rc::clone(&program), Rc::downgrade(reactor.core()));
    drop(outcome.add_both(move |result| {
        ends.result.replace(Some(result));
        // A stop that comes too late would end the next run.
        if let Some(core) = core.upgrade().filter(|_| ends.is_running.get()) {
            Reactor::of(&core).stop();
        }
    }));
    let ran = reactor.run();
    program.is_running.set(false);
    let is_stopped_early = program.result.borrow().is_none();
    if is_stopped_early {
        canceller.cancel();
    }
    if let Err(error) = ran {
        return give_up(&error.into());
    }
    match program.result.take() {
        None => ExitCode::SUCCESS,
        Some(Ok(value)) => value.report(),
        Some(Err(failure)) if is_stopped_early && is_cancelled(&failure) => ExitCode::SUCCESS,
        Some(Err(failure)) => give_up(&failure),
    }
}

struct Program<T> {
    result: RefCell<Option<Result<T, Failure>>>,
    is_running: Cell<bool>,
}

fn is_cancelled(failure: &Failure) -> bool {
    matches!(failure.downcast_ref(), Some(Interrupted::Cancelled))
}

/// Says why in one line, the way of command-line programs.
fn give_up(failure: &Failure) -> ExitCode {
    let program = env::args_os().next();
    let name = program.as_deref().map(Path::new).and_then(Path::file_name);
    let name = name.map_or("error".into(), |name| name.to_string_lossy());
    let text = failure.to_string();
    let line: Vec<&str> = text.split_whitespace().collect();
    // Nobody reads it, and there is nobody else to tell.
    let _ = writeln!(io::stderr(), "{name}: {}", line.join(" "));
    ExitCode::FAILURE
}
