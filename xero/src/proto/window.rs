//! Byte windows: the bytes in transit to a peer never exceed what it grants (`PROTOCOL.md` §9).

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    fault::{Fault, planted},
    frame::{Inbound, metadata_bytes, window_bytes},
    hold::{Receipt, Receipts},
    liveness::patience,
    message::{CallId, Message, Metadata, Peer},
    outbox::BATCHED_PAYLOAD_BYTES_MAX,
};

/// The default window, in bytes.
///
/// More is faster where the product of bandwidth and delay is larger; less shortens the wait of small messages behind
/// large ones.
pub(crate) const WINDOW_BYTES: u64 = 2 << 20;

/// The largest window that is believed of a peer; also the window of a peer that announces none.
pub(crate) const WINDOW_BYTES_MAX: u64 = 64 << 20;

/// An announced window, within the largest one.
fn bounded(size: u64) -> u64 {
    match size {
        0 => WINDOW_BYTES_MAX,
        _ => size.min(WINDOW_BYTES_MAX),
    }
}

/// Payloads up to this size leave whatever the window says; a request's metadata counts as well.
///
/// They are the messages that would wait behind large ones, and one for each credit is little.
pub(crate) const SMALL_PAYLOAD_BYTES: usize = BATCHED_PAYLOAD_BYTES_MAX;

/// The bytes of small requests that may be in transit beyond the window and one large message.
///
/// A worker that reads acknowledges long before. This is room for 1,024 of the largest ones, the usual credits at a
/// broker, several times over.
pub(crate) const SMALL_REQUESTS_BYTES_MAX: u64 = 16 << 20;

/// The most that a small end of a request counts: its payload, and room for its header.
const SMALL_BYTES_MAX: u64 = SMALL_PAYLOAD_BYTES as u64 + 128;

/// The unacknowledged bytes sent to a peer.
///
/// Nothing large follows once they reach its window; so at most the window and one payload wait in the transport.
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

    /// Handles another announced size; bytes in transit still count.
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

    /// Handles the total that the peer has taken since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        let most = if planted(Fault::AckBelieved) { u64::MAX } else { self.sent };
        self.acknowledged = bytes.clamp(self.acknowledged, most);
    }
}

/// Replies to one caller; those beyond its window are held back.
///
/// Replies to the same call keep their order; small ones to others pass.
#[derive(Debug)]
pub(crate) struct Outflow {
    window: Window,
    /// The memory of `held` replies.
    held_bytes: u64,
    /// The held replies that end a request.
    held_ends: usize,
    /// The memory of `returned` errors.
    returned_bytes: u64,
    /// The largest count of a message that has left.
    largest: u64,
    /// The largest message of those that may still be in transit: its count, and the total with it.
    in_transit: (u64, u64),
    /// The sum of the `receipts`.
    receipt_bytes: u64,
    /// What the peer should take next; `None` until [`Self::stall`] asks.
    wait: Option<Wait>,
    /// What the peer should take in time, because workers wait for it.
    lag: Option<Lag>,
    /// Most peers keep up: then there is nothing here, and the rest is small.
    kept: Option<Box<Kept>>,
}

/// What is kept for a peer that does not keep up.
#[derive(Debug, Default)]
struct Kept {
    held: VecDeque<Message>,
    /// The number of held replies for each call.
    calls: BTreeMap<CallId, usize>,
    /// Errors of calls that no worker offers any more; they wait until the peer has been sent that offer.
    returned: VecDeque<Message>,
    /// Receipts of held replies, which their senders still wait for, the oldest first.
    receipts: Receipts,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.returned.is_empty() && self.receipts.is_empty()
    }

    /// Counts a held reply less.
    fn uncount(&mut self, message: &Message) {
        if let Some(call) = message.reply()
            && let Some(count) = self.calls.get_mut(&call)
        {
            *count -= 1;
            if *count == 0 {
                self.calls.remove(&call);
            }
        }
    }
}

/// A wait for a peer to take some of what is on its way.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    /// The acknowledged total that ends it.
    goal: u64,
}

/// A wait of others for a peer, until it has taken half of what was held and in transit when they began to wait.
#[derive(Clone, Copy, Debug)]
struct Lag {
    since: Instant,
    /// The acknowledged total at that time.
    before: u64,
    /// The acknowledged total that ends it.
    goal: u64,
}

impl Outflow {
    pub(crate) fn new(window: u64) -> Self {
        Self {
            window: Window::new(window),
            held_bytes: 0,
            held_ends: 0,
            returned_bytes: 0,
            largest: 0,
            in_transit: (0, 0),
            receipt_bytes: 0,
            wait: None,
            lag: None,
            kept: None,
        }
    }

    /// Handles another announced window; bytes in transit still count.
    pub(crate) fn resize(&mut self, window: u64) {
        self.window.resize(window);
    }

    /// Handles the total that the peer has taken since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        self.window.acknowledge(bytes);
        // A few bytes now and then are no progress: others wait for the rest.
        self.wait = self.wait.filter(|wait| self.window.acknowledged < wait.goal);
    }

    /// Whether the bytes in transit have reached the window.
    pub(crate) fn is_full(&self) -> bool {
        self.window.is_full()
    }

    /// Whether no request may follow, however small: the peer acknowledges nothing.
    pub(crate) fn is_clogged(&self) -> bool {
        let most = self.window.size + self.largest_in_transit() + SMALL_REQUESTS_BYTES_MAX;
        self.window.in_transit() >= most
    }

    /// Sends a reply to a call: returns it if it may leave now, else keeps it for [`Self::poll`].
    pub(crate) fn push(&mut self, call: CallId, message: Message) -> Option<Message> {
        let is_next = !self.holds(call) && (!waits_for_room(&message) || self.next_held().is_none());
        if is_next && self.may_leave(&message) {
            self.note_sent(&message);
            return Some(message);
        }
        self.held_bytes += held_bytes(&message);
        self.held_ends += usize::from(ends_request(&message));
        let kept = self.kept.get_or_insert_default();
        *kept.calls.entry(call).or_default() += 1;
        kept.held.push_back(message);
        None
    }

    /// Gives the next held reply that may leave.
    pub(crate) fn poll(&mut self) -> Option<Message> {
        self.next_leaving()?;
        let message = self.take_kept(|kept| {
            let message = kept.held.pop_front()?;
            kept.uncount(&message);
            Some(message)
        })?;
        self.held_bytes -= held_bytes(&message);
        self.note_kept_sent(&message);
        Some(message)
    }

    /// Whether replies of the call are held.
    pub(crate) fn holds(&self, call: CallId) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.calls.contains_key(&call))
    }

    /// Holds an error until the peer has been sent the current offer.
    pub(crate) fn hold_returned(&mut self, message: Message) {
        self.returned_bytes += held_bytes(&message);
        self.held_ends += usize::from(ends_request(&message));
        self.kept.get_or_insert_default().returned.push_back(message);
    }

    /// Gives the next error that has waited for the offer.
    pub(crate) fn poll_returned(&mut self) -> Option<Message> {
        let message = self.take_kept(|kept| kept.returned.pop_front())?;
        self.returned_bytes -= held_bytes(&message);
        self.note_kept_sent(&message);
        Some(message)
    }

    /// The reply that [`Self::poll`] would give.
    pub(crate) fn next_leaving(&self) -> Option<&Message> {
        self.next_held().filter(|message| self.may_leave(message))
    }

    /// Keeps the receipt of a reply that is held back, or on its way.
    pub(crate) fn defer(&mut self, receipt: Receipt) {
        self.receipt_bytes += receipt.bytes;
        self.kept.get_or_insert_default().receipts.add(receipt);
    }

    /// Gives as much of the oldest kept receipt as the peer has taken, or as there is room to hold.
    pub(crate) fn poll_receipt(&mut self, room: u64) -> Option<Receipt> {
        let taken = self.receipt_bytes.saturating_sub(self.counted_bytes());
        let receipt = self.take_kept(|kept| kept.receipts.take_part(taken.max(room)))?;
        self.receipt_bytes -= receipt.bytes;
        Some(receipt)
    }

    /// Gives all kept receipts.
    pub(crate) fn take_receipts(&mut self) -> Vec<Receipt> {
        self.receipt_bytes = 0;
        self.take_kept(|kept| Some(kept.receipts.take_all())).unwrap_or_default()
    }

    /// Forgets the kept receipts of one sender.
    pub(crate) fn forget_receipts(&mut self, from: Peer) {
        self.receipt_bytes -= self.take_kept(|kept| Some(kept.receipts.take_of(from))).unwrap_or_default();
    }

    /// Whether receipts are kept.
    pub(crate) fn keeps_receipts(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.receipts.is_empty())
    }

    /// Whether the peer keeps sending requests without reading replies.
    ///
    /// More is held back or in transit than a peer with these credits can owe if it reads its replies. Small ends pass
    /// the window, and only a peer that waits for them keeps to the credits.
    pub(crate) fn is_overrun(&self, credits: u32, peer_bytes_max: u64) -> bool {
        let Window { size, .. } = self.window;
        let small = u64::from(credits).saturating_mul(SMALL_BYTES_MAX);
        // The window for bytes in transit, and at least a quarter of it for bytes taken but not acknowledged yet.
        let taken = size.min(peer_bytes_max).max(size.div_ceil(4));
        let owed = size.saturating_add(taken).saturating_add(self.largest).saturating_add(small);
        self.held_ends > credits as usize || self.window.in_transit() > owed
    }

    /// Since when the peer has taken less than it should, and the bytes that it should take. `None` while nothing is on
    /// its way. The wait for the next bytes begins when this is first asked.
    pub(crate) fn stall(&mut self, now: Instant) -> Option<(Instant, u64)> {
        let expected = self.expected();
        if expected == 0 {
            return None;
        }
        let goal = self.window.acknowledged + expected;
        let wait = self.wait.get_or_insert(Wait { since: now, goal });
        Some((wait.since, expected))
    }

    /// Since when the peer has taken less than it should, as far as anybody has asked.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.wait.map(|wait| wait.since)
    }

    /// When it will have taken less than it should for this time and the time that those bytes need, as far as anybody has
    /// asked.
    pub(crate) fn stalls_at(&self, time: Duration) -> Option<Instant> {
        let expected = usize::try_from(self.expected()).unwrap_or(usize::MAX);
        self.stalled_since().map(|since| since + time + patience(expected))
    }

    /// Notes whether others wait for the peer. It lags until it has taken half of what was held and in transit when they
    /// began to wait: a few bytes now and then do not end that.
    pub(crate) fn note_lag(&mut self, now: Instant) {
        let (counted, before) = (self.counted_bytes(), self.window.acknowledged);
        self.lag = self.lag.filter(|lag| before < lag.goal && counted > 0);
        if self.keeps_receipts() {
            self.lag.get_or_insert(Lag { since: now, before, goal: before + counted / 2 });
        }
    }

    /// When others have waited for this time, and as long as the slowest link needs for what the peer has taken meanwhile
    /// and for the largest message in transit.
    pub(crate) fn lags_at(&self, time: Duration) -> Option<Instant> {
        let Lag { since, before, .. } = self.lag?;
        let taken = self.window.acknowledged - before;
        let bytes = usize::try_from(taken + self.largest_in_transit()).unwrap_or(usize::MAX);
        Some(since + time + patience(bytes))
    }

    /// The bytes of an acknowledgement by a peer that reads: a quarter of the window, and the message that fills it.
    fn expected(&self) -> u64 {
        (self.window.size.div_ceil(4) + self.largest).min(self.window.in_transit())
    }

    /// Counts a message that is never held back here.
    pub(crate) fn note_sent(&mut self, message: &Message) {
        let bytes = window_bytes(message);
        self.window.send(bytes);
        self.largest = self.largest.max(bytes);
        if bytes >= self.largest_in_transit() {
            self.in_transit = (bytes, self.window.sent);
        }
    }

    /// The count of one large message in transit, if there is any.
    pub(crate) fn largest_in_transit(&self) -> u64 {
        let (bytes, total) = self.in_transit;
        if total > self.window.acknowledged { bytes } else { 0 }
    }

    fn may_leave(&self, message: &Message) -> bool {
        !waits_for_room(message) || !self.window.is_full() || planted(Fault::ReplyWindowExceeded)
    }

    /// The memory that replies without room in the window take in this process, in bytes.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The memory of all held messages, and the bytes in transit: nobody knows whether they have left this process.
    pub(crate) fn counted_bytes(&self) -> u64 {
        self.held_bytes + self.returned_bytes + self.window.in_transit()
    }

    /// The same without messages that count in the windows of others, whose receipts are kept.
    pub(crate) fn acknowledged_bytes(&self) -> u64 {
        self.counted_bytes().saturating_sub(self.receipt_bytes)
    }

    /// Requests whose end is held back: to the caller, each still uses a credit.
    pub(crate) fn held_ends(&self) -> usize {
        self.held_ends
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.held.is_empty() && kept.returned.is_empty())
    }

    fn next_held(&self) -> Option<&Message> {
        self.kept.as_ref()?.held.front()
    }

    /// Takes something of what is kept, and frees the memory with the last of it.
    fn take_kept<T>(&mut self, take: impl FnOnce(&mut Kept) -> Option<T>) -> Option<T> {
        let kept = self.kept.as_mut()?;
        let taken = take(kept);
        if kept.is_empty() {
            self.kept = None;
        }
        taken
    }

    fn note_kept_sent(&mut self, message: &Message) {
        self.note_sent(message);
        self.held_ends -= usize::from(ends_request(message));
    }
}

/// The memory of a held message: itself, and everything it owns.
fn held_bytes(message: &Message) -> u64 {
    size_of::<Message>() as u64 + window_bytes(message)
}

/// Whether a message must wait for room in the window.
///
/// A partial reply, an introduction and a change of it always must, another message if it is large. There is one small
/// request or end of a request for each credit.
pub(crate) fn waits_for_room(message: &Message) -> bool {
    match message {
        Message::Partial(_) | Message::Ready(_) | Message::Offer(_) => true,
        Message::Error(error) => error.payload.bytes.len() + error.detail.len() > SMALL_PAYLOAD_BYTES,
        Message::Request(request) => is_large(request.payload.bytes.len(), &request.metadata),
        Message::Final(_) => message.payload_bytes() > SMALL_PAYLOAD_BYTES,
        _ => false,
    }
}

/// Whether a request with this payload and metadata must wait for room in the window.
pub(crate) fn is_large(payload_bytes: usize, metadata: &Metadata) -> bool {
    payload_bytes + metadata_bytes(metadata) > SMALL_PAYLOAD_BYTES
}

fn ends_request(message: &Message) -> bool {
    !matches!(message, Message::Partial(_))
}

/// The bytes received from a peer, and those of them that are acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intake {
    received: u64,
    released: u64,
    acknowledged: u64,
}

impl Intake {
    /// Handles a received message. `false` if it exceeds the window that the peer was granted.
    pub(crate) fn receive(&mut self, inbound: &Inbound, window: u64) -> bool {
        let had_room = self.received - self.acknowledged < bounded(window);
        self.note_received(inbound.window_bytes);
        had_room || !waits_for_room(&inbound.message) || planted(Fault::ExcessAccepted)
    }

    /// Counts the bytes of an unreadable message.
    pub(crate) fn note_received(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Notes that bytes need no room any more. `Some` is the acknowledgement to send: after a quarter of the window
    /// since the last one, or less if that makes room in a full window.
    pub(crate) fn release(&mut self, bytes: u64, window: u64) -> Option<u64> {
        self.released = self.released.saturating_add(bytes).min(self.received);
        let (window, released) = (bounded(window), self.released - self.acknowledged);
        let unacknowledged = self.received - self.acknowledged;
        let makes_room = unacknowledged >= window && unacknowledged - released < window;
        let is_due = bytes != 0 && released != 0 && (makes_room || released >= window.div_ceil(4));
        is_due.then(|| self.take_rest()).flatten()
    }

    /// Whether bytes need no room any more, and are not acknowledged.
    pub(crate) fn has_rest(&self) -> bool {
        self.released > self.acknowledged
    }

    /// The acknowledgement of all bytes that need no room any more, if any are left.
    pub(crate) fn take_rest(&mut self) -> Option<u64> {
        self.has_rest().then(|| {
            self.acknowledged = self.released;
            self.released
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

    /// What a reply counts beside its payload.
    const EMPTY: u64 = 64 + 32;

    /// What a large reply counts.
    const COST: u64 = LARGE as u64 + EMPTY;

    #[test]
    fn large_replies_are_held_once_the_window_is_full_and_leave_in_order_when_there_is_room() {
        let mut outflow = Outflow::new(COST + 1);
        assert_eq!((push(&mut outflow, 0, LARGE), push(&mut outflow, 1, LARGE)), (true, true));
        assert_eq!((push(&mut outflow, 2, LARGE), push(&mut outflow, 3, LARGE)), (false, false));
        assert_eq!((next(&mut outflow), held(&outflow)), (None, 2));
        outflow.acknowledge(COST - 1);
        assert_eq!(next(&mut outflow), None);
        outflow.acknowledge(COST);
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(2), None));
        outflow.acknowledge(3 * COST);
        assert_eq!((next(&mut outflow), outflow.is_empty(), outflow.kept_bytes()), (Some(3), true, 0));
        assert!(outflow.kept.is_none());
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
        let mut outflow = Outflow::new(2 * EMPTY);
        let partial =
            |sequence| Message::Partial(PartialReply { call: CallId(1), sequence, payload: Payload::default() });
        assert!(outflow.push(CallId(1), partial(0)).is_some() && outflow.push(CallId(1), partial(1)).is_some());
        assert!(outflow.push(CallId(1), partial(2)).is_none() && outflow.poll().is_none());
        assert_eq!((held(&outflow), outflow.held_ends()), (1, 0));
        outflow.acknowledge(EMPTY);
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
    fn sender_that_has_filled_the_window_is_given_room_as_soon_as_there_is_any() {
        let mut intake = Intake::default();
        intake.note_received(1_000);
        assert_eq!(
            (intake.release(10, 1_000), intake.release(249, 1_000), intake.release(1, 1_000)),
            (Some(10), None, Some(260))
        );
        assert_eq!(intake.release(u64::MAX, 1_000), Some(1_000), "more than has come is all that has come");
    }

    #[test]
    fn peer_stalls_while_it_takes_nothing_of_what_is_on_its_way() {
        let (now, mut outflow) = (start(), Outflow::new(1));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(outflow.stall(now), None);
        assert!(push(&mut outflow, 0, LARGE) && !push(&mut outflow, 1, LARGE));
        assert_eq!(outflow.stall(later(1)), Some((later(1), COST)), "since somebody has asked");
        assert_eq!(outflow.stall(later(2)), Some((later(1), COST)));
        outflow.acknowledge(COST);
        assert_eq!(outflow.stall(later(3)), None);
    }

    #[test]
    fn drip_of_acknowledgements_does_not_end_a_stall() {
        let (now, mut outflow) = (start(), Outflow::new(1));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(push(&mut outflow, 0, LARGE) && !push(&mut outflow, 1, LARGE));
        let since = |outflow: &mut Outflow, at| outflow.stall(at).map(|(since, _)| since);
        assert_eq!(since(&mut outflow, now), Some(now));
        outflow.acknowledge(COST - 1);
        assert_eq!(since(&mut outflow, later(1)), Some(now));
        outflow.acknowledge(COST);
        assert_eq!((next(&mut outflow), since(&mut outflow, later(2))), (Some(1), Some(later(2))));
        outflow.acknowledge(COST);
        assert_eq!(since(&mut outflow, later(3)), Some(later(2)), "one that comes again is no progress");
    }

    #[test]
    fn peer_that_others_wait_for_lags_once_it_has_taken_less_than_the_slowest_link_carries() {
        const MIB: u64 = 1 << 20;
        let (now, mut outflow) = (start(), Outflow::new(64 * MIB));
        let (second, largest) = (Duration::from_secs(1), usize::try_from(MIB).unwrap());
        for call in 0..100 {
            push(&mut outflow, call, largest);
        }
        outflow.note_lag(now);
        assert_eq!(outflow.lags_at(second), None, "nobody waits");
        outflow.defer(Receipt { from: Peer(1), bytes: MIB });
        outflow.note_lag(now);
        let mut lags_after = |mebibytes: u64| {
            outflow.acknowledge(mebibytes * MIB);
            outflow.note_lag(now + second);
            outflow.lags_at(second).map(|at| (at - now).as_secs_f64())
        };
        for taken in 0..50 {
            let lags = lags_after(taken).unwrap();
            assert!((lags - (2 + taken) as f64).abs() < 0.01, "{lags:?} after {taken} MiB");
        }
        // Half of it is taken, and others wait on.
        assert!((lags_after(51).unwrap() - 3.0).abs() < 0.01);
        outflow.forget_receipts(Peer(1));
        outflow.note_lag(now);
        assert!(outflow.lags_at(second).is_some(), "its replies are held all the same");
        outflow.acknowledge(u64::MAX);
        while outflow.poll().is_some() {
            outflow.acknowledge(u64::MAX);
        }
        outflow.note_lag(now);
        assert_eq!(outflow.lags_at(second), None);
    }

    #[test]
    fn receipts_are_kept_for_what_is_held_or_on_its_way_and_owed_for_what_was_taken() {
        let mut outflow = Outflow::new(1);
        assert!(push(&mut outflow, 0, LARGE) && !push(&mut outflow, 1, LARGE) && !push(&mut outflow, 2, LARGE));
        (1..=2).for_each(|peer| outflow.defer(Receipt { from: Peer(peer), bytes: COST }));
        assert_eq!(outflow.poll_receipt(0), None);
        outflow.acknowledge(COST);
        assert_eq!((next(&mut outflow), outflow.poll_receipt(0)), (Some(1), None));
        outflow.acknowledge(2 * COST);
        let taken = 2 * COST - outflow.counted_bytes();
        assert_eq!(outflow.poll_receipt(0), Some(Receipt { from: Peer(1), bytes: taken }));
        assert_eq!(outflow.poll_receipt(0), None);
        assert_eq!(outflow.poll_receipt(u64::MAX), Some(Receipt { from: Peer(1), bytes: COST - taken }));
    }

    #[test]
    fn receipts_are_given_in_order_without_those_of_a_sender_that_has_ended() {
        let mut outflow = Outflow::new(1);
        assert!(push(&mut outflow, 0, 100_000));
        let receipt = |from, bytes| Receipt { from: Peer(from), bytes };
        for _ in 0..2 {
            (1..=3).for_each(|peer| (0..1_000).for_each(|_| outflow.defer(receipt(peer, 10))));
        }
        // One for each run of a sender's.
        assert_eq!(outflow.poll_receipt(10), Some(receipt(1, 10)));
        outflow.forget_receipts(Peer(1));
        outflow.forget_receipts(Peer(3));
        // A number may be used again where this side has dialed.
        (0..2).for_each(|_| outflow.defer(receipt(3, 7)));
        assert_eq!(outflow.poll_receipt(u64::MAX), Some(receipt(2, 10_000)));
        assert_eq!(outflow.take_receipts(), [receipt(2, 10_000), receipt(3, 14)]);
        assert!(!outflow.keeps_receipts());
    }

    #[test]
    fn sender_that_has_filled_the_window_always_gets_an_acknowledgement() {
        for window in [1, 2, 3, 4, 5, 100, 1 << 20] {
            let (mut intake, mut unacknowledged) = (Intake::default(), 0);
            for _ in 0..window.min(1000) {
                unacknowledged += 1;
                intake.note_received(1);
                if intake.release(1, window).is_some() {
                    unacknowledged = 0;
                }
                assert!(unacknowledged < window, "a window of {window} is full, and nobody says that it was taken");
            }
        }
        let largest = WINDOW_BYTES_MAX / 4;
        for window in [0, u64::MAX] {
            let mut intake = Intake::default();
            intake.note_received(largest);
            assert_eq!((intake.release(largest - 1, window), intake.release(1, window)), (None, Some(largest)));
        }
    }

    fn push(outflow: &mut Outflow, call: u64, bytes: usize) -> bool {
        let payload = Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
        let reply = FinalReply { call: CallId(call), partials: 0, payload };
        outflow.push(CallId(call), Message::Final(reply)).is_some()
    }

    fn held(outflow: &Outflow) -> usize {
        outflow.kept.as_ref().map_or(0, |kept| kept.held.len())
    }

    fn next(outflow: &mut Outflow) -> Option<u64> {
        Some(outflow.poll()?.reply()?.0)
    }
}
