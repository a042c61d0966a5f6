//! The clocks that processes read simulated time from.

use std::time::{Duration, Instant};

pub(super) use xero_wires::At;

/// The clock of one process. It started at a time of its own and runs slightly fast or slow, like real clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// How much faster than the simulation it runs, in millionths.
    drift: i64,
}

impl Clock {
    pub(super) fn new(origin: Instant, drift: i64) -> Self {
        Self { origin, drift }
    }

    pub(super) fn read(&self, at: At) -> Instant {
        self.origin + Duration::from_nanos(self.own_nanos(at.nanos()))
    }

    /// The first instant of the simulation at which this clock shows `instant` or later.
    pub(super) fn at(&self, instant: Instant) -> At {
        let own = At::ZERO.after(instant.saturating_duration_since(self.origin)).nanos();
        let gained = signed(own) * self.drift / (MILLION + self.drift);
        let mut at = own.saturating_add_signed(-gained).saturating_sub(2);
        while self.own_nanos(at) < own {
            at += 1;
        }
        At::from_nanos(at)
    }

    fn own_nanos(&self, at: u64) -> u64 {
        at.saturating_add_signed(signed(at) * self.drift / MILLION)
    }
}

/// Simulations take minutes: a day leaves room for a drift in millionths.
fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX).min(DAY_NANOS)
}

const MILLION: i64 = 1_000_000;

const DAY_NANOS: i64 = 24 * 3_600 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_not_early_for_what_it_is_asked_to_wait_for() {
        let origin = Instant::now();
        for drift in [-20_000, -1, 0, 7, 20_000] {
            let clock = Clock::new(origin, drift);
            for nanos in (0..5_000_000_000).step_by(123_456_789) {
                let instant = origin + Duration::from_nanos(nanos);
                let at = clock.at(instant);
                let before = at.nanos().checked_sub(1).map(At::from_nanos);
                assert!(clock.read(at) >= instant && before.is_none_or(|at| clock.read(at) < instant), "{drift}");
            }
        }
    }
}
