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
    /// Of peers that have registered.
    known: VecDeque<Waiting<P>>,
    /// Of all others.
    strangers: VecDeque<Waiting<P>>,
    is_turn_of_strangers: bool,
    /// The number of inputs of each connection that wait: none overtakes another.
    counts: BTreeMap<P, usize>,
    bytes: usize,
    ends: VecDeque<P>,
    /// When what was handled so far will have had its share of the time.
    paid_at: Option<Instant>,
    /// When to look again.
    due_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting<P> {
    peer: P,
    input: Input,
    /// The bytes of its offers.
    announcing: usize,
}

/// What becomes of an input.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It is handled now.
    Now(Input),
    /// It waits, and nothing more of its connection must be read meanwhile.
    Later,
    /// Too much waits already: its connection must end.
    Refused,
}

impl<P: Copy + Ord> Later<P> {
    pub(super) fn new() -> Self {
        Self {
            known: VecDeque::new(),
            strangers: VecDeque::new(),
            is_turn_of_strangers: false,
            counts: BTreeMap::new(),
            bytes: 0,
            ends: VecDeque::new(),
            paid_at: None,
            due_at: None,
        }
    }

    /// Keeps an input that announces much, or follows one of its connection that waits.
    pub(super) fn admit(&mut self, peer: P, input: Input, is_known: impl FnOnce() -> bool) -> Admitted {
        let announcing = announcing(&input);
        if announcing <= LARGE_BYTES && !self.has(peer) {
            return Admitted::Now(input);
        }
        let is_known = is_known();
        if self.bytes > BYTES_MAX || !is_known && self.strangers.len() >= STRANGERS_MAX {
            return Admitted::Refused;
        }
        *self.counts.entry(peer).or_default() += 1;
        self.bytes += bytes_of(&input);
        let queue = if is_known { &mut self.known } else { &mut self.strangers };
        queue.push_back(Waiting { peer, input, announcing });
        Admitted::Later
    }

    /// Keeps the end of a connection, after which nothing of it follows.
    pub(super) fn admit_end(&mut self, peer: P) {
        self.ends.push_back(peer);
    }

    /// The next input whose time has come. An end before an announcement: calls wait for its connection.
    pub(super) fn next(&mut self, now: Instant) -> Option<(P, Input)> {
        if let Some(peer) = self.ends.pop_front() {
            return Some((peer, Input::Gone));
        }
        if !self.is_due(now) {
            return None;
        }
        self.is_turn_of_strangers = !self.is_turn_of_strangers;
        let (first, second) = match self.is_turn_of_strangers {
            true => (&mut self.strangers, &mut self.known),
            false => (&mut self.known, &mut self.strangers),
        };
        let waiting = first.pop_front().or_else(|| second.pop_front())?;
        let kibibytes = u32::try_from(waiting.announcing >> 10).unwrap_or(u32::MAX);
        let paid_at = self.paid_at.map_or(now, |at| at.max(now));
        self.paid_at = Some((paid_at + PRICE.saturating_mul(kibibytes)).min(now + AHEAD_MAX));
        Some((waiting.peer, self.taken(waiting)))
    }

    /// The next input of a connection, without waiting: another one must follow it now.
    pub(super) fn next_of(&mut self, peer: P) -> Option<Input> {
        self.counts.get(&peer)?;
        let queues = [&mut self.known, &mut self.strangers];
        let waiting = queues.into_iter().find_map(|queue| {
            let place = queue.iter().position(|waiting| waiting.peer == peer)?;
            queue.remove(place)
        })?;
        Some(self.taken(waiting))
    }

    /// Whether something of the connection waits.
    pub(super) fn has(&self, peer: P) -> bool {
        self.counts.contains_key(&peer)
    }

    /// Whether something is left at the end of a turn whose time has come. Otherwise an alarm is set.
    pub(super) fn end_turn(&mut self, now: Instant) -> bool {
        let (is_due, waits) = (self.is_due(now), !self.counts.is_empty());
        self.due_at = self.paid_at.and_then(|at| at.checked_sub(BURST)).filter(|_| waits && !is_due);
        is_due
    }

    /// When the next announcement may be handled.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Whether something waits whose time has come.
    fn is_due(&self, now: Instant) -> bool {
        let has_time = self.paid_at.is_none_or(|at| at <= now + BURST);
        !self.ends.is_empty() || has_time && !self.counts.is_empty()
    }

    fn taken(&mut self, Waiting { peer, input, .. }: Waiting<P>) -> Input {
        self.bytes -= bytes_of(&input);
        if let Some(count) = self.counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
        input
    }
}

/// The bytes of the offers in an input. Few are not counted.
fn announcing(input: &Input) -> usize {
    match input {
        Input::Frames(frames) if bytes_of(input) > LARGE_BYTES => frame::announcing_bytes(frames),
        _ => 0,
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

/// The time that each KiB of offers is spread over, some 70 methods: a few times what it takes.
const PRICE: Duration = Duration::from_micros(250);

/// As much may be announced at once: some dozens of the largest introductions, or those of hundreds of usual workers.
const BURST: Duration = Duration::from_millis(500);

/// The longest debt. One BATCH may not stop all announcements for longer.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// The most bytes that wait before further inputs are refused.
const BYTES_MAX: usize = 32 << 20;

/// The most announcements of strangers that wait: a second of work, so that none of them has given up by then.
const STRANGERS_MAX: usize = 64;

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
        matches!(later.admit(peer, input, || true), Admitted::Later)
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
        assert!(!later.has(1) && later.bytes == 0 && later.counts.is_empty());
    }

    #[test]
    fn ends_come_first_and_announcements_once_the_earlier_ones_had_their_time() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut handled = |peer| {
            assert!(waits(&mut later, peer, frames(&ready(4_096))));
            later.next(now).is_some()
        };
        let count = (0..).take_while(|peer| handled(*peer)).count();
        assert!((20..60).contains(&count), "{count} at once");
        assert!(!later.end_turn(now));
        let due_at = later.due_at().expect("one waits");
        assert!(due_at > now && due_at < now + BURST / 10, "{:?}", due_at - now);
        later.admit_end(1_000);
        assert_eq!((later.end_turn(now), later.due_at()), (true, None));
        assert!(matches!(later.next(now), Some((1_000, Input::Gone))) && later.next(now).is_none());
        assert!(matches!(later.next(due_at), Some((_, Input::Frames(_)))));
        assert_eq!((later.end_turn(due_at), later.due_at()), (false, None));
    }

    #[test]
    fn small_announcements_take_no_time_from_large_ones() {
        let (mut later, now) = (Later::new(), Instant::now());
        (0..10_000).for_each(|peer| assert!(!waits(&mut later, peer, frames(&ready(1)))));
        assert!(waits(&mut later, 1, frames(&ready(1_000))) && later.next(now).is_some());
    }

    #[test]
    fn strangers_are_refused_while_many_wait_and_take_turns_with_known_peers() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut admit = |peer, is_known| later.admit(peer, frames(&ready(100)), || is_known);
        (0..STRANGERS_MAX as u32).for_each(|peer| assert!(matches!(admit(peer, false), Admitted::Later)));
        assert!(matches!(admit(1_000, false), Admitted::Refused));
        assert!((1_000..1_500).all(|peer| matches!(admit(peer, true), Admitted::Later)));
        assert!(matches!(later.admit(2_000, frames(&Message::Heartbeat), || false), Admitted::Now(_)));
        let order: Vec<_> = from_fn(|| later.next(now)).map(|(peer, _)| peer < 1_000).take(8).collect();
        assert_eq!(order, [true, false].repeat(4));
        assert!(matches!(later.next_of(1_400), Some(Input::Frames(_))) && later.next_of(1_400).is_none());
    }

    #[test]
    fn bytes_that_wait_are_bounded() {
        let mut later = Later::new();
        let count = (0..).take_while(|peer| waits(&mut later, *peer, frames(&ready(4_096)))).count();
        assert!(later.bytes > BYTES_MAX && later.bytes < BYTES_MAX + (64 << 10), "{count}");
    }
}
