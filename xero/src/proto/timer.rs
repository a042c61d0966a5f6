//! Deadlines of a machine in one table.

mod queue;

use std::{collections::BTreeMap, time::Instant};

use super::message::{CallId, Peer};
use queue::TimerQueue;

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
}

/// One run of a procedure, numbered by its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Execution(pub u64);

impl Timer {
    /// Whether it concerns a peer.
    ///
    /// Such timers fire before those of calls, so that no peer is treated as dead, however many calls expire.
    fn is_of_peer(self) -> bool {
        !matches!(self, Self::Deadline(_) | Self::Retry(_) | Self::Overrun(_))
    }
}

/// Call timers that a machine handles before its owner sends and receives again: a millisecond or two of work.
///
/// So no number of calls that expire together holds up a heartbeat.
pub(crate) const EXPIRY_BOUND: usize = 1_000;

/// The armed timers of a machine, each at most once, ordered by their instants.
///
/// An owner that remembers the instant itself uses [`Self::arm`] and [`Self::disarm`], which cost one structure; for
/// others the table remembers it.
#[derive(Debug, Default)]
pub(crate) struct TimerTable {
    of_peers: TimerQueue,
    of_calls: TimerQueue,
    remembered: BTreeMap<Timer, Instant>,
}

impl TimerTable {
    /// Arms a timer that is not armed; the caller remembers the instant.
    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        self.queue_of(timer).arm(timer, at);
    }

    /// Stops a timer that was armed by [`Self::arm`] for this instant, unless it has fired.
    pub(crate) fn disarm(&mut self, timer: Timer, at: Instant) {
        self.queue_of(timer).disarm(timer, at);
    }

    /// Arms a timer, or moves an armed one.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.remembered.insert(timer, at) {
            self.disarm(timer, before);
        }
        self.arm(timer, at);
    }

    /// Arms a timer unless it is armed for an earlier instant.
    pub(crate) fn hasten(&mut self, timer: Timer, at: Instant) {
        if self.remembered.get(&timer).is_none_or(|before| at < *before) {
            self.set(timer, at);
        }
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(at) = self.remembered.remove(&timer) {
            self.disarm(timer, at);
        }
    }

    /// Takes one due timer: those of peers first, then the earliest.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        self.expire_of_peer(now).or_else(|| {
            let timer = self.of_calls.take_due(now)?;
            self.remembered.remove(&timer);
            Some(timer)
        })
    }

    /// Takes one due timer of a peer.
    pub(crate) fn expire_of_peer(&mut self, now: Instant) -> Option<Timer> {
        let timer = self.of_peers.take_due(now)?;
        self.remembered.remove(&timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        [self.of_peers.next(), self.of_calls.next()].into_iter().flatten().min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.of_peers.is_empty() && self.of_calls.is_empty()
    }

    fn queue_of(&mut self, timer: Timer) -> &mut TimerQueue {
        if timer.is_of_peer() { &mut self.of_peers } else { &mut self.of_calls }
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
        timers.set(Timer::Dial(Peer(0)), start + Duration::from_secs(1));
        assert_eq!(timers.expire(start + Duration::from_nanos(999_999_999)), None);
        assert_eq!(timers.expire(start + Duration::from_secs(1)), Some(Timer::Dial(Peer(0))));
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
    fn timers_of_peers_come_before_those_of_calls() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.arm(Timer::Deadline(CallId(1)), start);
        timers.arm(Timer::Deadline(CallId(2)), start);
        timers.set(Timer::Lease(Peer(1)), start + Duration::from_secs(1));
        timers.disarm(Timer::Deadline(CallId(2)), start);
        let late = start + Duration::from_secs(1);
        assert_eq!((timers.next(), timers.expire(start)), (Some(start), Some(Timer::Deadline(CallId(1)))));
        timers.arm(Timer::Deadline(CallId(3)), start);
        assert_eq!(
            [timers.expire(late), timers.expire(late)],
            [Some(Timer::Lease(Peer(1))), Some(Timer::Deadline(CallId(3)))]
        );
        assert!(timers.is_empty());
    }

    #[test]
    fn timers_fire_in_the_order_of_their_instants() {
        let start = Instant::now();
        let mut timers = TimerTable::default();
        timers.set(Timer::Heartbeat(Peer(2)), start + Duration::from_secs(2));
        timers.set(Timer::Lease(Peer(9)), start + Duration::from_secs(1));
        timers.set(Timer::Dial(Peer(3)), start + Duration::from_secs(3));
        timers.stop(Timer::Dial(Peer(3)));
        let late = start + Duration::from_secs(10);
        assert_eq!(timers.expire(late), Some(Timer::Lease(Peer(9))));
        assert_eq!(timers.expire(late), Some(Timer::Heartbeat(Peer(2))));
        assert_eq!(timers.expire(late), None);
    }
}
