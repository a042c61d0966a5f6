//! Inputs that take up to thousands of times what a small message does: announcements of offers, and the ends of
//! connections with large ones. They wait until the others of their turn have been handled.
//!
//! Only as many follow as fit into another turn. So a call waits for few of them on each side, however many there are.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::machine::Input;
use crate::proto::frame::{self, Limits};

/// See the module.
#[derive(Debug)]
pub(super) struct Later<P> {
    known: Line<P>,
    strangers: Line<P>,
    /// The connections of which something waits: none of their inputs overtakes another.
    places: BTreeMap<P, Place>,
    ends: VecDeque<P>,
    is_turn_of_announcements: bool,
    /// When what was handled so far will have had its share of the time.
    paid_at: Option<Instant>,
    /// When to look again.
    due_at: Option<Instant>,
}

/// The inputs of peers that have registered, or of all others.
#[derive(Debug)]
struct Line<P> {
    waiting: VecDeque<Waiting<P>>,
    bytes: usize,
    /// The bytes of the offers among these.
    announcing: usize,
    /// The bytes of offers that were handled while the other line may have waited.
    spent: u64,
}

#[derive(Debug)]
struct Waiting<P> {
    peer: P,
    input: Input,
    announcing: usize,
}

/// Where the inputs of a connection wait, and how many.
#[derive(Clone, Copy, Debug)]
struct Place {
    is_known: bool,
    count: usize,
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
            known: Line::default(),
            strangers: Line::default(),
            places: BTreeMap::new(),
            ends: VecDeque::new(),
            is_turn_of_announcements: false,
            paid_at: None,
            due_at: None,
        }
    }

    /// Keeps an input that announces much, or follows one of its connection that waits. What a registered peer announces is
    /// handled at once if too much of others waits.
    pub(super) fn admit(
        &mut self,
        peer: P,
        input: Input,
        limits: &Limits,
        is_known: impl FnOnce() -> bool,
    ) -> Admitted {
        let (announcing, place) = (announcing(&input, limits), self.places.get(&peer).copied());
        if announcing <= LARGE_BYTES && place.is_none() {
            return Admitted::Now(input);
        }
        let is_known = place.map_or_else(is_known, |place| place.is_known);
        let (line, other) = match is_known {
            true => (&mut self.known, &self.strangers),
            false => (&mut self.strangers, &self.known),
        };
        if line.announcing + announcing > ANNOUNCING_MAX || line.bytes + bytes_of(&input) > BYTES_MAX {
            return if is_known && place.is_none() { Admitted::Now(input) } else { Admitted::Refused };
        }
        if line.waiting.is_empty() {
            line.spent = line.spent.max(other.spent);
        }
        line.bytes += bytes_of(&input);
        line.announcing += announcing;
        line.waiting.push_back(Waiting { peer, input, announcing });
        self.places.entry(peer).or_insert(Place { is_known, count: 0 }).count += 1;
        Admitted::Later
    }

    /// Keeps the end of a connection, after which nothing of it follows.
    pub(super) fn admit_end(&mut self, peer: P) {
        self.ends.push_back(peer);
    }

    /// The next input whose time has come: ends and announcements in turn.
    pub(super) fn next(&mut self, now: Instant) -> Option<(P, Input)> {
        let is_due = self.has_due(now);
        if (!is_due || !self.is_turn_of_announcements)
            && let Some(peer) = self.ends.pop_front()
        {
            self.is_turn_of_announcements = true;
            return Some((peer, Input::Gone));
        }
        self.is_turn_of_announcements = false;
        if !is_due {
            return None;
        }
        // By what they take, not by their number: a large one of a stranger may be followed by many small ones of others.
        let (first, second) = match self.strangers.spent <= self.known.spent {
            true => (&mut self.strangers, &mut self.known),
            false => (&mut self.known, &mut self.strangers),
        };
        let waiting = first.take(0).or_else(|| second.take(0))?;
        let kibibytes = u32::try_from(waiting.announcing >> 10).unwrap_or(u32::MAX);
        let paid_at = self.paid_at.map_or(now, |at| at.max(now));
        self.paid_at = Some((paid_at + PRICE.saturating_mul(kibibytes)).min(now + AHEAD_MAX));
        Some((waiting.peer, self.taken(waiting)))
    }

    /// The next input of a connection, without waiting: another one must follow it now.
    pub(super) fn next_of(&mut self, peer: P) -> Option<Input> {
        let line = if self.places.get(&peer)?.is_known { &mut self.known } else { &mut self.strangers };
        let waiting = line.take(line.waiting.iter().position(|waiting| waiting.peer == peer)?)?;
        Some(self.taken(waiting))
    }

    /// Whether something of the connection waits.
    pub(super) fn has(&self, peer: P) -> bool {
        self.places.contains_key(&peer)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.ends.is_empty()
    }

    /// Whether something is left at the end of a turn whose time has come. Otherwise an alarm is set.
    pub(super) fn end_turn(&mut self, now: Instant) -> bool {
        let is_due = !self.ends.is_empty() || self.has_due(now);
        self.due_at = self.paid_at.and_then(|at| at.checked_sub(BURST)).filter(|_| !is_due);
        is_due
    }

    /// When the next announcement may be handled.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at.filter(|_| !self.places.is_empty())
    }

    /// Whether an announcement waits whose time has come.
    fn has_due(&self, now: Instant) -> bool {
        !self.places.is_empty() && self.paid_at.is_none_or(|at| at <= now + BURST)
    }

    fn taken(&mut self, Waiting { peer, input, .. }: Waiting<P>) -> Input {
        if let Some(place) = self.places.get_mut(&peer) {
            place.count -= 1;
            if place.count == 0 {
                self.places.remove(&peer);
            }
        }
        input
    }
}

impl<P> Line<P> {
    fn take(&mut self, place: usize) -> Option<Waiting<P>> {
        let waiting = self.waiting.remove(place)?;
        self.bytes -= bytes_of(&waiting.input);
        self.announcing -= waiting.announcing;
        self.spent += waiting.announcing as u64;
        Some(waiting)
    }
}

impl<P> Default for Line<P> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, announcing: 0, spent: 0 }
    }
}

/// The bytes of the offers in an input. Few are not counted.
fn announcing(input: &Input, limits: &Limits) -> usize {
    match input {
        Input::Frames(frames) if bytes_of(input) > LARGE_BYTES => frame::announcing_bytes(frames, limits),
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

/// The most offers that wait in a line, in bytes: a second of work, or two if the other line is as long. None of their
/// peers has given up by then.
const ANNOUNCING_MAX: usize = 4 << 20;

/// The most bytes that wait in a line, with what came in the same messages.
const BYTES_MAX: usize = 16 << 20;

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
        matches!(later.admit(peer, input, &Limits::default(), || true), Admitted::Later)
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
        assert!(!later.has(1) && later.places.is_empty());
        assert_eq!((later.known.bytes, later.known.announcing), (0, 0));
    }

    #[test]
    fn stranger_that_registers_meanwhile_keeps_its_order() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut admit = |peer, message: &Message, is_known| {
            assert!(matches!(later.admit(peer, frames(message), &Limits::default(), || is_known), Admitted::Later));
        };
        admit(1, &ready(100), false);
        admit(1, &ready(200), false);
        admit(2, &ready(300), true);
        admit(1, &ready(400), true);
        let sizes: Vec<_> = from_fn(|| later.next(now)).map(|(peer, input)| (peer, bytes_of(&input))).collect();
        let own: Vec<_> = sizes.iter().filter(|(peer, _)| *peer == 1).map(|(_, size)| *size).collect();
        assert!(own.len() == 3 && own.is_sorted(), "{sizes:?}");
    }

    #[test]
    fn announcements_come_once_the_earlier_ones_had_their_time_and_in_turn_with_ends() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut handled = |peer| {
            assert!(waits(&mut later, peer, frames(&ready(2_000))));
            later.next(now).is_some()
        };
        let count = (0..).take_while(|peer| handled(*peer)).count();
        assert!((40..120).contains(&count), "{count} at once");
        assert!(!later.end_turn(now));
        let due_at = later.due_at().expect("one waits");
        assert!(due_at > now && due_at < now + BURST / 10, "{:?}", due_at - now);
        later.admit_end(1_000);
        assert_eq!((later.end_turn(now), later.due_at()), (true, None));
        assert!(matches!(later.next(now), Some((1_000, Input::Gone))) && later.next(now).is_none());
        (1_001..1_003).for_each(|peer| later.admit_end(peer));
        let order: Vec<_> = from_fn(|| later.next(due_at)).map(|(_, input)| matches!(input, Input::Gone)).collect();
        assert_eq!(order, [true, false, true]);
        assert_eq!((later.end_turn(due_at), later.due_at()), (false, None));
    }

    #[test]
    fn small_announcements_take_no_time_from_large_ones() {
        let (mut later, now) = (Later::new(), Instant::now());
        (0..10_000).for_each(|peer| assert!(!waits(&mut later, peer, frames(&ready(1)))));
        assert!(waits(&mut later, 1, frames(&ready(1_000))) && later.next(now).is_some());
    }

    #[test]
    fn strangers_are_refused_while_much_waits_and_take_turns_with_known_peers() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut admit =
            |peer, methods, is_known| later.admit(peer, frames(&ready(methods)), &Limits::default(), || is_known);
        let waits = |admitted| matches!(admitted, Admitted::Later);
        let count = (0..1_000).take_while(|peer| waits(admit(*peer, 2_000, false))).count();
        assert!((64..200).contains(&count), "{count} wait");
        assert!(matches!(admit(1_000, 2_000, false), Admitted::Refused));
        assert!((1_000..1_040).all(|peer| waits(admit(peer, 2_000, true))));
        assert!((1_040..2_000).any(|peer| matches!(admit(peer, 2_000, true), Admitted::Now(_))));
        assert!(matches!(admit(1_000, 2_000, true), Admitted::Refused), "it would overtake");
        assert!(matches!(admit(2_000, 1, false), Admitted::Now(_)));
        let order: Vec<_> = from_fn(|| later.next(now)).map(|(peer, _)| peer < 1_000).take(8).collect();
        assert_eq!(order, [true, false].repeat(4));
        assert!(matches!(later.next_of(1_030), Some(Input::Frames(_))) && later.next_of(1_030).is_none());
    }

    #[test]
    fn large_announcement_of_a_stranger_is_followed_by_as_much_of_registered_peers() {
        let (mut later, now) = (Later::new(), Instant::now());
        let mut admit = |peer, methods, is_known| {
            let admitted = later.admit(peer, frames(&ready(methods)), &Limits::default(), || is_known);
            assert!(matches!(admitted, Admitted::Later));
        };
        (0..3).for_each(|peer| admit(peer, 1_000, false));
        (10..15).for_each(|peer| admit(peer, 100, true));
        let order: Vec<_> = from_fn(|| later.next(now)).map(|(peer, _)| peer).collect();
        assert_eq!(order, [0, 10, 11, 12, 13, 14, 1, 2]);
        // Whoever had the time alone does not pay for it later.
        let mut admit = |peer, is_known| {
            let admitted = later.admit(peer, frames(&ready(100)), &Limits::default(), || is_known);
            assert!(matches!(admitted, Admitted::Later));
        };
        (0..3).for_each(|peer| admit(peer, false));
        (10..13).for_each(|peer| admit(peer, true));
        let order: Vec<_> = from_fn(|| later.next(now)).map(|(peer, _)| peer < 10).collect();
        assert_eq!(order, [true, false].repeat(3));
    }

    #[test]
    fn hundreds_of_usual_workers_wait_and_a_batch_of_padding_does_not() {
        let mut later = Later::new();
        assert!((0..1_000).all(|peer| {
            let admitted = later.admit(peer, frames(&ready(140)), &Limits::default(), || false);
            matches!(admitted, Admitted::Later)
        }));
        let limits = Limits { batch_messages_max: 10, header_bytes_max: 4_096, ..Limits::default() };
        let many = Input::Frames(encode_batch(&vec![ready(100); 11]));
        assert_eq!(announcing(&many, &limits), 0, "the core refuses it");
        let oversized = Input::Frames(encode_batch(&[ready(1_000), Message::Heartbeat]));
        assert_eq!(announcing(&oversized, &limits), 0, "the core refuses its message");
        assert!(announcing(&oversized, &Limits::default()) > 4_096);
    }
}
