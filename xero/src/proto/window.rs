//! Byte windows: no more is under way to a peer than it has said it takes at once (`PROTOCOL.md` §9).

use std::collections::{BTreeMap, VecDeque};

use super::{
    fault::{Fault, planted},
    message::{CallId, MESSAGE_WINDOW_BYTES, Message},
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

/// The payload bytes that have been sent to a peer and are not acknowledged yet. Nothing large follows once they reach
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

    /// The peer has announced another size; what is under way still counts.
    pub(crate) fn resize(&mut self, size: u64) {
        self.size = bounded(size);
    }

    /// Whether the bytes under way have reached the window.
    pub(crate) fn is_full(&self) -> bool {
        self.under_way() >= self.size
    }

    fn under_way(&self) -> u64 {
        self.sent - self.acknowledged
    }

    pub(crate) fn send(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The peer has dealt with so many bytes since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        self.acknowledged = bytes.clamp(self.acknowledged, self.sent);
    }
}

/// Replies to one caller: those that its window has no room for are held back. Replies to the same call keep their
/// order; small ones to others pass.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    window: Window,
    held: VecDeque<Message>,
    held_bytes: usize,
    /// Those among the held that end a request.
    held_ends: usize,
    /// How many replies are held for a call.
    calls: BTreeMap<CallId, usize>,
    /// What the largest reply that has left counts for.
    largest: u64,
}

impl Outflow {
    pub(crate) fn new(window: u64) -> Self {
        Self { window: Window::new(window), ..Self::default() }
    }

    /// The peer has announced another window; what is under way still counts.
    pub(crate) fn resize(&mut self, window: u64) {
        self.window.resize(window);
    }

    /// The peer has dealt with so many bytes since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        self.window.acknowledge(bytes);
    }

    /// Whether the bytes under way have reached the window.
    pub(crate) fn is_full(&self) -> bool {
        self.window.is_full()
    }

    /// Takes a reply to a call. Gives it back when it may leave now; otherwise [`Self::poll`] gives it later.
    pub(crate) fn push(&mut self, call: CallId, message: Message) -> Option<Message> {
        let is_next = !self.calls.contains_key(&call) && (!waits_for_room(&message) || self.held.is_empty());
        if is_next && self.may_leave(&message) {
            self.note_sent(&message);
            return Some(message);
        }
        *self.calls.entry(call).or_default() += 1;
        self.held_bytes += message.payload_bytes();
        self.held_ends += usize::from(ends_request(&message));
        self.held.push_back(message.detached());
        None
    }

    /// The next reply of those held back that may leave.
    pub(crate) fn poll(&mut self) -> Option<Message> {
        if !self.may_leave(self.held.front()?) {
            return None;
        }
        let message = self.held.pop_front()?;
        self.note_sent(&message);
        self.held_bytes -= message.payload_bytes();
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

    /// Whether the peer asks on and takes no answer: more is held back or under way than one with so many credits can owe
    /// that takes what comes. Small ends pass the window, and only who waits for them keeps to the credits.
    pub(crate) fn is_overrun(&self, credits: u32) -> bool {
        let Window { size, .. } = self.window;
        let small = u64::from(credits).saturating_mul(SMALL_PAYLOAD_BYTES as u64 + MESSAGE_WINDOW_BYTES);
        // Once the window for what may be under way, and once for what has been taken and is not acknowledged yet.
        let owed = size.saturating_mul(2).saturating_add(self.largest).saturating_add(small);
        self.held_ends > credits as usize || size != 0 && self.window.under_way() > owed
    }

    /// A message leaves that is never held back here.
    pub(crate) fn note_sent(&mut self, message: &Message) {
        let bytes = message.window_bytes();
        self.window.send(bytes);
        self.largest = self.largest.max(bytes);
    }

    fn may_leave(&self, message: &Message) -> bool {
        !waits_for_room(message) || !self.window.is_full() || planted(Fault::ReplyWindowExceeded)
    }

    /// Payload bytes that are held back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Replies that are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Requests whose end is held back: to the caller, each still uses a credit.
    pub(crate) fn held_ends(&self) -> usize {
        self.held_ends
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Whether a message must wait for room in the window: a partial reply always, another one if its payload is large. There
/// is one small request or end of a request for each credit.
pub(crate) fn waits_for_room(message: &Message) -> bool {
    match message {
        Message::Partial(_) => true,
        Message::Request(_) | Message::Final(_) | Message::Error(_) => message.payload_bytes() > SMALL_PAYLOAD_BYTES,
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
    pub(crate) fn receive(&mut self, message: &Message, window: u64) -> bool {
        let had_room = self.received - self.acknowledged < bounded(window);
        self.note_received(message.window_bytes());
        had_room || !waits_for_room(message)
    }

    /// Bytes have come in a message that cannot be read.
    pub(crate) fn note_received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// Bytes need no room any more. `Some` is what to acknowledge: a quarter of the window has been taken since the last
    /// time.
    pub(crate) fn take(&mut self, bytes: u64, window: u64) -> Option<u64> {
        self.taken += bytes;
        let is_due = bytes != 0 && self.taken - self.acknowledged >= bounded(window).div_ceil(4);
        is_due.then(|| {
            self.acknowledged = self.taken;
            self.taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::{FinalReply, PartialReply, Payload};

    const LARGE: usize = SMALL_PAYLOAD_BYTES + 1;

    /// What a large reply counts for.
    const COST: u64 = LARGE as u64 + MESSAGE_WINDOW_BYTES;

    #[test]
    fn large_replies_are_held_once_the_window_is_full_and_leave_in_order_when_there_is_room() {
        let mut outflow = Outflow::new(COST + 1);
        assert_eq!((push(&mut outflow, 0, LARGE), push(&mut outflow, 1, LARGE)), (true, true));
        assert_eq!((push(&mut outflow, 2, LARGE), push(&mut outflow, 3, LARGE)), (false, false));
        assert_eq!((next(&mut outflow), outflow.held_bytes()), (None, 2 * LARGE));
        outflow.acknowledge(COST - 1);
        assert_eq!(next(&mut outflow), None);
        outflow.acknowledge(COST);
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(2), None));
        outflow.acknowledge(3 * COST);
        assert_eq!((next(&mut outflow), outflow.is_empty(), outflow.held_bytes()), (Some(3), true, 0));
        assert!(outflow.calls.is_empty());
    }

    #[test]
    fn small_replies_pass_those_of_other_calls_and_never_those_of_their_own() {
        let mut outflow = Outflow::new(1);
        assert!(push(&mut outflow, 0, LARGE));
        assert!(!push(&mut outflow, 1, LARGE));
        assert!(!push(&mut outflow, 1, 1), "behind the one before it");
        assert!(push(&mut outflow, 2, SMALL_PAYLOAD_BYTES));
        outflow.acknowledge(u64::MAX);
        assert_eq!((next(&mut outflow), next(&mut outflow), next(&mut outflow)), (Some(1), Some(1), None));
        assert!(push(&mut outflow, 1, 1), "nothing is held any more");
    }

    #[test]
    fn partial_replies_wait_for_the_window_however_small() {
        let mut outflow = Outflow::new(2 * MESSAGE_WINDOW_BYTES);
        let partial =
            |sequence| Message::Partial(PartialReply { call: CallId(1), sequence, payload: Payload::default() });
        assert!(outflow.push(CallId(1), partial(0)).is_some() && outflow.push(CallId(1), partial(1)).is_some());
        assert!(outflow.push(CallId(1), partial(2)).is_none() && outflow.poll().is_none());
        assert_eq!((outflow.held(), outflow.held_ends()), (1, 0));
        outflow.acknowledge(MESSAGE_WINDOW_BYTES);
        assert_eq!(outflow.poll(), Some(partial(2)));
    }

    #[test]
    fn no_window_holds_nothing_and_one_reply_fits_any_window() {
        let mut unbounded = Outflow::new(0);
        assert!((0..3).all(|call| push(&mut unbounded, call, 1 << 20)));
        assert!(push(&mut Outflow::new(1), 7, 1 << 20));
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
    fn sender_that_has_filled_the_window_is_always_told() {
        for window in [1, 2, 3, 4, 5, 100, 1 << 20] {
            let (mut intake, mut unacknowledged) = (Intake::default(), 0);
            for _ in 0..window.min(1000) {
                unacknowledged += 1;
                if intake.take(1, window).is_some() {
                    unacknowledged = 0;
                }
                assert!(unacknowledged < window, "a window of {window} is full, and nobody says that it was taken");
            }
        }
        let largest = WINDOW_BYTES_MAX / 4;
        for window in [0, u64::MAX] {
            let mut intake = Intake::default();
            assert_eq!((intake.take(largest - 1, window), intake.take(1, window)), (None, Some(largest)));
        }
    }

    fn push(outflow: &mut Outflow, call: u64, bytes: usize) -> bool {
        let payload = Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
        let reply = FinalReply { call: CallId(call), partials: 0, payload };
        outflow.push(CallId(call), Message::Final(reply)).is_some()
    }

    fn next(outflow: &mut Outflow) -> Option<u64> {
        Some(outflow.poll()?.reply()?.0)
    }
}
