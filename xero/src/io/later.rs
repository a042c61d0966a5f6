//! Inputs that take up to thousands of times what a small message does: announcements of offers, and the ends of
//! connections with large ones. They wait until the others of their turn have been handled, then come one by one.
//!
//! So a call waits for one of them on each side, however many there are, and they leave time for everything else.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::machine::Input;
use crate::proto::frame;

/// See the module.
#[derive(Debug)]
pub(super) struct Later<P> {
    announcements: VecDeque<(P, Input)>,
    /// The number of inputs of each connection in `announcements`: none overtakes another.
    waiting: BTreeMap<P, usize>,
    bytes: usize,
    ends: VecDeque<P>,
    /// When what was announced so far will have had its share of the time.
    paid_at: Option<Instant>,
    /// When to look again.
    due_at: Option<Instant>,
}

/// What becomes of an input.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It is handled now.
    Now(Input),
    /// It waits, and nothing more of its connection must be read meanwhile.
    Later,
    /// Too much waits already.
    Refused,
}

impl<P: Copy + Ord> Later<P> {
    pub(super) fn new() -> Self {
        Self {
            announcements: VecDeque::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
            ends: VecDeque::new(),
            paid_at: None,
            due_at: None,
        }
    }

    /// Keeps an input that announces much, or follows one of its connection that waits. A connection that is known
    /// is not refused.
    pub(super) fn admit(&mut self, peer: P, input: Input, is_known: bool) -> Admitted {
        let announces = |input: &Input| match input {
            Input::Frames(frames) if frames.header.len() + frames.payload.len() > LARGE_BYTES => {
                frame::announcing_bytes(frames) > LARGE_BYTES
            }
            _ => false,
        };
        if !self.waiting.contains_key(&peer) && !announces(&input) {
            return Admitted::Now(input);
        }
        if !is_known && (self.waiting.len() >= WAITING_MAX || self.bytes > BYTES_MAX) {
            return Admitted::Refused;
        }
        *self.waiting.entry(peer).or_default() += 1;
        self.bytes += bytes_of(&input);
        self.announcements.push_back((peer, input));
        Admitted::Later
    }

    /// Keeps the end of a connection, after which nothing of it follows.
    pub(super) fn admit_end(&mut self, peer: P) {
        self.ends.push_back(peer);
    }

    /// Notes how many services and methods were announced.
    pub(super) fn note(&mut self, now: Instant, entries: usize) {
        let price = PRICE.saturating_mul(u32::try_from(entries).unwrap_or(u32::MAX));
        let paid_at = self.paid_at.map_or(now, |at| at.max(now));
        self.paid_at = Some((paid_at + price).min(now + AHEAD_MAX));
    }

    /// The next input whose time has come. An end before an announcement: calls wait for its connection.
    pub(super) fn next(&mut self, now: Instant) -> Option<(P, Input)> {
        if let Some(peer) = self.ends.pop_front() {
            return Some((peer, Input::Gone));
        }
        let (peer, _) = self.announcements.front().filter(|_| self.is_due(now))?;
        let peer = *peer;
        self.next_of(peer).map(|input| (peer, input))
    }

    /// The next input of a connection, without waiting: another one must follow it now.
    pub(super) fn next_of(&mut self, peer: P) -> Option<Input> {
        self.waiting.get(&peer)?;
        let place = self.announcements.iter().position(|(from, _)| *from == peer)?;
        let (peer, input) = self.announcements.remove(place)?;
        self.note_taken(peer, &input);
        Some(input)
    }

    /// Whether something of the connection waits.
    pub(super) fn has(&self, peer: P) -> bool {
        self.waiting.contains_key(&peer)
    }

    /// Whether something waits whose time has come.
    fn is_due(&self, now: Instant) -> bool {
        let has_time = self.paid_at.is_none_or(|at| at <= now + BURST) || self.bytes > BYTES_MAX;
        !self.ends.is_empty() || has_time && !self.announcements.is_empty()
    }

    /// Whether something is left at the end of a turn whose time has come. Otherwise an alarm is set.
    pub(super) fn end_turn(&mut self, now: Instant) -> bool {
        let (is_due, waits) = (self.is_due(now), !self.announcements.is_empty());
        self.due_at = self.paid_at.and_then(|at| at.checked_sub(BURST)).filter(|_| waits && !is_due);
        is_due
    }

    /// When the next announcement may be handled.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    fn note_taken(&mut self, peer: P, input: &Input) {
        self.bytes -= bytes_of(input);
        if let Some(count) = self.waiting.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&peer);
            }
        }
    }
}

/// The bytes that an input keeps.
fn bytes_of(input: &Input) -> usize {
    match input {
        Input::Frames(frames) => frames.header.len() + frames.payload.len(),
        _ => 0,
    }
}

/// What announces less is no more work than some dozens of small messages.
const LARGE_BYTES: usize = 1024;

/// The time that each announced service or method is spread over: a few times what it takes.
const PRICE: Duration = Duration::from_micros(4);

/// As much may be announced at once: some dozens of the largest introductions, or those of hundreds of usual workers.
const BURST: Duration = Duration::from_millis(500);

/// The longest debt. One BATCH may not stop all announcements for longer.
const AHEAD_MAX: Duration = Duration::from_secs(2);

/// The most bytes that wait. Beyond it, the time is not asked.
const BYTES_MAX: usize = 32 << 20;

/// The most connections whose announcements wait: some seconds of work. Further ones dial again.
const WAITING_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use uuid::Uuid;

    use super::*;
    use crate::proto::{
        frame::{encode, encode_batch},
        message::{Capabilities, Message, MethodOffer, Ready, Role, ServiceOffer},
    };

    fn ready(methods: usize) -> Message {
        let method = |n| MethodOffer { name: format!("method {n}").into(), idempotent: false, fingerprint: 0 };
        let services = vec![ServiceOffer { name: "s".into(), version: 1, methods: (0..methods).map(method).collect() }];
        Message::Ready(Ready {
            role: Role::Worker,
            incarnation: Uuid::nil(),
            interval: Duration::ZERO,
            credits: 0,
            window_bytes: 0,
            payload_bytes_max: 0,
            capabilities: Capabilities::default(),
            codecs: Vec::new(),
            services,
        })
    }

    fn frames(message: &Message) -> Input {
        Input::Frames(encode(message))
    }

    fn waits(later: &mut Later<u32>, peer: u32, input: Input) -> bool {
        matches!(later.admit(peer, input, true), Admitted::Later)
    }

    #[test]
    fn large_announcements_wait_alone_and_in_batches_and_small_messages_do_not() {
        let mut later = Later::new();
        assert!(!waits(&mut later, 1, frames(&Message::Heartbeat)));
        assert!(!waits(&mut later, 1, frames(&ready(10))));
        let batch = |messages: &[Message]| Input::Frames(encode_batch(messages));
        assert!(!waits(&mut later, 1, batch(&[ready(10), Message::Heartbeat])));
        assert!(!waits(&mut later, 1, batch(&vec![Message::Heartbeat; 1_000])));
        assert!(waits(&mut later, 2, frames(&ready(1_000))));
        assert!(waits(&mut later, 3, batch(&[Message::Heartbeat, ready(1_000)])));
        assert!(waits(&mut later, 4, batch(&vec![ready(10); 100])));
    }

    #[test]
    fn nothing_overtakes_what_waits_of_its_connection() {
        let (mut later, now) = (Later::new(), Instant::now());
        assert!(waits(&mut later, 1, frames(&ready(1_000))));
        assert!(waits(&mut later, 2, frames(&ready(1_000))));
        assert!(waits(&mut later, 1, frames(&Message::Heartbeat)));
        assert!(!waits(&mut later, 3, frames(&Message::Heartbeat)));
        let order: Vec<_> = from_fn(|| later.next(now)).map(|(peer, input)| (peer, bytes_of(&input))).collect();
        assert_eq!(order.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [1, 2, 1]);
        assert!(order[0].1 > LARGE_BYTES && order[2].1 < LARGE_BYTES);
        assert!(!later.has(1) && later.bytes == 0 && later.waiting.is_empty());
    }

    #[test]
    fn ends_come_first_and_announcements_once_the_earlier_ones_had_their_time() {
        let (mut later, now) = (Later::new(), Instant::now());
        (0..3).for_each(|peer| assert!(waits(&mut later, peer, frames(&ready(1_000)))));
        assert_eq!((later.end_turn(now), later.due_at()), (true, None));
        later.note(now, 200_000);
        assert_eq!((later.end_turn(now), later.due_at()), (false, Some(now + 200_000 * PRICE - BURST)));
        later.admit_end(9);
        assert_eq!((later.end_turn(now), later.due_at()), (true, None));
        assert!(matches!(later.next(now), Some((9, Input::Gone))));
        assert!(later.next(now).is_none() && !later.end_turn(now));
        let due_at = later.due_at().expect("some wait");
        assert!(matches!(later.next(due_at), Some((0, Input::Frames(_)))));
        later.note(due_at, usize::MAX);
        assert!(!later.end_turn(due_at));
        assert_eq!(later.due_at(), Some(due_at + AHEAD_MAX - BURST));
        assert!(matches!(later.next_of(2), Some(Input::Frames(_))) && later.next_of(2).is_none());
    }

    #[test]
    fn strangers_are_refused_while_many_wait_and_known_peers_are_not() {
        let mut later = Later::new();
        let mut admits = |peer, is_known| later.admit(peer, frames(&ready(100)), is_known);
        (0..WAITING_MAX as u32).for_each(|peer| assert!(matches!(admits(peer, false), Admitted::Later)));
        assert!(matches!(admits(1_000, false), Admitted::Refused));
        assert!(matches!(admits(1_000, true), Admitted::Later));
        assert!(matches!(later.admit(1_001, frames(&Message::Heartbeat), false), Admitted::Now(_)));
    }

    #[test]
    fn bytes_that_wait_are_bounded() {
        let (mut later, now) = (Later::new(), Instant::now());
        later.note(now, usize::MAX);
        let mut count = 0;
        while !later.is_due(now) {
            assert!(waits(&mut later, count, frames(&ready(4_096))));
            count += 1;
        }
        assert!(later.bytes > BYTES_MAX && later.next(now).is_some() && later.next(now).is_none());
    }
}
