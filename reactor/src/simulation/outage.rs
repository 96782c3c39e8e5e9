//! What keeps a host down.

use super::plan::FaultKind;

/// Who keeps a host down, and whether it is to fall. It is up when nobody keeps it down.
#[derive(Clone, Debug, Default)]
pub(super) struct Outage {
    /// The test, until it says otherwise.
    by_test: bool,
    /// Crashes of the plan that last.
    crashes: u32,
    /// Faults of the plan that last and let it fall at a write.
    at_write: u32,
    /// It falls at its next write.
    doomed: bool,
    /// It has fallen at a write, and stays down while one of those faults lasts.
    fallen: bool,
}

impl Outage {
    pub(super) fn set_by_test(&mut self, down: bool) {
        self.by_test = down;
    }

    /// A fault of the plan that crashes a host begins, or is over.
    pub(super) fn change(&mut self, what: &FaultKind, begins: bool) {
        match (what, begins) {
            (FaultKind::Crash(_), true) => self.crashes += 1,
            (FaultKind::Crash(_), false) => self.crashes -= 1,
            (FaultKind::CrashAtWrite(_), true) => {
                self.at_write += 1;
                self.doomed = true;
            }
            (FaultKind::CrashAtWrite(_), false) => {
                self.at_write -= 1;
                let lasts = self.at_write > 0;
                (self.doomed, self.fallen) = (self.doomed && lasts, self.fallen && lasts);
            }
            _ => unreachable!("{what:?} crashes no host"),
        }
    }

    /// It is about to write; says whether it falls.
    pub(super) fn falls(&mut self) -> bool {
        let falls = std::mem::take(&mut self.doomed);
        self.fallen |= falls;
        falls
    }

    pub(super) fn is_down(&self) -> bool {
        self.by_test || self.crashes > 0 || self.fallen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: FaultKind = FaultKind::Crash(0);
    const AT_WRITE: FaultKind = FaultKind::CrashAtWrite(0);

    #[test]
    fn a_host_is_down_until_everything_that_keeps_it_down_is_over() {
        let mut outage = Outage::default();
        outage.change(&CRASH, true);
        outage.change(&CRASH, true);
        outage.set_by_test(true);
        outage.change(&CRASH, false);
        assert!(outage.is_down());
        outage.change(&CRASH, false);
        assert!(outage.is_down());
        outage.set_by_test(false);
        assert!(!outage.is_down());
    }

    #[test]
    fn a_host_falls_at_a_write_once_for_each_fault_that_asks_for_it() {
        let mut outage = Outage::default();
        outage.change(&AT_WRITE, true);
        assert!(!outage.is_down(), "it has not written");
        outage.change(&CRASH, true);
        outage.change(&CRASH, false);
        assert!(!outage.is_down(), "the other fault is over");
        assert!(outage.falls() && outage.is_down() && !outage.falls());
        outage.change(&AT_WRITE, true);
        outage.change(&AT_WRITE, false);
        assert!(outage.is_down(), "the other one lasts");
        outage.change(&AT_WRITE, false);
        assert!(!outage.is_down() && !outage.falls());
    }
}
