//! Deadlines of a machine in one table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::message::{CallId, Peer};

/// Why a machine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// When to send a heartbeat unless something else went out since (`PROTOCOL.md` §6).
    Heartbeat(Peer),
    /// When a peer's lease expires unless it was heard from since (`PROTOCOL.md` §6).
    Lease(Peer),
    /// When to dial again after the back-off (`PROTOCOL.md` §6).
    Dial(Peer),
    /// When a call must end for its caller (`PROTOCOL.md` §8).
    Deadline(CallId),
    /// When to attempt a call again after the back-off (`PROTOCOL.md` §8).
    Retry(CallId),
    /// When a worker gives an execution up (`PROTOCOL.md` §8).
    Overrun(Execution),
    /// When leaving ends although something is still open (`PROTOCOL.md` §10).
    Leave,
}

/// One run of a procedure, numbered by its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Execution(pub u64);

/// The armed timers of a machine, each at most once, ordered by their instants.
#[derive(Debug, Default)]
pub(crate) struct TimerTable {
    by_instant: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl TimerTable {
    /// Arms a timer, or moves it when it is armed already.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.by_timer.insert(timer, at) {
            self.by_instant.remove(&(before, timer));
        }
        self.by_instant.insert((at, timer));
    }

    /// Arms a timer unless it is armed for an earlier instant.
    pub(crate) fn hasten(&mut self, timer: Timer, at: Instant) {
        if self.by_timer.get(&timer).is_none_or(|before| at < *before) {
            self.set(timer, at);
        }
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_instant.remove(&(at, timer));
        }
    }

    /// Takes one timer that is due, earliest first.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.by_instant.first()?;
        if at > now {
            return None;
        }
        self.by_instant.pop_first();
        self.by_timer.remove(&timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_instant.first().map(|(at, _)| *at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_timer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timer_fires_at_its_instant_and_not_before() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Leave, start + Duration::from_secs(1));
        assert_eq!(timers.expire(start + Duration::from_nanos(999_999_999)), None);
        assert_eq!(timers.expire(start + Duration::from_secs(1)), Some(Timer::Leave));
        assert_eq!(timers.expire(start + Duration::from_secs(2)), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn moved_timer_fires_once_at_its_new_instant() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Lease(Peer(1)), start + Duration::from_secs(1));
        timers.set(Timer::Lease(Peer(1)), start + Duration::from_secs(3));
        assert_eq!(timers.next(), Some(start + Duration::from_secs(3)));
        assert_eq!(timers.expire(start + Duration::from_secs(2)), None);
        assert_eq!(timers.expire(start + Duration::from_secs(3)), Some(Timer::Lease(Peer(1))));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn timers_fire_in_the_order_of_their_instants() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Heartbeat(Peer(2)), start + Duration::from_secs(2));
        timers.set(Timer::Deadline(CallId(9)), start + Duration::from_secs(1));
        timers.set(Timer::Dial(Peer(3)), start + Duration::from_secs(3));
        timers.stop(Timer::Dial(Peer(3)));
        let late = start + Duration::from_secs(10);
        assert_eq!(timers.expire(late), Some(Timer::Deadline(CallId(9))));
        assert_eq!(timers.expire(late), Some(Timer::Heartbeat(Peer(2))));
        assert_eq!(timers.expire(late), None);
    }
}
