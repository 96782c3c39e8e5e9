//! A periodic call that is started and stopped as a service is.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, DeferredEvent, IntoDeferred, succeed};

use super::looping_call::{AlreadyRunning, LoopingCall};

/// Makes a call every `step`, from its start to its stop. Twisted's `TimerService`.
///
/// A [`LoopingCall`] whose end is two things: [`stop`](TimerService::stop) gives a Deferred that
/// waits for a call in progress, and a call that fails ends the calls and is reported, as an
/// unhandled failure that names the line of the start. A cheap clone: another handle on the
/// same service; dropping a handle stops nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::task::TimerService;
/// use torsade_reactor::testing::ManualClock;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let service = TimerService::new(Duration::from_secs(60), &clock, || println!("swept"));
/// service.start()?; // sweeps now
/// clock.advance(Duration::from_secs(60)); // and again
/// assert!(service.stop().is_fired());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TimerService {
    step: Duration,
    looping: LoopingCall,
    /// The end of the run that was started last.
    ended: Rc<RefCell<Option<DeferredEvent>>>,
}

impl TimerService {
    /// A service that makes `call` every `step`, on `clock`. It does not run yet.
    #[track_caller]
    pub fn new<R>(
        step: Duration,
        clock: &(impl Clock + Clone + 'static),
        call: impl FnMut() -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<Value: 'static>,
    {
        Self {
            step,
            looping: LoopingCall::new(clock, call),
            ended: Rc::default(),
        }
    }

    /// Starts: makes the first call now, before this returns, and then one every step.
    ///
    /// # Errors
    ///
    /// [`AlreadyRunning`], also while a stop waits for a call in progress.
    #[track_caller]
    pub fn start(&self) -> Result<(), AlreadyRunning> {
        if self.looping.is_started() {
            return Err(AlreadyRunning);
        }
        let ended = DeferredEvent::new();
        self.ended.replace(Some(ended.clone()));
        let run = self.looping.start(self.step);
        // Nobody handles a failure here, so it is reported.
        drop(run.add_both(move |result| {
            ended.set();
            result.map(drop)
        }));
        Ok(())
    }

    /// Stops: no further call is made. Fires when a call in progress has ended, with whatever
    /// result; at once if there is none, or the service does not run.
    ///
    /// # Cancellation
    ///
    /// Ends the waiting, and nothing else.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn stop(&self) -> Deferred<()> {
        self.looping.stop();
        let ended = self.ended.borrow().clone();
        ended.map_or_else(|| succeed(()), |ended| ended.wait())
    }

    /// Whether further calls are to come: it was started, not stopped, and no call has failed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.looping.is_running()
    }
}

impl fmt::Debug for TimerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerService(step {:?}, {:?})", self.step, self.looping)
    }
}
