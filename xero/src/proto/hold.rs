//! What one side holds of its peers: how much may be, and what is still to be acknowledged (`PROTOCOL.md` §9).

use super::message::Peer;

/// How many bytes one side holds of its peers' requests and replies. What comes beyond is not acknowledged before there is
/// room, so it stays with whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// For each peer: its open requests and the replies that it has not taken. Default 64 MiB, one largest payload.
    pub peer_bytes_max: u64,
    /// For all peers together. Default 256 MiB. From half of it on, nothing more is acknowledged before there is room; when
    /// all of it is held, further requests are refused.
    pub total_bytes_max: u64,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { peer_bytes_max: 64 << 20, total_bytes_max: 256 << 20 }
    }
}

/// Bytes that have come from a peer and are still to be acknowledged: by whoever passes them on, once they have left.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer's window stays full until the bytes are released"]
pub struct Receipt {
    pub(crate) from: Peer,
    pub(crate) bytes: u64,
}

impl Receipt {
    /// Nothing is to be acknowledged.
    pub(crate) const NONE: Self = Self { from: Peer(0), bytes: 0 };

    pub(crate) fn is_none(&self) -> bool {
        self.bytes == 0
    }
}
