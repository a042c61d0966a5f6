//! A machine's outgoing messages, gathered per peer so that a turn's messages travel together (`PROTOCOL.md` §11).

use std::collections::VecDeque;

use super::{
    fault::{Fault, planted},
    frame::batched_bytes,
    ids::IdMap,
    message::{Message, Peer},
};

/// The largest payload worth copying into a BATCH; larger ones travel alone, uncopied.
pub const BATCHED_PAYLOAD_BYTES_MAX: usize = 4 * 1024;

/// Messages in one BATCH: a peer's limit is at least 1,024, and more than some hundreds gain nothing.
pub const BATCH_MESSAGES_MAX: usize = 256;

/// The largest BATCH body that is made: more than some dozens of kilobytes gain nothing.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Emptied queues to keep: a turn rarely sends to more peers.
const SPARE_QUEUES_MAX: usize = 16;

/// Messages for one peer; several are sent as a BATCH.
#[derive(Clone, Debug, PartialEq)]
pub struct Transmit {
    /// The receiver.
    pub to: Peer,
    /// One message, or several for a peer that reads BATCH.
    pub messages: Vec<Message>,
}

/// The messages of a machine that the shell has not taken, first come, first served.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queues: IdMap<Peer, VecDeque<Message>>,
    order: VecDeque<Peer>,
    /// Emptied queues for the next receivers: one queue for each of thousands of peers would have left the processor's
    /// cache whenever it is needed.
    spare: Vec<VecDeque<Message>>,
    /// The peers that read BATCH, with the largest body for each.
    batching: IdMap<Peer, usize>,
}

impl Outbox {
    pub(crate) fn push(&mut self, to: Peer, message: Message) {
        let spare = &mut self.spare;
        let queue = self.queues.entry(to).or_insert_with(|| spare.pop().unwrap_or_default());
        if queue.is_empty() {
            self.order.push_back(to);
        }
        queue.push_back(message);
    }

    /// Sets the peer's largest payload, which bounds a body, if it reads BATCH; `None` if it does not.
    pub(crate) fn allow_batches(&mut self, peer: Peer, payload_bytes_max: Option<u64>) {
        match payload_bytes_max {
            Some(max) => self.batching.insert(peer, usize::try_from(max).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX)),
            None if planted(Fault::BatchNotRevoked) => None,
            None => self.batching.remove(&peer),
        };
    }

    /// Returns polled messages that were not sent.
    pub(crate) fn put_back(&mut self, peer: Peer, messages: Vec<Message>) {
        messages.into_iter().for_each(|message| self.push(peer, message));
    }

    /// Removes and returns the messages to a peer that is gone; they have not left.
    pub(crate) fn forget(&mut self, peer: Peer) -> VecDeque<Message> {
        self.batching.remove(&peer);
        if planted(Fault::OutboxKept) {
            return VecDeque::new();
        }
        // Its place in the order is passed over.
        self.queues.remove(&peer).unwrap_or_default()
    }

    pub(crate) fn poll(&mut self) -> Option<Transmit> {
        let to = std::iter::from_fn(|| self.order.pop_front()).find(|peer| self.queues.contains_key(peer))?;
        let mut queue = self.queues.remove(&to)?;
        let count = self.batching.get(&to).map_or(1, |room| batch_length(&queue, *room));
        if count == queue.len() {
            return Some(Transmit { to, messages: queue.into() });
        }
        let messages = queue.drain(..count).collect();
        self.queues.insert(to, queue);
        self.order.push_front(to);
        Some(Transmit { to, messages })
    }

    /// Takes back the memory of messages that were sent.
    pub(crate) fn recycle(&mut self, mut messages: Vec<Message>) {
        if self.spare.len() < SPARE_QUEUES_MAX && messages.capacity() <= BATCH_MESSAGES_MAX {
            messages.clear();
            self.spare.push(messages.into());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

/// The messages at the front of the queue that go into one BATCH; 1 for a message that goes alone.
fn batch_length(queue: &VecDeque<Message>, mut room: usize) -> usize {
    let fits = |message: &&Message| {
        let bytes = batched_bytes(message);
        let fits = message.payload_bytes() <= BATCHED_PAYLOAD_BYTES_MAX && bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    // Most queues hold a single message, whose size does not matter.
    match queue.len() {
        0 | 1 => 1,
        _ => queue.iter().take(BATCH_MESSAGES_MAX).take_while(fits).count().max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::{CallId, FinalReply, Payload};

    fn reply(call: u64, payload_bytes: usize) -> Message {
        let payload = Payload { bytes: vec![0; payload_bytes].into(), ..Payload::default() };
        Message::Final(FinalReply { call: CallId(call), partials: 0, payload })
    }

    fn batch_sizes(outbox: &mut Outbox) -> Vec<usize> {
        std::iter::from_fn(|| outbox.poll()).map(|transmit| transmit.messages.len()).collect()
    }

    #[test]
    fn messages_to_a_peer_travel_together_only_if_it_reads_batches() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|call| outbox.push(Peer(1), reply(call, 8)));
        assert_eq!(batch_sizes(&mut outbox), [1, 1, 1]);
        outbox.allow_batches(Peer(1), Some(1 << 20));
        (0..3).for_each(|call| outbox.push(Peer(1), reply(call, 8)));
        assert_eq!(batch_sizes(&mut outbox), [3]);
    }

    #[test]
    fn large_payloads_travel_alone_and_keep_their_place() {
        let mut outbox = Outbox::default();
        outbox.allow_batches(Peer(1), Some(1 << 20));
        for (call, size) in [(0, 8), (1, 8), (2, BATCHED_PAYLOAD_BYTES_MAX + 1), (3, 8)] {
            outbox.push(Peer(1), reply(call, size));
        }
        assert_eq!(batch_sizes(&mut outbox), [2, 1, 1]);
    }

    #[test]
    fn batch_is_no_larger_than_the_payload_that_the_peer_takes() {
        let mut outbox = Outbox::default();
        outbox.allow_batches(Peer(1), Some(3_000));
        (0..10).for_each(|call| outbox.push(Peer(1), reply(call, 900)));
        assert_eq!(batch_sizes(&mut outbox), [3, 3, 3, 1]);
    }

    #[test]
    fn forgotten_peer_is_sent_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(Peer(1), Message::Heartbeat);
        outbox.push(Peer(2), Message::Heartbeat);
        outbox.forget(Peer(1));
        assert_eq!(outbox.poll().map(|transmit| transmit.to), Some(Peer(2)));
        assert_eq!(outbox.poll(), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn peer_that_is_forgotten_and_returns_keeps_its_messages_in_order() {
        let mut outbox = Outbox::default();
        (0..2).for_each(|call| outbox.push(Peer(1), reply(call, 8)));
        assert_eq!(outbox.forget(Peer(1)).len(), 2);
        assert!(outbox.is_empty() && outbox.poll().is_none());
        (2..4).for_each(|call| outbox.push(Peer(1), reply(call, 8)));
        outbox.push(Peer(2), reply(4, 8));
        let sent: Vec<_> = std::iter::from_fn(|| outbox.poll()).map(|transmit| transmit.messages[0].reply()).collect();
        assert_eq!(sent, [2, 3, 4].map(|call| Some(CallId(call))));
    }
}
