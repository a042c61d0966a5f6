//! How much one side may hold of its peers, and what it still has to acknowledge (`PROTOCOL.md` §9).

use std::collections::{BTreeMap, VecDeque};

use super::message::Peer;

/// Bytes that one side may hold of its peers' requests and replies.
///
/// Further messages are acknowledged only once there is room, so they stay with their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// For each peer: its open requests, and the replies that it has not acknowledged. Default 64 MiB, one largest
    /// payload.
    ///
    /// A broker starts no new call of a client while a quarter of this is held back for it. A client that workers wait for
    /// must read 1 MiB a second: otherwise, after an expiry, large replies to it become errors.
    pub peer_bytes_max: u64,
    /// For all peers together. Default 768 MiB.
    ///
    /// A peer's messages are acknowledged while it holds less than what all leave of a third of this. Its requests are
    /// refused once they would be more than four times what the requests of all leave of that third, and more than a
    /// 4,096th of it; or if the requests of all would be more than half of this. So the others never lock a peer out.
    /// One request alone may take four fifteenths of this: a larger one never finds room.
    ///
    /// Large replies of procedures become errors beyond three quarters of it. Beyond the whole, the peers that take
    /// nothing and hold the most are disconnected. Replies that still wait for their acknowledgement come on top: they
    /// are within the windows that a broker grants its workers.
    pub total_bytes_max: u64,
}

impl HoldLimits {
    /// What all peers together may hold before senders wait.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.total_bytes_max / 3
    }

    /// The most that is held with a large reply of this side's own: what is left is for small ones.
    pub(crate) fn replies_bytes_max(&self) -> u64 {
        self.total_bytes_max - self.total_bytes_max / 4
    }

    /// The most that the requests of all peers may take.
    pub(crate) fn requests_bytes_max(&self) -> u64 {
        self.total_bytes_max / 2
    }

    /// The most that one request may take: it is then four times what it leaves of the shared third.
    pub(crate) fn request_bytes_max(&self) -> u64 {
        let shared = self.shared_bytes();
        shared - shared.div_ceil(5)
    }

    /// The least `total_bytes_max` with which one request may take that many bytes.
    pub(crate) fn total_for(request_bytes: u64) -> u64 {
        request_bytes.saturating_mul(5).div_ceil(4).saturating_mul(3)
    }
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { peer_bytes_max: 64 << 20, total_bytes_max: 768 << 20 }
    }
}

/// Received bytes to acknowledge; an intermediary does so once they have left.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer's window stays full until the bytes are released"]
pub struct Receipt {
    pub(crate) from: Peer,
    pub(crate) bytes: u64,
}

impl Receipt {
    /// Nothing to acknowledge.
    pub(crate) const NONE: Self = Self { from: Peer(0), bytes: 0 };

    pub(crate) fn is_none(&self) -> bool {
        self.bytes == 0
    }
}

/// Receipts that are kept, the oldest first. The end of a sender costs the same however many are kept.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    /// Neighbours of one sender are one.
    queue: VecDeque<Receipt>,
    /// The sum of each sender's, and their number.
    senders: BTreeMap<Peer, (u64, usize)>,
    /// How many of the oldest receipts of a sender are void: it has ended.
    void: BTreeMap<Peer, usize>,
}

impl Receipts {
    pub(crate) fn add(&mut self, receipt: Receipt) {
        let (bytes, number) = self.senders.entry(receipt.from).or_default();
        *bytes += receipt.bytes;
        match self.queue.back_mut() {
            Some(last) if last.from == receipt.from && *number > 0 => last.bytes += receipt.bytes,
            _ => {
                *number += 1;
                self.queue.push_back(receipt);
            }
        }
    }

    /// Takes as many bytes of the oldest receipt.
    pub(crate) fn take_part(&mut self, max: u64) -> Option<Receipt> {
        self.skip_void();
        let first = self.queue.front_mut().filter(|_| max > 0)?;
        let part = Receipt { from: first.from, bytes: first.bytes.min(max) };
        first.bytes -= part.bytes;
        let is_whole = first.bytes == 0;
        if is_whole {
            self.queue.pop_front();
        }
        if let Some((bytes, number)) = self.senders.get_mut(&part.from) {
            *bytes -= part.bytes;
            *number -= usize::from(is_whole);
            if *number == 0 {
                self.senders.remove(&part.from);
            }
        }
        Some(part)
    }

    /// Takes all receipts of one sender, as their bytes.
    pub(crate) fn take_of(&mut self, from: Peer) -> u64 {
        let Some((bytes, number)) = self.senders.remove(&from) else { return 0 };
        *self.void.entry(from).or_default() += number;
        bytes
    }

    pub(crate) fn take_all(&mut self) -> Vec<Receipt> {
        let mut all = Vec::new();
        while let Some(receipt) = self.take_part(u64::MAX) {
            all.push(receipt);
        }
        *self = Self::default();
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    fn skip_void(&mut self) {
        while let Some(first) = self.queue.front()
            && let Some(number) = self.void.get_mut(&first.from)
        {
            *number -= 1;
            if *number == 0 {
                self.void.remove(&first.from);
            }
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_total_for_a_request_is_the_first_one_with_room_for_it() {
        let with = |total_bytes_max| HoldLimits { total_bytes_max, ..HoldLimits::default() };
        for bytes in (1..2_000).chain([1 << 20, (64 << 20) + 1]) {
            let total = HoldLimits::total_for(bytes);
            assert!(with(total).request_bytes_max() >= bytes, "{bytes} bytes");
            assert!(with(total - 1).request_bytes_max() < bytes, "{bytes} bytes");
        }
        assert_eq!(with(3 << 20).request_bytes_max(), 838_860);
        assert!(with(u64::MAX).request_bytes_max() > u64::MAX / 4);
        assert_eq!(HoldLimits::total_for(u64::MAX), u64::MAX / 4 * 3 + 3);
    }
}
