//! The limits on a payload's bytes that workers announce, as far as they keep workers apart.

use crate::proto::few::Few;

/// Limits in use, each with its number of users.
///
/// There are few, whatever workers announce, so that a call looks at few kinds of workers. A limit that comes when there
/// are many counts as a lower one; its workers are found one by one then.
#[derive(Debug, Default)]
pub(super) struct PayloadLimits(Few<u64, usize>);

impl PayloadLimits {
    /// Adds a user of a limit. Returns what the limit counts as.
    pub(super) fn admit(&mut self, announced: u64) -> u64 {
        let is_exact = self.0.len() < EXACT_MAX || self.0.get_mut(&announced).is_some();
        let limit = if is_exact { announced } else { rounded_down(announced) };
        self.0.count(limit, true);
        limit
    }

    /// Removes a user of what a limit counts as.
    pub(super) fn release(&mut self, limit: u64) {
        self.0.count(limit, false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

/// The highest power of 16 up to a limit.
fn rounded_down(limit: u64) -> u64 {
    limit.checked_ilog2().map_or(0, |power| 1 << (power / 4 * 4))
}

/// The limits that count exactly; fleets have one or two.
const EXACT_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_exactly_until_there_are_many_and_then_as_lower_ones() {
        let mut limits = PayloadLimits::default();
        for limit in 1_000..1_000 + EXACT_MAX as u64 {
            assert_eq!(limits.admit(limit), limit);
        }
        for (limit, rounded) in [(0, 0), (1, 1), (15, 1), (16, 16), (5_000, 4_096), (1_003, 1_003), (u64::MAX, 1 << 60)]
        {
            assert_eq!(limits.admit(limit), rounded);
        }
        for limit in (1_000..1_000 + EXACT_MAX as u64).chain([0, 1, 1, 16, 4_096, 1_003, 1 << 60]) {
            limits.release(limit);
        }
        assert!(limits.is_empty());
        assert_eq!(limits.admit(5_000), 5_000);
    }
}
