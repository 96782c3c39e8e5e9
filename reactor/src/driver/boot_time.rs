//! Time that passes while the machine is suspended, too.
//!
//! On Linux this is `CLOCK_BOOTTIME`, with a timer of that clock in the poller: a wait of the
//! kernel's stands still with the machine, and would go on after a suspension as if there had
//! been none. Elsewhere it is the usual time, whatever that does.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::driver::os;
use crate::sys::poller::Poller;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use self::linux::BootTime;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::cell::Cell;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    };

    use super::*;

    /// The clock and its alarm.
    pub(crate) struct BootTime {
        /// The same moment by both clocks.
        begin: (Instant, Duration),
        alarm: OwnedFd,
        alarm_at: Cell<Option<Instant>>,
        poller: Rc<Poller>,
    }

    impl BootTime {
        pub(crate) fn new(poller: &Rc<Poller>) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let alarm = timerfd_create(TimerfdClockId::Boottime, flags)?;
            poller.add_alarm(alarm.as_fd())?;
            Ok(Self {
                begin: (os::now(), since_boot()),
                alarm,
                alarm_at: Cell::new(None),
                poller: Rc::clone(poller),
            })
        }

        pub(crate) fn now(&self) -> Instant {
            let (begin, boot) = self.begin;
            begin + since_boot().saturating_sub(boot)
        }

        /// Has waits end at `deadline`.
        pub(crate) fn set_alarm(&self, deadline: Option<Instant>) {
            if self.alarm_at.replace(deadline) == deadline || self.poller.is_forked() {
                return;
            }
            let (begin, boot) = self.begin;
            let at = deadline.map(|deadline| {
                let at = boot + deadline.saturating_duration_since(begin);
                Timespec::try_from(at).unwrap_or(NEVER)
            });
            let value = Itimerspec {
                it_interval: NEVER_AGAIN,
                it_value: at.unwrap_or(NEVER_AGAIN),
            };
            // It fails for values that are out of range, which these are not.
            let _ = timerfd_settime(&self.alarm, TimerfdTimerFlags::ABSTIME, &value);
        }
    }

    impl Drop for BootTime {
        fn drop(&mut self) {
            self.poller.delete_fd(self.alarm.as_fd());
        }
    }

    /// What disarms a timer, and what does not repeat one.
    const NEVER_AGAIN: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };

    /// Beyond the kernel's range.
    const NEVER: Timespec = Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    };

    fn since_boot() -> Duration {
        // The clock has started at zero.
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }
}

/// The clock, where the system has none that goes on.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) struct BootTime;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl BootTime {
    pub(crate) fn new(_poller: &Rc<Poller>) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn now(&self) -> Instant {
        os::now()
    }

    pub(crate) fn set_alarm(&self, _deadline: Option<Instant>) {
        // The limit of the wait does.
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::Events;

    #[test]
    fn alarm_ends_a_wait_that_has_no_limit() {
        for poller in [Poller::new(), Poller::portable()] {
            let poller = Rc::new(poller.expect("there are descriptors left"));
            let time = BootTime::new(&poller).expect("there are descriptors left");
            let (begin, mut events) = (time.now(), Events::default());
            for step in 1..=3 {
                let deadline = begin + step * Duration::from_millis(1);
                time.set_alarm(Some(deadline));
                while time.now() < deadline {
                    poller.wait(None, &mut events).expect("it can wait");
                }
            }
        }
    }
}
