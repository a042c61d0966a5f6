//! How fast one connection may change offers: one that has asked for much in a short time is not read for a while.
//!
//! Large announcements of all connections share one budget of time ([`Later`](super::later::Later)). Without a pause, a peer
//! that repeats its introduction would take most of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::proto::message::Message;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace<P> {
    /// The time that each service or method is spread over.
    price: Duration,
    /// When each connection that is in debt will have paid for what it has announced.
    paid_at: BTreeMap<P, Instant>,
    /// The same in the order of time.
    order: BTreeSet<(Instant, P)>,
    /// The connections that are not read, and until when.
    resting: BTreeSet<(Instant, P)>,
}

impl<P: Copy + Ord> Pace<P> {
    /// The pace of peers that have dialed in, or of dialed brokers, each of which announces the offers of all its workers.
    pub(super) fn new(is_dialing: bool) -> Self {
        let price = if is_dialing { PRICE_OF_BROKERS } else { PRICE };
        Self { price, paid_at: BTreeMap::new(), order: BTreeSet::new(), resting: BTreeSet::new() }
    }

    /// Notes that a connection has announced this many services and methods. Returns whether it must rest.
    pub(super) fn note(&mut self, now: Instant, peer: P, entries: usize) -> bool {
        while let Some((at, paid)) = self.order.first().copied().filter(|(at, _)| *at <= now) {
            self.order.remove(&(at, paid));
            self.paid_at.remove(&paid);
        }
        let before = self.paid_at.get(&peer).copied();
        let price = self.price.saturating_mul(u32::try_from(entries).unwrap_or(u32::MAX));
        // Not every transport can pause.
        let at = (before.unwrap_or(now) + price.min(REST_MAX)).min(now + BURST + REST_MAX);
        if let Some(before) = before {
            self.order.remove(&(before, peer));
            let _ = before.checked_sub(BURST).is_some_and(|at| self.resting.remove(&(at, peer)));
        }
        self.order.insert((at, peer));
        self.paid_at.insert(peer, at);
        let must_rest = at > now + BURST;
        if must_rest {
            self.resting.insert((at - BURST, peer));
        }
        must_rest
    }

    /// The next connection whose rest is over.
    pub(super) fn next_rested(&mut self, now: Instant) -> Option<P> {
        let first = self.resting.first().copied().filter(|(at, _)| *at <= now)?;
        self.resting.remove(&first);
        Some(first.1)
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&mut self, peer: P) {
        if let Some(at) = self.paid_at.remove(&peer) {
            self.order.remove(&(at, peer));
            let _ = at.checked_sub(BURST).is_some_and(|at| self.resting.remove(&(at, peer)));
        }
    }

    /// Whether the connection is not read for now.
    pub(super) fn is_resting(&self, peer: P) -> bool {
        let at = self.paid_at.get(&peer).and_then(|at| at.checked_sub(BURST));
        at.is_some_and(|at| self.resting.contains(&(at, peer)))
    }

    /// When the next rest is over.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.resting.first().map(|(at, _)| *at)
    }
}

/// The services and methods that a message announces, or an answer to it does.
pub(super) fn entries(message: &Message) -> usize {
    let answered = if matches!(message, Message::Ready(_)) { ANSWER } else { 0 };
    answered + message.announced()
}

/// The time that each service or method is spread over: some dozens of times what it takes.
const PRICE: Duration = Duration::from_micros(100);

/// The same of brokers: with one announcement each 100 ms, however large, they need no rest, in which replies would wait.
const PRICE_OF_BROKERS: Duration = Duration::from_micros(10);

/// What the answer to an introduction counts.
const ANSWER: usize = 256;

/// The longest rest. A peer whose expiry is less ends with its lease.
const REST_MAX: Duration = Duration::from_secs(10);

/// A connection is read without a rest until it has asked for this much: two of the largest introductions.
const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_rests_once_it_has_announced_much_and_others_do_not() {
        let (mut pace, now) = (Pace::new(false), Instant::now());
        assert_eq!([(); 3].map(|()| pace.note(now, 1, 4_352)), [false, false, true]);
        assert!(!pace.note(now, 2, 4_352));
        let rested_at = now + 3 * 4_352 * PRICE - BURST;
        assert_eq!(pace.due_at(), Some(rested_at));
        assert_eq!(pace.next_rested(rested_at - Duration::from_nanos(1)), None);
        assert_eq!((pace.next_rested(rested_at), pace.next_rested(rested_at)), (Some(1), None));
        assert!(pace.note(rested_at, 1, 1));
    }

    #[test]
    fn connection_that_cannot_be_paused_rests_once_at_a_time() {
        let (mut pace, now) = (Pace::new(false), Instant::now());
        (0..100).for_each(|_| _ = pace.note(now, 1, 4_352));
        assert_eq!((pace.resting.len(), pace.due_at()), (1, Some(now + REST_MAX)));
    }

    #[test]
    fn what_is_paid_off_is_forgotten() {
        let (mut pace, now) = (Pace::new(false), Instant::now());
        (0..50).for_each(|peer| _ = pace.note(now, peer, 4_352));
        assert!(!pace.note(now + BURST, 0, 1));
        assert_eq!((pace.paid_at.len(), pace.order.len(), pace.due_at()), (1, 1, None));
        assert!(pace.note(now + BURST, 0, 20_000));
        pace.forget(0);
        assert_eq!((pace.paid_at.len(), pace.order.len(), pace.due_at()), (0, 0, None));
    }

    #[test]
    fn broker_that_announces_the_largest_offers_at_its_pace_needs_no_rest() {
        let (mut pace, now) = (Pace::new(true), Instant::now());
        let entries = 2 * 4_352;
        assert!((0..1_000).all(|n| !pace.note(now + n * Duration::from_millis(100), 1, entries)));
        assert!((0..20).any(|_| pace.note(now + Duration::from_secs(100), 1, entries)));
    }

    #[test]
    fn few_entries_at_a_time_need_no_rest() {
        let (mut pace, now) = (Pace::new(false), Instant::now());
        assert!((0..1_000).all(|n| !pace.note(now + n * 10 * PRICE, 1, 10)));
    }
}
