//! Byte windows: no more is in transit to a peer than it has said it takes at once (`PROTOCOL.md` §9).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{
    fault::{Fault, planted},
    frame::{Inbound, window_bytes},
    hold::Receipt,
    message::{CallId, Message},
    outbox::BATCHED_PAYLOAD_BYTES_MAX,
};

/// The default of what may be under way to a peer. More is faster where the network's bandwidth times its delay is more;
/// less lets small messages wait shorter behind large ones.
pub(crate) const WINDOW_BYTES: u64 = 2 << 20;

/// The largest window that is believed of a peer, and what one that announces none gets.
pub(crate) const WINDOW_BYTES_MAX: u64 = 64 << 20;

/// A window as it was announced, within what is believed.
fn bounded(size: u64) -> u64 {
    match size {
        0 => WINDOW_BYTES_MAX,
        _ => size.min(WINDOW_BYTES_MAX),
    }
}

/// Payloads up to this size leave whatever the window says: they are what others wait for behind large ones, and as
/// many of them as there are credits are little.
pub(crate) const SMALL_PAYLOAD_BYTES: usize = BATCHED_PAYLOAD_BYTES_MAX;

/// What a small end of a request counts for at most: its payload, and room for its header.
const SMALL_BYTES_MAX: u64 = SMALL_PAYLOAD_BYTES as u64 + 128;

/// The bytes that have been sent to a peer and are not acknowledged yet. Nothing large follows once they reach
/// its window; so what waits in the transport is the window and one payload at most.
#[derive(Clone, Copy, Debug)]
struct Window {
    size: u64,
    sent: u64,
    acknowledged: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Window {
    pub(crate) fn new(size: u64) -> Self {
        Self { size: bounded(size), sent: 0, acknowledged: 0 }
    }

    /// The peer has announced another size; what is in transit still counts.
    pub(crate) fn resize(&mut self, size: u64) {
        self.size = bounded(size);
    }

    /// Whether the bytes in transit have reached the window.
    pub(crate) fn is_full(&self) -> bool {
        self.in_transit() >= self.size
    }

    fn in_transit(&self) -> u64 {
        self.sent - self.acknowledged
    }

    pub(crate) fn send(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The peer has taken this many bytes since its introduction; `true` if that is more than before.
    pub(crate) fn acknowledge(&mut self, bytes: u64) -> bool {
        let before = self.acknowledged;
        self.acknowledged = bytes.clamp(self.acknowledged, self.sent);
        self.acknowledged > before
    }
}

/// Replies to one caller: those that its window has no room for are held back. Replies to the same call keep their
/// order; small ones to others pass.
#[derive(Debug)]
pub(crate) struct Outflow {
    window: Window,
    held: VecDeque<Message>,
    held_bytes: u64,
    /// Those among the held that end a request.
    held_ends: usize,
    /// How many replies are held for a call.
    calls: BTreeMap<CallId, usize>,
    /// What the largest message that has left counts for.
    largest: u64,
    /// Held replies that are not acknowledged to whoever sent them, the oldest first.
    receipts: VecDeque<Receipt>,
    receipt_bytes: u64,
    /// Since when the peer takes nothing although replies are held for it.
    stalled_since: Instant,
}

impl Outflow {
    pub(crate) fn new(now: Instant, window: u64) -> Self {
        Self {
            window: Window::new(window),
            held: VecDeque::new(),
            held_bytes: 0,
            held_ends: 0,
            calls: BTreeMap::new(),
            largest: 0,
            receipts: VecDeque::new(),
            receipt_bytes: 0,
            stalled_since: now,
        }
    }

    /// The peer has announced another window; what is in transit still counts.
    pub(crate) fn resize(&mut self, window: u64) {
        self.window.resize(window);
    }

    /// The peer has taken this many bytes since its introduction.
    pub(crate) fn acknowledge(&mut self, now: Instant, bytes: u64) {
        if self.window.acknowledge(bytes) {
            self.stalled_since = now;
        }
    }

    /// Whether the bytes in transit have reached the window.
    pub(crate) fn is_full(&self) -> bool {
        self.window.is_full()
    }

    /// Takes a reply to a call. Gives it back when it may leave now; otherwise [`Self::poll`] gives it later.
    pub(crate) fn push(&mut self, now: Instant, call: CallId, message: Message) -> Option<Message> {
        let is_next = !self.calls.contains_key(&call) && (!waits_for_room(&message) || self.held.is_empty());
        if is_next && self.may_leave(&message) {
            self.note_sent(&message);
            return Some(message);
        }
        if self.held.is_empty() {
            self.stalled_since = now;
        }
        *self.calls.entry(call).or_default() += 1;
        self.held_bytes += held_bytes(&message);
        self.held_ends += usize::from(ends_request(&message));
        self.held.push_back(message);
        None
    }

    /// The next reply of those held back that may leave.
    pub(crate) fn poll(&mut self) -> Option<Message> {
        if !self.may_leave(self.held.front()?) {
            return None;
        }
        let message = self.held.pop_front()?;
        self.note_sent(&message);
        self.held_bytes -= held_bytes(&message);
        self.held_ends -= usize::from(ends_request(&message));
        if let Some(call) = message.reply()
            && let Some(count) = self.calls.get_mut(&call)
        {
            *count -= 1;
            if *count == 0 {
                self.calls.remove(&call);
            }
        }
        Some(message)
    }

    /// Keeps the receipt of a reply that is held back.
    pub(crate) fn defer(&mut self, receipt: Receipt) {
        self.receipt_bytes += receipt.bytes;
        self.receipts.push_back(receipt);
    }

    /// The oldest of the receipts that were kept.
    pub(crate) fn poll_receipt(&mut self) -> Option<Receipt> {
        let receipt = self.receipts.pop_front()?;
        self.receipt_bytes -= receipt.bytes;
        Some(receipt)
    }

    /// Whether replies have left whose receipts are kept.
    pub(crate) fn owes_receipts(&self) -> bool {
        self.receipt_bytes > self.held_bytes
    }

    /// Whether the peer asks on and takes no answer: more is held back or in transit than a peer with these credits can
    /// owe that reads its replies. Small ends pass the window, and only who waits for them keeps to the credits.
    pub(crate) fn is_overrun(&self, credits: u32) -> bool {
        let Window { size, .. } = self.window;
        let small = u64::from(credits).saturating_mul(SMALL_BYTES_MAX);
        // Once the window for what is in transit, and once for what has been taken and is not acknowledged yet.
        let owed = size.saturating_mul(2).saturating_add(self.largest).saturating_add(small);
        self.held_ends > credits as usize || self.window.in_transit() > owed
    }

    /// Since when the peer takes nothing, and what the next acknowledgement waits for, in bytes: a quarter of the window
    /// and the message that fills it. `None` while nothing is held back.
    pub(crate) fn stall(&self) -> Option<(Instant, u64)> {
        let expected = (self.window.size.div_ceil(4) + self.largest).min(self.window.in_transit());
        (!self.held.is_empty()).then_some((self.stalled_since, expected))
    }

    /// A message leaves that is never held back here.
    pub(crate) fn note_sent(&mut self, message: &Message) {
        let bytes = window_bytes(message);
        self.window.send(bytes);
        self.largest = self.largest.max(bytes);
    }

    fn may_leave(&self, message: &Message) -> bool {
        !waits_for_room(message) || !self.window.is_full() || planted(Fault::ReplyWindowExceeded)
    }

    /// What is held back takes of this process's memory, in bytes.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The same without what counts in the windows of others, whose receipts are kept.
    pub(crate) fn acknowledged_bytes(&self) -> u64 {
        self.held_bytes.saturating_sub(self.receipt_bytes)
    }

    /// Requests whose end is held back: to the caller, each still uses a credit.
    pub(crate) fn held_ends(&self) -> usize {
        self.held_ends
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// What a message that is held takes of memory: itself, and what it owns.
fn held_bytes(message: &Message) -> u64 {
    size_of::<Message>() as u64 + window_bytes(message)
}

/// Whether a message must wait for room in the window: a partial reply and an introduction always, another one if what it
/// carries is large. There is one small request or end of a request for each credit.
pub(crate) fn waits_for_room(message: &Message) -> bool {
    match message {
        Message::Partial(_) | Message::Ready(_) => true,
        Message::Error(error) => error.payload.bytes.len() + error.detail.len() > SMALL_PAYLOAD_BYTES,
        Message::Request(_) | Message::Final(_) => message.payload_bytes() > SMALL_PAYLOAD_BYTES,
        _ => false,
    }
}

fn ends_request(message: &Message) -> bool {
    !matches!(message, Message::Partial(_))
}

/// What has come from a peer, in bytes, and what of it has been acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intake {
    received: u64,
    taken: u64,
    acknowledged: u64,
}

impl Intake {
    /// A message has come. `false` if the peer had no room for it: it exceeds the window that it was granted.
    pub(crate) fn receive(&mut self, inbound: &Inbound, window: u64) -> bool {
        let had_room = self.received - self.acknowledged < bounded(window);
        self.note_received(inbound.window_bytes);
        had_room || !waits_for_room(&inbound.message)
    }

    /// Bytes have come in a message that cannot be read.
    pub(crate) fn note_received(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Bytes need no room any more. `Some` is what to acknowledge: a quarter of the window has been taken since the last
    /// time, or less of a window that is full.
    pub(crate) fn take(&mut self, bytes: u64, window: u64) -> Option<u64> {
        self.taken = self.taken.saturating_add(bytes).min(self.received);
        let (window, taken) = (bounded(window), self.taken - self.acknowledged);
        let is_full = self.received - self.acknowledged >= window;
        let is_due = bytes != 0 && taken != 0 && (is_full || taken >= window.div_ceil(4));
        is_due.then(|| {
            self.acknowledged = self.taken;
            self.taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        message::{FinalReply, PartialReply, Payload, Peer},
        tests::start,
    };

    const LARGE: usize = SMALL_PAYLOAD_BYTES + 1;

    /// What a reply counts for beside its payload.
    const EMPTY: u64 = 64 + 32;

    /// What a large reply counts for.
    const COST: u64 = LARGE as u64 + EMPTY;

    #[test]
    fn large_replies_are_held_once_the_window_is_full_and_leave_in_order_when_there_is_room() {
        let mut outflow = Outflow::new(start(), COST + 1);
        assert_eq!((push(&mut outflow, 0, LARGE), push(&mut outflow, 1, LARGE)), (true, true));
        assert_eq!((push(&mut outflow, 2, LARGE), push(&mut outflow, 3, LARGE)), (false, false));
        assert_eq!((next(&mut outflow), outflow.held.len()), (None, 2));
        outflow.acknowledge(start(), COST - 1);
        assert_eq!(next(&mut outflow), None);
        outflow.acknowledge(start(), COST);
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(2), None));
        outflow.acknowledge(start(), 3 * COST);
        assert_eq!((next(&mut outflow), outflow.is_empty(), outflow.held_bytes()), (Some(3), true, 0));
        assert!(outflow.calls.is_empty());
    }

    #[test]
    fn small_replies_pass_those_of_other_calls_and_never_those_of_their_own() {
        let mut outflow = Outflow::new(start(), 1);
        assert!(push(&mut outflow, 0, LARGE));
        assert!(!push(&mut outflow, 1, LARGE));
        assert!(!push(&mut outflow, 1, 1), "behind the one before it");
        assert!(push(&mut outflow, 2, SMALL_PAYLOAD_BYTES));
        outflow.acknowledge(start(), u64::MAX);
        assert_eq!((next(&mut outflow), next(&mut outflow), next(&mut outflow)), (Some(1), Some(1), None));
        assert!(push(&mut outflow, 1, 1), "nothing is held any more");
    }

    #[test]
    fn partial_replies_wait_for_the_window_however_small() {
        let mut outflow = Outflow::new(start(), 2 * EMPTY);
        let partial =
            |sequence| Message::Partial(PartialReply { call: CallId(1), sequence, payload: Payload::default() });
        assert!(
            outflow.push(start(), CallId(1), partial(0)).is_some()
                && outflow.push(start(), CallId(1), partial(1)).is_some()
        );
        assert!(outflow.push(start(), CallId(1), partial(2)).is_none() && outflow.poll().is_none());
        assert_eq!((outflow.held.len(), outflow.held_ends()), (1, 0));
        outflow.acknowledge(start(), EMPTY);
        assert_eq!(outflow.poll(), Some(partial(2)));
    }

    #[test]
    fn no_window_holds_nothing_and_one_reply_fits_any_window() {
        let mut unbounded = Outflow::new(start(), 0);
        assert!((0..3).all(|call| push(&mut unbounded, call, 1 << 20)));
        assert!(push(&mut Outflow::new(start(), 1), 7, 1 << 20));
    }

    #[test]
    fn false_acknowledgements_open_no_more_than_the_window() {
        let mut window = Window::new(10);
        window.send(20);
        window.acknowledge(u64::MAX);
        assert!(!window.is_full());
        window.send(10);
        window.acknowledge(3);
        assert!(window.is_full());
    }

    #[test]
    fn sender_that_has_filled_the_window_is_given_room_as_soon_as_there_is_any() {
        let mut intake = Intake::default();
        intake.note_received(1_000);
        assert_eq!(
            (intake.take(10, 1_000), intake.take(249, 1_000), intake.take(1, 1_000)),
            (Some(10), None, Some(260))
        );
        assert_eq!(intake.take(u64::MAX, 1_000), Some(1_000), "more than has come is all that has come");
    }

    #[test]
    fn receipts_are_kept_for_what_is_held_and_owed_for_what_has_left() {
        let mut outflow = Outflow::new(start(), 1);
        assert!(push(&mut outflow, 0, LARGE) && !push(&mut outflow, 1, LARGE) && !push(&mut outflow, 2, LARGE));
        (1..=2).for_each(|peer| outflow.defer(Receipt { from: Peer(peer), bytes: COST }));
        assert!(!outflow.owes_receipts());
        outflow.acknowledge(start(), COST);
        assert_eq!((next(&mut outflow), outflow.owes_receipts()), (Some(1), true));
        assert_eq!(outflow.poll_receipt().map(|receipt| receipt.from), Some(Peer(1)));
        assert!(!outflow.owes_receipts() && outflow.acknowledged_bytes() < COST);
    }

    #[test]
    fn sender_that_has_filled_the_window_is_always_told() {
        for window in [1, 2, 3, 4, 5, 100, 1 << 20] {
            let (mut intake, mut unacknowledged) = (Intake::default(), 0);
            for _ in 0..window.min(1000) {
                unacknowledged += 1;
                intake.note_received(1);
                if intake.take(1, window).is_some() {
                    unacknowledged = 0;
                }
                assert!(unacknowledged < window, "a window of {window} is full, and nobody says that it was taken");
            }
        }
        let largest = WINDOW_BYTES_MAX / 4;
        for window in [0, u64::MAX] {
            let mut intake = Intake::default();
            intake.note_received(largest);
            assert_eq!((intake.take(largest - 1, window), intake.take(1, window)), (None, Some(largest)));
        }
    }

    fn push(outflow: &mut Outflow, call: u64, bytes: usize) -> bool {
        let payload = Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
        let reply = FinalReply { call: CallId(call), partials: 0, payload };
        outflow.push(start(), CallId(call), Message::Final(reply)).is_some()
    }

    fn next(outflow: &mut Outflow) -> Option<u64> {
        Some(outflow.poll()?.reply()?.0)
    }
}
