//! Messages to peers: what leaves now, what waits for room in a window, and when what has arrived is acknowledged.

use std::time::Instant;

use super::{LinkEvent, Links};
use crate::proto::{
    fault::{Fault, planted},
    frame::window_bytes,
    hold::Receipt,
    link::{ACK_DELAY, Link},
    liveness::{LARGE_PAYLOAD_BYTES, patience},
    message::{ErrorCode, Message, Peer, Role, ServiceOffer},
    timer::Timer,
    window::Outflow,
};

impl Links {
    /// Sends a message to an introduced peer, or keeps it until its window has room.
    pub(crate) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        let mut message = Some(message);
        let leaving = self.links.account(to, |link| link.push(message.take()?)).flatten();
        match leaving {
            Some(message) => self.transmit(now, to, message),
            None => message.into_iter().for_each(|message| self.note_unsent(to, message)),
        }
        self.watch(now, to);
    }

    /// Sends an error that only makes sense with the current offer: after that, if the peer has yet to be sent it.
    pub(crate) fn send_returned(&mut self, now: Instant, to: Peer, message: Message) {
        // An error behind partial replies of its call waits with them, and then for the offer.
        let is_behind = message.reply().is_some_and(|call| self.outflow(to).is_some_and(|outflow| outflow.holds(call)));
        match self.lacks_offer(to) && !is_behind && !planted(Fault::ReturnedTooSoon) {
            true => drop(self.links.account(to, |link| link.hold_returned(message))),
            false => self.send(now, to, message),
        }
    }

    /// Keeps errors that only make sense with the current offer until [`Self::meet_expectations`].
    pub(crate) fn expect_offer(&mut self, peer: Peer) {
        if self.links.is_up(peer) {
            self.announcements.expect(peer);
        }
    }

    /// Sends the errors that have waited for the current offer; those to peers that need it follow it.
    pub(crate) fn meet_expectations(&mut self, now: Instant) {
        for peer in self.announcements.take_expecting() {
            if !self.lacks_offer(peer) {
                while let Some(returned) = self.links.account(peer, Link::poll_returned).flatten() {
                    self.transmit(now, peer, returned);
                }
            }
            self.send_kept(now, peer);
        }
    }

    /// Whether a peer has yet to be sent the current offer.
    fn lacks_offer(&self, peer: Peer) -> bool {
        let is_overdue = self.links.get(peer).is_some_and(Link::is_announcement_overdue);
        is_overdue || self.announcements.has(peer) || self.announcements.is_expecting(peer)
    }

    /// Notes a message to a peer that has ended together with others, which the machine has handled first: the request
    /// of a lost worker may go to another lost one.
    fn note_unsent(&mut self, to: Peer, message: Message) {
        let end = self.events.iter_mut().find_map(|event| match event {
            LinkEvent::Ended(peer, end) if *peer == to => Some(end),
            _ => None,
        });
        if let Some(end) = end {
            end.unsent.push_back(message);
        }
    }

    /// Sends a reply from another peer, as [`Self::send`] does.
    ///
    /// Returns its receipt if it may be acknowledged now; otherwise [`LinkEvent::Released`] returns it later.
    pub(crate) fn pass_on(&mut self, now: Instant, to: Peer, message: Message, receipt: Receipt) -> Receipt {
        let counted = |links: &Self| links.outflow(to).map_or(0, Outflow::counted_bytes);
        let before = counted(self);
        self.send(now, to, message);
        let own_bytes = counted(self).saturating_sub(before);
        // Others wait for no peer that hoards: its further replies are small, or become errors.
        let is_released = self.may_hold(to) || self.is_hoarding(now, to) || planted(Fault::HeldFinalsAcknowledged);
        if receipt.is_none() || is_released {
            return receipt;
        }
        // A reply that was too large is held as a small error: the rest of its receipt is owed at once, and not before
        // the receipts of earlier replies that are still held.
        let Receipt { from, bytes } = receipt;
        let deferred = bytes.min(own_bytes);
        if deferred == 0 {
            return Receipt { from, bytes };
        }
        let kept = Receipt { from, bytes: deferred };
        self.owed.add(to, &kept);
        self.links.account(to, |link| link.defer(kept));
        // Others wait for this peer from now on, whatever its own interval is.
        self.watch(now, to);
        Receipt { from, bytes: bytes - deferred }
    }

    /// Sends a peer what has changed in the introduction since it had it, once. Returns whether anything has.
    pub(crate) fn announce_to(&mut self, now: Instant, peer: Peer) -> bool {
        let revision = self.introduction.revision();
        let is_behind = self.links.get(peer).is_some_and(|link| link.is_up() && !link.knows(revision));
        if is_behind {
            self.announcements.add(now, peer, false);
        }
        is_behind
    }

    /// Does so for all peers, for a few of them in each turn if it is long. Returns their number.
    pub(crate) fn announce_to_all(&mut self, now: Instant) -> usize {
        self.peers().into_iter().filter(|peer| self.announce_to(now, *peer)).count()
    }

    /// Sends kept messages that the peer's window has room for, a bounded number of them. The others follow with the next
    /// due timeout. Returns how many it has sent.
    pub(super) fn send_kept(&mut self, now: Instant, to: Peer) -> usize {
        let mut sent = 0;
        if self.links.get(to).is_some_and(Link::is_announcement_next) {
            self.announce_overdue(now, to);
        }
        while let Some(next) = self.links.get(to).and_then(Link::next_leaving) {
            if sent == KEPT_BOUND {
                self.timers.hasten(Timer::Lease(to), now);
                break;
            }
            if needs_offer(next) && self.lacks_offer(to) && !planted(Fault::ReturnedTooSoon) {
                self.announce_overdue(now, to);
                if self.lacks_offer(to) {
                    break;
                }
            }
            let Some(message) = self.links.account(to, Link::poll).flatten() else { break };
            self.transmit(now, to, message);
            sent += 1;
        }
        if self.links.get(to).is_some_and(Link::is_announcement_overdue) {
            self.announce_overdue(now, to);
        }
        self.release_receipts(to);
        sent
    }

    fn announce_overdue(&mut self, now: Instant, to: Peer) {
        self.announce_to(now, to);
        self.announce(to);
    }

    /// Acknowledges messages that the limits have room for, or that the peer has taken.
    pub(super) fn release_receipts(&mut self, peer: Peer) {
        loop {
            let room = self.links.room_for(peer);
            let receipt = self.links.account(peer, |link| link.poll_receipt(room)).flatten();
            let Some(receipt) = receipt else { break };
            self.note_released(peer, [receipt]);
        }
    }

    /// Acknowledges all messages that wait for the peer to take them.
    pub(super) fn release_all_receipts(&mut self, peer: Peer) {
        let receipts = self.links.account(peer, Link::take_receipts).unwrap_or_default();
        self.note_released(peer, receipts);
    }

    /// Notes that receipts are no longer kept for a peer.
    pub(super) fn note_released(&mut self, peer: Peer, receipts: impl IntoIterator<Item = Receipt>) {
        for receipt in receipts {
            self.owed.subtract(peer, &receipt);
            self.events.push_back(LinkEvent::Released(receipt));
        }
    }

    /// Forgets the receipts of a peer that is gone: what it has sent counts in its window no more, but here.
    pub(crate) fn forget_receipts(&mut self, now: Instant, from: Peer) {
        for peer in self.owed.forget(from) {
            self.links.account(peer, |link| link.forget_receipts(from));
            self.watch(now, peer);
        }
    }

    pub(super) fn transmit(&mut self, now: Instant, to: Peer, message: Message) {
        let Some(link) = self.links.get_mut(to) else { return };
        link.sent(now);
        // Nothing leaves before the first READY. A later one may follow, and takes its place in the window then.
        if link.is_unannounced() {
            self.announce(to);
        }
        let bytes = message.payload_bytes();
        if let Message::Partial(reply) = &message {
            self.events.push_back(LinkEvent::PartialLeft(to, reply.call, bytes));
        }
        if bytes >= LARGE_PAYLOAD_BYTES {
            self.outbox.push(to, Message::Patience(patience(bytes)));
        }
        self.outbox.push(to, message);
    }

    /// Sends READY or OFFER to a peer that needs it, before all that is sent to it from now on, if its window has room.
    pub(crate) fn announce(&mut self, peer: Peer) {
        if !self.announcements.remove(peer) {
            return;
        }
        let introduction = &self.introduction;
        let message = self.links.account(peer, |link| link.announce(introduction)).flatten();
        if let Some(message) = message {
            self.announcements.note_sent(usize::try_from(window_bytes(&message)).unwrap_or(usize::MAX));
            self.outbox.push(peer, message);
            while !self.announcements.is_expecting(peer)
                && let Some(returned) = self.links.account(peer, Link::poll_returned).flatten()
            {
                self.outbox.push(peer, returned);
            }
        }
    }

    /// Notes that bytes from a peer need no room here any more, so that it may send as many again.
    pub(crate) fn release(&mut self, now: Instant, receipt: Receipt) {
        if receipt.is_none() {
            return;
        }
        let Receipt { from, bytes } = receipt;
        let window = self.introduction.ready().window_bytes;
        let Some(link) = self.links.get_mut(from) else { return };
        let had_owed = link.owes_ack();
        let due = link.release(bytes, window);
        let is_first_owed = link.owes_ack() && !had_owed;
        if let Some(bytes) = due.filter(|_| !self.is_ack_dropped()) {
            self.transmit(now, from, Message::Ack(bytes));
        } else if is_first_owed {
            self.beats.hasten(Timer::Heartbeat(from), now + ACK_DELAY);
        }
    }

    pub(super) fn is_ack_dropped(&self) -> bool {
        planted(Fault::AckNotSent) && self.introduction.ready().role == Role::Dispatcher
    }

    /// Sets the services in future introductions, sorted by name; `false` if they have not changed.
    pub(crate) fn set_services(&mut self, services: Vec<ServiceOffer>) -> bool {
        self.introduction.set_services(services)
    }
}

/// The kept messages that leave at once: they take some milliseconds. A peer that raises its window may free hundreds of
/// thousands.
const KEPT_BOUND: usize = 4_096;

/// Whether an error ends its call because a service or method is not offered: the peer must know the current offer first.
fn needs_offer(message: &Message) -> bool {
    matches!(message, Message::Error(error) if matches!(error.code, ErrorCode::NoWorker | ErrorCode::UnknownMethod))
}
