//! Partial replies between the I/O thread and the caller that reads them: bounded by number and by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::proto::message::Payload;

/// Unread partial replies that are kept for a caller: enough for a burst, and little enough to be no leak.
const UNREAD_MAX: usize = 1024;

/// Their bytes; one that is larger is kept while there is no other.
const UNREAD_BYTES_MAX: usize = 16 << 20;

/// Where the partial replies of a call are put, and where they are read.
pub(crate) fn channel() -> (PartialSender, PartialReceiver) {
    let (sender, receiver) = mpsc::channel(UNREAD_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (PartialSender { sender, bytes: Arc::clone(&bytes) }, PartialReceiver { receiver, bytes })
}

/// The I/O thread's end.
#[derive(Debug)]
pub(crate) struct PartialSender {
    sender: mpsc::Sender<Payload>,
    bytes: Arc<AtomicUsize>,
}

impl PartialSender {
    /// Keeps a partial reply for the caller; `false` when too much is unread.
    pub(crate) fn push(&self, payload: Payload) -> bool {
        let size = payload.bytes.len();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before == 0 || before + size <= UNREAD_BYTES_MAX;
        // A caller that has gone is told of nothing; its call is cancelled.
        fits && !matches!(self.sender.try_send(payload), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct PartialReceiver {
    receiver: mpsc::Receiver<Payload>,
    bytes: Arc<AtomicUsize>,
}

impl PartialReceiver {
    /// The next partial reply; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Option<Payload> {
        let payload = self.receiver.recv().await?;
        self.bytes.fetch_sub(payload.bytes.len(), Ordering::Relaxed);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_number() {
        let (sender, mut receiver) = channel();
        assert!((0..UNREAD_MAX).all(|_| sender.push(payload(1))));
        receiver.next().await;
        assert!(sender.push(payload(1)));
        assert!(!sender.push(payload(1)));
    }

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_bytes_and_one_always_fits() {
        let (sender, mut receiver) = channel();
        assert!(sender.push(payload(UNREAD_BYTES_MAX + 1)));
        assert!(receiver.next().await.is_some());
        assert!(sender.push(payload(UNREAD_BYTES_MAX - 1)) && sender.push(payload(1)));
        assert!(!sender.push(payload(1)));
    }

    fn payload(bytes: usize) -> Payload {
        Payload { bytes: vec![0; bytes].into(), ..Payload::default() }
    }
}
