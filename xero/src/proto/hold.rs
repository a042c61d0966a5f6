//! How much one side may hold of its peers, and what it still has to acknowledge (`PROTOCOL.md` §9).

use super::message::Peer;

/// Bytes that one side may hold of its peers' requests and replies.
///
/// Further messages are acknowledged only once there is room, so they stay with their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// For each peer: its open requests, and the replies that it has not acknowledged. Default 64 MiB, one largest
    /// payload.
    pub peer_bytes_max: u64,
    /// For all peers together. Default 256 MiB.
    ///
    /// A peer's messages are acknowledged while it holds less than what is left of this for all. Its requests are
    /// refused once they would be more than four times what the requests of all leave, and more than a 4,096th of this.
    /// So the others never lock a peer out, and one peer's requests alone may take four fifths. Apart from
    /// this, each peer may send or owe its windows and one payload without an acknowledgement.
    pub total_bytes_max: u64,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { peer_bytes_max: 64 << 20, total_bytes_max: 256 << 20 }
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
