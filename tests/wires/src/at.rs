//! Simulated time.

use std::{fmt, time::Duration};

/// An instant of a simulation, in nanoseconds since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(u64);

impl At {
    /// The beginning of the simulation.
    pub const ZERO: Self = Self(0);

    /// The instant this many nanoseconds after the beginning.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The nanoseconds since the beginning.
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// The instant this much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0 + nanos(time))
    }

    /// The time since an earlier instant; zero if it is a later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The first multiple of this time that is later; the instant itself if the time is zero.
    pub fn next_multiple_of(self, time: Duration) -> Self {
        self.0.checked_div(nanos(time)).map_or(self, |multiples| Self((multiples + 1) * nanos(time)))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_multiple_is_later_and_without_a_grain_the_instant_stays() {
        let multiple_after = |nanos, time| At(nanos).next_multiple_of(Duration::from_nanos(time)).0;
        assert_eq!([0, 9, 10, 11].map(|nanos| multiple_after(nanos, 10)), [10, 10, 20, 20]);
        assert_eq!([0, 9].map(|nanos| multiple_after(nanos, 0)), [0, 9]);
    }
}
