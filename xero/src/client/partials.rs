//! Partial replies between the I/O thread and the caller that reads them: bounded by number and by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::proto::message::Payload;

/// The most unread partial replies of a call: enough for a burst, too few for a leak.
const UNREAD_MAX: usize = 1024;

/// The most that are not even handed over: those of a turn, or of the time that another caller's waker takes.
const UNDELIVERED_MAX: usize = 16 * 1024;

/// The most bytes of unread partial replies; a larger one is kept if it is the only one.
const UNREAD_BYTES_MAX: usize = 16 << 20;

/// The two ends of the queue of a call's partial replies.
pub(crate) fn channel() -> (PartialSender, PartialReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let unread = Arc::new(Unread::default());
    (PartialSender { sender, unread: Arc::clone(&unread) }, PartialReceiver { receiver, unread })
}

/// The partial replies that the caller has not read.
#[derive(Debug, Default)]
struct Unread {
    /// Those for which there is room, and which are not handed over yet. The caller cannot read these.
    undelivered: AtomicUsize,
    delivered: AtomicUsize,
    /// Of both.
    bytes: AtomicUsize,
}

/// The driver's end.
#[derive(Clone, Debug)]
pub(crate) struct PartialSender {
    sender: mpsc::UnboundedSender<Payload>,
    unread: Arc<Unread>,
}

impl PartialSender {
    /// Makes room for a partial reply of this size; `false` when too much is unread.
    ///
    /// Apart from [`Self::push`], whose wakers are user code. Only one thread at a time makes room.
    pub(crate) fn reserve(&self, size: usize) -> bool {
        let Unread { undelivered, delivered, bytes } = &*self.unread;
        let waiting = undelivered.load(Ordering::Acquire);
        let (unread, before) = (delivered.load(Ordering::Acquire), bytes.load(Ordering::Acquire));
        let has_room = before == 0 || before + size <= UNREAD_BYTES_MAX;
        // The call of a dropped receiver is cancelled anyway.
        let fits = self.sender.is_closed() || waiting < UNDELIVERED_MAX && unread < UNREAD_MAX && has_room;
        if fits {
            undelivered.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(size, Ordering::Relaxed);
        }
        fits
    }

    /// Hands over a partial reply for which there is room.
    pub(crate) fn push(&self, payload: Payload) {
        self.unread.delivered.fetch_add(1, Ordering::Release);
        self.unread.undelivered.fetch_sub(1, Ordering::Release);
        let _ = self.sender.send(payload);
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct PartialReceiver {
    receiver: mpsc::UnboundedReceiver<Payload>,
    unread: Arc<Unread>,
}

impl PartialReceiver {
    /// The next partial reply; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Option<Payload> {
        let payload = self.receiver.recv().await?;
        self.unread.bytes.fetch_sub(payload.bytes.len(), Ordering::Release);
        self.unread.delivered.fetch_sub(1, Ordering::Release);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RpcError;

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_number() {
        let (sender, mut receiver) = channel();
        assert!((0..UNREAD_MAX).all(|_| deliver(&sender, 1)));
        receiver.next().await;
        assert!(deliver(&sender, 1));
        assert!(!deliver(&sender, 1));
    }

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_bytes_and_one_always_fits() {
        let (sender, mut receiver) = channel();
        assert!(deliver(&sender, UNREAD_BYTES_MAX + 1));
        assert!(receiver.next().await.is_some());
        assert!(deliver(&sender, UNREAD_BYTES_MAX - 1) && deliver(&sender, 1));
        assert!(!deliver(&sender, 1));
    }

    #[tokio::test]
    async fn partial_replies_that_the_caller_cannot_read_yet_do_not_count_as_unread() {
        let (sender, mut receiver) = channel();
        assert!((0..UNDELIVERED_MAX).all(|_| sender.reserve(1)));
        assert!(!sender.reserve(1), "they are bounded too");
        for _ in 0..UNDELIVERED_MAX {
            sender.push(Payload { bytes: vec![0].into(), ..Payload::default() });
        }
        assert!(!sender.reserve(1), "all of them can be read now");
        for _ in UNREAD_MAX..=UNDELIVERED_MAX {
            receiver.next().await;
        }
        assert!(sender.reserve(1));
    }

    #[test]
    fn error_names_both_bounds() {
        let error = RpcError::PartialsUnread { method: String::new(), received: 1_030 }.to_string();
        assert!(error.contains("1030 have arrived, and a caller may leave at most 1,024 of them unread, or 16 MiB "));
        assert_eq!((UNREAD_MAX, UNREAD_BYTES_MAX), (1_024, 16 << 20));
    }

    fn deliver(sender: &PartialSender, bytes: usize) -> bool {
        let has_room = sender.reserve(bytes);
        if has_room {
            sender.push(Payload { bytes: vec![0; bytes].into(), ..Payload::default() });
        }
        has_room
    }
}
